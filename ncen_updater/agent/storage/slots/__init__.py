"""Slots: immutable directories, one for each release, and the link ``current`` that selects one.

``link`` reads and switches the link and is light; ``store`` builds, verifies and removes slots with
the help of their ``records``. This package accesses only the directory of the slots and the link:
no network, no databases, no application.
"""
