"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries
from tests.support.postgres import FAST_SETTINGS, available


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[PostgresBinaries], EmbeddedPostgres]]:
    """Gives the one server of a major version, started when it is first asked for.

    Whatever the order of the tests, none is made twice.
    """
    running: dict[int, EmbeddedPostgres] = {}
    with contextlib.ExitStack() as stack:

        def server(binaries: PostgresBinaries) -> EmbeddedPostgres:
            if binaries.major not in running:
                # Not below pytest's own directory: as root the server runs as nobody, who may
                # not enter it.
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-test-"))
                made = EmbeddedPostgres(binaries, Path(directory), FAST_SETTINGS)
                running[binaries.major] = stack.enter_context(made)
            return running[binaries.major]

        yield server


@pytest.fixture(scope="session", params=available(), ids=lambda b: f"pg{b.major}")
def postgres(
    request: pytest.FixtureRequest, servers: Callable[[PostgresBinaries], EmbeddedPostgres]
) -> EmbeddedPostgres:
    """A running server of each major version that can be found."""
    return servers(request.param)
