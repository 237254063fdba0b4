"""News that come of the journal's events. Reads the journal; standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.change_outcome import measure_downtime
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    find_predicted_range,
    sum_predicted_range,
)
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord, RehearsalStore
from ncen_updater.agent.model.change import Change, ChangeKind, StepName
from ncen_updater.agent.model.event_names import (
    AGENT_CONFIRMED,
    APPLICATION_STARTED,
    APPLICATION_STOPPED,
    RESTORED_APPROVAL_PREFIX,
    ROLLBACK_EMERGENCY,
)
from ncen_updater.agent.model.notification_kind import NotificationKind
from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.agent.storage.journal.site_history import SiteHistory


def collect_notifications(journal: Journal, after: int, last: int) -> tuple[Notification, ...]:
    """Return what is to be told of the events after one number and up to another, oldest first."""
    found = []
    for event in journal.list_events(after):
        if event.number > last:  # came while we looked: the next look tells it
            break
        made = _EventTranslator(journal, event).translate()
        if made is not None:
            kind, values = made
            found.append(Notification.create(f"event {event.number}", kind, event.at, **values))
    return tuple(found)


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
        """Why a rollback was made: the failure of the release that it leaves, if it failed."""
        known = SiteHistory(self._journal).list_bad_releases()
        return next((r.code for r in known if r.version == rollback.from_version), None)
