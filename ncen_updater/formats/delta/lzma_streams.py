"""Bytes of a pack, read with every bound checked: columns, pieces of files, compressed streams.

Streams are raw LZMA2, read forwards in small pieces, never past what is said. The size of the
dictionary is not in the pack: it follows from the length of the stream, and is 8 MiB at most, so
that no pack can ask for more memory than that a stream.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ncen_updater.common.i18n import N_, LazyText

MAX_BITS = 63


class MalformedColumnError(ValueError):
    """Bytes that are no column of a pack."""


def put_number(column: bytearray, value: int) -> None:
    """Append a number of at most 63 bits: seven bits a byte, the lowest first."""
    if not 0 <= value < 1 << MAX_BITS:
        raise ValueError(value)
    while value > 0x7F:
        column.append(value & 0x7F | 0x80)
        value >>= 7
    column.append(value)


def put_signed(column: bytearray, value: int) -> None:
    """Append a number that may be below zero."""
    put_number(column, value << 1 if value >= 0 else (-value << 1) - 1)


def put_text(column: bytearray, text: str) -> None:
    """Append a text with its length in bytes."""
    content = text.encode()
    put_number(column, len(content))
    column += content


class ReferenceOutOfRangeError(ValueError):
    """A reference to what does not exist: outside a file, of no member, or not adding up."""


class NumberTooLargeError(ValueError):
    """More than was signed, or than any pack may have."""


class ColumnReader:
    """Reads a column from its start.

    Every way to run over its end is :class:`MalformedColumnError`.

    Args:
        content: The column.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def read_number(self, most: int = (1 << MAX_BITS) - 1) -> int:
        """Take a number, not larger than ``most``."""
        value = shift = 0
        while True:
            if self._at >= len(self._content) or shift >= MAX_BITS:
                raise MalformedColumnError("invalid number")
            byte = self._content[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if byte == 0 and shift > 7:
            raise MalformedColumnError("invalid number")
        if value > most:
            raise MalformedColumnError("invalid number")
        return value

    def read_signed(self) -> int:
        """Take a number that may be below zero."""
        value = self.read_number()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def read_bytes(self, length: int) -> bytes:
        """Take some bytes."""
        if length > len(self._content) - self._at:
            raise MalformedColumnError("truncated stream")
        self._at += length
        return self._content[self._at - length : self._at]

    def read_text(self, most: int) -> str:
        """Take a text of at most so many bytes."""
        return self.read_bytes(self.read_number(most)).decode()

    @property
    def remaining_bytes(self) -> int:
        """Return how many bytes were not taken."""
        return len(self._content) - self._at

    def check_exhausted(self) -> None:
        """Check that nothing is left."""
        if self.remaining_bytes:
            raise MalformedColumnError("trailing data")


READ_AHEAD_BYTES = 128 << 10


class ReadAheadFile:
    """Reads a larger piece at a time and cuts from it.

    Args:
        descriptor: Returns a descriptor of the file; it is asked each time, as it may change.
    """

    def __init__(self, descriptor: Callable[[], int]) -> None:
        self._descriptor = descriptor
        self._start, self._content = 0, b""

    def read(self, at: int, length: int) -> bytes:
        """Return some of the bytes from an offset on; none only where the file ends."""
        skip = at - self._start
        if not 0 <= skip < len(self._content):
            self._start, skip = at, 0
            self._content = os.pread(self._descriptor(), READ_AHEAD_BYTES, at)
        return self._content[skip : skip + length]

    def read_exactly(self, at: int, length: int) -> bytes:
        """Return these bytes, a few; fewer where the file ends before."""
        piece = self.read(at, length)
        return piece if len(piece) == length else os.pread(self._descriptor(), length, at)


MIN_DICTIONARY_BYTES = 4 << 10
MAX_DICTIONARY_BYTES = 8 << 20
PIECE = 64 << 10


@dataclass(frozen=True)
class Extent:
    """A stream in the pack.

    Attributes:
        start: Offset of its first byte in the file.
        packed_bytes: Its length there, in bytes.
        plain_bytes: Its length when it is unpacked, in bytes.
    """

    start: int
    packed_bytes: int
    plain_bytes: int


def compute_dictionary_bytes(plain: int) -> int:
    """Bytes of the dictionary of a stream: the next power of two, from 4 KiB to 8 MiB."""
    size = MIN_DICTIONARY_BYTES
    while size < plain and size < MAX_DICTIONARY_BYTES:
        size *= 2
    return size


def _make_filters(plain: int, **options: int) -> Sequence[dict[str, Any]]:
    return [{"id": lzma.FILTER_LZMA2, "dict_size": compute_dictionary_bytes(plain), **options}]


class LzmaWriter:
    """Compresses one stream.

    Args:
        plain: Its length in bytes.
        lc: How many bits of the byte before help to foretell the next.
    """

    def __init__(self, plain: int, lc: int = 3) -> None:
        options = {"preset": 9 | lzma.PRESET_EXTREME, "lc": lc, "lp": 0, "pb": 0}
        self._packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_make_filters(plain, **options))

    def compress(self, piece: bytes) -> bytes:
        """Take some bytes; return what is ready of the stream."""
        return self._packer.compress(piece)

    def flush(self) -> bytes:
        """Return the rest of the stream."""
        return self._packer.flush()


def compress_stream(content: bytes) -> bytes:
    """Compress a stream whole; an empty one stays empty."""
    if not content:
        return b""
    packer = LzmaWriter(len(content))
    return packer.compress(content) + packer.flush()


class LzmaReader:
    """Reads one stream of a pack.

    Args:
        descriptor: The pack.
        extent: Where the stream is.
    """

    def __init__(self, descriptor: int, extent: Extent) -> None:
        self._file, self._next, self._left = descriptor, extent.start, extent.packed_bytes
        self._plain = extent.plain_bytes
        self._buffer, self._at = b"", 0
        self._unpacker: lzma.LZMADecompressor | None = None
        if extent.packed_bytes:
            self._unpacker = lzma.LZMADecompressor(
                lzma.FORMAT_RAW, filters=_make_filters(extent.plain_bytes)
            )

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            MalformedColumnError: If the stream has fewer, or is not what LZMA2 writes.
        """
        end = self._at + size
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < size:
            piece = self._read_more()
            parts.append(piece)
            have += len(piece)
        spare = have - size
        last = parts[-1]
        self._buffer, self._at = last, len(last) - spare
        if spare:
            parts[-1] = last[: len(last) - spare]
        return b"".join(parts)

    def check_exhausted(self) -> None:
        """Check that the stream ends here, in the pack too.

        Raises:
            MalformedColumnError: If it does not.
        """
        if self._plain or self._at != len(self._buffer):
            raise MalformedColumnError("length mismatch")
        if self._unpacker is None:
            return
        while not self._unpacker.eof:
            if self._decompress(1):
                raise MalformedColumnError("length mismatch")
        if self._left or self._unpacker.unused_data:
            raise MalformedColumnError("trailing data")

    def _read_more(self) -> bytes:
        while self._unpacker is not None and self._plain and not self._unpacker.eof:
            piece = self._decompress(min(PIECE, self._plain))
            if piece:
                self._plain -= len(piece)
                return piece
        raise MalformedColumnError("truncated stream")

    def _decompress(self, most: int) -> bytes:
        assert self._unpacker is not None  # noqa: S101 - both callers looked
        packed = b""
        if self._unpacker.needs_input:
            packed = os.pread(self._file, min(PIECE, self._left), self._next)
            if not packed:
                raise MalformedColumnError("truncated stream")
            self._next += len(packed)
            self._left -= len(packed)
        try:
            return self._unpacker.decompress(packed, most)
        except lzma.LZMAError as error:
            raise MalformedColumnError(
                LazyText(N_("stream cannot be unpacked: {reason}"), {"reason": str(error)})
            ) from error
