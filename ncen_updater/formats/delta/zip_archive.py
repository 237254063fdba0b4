"""Archives of the zip family (jar, war, wheel) as lists of members.

Publisher and agent both read the member table from the same verified file, so a pack does not have
to contain it. A file that is unusual in any way (overlapping members, encryption, over 4 GiB, over
a million members) is not treated as an archive.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ncen_updater.formats.delta.lzma_streams import ReadAheadFile

MAX_MEMBERS = 1_000_000
MAX_DIRECTORY = 256 << 20
STORED, DEFLATED = 0, 8
LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
END64_AT = struct.Struct("<4sIQI")
END64 = struct.Struct("<4sQ2H2I4Q")
MAX_COMMENT = 0xFFFF
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF
ENCRYPTED = 0x1 | 0x40 | 0x2000
PIECE = 256 << 10


class NotAnArchiveError(ValueError):
    """A file that is not a zip archive, or has unsupported features."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """Position of a member's data.

    Attributes:
        start: Offset of the first byte.
        packed: Compressed bytes.
        plain: Decompressed bytes.
        method: ``STORED`` or ``DEFLATED``.
    """

    start: int
    packed: int
    plain: int
    method: int

    @property
    def end(self) -> int:
        """Return the offset after the last byte."""
        return self.start + self.packed


class ZipTable:
    """The non-empty members of an archive, in the order of the file.

    They are stored in arrays, since there may be many thousands.

    Args:
        descriptor: The file.
        names: Whether to store names, too; the publisher pairs members by name.

    Raises:
        NotAnArchiveError: If the file is not a supported archive.
    """

    def __init__(self, descriptor: int, *, names: bool = False) -> None:
        self._file = descriptor
        self.size = os.fstat(descriptor).st_size
        self.names: list[bytes] = []
        self.checks = array("I")
        self._starts, self.packed, self.plain = array("Q"), array("Q"), array("Q")
        self._methods = bytearray()
        try:
            self._read(names)
        except (struct.error, OverflowError) as error:
            raise NotAnArchiveError(str(error)) from error

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> ZipMember:
        return ZipMember(
            self._starts[index], self.packed[index], self.plain[index], self._methods[index]
        )

    def get_gap(self, index: int) -> tuple[int, int]:
        """Return offset and length of the bytes between a member's data and the previous member's.

        For the index after the last member: the bytes after all data.
        """
        start = self._starts[index - 1] + self.packed[index - 1] if index else 0
        end = self._starts[index] if index < len(self) else self.size
        return start, end - start

    def _read(self, names: bool) -> None:
        count, start, length = self._find_directory()
        if count > MAX_MEMBERS or length > MAX_DIRECTORY or start + length > self.size:
            raise NotAnArchiveError("damaged archive")
        ahead = ReadAheadFile(lambda: self._file)
        rows = sorted(self._read_rows(os.pread(self._file, length, start), count, names))
        end = 0
        for header, packed, plain, check, method, name in rows:
            if header < end:
                raise NotAnArchiveError("damaged archive")
            data = _find_data_start(ahead, header)
            end = data + packed
            if end > start:
                raise NotAnArchiveError("damaged archive")
            if packed:
                self._starts.append(data)
                self.packed.append(packed)
                self.plain.append(plain)
                self._methods.append(method)
                self.checks.append(check)
                if names:
                    self.names.append(name)

    def _find_directory(self) -> tuple[int, int, int]:
        """Return the number of members, and the offset and length of the central directory."""
        at = max(0, self.size - END.size - MAX_COMMENT)
        tail = os.pread(self._file, self.size - at, at)
        found = tail.rfind(b"PK\5\6")
        if found < 0 or len(tail) - found < END.size:
            raise NotAnArchiveError("damaged archive")
        _, disk, first, here, count, length, start, comment = END.unpack_from(tail, found)
        if disk or first or here != count or found + END.size + comment != len(tail):
            raise NotAnArchiveError("damaged archive")
        if count == FULL16 or FULL32 in (length, start):
            return self._find_directory64(at + found)
        return count, start, length

    def _find_directory64(self, end: int) -> tuple[int, int, int]:
        if end < END64_AT.size:
            raise NotAnArchiveError("damaged archive")
        mark, disk, where, disks = END64_AT.unpack(
            os.pread(self._file, END64_AT.size, end - END64_AT.size)
        )
        if mark != b"PK\6\7" or disk or disks > 1 or where > end:
            raise NotAnArchiveError("damaged archive")
        fields = END64.unpack(os.pread(self._file, END64.size, where))
        if fields[0] != b"PK\6\6" or fields[4] or fields[5] or fields[6] != fields[7]:
            raise NotAnArchiveError("damaged archive")
        return fields[7], fields[9], fields[8]

    def _read_rows(
        self, directory: bytes, count: int, names: bool
    ) -> Iterator[tuple[int, int, int, int, int, bytes]]:
        at = 0
        for _ in range(count):
            (
                mark, _made, _needs, flags, method, _time, _date, check, packed, plain,
                name, extra, comment, _disk, _inside, _outside, header,
            ) = CENTRAL.unpack_from(directory, at)  # fmt: skip
            if mark != b"PK\1\2" or flags & ENCRYPTED or method not in (STORED, DEFLATED):
                raise NotAnArchiveError("unsupported archive member")
            if FULL32 in (packed, plain, header) or (method == STORED and packed != plain):
                raise NotAnArchiveError("damaged archive")
            at += CENTRAL.size
            yield header, packed, plain, check, method, directory[at : at + name] if names else b""
            at += name + extra + comment
        if at != len(directory):
            raise NotAnArchiveError("damaged archive")


def _find_data_start(ahead: ReadAheadFile, header: int) -> int:
    fields = LOCAL.unpack(ahead.read_exactly(header, LOCAL.size))
    if fields[0] != b"PK\3\4":
        raise NotAnArchiveError("damaged archive")
    return header + LOCAL.size + int(fields[9]) + int(fields[10])


def inflate_member(descriptor: int, member: ZipMember) -> Iterator[bytes]:
    """Yield the content of a member in pieces, never more than its stated size.

    Raises:
        NotAnArchiveError: If its size differs or its data is damaged.
    """
    left, at = member.plain, member.start
    if member.method == STORED:
        while at < member.end:
            piece = os.pread(descriptor, min(PIECE, member.end - at), at)
            if not piece:
                raise NotAnArchiveError("truncated archive")
            at += len(piece)
            yield piece
        return
    unpacker = zlib.decompressobj(-15)
    pending = b""
    while not unpacker.eof:
        if not pending and at < member.end:
            pending = os.pread(descriptor, min(PIECE, member.end - at), at)
            at += len(pending)
        try:
            piece = unpacker.decompress(pending, min(PIECE, left + 1))
        except zlib.error as error:
            raise NotAnArchiveError(str(error)) from error
        pending = unpacker.unconsumed_tail
        left -= len(piece)
        if left < 0:
            raise NotAnArchiveError("damaged archive")
        if not piece and not pending and at >= member.end and not unpacker.eof:
            raise NotAnArchiveError("truncated archive")
        yield piece
    if left or unpacker.unused_data or pending or at < member.end:
        raise NotAnArchiveError("damaged archive")


def count_view_bytes(table: ZipTable, members: Sequence[int]) -> int:
    """Count the bytes that ``iter_view`` yields.

    Raises:
        NotAnArchiveError: If a member does not exist.
    """
    if members and members[-1] >= len(table):
        raise NotAnArchiveError("damaged archive")
    return table.size - sum(table.packed) + sum(table.plain[index] for index in members)


def iter_view(table: ZipTable, descriptor: int, members: Sequence[int]) -> Iterator[bytes]:
    """Yield an archive without its members' data, except for the decompressed data of ``members``.

    Raises:
        NotAnArchiveError: If a member does not exist or is damaged.
    """
    if members and members[-1] >= len(table):
        raise NotAnArchiveError("damaged archive")
    ahead, chosen = ReadAheadFile(lambda: descriptor), iter(members)
    wanted = next(chosen, None)
    for index in range(len(table) + 1):
        at, length = table.get_gap(index)
        while length:
            piece = ahead.read(at, length)
            if not piece:
                raise NotAnArchiveError("truncated archive")
            at += len(piece)
            length -= len(piece)
            yield piece
        if index == wanted:
            yield from inflate_member(descriptor, table[index])
            wanted = next(chosen, None)
