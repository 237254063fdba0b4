"""Slots: immutable directories, one a release, and the link ``current`` that chooses one.

``link`` answers what the site runs from and is light; ``store`` builds, verifies and removes slots
against their ``records``. This room may touch the directory of the slots and the link, and nothing
else: no network, no databases, no application.
"""
