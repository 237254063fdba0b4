"""A part of the fault matrix on PostgreSQL; all of it: ``python -m tests.faults.full``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.cells import Cell, all_cells, expected_versions, undo_cells
from tests.faults.full import prepared
from tests.faults.trial import NEW, OLD, Trial
from tests.support.rotation import part

# A part of all cells, in turns. No divisor of the number of faults, so that each step meets
# different ones.
CELLS = [
    *part([*all_cells()], 101, "postgresql forward"),
    *part([*undo_cells()], 197, "postgresql back"),
    *part([*all_cells("rollback"), *undo_cells("rollback")], 307, "postgresql rollback"),
]


@pytest.fixture(scope="module")
def made() -> Iterator[Trial]:
    with prepared("postgresql") as trial:
        yield trial


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_interrupted_site_is_consistent_and_complete(made: Trial, cell: Cell) -> None:
    outcome = made.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)
