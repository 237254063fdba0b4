"""Signing events: drafts, their base, review, keys and signatures."""
