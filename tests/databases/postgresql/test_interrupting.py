"""A signal ends what runs in the server's sessions, however long that would have taken."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from ncen_updater.databases.postgresql.errors import SetIncomplete
from ncen_updater.progress import Silent
from ncen_updater.upgrade.errors import Interrupted
from ncen_updater.upgrade.interruption import Interruption
from tests.databases.postgresql.site import CHANGE, NEWEST, Site

LONGEST_S = 30.0


@contextlib.contextmanager
def held_up(site: Site, database: str) -> Iterator[threading.Event]:
    """Keep a lock for which every copy of a database waits; the event says that it was let go.

    It is let go in the end all the same: an agent that waits for it shall fail, not hang.
    """
    let_go, over = threading.Event(), threading.Event()
    holder = psycopg.connect(site.server.conninfo(), dbname="postgres")
    holder.execute(f"ALTER DATABASE {database} RENAME TO held_up".encode())

    def release() -> None:
        if not over.wait(LONGEST_S):
            let_go.set()
        holder.rollback()

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield let_go
    finally:
        over.set()
        thread.join()
        holder.close()


def creating(site: Site, waiting: bool = True) -> int:
    event = " AND wait_event_type = 'Lock'" if waiting else ""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE %'{event}"
    return int(site.sql("postgres", sql + " AND state = 'active'")[0][0])


def when_it_waits(site: Site, act: threading.Event) -> threading.Thread:
    def ask() -> None:
        until = time.monotonic() + LONGEST_S
        while not creating(site) and time.monotonic() < until:
            act.wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    return threading.Thread(target=ask)


def test_a_copy_ends_without_having_been_made(any_site: Site) -> None:
    site, engine, interruption = any_site, any_site.engine(), Interruption()
    before = site.snapshot()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    with held_up(site, "t_seizure") as let_go, interruption.handled():
        asking = when_it_waits(site, let_go)
        asking.start()
        with pytest.raises(Interrupted), interruption.allowed():
            engine.copy(CHANGE, plan, Silent())
        asking.join()
        assert not let_go.is_set()
        assert creating(site, waiting=False) == 0
        assert "t_seizure__next_abcdefgh" not in site.databases()
    engine.discard(CHANGE, plan)
    engine.unfence(CHANGE)
    assert site.snapshot() == before
    assert site.databases() == set(site.names.values())


@NEWEST
def test_the_failure_of_one_copy_ends_the_others(site: Site) -> None:
    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    site.sql("postgres", 'ALTER DATABASE "T""suspect" RENAME TO gone')
    with held_up(site, "t_seizure") as let_go, pytest.raises(SetIncomplete):
        engine.copy(CHANGE, plan, Silent())
    assert not let_go.is_set()
    assert creating(site, waiting=False) == 0
    site.sql("postgres", 'ALTER DATABASE gone RENAME TO "T""suspect"')
    engine.discard(CHANGE, plan)
    assert site.databases() == set(site.names.values())
