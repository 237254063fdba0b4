"""Which other files hold what new ones have: code that was copied, and then changed.

The match finder sees the old files that are gone or changed. What a new file has of others would
have to come in full, so those that stay are looked for by samples of their content, and so are new
files that stand too far before it for a dictionary. They are referred to as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

# Some bytes after one of a few that are frequent in text or in programs: wherever two files are the
# same for a while, the same places are found in both.
SAMPLE = re.compile(rb"[,;aeo\x01\x08\x24\x40\x83\x8b\xc0\xe8].{23}", re.DOTALL)
ONE_IN = 4  # one sample in so many is looked at, the same ones in every file
LEAST = 4  # so many must be found again
LEAST_AGAIN = 512  # or in a new file, as that takes another group: of some 80 kB

Pieces = Callable[[], Iterable[bytes]]


def samples(pieces: Iterable[bytes]) -> set[int]:
    """Return numbers that stand for what is in a file."""
    found: set[int] = set()
    for piece in pieces:
        found.update(map(crc32, SAMPLE.findall(piece)))
    return {number for number in found if number % ONE_IN == 0}


@dataclass
class Kin:
    """What new files have something of, by their paths.

    Attributes:
        stays: Old files that stay or only moved, by index.
        earlier: New files that stand before them, by path.
    """

    stays: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    earlier: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def find_kin(
    built: Mapping[str, Pieces], known: Iterable[Pieces], stays: Mapping[int, Pieces]
) -> Kin:
    """Say which files that stay, and which others that are new, have what new ones have.

    Args:
        built: Content of the new files, by path, in the order in which they are built.
        known: Content of the old ones that they are compared with in any case.
        stays: Content of the others, by index.
    """
    kin = Kin()
    owner: dict[int, str] = {}
    again: dict[str, list[int]] = {}
    for path, pieces in built.items():
        found = samples(pieces())
        again[path] = [number for number in found if number in owner]
        owner |= dict.fromkeys(found.difference(owner), path)
    for pieces in known:
        for number in samples(pieces()):
            owner.pop(number, None)
    for index, pieces in stays.items():
        if len(owner) < LEAST:
            break
        for path, numbers in _owned(owner, samples(pieces())).items():
            if len(numbers) >= LEAST:
                kin.stays[path].add(index)
                for number in numbers:  # what another file has of it is not needed then
                    del owner[number]
    for path, repeated in again.items():
        for first, numbers in _owned(owner, repeated).items():
            if len(numbers) >= LEAST_AGAIN:
                kin.earlier[path].add(first)
    return kin


def _owned(owner: Mapping[int, str], numbers: Iterable[int]) -> dict[str, list[int]]:
    """Which of some numbers belong to which new file."""
    found: dict[str, list[int]] = defaultdict(list)
    for number in numbers:
        if number in owner:
            found[owner[number]].append(number)
    return found
