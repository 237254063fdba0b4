"""Signing events: drafts, what they stand on, what signers read and sign, with which keys."""
