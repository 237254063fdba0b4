"""Tests of what voids an approval, and of who counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.engine.approvals.approval import (
    Approval,
    ApprovalBasis,
    ApprovalCount,
    RollbackApproval,
    VoidReason,
    count_accepted_loss,
    count_approvals,
    count_provisional_loss,
    find_void_reasons,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
THEN = ApprovalBasis(
    plan="p",
    schemas={"seizures": "s", "suspects": "t"},
    configuration="c",
    rehearsal="r",
    sizes={"seizures": 1000, "suspects": 0},
    rehearsed_at=NOW - timedelta(days=3),
)


@dataclass(frozen=True)
class Row:
    name: str
    now: ApprovalBasis
    reasons: tuple[VoidReason, ...]
    time: datetime = NOW


ROWS = (
    Row("nothing changed", THEN, ()),
    Row("another plan", replace(THEN, plan="q"), (VoidReason.PLAN,)),
    Row(
        "one database changed",
        replace(THEN, schemas={"seizures": "s", "suspects": "u"}),
        (VoidReason.SCHEMA,),
    ),
    Row("a database more", replace(THEN, schemas={**THEN.schemas, "x": "y"}), (VoidReason.SCHEMA,)),
    Row("a database less", replace(THEN, schemas={"seizures": "s"}), (VoidReason.SCHEMA,)),
    Row("other settings", replace(THEN, configuration="d"), (VoidReason.CONFIGURATION,)),
    Row("rehearsed again", replace(THEN, rehearsal="r2"), (VoidReason.REHEARSAL,)),
    Row("grown to the limit", replace(THEN, sizes={"seizures": 1200}), ()),
    Row("grown over it", replace(THEN, sizes={"seizures": 1201}), (VoidReason.DATABASE_GREW,)),
    Row("grown from nothing", replace(THEN, sizes={"suspects": 1}), (VoidReason.DATABASE_GREW,)),
    Row("shrunk", replace(THEN, sizes={"seizures": 1}), ()),
    Row("just young enough", THEN, (), NOW + timedelta(days=11)),
    Row("too old", THEN, (VoidReason.REHEARSAL_TOO_OLD,), NOW + timedelta(days=14)),
    Row("a clock set back", THEN, (), NOW - timedelta(days=400)),
    Row(
        "everything",
        ApprovalBasis("q", {}, "d", "", {"seizures": 9999}),
        (
            VoidReason.PLAN,
            VoidReason.SCHEMA,
            VoidReason.SCHEMA,
            VoidReason.CONFIGURATION,
            VoidReason.REHEARSAL,
            VoidReason.DATABASE_GREW,
        ),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_changed_facts_void_an_approval(row: Row) -> None:
    found = find_void_reasons(
        THEN, row.now, now=row.time, max_growth_percent=20.0, max_age=timedelta(days=14)
    )
    assert tuple(void.reason for void in found) == row.reasons
    assert all("{" not in void.text.render("en") for void in found)


def test_growth_is_shown_in_percent() -> None:
    (void,) = find_void_reasons(
        THEN,
        replace(THEN, sizes={"seizures": 1500}),
        now=NOW,
        max_growth_percent=20.0,
        max_age=timedelta(days=14),
    )
    assert void.text.render("en") == "database 'seizures' grew by 50 % since the rehearsal"


def test_binding_covers_everything_except_sizes_and_time() -> None:
    parts = {
        replace(THEN, plan="q").compute_binding(),
        replace(THEN, schemas={}).compute_binding(),
        replace(THEN, configuration="d").compute_binding(),
        replace(THEN, rehearsal="x").compute_binding(),
        THEN.compute_binding(),
    }
    assert len(parts) == 5
    assert replace(THEN, sizes={}, rehearsed_at=None).compute_binding() == THEN.compute_binding()
    assert replace(THEN, plan="ps", configuration="").compute_binding() != THEN.compute_binding()


def make_approval(who: str, uid: int, binding: str = "b") -> Approval:
    return Approval(binding, who, uid, NOW)


@pytest.mark.parametrize(
    ("approvals", "needed", "missing"),
    [
        ((), 1, 1),
        ((make_approval("amina", 1001),), 1, 0),
        ((make_approval("amina", 1001),), 2, 1),
        ((make_approval("amina", 1001), make_approval("amina", 1001)), 2, 1),
        ((make_approval("amina", 1001), make_approval("root-alias", 1001)), 2, 1),
        ((make_approval("amina", 1001), make_approval("bo", 1002)), 2, 0),
        ((make_approval("amina", 1001), make_approval("bo", 1002, "other")), 2, 1),
        ((make_approval("amina", 1001), make_approval("bo", 1002)), 1, 0),
        ((make_approval("root", 0),), 1, 0),
        ((make_approval("root", 0), make_approval("amina", 1001)), 2, 1),
        ((make_approval("root", 0), make_approval("amina", 1001), make_approval("bo", 2)), 2, 0),
    ],
)
def test_counting_approvers_decide(
    approvals: tuple[Approval, ...], needed: int, missing: int
) -> None:
    standing = count_approvals(approvals, "b", needed)
    assert standing.missing == missing
    assert bool(standing) is (missing == 0)


@pytest.mark.parametrize(
    ("uid", "needed", "given", "counts"),
    [
        (1001, 1, (), True),
        (1001, 2, (1002,), True),
        (1001, 2, (1001,), False),
        (1001, 2, (1002, 1001), False),
        (0, 1, (), True),
        (0, 2, (), False),
    ],
)
def test_approval_that_would_not_count_is_known_before(
    uid: int, needed: int, given: tuple[int, ...], counts: bool
) -> None:
    approvals = tuple(make_approval(f"user{one}", one) for one in given)
    assert ApprovalCount(approvals, needed).would_count(uid) is counts


@pytest.mark.parametrize(
    ("accepted", "needed", "provisional", "final"),
    [
        ((), 1, 0, 0),
        ((3,), 1, 3, 3),
        ((3,), 2, 3, 0),
        ((3, 5), 2, 3, 3),
        ((5, 0), 2, 0, 0),
    ],
)
def test_smallest_accepted_loss_applies_once_there_are_enough_approvals(
    accepted: tuple[int, ...], needed: int, provisional: int, final: int
) -> None:
    given = [
        RollbackApproval("change1", "3.3.0", "3.2.4", loss, make_approval(f"user{uid}", uid))
        for uid, loss in enumerate(accepted, 1001)
    ]
    count = count_approvals([one.approval for one in given], "b", needed)
    other = replace(given[0], accept_loss=1, approval=make_approval("c", 1, "o")) if given else None
    everything = [*given, *([other] if other else [])]
    assert count_provisional_loss(everything, count) == provisional
    assert count_accepted_loss(everything, count) == final
