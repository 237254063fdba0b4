"""A bundle cut over several media, and opening bundles however they come.

Each part begins with a header of 4096 bytes that any text viewer shows; the bundle's bytes follow.
The header only helps to say which part is missing or damaged: nothing else believes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_CUT,
    BUNDLE_UNREADABLE,
    NOT_A_BUNDLE,
    PART_ALTERED,
    PART_CUT,
    PART_FOREIGN,
    PART_MISSING,
    PART_TWICE,
)
from ncen_updater.formats.bundle.form import BLOCK, BundleSource, Span, encode, plan_members

HEADER_BYTES = 4096
MAX_PARTS = 999
_MAGIC = b"NCEN-BUNDLE-PART 1\n"


@dataclass(frozen=True)
class PartHeader:
    """What the beginning of a part says.

    Attributes:
        bundle: Names the bundle: the SHA-256 of its directory.
        part: From 1 on.
        parts: How many there are.
        offset: Where its bytes stand in the bundle.
        length: Its bytes without the header.
        sha256: Of these bytes.
        total: Bytes of the whole bundle.
    """

    bundle: str
    part: int
    parts: int
    offset: int
    length: int
    sha256: str
    total: int

    def to_bytes(self) -> bytes:
        """Return the header, padded."""
        text = json.dumps(asdict(self), sort_keys=True).encode()
        return (_MAGIC + text + b"\n").ljust(HEADER_BYTES - 1, b" ") + b"\n"

    @classmethod
    def parse(cls, content: bytes, path: Path) -> PartHeader:
        """Read a header.

        Raises:
            PartAltered: If it cannot be understood.
        """
        try:
            data = parse_json(content.removeprefix(_MAGIC))
            header = cls(**data)
            fits = (
                header.to_bytes() == content
                and all(
                    type(data[name]) is (str if name in ("bundle", "sha256") else int)
                    for name in data
                )
                and 1 <= header.part <= header.parts <= MAX_PARTS
                and 0 <= header.offset <= header.total
                and 0 < header.length <= header.total - header.offset
            )
        except (ValueError, TypeError) as error:
            raise UpdaterError(PART_ALTERED, part="?", path=path, detail=str(error)) from error
        if not fits:
            raise UpdaterError(PART_ALTERED, part=str(header.part)[:10], path=path)
        return header


def _unreadable(path: Path, error: OSError | ValueError) -> UpdaterError:
    """The system's own words, without a number, and without the name, which is told already."""
    said = error.strerror if isinstance(error, OSError) else None
    return UpdaterError(BUNDLE_UNREADABLE, path=path, detail=said or str(error))


def open_file(path: Path) -> int:
    """Open a file of a bundle for whoever is to read it; return the descriptor.

    Raises:
        BundleUnreadable: If it is not there, or may not be read.
    """
    try:
        # Opening a pipe would wait for its writer.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


class _File:
    """One file, from ``skip`` on."""

    def __init__(self, path: Path, stack: contextlib.ExitStack, descriptor: int | None) -> None:
        self.path, self.skip = path, 0
        self._descriptor = open_file(path) if descriptor is None else descriptor
        try:
            stack.callback(os.close, self._descriptor)
            info = os.fstat(self._descriptor)
        except OSError as error:
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(info.st_mode):
            raise UpdaterError(NOT_A_BUNDLE, path=path)
        self._bytes = info.st_size

    @property
    def size(self) -> int:
        return self._bytes - self.skip

    def read_at(self, offset: int, length: int) -> bytes:
        content = b""
        try:
            while len(content) < length:
                more = os.pread(
                    self._descriptor, length - len(content), self.skip + offset + len(content)
                )
                if not more:
                    raise UpdaterError(BUNDLE_CUT, path=self.path)
                content += more
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return content


class Opened:
    """A bundle that is open for reading: one file, or all its parts as if they were one.

    Attributes:
        paths: The files, parts in their order.
        size: Bytes of the bundle.
    """

    def __init__(self, pieces: Sequence[tuple[_File, PartHeader | None]]) -> None:
        self._pieces = pieces
        self.paths = tuple(file.path for file, _ in pieces)
        self.size = sum(file.size for file, _ in pieces)

    @property
    def path(self) -> Path:
        """A file to name in messages."""
        return self.paths[-1]

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes.

        Raises:
            BundleUnreadable: If the medium does not give them.
            BundleCut: If they are not there.
        """
        content = b""
        begins = 0
        for file, _ in self._pieces:
            at = offset + len(content) - begins
            if 0 <= at < file.size and len(content) < length:
                content += file.read_at(at, min(length - len(content), file.size - at))
            begins += file.size
        if len(content) < length:
            raise UpdaterError(BUNDLE_CUT, path=self.path)
        return content

    def blame(self) -> None:
        """Say which part is damaged, once it is known that something is.

        Raises:
            PartAltered: Naming it; nothing where the parts are as they were written.
        """
        for file, header in self._pieces:
            if header is None:
                continue
            digest = hashlib.sha256()
            for at in range(0, file.size, BLOCK):
                digest.update(file.read_at(at, min(BLOCK, file.size - at)))
            if digest.hexdigest() != header.sha256:
                raise UpdaterError(PART_ALTERED, part=header.part, path=file.path)


@contextlib.contextmanager
def opened(files: Sequence[Path], descriptors: Sequence[int] = ()) -> Iterator[Opened]:
    """Open a bundle: one whole file, or all parts of one, in any order.

    Args:
        files: Where they are.
        descriptors: The same files, opened by a process that may read more; closed at the end.

    Raises:
        BundleError: If the files are not that.
    """
    if not files:
        raise UpdaterError(NOT_A_BUNDLE, path="-")
    with contextlib.ExitStack() as stack:
        pieces: list[tuple[_File, PartHeader | None]] = []
        for path, descriptor in itertools.zip_longest(files, descriptors[: len(files)]):
            file = _File(path, stack, descriptor)
            head = file.read_at(0, min(HEADER_BYTES, file.size))
            if not head.startswith(_MAGIC):
                pieces.append((file, None))
                continue
            if len(head) < HEADER_BYTES:
                raise UpdaterError(PART_CUT, part="?", path=path)
            file.skip = HEADER_BYTES
            pieces.append((file, PartHeader.parse(head, path)))
        yield Opened(_in_order(pieces))


def _in_order(
    pieces: list[tuple[_File, PartHeader | None]],
) -> list[tuple[_File, PartHeader | None]]:
    known = [(file, header) for file, header in pieces if header is not None]
    whole = [file for file, header in pieces if header is None]
    if whole and len(pieces) > 1:
        other = next(file.path for file, _ in pieces if file is not whole[0])
        raise UpdaterError(PART_FOREIGN, path=whole[0].path, other=other)
    if not known:
        return pieces
    first, head = known[0]
    found: dict[int, _File] = {}
    for file, header in known:
        if (header.bundle, header.parts, header.total) != (head.bundle, head.parts, head.total):
            raise UpdaterError(PART_FOREIGN, path=file.path, other=first.path)
        if header.part in found:
            raise UpdaterError(
                PART_TWICE, part=header.part, path=found[header.part].path, other=file.path
            )
        found[header.part] = file
        if file.size < header.length:
            raise UpdaterError(PART_CUT, part=header.part, path=file.path)
        if file.size > header.length:
            raise UpdaterError(PART_ALTERED, part=header.part, path=file.path)
    missing = [number for number in range(1, head.parts + 1) if number not in found]
    if missing:
        raise UpdaterError(
            PART_MISSING,
            parts=head.parts,
            missing=", ".join(map(str, missing)),
            bytes=head.total + head.parts * HEADER_BYTES,
        )
    ordered = sorted(known, key=lambda piece: piece[1].part)
    at = 0
    for file, header in ordered:
        if header.offset != at:
            raise UpdaterError(PART_ALTERED, part=header.part, path=file.path)
        at += header.length
    if at != head.total:
        raise UpdaterError(PART_ALTERED, part=ordered[-1][1].part, path=ordered[-1][0].path)
    return list(ordered)


def part_names(output: Path, total: int, media_bytes: int | None) -> list[Path]:
    """Return the files that a bundle of so many bytes is written to.

    Raises:
        ValueError: If the media are too small.
    """
    if media_bytes is None or total <= media_bytes:
        return [output]
    room = media_bytes - HEADER_BYTES
    count = -(-total // room) if room > 0 else MAX_PARTS + 1
    if count > MAX_PARTS:
        raise ValueError("too many parts")
    return [
        output.with_name(f"{output.stem}.part-{number}-of-{count}{output.suffix}")
        for number in range(1, count + 1)
    ]


def write_bundle(
    output: Path, sources: Sequence[BundleSource], media_bytes: int | None
) -> list[Path]:
    """Write a bundle; the same sources give the same bytes.

    Args:
        output: The file; parts are named after it.
        sources: What goes in, in order.
        media_bytes: The most that one file may have; None for one file.

    Returns:
        The files that were written.
    """
    _, total, directory = plan_members(sources)
    names = part_names(output, total, media_bytes)
    blocks = encode(sources)
    if len(names) == 1:
        with durable.writing(output) as stream:
            stream.writelines(blocks)
        return names
    room = (media_bytes or 0) - HEADER_BYTES
    bundle = hashlib.sha256(directory).hexdigest()
    rest = b""
    for number, path in enumerate(names, 1):
        digest, length = hashlib.sha256(), 0
        with durable.writing(path) as stream:
            stream.seek(HEADER_BYTES)
            while length < room:
                rest = rest or next(blocks, b"")
                if not rest:
                    break
                piece, rest = rest[: room - length], rest[room - length :]
                stream.write(piece)
                digest.update(piece)
                length += len(piece)
            offset = (number - 1) * room
            header = PartHeader(
                bundle, number, len(names), offset, length, digest.hexdigest(), total
            )
            stream.seek(0)
            stream.write(header.to_bytes())
    return names


_: type[Span] = Opened
