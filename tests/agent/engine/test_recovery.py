"""Tests of the recovery table: every row is reached, every situation decided, and it converges."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from ncen_updater.agent.engine.recovery import (
    MAX_RECOVERY_ATTEMPTS,
    RECOVERY_TABLE,
    CurrentSlot,
    ObservedState,
    RecoveryAction,
    decide_recovery,
)
from ncen_updater.agent.model.change import ChangeState, StepState

RUNNING, UNDOING, COMMITTED = ChangeState.RUNNING, ChangeState.REVERTING, ChangeState.COMMITTED
STUCK = ChangeState.STUCK
DONE, INTENDED, UNDONE = StepState.DONE, StepState.INTENDED, StepState.UNDONE
OLD, NEW, OTHER = CurrentSlot.OLD, CurrentSlot.NEW, CurrentSlot.OTHER

EXPECTED = [
    ("idle", ObservedState(None), RecoveryAction.NOTHING),
    ("idle and fenced", ObservedState(None, fenced=True), RecoveryAction.STOP),
    ("idle and missing", ObservedState(None, database_missing=True), RecoveryAction.STOP),
    ("idle; old failures do not count", ObservedState(None, attempts=99), RecoveryAction.NOTHING),
    ("begun", ObservedState(RUNNING), RecoveryAction.REVERT),
    ("fenced", ObservedState(RUNNING, fenced=True), RecoveryAction.REVERT),
    (
        "cut-over intended, not made",
        ObservedState(RUNNING, cut_over=INTENDED),
        RecoveryAction.REVERT,
    ),
    (
        "cut-over done but not recorded",
        ObservedState(RUNNING, cut_over=INTENDED, cut_over_done=True),
        RecoveryAction.REVERT,
    ),
    (
        "switched, not committed",
        ObservedState(RUNNING, cut_over=DONE, switch=INTENDED, cut_over_done=True, slot=NEW),
        RecoveryAction.REVERT,
    ),
    (
        "half undone",
        ObservedState(UNDOING, cut_over=DONE, switch=UNDONE, cut_over_done=True, slot=OLD),
        RecoveryAction.REVERT,
    ),
    (
        "missing in the middle of a cut-over of files",
        ObservedState(RUNNING, cut_over=INTENDED, database_missing=True),
        RecoveryAction.REVERT,
    ),
    (
        "missing, never cut over: the undo waits for it",
        ObservedState(RUNNING, database_missing=True),
        RecoveryAction.REVERT,
    ),
    (
        "committed",
        ObservedState(COMMITTED, committed=True, cut_over=DONE, cut_over_done=True, slot=NEW),
        RecoveryAction.FINISH,
    ),
    (
        "committed, old databases",
        ObservedState(COMMITTED, committed=True, cut_over=DONE, cut_over_done=False, slot=NEW),
        RecoveryAction.STOP,
    ),
    (
        "committed, old code",
        ObservedState(COMMITTED, committed=True, cut_over=DONE, cut_over_done=True, slot=OLD),
        RecoveryAction.STOP,
    ),
    (
        "committed, as the databases say",
        ObservedState(
            RUNNING,
            cut_over=DONE,
            switch=DONE,
            cut_over_done=True,
            slot=NEW,
            committed_in_databases=True,
        ),
        RecoveryAction.FINISH,
    ),
    (
        "committed, as the databases say; the journal is of the cut-over",
        ObservedState(
            RUNNING, cut_over=INTENDED, cut_over_done=True, slot=NEW, committed_in_databases=True
        ),
        RecoveryAction.FINISH,
    ),
    (
        "committed, as the databases say, old code",
        ObservedState(
            RUNNING, cut_over=DONE, cut_over_done=True, slot=OLD, committed_in_databases=True
        ),
        RecoveryAction.STOP,
    ),
    (
        "committed, as the databases say, old databases",
        ObservedState(RUNNING, cut_over=DONE, slot=NEW, switch=DONE, committed_in_databases=True),
        RecoveryAction.STOP,
    ),
    (
        "committed, as the databases say, half undone",
        ObservedState(
            UNDOING,
            cut_over=DONE,
            switch=DONE,
            cut_over_done=True,
            slot=NEW,
            committed_in_databases=True,
        ),
        RecoveryAction.STOP,
    ),
    (
        "a later change",
        ObservedState(RUNNING, cut_over=DONE, cut_over_done=True, later_change_in_databases=True),
        RecoveryAction.STOP,
    ),
    (
        "committed, and a later change",
        ObservedState(
            COMMITTED,
            committed=True,
            cut_over=DONE,
            cut_over_done=True,
            slot=NEW,
            later_change_in_databases=True,
        ),
        RecoveryAction.STOP,
    ),
    ("swapped, never intended", ObservedState(RUNNING, cut_over_done=True), RecoveryAction.STOP),
    (
        "swapped, was undone",
        ObservedState(UNDOING, cut_over=UNDONE, cut_over_done=True),
        RecoveryAction.STOP,
    ),
    ("switched, never intended", ObservedState(RUNNING, slot=NEW), RecoveryAction.STOP),
    ("switched, was undone", ObservedState(UNDOING, switch=UNDONE, slot=NEW), RecoveryAction.STOP),
    ("a third release", ObservedState(RUNNING, slot=OTHER), RecoveryAction.STOP),
    (
        "last automatic attempt",
        ObservedState(RUNNING, attempts=MAX_RECOVERY_ATTEMPTS - 1),
        RecoveryAction.REVERT,
    ),
    ("one too many", ObservedState(RUNNING, attempts=MAX_RECOVERY_ATTEMPTS), RecoveryAction.STOP),
    ("a person may", ObservedState(RUNNING, attempts=99, by_operator=True), RecoveryAction.REVERT),
    ("stuck", ObservedState(STUCK), RecoveryAction.STOP),
    ("stuck, a person", ObservedState(STUCK, by_operator=True), RecoveryAction.REVERT),
    (
        "stuck after the commit, a person",
        ObservedState(
            STUCK, committed=True, cut_over_done=True, slot=NEW, cut_over=DONE, by_operator=True
        ),
        RecoveryAction.FINISH,
    ),
]


@pytest.mark.parametrize(
    ("situation", "action"), [row[1:] for row in EXPECTED], ids=[row[0] for row in EXPECTED]
)
def test_recovery_table_decides(situation: ObservedState, action: RecoveryAction) -> None:
    assert decide_recovery(situation).action is action


def test_automatic_recovery_has_five_attempts() -> None:
    assert ObservedState(RUNNING).attempts == 0
    assert [decide_recovery(ObservedState(RUNNING, attempts=n)).action for n in (4, 5)] == [
        RecoveryAction.REVERT,
        RecoveryAction.STOP,
    ]


def test_every_rule_is_reached_by_the_examples() -> None:
    assert {decide_recovery(situation).rule for _, situation, _ in EXPECTED} == {
        row.name for row in RECOVERY_TABLE
    }


def _all_situations() -> list[ObservedState]:
    states = [None, RUNNING, UNDOING, COMMITTED, STUCK]
    steps = [None, *StepState]
    flags = [False, True]
    return [
        ObservedState(*values)
        for values in itertools.product(
            states, flags, steps, steps, flags, flags, flags, CurrentSlot,
            [0, MAX_RECOVERY_ATTEMPTS], flags, flags, flags,
        )
    ]  # fmt: skip


def test_table_is_total_and_safe() -> None:
    for situation in _all_situations():
        decision = decide_recovery(situation)
        if decision.action is RecoveryAction.FINISH:
            assert situation.committed or situation.committed_in_databases
            assert not situation.later_change_in_databases
            assert situation.cut_over_done
            assert situation.slot is NEW
        if decision.action is RecoveryAction.REVERT:
            assert not situation.committed
            assert not situation.committed_in_databases
            assert not situation.later_change_in_databases
            assert situation.state is not None
        if decision.action is RecoveryAction.NOTHING:
            assert situation.state is None
            assert not situation.fenced


def test_reverting_converges() -> None:
    """Undoing from the last step to the first never leaves the table's rollback."""
    situation = ObservedState(
        RUNNING, cut_over=DONE, switch=DONE, cut_over_done=True, fenced=False, slot=NEW
    )
    path = [
        {"switch": StepState.UNDOING},
        {"slot": OLD},
        {"switch": UNDONE},
        {"cut_over": StepState.UNDOING},
        {"cut_over_done": False, "fenced": True},
        {"cut_over": UNDONE},
        {"fenced": False},
    ]
    for change in path:
        assert decide_recovery(situation).action is RecoveryAction.REVERT
        situation = dataclasses.replace(situation, state=UNDOING, **change)  # type: ignore[arg-type]
    assert decide_recovery(situation).action is RecoveryAction.REVERT
    assert (
        decide_recovery(dataclasses.replace(situation, state=None)).action is RecoveryAction.NOTHING
    )
