"""Tests of the agent's sessions under settings that a site's administrator may prefer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.adapters.databases.postgresql.connection import Server, fetch_rows
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import (
    AGENT,
    CHANGE,
    LIMITS,
    NEWEST,
    OWNER,
    Site,
    quoted,
)

#: Settings, an administrator's value, and that of the agent's sessions in each role.
SETTINGS = {
    "default_transaction_read_only": ("on", "off", "off"),
    "default_transaction_isolation": ("serializable", "read committed", "serializable"),
    "idle_session_timeout": ("10min", "0", "0"),
    "transaction_timeout": ("10min", "0", "0"),
    "quote_all_identifiers": ("on", "off", "off"),
    "datestyle": ("German, DMY", "ISO, MDY", "German, DMY"),
    "intervalstyle": ("sql_standard", "postgres", "sql_standard"),
}


def prefer(site: Site, *roles: str) -> None:
    """Set these values for some roles."""
    for role in roles:
        for name, (value, *_) in SETTINGS.items():
            if name != "transaction_timeout" or site.server.binaries.major >= 17:
                site.sql("postgres", f"ALTER ROLE {quoted(role)} SET {name} = '{value}'")


@pytest.mark.parametrize("as_owner", [False, True])
def test_sessions_do_not_depend_on_settings_of_their_roles(
    postgres: EmbeddedPostgres, as_owner: bool
) -> None:
    site = Site(postgres, user=AGENT)
    site.build()
    prefer(site, AGENT, OWNER)
    server = Server(site.engine()._settings, LIMITS)
    for _ in range(2):  # the server's version is known in the second session
        with server.open_session("t_seizure", as_owner=as_owner) as connection:
            for name, (_, *expected) in SETTINGS.items():
                if name != "transaction_timeout" or site.server.binaries.major >= 17:
                    assert fetch_rows(connection, f"SHOW {name}") == [(expected[as_owner],)], name
    site.clear()


@NEWEST
def test_settings_of_roles_change_no_cut_over_and_no_revert(postgres: EmbeddedPostgres) -> None:
    site = Site(postgres, user=AGENT)
    site.build()
    before = site.snapshot()
    prefer(site, AGENT, OWNER)
    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    engine.mark_candidates(CHANGE)
    engine.cut_over(CHANGE)
    engine.revert_cut_over(CHANGE)
    engine.discard_candidates(CHANGE, plan)
    engine.unfence(CHANGE)
    assert site.snapshot() == before
    assert site.databases() == set(site.names.values())  # none was put into quarantine
    site.clear()


@NEWEST
def test_times_of_a_release_query_are_read_in_any_style(site: Site) -> None:
    prefer(site, OWNER)
    site.sql("postgres", f"ALTER ROLE {OWNER} SET timezone = 'UTC'")
    query = "SELECT timestamptz '01.02.2026 10:00', interval '1 day'"
    ((moment, span),) = site.engine().run_query(LiveDatabase("seizure"), query)
    assert moment == datetime(2026, 2, 1, 10, tzinfo=UTC)
    assert str(span) == "1 day, 0:00:00"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT date '0044-03-15 BC'",
        "SELECT ('1' || repeat('0', 5000))::jsonb",
        "SELECT (repeat('[', 3000) || repeat(']', 3000))::jsonb",
    ],
    ids=["date", "number", "depth"],
)
@NEWEST
def test_value_that_python_cannot_read_is_refused_and_not_quoted(site: Site, query: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        site.engine().run_query(LiveDatabase("seizure"), query)
    assert caught.value.detail in ("DataError", "ValueError", "RecursionError")
