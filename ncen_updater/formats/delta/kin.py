"""Which files that stay hold what new ones took over: code that was copied, and then changed.

The match finder sees the old files that are gone or changed. What a new file has of others would
have to come in full, so those are looked for by samples of their content, and referred to as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from zlib import crc32

__all__ = ["find_kin", "samples"]

# Some bytes after one of a few that are frequent in text or in programs: wherever two files are the
# same for a while, the same places are found in both.
SAMPLE = re.compile(rb"[,;aeo\x01\x08\x24\x40\x83\x8b\xc0\xe8].{23}", re.DOTALL)
ONE_IN = 4  # one sample in so many is looked at, the same ones in every file
LEAST = 4  # so many must be found again

Pieces = Callable[[], Iterable[bytes]]


def samples(pieces: Iterable[bytes]) -> set[int]:
    """Return numbers that stand for what is in a file."""
    found: set[int] = set()
    for piece in pieces:
        found.update(map(crc32, SAMPLE.findall(piece)))
    return {number for number in found if number % ONE_IN == 0}


def find_kin(
    built: Mapping[str, Pieces], known: Iterable[Pieces], stays: Mapping[int, Pieces]
) -> dict[str, set[int]]:
    """Say which files that stay have what new ones have.

    Args:
        built: Content of the new files, by path.
        known: Content of the old ones that they are compared with in any case.
        stays: Content of the others, by index.
    """
    owner: dict[int, str] = {}
    for path, pieces in built.items():
        for number in samples(pieces()):
            owner.setdefault(number, path)
    for pieces in known:
        for number in samples(pieces()):
            owner.pop(number, None)
    kin: dict[str, set[int]] = defaultdict(set)
    for index, pieces in stays.items():
        if len(owner) < LEAST:
            break
        hits: dict[str, list[int]] = defaultdict(list)
        for number in samples(pieces()):
            if number in owner:
                hits[owner[number]].append(number)
        for path, numbers in hits.items():
            if len(numbers) >= LEAST:
                kin[path].add(index)
                for number in numbers:  # what another file has of it is not needed then
                    del owner[number]
    return dict(kin)
