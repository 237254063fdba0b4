"""Notification, its text, and its allowed values: an allow-list excludes personal and case data.

A value is dropped if it is not listed for its kind or has the wrong format. Error texts are never
sent, since a message of the database may quote a row; the stable error code is sent with its
general explanation. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Self

from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.labels import CodeExplanation, has_hidden_values

Explain = Callable[[str], CodeExplanation | None]

TITLES: Mapping[NotificationKind, str] = {
    NotificationKind.AVAILABLE: N_("{version} is available"),
    NotificationKind.REHEARSED: N_("Rehearsal of {version} passed"),
    NotificationKind.REHEARSAL_FAILED: N_("Rehearsal of {version} failed"),
    NotificationKind.WAITING_FOR_APPROVAL: N_(
        "Waiting for approval: upgrade to {version} ({missing} missing)"
    ),
    NotificationKind.APPROVED: N_("Upgrade to {version} approved by {by}"),
    NotificationKind.ROLLBACK_APPROVED: N_("Rollback to {version} approved by {by}"),
    NotificationKind.RESTORE_APPROVED: N_(
        "Adoption of restored databases as {version} approved by {by}"
    ),
    NotificationKind.EMERGENCY_ROLLBACK: N_(
        "Emergency rollback from {from} to {version} started by {by}"
    ),
    NotificationKind.APPROVAL_VOID: N_("Approval of {version} is outdated"),
    NotificationKind.SCHEDULED: N_("Upgrade to {version} scheduled for {at} by {by}"),
    NotificationKind.SCHEDULE_CANCELLED: N_(
        "Schedule of the upgrade to {version} cancelled by {by}"
    ),
    NotificationKind.UPGRADE_UPCOMING: N_("Upgrade to {version} starts at {at}"),
    NotificationKind.UPGRADED: N_("Upgrade from {from} to {version} completed"),
    NotificationKind.UPGRADE_FAILED: N_(
        "Upgrade from {from} to {version} failed; {from} is running"
    ),
    NotificationKind.ROLLED_BACK: N_("Rolled back from {from} to {version}"),
    NotificationKind.ROLLBACK_FAILED: N_(
        "Rollback from {from} to {version} failed; {from} is running"
    ),
    NotificationKind.INTERVENTION_REQUIRED: N_("Manual intervention required"),
    NotificationKind.FEED_EXPIRING: N_("Metadata expires at {at} (days left: {days})"),
    NotificationKind.FEED_EXPIRED: N_("Metadata expired at {at}"),
    NotificationKind.RELEASE_WITHDRAWN: N_(
        "Installed release {version} withdrawn by the Secretariat"
    ),
    NotificationKind.APPLICATION_STARTED: N_(
        "Application ({version}) was stopped and has been restarted"
    ),
    NotificationKind.APPLICATION_DOWN: N_(
        "Application ({version}) stopped or unhealthy since {at}"
    ),
    NotificationKind.APPLICATION_UP: N_("Application running again after an outage since {at}"),
    NotificationKind.STOPPED: N_("Application stopped by an operator during the soak period"),
    NotificationKind.AGENT_UPDATED: N_("ncen-updater updated to {version}"),
    NotificationKind.AGENT_REVERTED: N_(
        "Update of ncen-updater to {version} failed; previous version restored"
    ),
    NotificationKind.DISK_SPACE_LOW: N_("Low disk space: {free_percent} % free"),
}
_REMEDIES: Mapping[NotificationKind, str] = {
    NotificationKind.REHEARSAL_FAILED: N_(
        "Run ncen-updater support-bundle and send the file to the Secretariat."
    ),
    NotificationKind.WAITING_FOR_APPROVAL: N_("Review the dossier, then run: ncen-updater approve"),
    NotificationKind.APPROVAL_VOID: N_("Review the dossier, then run: ncen-updater approve"),
    NotificationKind.UPGRADE_FAILED: N_("Automatic retries are paused. Run: ncen-updater history"),
    NotificationKind.RESTORE_APPROVED: N_("Run: ncen-updater history"),
    NotificationKind.EMERGENCY_ROLLBACK: N_("Run: ncen-updater history"),
    NotificationKind.ROLLED_BACK: N_("Run: ncen-updater history"),
    NotificationKind.ROLLBACK_FAILED: N_("Run: ncen-updater status"),
    NotificationKind.INTERVENTION_REQUIRED: N_("Log in and run: ncen-updater doctor"),
    NotificationKind.FEED_EXPIRING: N_(
        "Check the connection to the feed, or import a new offline bundle."
    ),
    NotificationKind.FEED_EXPIRED: N_(
        "Check the connection to the feed, or import a new offline bundle."
    ),
    NotificationKind.RELEASE_WITHDRAWN: N_("Run: ncen-updater status"),
    NotificationKind.APPLICATION_STARTED: N_("Find the cause: journalctl -b"),
    NotificationKind.STOPPED: N_("Start the application to continue the soak period."),
    NotificationKind.APPLICATION_DOWN: N_("No change is in progress. Run: ncen-updater status"),
    NotificationKind.AGENT_REVERTED: N_("Inform the Secretariat."),
    NotificationKind.DISK_SPACE_LOW: N_("Free disk space before the next upgrade."),
}
DOWNTIME = N_("Downtime: {stop}")
DOWNTIME_AND_PREDICTION = N_("Downtime: {stop} (predicted {low} to {high})")
PREDICTED_DOWNTIME = N_("Downtime: {low} to {high}")
RECORD_COUNTS = N_(
    "Records with a new code: {mapped}; without a new code: {unmapped}; checks: {checks}"
)
APPROVE_AGAIN = N_("A retry requires new approvals.")
#: Placeholder for an unknown value.
UNKNOWN = "?"
CRITICAL_KINDS = frozenset(
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

#: Kinds that a site cannot disable.
MANDATORY_KINDS = frozenset({NotificationKind.EMERGENCY_ROLLBACK})

VERSION_PATTERN = re.compile(r"\d+(\.\d+){0,5}((a|b|rc|\.post|\.dev)\d+)*")
CODE_PATTERN = re.compile(r"NU-\d{4}")
CHANGE_ID_PATTERN = re.compile(r"[a-z2-7]{8}")
LOGIN_PATTERN = re.compile(r"[a-z_][a-z0-9_.-]{0,31}|uid \d{1,10}")
MAX_VALUE_CHARS = 64
MAX_ID_CHARS = 100


def _make_pattern_check(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, str) and len(value) <= MAX_VALUE_CHARS and bool(pattern.fullmatch(value))
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(float(str(value))) < 1e15


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS:
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


#: Checks the format of each value.
_VALUE_CHECKS: Mapping[str, Callable[[object], bool]] = {
    "change": _make_pattern_check(CHANGE_ID_PATTERN),
    "code": _make_pattern_check(CODE_PATTERN),
    **dict.fromkeys(("from", "version"), _make_pattern_check(VERSION_PATTERN)),
    "by": _make_pattern_check(LOGIN_PATTERN),
    "at": _is_time,
    **dict.fromkeys(
        (
            "low_s", "high_s", "downtime_s", "mapped", "unmapped", "checks", "missing",
            "approvals", "days", "free_percent",
        ),
        _is_number,
    ),
}  # fmt: skip
_CHANGE_VALUES = ("change", "from", "version")

#: Values that each kind may contain.
ALLOWED_VALUES: Mapping[NotificationKind, tuple[str, ...]] = {
    NotificationKind.AVAILABLE: ("version", "from"),
    NotificationKind.REHEARSED: (
        "from", "version", "low_s", "high_s", "mapped", "unmapped", "checks",
    ),
    NotificationKind.REHEARSAL_FAILED: ("from", "version", "code"),
    NotificationKind.WAITING_FOR_APPROVAL: ("version", "missing"),
    NotificationKind.APPROVED: ("version", "by"),
    NotificationKind.ROLLBACK_APPROVED: ("version", "by"),
    NotificationKind.RESTORE_APPROVED: ("version", "by"),
    NotificationKind.EMERGENCY_ROLLBACK: ("from", "version", "by"),
    NotificationKind.APPROVAL_VOID: ("version",),
    NotificationKind.SCHEDULED: ("version", "at", "by"),
    NotificationKind.SCHEDULE_CANCELLED: ("version", "by"),
    NotificationKind.UPGRADE_UPCOMING: ("version", "at", "low_s", "high_s"),
    NotificationKind.UPGRADED: (*_CHANGE_VALUES, "low_s", "high_s", "downtime_s"),
    NotificationKind.UPGRADE_FAILED: (*_CHANGE_VALUES, "code", "downtime_s", "approvals"),
    NotificationKind.ROLLED_BACK: (*_CHANGE_VALUES, "code", "downtime_s"),
    NotificationKind.ROLLBACK_FAILED: (*_CHANGE_VALUES, "code", "downtime_s", "approvals"),
    NotificationKind.INTERVENTION_REQUIRED: (*_CHANGE_VALUES, "code"),
    NotificationKind.FEED_EXPIRING: ("at", "days"),
    NotificationKind.FEED_EXPIRED: ("at",),
    NotificationKind.RELEASE_WITHDRAWN: ("version",),
    NotificationKind.APPLICATION_STARTED: ("version",),
    NotificationKind.STOPPED: (),
    NotificationKind.APPLICATION_DOWN: ("version", "at"),
    NotificationKind.APPLICATION_UP: ("version", "at"),
    NotificationKind.AGENT_UPDATED: ("version",),
    NotificationKind.AGENT_REVERTED: ("version",),
    NotificationKind.DISK_SPACE_LOW: ("free_percent",),
}  # fmt: skip


def filter_values(kind: NotificationKind, values: Mapping[str, object]) -> dict[str, object]:
    """Return only the allowed values."""
    return {
        name: value
        for name, value in values.items()
        if name in ALLOWED_VALUES[kind] and _VALUE_CHECKS[name](value)
    }


@dataclass(frozen=True)
class Notification(JsonRecord):
    """One notification.

    Attributes:
        id: Stable ID, the same after a crash.
        kind: The kind of event.
        at: Time of the event, in UTC.
        values: Allowed values.
    """

    id: str
    kind: NotificationKind
    at: datetime
    values: Mapping[str, object]

    @classmethod
    def create(
        cls, number: str, kind: NotificationKind, at: datetime, **values: object
    ) -> Notification:
        """Create a notification; values that are not allowed are dropped.

        Args:
            number: Its ID.
            kind: The kind of event.
            at: Time of the event.
            **values: Its values; ``from_`` and ``at_`` stand for ``from`` and ``at``.
        """
        given = {name.removesuffix("_"): value for name, value in values.items()}
        return cls(number, kind, at.astimezone(UTC), filter_values(kind, given))

    @property
    def is_critical(self) -> bool:
        """Return whether the notification is sent without waiting for others."""
        return self.kind in CRITICAL_KINDS

    def to_json(self) -> dict[str, object]:
        """Return the JSON document for files and messages."""
        return {**super().to_json(), "severity": format_severity(critical=self.is_critical)}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Parse a notification; values that are not allowed are dropped here as well.

        Raises:
            ValueError: If it is invalid.
        """
        found = super().from_json(data)
        reported = filter_values(found.kind, found.values)
        return replace(
            found, id=found.id[:MAX_ID_CHARS], at=found.at.astimezone(UTC), values=reported
        )


def format_severity(*, critical: bool) -> str:
    """Return the severity of a notification or message."""
    return (Severity.CRITICAL if critical else Severity.INFO).value


def format_span(seconds: float) -> str:
    """Return a duration with international units: ``4 min 10 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _fill_template(template: str, notification: Notification, zone: tzinfo) -> LazyText:
    values: dict[str, object] = dict.fromkeys(
        ("from", "version", "missing", "by", "at", "days", "free_percent"), UNKNOWN
    )
    values.update(notification.values)
    moment = notification.values.get("at")
    if isinstance(moment, str):
        values["at"] = format_scheduled_time(datetime.fromisoformat(moment), zone)
    return LazyText(template, values)


def format_title(notification: Notification, zone: tzinfo) -> LazyText:
    """Return the title of a notification."""
    return _fill_template(TITLES[notification.kind], notification, zone)


def format_notification(
    notification: Notification, zone: tzinfo, explain: Explain
) -> list[LazyText]:
    """Return all lines of a notification, its title first.

    Args:
        notification: The notification.
        zone: Time zone of the site, for displayed times.
        explain: Returns the explanation of a code.
    """
    lines = [format_title(notification, zone), *_format_figures(notification)]
    code = notification.values.get("code")
    known = explain(code) if isinstance(code, str) else None
    if isinstance(code, str) and known is not None and not has_hidden_values(known[0]):
        lines.append(LazyText(N_("Code {code}: {what}"), {"code": code, "what": known[0]}))
    elif isinstance(code, str):
        # A sentence without its values is useless, and the values may quote the databases.
        text = N_("Code {code}. Run on the server: ncen-updater history")
        lines.append(LazyText(text, {"code": code}))
    if known is not None and not has_hidden_values(known[1]):
        lines.append(known[1])
    if notification.values.get("approvals"):
        lines.append(LazyText(APPROVE_AGAIN))
    if notification.kind in _REMEDIES:
        lines.append(_fill_template(_REMEDIES[notification.kind], notification, zone))
    return lines


def _format_figures(notification: Notification) -> list[LazyText]:
    lines = []
    values = notification.values
    low, high, downtime = (
        _format_seconds(values.get(name)) for name in ("low_s", "high_s", "downtime_s")
    )
    if downtime is not None and low is not None and high is not None:
        lines.append(
            LazyText(DOWNTIME_AND_PREDICTION, {"stop": downtime, "low": low, "high": high})
        )
    elif downtime is not None:
        lines.append(LazyText(DOWNTIME, {"stop": downtime}))
    elif low is not None and high is not None:
        lines.append(LazyText(PREDICTED_DOWNTIME, {"low": low, "high": high}))
    if notification.kind is NotificationKind.REHEARSED:
        names = ("mapped", "unmapped", "checks")
        lines.append(LazyText(RECORD_COUNTS, {name: values.get(name, UNKNOWN) for name in names}))
    return lines


def _format_seconds(value: object) -> str | None:
    return format_span(value) if isinstance(value, int | float) else None
