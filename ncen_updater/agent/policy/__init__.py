"""Pure decisions of the agent: automation, windows, retention, predictions.

Facts come in as values, and decisions go out as values. Nothing here reads a clock, a disk or the
journal.
"""
