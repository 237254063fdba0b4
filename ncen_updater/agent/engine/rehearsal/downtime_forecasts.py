"""Predicted stops and real ones: what a rehearsal said of a change, and what it took."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ncen_updater.agent.engine.change_outcome import measure_downtime, read_outcome
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord, RehearsalStore
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState
from ncen_updater.agent.policy.downtime_prediction import PastDowntime
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads

#: So many changes back are looked at.
MAX_REMEMBERED = 10


@dataclass(frozen=True)
class DowntimeComparison:
    """An upgrade whose stop was predicted, and what it was; seconds."""

    version: str
    low_s: float
    high_s: float
    actual_s: float


@dataclass(frozen=True)
class DowntimeForecast:
    """What the last rehearsal that passed predicted for a change; seconds."""

    rehearsal: str
    low_s: float
    likely_s: float
    high_s: float


def find_forecast(journal: Journal, origin: str, version: str) -> DowntimeForecast | None:
    """Return what was predicted for a change, before it begins; None where nothing was.

    Raises:
        JournalUnreadableError: If a report in the journal is none.
    """
    for record in RehearsalStore(journal).list_newest(MAX_REMEMBERED):
        for hop in record.report.hops if record.report is not None else ():
            if hop.versions == (origin, version):
                stop = hop.downtime
                return DowntimeForecast(record.id, stop.low, stop.likely, stop.high)
    return None


def record_forecast(journal: Journal, change: Change, predicted: DowntimeForecast | None) -> None:
    """Keep what was predicted for a change that begins."""
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
    """Compare a change that ended well with what was predicted of it."""
    real = measure_downtime(journal.read_change(change_id), journal.read_facts(change_id))
    if real is None:
        return
    with journal.transaction() as connection:
        row = connection.execute(
            "SELECT low_s, high_s FROM predictions WHERE change = ?", (change_id,)
        ).fetchone()
        if row is None:
            return
        connection.execute(
            "UPDATE predictions SET actual_s = ? WHERE change = ?", (real, change_id)
        )
        journal.append_event(
            "downtime-compared", change_id, actual_s=real,
            held=row["low_s"] <= real <= row["high_s"],
            low_s=row["low_s"], high_s=row["high_s"],
        )  # fmt: skip


def list_past_downtimes(journal: Journal) -> tuple[PastDowntime, ...]:
    """List the expected and the actual downtimes of earlier changes, newest first."""
    with guard_reads(journal.path):
        rows = journal.query(
            "SELECT likely_s, actual_s FROM predictions WHERE actual_s IS NOT NULL"
            " ORDER BY rowid DESC"
        )
        known = [PastDowntime(float(row["likely_s"]), float(row["actual_s"])) for row in rows]
        return tuple(known[:MAX_REMEMBERED])


def list_step_durations(journal: Journal) -> tuple[dict[str, float], ...]:
    """Return the seconds of each step of earlier upgrades, newest first."""
    found = [
        change
        for change in journal.list_changes(MAX_REMEMBERED * 2)
        if change.kind is ChangeKind.UPGRADE and change.state is ChangeState.FINISHED
    ]
    return tuple(dict(read_outcome(journal, change.id).step_s) for change in found[:MAX_REMEMBERED])


def list_comparisons(journal: Journal) -> tuple[DowntimeComparison, ...]:
    """Earlier predictions and what came of them, newest first."""
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


#: So many changes back are looked at.
MAX_CHANGES = 10


@dataclass(frozen=True)
class LastDowntime:
    """The stop of the newest change that ended well, seconds; what was predicted, if anything."""

    actual_s: float
    low_s: float | None = None
    high_s: float | None = None


def sum_predicted_range(record: RehearsalRecord | None) -> tuple[float, float] | None:
    """Return the stop that a rehearsal predicted, lowest and highest over its hops, seconds."""
    report = record.report if record is not None else None
    if report is None or not report.hops:
        return None
    return sum(hop.downtime.low for hop in report.hops), sum(
        hop.downtime.high for hop in report.hops
    )


def find_last_downtime(journal: Journal) -> LastDowntime | None:
    """Return the newest stop; None where none is known."""
    for change in journal.list_changes(MAX_CHANGES):
        if change.state is not ChangeState.FINISHED:
            continue
        real = measure_downtime(change, journal.read_facts(change.id))
        if real is not None:
            return LastDowntime(real, *(find_predicted_range(journal, change.id) or (None, None)))
    return None


def find_predicted_range(journal: Journal, change: str) -> tuple[float, float] | None:
    """Return what was predicted of a change, lowest and highest, seconds."""
    return find_predicted_ranges(journal, (change,)).get(change)


def find_predicted_ranges(
    journal: Journal, changes: Collection[str]
) -> Mapping[str, tuple[float, float]]:
    """Return what was predicted of changes, by their ids; of some nothing was."""
    if not changes:
        return {}
    with guard_reads(journal.path):
        rows = journal.query("SELECT change, low_s, high_s FROM predictions ORDER BY rowid")
        return {
            row["change"]: (float(row["low_s"]), float(row["high_s"]))
            for row in rows
            if row["change"] in changes
        }
