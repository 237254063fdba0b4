"""Bytes added and subtracted one by one, modulo 256; plain Python, yet hundreds of MB a second.

A strip is taken as one large number. The highest bit of every byte is masked out, so that no sum
carries into the next byte, and is put right afterwards. Most strips of a pack need nothing.
"""

from __future__ import annotations

from typing import Final

BLOCK_BYTES: Final = 128 << 10
STRIP_BYTES: Final = 16 << 10  # what stays in the processor's cache
LOW: Final = int.from_bytes(b"\x7f" * STRIP_BYTES, "little")
HIGH: Final = int.from_bytes(b"\x80" * STRIP_BYTES, "little")
ZEROS: Final = bytes(STRIP_BYTES)


def add(one: bytes, other: bytes) -> bytes:
    """Return the sums of the bytes of two blocks of one length."""
    parts = []
    for at in range(0, len(one), STRIP_BYTES):
        left, right = one[at : at + STRIP_BYTES], other[at : at + STRIP_BYTES]
        if right == ZEROS[: len(right)]:
            parts.append(left)
            continue
        x, y = int.from_bytes(left, "little"), int.from_bytes(right, "little")
        total = ((x & LOW) + (y & LOW)) ^ ((x ^ y) & HIGH)
        parts.append(total.to_bytes(len(left), "little"))
    return b"".join(parts)


def subtract(one: bytes, other: bytes) -> bytes:
    """Return what must be added to ``other`` to get ``one``; both of one length."""
    parts = []
    for at in range(0, len(one), STRIP_BYTES):
        left, right = one[at : at + STRIP_BYTES], other[at : at + STRIP_BYTES]
        if left == right:
            parts.append(ZEROS[: len(left)])
            continue
        x, y = int.from_bytes(left, "little"), int.from_bytes(right, "little")
        rest = ((x | HIGH) - (y & LOW)) ^ ((x ^ y ^ HIGH) & HIGH)
        parts.append(rest.to_bytes(len(left), "little"))
    return b"".join(parts)
