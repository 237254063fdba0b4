"""Tests of the reasons why the next upgrade cannot start yet. Pure."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.agent.engine.approvals.next_upgrade import (
    require_approvals,
    require_no_pending_change,
)
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    BUSY,
    NOT_REHEARSED,
    OPEN_CHANGE,
    REHEARSAL_OUTDATED,
    SOAK_NOT_FINISHED,
    ErrorMessage,
)
from tests.support.errors import refused

SEEN: dict[str, Any] = {
    "target": "3.3.0", "binding": "ab" * 32, "void_reasons": [], "missing": 2,
    "required_approvals": 2,
}  # fmt: skip
CHANGE = {"id": "abcdefgh", "kind": "upgrade", "to": "3.3.0", "state": "committed"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, APPROVAL_MISSING),
        ({"binding": None}, NOT_REHEARSED),
        ({"binding": None, "void_reasons": ["the upgrade path changed"]}, REHEARSAL_OUTDATED),
        ({"void_reasons": ["the upgrade path changed"]}, REHEARSAL_OUTDATED),
    ],
)
def test_reason_why_an_upgrade_cannot_start_is_found(
    more: dict[str, Any], message: ErrorMessage
) -> None:
    """Seen: "has to be approved by 2 more", where all had and the plan became another one."""
    with refused(message):
        require_approvals({**SEEN, **more})


def test_sufficient_approvals_are_accepted_whatever_was_void_before() -> None:
    require_approvals({**SEEN, "missing": 0, "void_reasons": ["the upgrade path changed"]})


def test_no_approval_is_taken_beside_an_open_change() -> None:
    require_no_pending_change(None, None, served=True)
    with refused(OPEN_CHANGE):
        require_no_pending_change({**CHANGE, "soak_ends_at": None}, None, served=False)
    with refused(OPEN_CHANGE):
        stuck = {**CHANGE, "soak_ends_at": None, "state": "stuck"}
        require_no_pending_change(stuck, None, served=True)
    with refused(BUSY, match="upgrade to 3.3.0, being completed by the service"):
        require_no_pending_change({**CHANGE, "soak_ends_at": None}, None, served=True)
    until = {"soak_ends_at": "2026-11-24T20:40:00+00:00"}
    with refused(SOAK_NOT_FINISHED, match=r"until 2026-11-25 00:40:00 \+04"):
        require_no_pending_change({**CHANGE, **until}, ZoneInfo("Indian/Mauritius"), served=True)
