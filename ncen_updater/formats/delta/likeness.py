"""Which old file a new one is like, by the words in it: for names that say nothing.

What a bundler leaves of a file is full of words that stand in few others: names of properties,
paths, texts for people. Each such word speaks for the old files that it stands in.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from zlib import crc32

WORD = re.compile(rb"[0-9A-Za-z_$-]{8,64}")
ONE_IN = 8  # one word in so many is looked at, the same ones in every file
RARE = 4  # a word that stands in more old files says nothing
LEAST = 3  # so many words must speak for a file


class Likeness:
    """Old files by their words."""

    def __init__(self) -> None:
        self._where: dict[int, list[int]] = defaultdict(list)

    def add(self, index: int, pieces: Iterable[bytes]) -> None:
        """Take in an old file; in ascending order, so that the same files give the same answers."""
        for word in _words(pieces):
            self._where[word].append(index)

    def best(self, pieces: Iterable[bytes]) -> int | None:
        """Return the index of the old file that a new one is most like; None if it is like none."""
        votes: Counter[int] = Counter()
        for word in _words(pieces):
            where = self._where.get(word, ())
            if len(where) <= RARE:
                votes.update(where)
        if not votes:
            return None
        index, count = min(votes.items(), key=lambda vote: (-vote[1], vote[0]))
        return index if count >= LEAST else None


def _words(pieces: Iterable[bytes]) -> set[int]:
    found: set[int] = set()
    for piece in pieces:
        found.update(map(crc32, set(WORD.findall(piece))))
    return {number for number in found if number % ONE_IN == 0}
