"""How the site stands, read from the disk alone: for news of lasting states, and for metrics.

Each part that cannot be read is None, with the code of the reason kept: telling people must work on
a site where half is broken. Imports nothing heavy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ncen_updater.agent.approvals.model import count_approvals
from ncen_updater.agent.approvals.store import Consent
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.engine.outcome import stop_seconds
from ncen_updater.agent.engine.pending_rollback import PendingRollback, pending_rollback
from ncen_updater.agent.journal.change import Change, ChangeState
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.agent.policy.windows import next_opening
from ncen_updater.agent.rehearsal.store import RehearsalRecord, Rehearsals, RehearsalState
from ncen_updater.agent.self_update.sequence import Sequence, SequenceFile
from ncen_updater.agent.service.knowledge import Assessment, Knowledge, KnowledgeFile
from ncen_updater.agent.slots.link import current_version
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.feed.last_view import LastView, read_last_view, view_path

__all__ = ["LastStop", "Situation", "Surveyor", "predicted_stop", "stop_range"]

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 5_000_000
Read = TypeVar("Read")


@dataclass(frozen=True)
class LastStop:
    """The stop of the newest change that ended well, seconds; what was predicted, if anything."""

    real_s: float
    low_s: float | None = None
    high_s: float | None = None


@dataclass(frozen=True)
class Situation:
    """How the site stands now.

    Attributes:
        now: The time of the look.
        journal_code: Code of the error, where the journal cannot be read.
        event: Number of the journal's last event.
        current: The release in use.
        change: The open change.
        waits: Whether its release turned bad and nobody takes it back by itself.
        last_stop: The newest stop.
        owed: A release that turned bad and was not taken back.
        held: Whether a hold is in force.
        bad_releases: Releases that failed here and are remembered, to the code of the failure.
        assessment: What the service found to be next.
        checked_at: When the feed last answered the service.
        missing_approvals: How many people have yet to approve what is next.
        begins_at: When the upgrade to what is next begins, where nothing else is waited for.
        stop: Predicted stop of what is next, lowest and highest, seconds.
        view: The last verified list.
        expiries: Role of the feed to when its signed list lapses.
        agent: Which agent is chosen.
        free_percent: Free space of the fullest disk, by what lies on it.
    """

    now: datetime
    journal_code: str | None = None
    event: int | None = None
    current: str | None = None
    change: Change | None = None
    waits: bool = False
    last_stop: LastStop | None = None
    owed: PendingRollback | None = None
    held: bool = False
    bad_releases: Mapping[str, str] = field(default_factory=dict)
    assessment: Assessment | None = None
    checked_at: datetime | None = None
    missing_approvals: int = 0
    begins_at: datetime | None = None
    stop: tuple[float, float] | None = None
    view: LastView | None = None
    expiries: Mapping[str, datetime] = field(default_factory=dict)
    agent: Sequence | None = None
    free_percent: Mapping[str, float] = field(default_factory=dict)


class Surveyor:
    """Looks at one site, again and again; large files are read when they changed.

    Args:
        config: The configuration.
        knowledge: Where the service keeps what it knows.
    """

    def __init__(self, config: AgentConfig, knowledge: Path) -> None:
        self._config = config
        paths = config.paths
        self._state = paths.resolve(paths.state)
        self._knowledge = KnowledgeFile(knowledge)
        self._received = paths.received_directory
        self._view = view_path(self._received, config.site.product)
        self._read: dict[Path, tuple[tuple[int, int], object]] = {}

    def look(self, now: datetime) -> Situation:
        """Look at everything."""
        paths = self._config.paths
        knowledge = self._part(self._knowledge.load) or Knowledge()
        current = self._part(
            lambda: current_version(paths.resolve(paths.slots), paths.resolve(paths.current))
        )
        found = Situation(
            now=now,
            current=str(current) if current else None,
            assessment=knowledge.assessment,
            checked_at=knowledge.checked_at,
            view=self._part(lambda: self._cached(self._view, read_last_view)),
            expiries=self._expiries(),
            agent=self._part(SequenceFile(paths.resolve(paths.agent)).load),
            free_percent=self._free(),
        )
        try:
            with Journal.open(self._state / JOURNAL, read_only=True) as journal:
                return self._with_journal(found, journal)
        except UpdaterError as error:
            return _replaced(found, journal_code=error.code)

    def _with_journal(self, found: Situation, journal: Journal) -> Situation:
        assessment = found.assessment
        settings = self._config.service
        missing, begins, stop = 0, None, None
        if assessment is not None and assessment.target is not None:
            consent = Consent(journal)
            if assessment.binding:
                counted = count_approvals(
                    consent.approvals(assessment.binding), assessment.binding, settings.approvals
                )
                missing = counted.missing
            chosen = consent.scheduled(assessment.binding) if assessment.binding else None
            record = Rehearsals(journal).last(found.current or "", assessment.target)
            stop = stop_range(record)
            begins = self._begins(found.now, chosen.not_before if chosen else None)
        change = journal.open_change()
        return _replaced(
            found,
            event=journal.last_event(),
            change=change,
            waits=change is not None and bool(journal.facts(change.id).waits_for_person),
            last_stop=_last_stop(journal),
            owed=pending_rollback(journal),
            held=bool(SiteHistory(journal).holds_in_force(found.now)),
            bad_releases={r.version: r.code for r in SiteHistory(journal).bad_releases()},
            missing_approvals=missing,
            begins_at=begins,
            stop=stop,
        )

    def _begins(self, now: datetime, not_before: datetime | None) -> datetime | None:
        """When an upgrade may begin at the earliest; None where that is now."""
        start = max(now, not_before) if not_before else now
        windows = tuple(item.window() for item in self._config.service.windows)
        if windows:
            opening = next_opening(windows, start, self._config.service.zone())
            if opening is None:
                return None
            start = max(start, opening.start)
        return start if start > now else None

    def _expiries(self) -> dict[str, datetime]:
        found = {}
        try:
            files = sorted((self._received / "metadata").glob("*.json"))
        except OSError:
            return {}
        for path in files[:50]:
            if path.name[:1].isdigit():  # kept copies of earlier roots
                continue
            moment = self._part(lambda path=path: self._cached(path, _expiry))  # type: ignore[misc]
            if moment is not None:
                found[path.stem] = moment
        return found

    def _free(self) -> dict[str, float]:
        paths = self._config.paths
        found: dict[str, float] = {}
        places = {"state": self._state, "slots": paths.resolve(paths.slots)}
        if self._config.databases.sqlite is not None:
            places["databases"] = self._config.databases.sqlite.directory
        for name, place in places.items():
            try:
                disk = os.statvfs(place)
            except OSError:
                continue
            if disk.f_blocks:
                found[name] = round(100 * disk.f_bavail / disk.f_blocks, 1)
        return found

    def _cached(self, path: Path, read: Callable[[Path], Read]) -> Read | None:
        try:
            seen = path.stat()
        except FileNotFoundError:
            return None
        mark = (seen.st_mtime_ns, seen.st_size)
        known = self._read.get(path)
        if known is None or known[0] != mark:
            known = (mark, read(path))
            self._read[path] = known
        return known[1]  # type: ignore[return-value]  # what this reader made of this file

    @staticmethod
    def _part(read: Callable[[], Read]) -> Read | None:
        try:
            return read()
        except (UpdaterError, OSError, ValueError, KeyError, TypeError) as error:
            logger.debug("left out: %s", error)
            return None


def _replaced(found: Situation, **values: object) -> Situation:
    return Situation(**{**found.__dict__, **values})


def _expiry(path: Path) -> datetime:
    data = parse_json(read_file(path, MAX_METADATA_BYTES))
    return datetime.fromisoformat(str(data["signed"]["expires"])).astimezone(UTC)


def stop_range(record: RehearsalRecord | None) -> tuple[float, float] | None:
    """Return the stop that a rehearsal predicted, lowest and highest over its hops, seconds."""
    if record is None or record.state is not RehearsalState.PASSED or record.report is None:
        return None
    hops = record.report.get("hops")
    if not isinstance(hops, list) or not hops:
        return None
    return (
        sum(float(hop["stop_s"]["low"]) for hop in hops),
        sum(float(hop["stop_s"]["high"]) for hop in hops),
    )


def _last_stop(journal: Journal) -> LastStop | None:
    for change in journal.changes(10):
        if change.state is not ChangeState.FINISHED:
            continue
        real = stop_seconds(change, journal.facts(change.id))
        if real is None:
            continue
        predicted = predicted_stop(journal, change.id)
        return LastStop(real, *(predicted or (None, None)))
    return None


def predicted_stop(journal: Journal, change: str) -> tuple[float, float] | None:
    """Return what was predicted of a change, lowest and highest, seconds."""
    if not journal.has_table("predictions"):
        return None
    for row in journal.rows("SELECT change, low_s, high_s FROM predictions ORDER BY rowid DESC"):
        if row["change"] == change:
            return float(row["low_s"]), float(row["high_s"])
    return None
