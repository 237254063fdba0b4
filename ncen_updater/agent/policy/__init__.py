"""Holds, the memory of bad releases, and what may be thrown away: pure decisions.

Facts come in as values, decisions go out as values; nothing here reads a clock, a disk or the
journal.
"""
