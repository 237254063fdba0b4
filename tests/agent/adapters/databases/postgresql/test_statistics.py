"""Tests of planner statistics: a copy keeps them, and only what changed is analyzed again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import CHANGE, NEWEST, Site
from tests.agent.adapters.databases.postgresql.test_migrate import fenced_copies, release
from tests.support.forks import DEADLINE_S

KNOWN = (
    "SELECT attname::text FROM pg_stats WHERE tablename = 'cases' AND schemaname = 'public'"
    " ORDER BY 1"
)


def known(site: Site, database: str) -> list[str]:
    return [row[0] for row in site.sql(database, KNOWN)]


def analyzed_site(site: Site) -> PostgresEngine:
    for physical in site.names.values():
        site.sql(physical, "ANALYZE")
    return site.engine()


def test_copied_statistics_are_reused_and_changed_tables_analyzed(
    any_site: Site, tmp_path: Path
) -> None:
    site, engine = any_site, analyzed_site(any_site)
    fenced_copies(engine)
    engine.migrate(CHANGE, release(tmp_path), None, SilentProgress())
    engine.cut_over(CHANGE)
    for physical in site.names.values():
        assert known(site, physical) == ["at", "id", "what"]
    assert engine.refresh_statistics(60) == {"seizure": ("public.cases",)}
    assert known(site, "t_seizure") == ["at", "grade", "id", "what"]
    assert engine.refresh_statistics(60) == {}


def test_new_column_triggers_analyze(any_site: Site, tmp_path: Path) -> None:
    engine = analyzed_site(any_site)
    fenced_copies(engine)
    up = "ALTER TABLE cases ADD COLUMN grade text; ALTER TABLE loose ADD COLUMN b int DEFAULT 1;"
    engine.migrate(CHANGE, release(tmp_path, up), None, SilentProgress())
    engine.cut_over(CHANGE)
    assert engine.refresh_statistics(60) == {"seizure": ("public.cases", "public.loose")}


def test_table_without_statistics_is_analyzed(any_site: Site) -> None:
    """As databases that came back from a dump."""
    engine = any_site.engine()
    engine.fence(CHANGE)
    engine.unfence(CHANGE)
    done = engine.refresh_statistics(60)
    assert {name: set(tables) for name, tables in done.items()} == {
        name: {"public.cases", "public.loose"} for name in any_site.names
    }


@NEWEST
def test_parent_of_a_changed_partition_is_analyzed(site: Site, tmp_path: Path) -> None:
    for statement in (
        "CREATE TABLE whole (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (1) TO (9)",
        "INSERT INTO whole VALUES (1)",
    ):
        site.sql("t_seizure", "SET ROLE ncen", statement)
    engine = analyzed_site(site)
    fenced_copies(engine)
    up = "INSERT INTO whole VALUES (2)"
    engine.migrate(CHANGE, release(tmp_path, up), None, SilentProgress())
    engine.cut_over(CHANGE)
    assert engine.refresh_statistics(60) == {"seizure": ("public.part", "public.whole")}


@NEWEST
def test_no_table_is_analyzed_without_time(site: Site) -> None:
    assert site.engine().refresh_statistics(0) == {}


@NEWEST
def test_locked_table_is_skipped(site: Site) -> None:
    with psycopg.connect(site.server.conninfo(), dbname="t_seizure") as holder:
        holder.execute("LOCK TABLE loose")
        done = site.engine().refresh_statistics(3)
    assert done["seizure"] == ("public.cases",)


@NEWEST
def test_analyze_is_terminated_from_outside(site: Site) -> None:
    engine, over = site.engine(), threading.Event()
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query LIKE 'ANALYZE%' AND wait_event_type = 'Lock'"
    )

    def end() -> None:
        until = time.monotonic() + DEADLINE_S
        while site.sql("postgres", waiting) == [(0,)] and time.monotonic() < until:
            over.wait(0.05)
        engine.cancel_sessions()

    ending = threading.Thread(target=end)
    with psycopg.connect(site.server.conninfo(), dbname="t_seizure") as holder:
        holder.execute("LOCK TABLE cases, loose")
        ending.start()
        with pytest.raises(DatabaseError):
            engine.refresh_statistics(60)
    ending.join()
