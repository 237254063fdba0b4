"""The head of the chain of events: a number and a hash, which a person can keep elsewhere.

Anyone who can write the journal can compute the whole chain again, so that it is consistent. They
cannot give an earlier event a hash that somebody wrote down: so every notification, metric, log
record and dossier carries the chain head, and ``verify --head`` checks that it is in the chain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_PATTERN = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{16,64})")


@dataclass(frozen=True)
class ChainHead:
    """An event of the chain, by its number and its hash.

    Attributes:
        number: The event; 0 where there is none.
        hash: Its hash in hexadecimal, or the first 16 digits of it or more.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        """As it is told and asked about."""
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> ChainHead:
        """Read what a person kept.

        Raises:
            ValueError: If it is none.
        """
        found = HEAD_PATTERN.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(f"no NUMBER:HASH: {text!r:.100}")
        return cls(int(found[1]), found[2])

    def matches(self, other: str) -> bool:
        """Whether an event with this hash is meant."""
        return other.startswith(self.hash)
