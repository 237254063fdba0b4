"""Alternative to covers: one zstd frame with the old files of a group as prefix.

It needs old and new files in memory, so it is for small groups only. For these it ensures that a
pack is never larger than the output of ``zstd --patch-from``: the publisher keeps the smaller one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ncen_updater.formats.delta.lzma_streams import (
    Extent,
    MalformedPackError,
    decompress_extent,
)
from ncen_updater.formats.delta.pack_plan import MAX_SINGLE_FRAME_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WINDOW_LOG: Final = MAX_SINGLE_FRAME_BYTES.bit_length() - 1  # lets the frame refer to all old bytes
MIN_DICTIONARY_BYTES: Final = 8  # the library's minimum
BEST_LEVEL, QUICK_LEVEL = 19, 9
# The best level is skipped if its result would have to be below this fraction of the quick level's,
# which takes a tenth of the time: for a hundred difficult pairs the ratio was at least 0.58.
BEST_BY_QUICK: Final = 0.5
MIN_SAVED_BYTES: Final = 128  # minimum gain, because older agents cannot read a frame


def _make_prefix(before: bytes) -> tuple[zstd.ZstdDict, int] | None:
    if len(before) < MIN_DICTIONARY_BYTES:
        return None
    return zstd.ZstdDict(before, is_raw=True).as_prefix


def _compress_at_level(before: bytes, after: bytes, level: int) -> bytes:
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: level,
        parameter.window_log: WINDOW_LOG,
        parameter.enable_long_distance_matching: 1,
    }
    return zstd.compress(after, options=options, zstd_dict=_make_prefix(before))


def compress_frame(before: bytes, after: bytes, most: int) -> bytes | None:
    """Return a frame that encodes the new bytes; None if it is not small enough.

    Args:
        before: The concatenated old files.
        after: The new files; at most ``MAX_SINGLE_FRAME_BYTES`` together with the old ones.
        most: Size of the same group encoded with covers.
    """
    if most < len(_compress_at_level(before, after, QUICK_LEVEL)) * BEST_BY_QUICK:
        return None
    frame = _compress_at_level(before, after, BEST_LEVEL)
    return frame if len(frame) + MIN_SAVED_BYTES < most else None


def decompress_frame(descriptor: int, extent: Extent, before: bytes) -> Iterator[bytes]:
    """Return the new files, in pieces.

    Args:
        descriptor: The pack.
        extent: Position of the frame.
        before: The old files.

    Raises:
        MalformedPackError: If old and new files exceed the limit; while the frame is read also if
            it is damaged or has another length.
    """
    if len(before) + extent.plain_bytes > MAX_SINGLE_FRAME_BYTES:
        raise MalformedPackError("length mismatch")
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    return decompress_extent(
        descriptor,
        extent,
        lambda: zstd.ZstdDecompressor(zstd_dict=_make_prefix(before), options=options),
        zstd.ZstdError,
    )
