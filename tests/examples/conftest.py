"""A server at the loopback, since Java opens no socket."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from tests.support.postgres import available, running


@pytest.fixture(scope="package")
def server() -> Iterator[EmbeddedPostgres]:
    """The newest server only: what differs between versions is tested with the databases."""
    found = available()
    if not found:
        pytest.skip("no PostgreSQL server was found")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(found[-1], Path(directory), port=port) as server,
    ):
        yield server
