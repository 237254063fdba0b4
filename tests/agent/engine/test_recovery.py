"""The recovery table: every row is reached, every situation has an answer, and it converges."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from ncen_updater.agent.engine.recovery import (
    MAX_ATTEMPTS,
    TABLE,
    RecoveryAction,
    Situation,
    SlotSeen,
    decide,
)
from ncen_updater.agent.model.change import ChangeState, StepState

RUNNING, UNDOING, COMMITTED = ChangeState.RUNNING, ChangeState.UNDOING, ChangeState.COMMITTED
STUCK = ChangeState.STUCK
DONE, INTENDED, UNDONE = StepState.DONE, StepState.INTENDED, StepState.UNDONE
OLD, NEW, OTHER = SlotSeen.OLD, SlotSeen.NEW, SlotSeen.OTHER

EXPECTED = [
    ("idle", Situation(None), RecoveryAction.NOTHING),
    ("idle and fenced", Situation(None, fenced=True), RecoveryAction.STOP),
    ("idle and missing", Situation(None, missing=True), RecoveryAction.STOP),
    ("idle; old failures do not count", Situation(None, attempts=99), RecoveryAction.NOTHING),
    ("begun", Situation(RUNNING), RecoveryAction.GO_BACK),
    ("fenced", Situation(RUNNING, fence=DONE, fenced=True), RecoveryAction.GO_BACK),
    ("fence intended only", Situation(RUNNING, fence=INTENDED), RecoveryAction.GO_BACK),
    ("cut-over intended, not made", Situation(RUNNING, cut_over=INTENDED), RecoveryAction.GO_BACK),
    (
        "cut-over made and nobody told",
        Situation(RUNNING, cut_over=INTENDED, swapped=True),
        RecoveryAction.GO_BACK,
    ),
    (
        "switched, not committed",
        Situation(RUNNING, cut_over=DONE, switch=INTENDED, swapped=True, slot=NEW),
        RecoveryAction.GO_BACK,
    ),
    (
        "half undone",
        Situation(UNDOING, cut_over=DONE, switch=UNDONE, swapped=True, slot=OLD),
        RecoveryAction.GO_BACK,
    ),
    (
        "missing in the middle of a cut-over of files",
        Situation(RUNNING, cut_over=INTENDED, missing=True),
        RecoveryAction.GO_BACK,
    ),
    (
        "missing, never cut over: the undo waits for it",
        Situation(RUNNING, fence=DONE, missing=True),
        RecoveryAction.GO_BACK,
    ),
    (
        "committed",
        Situation(COMMITTED, committed=True, cut_over=DONE, swapped=True, slot=NEW),
        RecoveryAction.GO_FORWARD,
    ),
    (
        "committed, old databases",
        Situation(COMMITTED, committed=True, cut_over=DONE, swapped=False, slot=NEW),
        RecoveryAction.STOP,
    ),
    (
        "committed, old code",
        Situation(COMMITTED, committed=True, cut_over=DONE, swapped=True, slot=OLD),
        RecoveryAction.STOP,
    ),
    (
        "committed, as the databases say",
        Situation(RUNNING, cut_over=DONE, switch=DONE, swapped=True, slot=NEW, recorded=True),
        RecoveryAction.GO_FORWARD,
    ),
    (
        "committed, as the databases say; the journal is of the cut-over",
        Situation(RUNNING, cut_over=INTENDED, swapped=True, slot=NEW, recorded=True),
        RecoveryAction.GO_FORWARD,
    ),
    (
        "committed, as the databases say, old code",
        Situation(RUNNING, cut_over=DONE, swapped=True, slot=OLD, recorded=True),
        RecoveryAction.STOP,
    ),
    (
        "committed, as the databases say, old databases",
        Situation(RUNNING, cut_over=DONE, slot=NEW, switch=DONE, recorded=True),
        RecoveryAction.STOP,
    ),
    (
        "committed, as the databases say, half undone",
        Situation(UNDOING, cut_over=DONE, switch=DONE, swapped=True, slot=NEW, recorded=True),
        RecoveryAction.STOP,
    ),
    (
        "a later change", Situation(RUNNING, cut_over=DONE, swapped=True, later=True),
        RecoveryAction.STOP,
    ),
    (
        "committed, and a later change",
        Situation(COMMITTED, committed=True, cut_over=DONE, swapped=True, slot=NEW, later=True),
        RecoveryAction.STOP,
    ),
    ("swapped, never intended", Situation(RUNNING, swapped=True), RecoveryAction.STOP),
    ("swapped, was undone", Situation(UNDOING, cut_over=UNDONE, swapped=True), RecoveryAction.STOP),
    ("switched, never intended", Situation(RUNNING, slot=NEW), RecoveryAction.STOP),
    ("switched, was undone", Situation(UNDOING, switch=UNDONE, slot=NEW), RecoveryAction.STOP),
    ("a third release", Situation(RUNNING, slot=OTHER), RecoveryAction.STOP),
    (
        "last automatic attempt", Situation(RUNNING, attempts=MAX_ATTEMPTS - 1),
        RecoveryAction.GO_BACK,
    ),
    ("one too many", Situation(RUNNING, attempts=MAX_ATTEMPTS), RecoveryAction.STOP),
    ("a person may", Situation(RUNNING, attempts=99, by_person=True), RecoveryAction.GO_BACK),
    ("stuck", Situation(STUCK), RecoveryAction.STOP),
    ("stuck, a person", Situation(STUCK, by_person=True), RecoveryAction.GO_BACK),
    (
        "stuck after the commit, a person",
        Situation(STUCK, committed=True, swapped=True, slot=NEW, cut_over=DONE, by_person=True),
        RecoveryAction.GO_FORWARD,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("situation", "action"), [row[1:] for row in EXPECTED], ids=[row[0] for row in EXPECTED]
)
def test_the_table(situation: Situation, action: RecoveryAction) -> None:
    assert decide(situation).action is action


def test_recovery_by_itself_tries_five_times_and_counts_from_nothing() -> None:
    assert Situation(RUNNING).attempts == 0
    assert [decide(Situation(RUNNING, attempts=n)).action for n in (4, 5)] == [
        RecoveryAction.GO_BACK,
        RecoveryAction.STOP,
    ]


def test_every_row_is_reached_by_the_examples() -> None:
    assert {decide(situation).row for _, situation, _ in EXPECTED} == {row.name for row in TABLE}


def _all_situations() -> list[Situation]:
    states = [None, RUNNING, UNDOING, COMMITTED, STUCK]
    steps = [None, *StepState]
    flags = [False, True]
    return [
        Situation(*values)
        for values in itertools.product(
            states, flags, [None, DONE], steps, steps, flags, flags, flags, SlotSeen,
            [0, MAX_ATTEMPTS], flags, flags, flags,
        )
    ]  # fmt: skip


def test_total_and_safe_over_every_situation() -> None:
    for situation in _all_situations():
        decision = decide(situation)
        if decision.action is RecoveryAction.GO_FORWARD:
            assert situation.committed or situation.recorded
            assert not situation.later
            assert situation.swapped
            assert situation.slot is NEW
        if decision.action is RecoveryAction.GO_BACK:
            assert not situation.committed
            assert not situation.recorded
            assert not situation.later
            assert situation.state is not None
        if decision.action is RecoveryAction.NOTHING:
            assert situation.state is None
            assert not situation.fenced


def test_going_back_converges() -> None:
    """Undoing from the last step to the first never leaves the table's way back."""
    situation = Situation(
        RUNNING, fence=DONE, cut_over=DONE, switch=DONE, swapped=True, fenced=False, slot=NEW
    )
    path = [
        {"switch": StepState.UNDOING},
        {"slot": OLD},
        {"switch": UNDONE},
        {"cut_over": StepState.UNDOING},
        {"swapped": False, "fenced": True},
        {"cut_over": UNDONE},
        {"fence": StepState.UNDOING},
        {"fenced": False},
        {"fence": UNDONE},
    ]
    for change in path:
        assert decide(situation).action is RecoveryAction.GO_BACK
        situation = dataclasses.replace(situation, state=UNDOING, **change)  # type: ignore[arg-type]
    assert decide(situation).action is RecoveryAction.GO_BACK
    assert decide(dataclasses.replace(situation, state=None)).action is RecoveryAction.NOTHING
