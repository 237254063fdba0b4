"""Predicted stops and real ones: what a rehearsal said of a change, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.agent.engine.outcome import outcome_of, stop_seconds
from ncen_updater.agent.engine.rehearsal.store import Rehearsals
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState
from ncen_updater.agent.policy.prediction import Past
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import reading

#: So many changes back are looked at.
REMEMBERED = 10


@dataclass(frozen=True)
class ComparedStop:
    """An upgrade whose stop was predicted, and what it was; seconds."""

    version: str
    low_s: float
    high_s: float
    real_s: float


@dataclass(frozen=True)
class ExpectedStop:
    """What the last rehearsal that passed predicted for a change; seconds."""

    rehearsal: str
    low_s: float
    likely_s: float
    high_s: float


def expected(journal: Journal, origin: str, version: str) -> ExpectedStop | None:
    """Return what was predicted for a change, before it begins; None where nothing was.

    Raises:
        JournalUnreadable: If a report in the journal is none.
    """
    for record in Rehearsals(journal).all(REMEMBERED):
        for hop in record.report.hops if record.report is not None else ():
            if hop.way == (origin, version):
                stop = hop.stop_s
                return ExpectedStop(record.id, stop.low, stop.likely, stop.high)
    return None


def expect(journal: Journal, change: Change, predicted: ExpectedStop | None) -> None:
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
        journal.event(
            "predicted", change.id, rehearsal=predicted.rehearsal, low_s=predicted.low_s,
            high_s=predicted.high_s,
        )  # fmt: skip


def settle(journal: Journal, change_id: str) -> None:
    """Compare a change that ended well with what was predicted of it."""
    real = stop_seconds(journal.change(change_id), journal.facts(change_id))
    if real is None:
        return
    with journal.transaction() as connection:
        row = connection.execute(
            "SELECT low_s, high_s FROM predictions WHERE change = ?", (change_id,)
        ).fetchone()
        if row is None:
            return
        connection.execute("UPDATE predictions SET real_s = ? WHERE change = ?", (real, change_id))
        journal.event(
            "stop-compared", change_id, real_s=real, held=row["low_s"] <= real <= row["high_s"],
            low_s=row["low_s"], high_s=row["high_s"],
        )  # fmt: skip


def past(journal: Journal) -> tuple[Past, ...]:
    """What was expected of earlier changes and what they took, newest first."""
    with reading(journal.path):
        rows = journal.rows(
            "SELECT likely_s, real_s FROM predictions WHERE real_s IS NOT NULL ORDER BY rowid DESC"
        )
        known = [Past(float(row["likely_s"]), float(row["real_s"])) for row in rows]
        return tuple(known[:REMEMBERED])


def history(journal: Journal) -> tuple[dict[str, float], ...]:
    """Seconds of each step of earlier upgrades, newest first."""
    found = [
        change
        for change in journal.changes(REMEMBERED * 2)
        if change.kind is ChangeKind.UPGRADE and change.state is ChangeState.FINISHED
    ]
    return tuple(dict(outcome_of(journal, change.id).step_s) for change in found[:REMEMBERED])


def compared(journal: Journal) -> tuple[ComparedStop, ...]:
    """Earlier predictions and what came of them, newest first."""
    with reading(journal.path):
        rows = journal.rows(
            "SELECT changes.to_version AS version, low_s, high_s, real_s FROM predictions"
            " JOIN changes ON changes.id = predictions.change WHERE real_s IS NOT NULL"
            " ORDER BY predictions.rowid DESC"
        )
        return tuple(
            ComparedStop(row["version"], row["low_s"], row["high_s"], row["real_s"])
            for row in rows[:REMEMBERED]
        )
