"""A part of the fault matrix in every test run; all of it: ``python -m tests.faults.full``."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.demo.embedded_postgres import EmbeddedPostgres
from tests.faults.cells import Cell, all_cells, expected_versions, undo_cells
from tests.faults.trial import NEW, OLD, Trial, trial
from tests.support.postgres import FAST_SETTINGS, available


@pytest.fixture(scope="module")
def sqlite_trial() -> Iterator[Trial]:
    with (
        tempfile.TemporaryDirectory(prefix="nu-faults-") as directory,
        trial(Path(directory), None) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def postgres_trial() -> Iterator[Trial]:
    newest = available()[-1]
    with (
        tempfile.TemporaryDirectory(prefix="nu-faults-") as directory,
        tempfile.TemporaryDirectory(prefix="nu-faults-pg-") as data,
        EmbeddedPostgres(newest, Path(data), FAST_SETTINGS) as server,
        trial(Path(directory), server) as made,
    ):
        yield made


def _sample(cells: Iterator[Cell], every: int) -> list[Cell]:
    """Take every n-th, walking through the faults so that each step meets different ones."""
    return list(itertools.islice(cells, 0, None, every))


@pytest.mark.parametrize("cell", _sample(all_cells(), 4), ids=lambda c: c.id)
def test_forward_on_sqlite(sqlite_trial: Trial, cell: Cell) -> None:
    outcome = sqlite_trial.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)


@pytest.mark.parametrize("cell", _sample(undo_cells(), 7), ids=lambda c: c.id)
def test_going_back_on_sqlite(sqlite_trial: Trial, cell: Cell) -> None:
    outcome = sqlite_trial.run(cell)
    assert outcome.struck
    assert outcome.version == OLD


@pytest.mark.parametrize("cell", _sample(all_cells(), 7), ids=lambda c: c.id)
def test_forward_on_postgresql(postgres_trial: Trial, cell: Cell) -> None:
    outcome = postgres_trial.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)


@pytest.mark.parametrize("cell", _sample(undo_cells(), 13), ids=lambda c: c.id)
def test_going_back_on_postgresql(postgres_trial: Trial, cell: Cell) -> None:
    outcome = postgres_trial.run(cell)
    assert outcome.struck
    assert outcome.version == OLD
