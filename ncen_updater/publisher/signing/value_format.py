"""Format signed values and digests for display and typing. Pure.

Values without the expected format are shown unchanged: a drafter may have written anything, and
signers must see all of it.

Digests are typed in groups of digits, or as words that can be said on the telephone. A word
(*proquint*) has five letters, consonant, vowel, consonant, vowel, consonant, and encodes 16 bits.
It is spelled alike in every language and needs no word list. Eight words are 128 bits, too many to
find a second event with the same words.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.formats.rollout import TIME_PATTERN

_PART: Final = re.compile(r"\s*(>=|<=|<|>|==|!=)\s*([0-9][^\s,*]*)\s*")
_OPERATOR_TEXTS: Final = {
    ">=": N_("{version} or later"),
    ">": N_("later than {version}"),
    "<=": N_("{version} or earlier"),
    "<": N_("earlier than {version}"),
    "==": N_("{version}"),
    "!=": N_("not {version}"),
}


def parse_signed_time(text: str) -> datetime | None:
    """Parse a signed time; return None if it does not have the signed format."""
    if not TIME_PATTERN.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def format_signed_time(text: object) -> LocalizedFigure | str:
    """Format a signed time in the local time zone; return other values unchanged."""
    moment = parse_signed_time(str(text))
    if moment is None:
        return str(text)
    return format_scheduled_time(moment)


def format_version_range(text: object) -> LazyText | str:
    """Describe a version range, such as ``>=3.2.4,<3.3.0``."""
    parts = [_PART.fullmatch(part) for part in str(text).split(",")]
    found = [
        LazyText(_OPERATOR_TEXTS[part[1]], {"version": part[2]})
        for part in parts
        if part is not None
    ]
    return join_texts(found) if len(found) == len(parts) else str(text)


def join_texts(parts: Sequence[LazyText | str]) -> LazyText | str:
    """Join parts to a list, separated as the reader's language does."""
    message: LazyText | str = parts[0] if parts else ""
    for part in parts[1:]:
        message = LazyText(N_("{first}, {second}"), {"first": message, "second": part})
    return message


CONSONANTS: Final = "bdfghjklmnprstvz"
VOWELS: Final = "aiou"
MIN_DIGEST_DIGITS: Final = 32
BITS_PER_WORD: Final = 16
_WORD = re.compile(f"[{CONSONANTS}][{VOWELS}][{CONSONANTS}][{VOWELS}][{CONSONANTS}]")
_BETWEEN = re.compile(r"[\s,.:-]+")


def _encode_word(number: int) -> str:
    parts = ((CONSONANTS, 12), (VOWELS, 10), (CONSONANTS, 6), (VOWELS, 4), (CONSONANTS, 0))
    return "".join(letters[(number >> at) & (len(letters) - 1)] for letters, at in parts)


def _decode_word(word: str) -> int:
    value = 0
    for letter in word:
        letters = CONSONANTS if letter in CONSONANTS else VOWELS
        value = value * len(letters) + letters.index(letter)
    return value


def encode_as_words(digest: str) -> str:
    """Encode the first 32 digits of a digest as eight words."""
    groups = [digest[at : at + 4] for at in range(0, MIN_DIGEST_DIGITS, 4)]
    return " ".join(_encode_word(int(group, 16)) for group in groups)


def parse_digest(text: str) -> str:
    """Convert a typed digest, in words or in digits, to hexadecimal digits.

    Any other text is returned without separators, and matches no digest.
    """
    parts = [part for part in _BETWEEN.split(text.lower()) if part]
    if parts and all(_WORD.fullmatch(part) for part in parts):
        return "".join(f"{_decode_word(part):04x}" for part in parts)
    return "".join(parts)


def generate_words(count: int) -> str:
    """Return random words of 16 bits each, as a secret that cannot be guessed."""
    return " ".join(_encode_word(secrets.randbits(BITS_PER_WORD)) for _ in range(count))
