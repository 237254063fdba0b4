"""Compressed streams of a pack: raw LZMA2, read forwards in small pieces, never past what is said.

The size of the dictionary is not in the pack: it follows from the length of the stream, and is
8 MiB at most, so that no pack can ask for more memory than that a stream.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ncen_updater.formats.delta.index_columns import Malformed

MIN_DICTIONARY = 4 << 10
MAX_DICTIONARY = 8 << 20
PIECE = 64 << 10


@dataclass(frozen=True)
class Extent:
    """A stream in the pack.

    Attributes:
        start: Offset of its first byte in the file.
        packed: Its length there, in bytes.
        plain: Its length when it is unpacked, in bytes.
    """

    start: int
    packed: int
    plain: int


def dictionary_bytes(plain: int) -> int:
    """Bytes of the dictionary of a stream: the next power of two, from 4 KiB to 8 MiB."""
    size = MIN_DICTIONARY
    while size < plain and size < MAX_DICTIONARY:
        size *= 2
    return size


def _filters(plain: int, **options: int) -> Sequence[dict[str, Any]]:
    return [{"id": lzma.FILTER_LZMA2, "dict_size": dictionary_bytes(plain), **options}]


class Packer:
    """Compresses one stream.

    Args:
        plain: Its length in bytes.
        lc: How many bits of the byte before help to foretell the next.
    """

    def __init__(self, plain: int, lc: int = 3) -> None:
        options = {"preset": 9 | lzma.PRESET_EXTREME, "lc": lc, "lp": 0, "pb": 0}
        self._packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_filters(plain, **options))

    def compress(self, piece: bytes) -> bytes:
        """Take some bytes; return what is ready of the stream."""
        return self._packer.compress(piece)

    def flush(self) -> bytes:
        """Return the rest of the stream."""
        return self._packer.flush()


def pack_stream(content: bytes) -> bytes:
    """Compress a stream whole; an empty one stays empty."""
    if not content:
        return b""
    packer = Packer(len(content))
    return packer.compress(content) + packer.flush()


class LzmaReader:
    """Reads one stream of a pack.

    Args:
        descriptor: The pack.
        extent: Where the stream is.
    """

    def __init__(self, descriptor: int, extent: Extent) -> None:
        self._file, self._next, self._left = descriptor, extent.start, extent.packed
        self._plain = extent.plain
        self._buffer, self._at = b"", 0
        self._unpacker: lzma.LZMADecompressor | None = None
        if extent.packed:
            self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(extent.plain))

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            Malformed: If the stream has fewer, or is not what LZMA2 writes.
        """
        end = self._at + size
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < size:
            piece = self._more()
            parts.append(piece)
            have += len(piece)
        spare = have - size
        last = parts[-1]
        self._buffer, self._at = last, len(last) - spare
        if spare:
            parts[-1] = last[: len(last) - spare]
        return b"".join(parts)

    def end(self) -> None:
        """Check that the stream ends here, in the pack too.

        Raises:
            Malformed: If it does not.
        """
        if self._plain or self._at != len(self._buffer):
            raise Malformed("a stream is longer than what it is for")
        if self._unpacker is None:
            return
        while not self._unpacker.eof:
            if self._step(1):
                raise Malformed("a stream is longer than it says")
        if self._left or self._unpacker.unused_data:
            raise Malformed("a stream has bytes after its end")

    def _more(self) -> bytes:
        while self._unpacker is not None and self._plain and not self._unpacker.eof:
            piece = self._step(min(PIECE, self._plain))
            if piece:
                self._plain -= len(piece)
                return piece
        raise Malformed("a stream ends early")

    def _step(self, most: int) -> bytes:
        assert self._unpacker is not None  # noqa: S101 - both callers looked
        packed = b""
        if self._unpacker.needs_input:
            packed = os.pread(self._file, min(PIECE, self._left), self._next)
            if not packed:
                raise Malformed("a stream ends early")
            self._next += len(packed)
            self._left -= len(packed)
        try:
            return self._unpacker.decompress(packed, most)
        except lzma.LZMAError as error:
            raise Malformed(f"a stream cannot be unpacked: {error}") from error
