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
from ncen_updater.common.cli.render import format_duration, format_scheduled_time
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.labels import (
    explain_code,
    format_predicted_downtime,
    has_hidden_values,
)


@dataclass(frozen=True)
class KindRule:
    """Text and content of one kind of notification.

    Attributes:
        title: Title in one sentence.
        values: Names of the values that it may contain.
        remedy: What the reader does next; empty for nothing.
        is_critical: Whether it is sent without waiting for others.
    """

    title: str
    values: tuple[str, ...]
    remedy: str = ""
    is_critical: bool = False


_CHANGE_VALUES = ("change", "from", "version")
_PREDICTION_VALUES = ("low_s", "likely_s", "high_s")
RULES: Mapping[NotificationKind, KindRule] = {
    NotificationKind.AVAILABLE: KindRule(N_("{version} is available"), ("version", "from")),
    NotificationKind.REHEARSED: KindRule(
        N_("Rehearsal of {version} passed"),
        ("from", "version", *_PREDICTION_VALUES, "mapped", "unmapped", "checks"),
    ),
    NotificationKind.REHEARSAL_FAILED: KindRule(
        N_("Rehearsal of {version} failed"),
        ("from", "version", "code"),
        N_("Run ncen-updater support-bundle and send the file to the Secretariat."),
    ),
    NotificationKind.WAITING_FOR_APPROVAL: KindRule(
        N_("Waiting for approval: upgrade to {version} ({missing} missing)"),
        ("version", "missing"),
        N_("Review the dossier, then run: ncen-updater approve"),
    ),
    NotificationKind.APPROVED: KindRule(
        N_("Upgrade to {version} approved by {by}"), ("version", "by")
    ),
    NotificationKind.APPROVAL_VOID: KindRule(
        N_("Approval of {version} is outdated"),
        ("version",),
        N_("Review the dossier, then run: ncen-updater approve"),
    ),
    NotificationKind.ROLLBACK_APPROVED: KindRule(
        N_("Rollback to {version} approved by {by}"), ("version", "by")
    ),
    NotificationKind.RESTORE_APPROVED: KindRule(
        N_("Adoption of restored databases as {version} approved by {by}"),
        ("version", "by"),
        N_("Run: ncen-updater history"),
    ),
    NotificationKind.EMERGENCY_ROLLBACK: KindRule(
        N_("Emergency rollback from {from} to {version} started by {by}"),
        ("from", "version", "by"),
        N_("Run: ncen-updater history"),
        is_critical=True,
    ),
    NotificationKind.SCHEDULED: KindRule(
        N_("Upgrade to {version} scheduled for {at} by {by}"), ("version", "at", "by")
    ),
    NotificationKind.SCHEDULE_CANCELLED: KindRule(
        N_("Schedule of the upgrade to {version} cancelled by {by}"), ("version", "by")
    ),
    NotificationKind.UPGRADE_UPCOMING: KindRule(
        N_("Upgrade to {version} starts at {at}"), ("version", "at", *_PREDICTION_VALUES)
    ),
    NotificationKind.UPGRADED: KindRule(
        N_("Upgrade from {from} to {version} completed"),
        (*_CHANGE_VALUES, *_PREDICTION_VALUES, "downtime_s"),
    ),
    NotificationKind.UPGRADE_FAILED: KindRule(
        N_("Upgrade from {from} to {version} failed; {from} is running"),
        (*_CHANGE_VALUES, "code", "downtime_s", "approvals"),
        N_("Automatic retries are paused. Run: ncen-updater history"),
        is_critical=True,
    ),
    NotificationKind.ROLLED_BACK: KindRule(
        N_("Rolled back from {from} to {version}"),
        (*_CHANGE_VALUES, "code", "downtime_s"),
        N_("Run: ncen-updater history"),
        is_critical=True,
    ),
    NotificationKind.ROLLBACK_FAILED: KindRule(
        N_("Rollback from {from} to {version} failed; {from} is running"),
        (*_CHANGE_VALUES, "code", "downtime_s", "approvals"),
        N_("Run: ncen-updater status"),
        is_critical=True,
    ),
    NotificationKind.INTERVENTION_REQUIRED: KindRule(
        N_("Manual intervention required"),
        (*_CHANGE_VALUES, "code"),
        N_("Log in and run: ncen-updater doctor"),
        is_critical=True,
    ),
    NotificationKind.FEED_EXPIRING: KindRule(
        N_("Metadata expires at {at} (days left: {days})"),
        ("at", "days"),
        N_("Check the connection to the feed, or import a new offline bundle."),
    ),
    NotificationKind.FEED_EXPIRED: KindRule(
        N_("Metadata expired at {at}"),
        ("at",),
        N_("Check the connection to the feed, or import a new offline bundle."),
    ),
    NotificationKind.RELEASE_WITHDRAWN: KindRule(
        N_("Installed release {version} withdrawn by the Secretariat"),
        ("version",),
        N_("Run: ncen-updater status"),
        is_critical=True,
    ),
    NotificationKind.APPLICATION_STARTED: KindRule(
        N_("Application ({version}) was stopped and has been restarted"),
        ("version",),
        N_("Find the cause: journalctl -b"),
    ),
    NotificationKind.STOPPED: KindRule(
        N_("Application stopped by an operator during the soak period"),
        (),
        N_("Start the application to continue the soak period."),
    ),
    NotificationKind.APPLICATION_DOWN: KindRule(
        N_("Application ({version}) stopped or unhealthy since {at}"),
        ("version", "at"),
        N_("No change is in progress. Run: ncen-updater status"),
        is_critical=True,
    ),
    NotificationKind.APPLICATION_UP: KindRule(
        N_("Application running again after an outage since {at}"), ("version", "at")
    ),
    NotificationKind.AGENT_UPDATED: KindRule(N_("ncen-updater updated to {version}"), ("version",)),
    NotificationKind.AGENT_REVERTED: KindRule(
        N_("Update of ncen-updater to {version} failed; previous version restored"),
        ("version",),
        N_("Inform the Secretariat."),
        is_critical=True,
    ),
    NotificationKind.DISK_SPACE_LOW: KindRule(
        N_("Low disk space: {free_percent} % free"),
        ("free_percent",),
        N_("Free disk space before the next upgrade."),
    ),
}
DOWNTIME = N_("Downtime: {stop}")
DOWNTIME_AND_PREDICTION = N_("Downtime: {stop}; predicted: {predicted}")
RECORD_COUNTS = N_(
    "Records with a new code: {mapped}; without a new code: {unmapped}; checks: {checks}"
)
APPROVE_AGAIN = N_("A retry requires new approvals.")
#: Placeholder for an unknown value.
UNKNOWN = "?"
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
            *_PREDICTION_VALUES, "downtime_s", "mapped", "unmapped", "checks", "missing",
            "approvals", "days", "free_percent",
        ),
        _is_number,
    ),
}  # fmt: skip


def filter_values(kind: NotificationKind, values: Mapping[str, object]) -> dict[str, object]:
    """Return only the allowed values."""
    return {
        name: value
        for name, value in values.items()
        if name in RULES[kind].values and _VALUE_CHECKS[name](value)
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
        return RULES[self.kind].is_critical

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
    return _fill_template(RULES[notification.kind].title, notification, zone)


def format_notification(notification: Notification, zone: tzinfo) -> list[LazyText]:
    """Return all lines of a notification, its title first.

    Args:
        notification: The notification.
        zone: Time zone of the site, for displayed times.
    """
    lines = [format_title(notification, zone), *_format_figures(notification)]
    code = notification.values.get("code")
    known = explain_code(code) if isinstance(code, str) else None
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
    if RULES[notification.kind].remedy:
        lines.append(_fill_template(RULES[notification.kind].remedy, notification, zone))
    return lines


def _format_figures(notification: Notification) -> list[LazyText]:
    lines, values = [], notification.values
    actual, likely, high = (values.get(key) for key in ("downtime_s", "likely_s", "high_s"))
    predicted = None
    if isinstance(likely, int | float) and isinstance(high, int | float):
        predicted = format_predicted_downtime(likely, high)
    if isinstance(actual, int | float):
        stop = {"stop": format_duration(actual), "predicted": predicted}
        lines.append(LazyText(DOWNTIME_AND_PREDICTION if predicted else DOWNTIME, stop))
    elif predicted:
        lines.append(LazyText(DOWNTIME, {"stop": predicted}))
    if notification.kind is NotificationKind.REHEARSED:
        names = ("mapped", "unmapped", "checks")
        lines.append(LazyText(RECORD_COUNTS, {name: values.get(name, UNKNOWN) for name in names}))
    return lines
