"""Tests of the approvals that a rollback needs."""

from __future__ import annotations

import pytest

from ncen_updater.agent.engine.approvals.rollback_approvals import (
    RollbackConsent,
    RollbackVerdict,
    compute_rollback_binding,
    decide_rollback,
)

WATCHED, AGREED, APPROVED, EMERGENCY, MISSING = RollbackConsent


@pytest.mark.parametrize(
    ("watched", "needed", "given", "approver", "emergency", "verdict"),
    [
        # While the release is watched a rollback is free, for anyone who may operate.
        (True, 1, 0, False, False, RollbackVerdict(WATCHED)),
        (True, 2, 0, False, True, RollbackVerdict(WATCHED)),
        # Afterwards it takes as many people as going forward.
        (False, 1, 0, False, False, RollbackVerdict(MISSING, 1)),
        (False, 1, 0, True, False, RollbackVerdict(AGREED)),
        (False, 1, 1, False, False, RollbackVerdict(APPROVED)),
        (False, 2, 0, True, False, RollbackVerdict(MISSING, 2)),
        (False, 2, 1, True, False, RollbackVerdict(MISSING, 1)),
        (False, 2, 2, False, False, RollbackVerdict(APPROVED)),
        (False, 2, 3, False, False, RollbackVerdict(APPROVED)),
        # An emergency is always reported as one, also where it was not necessary.
        (False, 2, 0, False, True, RollbackVerdict(EMERGENCY)),
        (False, 2, 2, False, True, RollbackVerdict(EMERGENCY)),
        (False, 1, 0, True, True, RollbackVerdict(EMERGENCY)),
    ],
)
def test_rollback_rights_are_decided(
    watched: bool,
    needed: int,
    given: int,
    approver: bool,
    emergency: bool,
    verdict: RollbackVerdict,
) -> None:
    found = decide_rollback(
        in_soak=watched, needed=needed, approvals=given, approver=approver, emergency=emergency
    )
    assert found == verdict
    assert bool(found) is (verdict.consent is not MISSING)


def test_rollback_approval_is_bound_to_one_upgrade() -> None:
    ours = compute_rollback_binding("abcdefgh", "3.3.0", "3.2.4")
    others = [
        ("abcdefgi", "3.3.0", "3.2.4"),
        ("abcdefgh", "3.3.1", "3.2.4"),
        ("abcdefgh", "3.3.0", "3.2.3"),
    ]
    assert ours not in {compute_rollback_binding(*parts) for parts in others}
