"""Who acts, as the operating system knows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """Who acts, as the operating system knows them."""

    name: str
    uid: int
