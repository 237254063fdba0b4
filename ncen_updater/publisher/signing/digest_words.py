"""Digests as people type and read them: in groups, or in words that can be said on a telephone.

A word has five letters and stands for 16 bits (a *proquint*): consonant, vowel, consonant, vowel,
consonant. It is spelled the same way in every language, and needs no list of words. Eight words are
128 bits, of which nobody finds a second event.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

CONSONANTS: Final = "bdfghjklmnprstvz"
VOWELS: Final = "aiou"
MIN_DIGITS: Final = 32
BITS: Final = 16
_WORD = re.compile(f"[{CONSONANTS}][{VOWELS}][{CONSONANTS}][{VOWELS}][{CONSONANTS}]")
_BETWEEN = re.compile(r"[\s,.:-]+")


def _word(number: int) -> str:
    parts = ((CONSONANTS, 12), (VOWELS, 10), (CONSONANTS, 6), (VOWELS, 4), (CONSONANTS, 0))
    return "".join(letters[(number >> at) & (len(letters) - 1)] for letters, at in parts)


def _number(word: str) -> int:
    value = 0
    for letter in word:
        letters = CONSONANTS if letter in CONSONANTS else VOWELS
        value = value * len(letters) + letters.index(letter)
    return value


def spoken(digest: str) -> str:
    """The first 32 digits of a digest as eight words."""
    groups = [digest[at : at + 4] for at in range(0, MIN_DIGITS, 4)]
    return " ".join(_word(int(group, 16)) for group in groups)


def told(text: str) -> str:
    """What somebody typed, as hexadecimal digits: from words, or from digits in any groups.

    What is neither comes back without spaces, and fits no digest.
    """
    parts = [part for part in _BETWEEN.split(text.lower()) if part]
    if parts and all(_WORD.fullmatch(part) for part in parts):
        return "".join(f"{_number(part):04x}" for part in parts)
    return "".join(parts)


def generated(count: int) -> str:
    """So many words that nobody can guess; each is 16 bits."""
    return " ".join(_word(secrets.randbits(BITS)) for _ in range(count))
