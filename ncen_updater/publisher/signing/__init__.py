"""Signing events: drafts, what they stand on, what officers read and sign, with which keys."""
