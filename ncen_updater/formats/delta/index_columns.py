"""Columns of the index: numbers, names and digests as bytes, read with every bound checked."""

from __future__ import annotations

MAX_BITS = 63


class Malformed(ValueError):
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


class OutOfRange(ValueError):
    """A reference to what does not exist: outside a file, of no member, or not adding up."""


class NumberTooLarge(ValueError):
    """More than was signed, or than any pack may have."""


class NumberReader:
    """Reads a column from its start; every way to run over its end is :class:`Malformed`.

    Args:
        content: The column.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def number(self, most: int = (1 << MAX_BITS) - 1) -> int:
        """Take a number, not larger than ``most``."""
        value = shift = 0
        while True:
            if self._at >= len(self._content) or shift >= MAX_BITS:
                raise Malformed("a number is cut off or has over 63 bits")
            byte = self._content[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if byte == 0 and shift > 7:
            raise Malformed("a number is longer than it needs to be")
        if value > most:
            raise Malformed(f"{value} where at most {most} can be")
        return value

    def signed(self) -> int:
        """Take a number that may be below zero."""
        value = self.number()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def take(self, length: int) -> bytes:
        """Take some bytes."""
        if length > len(self._content) - self._at:
            raise Malformed("a column is cut off")
        self._at += length
        return self._content[self._at - length : self._at]

    def text(self, most: int) -> str:
        """Take a text of at most so many bytes."""
        return self.take(self.number(most)).decode()

    @property
    def left(self) -> int:
        """How many bytes were not taken."""
        return len(self._content) - self._at

    def end(self) -> None:
        """Check that nothing is left."""
        if self.left:
            raise Malformed("a column has bytes too many")
