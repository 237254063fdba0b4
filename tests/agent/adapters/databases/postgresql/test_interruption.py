"""Tests that a signal ends the agent's sessions in the server."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.base import MigrationSet
from ncen_updater.agent.adapters.databases.postgresql import inspection as reading
from ncen_updater.agent.adapters.databases.postgresql.copies import TemplateCopies
from ncen_updater.agent.adapters.databases.postgresql.dialect import PostgresDialect
from ncen_updater.agent.adapters.databases.postgresql.sessions import MaintenanceSessions
from ncen_updater.agent.engine.change_runner import is_release_at_fault
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.errors import DatabaseUnreachableError, MigrationFailedError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import DATABASE_SET_INCOMPLETE, INTERRUPTED, SERVER_LOST
from ncen_updater.common.progress import Amount, SilentProgress
from tests.agent.adapters.databases.postgresql.site import CHANGE, NEWEST, Site
from tests.agent.adapters.databases.postgresql.test_crash import doomed, own_server
from tests.agent.adapters.databases.postgresql.test_migrate import UP, fenced_copies, release
from tests.support.errors import has_message, refused

__all__ = ["doomed", "own_server"]

LONGEST_S = 300.0


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


def two_releases(slot: Path, seizure: str, suspect: str) -> MigrationSet:
    sets = {}
    for name, up in (("seizure", seizure), ("suspect", suspect)):
        place = slot / name
        place.mkdir()
        sets[name] = release(place, up).databases["seizure"]
    return MigrationSet("3.3.0", slot, sets)


class Meeting:
    """A listener that lets the first migration of each database begin only beside the other's."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)
        self.met: set[object] = set()

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        if "migration" in text.values and text.values["database"] not in self.met:
            self.met.add(text.values["database"])
            self._barrier.wait(LONGEST_S)


@NEWEST
def test_databases_are_migrated_in_parallel(site: Site, tmp_path: Path) -> None:
    engine, meeting = site.engine(), Meeting()
    fenced_copies(engine)
    engine.migrate(CHANGE, two_releases(tmp_path, UP, UP), None, meeting)
    assert meeting.met == {"seizure", "suspect"}
    for name in site.names:
        assert [row.id for row in engine.read_ledger(CHANGE.get_candidate(name))] == ["0001_grade"]


@NEWEST
def test_no_database_is_opened_beside_a_migration(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration would be taken for the one who did it, and refused."""
    engine, seen = site.engine(), []
    fenced_copies(engine)
    opened, surroundings = MaintenanceSessions.keep_open, PostgresDialect.read_transaction

    def open_(self: MaintenanceSessions, database: str, **more: bool) -> Any:
        seen.append("opened")
        return opened(self, database, **more)

    def look(self: PostgresDialect, driver: Any) -> tuple[str, str] | None:
        seen.append("looked")
        return surroundings(self, driver)

    monkeypatch.setattr(MaintenanceSessions, "keep_open", open_)
    monkeypatch.setattr(PostgresDialect, "read_transaction", look)
    engine.migrate(CHANGE, two_releases(tmp_path, UP, UP), None, SilentProgress())
    assert seen[:4] == ["opened"] * 4
    assert set(seen[4:]) == {"looked"}


SLEEPS = "SELECT pg_sleep(3600);"
SLEEPING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE query = 'SELECT pg_sleep(3600);' AND state = 'active'"
)


@NEWEST
@pytest.mark.parametrize("held", [False, True])
def test_failed_migration_terminates_the_parallel_ones(
    site: Site, tmp_path: Path, held: bool
) -> None:
    engine = site.engine()
    fenced_copies(engine)
    target = two_releases(tmp_path, SLEEPS, "SELECT * FROM nowhere")
    with (
        engine.hold_sessions() if held else contextlib.nullcontext(),
        pytest.raises(MigrationFailedError, match="nowhere"),
    ):
        engine.migrate(CHANGE, target, None, SilentProgress())
    assert site.sql("postgres", SLEEPING) == [(0,)]
    assert engine.read_ledger(CHANGE.get_candidate("seizure")) == ()


@contextlib.contextmanager
def interrupted_asleep(site: Site) -> Iterator[None]:
    """Send a signal as soon as both databases are at work in the block, which obeys it."""
    interruption, over = SignalHandler(), threading.Event()

    def ask() -> None:
        until = time.monotonic() + LONGEST_S
        while site.sql("postgres", SLEEPING) != [(2,)] and time.monotonic() < until:
            over.wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    with interruption.handle_signals(), refused(INTERRUPTED), interruption.allow_interruption():
        asking.start()
        yield
    asking.join()


@NEWEST
def test_signal_terminates_the_counting_of_new_rows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = site.engine()
    fenced_copies(engine)
    engine.cut_over(CHANGE)

    def sleep(live: psycopg.Connection[Any], *_: object) -> None:
        live.execute(SLEEPS.encode())

    with monkeypatch.context() as patched, interrupted_asleep(site):
        patched.setattr(reading, "count_newer_rows", sleep)
        engine.revert_cut_over(CHANGE)
    assert site.sql("postgres", SLEEPING) == [(0,)]
    assert engine.read_evidence(CHANGE).is_cut_over
    engine.revert_cut_over(CHANGE)
    assert not engine.read_evidence(CHANGE).is_cut_over


@NEWEST
def test_signal_terminates_migrations(site: Site, tmp_path: Path) -> None:
    engine = site.engine()
    fenced_copies(engine)
    target = two_releases(tmp_path, SLEEPS, SLEEPS)
    with interrupted_asleep(site):
        engine.migrate(CHANGE, target, None, SilentProgress())
    assert site.sql("postgres", SLEEPING) == [(0,)]
    engine.discard_candidates(CHANGE, engine.plan_copy(CHANGE))
    engine.unfence(CHANGE)


def test_interrupted_copy_leaves_nothing(any_site: Site) -> None:
    site, engine, interruption = any_site, any_site.engine(), SignalHandler()
    before = site.snapshot()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    with held_up(site, "t_seizure") as let_go, interruption.handle_signals():
        asking = when_it_waits(site, let_go)
        asking.start()
        with refused(INTERRUPTED), interruption.allow_interruption():
            engine.copy_databases(CHANGE, plan, SilentProgress())
        asking.join()
        assert not let_go.is_set()
        assert creating(site, waiting=False) == 0
        assert "t_seizure__next_abcdefgh" not in site.databases()
    engine.discard_candidates(CHANGE, plan)
    engine.unfence(CHANGE)
    assert site.snapshot() == before
    assert site.databases() == set(site.names.values())


@NEWEST
def test_failed_copy_terminates_the_others(site: Site) -> None:
    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    site.sql("postgres", 'ALTER DATABASE "T""suspect" RENAME TO gone')
    with held_up(site, "t_seizure") as let_go, refused(DATABASE_SET_INCOMPLETE):
        engine.copy_databases(CHANGE, plan, SilentProgress())
    assert not let_go.is_set()
    assert creating(site, waiting=False) == 0
    site.sql("postgres", 'ALTER DATABASE gone RENAME TO "T""suspect"')
    engine.discard_candidates(CHANGE, plan)
    assert site.databases() == set(site.names.values())


def test_immediate_server_stop_during_a_migration_is_not_blamed_on_the_release(
    doomed: Site, tmp_path: Path
) -> None:
    """As ``pg_ctl stop -m immediate``, or the OOM killer: not the release's fault."""
    engine, over = doomed.engine(), threading.Event()
    fenced_copies(engine)
    pid = doomed.server.pid()
    assert pid is not None

    def stop() -> None:
        until = time.monotonic() + LONGEST_S
        while doomed.sql("postgres", SLEEPING) == [(0,)] and time.monotonic() < until:
            over.wait(0.05)
        os.kill(pid, signal.SIGQUIT)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with refused(SERVER_LOST) as caught:
        engine.migrate(CHANGE, two_releases(tmp_path, SLEEPS, SLEEPS), None, SilentProgress())
    stopping.join()
    doomed.server.stop()
    doomed.server.start()
    assert (
        has_message(caught.value, SERVER_LOST) and caught.value.values["migration"] == "0001_grade"
    )
    assert not is_release_at_fault(caught.value, StepName.MIGRATE)


@NEWEST
def test_terminated_session_is_reported_as_unavailable_database(site: Site) -> None:
    with (
        refused(DatabaseUnreachableError),
        site.engine()._server.open_session_block("postgres") as session,
    ):
        site.sql("postgres", f"SELECT pg_terminate_backend({session.info.backend_pid}, 5000)")
        session.execute("SELECT 1")


@NEWEST
def test_copies_interrupted_before_their_mark_are_completed_or_removed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def list_copies() -> list[tuple[Any, ...]]:
        like = "datname LIKE '%next%' ORDER BY 1"
        sql = f"SELECT oid, datallowconn FROM pg_database WHERE {like}"
        return list(site.sql("postgres", sql))

    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    with monkeypatch.context() as patched:
        patched.setattr(TemplateCopies, "finish_copies", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.copy_databases(CHANGE, plan, SilentProgress())
    unmarked = list_copies()
    assert [is_open for _, is_open in unmarked] == [False] * len(site.names)
    assert not site.engine().is_copied(CHANGE, plan)
    site.engine().copy_databases(CHANGE, plan, SilentProgress())
    assert site.engine().is_copied(CHANGE, plan)
    assert list_copies() == unmarked  # none was copied again

    site.engine().discard_candidates(CHANGE, plan)
    with monkeypatch.context() as patched:
        patched.setattr(TemplateCopies, "finish_copies", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.copy_databases(CHANGE, plan, SilentProgress())
    site.engine().discard_candidates(CHANGE, plan)
    assert list_copies() == []
