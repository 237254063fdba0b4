"""Characters on a terminal: which are allowed, in which direction, and how wide they are.

Texts come from databases, releases and users of all countries. They must not move the cursor, hide
or forge lines, or reorder neighbouring text, and they must stay readable in every script.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from typing import Final, TextIO

#: U+200C and U+200D: without them, words in Persian, Sinhala or Hindi would change.
JOINERS: Final = "\u200c\u200d"
#: Left-to-right, right-to-left and Arabic letter mark: they do not reorder other text.
DIRECTION_MARKS: Final = "\u200e\u200f\u061c"
FIRST_STRONG_ISOLATE: Final = "\u2068"  # first strong isolate
RIGHT_TO_LEFT_ISOLATE: Final = "\u2067"  # right-to-left isolate
POP_ISOLATE: Final = "\u2069"
_ISOLATES: Final = frozenset({FIRST_STRONG_ISOLATE, RIGHT_TO_LEFT_ISOLATE, POP_ISOLATE})
#: Isolates that our sentences have around their values.
_VALUE_ISOLATES: Final = frozenset({FIRST_STRONG_ISOLATE, POP_ISOLATE})
#: Terminals that show a replacement character for isolates.
_PLAIN_TERMINALS: Final = frozenset({"dumb", "linux"})
#: Start of a line before its text: spaces, a carriage return, colour codes.
_LINE_START: Final = re.compile(r"(?:\s|\x1b\[[0-9;]*[A-Za-z])*")
SOFT_HYPHEN: Final = "\u00ad"
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL"})
#: Categories: control, format, line and paragraph separators.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
_COLUMNS: Final = re.compile(r"(  +|\t+)")
#: Extra indentation of continuation lines, and their minimum width.
_CONTINUATION_INDENT: Final = 2
_MIN_LINE_WIDTH: Final = 30
_JAMO: Final = range(0x1160, 0x1200)
#: The space inside French quotes, and before double punctuation.
_NO_BREAK_SPACE: Final = re.compile(r"(?<=\u00ab) | (?=\u00bb|[:;!?](?: |$))")
# Within JSON strings any character may be written as an escape.
_INVISIBLE_IN_JSON: Final = re.compile(
    r"[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


def strip_control_characters(text: str, *, keep_isolates: bool = False) -> str:
    """Replace invisible control characters of an external text, except line breaks and tabs.

    A joiner is kept after a character that joins, and a direction mark in text with right-to-left
    letters. Embeddings, overrides and isolates are always replaced.

    Args:
        text: One or several lines.
        keep_isolates: Whether to keep balanced isolates, as in sentences of this program, whose
            values were already stripped.
    """
    if text.isascii() and text.isprintable():
        return text
    if keep_isolates and not _VALUE_ISOLATES.isdisjoint(text):
        return "\n".join(_clean_keeping_isolates(line) for line in text.split("\n"))
    has_right_to_left = any(map(_is_right_to_left, text))
    found: list[str] = []
    for character in text:
        before = found[-1] if found else " "
        if (
            character in "\n\t"
            or unicodedata.category(character) not in _INVISIBLE
            or (character in JOINERS and _is_joinable(before))
            or (character in DIRECTION_MARKS and has_right_to_left)
        ):
            found.append(character)
        else:
            found.append(" ")
    return "".join(found)


def _clean_keeping_isolates(line: str) -> str:
    """Strip control characters from a line, but retain its isolates if they are balanced."""
    parts = re.split(f"([{FIRST_STRONG_ISOLATE}{POP_ISOLATE}])", line)
    depth = 0
    for mark in parts[1::2]:
        depth += -1 if mark == POP_ISOLATE else 1
        if depth < 0:
            break
    if depth:
        return strip_control_characters(line)
    return "".join(
        part if part in _VALUE_ISOLATES else strip_control_characters(part) for part in parts
    )


def _is_right_to_left(character: str) -> bool:
    """Return whether a character is a right-to-left letter."""
    return (
        character not in DIRECTION_MARKS and unicodedata.bidirectional(character) in _RIGHT_TO_LEFT
    )


def _is_joinable(before: str) -> bool:
    """Return whether a character is a letter or mark of a script that uses joiners."""
    return not before.isascii() and unicodedata.category(before)[0] in "LMS"


def isolate_right_to_left(line: str, *, right_to_left: bool = False) -> str:
    """Enclose right-to-left text in isolates, so that it does not reorder neighbouring text.

    One isolate covers the text from the first right-to-left letter to the last. Two spaces separate
    table columns, each of which is isolated on its own.

    Args:
        line: One line.
        right_to_left: Whether the line is in a right-to-left language; then the whole line is
            isolated as such, whatever its first word.
    """
    if line.isascii():
        return line
    before = _LINE_START.match(line)
    start = before.end() if right_to_left and before else 0
    parts = _COLUMNS.split(line[start:])
    if right_to_left and len(parts) == 1 and any(map(_is_right_to_left, parts[0])):
        return f"{line[:start]}{RIGHT_TO_LEFT_ISOLATE}{parts[0]}{POP_ISOLATE}"
    return line[:start] + "".join(_isolate_part(part) for part in parts)


def _isolate_part(part: str) -> str:
    letters = [at for at, character in enumerate(part) if _is_right_to_left(character)]
    if not letters:
        return part
    first, last = letters[0], letters[-1] + 1
    while last < len(part) and unicodedata.category(part[last]) in ("Mn", "Me", "Cf"):
        last += 1  # combining marks of the last letter
    return f"{part[:first]}{FIRST_STRONG_ISOLATE}{part[first:last]}{POP_ISOLATE}{part[last:]}"


def prepare_for_terminal(
    text: str,
    *,
    is_clean: bool = False,
    right_to_left: bool = False,
    without_isolates: bool = False,
) -> str:
    """Return lines in the form in which all commands write them to a terminal.

    Args:
        text: One or several lines.
        is_clean: Whether control characters have been removed already, and our colour codes must
            stay.
        right_to_left: Whether the language is written from right to left.
        without_isolates: Whether to omit isolates, because the terminal would show them.
    """
    seen = text if is_clean else strip_control_characters(text, keep_isolates=right_to_left)
    seen = seen.encode("utf-8", "replace").decode("utf-8")
    if without_isolates:
        return "".join(character for character in seen if character not in _ISOLATES)
    return "\n".join(
        isolate_right_to_left(line, right_to_left=right_to_left) for line in seen.split("\n")
    )


def supports_isolates(encoding: str, terminal_type: str | None) -> bool:
    """Return whether a stream supports isolates without showing them. Pure.

    Args:
        encoding: Encoding of the stream.
        terminal_type: Type of the terminal (``TERM``); None if the stream is not a terminal.
    """
    return encoding.lower().startswith("utf") and terminal_type not in _PLAIN_TERMINALS


def fit_encoding(text: str, encoding: str) -> str:
    """Return a text that an encoding can represent; replace other characters. Pure."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_approximate(character, encoding) for character in text)
    return text


def _approximate(character: str, encoding: str) -> str:
    for form in (character, unicodedata.normalize("NFKD", character)):
        held = form.encode(encoding, "ignore").decode(encoding)
        if held:
            return held
    return "" if measure_width(character) == 0 else "?"


def format_for_stream(
    text: str, stream: TextIO, *, is_clean: bool = False, right_to_left: bool = False
) -> str:
    """Return text in the form that a stream can show.

    Args:
        text: One or several lines.
        stream: The stream.
        is_clean: As for :func:`prepare_for_terminal`.
        right_to_left: Likewise.
    """
    encoding = stream.encoding or "utf-8"
    terminal_type = os.environ.get("TERM") if stream.isatty() else None
    seen = prepare_for_terminal(
        text, is_clean=is_clean, right_to_left=right_to_left,
        without_isolates=not supports_isolates(encoding, terminal_type),
    )  # fmt: skip
    return fit_encoding(seen, encoding)


def escape_json(document: str) -> str:
    """Escape invisible control characters in a JSON document."""
    return _INVISIBLE_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], document)


def measure_width(text: str) -> int:
    """Return the columns of a text on a terminal, by the rules of ``wcwidth``."""
    return sum(map(_count_columns, text))


def _count_columns(character: str) -> int:
    if character.isascii():
        return 1
    if character == SOFT_HYPHEN:
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or ord(character) in _JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad_text(text: str, columns: int) -> str:
    """Pad a text with spaces to a width."""
    return text + " " * max(0, columns - measure_width(text))


def truncate_text(text: str, columns: int) -> str:
    """Truncate a text to a width, without separating combining marks from their letter."""
    taken = 0
    for place, character in enumerate(text):
        taken += _count_columns(character)
        if taken > columns:
            return text[:place]
    return text


def protect_spacing(text: str) -> str:
    """Replace the spaces of French punctuation, such as `` : ``, by no-break spaces."""
    return _NO_BREAK_SPACE.sub("\u00a0", text)


def wrap_text(text: str, columns: int) -> list[str]:
    """Wrap a line at spaces to a width; words are never broken."""
    first, *words = re.findall(r" *[^ ]+", protect_spacing(text)) or [""]
    lines = [first]
    for word in words:
        if measure_width(lines[-1]) + measure_width(word) > columns:
            lines.append(word.lstrip(" "))
        else:
            lines[-1] += word
    return lines


def wrap_data_line(line: str, columns: int) -> list[str]:
    """Wrap a line of data that is wider than the terminal, with indented continuation lines.

    A line with table columns (two spaces) is not wrapped.

    Args:
        line: The line, without control characters.
        columns: Width of the terminal.
    """
    text = line.lstrip(" ")
    if measure_width(line) <= columns or "  " in text or "\t" in text:
        return [line]
    indent = len(line) - len(text)
    room = max(columns - indent - _CONTINUATION_INDENT, _MIN_LINE_WIDTH)
    first, *more = wrap_text(text, room)
    return [" " * indent + first, *(" " * (indent + _CONTINUATION_INDENT) + part for part in more)]
