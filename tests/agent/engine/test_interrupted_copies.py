"""Tests of finding interrupted copies from the journal alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
)
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.reports.diagnostics.doctor import list_interrupted_copies
from ncen_updater.agent.storage.journal.journal import Journal

PLAN = {"cases": {"oid": 3_000_000_001}}
BEGUN, DONE, UNDONE = StepState.INTENDED, StepState.DONE, StepState.UNDONE


@pytest.mark.parametrize(
    ("states", "end", "torn"),
    [
        ((BEGUN, UNDONE), ChangeState.REVERTED, True),
        ((BEGUN, BEGUN, UNDONE), ChangeState.REVERTED, True),
        ((BEGUN, DONE, UNDONE), ChangeState.REVERTED, False),
        ((BEGUN, DONE), ChangeState.FINISHED, False),
        ((BEGUN,), ChangeState.RUNNING, False),  # it is not over: resume looks after it
        ((), ChangeState.REVERTED, False),
    ],
)
def test_interrupted_copies_are_found(
    tmp_path: Path, states: tuple[StepState, ...], end: ChangeState, torn: bool
) -> None:
    change = Change(
        id="abcdefgh",
        kind=ChangeKind.UPGRADE,
        mode=DatabaseMode.MIGRATE,
        state=ChangeState.RUNNING,
        product="ncen",
        from_version="3.2.4",
        to_version="3.3.0",
        generation=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    Journal.create(tmp_path / "journal.db").close()
    with Journal.open(tmp_path / "journal.db") as journal:
        journal.begin_change(change)
        journal.record_step(change.id, StepName.FENCE, DONE)
        for state in states:
            journal.record_step(
                change.id,
                StepName.COPY,
                state,
                ChangeFacts(copy_plan=PLAN if state is BEGUN else None),
            )
        if end is not ChangeState.RUNNING:
            journal.set_change_state(change.id, end)
        assert [dict(plan.copies) for plan in list_interrupted_copies(journal)] == (
            [PLAN] if torn else []
        )
