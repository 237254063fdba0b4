"""Tests that the displayed SQL is executable: it is run here on a real database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import MigrationPlan, MigrationSet
from ncen_updater.agent.adapters.databases.migrations.planner import (
    plan_database_migrations,
    render_plan_sql,
)
from ncen_updater.agent.adapters.databases.migrations.runner import OWN_LOCK_TIMEOUT_MS
from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect
from ncen_updater.formats.manifest import MigratorCommand
from tests.agent.adapters.databases.migrations.factories import make, release, row


def test_rendered_plan_is_executable(tmp_path: Path) -> None:
    up = "CREATE TABLE a (x text);\nINSERT INTO a VALUES ('it''s');\n"
    one = make(tmp_path, "0001", up, "DROP TABLE a;", "SELECT 1 WHERE 1 = 0;", lock_ms=70)
    target = release(tmp_path, "2.0", cases=[one])
    plan = plan_database_migrations("cases", (), [one], None)
    text = render_plan_sql(plan, "sqlite", target, change="abcdefgh")
    path = tmp_path / "cases.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        SqliteDialect(path).create_ledger_tables(database, OWN_LOCK_TIMEOUT_MS)
        database.executescript(text)
        assert database.execute("SELECT x FROM a").fetchall() == [("it's",)]
        ledger = database.execute("SELECT id, direction, sha256, change FROM ncen_updater_ledger")
        assert ledger.fetchall() == [("0001", "up", one.up_sha256, "abcdefgh")]
    assert text.startswith("-- Release 2.0, sqlite: 1 migrations\n")
    assert "PRAGMA busy_timeout = 70;" in text
    assert "-- each statement ends after 60000 ms" in text


def test_rendered_postgresql_plan_has_limits_transactions_and_order(tmp_path: Path) -> None:
    one = make(tmp_path, "0001", "SELECT 'one'", "SELECT 'one down'", lock_ms=11, statement_ms=22)
    two = make(tmp_path, "0002", "CREATE INDEX CONCURRENTLY i ON a (x)", transactional=False)
    three = make(tmp_path, "0003", "SELECT 'three'", None)
    target, origin = (
        release(tmp_path, "2.0", cases=[two, three]),
        release(tmp_path, "1.0", cases=[one]),
    )
    plan = plan_database_migrations("cases", [row(one)], [two, three], [one])
    text = render_plan_sql(plan, "postgresql", target, origin)
    lines = text.splitlines()
    assert lines[0] == "-- Release 2.0, postgresql: 3 migrations"
    assert "-- cases: 0003 has no down migration: the codes were merged" in lines
    down, alone, up = text.split("\n\n")[1:]
    assert down.splitlines()[:7] == [
        "-- database cases, migration 0001, down",
        f"-- sha256 {one.down_sha256}",
        "BEGIN;",
        "SET LOCAL lock_timeout = 11;",
        "SET LOCAL statement_timeout = 22;",
        "SELECT 'one down'",
        "SET CONSTRAINTS ALL IMMEDIATE;",
    ]
    assert alone.index("CONCURRENTLY") < alone.index("BEGIN;")
    assert alone.count("CONCURRENTLY") == 1
    assert "SET lock_timeout" in alone
    assert "SELECT 'three'" in up
    for part in (down, alone, up):
        assert part.rstrip().endswith("COMMIT;")
        assert "INSERT INTO ncen_updater.ledger" in part


def test_rendered_plan_names_the_migrator(tmp_path: Path) -> None:
    target = MigrationSet("2.0", tmp_path, {}, MigratorCommand(argv=("flyway", "migrate")))
    plan = MigrationPlan((), (("cases", "*", "only\nforward"),))
    assert render_plan_sql(plan, "postgresql", target).splitlines()[1:] == [
        "-- cases: * has no down migration: only forward",
        "-- The application's own migrator runs: flyway migrate",
    ]
