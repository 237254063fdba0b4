"""Disk quota of the worker process that reads the feed, enforced from outside.

A compromised process ignores its own limits. Databases may share its file system, and stop when it
is full. So the caller watches the directory meanwhile, counts blocks and inodes, and ends the
process at the limit (:class:`DiskMonitor`). :func:`judge_disk_usage`, which is pure, has the rules:

* one request may add the signed size of one release, or the content of a bundle, and a margin;
* the whole directory may hold the releases that the verified metadata announces, and a margin;
  beyond that only new metadata may be added;
* a request never uses the reserved space of the file system, and once less than that is free, no
  request may add anything: otherwise many small requests would fill it.

A process that leaves its group, or that systemd started, continues until its unit ends it. A
separate file system for the directory stops that one (docs/how-to/install-agent.md).
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

#: For metadata, records, partial files and old root metadata, which no metadata announces.
MARGIN_BYTES = 128 << 20
MARGIN_INODES = 2_000
#: Document, tree, archive and packs, each with a partial file and a record.
INODES_PER_RELEASE = 100
#: Free space that data from the network never uses.
RESERVED_BYTES = 256 << 20
RESERVED_INODES = 2_000
#: Space for new metadata, even if downloads remain of a release that it no longer names.
SLACK_BYTES, SLACK_INODES = 8 << 20, 200
#: Deeper than any directory of the agent; deeper entries are not counted but exceed the quota.
MAX_DEPTH = 12
STAT_BLOCK_BYTES = 512
#: Counting may take at most one part in MAX_TIME_SHARE of the elapsed time.
MAX_TIME_SHARE = 20
MIN_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True)
class DiskUsage:
    """Disk usage of a directory, or what is allowed, without the margin.

    Attributes:
        size: Bytes of the allocated blocks.
        inodes: Number of files, directories and links.
    """

    size: int = 0
    inodes: int = 0

    def __add__(self, other: DiskUsage) -> DiskUsage:
        """Return the sum of both."""
        return DiskUsage(self.size + other.size, self.inodes + other.inodes)

    def is_exceeded_by(self, use: DiskUsage) -> bool:
        """Tell whether a usage exceeds this allowance and the margin."""
        return use.size > self.size + MARGIN_BYTES or use.inodes > self.inodes + MARGIN_INODES


@dataclass(frozen=True)
class FreeSpace:
    """Free space of a file system; inodes are 0 if it does not count them.

    Attributes:
        size: Free bytes for the caller.
        inodes: Free inodes.
        total_inodes: All its inodes.
    """

    size: int
    inodes: int = 0
    total_inodes: int = 0


class DiskVerdict(StrEnum):
    """Verdict on the process."""

    OK = "ok"
    OVER_ALLOWANCE = "over-allowance"
    UNANNOUNCED = "unannounced"
    NO_SPACE = "no-space"


def judge_disk_usage(
    before: DiskUsage,
    now: DiskUsage,
    allowance: DiskUsage,
    announced: DiskUsage | None,
    free_before: FreeSpace,
    free_now: FreeSpace,
) -> DiskVerdict:
    """Decide whether the process may continue. Pure.

    Args:
        before: Usage of the directory at the beginning of the request.
        now: Present usage.
        allowance: Allowance of this request.
        announced: Allowance of all releases in the verified metadata; None if it cannot be
            verified.
        free_before: Free space at the beginning of the request.
        free_now: Present free space.
    """
    if allowance.is_exceeded_by(DiskUsage(now.size - before.size, now.inodes - before.inodes)):
        return DiskVerdict.OVER_ALLOWANCE
    grown = now.size > before.size + SLACK_BYTES or now.inodes > before.inodes + SLACK_INODES
    if announced is not None and grown and announced.is_exceeded_by(now):
        return DiskVerdict.UNANNOUNCED
    full = (announced or DiskUsage()).is_exceeded_by(now)
    # Deleted files that are held open use space, too, although no directory lists them.
    taken = free_before.size - free_now.size > MARGIN_BYTES or (full and now.size > before.size)
    if free_now.size < RESERVED_BYTES and taken:
        return DiskVerdict.NO_SPACE
    taken = free_before.inodes - free_now.inodes > RESERVED_INODES or (
        full and now.inodes > before.inodes
    )
    if free_now.total_inodes and free_now.inodes < RESERVED_INODES and taken:
        return DiskVerdict.NO_SPACE
    return DiskVerdict.OK


def compute_release_allowance(offer: Offer) -> DiskUsage:
    """Return the allowance for one release, by its signed sizes.

    It includes the archive and the delta packs; the tree is a part of the archive, and rejected
    packs may still be on the disk.
    """
    packs = sum(offer.deltas.values())
    return DiskUsage(2 * offer.archive.length + packs + MAX_DOCUMENT_BYTES, INODES_PER_RELEASE)


def compute_announced_allowance(offers: Iterable[Offer]) -> DiskUsage:
    """Return the allowance for all announced releases."""
    return sum((compute_release_allowance(offer) for offer in offers), DiskUsage())


def compute_bundle_allowance(descriptor: int) -> DiskUsage:
    """Return the allowance for a bundle: its own size, and again its packed content."""
    return DiskUsage(2 * os.fstat(descriptor).st_size, 1000)


def measure_usage(directories: Sequence[Path], limit: DiskUsage) -> DiskUsage:
    """Measure directories that another process may change meanwhile; follow no links.

    Args:
        directories: The directories; a missing one counts as empty.
        limit: Stop counting once this is exceeded.
    """
    size = names = 0
    for top in directories:
        with contextlib.suppress(FileNotFoundError), DirectoryHandle(top) as handle:
            pending = [""]
            while pending:
                directory = pending.pop()
                try:
                    with handle.scan_directory(directory) as items:
                        for item in items:
                            names += 1
                            # An entry that disappeared must not hide those after it.
                            with contextlib.suppress(FileNotFoundError):
                                blocks = item.stat(follow_symlinks=False).st_blocks
                                size += blocks * STAT_BLOCK_BYTES
                            if item.is_dir(follow_symlinks=False):
                                pending.append(f"{directory}/{item.name}".lstrip("/"))
                            if limit.is_exceeded_by(DiskUsage(size, names)):
                                return DiskUsage(size, names)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # replaced or removed; the next measurement counts it
                if any(part.count("/") > MAX_DEPTH for part in pending):
                    return DiskUsage(size, limit.inodes + MARGIN_INODES + 1)
    return DiskUsage(size, names)


def measure_free_space(directory: Path) -> FreeSpace:
    """Return the free space of the file system of a directory, which need not exist yet."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    status = os.statvfs(existing)
    return FreeSpace(status.f_bavail * status.f_frsize, status.f_favail, status.f_files)


class DiskMonitor:
    """Monitor that measures the usage at intervals, from the beginning of a request.

    Args:
        directories: Directories to which the process writes.
        allowance: Allowance of this request.
        announced: Allowance of all releases in the verified metadata; None if it cannot be
            verified.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        allowance: DiskUsage,
        announced: DiskUsage | None,
    ) -> None:
        self._directories, self._allowance, self._announced = directories, allowance, announced
        self._next = 0.0
        # Existing files are counted only up to a limit that no request can reach.
        self._before = self.now = measure_usage(directories, DiskUsage(1 << 62, 1_000_000))
        self._free_before = measure_free_space(directories[0])

    def poll(self) -> DiskVerdict:
        """Judge the present usage; OK if the next measurement is not due yet."""
        began = time.monotonic()
        if began < self._next:
            return DiskVerdict.OK
        verdict = self.check_now()
        ended = time.monotonic()
        self._next = ended + max(MIN_POLL_INTERVAL_S, MAX_TIME_SHARE * (ended - began))
        return verdict

    def check_now(self) -> DiskVerdict:
        """Judge the present usage."""
        before = self._before
        self.now = measure_usage(self._directories, before + self._allowance)
        return judge_disk_usage(
            before,
            self.now,
            self._allowance,
            self._announced,
            self._free_before,
            measure_free_space(self._directories[0]),
        )
