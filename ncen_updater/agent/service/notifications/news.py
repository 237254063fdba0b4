"""What is told, and which values may be in it: an allow-list, so that no case data gets out.

A value that is not named for its kind, or does not have its form, is left out. Error messages are
never told, since a database's message may quote a row; their stable code is, and the sentence that
belongs to it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from ncen_updater.agent.model.notification_kind import NewsKind
from ncen_updater.common.records import Record

URGENT = frozenset(
    {
        NewsKind.EMERGENCY,
        NewsKind.FAILED,
        NewsKind.WENT_BACK,
        NewsKind.ROLLBACK_FAILED,
        NewsKind.NEEDS_PERSON,
        NewsKind.WITHDRAWN,
        NewsKind.DOWN,
        NewsKind.AGENT_RETURNED,
    }
)

#: Told whatever a site leaves out.
ALWAYS = frozenset({NewsKind.EMERGENCY})

VERSION = re.compile(r"\d+(\.\d+){0,5}((a|b|rc|\.post|\.dev)\d+)*")
CODE = re.compile(r"NU-\d{4}")
CHANGE = re.compile(r"[a-z2-7]{8}")
LOGIN = re.compile(r"[a-z_][a-z0-9_.-]{0,31}|uid \d{1,10}")
MAX_TEXT = 64
MAX_ID = 100


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and bool(pattern.fullmatch(value))


def _version(value: object) -> bool:
    return _matches(VERSION, value)


def _code(value: object) -> bool:
    return _matches(CODE, value)


def _change(value: object) -> bool:
    return _matches(CHANGE, value)


def _login(value: object) -> bool:
    return _matches(LOGIN, value)


def _number(value: object) -> bool:
    return type(value) in (int, float) and abs(float(str(value))) < 1e15


def _moment(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_STOP = {"low_s": _number, "high_s": _number}
_CHANGE = {"change": _change, "from": _version, "version": _version}

#: The values that each kind may carry, and their form.
ALLOWED = {
    NewsKind.AVAILABLE: {"version": _version, "from": _version},
    NewsKind.REHEARSED: {
        "from": _version, "version": _version, **_STOP,
        "mapped": _number, "unmapped": _number, "checks": _number,
    },
    NewsKind.REHEARSAL_FAILED: {"from": _version, "version": _version, "code": _code},
    NewsKind.WAITS: {"version": _version, "missing": _number},
    NewsKind.APPROVED: {"version": _version, "by": _login},
    NewsKind.BACK_APPROVED: {"version": _version, "by": _login},
    NewsKind.RESTORE_AGREED: {"version": _version, "by": _login},
    NewsKind.EMERGENCY: {"from": _version, "version": _version, "by": _login},
    NewsKind.APPROVAL_VOID: {"version": _version},
    NewsKind.SCHEDULED: {"version": _version, "at": _moment, "by": _login},
    NewsKind.SCHEDULE_CANCELLED: {"version": _version, "by": _login},
    NewsKind.WINDOW: {"version": _version, "at": _moment, **_STOP},
    NewsKind.UPGRADED: {**_CHANGE, **_STOP, "stop_s": _number},
    NewsKind.FAILED: {**_CHANGE, "code": _code, "stop_s": _number, "approvals": _number},
    NewsKind.WENT_BACK: {**_CHANGE, "code": _code, "stop_s": _number},
    NewsKind.ROLLBACK_FAILED: {**_CHANGE, "code": _code, "stop_s": _number, "approvals": _number},
    NewsKind.NEEDS_PERSON: {**_CHANGE, "code": _code},
    NewsKind.FEED_LAPSING: {"at": _moment, "days": _number},
    NewsKind.FEED_STALE: {"at": _moment},
    NewsKind.WITHDRAWN: {"version": _version},
    NewsKind.STARTED: {"version": _version},
    NewsKind.STOPPED: {},
    NewsKind.DOWN: {"version": _version, "at": _moment},
    NewsKind.UP: {"version": _version, "at": _moment},
    NewsKind.AGENT_RENEWED: {"version": _version},
    NewsKind.AGENT_RETURNED: {"version": _version},
    NewsKind.DISK: {"free_percent": _number},
}  # fmt: skip


def allowed(kind: NewsKind, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that may be told, and nothing else."""
    forms = ALLOWED[kind]
    return {name: value for name, value in values.items() if name in forms and forms[name](value)}


@dataclass(frozen=True)
class News(Record):
    """One thing that is told.

    Attributes:
        id: The same for the same thing, also after a crash.
        kind: What happened.
        at: When, UTC.
        values: What may be said of it.
    """

    id: str
    kind: NewsKind
    at: datetime
    values: Mapping[str, object]

    @classmethod
    def of(cls, number: str, kind: NewsKind, at: datetime, **values: object) -> News:
        """Make one; values that may not be told are left out.

        Args:
            number: Its id.
            kind: What happened.
            at: When.
            **values: What to say of it; ``from_`` and ``at_`` stand for ``from`` and ``at``.
        """
        given = {name.removesuffix("_"): value for name, value in values.items()}
        return cls(number, kind, at.astimezone(UTC), allowed(kind, given))

    @property
    def urgent(self) -> bool:
        """Whether it does not wait for others."""
        return self.kind in URGENT

    def to_json(self) -> dict[str, object]:
        """Return it as files and messages have it."""
        return {**super().to_json(), "urgent": self.urgent}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read one; what may not be told is left out here too.

        Raises:
            ValueError: If it is none.
        """
        found = super().from_json(data)
        told = allowed(found.kind, found.values)
        return replace(found, id=found.id[:MAX_ID], at=found.at.astimezone(UTC), values=told)
