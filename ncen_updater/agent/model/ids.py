"""Ids of changes."""

from __future__ import annotations

import secrets

ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_change_id() -> str:
    """Return a fresh id: eight characters of the base32 alphabet, safe in a database's name."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(8))
