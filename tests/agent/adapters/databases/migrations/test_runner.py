"""The runner on real databases: SQLite and every PostgreSQL found."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import (
    DatabaseMarker,
    MigrationDirection,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.dialect import MigrationDialect
from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
from ncen_updater.agent.adapters.databases.postgresql.dialect import PostgresDialect
from ncen_updater.agent.adapters.databases.postgresql.inspection import run_release_queries
from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect
from ncen_updater.agent.model.errors import (
    DatabaseError,
    MigrationFailedError,
    MigrationRefusedError,
)
from ncen_updater.common.messages import (
    SERVER_LOST,
    VERIFY_FAILED,
)
from ncen_updater.common.progress import Amount, SilentProgress
from tests.agent.adapters.databases.migrations.factories import CHANGE, RecordingProgress, make
from tests.agent.adapters.databases.postgresql.site import NEWEST
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S

numbers = itertools.count()


class Database:
    def __init__(self, dialect: MigrationDialect, ask: Callable[[str], list[Any]]) -> None:
        self.dialect = dialect
        self.ask = ask
        self.kind = dialect.engine_name
        place = "ncen_updater_" if self.kind == "sqlite" else "ncen_updater."
        self.version = f"{place}alembic_version"

    def versions(self) -> list[Any]:
        return self.ask(f"SELECT version_num FROM {self.version}")

    def columns(self) -> list[Any]:
        """Of the agent's own tables: their order, types and keys."""
        if self.kind == "sqlite":
            own = "SELECT sql FROM sqlite_master WHERE name LIKE 'ncen_updater_%' ORDER BY name"
            return self.ask(own)
        return self.ask(
            "SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod),"
            " attnotnull, attidentity, (SELECT string_agg(pg_get_constraintdef(c.oid), ', ')"
            "  FROM pg_constraint c WHERE conrelid = attrelid AND contype <> 'n') FROM pg_attribute"
            " WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r'"
            "  AND relnamespace = 'ncen_updater'::regnamespace) ORDER BY 1, 2"
        )

    def runner(self, **more: Any) -> MigrationRunner:
        return MigrationRunner(self.dialect, "cases", **more)

    def tables(self) -> set[str]:
        own = ("alembic_version", "ledger", "state")
        sql = (
            "SELECT name FROM sqlite_master WHERE type = 'table'"
            if self.kind == "sqlite"
            else "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace "
            "IN ('public'::regnamespace, to_regnamespace('ncen_kept'))"
        )
        found = {str(r[0]) for r in self.ask(sql)}
        return {n for n in found if not n.startswith(("ncen_updater", "sqlite_")) and n not in own}


def on_sqlite(path: Path) -> Database:
    def ask(sql: str) -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(sql).fetchall()
            connection.commit()
            return rows

    ask("SELECT 1")
    return Database(SqliteDialect(path), ask)


def on_postgres(server: EmbeddedPostgres) -> Iterator[Database]:
    name = f"runner{next(numbers)}"
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'runner_app'").fetchone():
            admin.execute("CREATE ROLE runner_app")
        admin.execute(f"CREATE DATABASE {name} OWNER runner_app")

    def connect() -> psycopg.Connection[Any]:
        options = "-c role=runner_app"
        return psycopg.connect(server.conninfo(name), options=options, autocommit=True)

    def ask(sql: str) -> list[Any]:
        with psycopg.connect(server.conninfo(name), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    yield Database(PostgresDialect(connect), ask)
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def first(directory: Path) -> list[SqlMigration]:
    up = "CREATE TABLE a (x text);\nINSERT INTO a VALUES ('100% of :name; ''quoted''');"
    return [
        make(directory, "0001_a", up, "DROP TABLE a;"),
        make(
            directory, "0002_b", "CREATE TABLE b (y int);", "DROP TABLE b;", "SELECT * FROM b -- c"
        ),
    ]


BAD = {
    "refused by the server": ("CREATE TABLE q (a int);\nSELECT nothing_there;", "line 2"),
    "commit": ("CREATE TABLE q (a int);\n\nCOMMIT;", "line 3: COMMIT is not allowed"),
    "commit and begin": ("CREATE TABLE q (a int); COMMIT; BEGIN;", "COMMIT is not allowed"),
    "concurrently": ("CREATE INDEX CONCURRENTLY i ON a (x)", "CONCURRENTLY is not allowed"),
    "two alone": ("CREATE TABLE q (a int); CREATE TABLE r (a int)", "2 statements"),
}


class Cases:
    """What must hold on every engine."""

    def test_migrations_run_up_down_and_up_again(self, database: Database, tmp_path: Path) -> None:
        runner, both, told = database.runner(), first(tmp_path), RecordingProgress()
        assert runner.read_ledger() == ()
        assert runner.read_state() is None
        runner.migrate(CHANGE, both, None, told)
        assert database.tables() == {"a", "b"}
        assert database.ask("SELECT x FROM a")[0][0] == "100% of :name; 'quoted'"
        assert runner.read_state() == DatabaseMarker("2.0", 2, CHANGE.id)
        assert told.said[0] == "cases: migration 0001_a (1 of 2)"
        assert told.said[-1] == "cases: completed"
        rows = runner.read_ledger()
        assert [(r.id, r.direction, r.sha256, r.release, r.change) for r in rows] == [
            (m.migration.id, MigrationDirection.UP, m.up_sha256, "2.0", CHANGE.id) for m in both
        ]
        assert runner.migrate(CHANGE, both, None, SilentProgress()).steps == ()
        told = RecordingProgress()
        runner.migrate(CHANGE, both[:1], both, told)
        assert told.said[0] == "cases: reverting migration 0002_b (1 of 1)"
        assert database.tables() == {"a"}
        runner.migrate(CHANGE, [], both, SilentProgress())
        assert database.tables() == set()
        runner.migrate(CHANGE, both, None, SilentProgress())
        assert database.tables() == {"a", "b"}
        assert len(runner.read_ledger()) == 6

    def test_system_log_names_each_migration_and_its_duration(
        self, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner, both = database.runner(), first(tmp_path)
        caplog.set_level(logging.INFO)
        runner.migrate(CHANGE, both, None, SilentProgress())
        runner.migrate(CHANGE, both[:1], both, SilentProgress())
        assert [re.sub(r"\d+\.\d s", "T", line) for line in caplog.messages] == [
            "migration cases/0001_a (up) took T",
            "migration cases/0002_b (up) took T",
            "migration cases/0002_b (down) took T",
        ]

    def test_divergent_ledger_is_migrated_to_the_target(
        self, database: Database, tmp_path: Path
    ) -> None:
        runner, both = database.runner(), first(tmp_path)
        other = make(tmp_path, "0003_c", "CREATE TABLE c (z int)", "DROP TABLE c")
        runner.migrate(CHANGE, both, None, SilentProgress())
        runner.migrate(CHANGE, [both[0], other], both, SilentProgress())
        assert database.tables() == {"a", "c"}

    @pytest.mark.parametrize("name", BAD)
    def test_invalid_file_changes_nothing(
        self, database: Database, tmp_path: Path, name: str
    ) -> None:
        runner, both = database.runner(), first(tmp_path)
        runner.migrate(CHANGE, both, None, SilentProgress())
        sql, detail = BAD[name]
        bad = make(tmp_path, "0003_bad", sql, transactional=name != "two alone")
        with pytest.raises(MigrationFailedError, match=detail) as caught:
            runner.migrate(CHANGE, [*both, bad], None, SilentProgress())
        assert caught.value.values == {"database": "cases", "migration": "0003_bad"}
        assert database.tables() == {"a", "b"}
        assert len(runner.read_ledger()) == 2
        assert database.versions() == [("0002_b",)]

    def test_hidden_transaction_control_is_detected(
        self, database: Database, tmp_path: Path
    ) -> None:
        """What the look at the words misses, the server's own account finds."""
        if database.kind == "sqlite":
            sql, detail = "EXPLAIN PRAGMA journal_mode = DELETE", "authoriz"
        else:
            proc = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$"
            database.ask(proc)
            sql, detail = "CALL p()", "transaction"
        with pytest.raises(MigrationFailedError, match=detail):
            database.runner().migrate(CHANGE, [make(tmp_path, "0001", sql)], None, SilentProgress())
        assert database.runner().read_ledger() == ()

    def test_verify_file_is_rolled_back_and_its_failure_located(
        self, database: Database, tmp_path: Path
    ) -> None:
        up = "CREATE TABLE q (a int); INSERT INTO q VALUES (1), (2), (3);"
        verify = "SELECT 1 WHERE 1 = 0;\nSELECT a FROM q WHERE a > 1 -- comment"
        runner = database.runner()
        with refused(VERIFY_FAILED, match="wrong rows: 2") as caught:
            runner.migrate(
                CHANGE, [make(tmp_path, "0001", up, verify=verify)], None, SilentProgress()
            )
        assert caught.value.values["count"] == 2
        assert "line 2" in str(caught.value)
        assert database.tables() == set()
        bad = make(tmp_path, "0001", up, verify="SELECT nonsense")
        with pytest.raises(MigrationFailedError, match=r"0001\.verify\.sql: line 1"):
            runner.migrate(CHANGE, [bad], None, SilentProgress())

    def test_statement_timeout_reverts_the_migration(
        self, database: Database, tmp_path: Path
    ) -> None:
        series = (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
        )
        sql = f"CREATE TABLE q AS {series} SELECT i FROM n"
        slow = make(tmp_path, "0001", sql, statement_ms=100)
        with pytest.raises(MigrationFailedError, match="time"):
            database.runner().migrate(CHANGE, [slow], None, SilentProgress())
        assert database.tables() == set()

    def test_lock_timeout_fails_the_migration(self, database: Database, tmp_path: Path) -> None:
        database.runner().migrate(CHANGE, first(tmp_path)[:1], None, SilentProgress())
        waits = make(tmp_path, "0002_w", "ALTER TABLE a ADD COLUMN z int", lock_ms=100)
        target = [*first(tmp_path)[:1], waits]
        locked, over = threading.Event(), threading.Event()

        def hold() -> None:
            if database.kind == "sqlite":
                path = database.dialect._path  # type: ignore[attr-defined]
                with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    locked.set()
                    over.wait(DEADLINE_S)
            else:
                with database.dialect._connect() as connection:  # type: ignore[attr-defined]
                    connection.execute("BEGIN; LOCK TABLE a")
                    locked.set()
                    over.wait(DEADLINE_S)

        thread = threading.Thread(target=hold)
        thread.start()
        locked.wait(DEADLINE_S)
        try:
            with pytest.raises(MigrationFailedError, match="lock"):
                database.runner().migrate(CHANGE, target, None, SilentProgress())
        finally:
            over.set()
            thread.join()
        database.runner().migrate(CHANGE, target, None, SilentProgress())

    def test_non_transactional_migration_is_repeated_after_a_crash(
        self, database: Database, tmp_path: Path
    ) -> None:
        sql = (
            "VACUUM"
            if database.kind == "sqlite"
            else "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON a (x)"
        )
        alone = make(tmp_path, "0002_i", sql, transactional=False)
        target = [*first(tmp_path)[:1], alone]

        def dies() -> str:
            raise OSError("the agent dies here")

        runner = database.runner()
        runner.migrate(CHANGE, target[:1], None, SilentProgress())
        with pytest.raises(OSError, match="dies"):
            database.runner(now=dies).migrate(CHANGE, target, None, SilentProgress())
        assert len(runner.read_ledger()) == 1
        runner.migrate(CHANGE, target, None, SilentProgress())
        assert [r.id for r in runner.read_ledger()] == ["0001_a", "0002_i"]

    def test_file_changed_after_planning_does_not_run(
        self, database: Database, tmp_path: Path
    ) -> None:
        both, runner = first(tmp_path), database.runner()
        both[0].up.write_text("CREATE TABLE other (x int)")
        with pytest.raises(MigrationFailedError, match="not the file that was planned"):
            runner.migrate(CHANGE, both, None, SilentProgress())
        assert database.tables() == set()
        both = first(tmp_path)
        verify = both[1].verify
        assert verify is not None
        verify.write_text("SELECT 1 WHERE 1 = 0")
        with pytest.raises(MigrationFailedError, match=r"0002_b\.verify\.sql"):
            runner.migrate(CHANGE, both, None, SilentProgress())

    def test_missing_down_migration_is_refused(self, database: Database, tmp_path: Path) -> None:
        both, runner = first(tmp_path), database.runner()
        one_way = make(tmp_path, "0003", down=None)
        runner.migrate(CHANGE, [*both, one_way], None, SilentProgress())
        with pytest.raises(MigrationRefusedError) as caught:
            runner.migrate(CHANGE, both, [*both, one_way], SilentProgress())
        assert caught.value.values["kind"] == "irreversible"

    def test_contradictory_version_row_is_refused(self, database: Database, tmp_path: Path) -> None:
        both, runner = first(tmp_path), database.runner()
        runner.migrate(CHANGE, both[:1], None, SilentProgress())
        database.ask(f"UPDATE {database.version} SET version_num = 'other' RETURNING 1")
        with pytest.raises(MigrationRefusedError) as caught:
            runner.migrate(CHANGE, both, None, SilentProgress())
        assert caught.value.values["kind"] == "ledger_broken"

    def test_migration_that_writes_the_version_row_is_reverted(
        self, database: Database, tmp_path: Path
    ) -> None:
        both, runner = first(tmp_path), database.runner()
        runner.migrate(CHANGE, both, None, SilentProgress())
        bad = make(tmp_path, "0003_bad", f"UPDATE {database.version} SET version_num = 'other'")
        with pytest.raises(MigrationFailedError, match="the version row"):
            runner.migrate(CHANGE, [*both, bad], None, SilentProgress())
        assert database.versions() == [("0002_b",)]
        assert len(runner.read_ledger()) == 2

    def test_long_migration_reports_progress(self, database: Database, tmp_path: Path) -> None:
        alive = threading.Event()

        class Listener(RecordingProgress):
            def report(self, text: Any, amount: Amount | None = None) -> None:
                super().report(text, amount)
                if " running for " in self.said[-1]:
                    alive.set()

        def now() -> str:
            assert alive.wait(DEADLINE_S)  # called inside the migration's transaction
            return "2026-01-01T00:00:00Z"

        told = Listener()
        runner = database.runner(now=now, heartbeat_s=0.01)
        runner.migrate(CHANGE, first(tmp_path)[:1], None, told)
        assert any(s.startswith("cases: migration 0001_a running for") for s in told.said)

    def test_killed_agent_leaves_no_partial_migration(
        self, database: Database, tmp_path: Path
    ) -> None:
        both = first(tmp_path)

        def dies() -> str:
            os.kill(os.getpid(), signal.SIGKILL)
            return ""

        child = os.fork()
        if child == 0:
            try:
                database.runner().migrate(CHANGE, both[:1], None, SilentProgress())
                database.runner(now=dies).migrate(CHANGE, both, None, SilentProgress())
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert database.tables() == {"a"}
        assert [r.id for r in database.runner().read_ledger()] == ["0001_a"]
        database.runner().migrate(CHANGE, both, None, SilentProgress())
        assert database.tables() == {"a", "b"}

    def test_baseline_writes_the_ledger_without_running_migrations(
        self, database: Database, tmp_path: Path
    ) -> None:
        both, runner = first(tmp_path), database.runner()
        runner.write_baseline(CHANGE, both)
        runner.write_baseline(CHANGE, both[:1])  # one that was mistaken is corrected
        runner.write_baseline(dataclasses.replace(CHANGE, id="another2"), both)  # only by the same
        assert [r.id for r in runner.read_ledger()] == ["0001_a"]
        assert database.versions() == [("0001_a",)]
        assert runner.read_state() is None
        runner.migrate(CHANGE, both, None, SilentProgress())
        assert database.tables() == {"b"}


class TestSqlite(Cases):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Database:
        return on_sqlite(tmp_path / "cases.sqlite")


@NEWEST
class TestPostgresql(Cases):
    @pytest.fixture
    def database(self, postgres: EmbeddedPostgres) -> Iterator[Database]:
        yield from on_postgres(postgres)

    def test_cause_is_reported_although_the_session_is_gone(
        self, database: Database, tmp_path: Path
    ) -> None:
        def now() -> str:  # called inside the migration's transaction
            database.ask(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return "2026-01-01T00:00:00Z"

        with refused(SERVER_LOST, match="57P01") as caught:
            database.runner(now=now).migrate(CHANGE, first(tmp_path), None, SilentProgress())
        assert caught.value.values["migration"] == "0001_a"
        assert database.tables() == set()


#: Each writes, though it is a SELECT; before 16 a large object goes in what is READ ONLY as well.
WRITES = {
    "a sequence": "SELECT setval('numbers', 77)",
    "a function": "SELECT put()",
    "a large object": "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
    "a way round": "SELECT set_config('transaction_read_only', 'off', false), put()",
}
WRITTEN_TO = (
    "CREATE SEQUENCE numbers; CREATE TABLE t (a int); SELECT lo_create(0);"
    " CREATE FUNCTION put() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING a'"
)


class TestEveryPostgresql:
    """What rests on the server's own account of transactions, on every version."""

    @pytest.fixture
    def database(self, postgres: EmbeddedPostgres) -> Iterator[Database]:
        yield from on_postgres(postgres)

    test_migrations_run_up_down_and_up_again = Cases.test_migrations_run_up_down_and_up_again
    test_hidden_transaction_control_is_detected = Cases.test_hidden_transaction_control_is_detected

    @pytest.mark.parametrize("what", WRITES)
    def test_verify_queries_cannot_write(
        self, database: Database, tmp_path: Path, what: str
    ) -> None:
        """Seen: a ``verify`` file took every large object away, and said that all is well."""
        made = make(tmp_path, "0001_a", WRITTEN_TO)
        database.runner().migrate(CHANGE, [made], None, SilentProgress())
        state = (
            "SELECT (SELECT last_value FROM numbers), (SELECT count(*) FROM t),"
            " (SELECT count(*) FROM pg_largeobject_metadata)"
        )
        assert database.ask(state) == [(1, 0, 1)]
        verify = f"SELECT 1 FROM ({WRITES[what]}) AS w WHERE w IS NULL"
        more = make(tmp_path, "0002_b", "SELECT 1", verify=verify)
        with contextlib.suppress(MigrationFailedError):
            database.runner().migrate(CHANGE, [made, more], None, SilentProgress())
        with closing(database.dialect.connect()) as driver, contextlib.suppress(DatabaseError):
            run_release_queries(driver, "cases", [WRITES[what]], 60.0)
        assert database.ask(state) == [(1, 0, 1)]
