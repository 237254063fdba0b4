"""Fixtures that every test may use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries
from tests.support.postgres import FAST_SETTINGS, available


@pytest.fixture(scope="session", params=available(), ids=lambda b: f"pg{b.major}")
def postgres(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """A running server of each major version that can be found."""
    binaries: PostgresBinaries = request.param
    # Not below pytest's own directory: as root the server runs as nobody, who may not enter it.
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        EmbeddedPostgres(binaries, Path(directory), FAST_SETTINGS) as server,
    ):
        yield server
