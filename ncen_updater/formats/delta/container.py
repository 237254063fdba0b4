"""The pack as a file: a magic word, the lengths of the index, the index, the streams.

::

    8 bytes   NCENDLT1
    32 bytes  digest of the tree that it starts from
    32 bytes  digest of the tree that it gives
    4 bytes   length of the index as it stands here (little endian)
    4 bytes   length of the index when it is unpacked
    ...       the index: raw LZMA2
    ...       the streams of the groups, without gaps, to the end of the file
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from ncen_updater.formats.delta.index_columns import Malformed, NumberTooLarge
from ncen_updater.formats.delta.layout import LayoutPlan
from ncen_updater.formats.delta.streams import Extent, LzmaReader, pack_stream

MAGIC = b"NCENDLT1"
HEAD = struct.Struct("<8s32s32s2I")
MAX_INDEX_BYTES = 16 << 20


@dataclass(frozen=True)
class Header:
    """The start of a pack.

    Attributes:
        from_tree: Digest of the old tree, hexadecimal.
        to_tree: Digest of the new one.
        index: Where the index is.
    """

    from_tree: str
    to_tree: str
    index: Extent

    @property
    def streams_start(self) -> int:
        """Offset of the first stream."""
        return self.index.start + self.index.packed


def read_header(descriptor: int) -> Header:
    """Read the start of a pack.

    Raises:
        Malformed: If it is no pack.
        TooLarge: If its index is larger than any can be.
    """
    content = os.pread(descriptor, HEAD.size, 0)
    if len(content) < HEAD.size or not content.startswith(MAGIC):
        raise Malformed("it does not begin as a pack does")
    _, origin, result, packed, plain = HEAD.unpack(content)
    if plain > MAX_INDEX_BYTES or packed > MAX_INDEX_BYTES:
        raise NumberTooLarge(f"an index of {plain} bytes")
    return Header(origin.hex(), result.hex(), Extent(HEAD.size, packed, plain))


def read_index(descriptor: int, header: Header) -> bytes:
    """Unpack the index.

    Raises:
        Malformed: If it is damaged.
    """
    reader = LzmaReader(descriptor, header.index)
    content = reader.read(header.index.plain)
    reader.end()
    return content


def check_end(descriptor: int, header: Header, plan: LayoutPlan) -> None:
    """Check that the streams are all there, and nothing after them.

    Raises:
        Malformed: If the file has another length.
    """
    end = header.streams_start
    if plan.groups:
        last = plan.groups[-1].streams[-1]
        end = last.start + last.packed
    if os.fstat(descriptor).st_size != end:
        raise Malformed(f"the file has another length than {end} bytes")


def write_header(from_tree: str, to_tree: str, index: bytes) -> bytes:
    """Return the start of a pack, with its index."""
    packed = pack_stream(index)
    origin, result = bytes.fromhex(from_tree), bytes.fromhex(to_tree)
    return HEAD.pack(MAGIC, origin, result, len(packed), len(index)) + packed
