"""Stops of users: the last real one, and what was predicted. Light: ``status`` imports it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ncen_updater.agent.engine.change_outcome import measure_downtime
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import guard_reads

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
