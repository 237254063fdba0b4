"""Stops of officers: the last real one, and what was predicted. Light: ``status`` imports it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ncen_updater.agent.engine.outcome import stop_seconds
from ncen_updater.agent.engine.rehearsal.store import RehearsalRecord
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import reading

#: So many changes back are looked at.
LOOKED_AT = 10


@dataclass(frozen=True)
class LastStop:
    """The stop of the newest change that ended well, seconds; what was predicted, if anything."""

    real_s: float
    low_s: float | None = None
    high_s: float | None = None


def stop_range(record: RehearsalRecord | None) -> tuple[float, float] | None:
    """Return the stop that a rehearsal predicted, lowest and highest over its hops, seconds."""
    report = record.report if record is not None else None
    if report is None or not report.hops:
        return None
    return sum(hop.stop_s.low for hop in report.hops), sum(hop.stop_s.high for hop in report.hops)


def last_stop(journal: Journal) -> LastStop | None:
    """Return the newest stop; None where none is known."""
    for change in journal.changes(LOOKED_AT):
        if change.state is not ChangeState.FINISHED:
            continue
        real = stop_seconds(change, journal.facts(change.id))
        if real is not None:
            return LastStop(real, *(predicted_stop(journal, change.id) or (None, None)))
    return None


def predicted_stop(journal: Journal, change: str) -> tuple[float, float] | None:
    """Return what was predicted of a change, lowest and highest, seconds."""
    return predicted_stops(journal, (change,)).get(change)


def predicted_stops(
    journal: Journal, changes: Collection[str]
) -> Mapping[str, tuple[float, float]]:
    """Return what was predicted of changes, by their ids; of some nothing was."""
    if not changes:
        return {}
    with reading(journal.path):
        rows = journal.rows("SELECT change, low_s, high_s FROM predictions ORDER BY rowid")
        return {
            row["change"]: (float(row["low_s"]), float(row["high_s"]))
            for row in rows
            if row["change"] in changes
        }
