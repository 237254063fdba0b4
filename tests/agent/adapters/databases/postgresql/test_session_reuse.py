"""Tests of reusing sessions in the control database."""

from __future__ import annotations

import time

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.postgresql.connection import Connection, Server
from ncen_updater.agent.model.errors import DatabaseError
from tests.agent.adapters.databases.postgresql.site import CHANGE, NEWEST, Site
from tests.support.forks import DEADLINE_S

pytestmark = NEWEST


@pytest.fixture
def server(site: Site) -> Server:
    engine = site.engine()
    engine.prepare_control_storage()
    return engine._server


def ask(server: Server) -> int:
    with server.open_control_session() as connection:
        return connection.info.backend_pid


def await_sessions(site: Site, count: int) -> None:
    """Wait for the number of the agent's sessions: the server ends one after it was closed."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ncen-updater%'"
    deadline = time.monotonic() + DEADLINE_S
    while site.sql("postgres", sql) != [(count,)]:
        assert time.monotonic() < deadline, "there are more or fewer sessions"


def test_one_session_serves_a_block(site: Site, server: Server) -> None:
    with server.reuse_control_sessions():
        first = ask(server)
        with server.reuse_control_sessions():
            assert ask(server) == first
        assert ask(server) == first
        with server.open_write_session() as connection, connection.transaction():
            assert connection.info.backend_pid == first
            assert ask(server) != first, "a second one beside an act"
    await_sessions(site, 0)


def test_no_session_is_reused_outside_a_block(site: Site, server: Server) -> None:
    ask(server)
    await_sessions(site, 0)


def test_terminated_session_is_replaced(site: Site, server: Server) -> None:
    with server.reuse_control_sessions():
        first = ask(server)
        assert site.sql("postgres", f"SELECT pg_terminate_backend({first}, 10000)") == [(True,)]
        assert ask(server) != first


def test_failed_session_is_not_reused(site: Site, server: Server) -> None:
    def fails(connection: Connection) -> None:
        connection.execute("SELECT 1 / 0")

    with server.reuse_control_sessions():
        with pytest.raises(DatabaseError), server.open_control_session() as connection:
            fails(connection)
        with pytest.raises(psycopg.Error), server.open_write_session() as connection:
            fails(connection)
        with server.open_control_session() as connection:
            connection.execute("BEGIN")
        await_sessions(site, 0)


def show_timeouts(connection: Connection) -> list[str]:
    shown = connection.execute(
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    )
    return [text for row in shown for text in row]


def test_session_is_reused_with_the_timeouts_of_its_use(site: Site, server: Server) -> None:
    with server.reuse_control_sessions():
        with server.open_control_session() as connection:
            first, ordinary = connection.info.backend_pid, show_timeouts(connection)
        with server.open_write_session(statement_s=1234.0, lock_s=0) as connection:
            assert connection.info.backend_pid == first
            assert show_timeouts(connection) == ["1234s", "0"]
        with server.open_control_session() as connection:
            assert connection.info.backend_pid == first
            assert show_timeouts(connection) == ordinary
        with server.open_control_session(control=False) as connection:
            assert connection.info.dbname == "postgres"


def test_two_sessions_wait_for_the_cut_over(site: Site) -> None:
    engine = site.engine()
    with engine.reuse_control_sessions():
        engine.prepare_control_storage()
        await_sessions(site, 2)


def test_control_tables_are_created_at_once_and_found_in_one_query(
    site: Site, server: Server
) -> None:
    made = {
        name
        for (name,) in site.sql(
            server.settings.control_database,
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        )
    }
    assert made == {
        "cut_overs",
        "fences",
        "moments",
        "logins",
        "versions",
        "visits",
        "revoked",
        "set_aside",
    }
    # A dropped one is created again by the next change.
    site.sql(server.settings.control_database, "DROP TABLE versions, visits, revoked")
    engine = site.engine()
    engine.fence(CHANGE)
    assert engine.read_evidence(CHANGE).fenced
    engine.unfence(CHANGE)
    assert not engine.read_evidence(CHANGE).fenced
