"""One server for all examples."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.examples.desk import at_loopback


@pytest.fixture(scope="package")
def server() -> Iterator[EmbeddedPostgres]:
    """At the loopback."""
    with at_loopback() as server:
        yield server
