"""A part of the in-place matrix, on one site in turns; all: ``python -m tests.faults.full``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

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
    # To lay out a site costs more than three cells.
    for engine in part(("sqlite", "postgresql", "postgresql-dump"), 3, "in place")
    for cell in part(ALL, 71, f"in place {engine}")
]


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[[str], Trial]]:
    """The site of an engine, laid out when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def of(named: str) -> Trial:
            engine, _, way_back = named.partition("-")
            return stack.enter_context(prepared(engine, "in-place", way_back=way_back or "copy"))

        yield of


@pytest.mark.parametrize(("engine", "cell"), CELLS)
def test_the_site_ends_whole_with_every_record(
    made: Callable[[str], Trial], engine: str, cell: Cell
) -> None:
    outcome = made(engine).run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)
