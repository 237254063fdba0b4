"""Signed values and digests as people read and type them. Pure.

What does not have its agreed form stays as it stands: a drafter may have written anything,
and nothing of it is signed unseen.
"""

from __future__ import annotations

import re
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
