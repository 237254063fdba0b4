"""Tests that nonsense in the agent's own database tables is reported."""

from __future__ import annotations

import pytest

from ncen_updater.agent.adapters.databases.migrations.ledger import (
    parse_ledger_rows,
    parse_state_row,
)
from ncen_updater.agent.model.errors import LedgerUnreadableError

GOOD = ("0001_schema", "up", "ab" * 32, "3.2.4", "abcdefgh", "2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize("direction", ["", "UP", "sideways", None, 7, "x" * 100_000])
def test_unknown_direction_is_refused(direction: object) -> None:
    assert len(parse_ledger_rows([GOOD])) == 1
    with pytest.raises(LedgerUnreadableError) as caught:
        parse_ledger_rows([GOOD, (GOOD[0], direction, *GOOD[2:])])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("generation", ["", "one", None, "1e3", "9" * 5000])
def test_non_numeric_generation_is_refused(generation: object) -> None:
    assert parse_state_row([]) is None
    with pytest.raises(LedgerUnreadableError) as caught:
        parse_state_row([("3.2.4", generation, "abcdefgh")])
    assert len(str(caught.value)) < 500
