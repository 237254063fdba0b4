"""A part of the in-place matrix on both engines; all of it: ``python -m tests.faults.full``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ncen_updater.agent.journal.change import StepName
from tests.faults.cells import Cell, all_cells, expected_versions, undo_cells
from tests.faults.full import prepared
from tests.faults.trial import NEW, OLD, Trial
from tests.support.rotation import part

# The steps that differ from those of the strategy with copies.
STEPS = {StepName.COPY, StepName.MIGRATE, StepName.CUT_OVER, StepName.COMMIT}
ALL = [
    cell
    for cell in (*all_cells(), *undo_cells(), *all_cells("rollback"), *undo_cells("rollback"))
    if cell.strikes[-1].step in STEPS
]
CELLS = [
    pytest.param(engine, cell, id=f"{engine}-{cell.id}")
    for engine in ("sqlite", "postgresql", "postgresql-dump")
    for cell in part(ALL, 53, f"in place {engine}")
]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Trial]:
    engine, _, way_back = request.param.partition("-")
    with prepared(engine, "in-place", way_back=way_back or "copy") as trial:
        yield trial


@pytest.mark.parametrize(("made", "cell"), CELLS, indirect=["made"])
def test_the_site_ends_whole_with_every_record(made: Trial, cell: Cell) -> None:
    outcome = made.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)
