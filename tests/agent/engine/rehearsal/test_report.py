"""Tests that rehearsal reports in journals are read and written unchanged.

``stored_reports.json`` was taken from journals, but for the most of the columns that were tried.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.engine.rehearsal.downtime_forecasts import sum_predicted_range
from ncen_updater.agent.engine.rehearsal.rehearsal_store import (
    RehearsalState,
    RehearsalStore,
    serialize_rehearsal,
)
from ncen_updater.agent.engine.rehearsal.report import (
    RehearsalCopyPlans,
    RehearsalFailure,
    RehearsalReport,
)
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.json_records import JsonRecord

STORED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("stored_reports.json").read_text("utf-8")
)
FOUND = STORED["what was found"]
KINDS: dict[str, type[JsonRecord]] = {
    "where the copies are, SQLite": RehearsalCopyPlans,
    "where the copies are, PostgreSQL": RehearsalCopyPlans,
    "what was found": RehearsalReport,
    "of one that failed": RehearsalFailure,
}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "journal", now=lambda: NOW) as made:
        yield made


def store(journal: Journal, state: RehearsalState, stored: object) -> RehearsalStore:
    """Write what a rehearsal left."""
    rehearsals = RehearsalStore(journal)
    rehearsals.record_start("aaaaaaaa", "3.2.4", "3.3.0", RehearsalCopyPlans())
    with journal.transaction() as connection:
        connection.execute(
            "UPDATE rehearsals SET state = ?, report = ?", (state, json.dumps(stored))
        )
    return rehearsals


@pytest.mark.parametrize("name", STORED)
def test_stored_report_is_written_unchanged(name: str) -> None:
    record = KINDS[name].from_json(STORED[name])
    assert json.dumps(record.to_json(), sort_keys=True) == json.dumps(STORED[name], sort_keys=True)


@pytest.mark.parametrize(
    "left",
    [
        {"release_at_fault": True},
        {"release_at_fault": False, "missing_objects": {"cases": ["extension a"]}},
    ],
)
def test_absent_fields_of_a_report_stay_absent(left: dict[str, object]) -> None:
    assert RehearsalFailure.from_json(left).to_json() == left
    whole = {"plan": "p", "backup_s": 1.0, "sizes": {}, "hops": [], **left}
    del whole["release_at_fault"]
    assert RehearsalReport.from_json(whole).to_json() == whole


def test_unknown_fields_of_a_newer_agent_are_sent_and_bound(journal: Journal) -> None:
    newer = {**FOUND, "of_a_newer_agent": 1}
    record = store(journal, RehearsalState.PASSED, newer).find_last("3.2.4", "3.3.0")
    assert record is not None
    assert record.report == RehearsalReport.from_json(FOUND)
    assert serialize_rehearsal(record)["report"] == newer
    assert record.identity != replace(record, stored_result=FOUND).identity


def test_each_state_has_its_own_outcome(journal: Journal) -> None:
    copies = STORED["where the copies are, SQLite"]
    (record,) = store(journal, RehearsalState.RUNNING, copies).list_newest()
    assert record.copies == RehearsalCopyPlans.from_json(copies)
    assert (record.report, record.failure, sum_predicted_range(record)) == (None, None, None)
    torn = replace(record, state=RehearsalState.FAILED, stored_result=None)
    assert (torn.report, torn.failure, torn.copies) == (None, None, None)
    failed = replace(record, state=RehearsalState.FAILED, stored_result={"release_at_fault": True})
    assert failed.failure == RehearsalFailure(release_at_fault=True)


@pytest.mark.parametrize(
    ("state", "stored"),
    [
        (RehearsalState.PASSED, [7]),
        (RehearsalState.PASSED, {}),
        (RehearsalState.PASSED, {**FOUND, "hops": [7]}),
        (RehearsalState.PASSED, {**FOUND, "hops": [{**FOUND["hops"][0], "downtime": [1, 2]}]}),
        (RehearsalState.FAILED, {"release_at_fault": "yes"}),
        (RehearsalState.RUNNING, {"copy": 7}),
    ],
)
def test_invalid_report_makes_the_journal_unreadable_to_its_reader(
    journal: Journal, state: RehearsalState, stored: object
) -> None:
    (record,) = store(journal, state, stored).list_newest()
    with pytest.raises(JournalUnreadableError, match="journal"):
        _ = record.report, record.failure, record.copies
