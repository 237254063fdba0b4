"""Finds text in a French session that is not French."""

from __future__ import annotations

import os
import pwd
import re
from functools import cache
from pathlib import Path

import polib

CATALOGUES = Path(__file__).resolve().parents[2] / "ncen_updater/locale/fr/LC_MESSAGES"
#: Text that is the same in all languages.
NAMES = re.compile(
    r"(?m:(?:^ +(?:\$ )?|(?<=: ))(?:sudo )?ncen-(?:updater|publisher) .*$)"  # typed input
    r"|\{\w+\}|«[^»]*»"  # quoted text of others, and typed input
    r"|'[^'\n]*'"  # commands, and file names as quoted by Python
    # messages of the system
    r"|Connection refused|No such file or directory|Permission denied|Is a directory"
    r"|https?://\S+|(?<![\w/])~?/[^\s«»,;)]+"  # addresses and paths
    r"|\b[\w-]+(?:\.[\w-]+)+\b"  # settings, files, versions
    r"|--?[a-z][\w-]*|\[[^\]\n]*\]|\b\w*_\w+\b|\b[A-Z]{2,}[\w-]*\b|\b\w*\d\w*\b"
    r"|\bncen-\w+\b|\bpg_\w+\b|\b[kMGT]?o\b|\b(?=\w*\d)[a-z0-9]{8}\b"
    # A digest is displayed in groups of eight; one group in three hundred has no digit.
    r"|\b[0-9a-f]{8}\b"
)
#: Details of an error: text of PostgreSQL, the system or a library is quoted unchanged.
DETAIL = re.compile(r"^ *Détail : .*(?:\n {5,}.*)*\n", re.MULTILINE)
WORD = re.compile(r"[^\W\d_]{2,}")


def _plain(text: str) -> str:
    """Return the text without names, and without apostrophes within words."""
    text = re.sub(r"-\n\s+", "-", text)  # help breaks lines after a hyphen
    return NAMES.sub(" ", re.sub("(?<=\\w)['\u2019](?=\\w)", " ", text))


@cache
def vocabulary() -> frozenset[str]:
    """Return every word of the French catalogues."""
    words: set[str] = set()
    for catalogue in CATALOGUES.glob("*.po"):
        for row in polib.pofile(str(catalogue)):
            for form in (row.msgstr, *row.msgstr_plural.values()):
                words.update(word.lower() for word in WORD.findall(_plain(form)))
    return frozenset(words)


def foreign(text: str, *names: str) -> list[str]:
    """Return the words that are neither in the catalogue nor names.

    Args:
        text: Displayed text.
        *names: Additional names of users, paths and data of the test.
    """
    login = pwd.getpwuid(os.geteuid()).pw_name  # may be an English word
    known = vocabulary() | {part.lower() for name in (*names, login) for part in WORD.findall(name)}
    return [word for word in WORD.findall(_plain(text)) if word.lower() not in known]
