"""Notification and the values allowed in it: an allow-list keeps case data out.

A value that is not listed for its kind, or does not have its form, is left out. Error texts are
never sent, since a database's message may quote a row; their stable code is, with the sentence that
belongs to it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from ncen_updater.agent.model.notification_kind import NotificationKind
from ncen_updater.common.json_records import JsonRecord

URGENT_KINDS = frozenset(
    {
        NotificationKind.EMERGENCY_ROLLBACK,
        NotificationKind.UPGRADE_FAILED,
        NotificationKind.ROLLED_BACK,
        NotificationKind.ROLLBACK_FAILED,
        NotificationKind.INTERVENTION_REQUIRED,
        NotificationKind.RELEASE_WITHDRAWN,
        NotificationKind.APPLICATION_DOWN,
        NotificationKind.AGENT_REVERTED,
    }
)

#: Told whatever a site leaves out.
MANDATORY_KINDS = frozenset({NotificationKind.EMERGENCY_ROLLBACK})

VERSION_PATTERN = re.compile(r"\d+(\.\d+){0,5}((a|b|rc|\.post|\.dev)\d+)*")
CODE_PATTERN = re.compile(r"NU-\d{4}")
CHANGE_ID_PATTERN = re.compile(r"[a-z2-7]{8}")
LOGIN_PATTERN = re.compile(r"[a-z_][a-z0-9_.-]{0,31}|uid \d{1,10}")
MAX_VALUE_CHARS = 64
MAX_ID_CHARS = 100


def _matches_pattern(pattern: re.Pattern[str], value: object) -> bool:
    return (
        isinstance(value, str) and len(value) <= MAX_VALUE_CHARS and bool(pattern.fullmatch(value))
    )


def _is_version(value: object) -> bool:
    return _matches_pattern(VERSION_PATTERN, value)


def _is_code(value: object) -> bool:
    return _matches_pattern(CODE_PATTERN, value)


def _is_change_id(value: object) -> bool:
    return _matches_pattern(CHANGE_ID_PATTERN, value)


def _is_login(value: object) -> bool:
    return _matches_pattern(LOGIN_PATTERN, value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(float(str(value))) < 1e15


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS:
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_DOWNTIME_VALUES = {"low_s": _is_number, "high_s": _is_number}
_CHANGE_VALUES = {"change": _is_change_id, "from": _is_version, "version": _is_version}

#: The values that each kind may carry, and their form.
ALLOWED_VALUES = {
    NotificationKind.AVAILABLE: {"version": _is_version, "from": _is_version},
    NotificationKind.REHEARSED: {
        "from": _is_version,
        "version": _is_version,
        **_DOWNTIME_VALUES,
        "mapped": _is_number,
        "unmapped": _is_number,
        "checks": _is_number,
    },
    NotificationKind.REHEARSAL_FAILED: {
        "from": _is_version,
        "version": _is_version,
        "code": _is_code,
    },
    NotificationKind.WAITING_FOR_APPROVAL: {"version": _is_version, "missing": _is_number},
    NotificationKind.APPROVED: {"version": _is_version, "by": _is_login},
    NotificationKind.ROLLBACK_APPROVED: {"version": _is_version, "by": _is_login},
    NotificationKind.RESTORE_APPROVED: {"version": _is_version, "by": _is_login},
    NotificationKind.EMERGENCY_ROLLBACK: {
        "from": _is_version,
        "version": _is_version,
        "by": _is_login,
    },
    NotificationKind.APPROVAL_VOID: {"version": _is_version},
    NotificationKind.SCHEDULED: {"version": _is_version, "at": _is_time, "by": _is_login},
    NotificationKind.SCHEDULE_CANCELLED: {"version": _is_version, "by": _is_login},
    NotificationKind.UPGRADE_UPCOMING: {"version": _is_version, "at": _is_time, **_DOWNTIME_VALUES},
    NotificationKind.UPGRADED: {**_CHANGE_VALUES, **_DOWNTIME_VALUES, "downtime_s": _is_number},
    NotificationKind.UPGRADE_FAILED: {
        **_CHANGE_VALUES,
        "code": _is_code,
        "downtime_s": _is_number,
        "approvals": _is_number,
    },
    NotificationKind.ROLLED_BACK: {**_CHANGE_VALUES, "code": _is_code, "downtime_s": _is_number},
    NotificationKind.ROLLBACK_FAILED: {
        **_CHANGE_VALUES,
        "code": _is_code,
        "downtime_s": _is_number,
        "approvals": _is_number,
    },
    NotificationKind.INTERVENTION_REQUIRED: {**_CHANGE_VALUES, "code": _is_code},
    NotificationKind.FEED_EXPIRING: {"at": _is_time, "days": _is_number},
    NotificationKind.FEED_EXPIRED: {"at": _is_time},
    NotificationKind.RELEASE_WITHDRAWN: {"version": _is_version},
    NotificationKind.APPLICATION_STARTED: {"version": _is_version},
    NotificationKind.STOPPED: {},
    NotificationKind.APPLICATION_DOWN: {"version": _is_version, "at": _is_time},
    NotificationKind.APPLICATION_UP: {"version": _is_version, "at": _is_time},
    NotificationKind.AGENT_UPDATED: {"version": _is_version},
    NotificationKind.AGENT_REVERTED: {"version": _is_version},
    NotificationKind.DISK_SPACE_LOW: {"free_percent": _is_number},
}


def filter_values(kind: NotificationKind, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that may be told, and nothing else."""
    forms = ALLOWED_VALUES[kind]
    return {name: value for name, value in values.items() if name in forms and forms[name](value)}


@dataclass(frozen=True)
class Notification(JsonRecord):
    """One thing that is told.

    Attributes:
        id: The same for the same thing, also after a crash.
        kind: What happened.
        at: When, UTC.
        values: What may be said of it.
    """

    id: str
    kind: NotificationKind
    at: datetime
    values: Mapping[str, object]

    @classmethod
    def create(
        cls, number: str, kind: NotificationKind, at: datetime, **values: object
    ) -> Notification:
        """Make one; values that may not be told are left out.

        Args:
            number: Its id.
            kind: What happened.
            at: When.
            **values: What to say of it; ``from_`` and ``at_`` stand for ``from`` and ``at``.
        """
        given = {name.removesuffix("_"): value for name, value in values.items()}
        return cls(number, kind, at.astimezone(UTC), filter_values(kind, given))

    @property
    def urgent(self) -> bool:
        """Whether it does not wait for others."""
        return self.kind in URGENT_KINDS

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
        reported = filter_values(found.kind, found.values)
        return replace(
            found, id=found.id[:MAX_ID_CHARS], at=found.at.astimezone(UTC), values=reported
        )
