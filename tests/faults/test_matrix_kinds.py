"""A part of the matrix of releases that work on the databases that there are, of each kind.

All of it: ``python -m tests.faults.full --matrix --kind all``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from ncen_updater.agent.model.change import StepName
from tests.faults.cells import Cell, all_cells, expected_versions, undo_cells
from tests.faults.full import prepared
from tests.faults.kinds import KINDS, Kind
from tests.faults.trial import NEW, OLD, Trial
from tests.support.migrators import not_as_root
from tests.support.rotation import part

# The steps that differ from those of a change that copies.
STEPS = {
    StepName.PREFLIGHT,
    StepName.COPY,
    StepName.MIGRATE,
    StepName.CUT_OVER,
    StepName.COMMIT,
    StepName.MAINTENANCE_OFF,
    StepName.SOAK,
    StepName.PRUNE,
}
ALL = [
    cell
    for cell in (*all_cells(), *undo_cells(), *all_cells("rollback"), *undo_cells("rollback"))
    if cell.strikes[-1].step in STEPS
]
Made = Callable[[Kind, str], Trial]


def cells(*, programs: bool) -> list[object]:
    """Of the sites of these kinds, on each engine, a part."""
    sites = [
        (kind, engine)
        for kind in KINDS.values()
        if kind.stays and kind.runs_program is programs
        for engine in kind.engines
    ]
    return [
        pytest.param(kind, engine, cell, id=f"{named}-{cell.id}")
        for kind, engine in sites
        for named in (f"{kind.name}-{engine}",)
        for cell in part(ALL, 151, named)
    ]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """The site of a kind on an engine, laid out when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def of(kind: Kind, engine: str) -> Trial:
            return stack.enter_context(prepared(engine, kind))

        yield of


def ends_whole(made: Trial, cell: Cell) -> None:
    outcome = made.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)


@pytest.mark.parametrize(("kind", "engine", "cell"), cells(programs=False))
def test_interrupted_site_is_consistent_and_complete(
    made: Made, kind: Kind, engine: str, cell: Cell
) -> None:
    ends_whole(made(kind, engine), cell)


@not_as_root
@pytest.mark.parametrize(("kind", "engine", "cell"), cells(programs=True))
def test_interrupted_site_with_a_migrator_is_consistent_and_complete(
    made: Made, kind: Kind, engine: str, cell: Cell
) -> None:
    ends_whole(made(kind, engine), cell)
