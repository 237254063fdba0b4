"""Holds and the memory of bad releases: pure decisions over facts from the journal."""
