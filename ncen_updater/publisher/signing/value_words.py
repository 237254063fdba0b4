"""Signed values as pages tell them to people: times, ranges of versions, lists. Pure.

What does not have its agreed form stays as it stands: whoever drafts may have written anything, and
nothing of it is signed unseen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ncen_updater.common.cli.render import format_minute, format_time
from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.formats.rollout import FORM

_PART: Final = re.compile(r"\s*(>=|<=|<|>|==|!=)\s*([0-9][^\s,*]*)\s*")
_SIGNS: Final = {
    ">=": N_("{version} or later"),
    ">": N_("later than {version}"),
    "<=": N_("{version} or earlier"),
    "<": N_("earlier than {version}"),
    "==": N_("{version}"),
    "!=": N_("not {version}"),
}


def moment_of(text: str) -> datetime | None:
    """Return a signed time; None if it does not have the agreed form, or is none."""
    if not FORM.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def time_words(text: object) -> Figure | str:
    """Say a signed time as all pages do: where it is read, and in UTC."""
    moment = moment_of(str(text))
    if moment is None:
        return str(text)
    return format_time(moment) if moment.second else format_minute(moment)


def range_words(text: object) -> Text | str:
    """Say a range of versions, such as ``>=3.2.4,<3.3.0``."""
    parts = [_PART.fullmatch(part) for part in str(text).split(",")]
    found = [Text(_SIGNS[part[1]], {"version": part[2]}) for part in parts if part is not None]
    return joined(found) if len(found) == len(parts) else str(text)


def joined(parts: Sequence[Text | str]) -> Text | str:
    """Return parts as one list, each in the language of its reader."""
    said: Text | str = parts[0] if parts else ""
    for part in parts[1:]:
        said = Text(N_("{first}, {second}"), {"first": said, "second": part})
    return said
