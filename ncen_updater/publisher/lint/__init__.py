"""Checks of a release directory before anyone signs it."""
