"""Downtime forecasts of rehearsals, compared with the actual downtimes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ncen_updater.agent.engine.change_outcome import measure_downtime, read_outcome
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord, RehearsalStore
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange, PastDowntime
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads

#: Maximum number of rehearsals, changes and comparisons that are considered.
MAX_REMEMBERED = 10


@dataclass(frozen=True)
class DowntimeComparison:
    """Predicted and actual downtime of an upgrade, in seconds."""

    version: str
    low_s: float
    high_s: float
    actual_s: float


@dataclass(frozen=True)
class DowntimeForecast:
    """Downtime forecast of the last passed rehearsal of a change, in seconds."""

    rehearsal: str
    low_s: float
    likely_s: float
    high_s: float


def find_forecast(journal: Journal, origin: str, version: str) -> DowntimeForecast | None:
    """Return the newest downtime forecast for a change before it begins; None if there is none.

    Raises:
        JournalUnreadableError: If a report in the journal is invalid.
    """
    for record in RehearsalStore(journal).list_newest(MAX_REMEMBERED):
        for hop in record.report.hops if record.report is not None else ():
            if hop.versions == (origin, version):
                downtime = hop.downtime
                return DowntimeForecast(record.id, downtime.low, downtime.likely, downtime.high)
    return None


def record_forecast(journal: Journal, change: Change, predicted: DowntimeForecast | None) -> None:
    """Store the downtime forecast of a change that begins."""
    if predicted is None:
        return
    with journal.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO predictions (change, rehearsal, low_s, likely_s,"
            " high_s) VALUES (?,?,?,?,?)",
            (
                change.id, predicted.rehearsal, predicted.low_s, predicted.likely_s,
                predicted.high_s,
            ),
        )  # fmt: skip
        journal.append_event(
            "predicted", change.id, rehearsal=predicted.rehearsal, low_s=predicted.low_s,
            high_s=predicted.high_s,
        )  # fmt: skip


def record_actual_downtime(journal: Journal, change_id: str) -> None:
    """Record the actual downtime of a successful change beside its forecast."""
    actual_s = measure_downtime(journal.read_change(change_id), journal.read_facts(change_id))
    if actual_s is None:
        return
    with journal.transaction() as connection:
        row = connection.execute(
            "SELECT low_s, high_s FROM predictions WHERE change = ?", (change_id,)
        ).fetchone()
        if row is None:
            return
        connection.execute(
            "UPDATE predictions SET actual_s = ? WHERE change = ?", (actual_s, change_id)
        )
        journal.append_event(
            "downtime-compared", change_id, actual_s=actual_s,
            held=row["low_s"] <= actual_s <= row["high_s"],
            low_s=row["low_s"], high_s=row["high_s"],
        )  # fmt: skip


def list_past_downtimes(journal: Journal) -> tuple[PastDowntime, ...]:
    """Return the expected and the actual downtimes of earlier changes, newest first."""
    with guard_reads(journal.path):
        rows = journal.query(
            "SELECT likely_s, actual_s FROM predictions WHERE actual_s IS NOT NULL"
            " ORDER BY rowid DESC"
        )
        downtimes = [PastDowntime(float(row["likely_s"]), float(row["actual_s"])) for row in rows]
        return tuple(downtimes[:MAX_REMEMBERED])


def list_step_durations(journal: Journal) -> tuple[dict[str, float], ...]:
    """Return the duration of each step of earlier upgrades in seconds, newest first."""
    upgrades = [
        change
        for change in journal.list_changes(MAX_REMEMBERED * 2)
        if change.kind is ChangeKind.UPGRADE and change.state is ChangeState.FINISHED
    ]
    return tuple(
        dict(read_outcome(journal, change.id).step_s) for change in upgrades[:MAX_REMEMBERED]
    )


def list_comparisons(journal: Journal) -> tuple[DowntimeComparison, ...]:
    """Return earlier forecasts with the actual downtimes, newest first."""
    with guard_reads(journal.path):
        rows = journal.query(
            "SELECT changes.to_version AS version, low_s, high_s, actual_s FROM predictions"
            " JOIN changes ON changes.id = predictions.change WHERE actual_s IS NOT NULL"
            " ORDER BY predictions.rowid DESC"
        )
        return tuple(
            DowntimeComparison(row["version"], row["low_s"], row["high_s"], row["actual_s"])
            for row in rows[:MAX_REMEMBERED]
        )


@dataclass(frozen=True)
class LastDowntime:
    """Actual downtime of the newest successful change in seconds, and its forecast, if any."""

    actual_s: float
    predicted: DowntimeRange | None = None


def sum_predicted_range(record: RehearsalRecord | None) -> DowntimeRange | None:
    """Return the downtime predicted by a rehearsal over all hops."""
    report = record.report if record is not None else None
    if report is None or not report.hops:
        return None
    hops = [hop.downtime for hop in report.hops]
    return DowntimeRange(
        sum(hop.low for hop in hops), sum(hop.likely for hop in hops), sum(hop.high for hop in hops)
    )


def find_last_downtime(journal: Journal) -> LastDowntime | None:
    """Return the newest downtime; None if there is none."""
    for change in journal.list_changes(MAX_REMEMBERED):
        if change.state is not ChangeState.FINISHED:
            continue
        actual_s = measure_downtime(change, journal.read_facts(change.id))
        if actual_s is not None:
            return LastDowntime(actual_s, find_predicted_range(journal, change.id))
    return None


def find_predicted_range(journal: Journal, change: str) -> DowntimeRange | None:
    """Return the predicted downtime of a change."""
    return find_predicted_ranges(journal, (change,)).get(change)


def find_predicted_ranges(
    journal: Journal, changes: Collection[str]
) -> Mapping[str, DowntimeRange]:
    """Return the predicted downtime ranges of changes by id; changes without one are left out."""
    if not changes:
        return {}
    with guard_reads(journal.path):
        rows = journal.query("SELECT * FROM predictions ORDER BY rowid")
        return {
            row["change"]: DowntimeRange(row["low_s"], row["likely_s"], row["high_s"])
            for row in rows
            if row["change"] in changes
        }
