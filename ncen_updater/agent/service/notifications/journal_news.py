"""News that come of the journal's events. Reads the journal; standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.outcome import stop_seconds
from ncen_updater.agent.engine.rehearsal.stops import predicted_stop, stop_range
from ncen_updater.agent.engine.rehearsal.store import RehearsalRecord, Rehearsals
from ncen_updater.agent.model.change import Change, ChangeKind, StepName
from ncen_updater.agent.model.names import (
    AGENT_CONFIRMED,
    APPLICATION_STARTED,
    APPLICATION_STOPPED,
    RESTORED_AS,
    ROLLBACK_EMERGENCY,
)
from ncen_updater.agent.model.notification_kind import NewsKind
from ncen_updater.agent.service.notifications.news import News
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.agent.storage.journal.site_history import SiteHistory

Values = Mapping[str, object]


def news_since(journal: Journal, after: int, last: int) -> tuple[News, ...]:
    """Return what is to be told of the events after one number and up to another, oldest first."""
    found = []
    for event in journal.events(after):
        if event.number > last:  # came while we looked: the next look tells it
            break
        made = _News(journal, event).make()
        if made is not None:
            kind, values = made
            found.append(News.of(f"event {event.number}", kind, event.at, **values))
    return tuple(found)


class _News:
    def __init__(self, journal: Journal, event: JournalEvent) -> None:
        self._journal, self._event = journal, event

    def make(self) -> tuple[NewsKind, dict[str, Any]] | None:
        rules: Mapping[str, Callable[[], tuple[NewsKind, dict[str, Any]] | None]] = {
            "rehearsal-passed": self._passed,
            "rehearsal-failed": self._rehearsal_failed,
            "approved": self._approved,
            "rollback-approved": lambda: (NewsKind.BACK_APPROVED, self._some("version", "by")),
            ROLLBACK_EMERGENCY: lambda: (
                NewsKind.EMERGENCY,
                {**self._some("version", "by"), "from_": self._event.get("origin")},
            ),
            "scheduled": lambda: (
                NewsKind.SCHEDULED,
                {**self._some("version", "by"), "at_": self._event.get("not_before")},
            ),
            "schedule-cancelled": lambda: (
                NewsKind.SCHEDULE_CANCELLED,
                self._some("version", "by"),
            ),
            "step-done": self._step,
            "change-undone": self._undone,
            APPLICATION_STARTED: lambda: (NewsKind.STARTED, self._some("version")),
            APPLICATION_STOPPED: lambda: (NewsKind.STOPPED, {}),
            AGENT_CONFIRMED: lambda: (NewsKind.AGENT_RENEWED, self._some("version")),
        }
        rule = rules.get(self._event.kind)
        return rule() if rule is not None else None

    def _some(self, *names: str) -> dict[str, Any]:
        return {name: self._event.get(name) for name in names}

    def _approved(self) -> tuple[NewsKind, dict[str, Any]]:
        version = str(self._event.get("version"))
        restored = version.removeprefix(RESTORED_AS)
        if restored != version:
            return NewsKind.RESTORE_AGREED, {**self._some("by"), "version": restored}
        return NewsKind.APPROVED, self._some("version", "by")

    # ---- rehearsals ------------------------------------------------------------------------------

    def _rehearsal(self) -> RehearsalRecord | None:
        wanted = self._event.get("rehearsal")
        return next((r for r in Rehearsals(self._journal).all() if r.id == wanted), None)

    def _passed(self) -> tuple[NewsKind, dict[str, Any]] | None:
        record = self._rehearsal()
        if record is None or record.report is None:
            return None
        maps = [item for hop in record.report.hops for item in hop.maps]
        low, high = stop_range(record) or (None, None)
        return NewsKind.REHEARSED, {
            "from_": record.from_version,
            "version": record.to_version,
            "low_s": low,
            "high_s": high,
            "mapped": sum(item.affected or 0 for item in maps),
            "unmapped": sum(item.without_target for item in maps),
            "checks": sum(len(hop.checks) for hop in record.report.hops),
        }

    def _rehearsal_failed(self) -> tuple[NewsKind, dict[str, Any]] | None:
        record = self._rehearsal()
        if record is None:
            return None
        return NewsKind.REHEARSAL_FAILED, {
            "from_": record.from_version,
            "version": record.to_version,
            "code": record.error_code,
        }

    # ---- changes ---------------------------------------------------------------------------------

    def _step(self) -> tuple[NewsKind, dict[str, Any]] | None:
        if self._event.get("step") != StepName.OPEN:
            return None
        change = self._journal.change(self._event.change or "")
        if change.kind is ChangeKind.ROLLBACK:
            return NewsKind.WENT_BACK, {**self._change(), "code": self._cause(change)}
        low, high = predicted_stop(self._journal, change.id) or (None, None)
        return NewsKind.UPGRADED, {**self._change(), "low_s": low, "high_s": high}

    def _undone(self) -> tuple[NewsKind, dict[str, Any]]:
        change = self._journal.change(self._event.change or "")
        upgrade = change.kind is ChangeKind.UPGRADE
        binding = self._journal.facts(change.id).binding
        who = ApprovalStore(self._journal).spent_on(change.id, binding)
        kind = NewsKind.FAILED if upgrade else NewsKind.ROLLBACK_FAILED
        return kind, {**self._change(), "approvals": len(who) or None}

    def _change(self) -> dict[str, Any]:
        change = self._journal.change(self._event.change or "")
        return {
            "change": change.id,
            "from_": change.from_version,
            "version": change.to_version,
            "code": change.error_code,
            "stop_s": stop_seconds(change, self._journal.facts(change.id)),
        }

    def _cause(self, rollback: Change) -> str | None:
        """Why a rollback was made: the failure of the release that it leaves, if it failed."""
        known = SiteHistory(self._journal).bad_releases()
        return next((r.code for r in known if r.version == rollback.from_version), None)
