"""Tests that facts of a change keep their stored form."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.model.change_facts import (
    NO_FACTS,
    ChangeFacts,
    DowntimeStart,
    FingerprintSource,
    SnapshotPlan,
)
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.storage.journal.test_journal import CHANGE

#: As the journal has them.
STORED: dict[str, object] = {
    "path_versions": ["3.3.10", "3.4.0"],
    "start_before": "2026-01-01T03:00:00+00:00",
    "binding": "ab" * 32,
    "required_approvals": 2,
    "accepted_loss": 3,
    "undone_upgrade": "abcdefgh",
    "unchanged_databases": True,
    "has_expand": True,
    "expand_started": True,
    "contract_started": True,
    "contract_failed": "NU-4203",
    "contract_abandoned": True,
    "contract_s": 12.5,
    "schema_kinds": {"cases": {"tables": "ab"}},
    "no_copy": True,
    "failed_soak_upgrade": "abcdefgh",
    "needs_operator": True,
    "confirmed_by": "amina",
    "fetched": False,
    "slot_existed": False,
    "built_from": "archive",
    "snapshots": [{"directory": "/srv/photos", "method": "link", "name": "photographs"}],
    "advisories": ["NU-6323 some"],
    "maintenance_was_on": False,
    "downtime_started": {"boot": "b1", "monotonic_s": 12.5},
    "downtime_s": 7.25,
    "was_running": True,
    "ended_sessions": ["pg_dump of backup (ncen_seizures)"],
    "replaced": ["ncen_seizures"],
    "lost_records": 0,
    "overlay_before": "3.2.4-0123456789ab",
    "copy_plan": {"seizures": {"method": "clone", "oid": 5}},
    "checks_before": {"No case is lost": 60, "none": None, "word": "x"},
    "checks_after": {"No case is lost": 60, "none": None, "word": "x"},
    "fingerprints_before": {"seizures": "0a"},
    "fingerprints": {"seizures": "0b"},
    "fingerprint_source": {"engine": "postgresql", "format": 1, "major": 17},
    "databases_unchanged": False,
    "rollback_loses_data": True,
    "schema_basis": "before",
    "release_rows": {"seizures": {"ref_offence_category": 1}},
    "remaining_parts_error": {"template": "it does not start", "values": {}},
    "soak_started_at": "2026-01-01T03:00:00+00:00",
    "soak_error": {"template": "status 503", "values": {}},
    "soak_checks": 4,
    "soak_failed_checks": 1,
    "statistics": {"seconds": 1.0, "tables": {"seizures": ["cases"]}},
    "dropped_changes": ["bcdefghi"],
    "dropped_slots": ["3.2.4"],
}
OF_A_NEWER_AGENT: dict[str, object] = {"of_a_newer_agent": {"x": [1, None]}}


def test_stored_form_of_every_fact_is_stable() -> None:
    stored = {**STORED, **OF_A_NEWER_AGENT}
    facts = ChangeFacts.from_json(stored)
    assert json.dumps(facts.to_json(), sort_keys=True) == json.dumps(stored, sort_keys=True)
    assert set(STORED) == set(ChangeFacts.__dataclass_fields__) - {"unknown_facts"}
    assert all(getattr(facts, name) is not None for name in STORED)
    assert facts.downtime_started == DowntimeStart("b1", 12.5)
    assert facts.snapshots == (SnapshotPlan("photographs", "/srv/photos", "link"),)
    assert facts.fingerprint_source == FingerprintSource(1, "postgresql", 17)
    assert facts.soak_started_at == datetime(2026, 1, 1, 3, tzinfo=UTC)
    assert facts.unknown_facts == OF_A_NEWER_AGENT


def test_unset_facts_are_not_written() -> None:
    assert NO_FACTS.to_json() == {}
    assert ChangeFacts.from_json({"soak_started_at": None}) == NO_FACTS


def test_facts_are_merged_with_stored_ones(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path) as journal:
        journal.begin_change(CHANGE, ChangeFacts(unknown_facts=OF_A_NEWER_AGENT))
        journal.record_step(
            CHANGE.id, StepName.FETCH, StepState.INTENDED, ChangeFacts(fetched=False)
        )
        journal.store_facts(CHANGE.id, ChangeFacts(maintenance_was_on=True))
        journal.store_facts(CHANGE.id, ChangeFacts(maintenance_was_on=False))
    with closing(sqlite3.connect(path)) as raw:
        rows = dict(raw.execute("SELECT name, value FROM facts").fetchall())
    assert rows == {
        "of_a_newer_agent": '{"x": [1, null]}', "fetched": "false", "maintenance_was_on": "false",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("fetched", 1),
        ("required_approvals", "2"),
        ("required_approvals", True),
        ("downtime_s", "long"),
        ("binding", 7),
        ("path_versions", "3.3.0"),
        ("path_versions", [7]),
        ("copy_plan", {"seizures": 1}),
        ("copy_plan", []),
        ("downtime_started", {"boot": "b1"}),
        ("downtime_started", 12.5),
        ("checks_after", {"No case is lost": []}),
        ("soak_started_at", "2026-01-01T03:00:00"),
        ("soak_started_at", "yesterday"),
    ],
)
def test_fact_of_another_type_makes_the_journal_unreadable(
    tmp_path: Path, name: str, odd: object
) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path) as journal:
        journal.begin_change(CHANGE)
        with journal.transaction() as connection:
            row = (CHANGE.id, name, json.dumps(odd))
            connection.execute("INSERT INTO facts VALUES (?, ?, ?)", row)
        with pytest.raises(JournalUnreadableError):
            journal.read_facts(CHANGE.id)
