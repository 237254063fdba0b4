"""Upgrades of an application run by other people: one whole version after any failure."""
