"""One large file, fetched so that no interruption costs what already arrived.

On the disk, beside the target ``x``:

* ``.x.partial``: the bytes so far. They are hashed again before they are continued, so a tail that
  a power cut left as zeros costs no more than the parts that it touches.
* ``.x.partial.json``: length and digest that the partial file is meant for, and the entity tag of
  the server it came from. A partial file for anything else is discarded.
* ``x``: exists only whole, verified and flushed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotReadable, TooLarge, open_file, parse_json, read_file
from ncen_updater.common.disk_space import require_space, space_short
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress
from ncen_updater.feed.file_parts import Parts, Wanted
from ncen_updater.formats.errors import DownloadDamaged

logger = logging.getLogger(__name__)

DOWNLOADING = N_("Downloading {name} (bytes)")
BLOCK = 1 << 20
MAX_NOTE_BYTES = 100_000
KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
BREAKS_IN_A_ROW = 3
WORTH_BYTES = 64 << 10  # a try that brought less does not count as progress


class LineBroken(Exception):
    """Raised by a source whose line failed midway; what came before it is good to keep."""


@dataclass(frozen=True)
class DownloadPart:
    """The bytes of a file from ``start`` on.

    Attributes:
        start: Where they begin; 0 from a server that knows no ranges.
        chunks: The bytes; may raise :class:`LineBroken`.
        origin: The server, so that entity tags of different servers are not compared.
        etag: Its entity tag, if it gave one.
        close: Ends the connection.
    """

    start: int
    chunks: Iterator[bytes]
    origin: str
    etag: str | None
    close: Callable[[], None]


Open = Callable[[int], DownloadPart]


def _reserve(stream: IO[bytes], directory: Path, length: int, have: int) -> None:
    """Take the blocks of the whole file now, without changing its size."""
    require_space(directory, length - have)
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if fallocate is None or length == 0:
        return
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(stream.fileno(), KEEP_SIZE, 0, length) != 0:
        number = ctypes.get_errno()
        if number == errno.ENOSPC:
            raise space_short(directory, length - have)
        # A file system without it: ENOSPC is told when it comes, by the writes themselves.
        logger.debug("space for %s not reserved: %s", directory, os.strerror(number))


def is_whole(path: Path, wanted: Wanted) -> bool:
    """Whether a file has the wanted length and digest; it is read and hashed now.

    Never waits and never reads on, whatever its owner puts in its place meanwhile.
    """
    digest, left = hashlib.new(wanted.algorithm), wanted.length
    try:
        if path.is_symlink():
            return False
        with open_file(path) as stream:
            if os.fstat(stream.fileno()).st_size != left:
                return False
            while left and (block := stream.read(min(BLOCK, left))):
                digest.update(block)
                left -= len(block)
    except (FileNotFoundError, NotReadable):
        return False
    return not left and digest.hexdigest() == wanted.digest


def arrived(path: Path, length: int, sha256: str) -> int:
    """How many bytes of a file lie on the disk, whole or in part; nothing is hashed."""
    for place in (path, path.with_name(f".{path.name}.partial")):
        try:
            size = place.stat().st_size
        except OSError:
            continue
        if place != path and not _Partial(path, Wanted(path.name, length, sha256)).is_ours():
            continue
        return min(size, length)
    return 0


class _Partial:
    """The partial file and what is known of it."""

    def __init__(self, target: Path, wanted: Wanted) -> None:
        self.path = target.with_name(f".{target.name}.partial")
        self._note = target.with_name(f".{target.name}.partial.json")
        self._wanted = wanted
        self.origin: str | None = None
        self.etag: str | None = None

    def open(self) -> tuple[IO[bytes], int]:
        """Open it for appending; return it and its useful length."""
        have = self.path.stat().st_size if self.is_ours() else 0
        if have == 0 or have > self._wanted.length:
            self.discard()
            have = 0
            self._save()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        stream = os.fdopen(os.open(self.path, flags, 0o644), "r+b")
        return stream, have

    def is_ours(self) -> bool:
        """Whether there is one and it is meant for this very file."""
        try:
            note = parse_json(read_file(self._note, MAX_NOTE_BYTES))
            self.origin, self.etag = note["origin"], note["etag"]
            wanted = self._wanted
            ours = (note["length"], note[wanted.algorithm]) == (wanted.length, wanted.digest)
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError, NotReadable, TooLarge) as error:
            logger.warning("note of %s is damaged, starting anew: %s", self.path, error)
            return False
        return ours and self.path.is_file() and not self.path.is_symlink()

    def remember(self, part: DownloadPart) -> None:
        """Keep where the bytes come from."""
        if (part.origin, part.etag) != (self.origin, self.etag):
            self.origin, self.etag = part.origin, part.etag
            self._save()

    def _save(self) -> None:
        note = {
            "etag": self.etag,
            "length": self._wanted.length,
            "origin": self.origin,
            self._wanted.algorithm: self._wanted.digest,
        }
        durable.write(self._note, json.dumps(note).encode())

    def changed_since(self, part: DownloadPart) -> bool:
        """Whether the same server now says that the file is another one."""
        return (
            part.origin == self.origin
            and None not in (part.etag, self.etag)
            and (part.etag != self.etag)
        )

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.origin = self.etag = None

    def finish(self, target: Path) -> None:
        durable.rename(self.path, target)
        durable.remove(self._note)


def download(
    open_part: Open,
    target: Path,
    wanted: Wanted,
    progress: Progress,
    *,
    sources: int = 1,
    distrust: Callable[[], None] = lambda: None,
) -> None:
    """Fetch a file, going on where an earlier attempt stopped.

    Wrong bytes are fetched again: one part where the digests of parts are known, else all.

    Args:
        open_part: Opens the source from an offset; called again after a break.
        target: Where the verified file will be; the directory is made.
        wanted: What it must be.
        progress: Told the bytes so far and in total.
        sources: How many servers there are behind ``open_part``.
        distrust: Called when bytes were wrong: the next ones should come from another server.

    Raises:
        LineBroken: If the line broke three times without bringing anything; the partial file stays.
        DownloadDamaged: If the same bytes were wrong once more often than there are sources; of the
            partial file those parts stay that are right.
        SpaceShort: If there is no room; nothing was fetched.
    """
    durable.make_directory(target.parent)
    if is_whole(target, wanted):
        return
    partial = _Partial(target, wanted)
    fill = _Fill(partial, open_part, wanted, progress)
    try:
        sound = fill.run(target.parent, sources, distrust)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise space_short(target.parent, wanted.length) from error
        raise
    if not sound:
        if fill.parts.have == 0:
            partial.discard()
        raise DownloadDamaged(name=wanted.name)
    partial.finish(target)


class _Fill:
    """Brings a partial file to its length."""

    def __init__(
        self, partial: _Partial, open_part: Open, wanted: Wanted, progress: Progress
    ) -> None:
        self._partial, self._open_part = partial, open_part
        self._wanted, self._progress = wanted, progress
        self._told = Text(DOWNLOADING, {"name": wanted.name})
        self.parts = Parts(wanted)

    def run(self, directory: Path, sources: int, distrust: Callable[[], None]) -> bool:
        """Return whether the file is whole and right; what is left on the disk is flushed."""
        stream, stored = self._partial.open()
        parts, length = self.parts, self._wanted.length
        with stream:
            _reserve(stream, directory, length, stored)
            while block := stream.read(min(BLOCK, stored - stream.tell())):
                if not parts.take(block):
                    break  # what follows on the disk cannot be told from it
            breaks, wrong, furthest = 0, Counter[int](), parts.have
            while parts.have < length:
                try:
                    right = self._receive(stream)
                except LineBroken:
                    # Not what this try brought: a server that begins anew each time brings nothing.
                    breaks = 0 if parts.have - furthest >= WORTH_BYTES else breaks + 1
                    furthest = max(furthest, parts.have)
                    if breaks >= BREAKS_IN_A_ROW:
                        _flush(stream, parts.have)
                        raise
                    continue
                if right:
                    continue
                if parts.have < stored:  # it began on our own disk: no server is to blame
                    stored = parts.have
                    continue
                logger.warning("%s: wrong bytes from %d on", self._wanted.name, parts.have)
                distrust()
                wrong[parts.have] += 1
                if wrong[parts.have] > sources:
                    _flush(stream, parts.have)
                    return False
            _flush(stream, parts.have)
        if parts.digest() == self._wanted.digest:
            return True
        parts.restart()
        return False

    def _receive(self, stream: IO[bytes]) -> bool:
        """Take what one connection brings; return whether it was right as far as can be told."""
        parts, length = self.parts, self._wanted.length
        with contextlib.closing(self._part_from(parts.have)) as part:
            if part.start != parts.have:
                parts.restart()
            self._partial.remember(part)
            stream.seek(parts.have)
            if os.fstat(stream.fileno()).st_size > parts.have:
                stream.truncate()  # which also gives back what was reserved
                _reserve(stream, self._partial.path.parent, length, parts.have)
            for chunk in part.chunks:
                take = chunk[: length - parts.have]
                stream.write(take)
                if not parts.take(take):
                    return False
                self._progress.tell(self._told, parts.have, length)
                if len(take) < len(chunk):
                    logger.warning("%s: longer than signed", self._wanted.name)
                    parts.restart()
                    return False
        if parts.have < length:
            raise LineBroken(f"{self._wanted.name}: ended after {parts.have} bytes")
        return True

    def _part_from(self, have: int) -> DownloadPart:
        """Open the source where we stand, or at 0 if the file changed or ranges are unknown."""
        part = self._open_part(have)
        # Digests of parts tell a changed file by themselves, and at a smaller price.
        changed = not self._wanted.chunks and self._partial.changed_since(part)
        if part.start in (0, have) and not changed:
            return part
        part.close()
        return self._open_part(0)


def _flush(stream: IO[bytes], length: int) -> None:
    stream.truncate(length)
    stream.flush()
    os.fsync(stream.fileno())
