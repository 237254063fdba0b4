"""Read and write the bytes of a pack with all bounds checked: columns, file ranges, LZMA2 streams.

Streams are raw LZMA2, read forwards in small pieces and never past their stated length. The size of
the dictionary is not stored in the pack. It follows from the length of the stream and is at most
8 MiB, which limits the memory per stream.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ncen_updater.common.errors import InvalidValueError
from ncen_updater.common.i18n import N_

MAX_BITS = 63


class MalformedPackError(InvalidValueError):
    """A pack that is damaged, or exceeds a limit."""


def put_number(column: bytearray, value: int) -> None:
    """Append a number of at most 63 bits: seven bits per byte, the lowest first."""
    if not 0 <= value < 1 << MAX_BITS:
        raise ValueError(value)
    while value > 0x7F:
        column.append(value & 0x7F | 0x80)
        value >>= 7
    column.append(value)


def put_signed(column: bytearray, value: int) -> None:
    """Append a number that may be negative."""
    put_number(column, value << 1 if value >= 0 else (-value << 1) - 1)


def put_text(column: bytearray, text: str) -> None:
    """Append a text, preceded by its length in bytes."""
    content = text.encode()
    put_number(column, len(content))
    column += content


class ColumnReader:
    """Reads a column from its start.

    Reading past its end raises :class:`MalformedPackError`.

    Args:
        content: The column.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def read_number(self, most: int = (1 << MAX_BITS) - 1) -> int:
        """Read a number, at most ``most``."""
        value = shift = 0
        while True:
            if self._at >= len(self._content) or shift >= MAX_BITS:
                raise MalformedPackError("invalid number")
            byte = self._content[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if byte == 0 and shift > 7:
            raise MalformedPackError("invalid number")
        if value > most:
            raise MalformedPackError("invalid number")
        return value

    def read_signed(self) -> int:
        """Read a number that may be negative."""
        value = self.read_number()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def read_bytes(self, length: int) -> bytes:
        """Read ``length`` bytes."""
        if length > len(self._content) - self._at:
            raise MalformedPackError("truncated stream")
        self._at += length
        return self._content[self._at - length : self._at]

    def read_text(self, most: int) -> str:
        """Read a text of at most ``most`` bytes."""
        return self.read_bytes(self.read_number(most)).decode()

    @property
    def remaining_bytes(self) -> int:
        """Return the number of unread bytes."""
        return len(self._content) - self._at

    def check_exhausted(self) -> None:
        """Raise MalformedPackError if bytes are left."""
        if self.remaining_bytes:
            raise MalformedPackError("trailing data")


READ_AHEAD_BYTES = 128 << 10


class ReadAheadFile:
    """Reads a file in large blocks and returns parts of them.

    Args:
        descriptor: Returns a descriptor of the file; called for each block, as it may change.
    """

    def __init__(self, descriptor: Callable[[], int]) -> None:
        self._descriptor = descriptor
        self._start, self._content = 0, b""

    def read(self, at: int, length: int) -> bytes:
        """Return some bytes from an offset; empty only at the end of the file."""
        skip = at - self._start
        if not 0 <= skip < len(self._content):
            self._start, skip = at, 0
            self._content = os.pread(self._descriptor(), READ_AHEAD_BYTES, at)
        return self._content[skip : skip + length]

    def read_exactly(self, at: int, length: int) -> bytes:
        """Return exactly ``length`` bytes, for few bytes; fewer at the end of the file."""
        piece = self.read(at, length)
        return piece if len(piece) == length else os.pread(self._descriptor(), length, at)


MIN_DICTIONARY_BYTES = 4 << 10
MAX_DICTIONARY_BYTES = 8 << 20
PIECE = 64 << 10


@dataclass(frozen=True)
class Extent:
    """Position of a stream in the pack.

    Attributes:
        start: Offset of its first byte.
        packed_bytes: Its compressed length.
        plain_bytes: Its decompressed length.
    """

    start: int
    packed_bytes: int
    plain_bytes: int


def compute_dictionary_bytes(plain: int) -> int:
    """Return the dictionary size of a stream: the next power of two, from 4 KiB to 8 MiB."""
    size = MIN_DICTIONARY_BYTES
    while size < plain and size < MAX_DICTIONARY_BYTES:
        size *= 2
    return size


def _make_filters(plain: int, **options: int) -> Sequence[dict[str, Any]]:
    return [{"id": lzma.FILTER_LZMA2, "dict_size": compute_dictionary_bytes(plain), **options}]


class LzmaWriter:
    """Compresses one stream.

    Args:
        plain: Length of the stream in bytes.
        lc: LZMA's ``lc``: bits of the previous byte used to predict the next.
    """

    def __init__(self, plain: int, lc: int = 3) -> None:
        options = {"preset": 9 | lzma.PRESET_EXTREME, "lc": lc, "lp": 0, "pb": 0}
        self._packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_make_filters(plain, **options))

    def compress(self, piece: bytes) -> bytes:
        """Compress a piece; return the output that is ready."""
        return self._packer.compress(piece)

    def flush(self) -> bytes:
        """Return the rest of the output."""
        return self._packer.flush()


def compress_stream(content: bytes) -> bytes:
    """Compress a whole stream; an empty one stays empty."""
    if not content:
        return b""
    packer = LzmaWriter(len(content))
    return packer.compress(content) + packer.flush()


class PieceReader:
    """Reads pieces of any length as one stream.

    Args:
        pieces: The pieces.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._buffer, self._at = pieces, b"", 0

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes; raise an error if there are fewer."""
        end = self._at + size
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < size:
            self._buffer = next(self._pieces, b"")
            if not self._buffer:
                raise MalformedPackError("length mismatch")
            parts.append(self._buffer)
            have += len(self._buffer)
        self._at = len(self._buffer) - (have - size)
        parts[-1] = self._buffer[: self._at]
        return b"".join(parts)

    def check_exhausted(self) -> None:
        """Raise an error if bytes are left."""
        if self._at != len(self._buffer) or next(self._pieces, b""):
            raise MalformedPackError("length mismatch")


class LzmaReader(PieceReader):
    """Reads one stream of a pack. Errors are :class:`MalformedPackError`.

    Args:
        descriptor: The pack.
        extent: Position of the stream.
    """

    def __init__(self, descriptor: int, extent: Extent) -> None:
        filters = _make_filters(extent.plain_bytes)
        super().__init__(
            decompress_extent(
                descriptor,
                extent,
                lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters),
                lzma.LZMAError,
            )
        )


def decompress_extent(
    descriptor: int, extent: Extent, make_unpacker: Callable[[], Any], error_class: type[Exception]
) -> Iterator[bytes]:
    """Yield the content of a stream, in pieces.

    Args:
        descriptor: The pack.
        extent: Position of the stream; an empty one has no compressed data.
        make_unpacker: Returns the decompressor of a library.
        error_class: Error of this library.

    Raises:
        MalformedPackError: If the stream is damaged or has another length.
    """
    at, left, plain = extent.start, extent.packed_bytes, extent.plain_bytes
    unpacker = make_unpacker() if left else None
    while unpacker is not None and not unpacker.eof:
        packed = b""
        if unpacker.needs_input:
            packed = os.pread(descriptor, min(PIECE, left), at)
            if not packed:
                raise MalformedPackError("truncated stream")
            at += len(packed)
            left -= len(packed)
        try:
            piece = unpacker.decompress(packed, PIECE)
        except error_class as error:
            raise MalformedPackError(
                N_("stream cannot be unpacked: {reason}"), reason=str(error)
            ) from error
        plain -= len(piece)
        if plain < 0:
            raise MalformedPackError("length mismatch")
        if piece:
            yield piece
    if plain or left or (unpacker is not None and unpacker.unused_data):
        raise MalformedPackError("length mismatch")
