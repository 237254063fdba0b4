"""What characters do on a terminal: which are let through, in which direction, and how wide.

Text comes from databases, releases and people of any country. It must not move the cursor, hide or
forge a line, nor turn round what stands beside it; and it must stay readable in every script.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

__all__ = ["clean", "cut", "escaped", "isolated", "padded", "shown", "width"]

#: U+200C and U+200D: without them words of Persian, Sinhala or Hindi are other words.
JOINERS: Final = "\u200c\u200d"
#: Left-to-right, right-to-left and Arabic letter mark: they have a place, and turn nothing round.
MARKS: Final = "\u200e\u200f\u061c"
ISOLATE: Final = "\u2068"  # first strong isolate
END: Final = "\u2069"
SOFT_HYPHEN: Final = "\u00ad"
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL"})
#: Control, format, and what separates lines and paragraphs.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
_COLUMNS: Final = re.compile(r"(  +|\t+)")
_JAMO: Final = range(0x1160, 0x1200)
# Between quotes JSON may write any character by its number.
_UNSEEN_IN_JSON: Final = re.compile(
    r"[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    """Take out of text from elsewhere what is not seen but acts; ends of lines and tabs stay.

    A joiner stays where it has something to join, and a mark of direction in text that has letters
    from right to left; embeddings, overrides and isolates are taken out everywhere.
    """
    if text.isascii() and text.isprintable():
        return text
    turned = any(map(_turns, text))
    found: list[str] = []
    for character in text:
        before = found[-1] if found else " "
        if (
            character in "\n\t"
            or unicodedata.category(character) not in _UNSEEN
            or (character in JOINERS and _joins(before))
            or (character in MARKS and turned)
        ):
            found.append(character)
        else:
            found.append(" ")
    return "".join(found)


def _turns(character: str) -> bool:
    """Whether it is a letter that is written from right to left."""
    return character not in MARKS and unicodedata.bidirectional(character) in _RIGHT_TO_LEFT


def _joins(before: str) -> bool:
    """Whether something can be joined to a character: a letter or mark of a script that joins."""
    return not before.isascii() and unicodedata.category(before)[0] in "LMS"


def isolated(line: str) -> str:
    """Keep what is written from right to left from turning round what stands beside it.

    From the first such letter to the last, which may be several words, one isolate is made; two
    spaces part the columns of a table, each of which stays in its place.
    """
    if line.isascii():
        return line
    return "".join(_isolated(part) for part in _COLUMNS.split(line))


def _isolated(part: str) -> str:
    places = [place for place, character in enumerate(part) if _turns(character)]
    if not places:
        return part
    first, last = places[0], places[-1] + 1
    while last < len(part) and unicodedata.category(part[last]) in ("Mn", "Me", "Cf"):
        last += 1  # what belongs to the last letter
    return f"{part[:first]}{ISOLATE}{part[first:last]}{END}{part[last:]}"


def shown(text: str, *, painted: bool = False) -> str:
    """Return lines as they may stand on a terminal: the one way there for all commands.

    Args:
        text: One line, or several.
        painted: Whether what stands in it was cleaned already, and colours of ours must stay.
    """
    seen = (text if painted else clean(text)).encode("utf-8", "replace").decode("utf-8")
    return "\n".join(isolated(line) for line in seen.split("\n"))


def escaped(document: str) -> str:
    """Write by their numbers, in a JSON text, those characters that are not seen but act."""
    return _UNSEEN_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], document)


def width(text: str) -> int:
    """How many columns a text takes on a terminal, by the rules of ``wcwidth``."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if character.isascii():
        return 1
    if character == SOFT_HYPHEN:
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or ord(character) in _JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, columns: int) -> str:
    """Fill a text with spaces up to a width."""
    return text + " " * max(0, columns - width(text))


def cut(text: str, columns: int) -> str:
    """Return as much of a text as fits into a width; what belongs to a letter stays with it."""
    taken = 0
    for place, character in enumerate(text):
        taken += _columns(character)
        if taken > columns:
            return text[:place]
    return text
