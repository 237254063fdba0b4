"""Tests of databases that an agent on Alembic migrated, and of their ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import DatabaseMarker
from ncen_updater.agent.model.errors import MigrationFailedError
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.migrations.factories import CHANGE, make
from tests.agent.adapters.databases.migrations.test_runner import (
    Database,
    first,
    on_postgres,
    on_sqlite,
)
from tests.support.errors import refused

BEFORE = Path(__file__).parent / "before"
LEDGER = [("0001_a", "up"), ("0002_b", "up"), ("0002_b", "down"), ("0002_b", "up")]


class Cases:
    """What must hold on every engine; ``database`` is as it was left then."""

    def test_alembic_database_is_migrated_further(self, database: Database, tmp_path: Path) -> None:
        runner, both = database.runner(), first(tmp_path)
        more = [make(tmp_path, "0003_c", "CREATE TABLE c (z int)", "DROP TABLE c")]
        assert [(r.id, r.direction) for r in runner.read_ledger()] == LEDGER
        assert runner.read_state() == DatabaseMarker("2.0", 2, CHANGE.id)
        assert runner.migrate(CHANGE, both, None, SilentProgress()).steps == ()
        runner.migrate(CHANGE, [*both, *more], None, SilentProgress())
        assert database.tables() == {"a", "b", "c"}
        assert database.versions() == [("0003_c",)]
        assert [(r.id, r.direction) for r in runner.read_ledger()] == [*LEDGER, ("0003_c", "up")]

    def test_alembic_database_migrates_down_to_the_start_and_up_again(
        self, database: Database, tmp_path: Path
    ) -> None:
        runner, both = database.runner(), first(tmp_path)
        runner.migrate(CHANGE, both[:1], both, SilentProgress())
        assert database.tables() == {"a"}
        assert database.versions() == [("0001_a",)]
        runner.migrate(CHANGE, [], both, SilentProgress())
        assert database.tables() == set()
        assert database.versions() == []
        runner.migrate(CHANGE, both, None, SilentProgress())
        assert database.versions() == [("0002_b",)]
        assert [r.id for r in runner.read_ledger()][len(LEDGER) :] == [
            "0002_b", "0001_a", "0001_a", "0002_b",
        ]  # fmt: skip

    def test_alembic_tables_equal_new_ones(
        self, database: Database, fresh: Database, tmp_path: Path
    ) -> None:
        fresh.runner().migrate(CHANGE, first(tmp_path), None, SilentProgress())
        assert database.columns() == fresh.columns()


def written(database: Database) -> Database:
    with closing(database.dialect.connect()) as driver:
        run = driver.executescript if database.kind == "sqlite" else driver.execute
        run((BEFORE / f"{database.kind}.sql").read_text())
    return database


class TestSqlite(Cases):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Database:
        return written(on_sqlite(tmp_path / "cases.sqlite"))

    def test_database_functions_of_migrations_are_available(
        self, database: Database, tmp_path: Path
    ) -> None:
        both = first(tmp_path)
        more = make(
            tmp_path, "0003_c", "INSERT INTO b SELECT floor(2.5) FROM a WHERE x LIKE '1_0%'"
        )
        database.runner().migrate(CHANGE, [*both, more], None, SilentProgress())
        assert database.ask("SELECT y, typeof(y) FROM b") == [(2, "integer")]

    def test_regexp_constraint_does_not_block_the_agent(
        self, database: Database, tmp_path: Path
    ) -> None:
        """Python held the thread of the signs of life in it as well, for years."""
        both = first(tmp_path)
        database.runner().migrate(CHANGE, both, None, SilentProgress())
        with closing(database.dialect.connect()) as driver:
            driver.create_function("regexp", 2, print)
            driver.execute("CREATE TABLE people (name text CHECK (name REGEXP '(a+)+$'))")
        sql = f"INSERT INTO people VALUES ('{'a' * 60}!')"
        with refused(MigrationFailedError) as caught:
            database.runner().migrate(
                CHANGE, [*both, make(tmp_path, "0003_c", sql)], None, SilentProgress()
            )
        assert str(caught.value.detail) == "line 1: SQLITE_ERROR"  # at once

    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Database:
        return on_sqlite(tmp_path / "fresh.sqlite")


class TestPostgresql(Cases):
    @pytest.fixture
    def database(self, postgres: EmbeddedPostgres) -> Iterator[Database]:
        for database in on_postgres(postgres):
            yield written(database)

    @pytest.fixture
    def fresh(self, postgres: EmbeddedPostgres) -> Iterator[Database]:
        yield from on_postgres(postgres)
