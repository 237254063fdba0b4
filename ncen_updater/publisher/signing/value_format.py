"""Signed values and digests as people read and type them. Pure.

What does not have its agreed form stays as it stands: a drafter may have written anything,
and nothing of it is signed unseen.

Digests are typed in groups, or read as words that can be said on a telephone. A word has five
letters and stands for 16 bits (a *proquint*): consonant, vowel, consonant, vowel, consonant. It is
spelled the same way in every language, and needs no list of words. Eight words are 128 bits, of
which nobody finds a second event.
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
    """Return a signed time; None if it does not have the agreed form, or is none."""
    if not TIME_PATTERN.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def format_signed_time(text: object) -> LocalizedFigure | str:
    """Say a signed time as all pages do: where it is read, and in UTC."""
    moment = parse_signed_time(str(text))
    if moment is None:
        return str(text)
    return format_scheduled_time(moment)


def format_version_range(text: object) -> LazyText | str:
    """Say a range of versions, such as ``>=3.2.4,<3.3.0``."""
    parts = [_PART.fullmatch(part) for part in str(text).split(",")]
    found = [
        LazyText(_OPERATOR_TEXTS[part[1]], {"version": part[2]})
        for part in parts
        if part is not None
    ]
    return join_texts(found) if len(found) == len(parts) else str(text)


def join_texts(parts: Sequence[LazyText | str]) -> LazyText | str:
    """Return parts as one list, each in the language of its reader."""
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

    What is neither comes back without spaces, and fits no digest.
    """
    parts = [part for part in _BETWEEN.split(text.lower()) if part]
    if parts and all(_WORD.fullmatch(part) for part in parts):
        return "".join(f"{_decode_word(part):04x}" for part in parts)
    return "".join(parts)


def generate_words(count: int) -> str:
    """So many words that nobody can guess; each is 16 bits."""
    return " ".join(_encode_word(secrets.randbits(BITS_PER_WORD)) for _ in range(count))
