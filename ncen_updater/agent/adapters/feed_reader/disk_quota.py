"""Disk quota of the process that reads the feed, enforced from outside.

A compromised process ignores its own limits. Databases may share its file system, and stop when it
is full. So the caller watches the directory meanwhile, counts blocks and names, and ends the
process at the limit (:class:`DiskMonitor`). The rules are :func:`judge`, which is pure:

* one job may add the signed size of one release, or the content of a bundle, and a margin;
* the whole directory may hold what the verified metadata announces, and a margin; beyond that only
  new metadata may be added;
* a job never uses the last free space of the file system, and once there is less than that, no job
  may add anything: many small jobs would fill it otherwise.

A process that leaves its group, or that systemd started, goes on until its unit ends it. A separate
file system for the directory stops that one (docs/how-to/install-agent.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES

#: Lists, notes, partial files, roots of many years: what no list announces.
MARGIN_BYTES = 128 << 20
MARGIN_INODES = 2_000
#: Document, tree, archive, packs, with a partial file and a note beside each.
INODES_PER_RELEASE = 100
#: The last room of a file system, never taken by what comes from a network.
RESERVED_BYTES = 256 << 20
RESERVED_INODES = 2_000
#: Metadata is fetched again even where downloads of a release that it no longer names lie there.
SLACK_BYTES, SLACK_INODES = 8 << 20, 200
#: Deeper than anything of ours lies; deeper names are not looked at, they are too many.
MAX_DEPTH = 12
STAT_BLOCK_BYTES = 512
#: A look costs no more than this share of the time.
MAX_TIME_SHARE = 20
MIN_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True)
class DiskUsage:
    """What a directory holds.

    Attributes:
        size: Bytes of the blocks that are taken.
        inodes: Files, directories and links.
    """

    size: int = 0
    inodes: int = 0


@dataclass(frozen=True)
class DiskAllowance:
    """What may come, without the margin."""

    size: int = 0
    inodes: int = 0

    def __add__(self, other: DiskAllowance) -> DiskAllowance:
        """Both together."""
        return DiskAllowance(self.size + other.size, self.inodes + other.inodes)

    def is_exceeded_by(self, use: DiskUsage) -> bool:
        """Tell whether more is there, the margin counted."""
        return use.size > self.size + MARGIN_BYTES or use.inodes > self.inodes + MARGIN_INODES


@dataclass(frozen=True)
class FreeSpace:
    """What is free on the file system; names are 0 where it does not count them.

    Attributes:
        size: Bytes for who asks.
        inodes: Inodes.
        total_inodes: Inodes that it has.
    """

    size: int
    inodes: int = 0
    total_inodes: int = 0


class DiskVerdict(StrEnum):
    """What becomes of the process."""

    OK = "fine"
    OVER_ALLOWANCE = "grew"
    UNANNOUNCED = "unannounced"
    NO_SPACE = "no-room"


def judge_disk_usage(
    before: DiskUsage,
    now: DiskUsage,
    order: DiskAllowance,
    announced: DiskAllowance | None,
    free_before: FreeSpace,
    free_now: FreeSpace,
) -> DiskVerdict:
    """Say whether a reader may go on. Pure.

    Args:
        before: What the directory held when the order was given.
        now: What it holds.
        order: What this order may bring.
        announced: What the proved lists announce in all; None where none can be proved.
        free_before: What was free when the order was given.
        free_now: What is free.
    """
    if order.is_exceeded_by(DiskUsage(now.size - before.size, now.inodes - before.inodes)):
        return DiskVerdict.OVER_ALLOWANCE
    grown = now.size > before.size + SLACK_BYTES or now.inodes > before.inodes + SLACK_INODES
    if announced is not None and grown and announced.is_exceeded_by(now):
        return DiskVerdict.UNANNOUNCED
    full = (announced or DiskAllowance()).is_exceeded_by(now)
    # What is deleted and held open takes room, too, and is nowhere to be seen.
    taken = free_before.size - free_now.size > MARGIN_BYTES or (full and now.size > before.size)
    if free_now.size < RESERVED_BYTES and taken:
        return DiskVerdict.NO_SPACE
    taken = free_before.inodes - free_now.inodes > RESERVED_INODES or (
        full and now.inodes > before.inodes
    )
    if free_now.total_inodes and free_now.inodes < RESERVED_INODES and taken:
        return DiskVerdict.NO_SPACE
    return DiskVerdict.OK


def compute_release_allowance(offer: Offer) -> DiskAllowance:
    """Return the disk space one release may take, by its signed sizes.

    Archive and largest delta pack; the tree is a part of the archive, and packs that failed may lie
    beside it.
    """
    packs = sum(offer.deltas.values())
    return DiskAllowance(2 * offer.archive.length + packs + MAX_DOCUMENT_BYTES, INODES_PER_RELEASE)


def compute_announced_allowance(offers: Iterable[Offer]) -> DiskAllowance:
    """Return the disk space all announced releases may take."""
    return sum((compute_release_allowance(offer) for offer in offers), DiskAllowance())


def of_bundle(descriptor: int) -> DiskAllowance:
    """Return what a bundle may take: its own size, and its packed content once more."""
    return DiskAllowance(2 * os.fstat(descriptor).st_size, 1000)


def measure_usage(directories: Sequence[Path], limit: DiskAllowance) -> DiskUsage:
    """Count what lies in directories that somebody else may change meanwhile; follow no link.

    Args:
        directories: The directories; one that is missing holds nothing.
        limit: Where to stop: what is beyond is too much, however much it is.
    """
    size = names = 0
    for place in directories:
        try:
            handle = DirectoryHandle(place)
        except FileNotFoundError:
            continue
        try:
            ahead = [""]
            while ahead:
                directory = ahead.pop()
                try:
                    with handle.scan_directory(directory) as items:
                        for item in items:
                            names += 1
                            # One that is gone by now hides none of those behind it.
                            with contextlib.suppress(FileNotFoundError):
                                size += (
                                    item.stat(follow_symlinks=False).st_blocks * STAT_BLOCK_BYTES
                                )
                            if item.is_dir(follow_symlinks=False):
                                ahead.append(f"{directory}/{item.name}".lstrip("/"))
                            if limit.is_exceeded_by(DiskUsage(size, names)):
                                return DiskUsage(size, names)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # exchanged or gone: what is there now counts at the next look
                if any(part.count("/") > MAX_DEPTH for part in ahead):
                    return DiskUsage(size, limit.inodes + MARGIN_INODES + 1)
        finally:
            handle.close()
    return DiskUsage(size, names)


def measure_free_space(directory: Path) -> FreeSpace:
    """Measure the free space of the file system of a directory, even of one not made yet."""
    place = directory
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    return FreeSpace(found.f_bavail * found.f_frsize, found.f_favail, found.f_files)


class DiskMonitor:
    """Looks again and again, and tells once what is beyond; begun when an order is given.

    Args:
        places: Where the reader writes.
        order: What this order may bring.
        announced: What the proved lists announce in all; None where none can be proved.
    """

    def __init__(
        self,
        places: Sequence[Path],
        order: DiskAllowance,
        announced: DiskAllowance | None,
    ) -> None:
        self._places, self._order, self._announced = places, order, announced
        self._next = 0.0
        # Whatever lay there before: it is not counted beyond what any order may bring to it.
        self._before = self.now = measure_usage(places, DiskAllowance(1 << 62, 1_000_000))
        self._room = measure_free_space(places[0])

    def poll(self) -> DiskVerdict:
        """Judge what is there now; in between, say that it is fine."""
        began = time.monotonic()
        if began < self._next:
            return DiskVerdict.OK
        verdict = self.check_now()
        ended = time.monotonic()
        self._next = ended + max(MIN_POLL_INTERVAL_S, MAX_TIME_SHARE * (ended - began))
        return verdict

    def check_now(self) -> DiskVerdict:
        """Judge what is there now."""
        before = self._before
        most = DiskAllowance(before.size, before.inodes) + self._order
        self.now = measure_usage(self._places, most)
        return judge_disk_usage(
            before,
            self.now,
            self._order,
            self._announced,
            self._room,
            measure_free_space(self._places[0]),
        )
