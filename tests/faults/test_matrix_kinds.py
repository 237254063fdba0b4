"""A part of the matrix of releases that work on the databases that there are, of each kind.

All of it: ``python -m tests.faults.full --matrix --kind all``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from ncen_updater.agent.journal.change import StepName
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
    StepName.OPEN,
    StepName.SOAK,
    StepName.COLLECT,
}
ALL = [
    cell
    for cell in (*all_cells(), *undo_cells(), *all_cells("rollback"), *undo_cells("rollback"))
    if cell.strikes[-1].step in STEPS
]
Made = Callable[[Kind, str, str], Trial]


def cells(*, programs: bool) -> list[object]:
    """Every second of the sites of these kinds, by both strategies on each engine, and a part."""
    sites = [
        (kind, engine, strategy)
        for kind in KINDS.values()
        if kind.stays and kind.runs_program is programs
        for engine in kind.engines
        for strategy in ("copy", "in-place")
    ]
    return [
        pytest.param(kind, engine, strategy, cell, id=f"{named}-{cell.id}")
        for kind, engine, strategy in part(sites, 2, f"kinds that run programs: {programs}")
        for named in (f"{kind.name}-{engine}-{strategy}",)
        for cell in part(ALL, 151, named)
    ]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """The site of a kind on an engine, laid out when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def of(kind: Kind, engine: str, strategy: str) -> Trial:
            return stack.enter_context(prepared(engine, strategy, kind=kind))

        yield of


def ends_whole(made: Trial, cell: Cell) -> None:
    outcome = made.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)


@pytest.mark.parametrize(("kind", "engine", "strategy", "cell"), cells(programs=False))
def test_the_site_ends_whole_with_every_record(
    made: Made, kind: Kind, engine: str, strategy: str, cell: Cell
) -> None:
    ends_whole(made(kind, engine, strategy), cell)


@not_as_root
@pytest.mark.parametrize(("kind", "engine", "strategy", "cell"), cells(programs=True))
def test_one_whose_program_runs_does_so_too(
    made: Made, kind: Kind, engine: str, strategy: str, cell: Cell
) -> None:
    ends_whole(made(kind, engine, strategy), cell)
