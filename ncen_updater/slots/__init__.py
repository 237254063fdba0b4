"""Slots: immutable directories, one a release, and the link ``current`` that chooses one."""
