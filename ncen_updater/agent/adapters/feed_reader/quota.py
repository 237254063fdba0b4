"""What the process that reads the feed may leave on the disk, judged from outside.

Its own limits are its own: who took it over does not keep them. Databases may share its file
system, and stop where that is full. So whoever asks it looks meanwhile at the directory, counts
blocks and names, and ends it (:class:`DiskWatch`). The rules are :func:`judge`, which is pure:

* one order brings what was signed of one release, or what a medium holds, and a margin;
* all of the directory holds no more than the proved lists announce, and a margin; beyond that new
  lists come, and nothing else;
* what came since the order was given never takes the last room of the file system, and once the
  directory is fuller than that, nothing does: else a little each time would.

A process that leaves its group, or that systemd started, goes on until its unit ends it. What stops
that one is the file system of its own that docs/installation.md describes: the kernel keeps it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.formats.document import Offer
from ncen_updater.formats.tuf_names import MAX_DOCUMENT_BYTES

#: Lists, notes, partial files, roots of many years: what no list announces.
MARGIN = 128 << 20
MARGIN_NAMES = 2_000
#: Document, tree, archive, packs, with a partial file and a note beside each.
NAMES_PER_RELEASE = 100
#: The last room of a file system, never taken by what comes from a network.
LAST_BYTES = 256 << 20
LAST_NAMES = 2_000
#: Lists come anew also where downloads of a release that no list names any more lie there.
SLACK, SLACK_NAMES = 8 << 20, 200
#: Deeper than anything of ours lies; deeper names are not looked at, they are too many.
DEEPEST = 12
BLOCK = 512
#: A look costs no more than this share of the time.
SHARE = 20
BETWEEN_S = 1.0


@dataclass(frozen=True)
class DiskUse:
    """What a directory holds.

    Attributes:
        size: Bytes of the blocks that are taken.
        names: Files, directories and links.
    """

    size: int = 0
    names: int = 0


@dataclass(frozen=True)
class MayBring:
    """What may come, without the margin."""

    size: int = 0
    names: int = 0

    def __add__(self, other: MayBring) -> MayBring:
        """Both together."""
        return MayBring(self.size + other.size, self.names + other.names)

    def exceeded_by(self, use: DiskUse) -> bool:
        """Whether more is there, the margin counted."""
        return use.size > self.size + MARGIN or use.names > self.names + MARGIN_NAMES


@dataclass(frozen=True)
class FreeRoom:
    """What is free on the file system; names are 0 where it does not count them.

    Attributes:
        size: Bytes for who asks.
        names: Inodes.
        all_names: Inodes that it has.
    """

    size: int
    names: int = 0
    all_names: int = 0


class DiskVerdict(StrEnum):
    """What becomes of the process."""

    FINE = "fine"
    GREW = "grew"
    UNANNOUNCED = "unannounced"
    NO_ROOM = "no-room"


def judge(
    before: DiskUse,
    now: DiskUse,
    order: MayBring,
    announced: MayBring | None,
    room_before: FreeRoom,
    room: FreeRoom,
) -> DiskVerdict:
    """Say whether a reader may go on. Pure.

    Args:
        before: What the directory held when the order was given.
        now: What it holds.
        order: What this order may bring.
        announced: What the proved lists announce in all; None where none can be proved.
        room_before: What was free when the order was given.
        room: What is free.
    """
    if order.exceeded_by(DiskUse(now.size - before.size, now.names - before.names)):
        return DiskVerdict.GREW
    grown = now.size > before.size + SLACK or now.names > before.names + SLACK_NAMES
    if announced is not None and grown and announced.exceeded_by(now):
        return DiskVerdict.UNANNOUNCED
    full = (announced or MayBring()).exceeded_by(now)
    # What is deleted and held open takes room, too, and is nowhere to be seen.
    taken = room_before.size - room.size > MARGIN or (full and now.size > before.size)
    if room.size < LAST_BYTES and taken:
        return DiskVerdict.NO_ROOM
    taken = room_before.names - room.names > LAST_NAMES or (full and now.names > before.names)
    if room.all_names and room.names < LAST_NAMES and taken:
        return DiskVerdict.NO_ROOM
    return DiskVerdict.FINE


def of_release(offer: Offer) -> MayBring:
    """What one release may weigh, by what was signed of it.

    Archive and largest pack; the tree is a part of what the archive brings, and packs that failed
    may lie beside it.
    """
    packs = sum(offer.deltas.values())
    return MayBring(2 * offer.archive.length + packs + MAX_DOCUMENT_BYTES, NAMES_PER_RELEASE)


def announced_by(offers: Iterable[Offer]) -> MayBring:
    """What all releases of the lists may weigh."""
    return sum((of_release(offer) for offer in offers), MayBring())


def of_bundle(descriptor: int) -> MayBring:
    """What a bundle may bring: as much as it holds, and what is packed in it once more."""
    return MayBring(2 * os.fstat(descriptor).st_size, 1000)


def use_of(places: Sequence[Path], most: MayBring) -> DiskUse:
    """Count what lies in directories that somebody else may change meanwhile; follow no link.

    Args:
        places: The directories; one that is missing holds nothing.
        most: Where to stop: what is beyond is too much, however much it is.
    """
    size = names = 0
    for place in places:
        try:
            handle = DirectoryHandle(place)
        except FileNotFoundError:
            continue
        try:
            ahead = [""]
            while ahead:
                directory = ahead.pop()
                try:
                    with handle.scan(directory) as items:
                        for item in items:
                            names += 1
                            # One that is gone by now hides none of those behind it.
                            with contextlib.suppress(FileNotFoundError):
                                size += item.stat(follow_symlinks=False).st_blocks * BLOCK
                            if item.is_dir(follow_symlinks=False):
                                ahead.append(f"{directory}/{item.name}".lstrip("/"))
                            if most.exceeded_by(DiskUse(size, names)):
                                return DiskUse(size, names)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # exchanged or gone: what is there now counts at the next look
                if any(part.count("/") > DEEPEST for part in ahead):
                    return DiskUse(size, most.names + MARGIN_NAMES + 1)
        finally:
            handle.close()
    return DiskUse(size, names)


def room_of(directory: Path) -> FreeRoom:
    """What is free where a directory lies, or would."""
    place = directory
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    return FreeRoom(found.f_bavail * found.f_frsize, found.f_favail, found.f_files)


class DiskWatch:
    """Looks again and again, and tells once what is beyond; begun when an order is given.

    Args:
        places: Where the reader writes.
        order: What this order may bring.
        announced: What the proved lists announce in all; None where none can be proved.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        places: Sequence[Path],
        order: MayBring,
        announced: MayBring | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places, self._order, self._announced = places, order, announced
        self._clock, self._next = clock, 0.0
        # Whatever lay there before: it is not counted beyond what any order may bring to it.
        self._before = self.now = use_of(places, MayBring(1 << 62, 1_000_000))
        self._room = room_of(places[0])

    def look(self) -> DiskVerdict:
        """Judge what is there now; in between, say that it is fine."""
        began = self._clock()
        if began < self._next:
            return DiskVerdict.FINE
        verdict = self.judge()
        ended = self._clock()
        self._next = ended + max(BETWEEN_S, SHARE * (ended - began))
        return verdict

    def judge(self) -> DiskVerdict:
        """Judge what is there now."""
        before = self._before
        most = MayBring(before.size, before.names) + self._order
        self.now = use_of(self._places, most)
        return judge(
            before, self.now, self._order, self._announced, self._room, room_of(self._places[0])
        )
