"""Offline bundle: a zip of uncompressed members whose bytes are fully determined by its content.

Metadata of a bundle is trusted no more than metadata from the network; it is verified by
:mod:`ncen_updater.feed.bundle_import`. This module does not use signatures, the network or the
site. The publisher writes and the agent reads bundles with it.

Any unzip program can open a bundle. The reader accepts only what the writer would write for the
same names, sizes and checksums: no compression, encryption, gaps, overlaps, comments, links or
duplicate entries. So a bundle cannot hide data, and no member can expand when it is read.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ncen_updater.common.errors import InvalidValueError, UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    BUNDLE_TRUNCATED,
    BUNDLE_UNREADABLE,
    BUNDLE_UNSAFE,
    NOT_A_BUNDLE,
)

#: Human-readable list of the content; no program trusts it.
INDEX_NAME = "index.json"
MAX_MEMBERS = 20_000
MAX_DIRECTORY_BYTES = 8_000_000
BLOCK = 1 << 20

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_LOCATOR, _END64 = b"PK\x06\x07", b"PK\x06\x06"
_LOCAL_FORM, _CENTRAL_FORM = "<4sHHHHHIIIHH", "<4sHHHHHHIIIHHHHHII"
_END_FORM, _LOCATOR_FORM, _END64_FORM = "<4sHHHHIIH", "<4sIQI", "<4sQHHIIQQQQ"
_END_SIZE, _LOCATOR_SIZE, _END64_SIZE = 22, 20, 56
_CENTRAL_SIZE = 46
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_UNIX, _PLAIN, _ZIP64 = 3 << 8, 20, 45
_DAY = 0x21  # 1980-01-01, the earliest date of the zip format
_FILE = 0o100644 << 16

_NAME = re.compile(
    r"index\.json"
    r"|metadata/(?:timestamp|[1-9][0-9]{0,9}\.[a-z][a-z0-9-]{0,40})\.json"
    r"|targets/(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._+!-]+(?:/[A-Za-z0-9._+!-]+)*"
)


@dataclass(frozen=True)
class BundleMember:
    """One member of a bundle.

    Attributes:
        name: Exact name.
        size: Length in bytes.
        crc: CRC-32; detects damage, not tampering.
        offset: Offset of its local header.
    """

    name: str
    size: int
    crc: int
    offset: int

    @property
    def start(self) -> int:
        """Return the offset of its data."""
        return self.offset + len(_encode_local_header(self))

    @property
    def end(self) -> int:
        """Return the offset after its data, where the next member begins."""
        return self.start + self.size


@dataclass(frozen=True)
class MemberSource:
    """Source of a member's bytes, for writing."""

    name: str
    size: int
    crc: int
    open: Callable[[], IO[bytes]]


def _encode_local_header(member: BundleMember) -> bytes:
    name, size = member.name.encode("ascii"), min(member.size, _FULL32)
    large = member.size >= _FULL32
    extra = struct.pack("<HHQQ", 1, 16, member.size, member.size) if large else b""
    head = struct.pack(
        _LOCAL_FORM, _LOCAL, _ZIP64 if large else _PLAIN, 0, 0, 0, _DAY, member.crc, size, size,
        len(name), len(extra),
    )  # fmt: skip
    return head + name + extra


def _encode_central_header(member: BundleMember) -> bytes:
    name, size = member.name.encode("ascii"), min(member.size, _FULL32)
    offset = min(member.offset, _FULL32)
    wide = b""
    if size == _FULL32:
        wide += struct.pack("<QQ", member.size, member.size)
    if offset == _FULL32:
        wide += struct.pack("<Q", member.offset)
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    version = _ZIP64 if wide else _PLAIN
    head = struct.pack(
        _CENTRAL_FORM, _CENTRAL, _UNIX | version, version, 0, 0, 0, _DAY, member.crc, size, size,
        len(name), len(extra), 0, 0, 0, _FILE, offset,
    )  # fmt: skip
    return head + name + extra


def _encode_directory(members: Sequence[BundleMember]) -> bytes:
    """Return the bytes after the members: central directory and end records."""
    begins = members[-1].end if members else 0
    entries = b"".join(_encode_central_header(member) for member in members)
    count, size = len(members), len(entries)
    wide = b""
    if count >= _FULL16 or begins >= _FULL32:
        wide = struct.pack(
            _END64_FORM, _END64, _END64_SIZE - 12, _UNIX | _ZIP64, _ZIP64, 0, 0, count, count,
            size, begins,
        ) + struct.pack(_LOCATOR_FORM, _LOCATOR, 0, begins + size, 1)  # fmt: skip
    few = min(count, _FULL16)
    end = struct.pack(_END_FORM, _END, 0, 0, few, few, size, min(begins, _FULL32), 0)
    return entries + wide + end


def get_member_name(path: str, sha256: str) -> str:
    """Return the member name of a target, as in a feed with consistent snapshots."""
    directory, _, base = path.rpartition("/")
    return f"targets/{directory}/{sha256}.{base}" if directory else f"targets/{sha256}.{base}"


# -- writing -----------------------------------------------------------------------------------


def plan_layout(sources: Iterable[MemberSource]) -> tuple[tuple[BundleMember, ...], int, bytes]:
    """Return the members of a bundle, its length in bytes, and the bytes after the members.

    Raises:
        ValueError: If a name is not that of a member.
    """
    members: list[BundleMember] = []
    at = 0
    for source in sources:
        if not _NAME.fullmatch(source.name):
            raise InvalidValueError(N_("{name}: invalid path"), name=repr(source.name))
        member = BundleMember(source.name, source.size, source.crc, at)
        members.append(member)
        at = member.end
    directory = _encode_directory(members)
    return tuple(members), at + len(directory), directory


def encode_bundle(sources: Sequence[MemberSource]) -> Iterator[bytes]:
    """Yield the bytes of a bundle in blocks.

    Raises:
        BUNDLE_ALTERED: If a source changed after its size and checksum were computed.
        ValueError: If a name is not that of a member.
    """
    members, _, directory = plan_layout(sources)
    for source, member in zip(sources, members, strict=True):
        yield _encode_local_header(member)
        crc, size = 0, 0
        with source.open() as stream:
            while block := stream.read(BLOCK):
                crc, size = zlib.crc32(block, crc), size + len(block)
                yield block
        if (crc, size) != (source.crc, source.size):
            raise UpdaterError(BUNDLE_ALTERED, name=source.name)
    yield directory


# -- reading -----------------------------------------------------------------------------------


def read_members(bundle: BundleFile) -> dict[str, BundleMember]:
    """Read and check the central directory of a bundle.

    Raises:
        NOT_A_BUNDLE: If the file is not a bundle.
        BUNDLE_TRUNCATED: If its end is missing.
        BUNDLE_UNSAFE: If it has content that the writer never writes.
        BUNDLE_ALTERED: If its headers contradict each other.
    """
    if bundle.size < _END_SIZE or bundle.read_at(0, 4) != _LOCAL:
        raise UpdaterError(NOT_A_BUNDLE, path=bundle.path)
    begins, size, count, tail = _find_directory(bundle)
    if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise _make_unsafe_error("zip", N_("too many entries"))
    if begins + size + tail != bundle.size:
        raise _make_unsafe_error("zip", N_("length mismatch"))
    content = bundle.read_at(begins, size + tail)
    members = _parse_directory(content[:size], count)
    names = set()
    for member in members:
        if member.name in names:
            raise _make_unsafe_error(member.name, N_("duplicate path"))
        names.add(member.name)
    at = 0
    for member in members:
        if member.offset != at or member.end > begins:
            raise _make_unsafe_error(member.name, N_("members overlap or leave gaps"))
        head = _encode_local_header(member)
        if bundle.read_at(at, len(head)) != head:
            raise UpdaterError(BUNDLE_ALTERED, name=member.name)
        at = member.end
    if at != begins or content != _encode_directory(members):
        raise UpdaterError(BUNDLE_ALTERED, name="zip")
    return {member.name: member for member in members}


def _make_unsafe_error(name: str, reason: str) -> UpdaterError:
    return UpdaterError(BUNDLE_UNSAFE, name=name, reason=LazyText(reason))


def _find_directory(bundle: BundleFile) -> tuple[int, int, int, int]:
    """Return offset, length and entry count of the directory, and the length of what follows."""
    end = bundle.read_at(bundle.size - _END_SIZE, _END_SIZE)
    signature, disk, first, here, count, size, begins, comment = struct.unpack(_END_FORM, end)
    if signature != _END:
        raise UpdaterError(BUNDLE_TRUNCATED, path=bundle.path)
    if disk or first or here != count or comment:
        raise _make_unsafe_error("zip", N_("length mismatch"))
    if begins != _FULL32 and count != _FULL16:
        return begins, size, count, _END_SIZE
    tail = _END_SIZE + _LOCATOR_SIZE + _END64_SIZE
    if bundle.size < tail:
        raise _make_unsafe_error("zip", N_("length mismatch"))
    wide = bundle.read_at(bundle.size - tail, _END64_SIZE)
    fields = struct.unpack(_END64_FORM, wide)
    if fields[0] != _END64:
        raise _make_unsafe_error("zip", N_("length mismatch"))
    return fields[9], fields[8], fields[7], tail


def _parse_directory(content: bytes, count: int) -> list[BundleMember]:
    members = []
    at = 0
    for _ in range(count):
        if at + _CENTRAL_SIZE > len(content):
            raise _make_unsafe_error("zip", N_("length mismatch"))
        fields = struct.unpack_from(_CENTRAL_FORM, content, at)
        length, extra, comment = fields[10:13]
        ends = at + _CENTRAL_SIZE + length + extra + comment
        if fields[0] != _CENTRAL or ends > len(content):
            raise UpdaterError(BUNDLE_ALTERED, name="zip")
        name = at + _CENTRAL_SIZE
        raw = content[name : name + length]
        wide = content[name + length : name + length + extra]
        members.append(_parse_member(raw, fields, wide))
        at = ends
    return members


def _parse_member(raw: bytes, fields: tuple[int, ...], extra: bytes) -> BundleMember:
    name = raw.decode("ascii", "backslashreplace")
    flags, method, crc, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    mode, offset = fields[15], fields[16]
    if flags & 1 or method:
        raise _make_unsafe_error(name, N_("compressed or encrypted"))
    if mode != _FILE:
        raise _make_unsafe_error(name, N_("not a regular file"))
    if not _NAME.fullmatch(name):
        raise _make_unsafe_error(name, N_("unknown member name"))
    if packed != size:
        raise _make_unsafe_error(name, N_("length mismatch"))
    wanted = (16 if size == _FULL32 else 0) + (8 if offset == _FULL32 else 0)
    if wanted:
        if len(extra) != 4 + wanted or extra[:4] != struct.pack("<HH", 1, wanted):
            raise _make_unsafe_error(name, N_("length mismatch"))
        values = list(struct.unpack(f"<{wanted // 8}Q", extra[4:]))
        if size == _FULL32:
            size, second = values[:2]
            if size != second:
                raise _make_unsafe_error(name, N_("length mismatch"))
        if offset == _FULL32:
            offset = values[-1]
    return BundleMember(name, size, crc, offset)


def verify_checksums(
    bundle: BundleFile,
    members: Iterable[BundleMember],
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Read every member and compare its checksum.

    Args:
        bundle: The bundle.
        members: Its members.
        on_bytes: Receives the number of bytes read so far.

    Raises:
        BUNDLE_ALTERED: If a member is damaged; names the first one.
    """
    done = 0
    for member in members:
        crc, at = 0, member.start
        while at < member.end:
            block = bundle.read_at(at, min(BLOCK, member.end - at))
            crc, at, done = zlib.crc32(block, crc), at + len(block), done + len(block)
            on_bytes(done)
        if crc != member.crc:
            raise UpdaterError(BUNDLE_ALTERED, name=member.name)


def open_bundle_file(path: Path) -> int:
    """Open a bundle and return the descriptor, for the process that reads it.

    Raises:
        BUNDLE_UNREADABLE: If the file does not exist or cannot be opened.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _make_unreadable_error(path, error) from error


class BundleFile:
    """A bundle that is open for reading.

    Args:
        path: Its path, for messages.
        descriptor: The open file.

    Attributes:
        path: Its path, for messages.
        size: Length in bytes.

    Raises:
        NOT_A_BUNDLE: If it is not a regular file.
        BUNDLE_UNREADABLE: If ``fstat`` fails.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        try:
            info = os.fstat(descriptor)
        except OSError as error:
            raise _make_unreadable_error(path, error) from error
        if not stat.S_ISREG(info.st_mode):
            raise UpdaterError(NOT_A_BUNDLE, path=path)
        self.size = info.st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes.

        Raises:
            BUNDLE_UNREADABLE: If reading fails.
            BUNDLE_TRUNCATED: If the file ends before.
        """
        content = b""
        try:
            while len(content) < length:
                at = offset + len(content)
                more = os.pread(self._descriptor, length - len(content), at)
                if not more:
                    raise UpdaterError(BUNDLE_TRUNCATED, path=self.path)
                content += more
        except OSError as error:
            raise _make_unreadable_error(self.path, error) from error
        return content


@contextlib.contextmanager
def open_bundle(path: Path, descriptor: int | None = None) -> Iterator[BundleFile]:
    """Open a bundle for the duration of the block.

    Args:
        path: Path of the bundle.
        descriptor: The same file, opened by a process with more rights; closed at the end.

    Raises:
        BUNDLE_UNREADABLE, NOT_A_BUNDLE: If it cannot be read.
    """
    opened = open_bundle_file(path) if descriptor is None else descriptor
    try:
        yield BundleFile(path, opened)
    finally:
        os.close(opened)


def _make_unreadable_error(path: Path, error: OSError | ValueError) -> UpdaterError:
    """Return the error for an unreadable bundle, with the system's message without its number."""
    text = error.strerror if isinstance(error, OSError) else None
    return UpdaterError(BUNDLE_UNREADABLE, path=path, detail=text or str(error))
