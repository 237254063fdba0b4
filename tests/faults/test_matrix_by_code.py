"""A part of the matrix of a release that changes only the code, on both engines.

All of it: ``python -m tests.faults.full --matrix --code``.
"""

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

# The steps that differ from those of a change that copies.
STEPS = {
    StepName.PREFLIGHT,
    StepName.COPY,
    StepName.MIGRATE,
    StepName.CUT_OVER,
    StepName.COMMIT,
    StepName.OPEN,
    StepName.COLLECT,
}
ALL = [
    cell
    for cell in (*all_cells(), *undo_cells(), *all_cells("rollback"), *undo_cells("rollback"))
    if cell.strikes[-1].step in STEPS
]
CELLS = [
    pytest.param(named, cell, id=f"{named}-{cell.id}")
    for named in ("sqlite-copy", "sqlite-in-place", "postgresql-copy", "postgresql-in-place")
    for cell in part(ALL, 307, f"by code {named}")
]


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[[str], Trial]]:
    """The site of an engine, laid out when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def of(named: str) -> Trial:
            engine, _, strategy = named.partition("-")
            return stack.enter_context(prepared(engine, strategy, by_code=True))

        yield of


@pytest.mark.parametrize(("named", "cell"), CELLS)
def test_the_site_ends_whole_with_every_record(
    made: Callable[[str], Trial], named: str, cell: Cell
) -> None:
    outcome = made(named).run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)
