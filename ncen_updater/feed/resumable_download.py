"""Download one large file resumably; each chunk is verified as it arrives.

On disk, for the target ``x``:

* ``.x.partial``: the bytes so far. They are hashed again before the download resumes, so that a
  power cut that left zeros at the end costs only the affected chunks.
* ``.x.partial.json``: expected length and digest, and the server's entity tag. A partial file
  with other values is discarded.
* ``x``: exists only when complete, verified and flushed.
"""

from __future__ import annotations

import contextlib
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
from ncen_updater.common.bounded_io import (
    FileTooLargeError,
    NotRegularFileError,
    open_file,
    parse_json,
    read_file,
)
from ncen_updater.common.disk_space import make_space_error, require_space
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import Amount, ProgressListener, Unit
from ncen_updater.formats.errors import DownloadDamagedError

logger = logging.getLogger(__name__)

DOWNLOAD_PROGRESS = N_("downloading {name}")
BLOCK = 1 << 20
MAX_RESUME_RECORD_BYTES = 100_000
MAX_CONSECUTIVE_FAILURES = 3
MIN_PROGRESS_BYTES = 64 << 10  # an attempt that brought less does not count as progress


class ConnectionLostError(Exception):
    """A connection that failed midway; the bytes received before may be kept."""


@dataclass(frozen=True)
class DownloadStream:
    """The bytes of a file from ``start`` on.

    Attributes:
        start: Offset of the first byte; 0 if the server does not support ranges.
        chunks: The bytes; iterating may raise :class:`ConnectionLostError`.
        origin: The server; entity tags of different servers are not compared.
        etag: The server's entity tag, if it sent one.
        close: Closes the connection.
    """

    start: int
    chunks: Iterator[bytes]
    origin: str
    etag: str | None
    close: Callable[[], None]


OpenStream = Callable[[int], DownloadStream]


def is_complete(path: Path, expected: ExpectedFile) -> bool:
    """Return whether a file has the expected length and digest; read and hash it.

    The function never blocks and never reads more than the expected length, even if the file's
    owner replaces it meanwhile.
    """
    digest, remaining = hashlib.new(expected.algorithm), expected.length
    try:
        if path.is_symlink():
            return False
        with open_file(path) as stream:
            if os.fstat(stream.fileno()).st_size != remaining:
                return False
            while remaining and (block := stream.read(min(BLOCK, remaining))):
                digest.update(block)
                remaining -= len(block)
    except (FileNotFoundError, NotRegularFileError):
        return False
    return not remaining and digest.hexdigest() == expected.digest


def count_downloaded_bytes(path: Path, length: int, sha256: str) -> int:
    """Return how many bytes of a file are on disk, complete or partial, without hashing."""
    for file in (path, path.with_name(f".{path.name}.partial")):
        try:
            size = file.stat().st_size
        except OSError:
            continue
        if (
            file != path
            and not _PartialFile(path, ExpectedFile(path.name, length, sha256)).is_resumable()
        ):
            continue
        return min(size, length)
    return 0


class _PartialFile:
    """A partial file and its record."""

    def __init__(self, target: Path, wanted: ExpectedFile) -> None:
        self.path = target.with_name(f".{target.name}.partial")
        self._record_path = target.with_name(f".{target.name}.partial.json")
        self._wanted = wanted
        self.origin: str | None = None
        self.etag: str | None = None

    def open(self) -> tuple[IO[bytes], int]:
        """Open the file for appending; return it with its usable length."""
        have = self.path.stat().st_size if self.is_resumable() else 0
        if have == 0 or have > self._wanted.length:
            self.discard()
            have = 0
            self._save_record()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        stream = os.fdopen(os.open(self.path, flags, 0o644), "r+b")
        return stream, have

    def is_resumable(self) -> bool:
        """Return whether a partial file exists for this expected length and digest."""
        try:
            record = parse_json(read_file(self._record_path, MAX_RESUME_RECORD_BYTES))
            self.origin, self.etag = record["origin"], record["etag"]
            wanted = self._wanted
            matches = (record["length"], record[wanted.algorithm]) == (wanted.length, wanted.digest)
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError, NotRegularFileError, FileTooLargeError) as error:
            logger.warning("download state of %s is damaged, starting again: %s", self.path, error)
            return False
        return matches and self.path.is_file() and not self.path.is_symlink()

    def save_origin(self, part: DownloadStream) -> None:
        """Store which server sent the bytes, and its entity tag."""
        if (part.origin, part.etag) != (self.origin, self.etag):
            self.origin, self.etag = part.origin, part.etag
            self._save_record()

    def _save_record(self) -> None:
        record = {
            "etag": self.etag,
            "length": self._wanted.length,
            "origin": self.origin,
            self._wanted.algorithm: self._wanted.digest,
        }
        durable.write_file(self._record_path, json.dumps(record).encode())

    def has_source_changed(self, part: DownloadStream) -> bool:
        """Return whether the same server now sends another entity tag."""
        return (
            part.origin == self.origin
            and None not in (part.etag, self.etag)
            and (part.etag != self.etag)
        )

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record_path.unlink(missing_ok=True)
        self.origin = self.etag = None

    def finish(self, target: Path) -> None:
        durable.rename_entry(self.path, target)
        durable.remove_file(self._record_path)


def download_file(
    open_stream: OpenStream,
    target: Path,
    expected: ExpectedFile,
    progress: ProgressListener,
    *,
    mirror_count: int = 1,
    on_wrong_bytes: Callable[[], None] = lambda: None,
) -> None:
    """Download a file, resuming an earlier attempt.

    Wrong bytes are downloaded again: one chunk if digests of chunks are known, else the whole file.

    Args:
        open_stream: Opens the source at an offset; called again after a lost connection.
        target: Path of the verified file; its directory is created.
        expected: Expected length and digests.
        progress: Receives the bytes so far and the total.
        mirror_count: Number of servers behind ``open_stream``.
        on_wrong_bytes: Called after wrong bytes, so that the caller switches to another server.

    Raises:
        ConnectionLostError: If the connection broke three times without progress; the partial
            file is kept.
        DownloadDamagedError: If the same bytes were wrong more often than there are servers;
            verified chunks of the partial file are kept.
        InsufficientSpaceError: If the disk has too little space; nothing was downloaded.
    """
    durable.make_directory(target.parent)
    if is_complete(target, expected):
        return
    partial = _PartialFile(target, expected)
    download = _Download(partial, open_stream, expected, progress)
    try:
        correct = download.run(target.parent, mirror_count, on_wrong_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise make_space_error(target.parent, expected.length) from error
        raise
    if not correct:
        if download.parts.verified_bytes == 0:
            partial.discard()
        raise DownloadDamagedError(name=expected.name)
    partial.finish(target)


class _Download:
    """The download of a partial file up to its full length."""

    def __init__(
        self,
        partial: _PartialFile,
        open_part: OpenStream,
        wanted: ExpectedFile,
        progress: ProgressListener,
    ) -> None:
        self._partial, self._open_part = partial, open_part
        self._wanted, self._progress = wanted, progress
        self._label = LazyText(DOWNLOAD_PROGRESS, {"name": wanted.name})
        self.parts = ChunkVerifier(wanted)

    def run(self, directory: Path, sources: int, on_wrong_bytes: Callable[[], None]) -> bool:
        """Return whether the file is complete and correct; flush it to disk."""
        stream, stored = self._partial.open()
        parts, length = self.parts, self._wanted.length
        with stream:
            require_space(directory, length - stored)
            while block := stream.read(min(BLOCK, stored - stream.tell())):
                if not parts.verify(block):
                    break  # later bytes on disk cannot be verified without this chunk
            breaks, wrong_at, furthest = 0, Counter[int](), parts.verified_bytes
            while parts.verified_bytes < length:
                try:
                    correct = self._download_stream(stream)
                except ConnectionLostError:
                    # Compare with the furthest offset: a server that restarts at 0 each time brings
                    # nothing new.
                    breaks = (
                        0 if parts.verified_bytes - furthest >= MIN_PROGRESS_BYTES else breaks + 1
                    )
                    furthest = max(furthest, parts.verified_bytes)
                    if breaks >= MAX_CONSECUTIVE_FAILURES:
                        _flush_to_disk(stream, parts.verified_bytes)
                        raise
                    continue
                if correct:
                    continue
                # The wrong bytes were on our disk: no server is to blame.
                if parts.verified_bytes < stored:
                    stored = parts.verified_bytes
                    continue
                logger.warning(
                    "%s: wrong bytes from %d on", self._wanted.name, parts.verified_bytes
                )
                on_wrong_bytes()
                wrong_at[parts.verified_bytes] += 1
                if wrong_at[parts.verified_bytes] > sources:
                    _flush_to_disk(stream, parts.verified_bytes)
                    return False
            _flush_to_disk(stream, parts.verified_bytes)
        if parts.get_digest() == self._wanted.digest:
            return True
        parts.reset()
        return False

    def _download_stream(self, stream: IO[bytes]) -> bool:
        """Read one connection to its end; return whether all bytes so far are correct."""
        parts, length = self.parts, self._wanted.length
        with contextlib.closing(self._open_at(parts.verified_bytes)) as part:
            if part.start != parts.verified_bytes:
                parts.reset()
            self._partial.save_origin(part)
            stream.seek(parts.verified_bytes)
            if os.fstat(stream.fileno()).st_size > parts.verified_bytes:
                stream.truncate()
            for chunk in part.chunks:
                piece = chunk[: length - parts.verified_bytes]
                stream.write(piece)
                if not parts.verify(piece):
                    return False
                amount = Amount(parts.verified_bytes, length, Unit.BYTES)
                self._progress.report(self._label, amount)
                if len(piece) < len(chunk):
                    logger.warning("%s: longer than signed", self._wanted.name)
                    parts.reset()
                    return False
        if parts.verified_bytes < length:
            raise ConnectionLostError(
                LazyText(
                    N_("{name}: connection closed after {received_bytes}"),
                    {"name": self._wanted.name, "received_bytes": parts.verified_bytes},
                )
            )
        return True

    def _open_at(self, offset: int) -> DownloadStream:
        """Open the source at this offset, or at 0 if the file changed or ranges are unsupported."""
        part = self._open_part(offset)
        # With digests of chunks a changed file is detected anyway, chunk by chunk.
        changed = not self._wanted.chunks and self._partial.has_source_changed(part)
        if part.start in (0, offset) and not changed:
            return part
        part.close()
        return self._open_part(0)


def _flush_to_disk(stream: IO[bytes], length: int) -> None:
    stream.truncate(length)
    stream.flush()
    os.fsync(stream.fileno())


@dataclass(frozen=True)
class ExpectedFile:
    """A file to download.

    Attributes:
        name: Name for messages.
        length: Length in bytes.
        digest: Digest of the whole file, hexadecimal.
        chunk_bytes: Length of each chunk except the last.
        chunks: Digest of each chunk; empty if chunks were not signed.
        algorithm: Hash algorithm of all digests.
    """

    name: str
    length: int
    digest: str
    chunk_bytes: int = 0
    chunks: tuple[str, ...] = ()
    algorithm: str = "sha256"


class ChunkVerifier:
    """Verifies bytes in order, chunk by chunk.

    A file signed without digests of chunks is treated as one chunk.

    Attributes:
        verified_bytes: Number of accepted bytes, including the unfinished chunk.
    """

    def __init__(self, expected: ExpectedFile) -> None:
        self._size = expected.chunk_bytes if expected.chunks else max(expected.length, 1)
        self._digests = expected.chunks or (expected.digest,)
        self._algorithm = expected.algorithm
        self._length = expected.length
        self.reset()

    def reset(self) -> None:
        """Restart at the first byte."""
        self.verified_bytes = 0
        self._whole = hashlib.new(self._algorithm)
        self._start_chunk()

    def drop_unfinished_chunk(self) -> None:
        """Go back to the start of the unfinished chunk."""
        self.verified_bytes = self._start
        self._whole = self._before
        self._start_chunk()

    def verify(self, data: bytes) -> bool:
        """Verify more bytes.

        Returns:
            Whether every chunk that they complete is correct. If not, the first wrong chunk and all
            bytes after it are dropped.
        """
        view = memoryview(data)
        while view:
            end = min(self._start + self._size, self._length)
            piece, view = view[: end - self.verified_bytes], view[end - self.verified_bytes :]
            self._part.update(piece)
            self._whole.update(piece)
            self.verified_bytes += len(piece)
            if self.verified_bytes == end:
                if self._part.hexdigest() != self._digests[self._start // self._size]:
                    self.drop_unfinished_chunk()
                    return False
                self._start_chunk()
        return True

    def get_digest(self) -> str:
        """Return the hexadecimal digest of all accepted bytes."""
        return self._whole.hexdigest()

    def _start_chunk(self) -> None:
        self._start = self.verified_bytes
        self._before = self._whole.copy()
        self._part = hashlib.new(self._algorithm)
