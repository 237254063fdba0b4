"""A disk with a volatile write cache: writes, flushes, and its content after a power cut.

A write is acknowledged at once, and only a flush makes it durable, as on a disk whose cache has no
battery. At a cut the writes since the last flush are *pending*: each may have reached the platter
completely, in part, or not at all, in any order. Everything here is pure except the file of a
recording.
"""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

BLOCK: Final = 4096
SECTOR: Final = 512
#: Kind (a write, or a flush), seconds since the epoch, offset, length; a write's bytes follow.
RECORD: Final = struct.Struct("<cdQI")
WRITE, FLUSH = b"W", b"F"


class Loss(StrEnum):
    """What becomes of the pending writes at a cut."""

    DROP = "drop"  # none
    SUBSET = "subset"  # some blocks of 4096 bytes
    TEAR = "tear"  # some sectors of 512 bytes
    PREFIX = "prefix"  # the first ones, the last of them in part
    KEEP = "keep"  # all


class Write(NamedTuple):
    """Bytes at an offset."""

    offset: int
    data: bytes


class Pending(NamedTuple):
    """The writes since the last flush, at a cut."""

    writes: tuple[Write, ...]

    @property
    def size(self) -> int:
        """Return the total number of bytes."""
        return sum(len(write.data) for write in self.writes)


def survivors(pending: Sequence[Write], loss: Loss, chance: Random) -> list[Write]:
    """Return the pending writes that are durable after the cut, in the order of writing.

    Args:
        pending: The writes since the last flush.
        loss: How they are lost.
        chance: Chooses, if the kind of loss leaves a choice.
    """
    if loss is Loss.DROP:
        return []
    if loss is Loss.KEEP:
        return list(pending)
    if loss is Loss.PREFIX:
        if not pending:
            return []
        whole = chance.randrange(len(pending))
        torn = pending[whole]
        sectors = chance.randrange(max(1, len(torn.data) // SECTOR))
        return [*pending[:whole], Write(torn.offset, torn.data[: sectors * SECTOR])]
    unit = BLOCK if loss is Loss.SUBSET else SECTOR
    kept = []
    for write in pending:
        for at in range(0, len(write.data), unit):
            if chance.random() < 0.5:
                kept.append(Write(write.offset + at, write.data[at : at + unit]))
    return kept


class Image:
    """A disk: a file that is never written, and the blocks that differ from it.

    Args:
        base: The file.
        blocks: Blocks of :data:`BLOCK` bytes by number.
    """

    def __init__(self, base: Path, blocks: dict[int, bytes] | None = None) -> None:
        self.base = base
        self.size = base.stat().st_size
        self._blocks = {} if blocks is None else blocks

    def fork(self) -> Image:
        """Return a copy of the disk; writes to one are not visible in the other."""
        return Image(self.base, dict(self._blocks))

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the disk."""
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        found = bytearray(self._below(first * BLOCK, (last - first + 1) * BLOCK))
        for number in range(first, last + 1):
            block = self._blocks.get(number)
            if block is not None:
                found[(number - first) * BLOCK : (number - first + 1) * BLOCK] = block
        skip = offset - first * BLOCK
        return bytes(found[skip : skip + length])

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes to the disk."""
        at = 0
        while at < len(data):
            number, inside = divmod(offset + at, BLOCK)
            piece = data[at : at + BLOCK - inside]
            if len(piece) < BLOCK:
                whole = bytearray(self.read(number * BLOCK, BLOCK))
                whole[inside : inside + len(piece)] = piece
                self._blocks[number] = bytes(whole)
            else:
                self._blocks[number] = bytes(piece)
            at += len(piece)

    def save(self, path: Path) -> None:
        """Write the disk to a file."""
        subprocess.run(["cp", "--sparse=always", str(self.base), str(path)], check=True)
        with path.open("r+b") as file:
            for number, block in sorted(self._blocks.items()):
                file.seek(number * BLOCK)
                file.write(block)

    def _below(self, offset: int, length: int) -> bytes:
        with self.base.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, offset)
        return data + bytes(length - len(data))


@dataclass(frozen=True)
class Record:
    """One entry of a recording.

    Attributes:
        at: Time of its acknowledgement, in seconds since the epoch.
        place: Position of its bytes in the file; None for a flush.
    """

    at: float
    offset: int
    length: int
    place: int | None


class Recording:
    """Every write and flush of a disk, in the order of their acknowledgement.

    Args:
        path: File of the recording; an existing one is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+b")
        self.records: list[Record] = []
        self._file.seek(0)
        while head := self._file.read(RECORD.size):
            if len(head) < RECORD.size:
                break
            kind, at, offset, length = RECORD.unpack(head)
            place = self._file.tell() if kind == WRITE else None
            self.records.append(Record(at, offset, length, place))
            if kind == WRITE:
                self._file.seek(length, 1)
        self._end = self._file.seek(0, 2)

    def __len__(self) -> int:
        return len(self.records)

    def add_write(self, offset: int, data: bytes) -> None:
        """Add a write."""
        at = time.time()
        self._file.write(RECORD.pack(WRITE, at, offset, len(data)) + data)
        self.records.append(Record(at, offset, len(data), self._end + RECORD.size))
        self._end += RECORD.size + len(data)

    def add_flush(self) -> None:
        """Add a flush."""
        at = time.time()
        self._file.write(RECORD.pack(FLUSH, at, 0, 0))
        self.records.append(Record(at, 0, 0, None))
        self._end += RECORD.size

    def writes(self, first: int, last: int) -> Iterator[Write | None]:
        """Yield the entries from ``first`` up to but not including ``last``; None is a flush."""
        self._file.flush()
        with self.path.open("rb") as file:
            for record in self.records[first:last]:
                if record.place is None:
                    yield None
                else:
                    file.seek(record.place)
                    yield Write(record.offset, file.read(record.length))

    def cut(self, begin: Image, at: int, loss: Loss, chance: Random) -> tuple[Image, Pending]:
        """Return the disk after a cut just after entry ``at - 1`` was acknowledged.

        Args:
            begin: The disk when the recording began; not changed.
            at: Number of entries before the cut.
            loss: How pending writes are lost.
            chance: Chooses.
        """
        image = begin.fork()
        pending: list[Write] = []
        for write in self.writes(0, at):
            if write is not None:
                pending.append(write)
                continue
            for durable in pending:
                image.write(*durable)
            pending.clear()
        for write in survivors(pending, loss, chance):
            image.write(*write)
        return image, Pending(tuple(pending))

    def when(self, at: int) -> float:
        """Return the time of a cut; what was acknowledged before it must be on the disk."""
        return self.records[at - 1].at if at else 0.0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Disk:
    """A disk that works until its power is cut.

    Args:
        begin: Initial content; not changed.
        recording: Receives every write and flush.
    """

    def __init__(self, begin: Image, recording: Recording) -> None:
        self.begin, self.recording = begin, recording
        self._now = begin.fork()
        self._lock = threading.Lock()
        self._dead = False

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return self.begin.size

    def read(self, offset: int, length: int) -> bytes | None:
        """Return bytes of the disk; None without power."""
        with self._lock:
            return None if self._dead else self._now.read(offset, length)

    def write(self, offset: int, data: bytes) -> bool:
        """Write bytes to the cache; return False without power."""
        with self._lock:
            if not self._dead:
                self.recording.add_write(offset, data)
                self._now.write(offset, data)
            return not self._dead

    def flush(self) -> bool:
        """Make the cache durable; return False without power."""
        with self._lock:
            if not self._dead:
                self.recording.add_flush()
            return not self._dead

    def stop(self) -> int:
        """Cut the power: nothing is answered from now on. Return the number of entries."""
        with self._lock:
            self._dead = True
            return len(self.recording)

    def kept(self) -> Image:
        """Return the disk with every write."""
        with self._lock:
            return self._now.fork()
