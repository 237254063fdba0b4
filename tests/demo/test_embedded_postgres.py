"""The embedded server answers, survives a kill, and stops."""

from __future__ import annotations

import psycopg

from demo.embedded_postgres import EmbeddedPostgres


def test_server_reports_its_version(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.conninfo()) as connection:
        assert connection.info.server_version // 10_000 == postgres.binaries.major


def test_killed_server_restarts_with_its_data(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (a int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    postgres.kill()
    assert postgres.pid() is None
    postgres.start()
    with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        assert connection.execute("SELECT a FROM kept").fetchall() == [(7,)]
        connection.execute("DROP TABLE kept")
