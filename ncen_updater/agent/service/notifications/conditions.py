"""Notifications of conditions, once each while it lasts, and of journal events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ncen_updater.agent.config.agent_config import SoakSettings
from ncen_updater.agent.config.service import NotifySettings, ServiceSettings
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.change_outcome import measure_downtime
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    find_predicted_range,
    sum_predicted_range,
)
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState, StepName
from ncen_updater.agent.model.event_names import (
    AGENT_CONFIRMED,
    APPLICATION_STARTED,
    APPLICATION_STOPPED,
    RESTORED_APPROVAL_PREFIX,
    ROLLBACK_EMERGENCY,
    NotificationKind,
)
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.policy.windows import find_next_opening
from ncen_updater.agent.reports.status import SiteStatus, get_part_or_none
from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError

#: Free space above the limit, in percent, before low disk space may be reported again.
DISK_RECOVERY_PERCENT = 2.0
#: Shorter outages are restarts and are not reported.
MIN_OUTAGE = timedelta(minutes=2)
#: Notifications that request an approval or announce the start of an upgrade.
UPGRADE_PROMPT_KINDS = (NotificationKind.WAITING_FOR_APPROVAL, NotificationKind.UPGRADE_UPCOMING)


@dataclass(frozen=True)
class AlertSettings:
    """Tables of the configuration with the thresholds of the conditions."""

    notify: NotifySettings = field(default_factory=NotifySettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    soak: SoakSettings = field(default_factory=SoakSettings)


@dataclass(frozen=True)
class Condition:
    """One condition; it counts as new when its ``key`` changes."""

    kind: NotificationKind
    key: str
    values: Mapping[str, object]


def is_unplanned_outage(now: SiteStatus) -> bool | None:
    """Return whether users cannot work although no operation is the reason; None if unknown.

    An application that somebody stopped, as far as systemd reports that, is not an outage. An open
    change in its soak period does not explain an outage.
    """
    availability, journal = get_part_or_none(now.availability), get_part_or_none(now.journal)
    if availability is None:
        return None
    if availability.state is AvailabilityState.AVAILABLE:
        return False
    if availability.state not in (AvailabilityState.NOT_RUNNING, AvailabilityState.UNHEALTHY):
        return None
    change = None if journal is None else journal.open_change
    busy = change is not None and not change.is_soaking
    return None if busy or availability.stopped_on_request else True


def list_conditions(
    now: SiteStatus,
    limits: AlertSettings,
    reported: Mapping[str, str],
    down_since: datetime | None = None,
) -> Iterator[Condition]:
    """Yield the conditions that hold.

    Args:
        now: Status of the site.
        limits: Thresholds.
        reported: Conditions that were reported and have not ended since.
        down_since: Start of the current outage, if any.
    """
    yield from _detect_outage(now, reported, down_since)
    yield from _detect_intervention(now, limits)
    yield from _detect_upgrade(now, limits, reported)
    yield from _detect_feed_expiry(now, limits)
    if now.is_withdrawn:
        yield Condition(
            NotificationKind.RELEASE_WITHDRAWN, str(now.current), {"version": now.current}
        )
    agent = get_part_or_none(now.agent)
    for version, failure in agent.failed.items() if agent else ():
        yield Condition(
            NotificationKind.AGENT_REVERTED, f"{version} {failure.failures}", {"version": version}
        )
    disks = map(get_part_or_none, (get_part_or_none(now.free_percent) or {}).values())
    free = min((percent for percent in disks if percent is not None), default=None)
    limit = limits.notify.min_free_percent + (
        DISK_RECOVERY_PERCENT if NotificationKind.DISK_SPACE_LOW in reported else 0.0
    )
    if free is not None and free < limit:
        yield Condition(NotificationKind.DISK_SPACE_LOW, "low", {"free_percent": free})


def _detect_outage(
    now: SiteStatus, reported: Mapping[str, str], down_since: datetime | None
) -> Iterator[Condition]:
    """Yield an outage, which lasts until users can work, even if an operation starts meanwhile."""
    reported_key, down = reported.get(NotificationKind.APPLICATION_DOWN), is_unplanned_outage(now)
    if down is False:
        return
    if reported_key is not None:
        yield Condition(NotificationKind.APPLICATION_DOWN, reported_key, {})
    elif down and down_since is not None and now.now - down_since >= MIN_OUTAGE:
        at = down_since.isoformat()
        yield Condition(
            NotificationKind.APPLICATION_DOWN,
            at,
            {"version": get_part_or_none(now.current), "at": at},
        )


def _detect_intervention(now: SiteStatus, limits: AlertSettings) -> Iterator[Condition]:
    journal = now.journal
    if isinstance(journal, Exception):
        code = journal.code if isinstance(journal, UpdaterError) else UpdaterError.message.code
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, code, {"code": code})
        return
    bad_releases = {row.version: row.code for row in journal.bad_releases}
    pending = journal.pending_rollback
    if pending is not None and not pending.is_automatic:
        bad = pending.change
        values: dict[str, object] = {
            "change": bad.id, "from": bad.from_version, "version": bad.to_version,
            "code": bad_releases.get(bad.to_version),
        }  # fmt: skip
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, f"bad {bad.id}", values)
    change = journal.open_change
    if change is None:
        return
    values = {
        "change": change.id, "from": change.from_version, "version": change.to_version,
    }  # fmt: skip
    if change.state is ChangeState.STUCK:
        values["code"] = change.error_code
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, f"stuck {change.id}", values)
    elif change.is_open_after_commit and (
        journal.needs_operator
        or (limits.soak.on_failure == "report" and change.to_version in bad_releases)
    ):
        values["code"] = bad_releases.get(change.to_version)
        yield Condition(NotificationKind.INTERVENTION_REQUIRED, f"bad {change.id}", values)


def _detect_upgrade(
    now: SiteStatus, limits: AlertSettings, reported: Mapping[str, str]
) -> Iterator[Condition]:
    assessment, journal = now.next_upgrade, get_part_or_none(now.journal)
    if assessment is None or assessment.target is None:
        return
    version = {"version": assessment.target}
    yield Condition(
        NotificationKind.AVAILABLE,
        assessment.target,
        {**version, "from": get_part_or_none(now.current)},
    )
    if assessment.void_reasons:
        yield Condition(
            NotificationKind.APPROVAL_VOID,
            f"{assessment.target} {len(assessment.void_reasons)}",
            version,
        )
    if journal is not None and assessment.last_event != journal.last_event:
        # The assessment is older than the last event: the release may be installed or have failed
        # since. Reported conditions last until the next assessment, and no new prompts are sent
        # until then.
        yield from (
            Condition(kind, reported[kind], {}) for kind in UPGRADE_PROMPT_KINDS if kind in reported
        )
        return
    ready = assessment.binding and assessment.rehearsal_status in (
        RehearsalStatus.PASSED,
        RehearsalStatus.NOT_REQUIRED,
    )
    mode, needed = limits.service.mode, limits.service.required_approvals
    if not ready or mode == "notify":
        return
    if journal is None or journal.holds or journal.open_change is not None:
        return
    missing = journal.count_approvals(assessment.binding, needed).missing
    if missing and (assessment.was_rolled_back or mode != "automatic"):
        yield Condition(
            NotificationKind.WAITING_FOR_APPROVAL,
            f"{assessment.binding} {missing}",
            {**version, "missing": missing},
        )
        return
    schedule = journal.find_schedule(assessment.binding)
    start = _find_start(now.now, schedule.not_before if schedule else None, limits.service)
    if start is not None and start - now.now <= timedelta(hours=limits.notify.upgrade_notice_hours):
        at = start.isoformat()
        yield Condition(
            NotificationKind.UPGRADE_UPCOMING,
            f"{assessment.target} {at}",
            {**version, "at": at, **_build_prediction(sum_predicted_range(now.rehearsal))},
        )


def _find_start(
    now: datetime, not_before: datetime | None, settings: ServiceSettings
) -> datetime | None:
    """Return the earliest future start of an upgrade; None without one."""
    start = max(now, not_before) if not_before else now
    if settings.windows:
        windows = tuple(item.to_window() for item in settings.windows)
        opening = find_next_opening(windows, start, settings.get_timezone())
        if opening is None:
            return None
        start = max(start, opening.start)
    return start if start > now else None


def _detect_feed_expiry(now: SiteStatus, limits: AlertSettings) -> Iterator[Condition]:
    view = get_part_or_none(now.feed_view)
    if view is None:
        return
    expires_at = view.expires_at
    at = expires_at.isoformat()
    if view.is_stale(now.now):
        yield Condition(NotificationKind.FEED_EXPIRED, "stale", {"at": at})
    elif expires_at - now.now < timedelta(days=limits.notify.expiry_notice_days):
        days = round((expires_at - now.now) / timedelta(days=1), 1)
        yield Condition(NotificationKind.FEED_EXPIRING, "expiring", {"at": at, "days": days})


def detect_new_conditions(
    now: SiteStatus,
    limits: AlertSettings,
    reported: Mapping[str, str],
    down_since: datetime | None = None,
) -> tuple[tuple[Notification, ...], dict[str, str]]:
    """Return notifications of new conditions, and the conditions that now count as reported.

    The end of an outage is reported if the outage was reported.
    """
    notifications: list[Notification] = []
    after: dict[str, str] = {}
    for condition in list_conditions(now, limits, reported, down_since):
        # Several conditions of one kind (agents that failed) are stored together.
        kind = condition.kind.value
        after[kind] = f"{after[kind]}; {condition.key}" if kind in after else condition.key
        if condition.key not in reported.get(kind, "").split("; "):
            notification_id = f"{kind} {condition.key} {now.now.isoformat()}"
            values = {f"{name}_": value for name, value in condition.values.items()}
            notifications.append(
                Notification.create(notification_id[:100], condition.kind, now.now, **values)
            )
    ended = reported.get(NotificationKind.APPLICATION_DOWN)
    if ended is not None and NotificationKind.APPLICATION_DOWN not in after:
        notification_id = f"{NotificationKind.APPLICATION_UP} {ended}"
        current = get_part_or_none(now.current)
        notifications.append(
            Notification.create(
                notification_id[:100],
                NotificationKind.APPLICATION_UP,
                now.now,
                version=current,
                at_=ended,
            )
        )
    return tuple(notifications), after


def collect_notifications(journal: Journal, after: int, last: int) -> tuple[Notification, ...]:
    """Return the notifications of events after one number and up to another, oldest first."""
    notifications = []
    for event in journal.list_events(after):
        if event.number > last:  # recorded after the snapshot; the next round reports it
            break
        translated = _translate_event(journal, event)
        if translated is not None:
            kind, values = translated
            notifications.append(
                Notification.create(f"event {event.number}", kind, event.at, **values)
            )
    return tuple(notifications)


#: Kind of the notification of an event, and the event's fields by names of its values.
_RULES: Mapping[str, tuple[NotificationKind, Mapping[str, str]]] = {
    "approved": (NotificationKind.APPROVED, {"version": "version", "by": "by"}),
    "rollback-approved": (NotificationKind.ROLLBACK_APPROVED, {"version": "version", "by": "by"}),
    ROLLBACK_EMERGENCY: (
        NotificationKind.EMERGENCY_ROLLBACK, {"version": "version", "by": "by", "from_": "origin"},
    ),
    "scheduled": (
        NotificationKind.SCHEDULED, {"version": "version", "by": "by", "at_": "not_before"},
    ),
    "schedule-cancelled": (
        NotificationKind.SCHEDULE_CANCELLED, {"version": "version", "by": "by"},
    ),
    APPLICATION_STARTED: (NotificationKind.APPLICATION_STARTED, {"version": "version"}),
    APPLICATION_STOPPED: (NotificationKind.STOPPED, {}),
    AGENT_CONFIRMED: (NotificationKind.AGENT_UPDATED, {"version": "version"}),
}  # fmt: skip


def _translate_event(
    journal: Journal, event: JournalEvent
) -> tuple[NotificationKind, dict[str, Any]] | None:
    """Return kind and values of the notification of an event; None without one."""
    match event.kind:
        case "rehearsal-passed" | "rehearsal-failed":
            return _translate_rehearsal(journal, event)
        case "step-done" if event.get("step") == StepName.MAINTENANCE_OFF:
            return _translate_commit(journal, event)
        case "change-reverted":
            return _translate_undone(journal, event)
    if event.kind not in _RULES:
        return None
    kind, fields = _RULES[event.kind]
    values = {name: event.get(field) for name, field in fields.items()}
    restored = str(event.get("version")).removeprefix(RESTORED_APPROVAL_PREFIX)
    if kind is NotificationKind.APPROVED and restored != values["version"]:
        return NotificationKind.RESTORE_APPROVED, {**values, "version": restored}
    return kind, values


def _translate_rehearsal(
    journal: Journal, event: JournalEvent
) -> tuple[NotificationKind, dict[str, Any]] | None:
    wanted = event.get("rehearsal")
    record = next((r for r in RehearsalStore(journal).list_newest() if r.id == wanted), None)
    if record is None:
        return None
    values: dict[str, Any] = {"from_": record.from_version, "version": record.to_version}
    if event.kind == "rehearsal-failed":
        return NotificationKind.REHEARSAL_FAILED, {**values, "code": record.error_code}
    if record.report is None:
        return None
    maps = [item for hop in record.report.hops for item in hop.reference_maps]
    return NotificationKind.REHEARSED, {
        **values,
        **_build_prediction(sum_predicted_range(record)),
        "mapped": sum(item.affected or 0 for item in maps),
        "unmapped": sum(item.unmapped_rows for item in maps),
        "checks": sum(len(hop.checks) for hop in record.report.hops),
    }


def _translate_commit(
    journal: Journal, event: JournalEvent
) -> tuple[NotificationKind, dict[str, Any]]:
    change = journal.read_change(event.change or "")
    values = _build_change_values(journal, change)
    if change.kind is ChangeKind.ROLLBACK:
        # The cause is the failure code of the release that the rollback left.
        known = SiteHistory(journal).list_bad_releases()
        code = next((r.code for r in known if r.version == change.from_version), None)
        return NotificationKind.ROLLED_BACK, {**values, "code": code}
    predicted = find_predicted_range(journal, change.id)
    return NotificationKind.UPGRADED, {**values, **_build_prediction(predicted)}


def _translate_undone(
    journal: Journal, event: JournalEvent
) -> tuple[NotificationKind, dict[str, Any]]:
    change = journal.read_change(event.change or "")
    upgrade = change.kind is ChangeKind.UPGRADE
    binding = journal.read_facts(change.id).binding
    who = ApprovalStore(journal).list_consumed_by(change.id, binding)
    kind = NotificationKind.UPGRADE_FAILED if upgrade else NotificationKind.ROLLBACK_FAILED
    return kind, {**_build_change_values(journal, change), "approvals": len(who) or None}


def _build_prediction(predicted: DowntimeRange | None) -> dict[str, Any]:
    if predicted is None:
        return {}
    return {"low_s": predicted.low, "likely_s": predicted.likely, "high_s": predicted.high}


def _build_change_values(journal: Journal, change: Change) -> dict[str, Any]:
    return {
        "change": change.id,
        "from_": change.from_version,
        "version": change.to_version,
        "code": change.error_code,
        "downtime_s": measure_downtime(change, journal.read_facts(change.id)),
    }
