"""Checks of a release directory before anybody signs it."""
