"""Notifications of conditions, once each while it lasts, and of journal events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.change_outcome import measure_downtime
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    find_predicted_range,
    sum_predicted_range,
)
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord, RehearsalStore
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
from ncen_updater.agent.policy.windows import WeeklyWindow, find_next_opening
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
    """Thresholds of the conditions.

    Attributes:
        upgrade_notice: Time before the start of an upgrade.
        expiry_notice: Time before the metadata expires.
        min_free_percent: Free disk space in percent below which a condition is reported.
        approves_automatically: Whether no approval is required.
        starts_automatically: Whether the service starts upgrades automatically.
        reports_only: Whether a release that fails in its soak period is only reported.
        required_approvals: Number of required approvals.
        windows: Maintenance windows; without them, upgrades start only at a scheduled time.
        zone: Time zone of the windows.
    """

    upgrade_notice: timedelta = timedelta(hours=12)
    expiry_notice: timedelta = timedelta(days=5)
    min_free_percent: float = 10.0
    approves_automatically: bool = False
    starts_automatically: bool = True
    reports_only: bool = False
    required_approvals: int = 1
    windows: tuple[WeeklyWindow, ...] = ()
    zone: tzinfo = UTC


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
    limit = limits.min_free_percent + (
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
        journal.needs_operator or (limits.reports_only and change.to_version in bad_releases)
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
    if not ready or not limits.starts_automatically:
        return
    if journal is None or journal.holds or journal.open_change is not None:
        return
    missing = journal.count_approvals(assessment.binding, limits.required_approvals).missing
    if missing and (assessment.was_rolled_back or not limits.approves_automatically):
        yield Condition(
            NotificationKind.WAITING_FOR_APPROVAL,
            f"{assessment.binding} {missing}",
            {**version, "missing": missing},
        )
        return
    schedule = journal.find_schedule(assessment.binding)
    start = _find_start(now.now, schedule.not_before if schedule else None, limits)
    if start is not None and start - now.now <= limits.upgrade_notice:
        at = start.isoformat()
        predicted = sum_predicted_range(now.rehearsal)
        downtime = dict(zip(("low_s", "high_s"), predicted, strict=True)) if predicted else {}
        yield Condition(
            NotificationKind.UPGRADE_UPCOMING,
            f"{assessment.target} {at}",
            {**version, "at": at, **downtime},
        )


def _find_start(
    now: datetime, not_before: datetime | None, limits: AlertSettings
) -> datetime | None:
    """Return the earliest future start of an upgrade; None without one."""
    start = max(now, not_before) if not_before else now
    if limits.windows:
        opening = find_next_opening(limits.windows, start, limits.zone)
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
    elif expires_at - now.now < limits.expiry_notice:
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
        translated = _EventTranslator(journal, event).translate()
        if translated is not None:
            kind, values = translated
            notifications.append(
                Notification.create(f"event {event.number}", kind, event.at, **values)
            )
    return tuple(notifications)


class _EventTranslator:
    def __init__(self, journal: Journal, event: JournalEvent) -> None:
        self._journal, self._event = journal, event

    def translate(self) -> tuple[NotificationKind, dict[str, Any]] | None:
        rules: Mapping[str, Callable[[], tuple[NotificationKind, dict[str, Any]] | None]] = {
            "rehearsal-passed": self._translate_rehearsal_passed,
            "rehearsal-failed": self._translate_rehearsal_failed,
            "approved": self._translate_approval,
            "rollback-approved": lambda: (
                NotificationKind.ROLLBACK_APPROVED,
                self._pick_values("version", "by"),
            ),
            ROLLBACK_EMERGENCY: lambda: (
                NotificationKind.EMERGENCY_ROLLBACK,
                {**self._pick_values("version", "by"), "from_": self._event.get("origin")},
            ),
            "scheduled": lambda: (
                NotificationKind.SCHEDULED,
                {**self._pick_values("version", "by"), "at_": self._event.get("not_before")},
            ),
            "schedule-cancelled": lambda: (
                NotificationKind.SCHEDULE_CANCELLED,
                self._pick_values("version", "by"),
            ),
            "step-done": self._translate_step,
            "change-reverted": self._translate_undone,
            APPLICATION_STARTED: lambda: (
                NotificationKind.APPLICATION_STARTED,
                self._pick_values("version"),
            ),
            APPLICATION_STOPPED: lambda: (NotificationKind.STOPPED, {}),
            AGENT_CONFIRMED: lambda: (NotificationKind.AGENT_UPDATED, self._pick_values("version")),
        }
        rule = rules.get(self._event.kind)
        return rule() if rule is not None else None

    def _pick_values(self, *names: str) -> dict[str, Any]:
        return {name: self._event.get(name) for name in names}

    def _translate_approval(self) -> tuple[NotificationKind, dict[str, Any]]:
        version = str(self._event.get("version"))
        restored = version.removeprefix(RESTORED_APPROVAL_PREFIX)
        if restored != version:
            return NotificationKind.RESTORE_APPROVED, {
                **self._pick_values("by"),
                "version": restored,
            }
        return NotificationKind.APPROVED, self._pick_values("version", "by")

    # ---- rehearsals ------------------------------------------------------------------------------

    def _find_rehearsal(self) -> RehearsalRecord | None:
        wanted = self._event.get("rehearsal")
        return next(
            (r for r in RehearsalStore(self._journal).list_newest() if r.id == wanted), None
        )

    def _translate_rehearsal_passed(self) -> tuple[NotificationKind, dict[str, Any]] | None:
        record = self._find_rehearsal()
        if record is None or record.report is None:
            return None
        maps = [item for hop in record.report.hops for item in hop.code_maps]
        low, high = sum_predicted_range(record) or (None, None)
        return NotificationKind.REHEARSED, {
            "from_": record.from_version,
            "version": record.to_version,
            "low_s": low,
            "high_s": high,
            "mapped": sum(item.affected or 0 for item in maps),
            "unmapped": sum(item.unmapped_rows for item in maps),
            "checks": sum(len(hop.checks) for hop in record.report.hops),
        }

    def _translate_rehearsal_failed(self) -> tuple[NotificationKind, dict[str, Any]] | None:
        record = self._find_rehearsal()
        if record is None:
            return None
        return NotificationKind.REHEARSAL_FAILED, {
            "from_": record.from_version,
            "version": record.to_version,
            "code": record.error_code,
        }

    # ---- changes ---------------------------------------------------------------------------------

    def _translate_step(self) -> tuple[NotificationKind, dict[str, Any]] | None:
        if self._event.get("step") != StepName.MAINTENANCE_OFF:
            return None
        change = self._journal.read_change(self._event.change or "")
        if change.kind is ChangeKind.ROLLBACK:
            return NotificationKind.ROLLED_BACK, {
                **self._build_change_values(),
                "code": self._find_rollback_cause(change),
            }
        low, high = find_predicted_range(self._journal, change.id) or (None, None)
        return NotificationKind.UPGRADED, {
            **self._build_change_values(),
            "low_s": low,
            "high_s": high,
        }

    def _translate_undone(self) -> tuple[NotificationKind, dict[str, Any]]:
        change = self._journal.read_change(self._event.change or "")
        upgrade = change.kind is ChangeKind.UPGRADE
        binding = self._journal.read_facts(change.id).binding
        who = ApprovalStore(self._journal).list_consumed_by(change.id, binding)
        kind = NotificationKind.UPGRADE_FAILED if upgrade else NotificationKind.ROLLBACK_FAILED
        return kind, {**self._build_change_values(), "approvals": len(who) or None}

    def _build_change_values(self) -> dict[str, Any]:
        change = self._journal.read_change(self._event.change or "")
        return {
            "change": change.id,
            "from_": change.from_version,
            "version": change.to_version,
            "code": change.error_code,
            "downtime_s": measure_downtime(change, self._journal.read_facts(change.id)),
        }

    def _find_rollback_cause(self, rollback: Change) -> str | None:
        """Return why a rollback was made: the failure code of the release that it left."""
        known = SiteHistory(self._journal).list_bad_releases()
        return next((r.code for r in known if r.version == rollback.from_version), None)
