"""One server, the releases, and databases that are filled once and copied for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from demo.embedded_postgres import EmbeddedPostgres
from tests.kinto.build import NEW, OLD, assemble_or_skip
from tests.kinto.site import DATABASES, FILLED, RECORDS, KintoSite
from tests.support.postgres import available, running


@pytest.fixture(scope="package")
def server() -> Iterator[EmbeddedPostgres]:
    """The newest server only: what differs between versions is tested with the databases."""
    found = available()
    if not found:
        pytest.skip("no PostgreSQL server was found")
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(found[-1], Path(directory)) as server,
    ):
        yield server


@pytest.fixture(scope="package")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The older release."""
    return assemble_or_skip(OLD, tmp_path_factory.mktemp("old") / "release")


@pytest.fixture(scope="package")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newer release."""
    return assemble_or_skip(NEW, tmp_path_factory.mktemp("new") / "release")


@pytest.fixture(scope="package")
def filled(
    server: EmbeddedPostgres, old: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Databases of the older release, filled through the API by the application itself."""
    made = KintoSite.make(server, tmp_path_factory.mktemp("filled") / "home")
    try:
        created = made.migrate(old, DATABASES)
        assert created.returncode == 0, created.stderr
        made.current.symlink_to(old)
        assert made.control("start") == 0
        made.wait_healthy()
        made.fill(RECORDS)
        assert made.control("stop") == 0
        made.keep_as_filled()
        yield
    finally:
        made.drop()
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            for name in FILLED.values():
                statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                connection.execute(statement.format(sql.Identifier(name)))


@pytest.fixture
def site(server: EmbeddedPostgres, old: Path, filled: None, tmp_path: Path) -> Iterator[KintoSite]:
    """A site of the older release with records in it, stopped."""
    made = KintoSite.make(server, tmp_path / "home", filled=True)
    try:
        made.current.symlink_to(old)
        yield made
    finally:
        made.drop()
