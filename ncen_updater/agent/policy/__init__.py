"""Policies of the agent (holds, bad releases, retention, timing): pure decisions.

Facts come in as values, decisions go out as values; nothing here reads a clock, a disk or the
journal.
"""
