"""Trials of the dossier."""
