"""Killed at any instant, agent or server: what is found leads back to the exact originals.

The instants are random, by the seed of the run. Every run ends by the rules of recovery: evidence
first, then cut back, discard, unfence.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from demo.embedded_postgres import EmbeddedPostgres, _children
from ncen_updater.agent.adapters.databases.base import ChangeEvidence, ChangeRef, CopyPlan
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import CHANGE, Site
from tests.agent.adapters.databases.postgresql.test_migrate import release
from tests.support.postgres import available, running
from tests.support.rotation import chance

AGENT_KILLS = 8
SERVER_KILLS = 4
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that may be killed without harm to other tests."""
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(available()[-1], Path(directory)) as server,
    ):
        yield server


@pytest.fixture
def doomed(own_server: EmbeddedPostgres) -> Iterator[Site]:
    site = Site(own_server)
    site.build()
    yield site
    site.clear()


def recover(engine: PostgresEngine, change: ChangeRef, plan: CopyPlan) -> ChangeEvidence:
    """What an agent does after a crash before the commit."""
    evidence = engine.read_evidence(change)
    assert evidence.missing == ()
    engine.revert_cut_over(change)
    assert not engine.read_evidence(change).is_cut_over
    engine.discard_candidates(change, plan)
    engine.unfence(change)
    assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=False, fenced=False)
    return evidence


def no_orphans(site: Site) -> None:
    rows = site.sql("postgres", "CHECKPOINT", "SELECT oid::int8 FROM pg_database")
    on_disk = {int(p.name) for p in (site.server.data / "base").glob("[0-9]*")}
    known = {oid for (oid,) in rows}
    if site.server.binaries.major < 15:
        # It chooses the oids itself, so leftovers of a killed one are reported and not removed.
        engine = site.engine()
        found = engine.find_orphans(engine.plan_copy(CHANGE))
        assert {oid.figures["oid"] for oid in found} == on_disk - known
    else:
        assert on_disk == known


def work(agent: PostgresEngine, change: ChangeRef, plan: CopyPlan) -> None:
    """A change up to its cut-over, then over and back until killed."""
    agent.fence(change)
    agent.copy_databases(change, plan, SilentProgress())
    while True:
        agent.cut_over(change)
        agent.revert_cut_over(change)


def test_killed_agent_is_recovered(doomed: Site) -> None:
    before = doomed.snapshot()
    delays = chance("agent")
    for turn in range(AGENT_KILLS):
        engine = doomed.engine(copy_method=("wal-log", "file-copy")[turn % 2])
        change = ChangeRef("killed" + "abcdefgh"[turn % 8] * 2, turn, "3.3.0")
        plan = engine.plan_copy(change)
        child = FORK.Process(target=work, args=(engine, change, plan))
        child.start()
        time.sleep(delays.uniform(0, 0.8))  # the instant of the kill, not a synchronisation
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        recover(engine, change, plan)
        assert doomed.snapshot() == before
        assert doomed.databases() == set(doomed.names.values())
    no_orphans(doomed)


def kill_whole(server: EmbeddedPostgres) -> None:
    """Kill the server and wait until none of its processes holds its memory any more."""
    pid = server.pid()
    assert pid is not None
    processes = _children(pid)
    server.kill()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    while any(Path(f"/proc/{process}/maps").exists() for process in processes):
        if all(_is_dead(process) for process in processes):
            break


def _is_dead(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def killed(site: Site, act: Callable[[], object], instant: float | Callable[[], object]) -> bool:
    """Run an act, kill the server in it, start it again; whether the act says it is done.

    The instant is so many seconds after its beginning, or when something has come true.
    """
    outcome: list[bool] = []

    def attempt() -> None:
        try:
            act()
        except DatabaseError:
            outcome.append(False)
        else:
            outcome.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    if callable(instant):
        instant()
    else:
        time.sleep(instant)  # the instant of the kill
    kill_whole(site.server)
    site.server.start()
    thread.join(600)  # nothing is judged by it
    assert outcome, "the act neither failed nor ended"
    return outcome[0]


def until_it_sleeps(site: Site) -> Callable[[], object]:
    """Wait until a migration has come to its pause."""
    asks = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND wait_event = 'PgSleep'"

    def wait() -> None:
        with psycopg.connect(site.server.conninfo(), autocommit=True) as connection:
            while connection.execute(asks).fetchone() is None:
                time.sleep(0.02)

    return wait


def test_killed_server_is_recovered(doomed: Site, tmp_path: Path) -> None:
    engine = doomed.engine()
    before = doomed.snapshot()
    target = release(tmp_path)
    delays = chance("server")
    for turn in range(SERVER_KILLS):
        engine = doomed.engine(copy_method=("wal-log", "file-copy")[turn % 2])
        plan = engine.plan_copy(CHANGE)
        engine.fence(CHANGE)
        if killed(
            doomed,
            functools.partial(engine.copy_databases, CHANGE, plan, SilentProgress()),
            delays.uniform(0, 0.3),
        ):
            assert engine.is_copied(CHANGE, plan)
        recover(engine, CHANGE, plan)
        no_orphans(doomed)
        assert doomed.snapshot() == before

        engine.fence(CHANGE)
        engine.copy_databases(CHANGE, plan, SilentProgress())
        killed(
            doomed,
            functools.partial(engine.migrate, CHANGE, target, None, SilentProgress()),
            delays.uniform(0, 0.4),
        )
        engine.migrate(CHANGE, target, None, SilentProgress())
        assert len(engine.read_ledger(CHANGE.get_candidate("seizure"))) == 1
        done = killed(doomed, functools.partial(engine.cut_over, CHANGE), delays.uniform(0, 0.06))
        found = engine.read_evidence(CHANGE)
        # A killed server may have committed without acknowledgement; never the reverse.
        assert found.is_cut_over or not done
        assert (not found.candidates) == found.is_cut_over == bool(found.previous)
        recover(engine, CHANGE, plan)
        assert doomed.snapshot() == before
        no_orphans(doomed)


def test_create_database_of_a_dead_agent_is_awaited(doomed: Site) -> None:
    """CREATE DATABASE goes on without its client; copy waits for it, discard ends it."""
    engine = doomed.engine()
    before = doomed.snapshot()
    plan = engine.plan_copy(CHANGE)
    for again in (True, False):
        engine.fence(CHANGE)
        child = FORK.Process(target=engine.copy_databases, args=(CHANGE, plan, SilentProgress()))
        child.start()
        creating = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%__next_%'"
            " AND state = 'active'"
        )
        while child.is_alive() and doomed.sql("postgres", creating) == [(0,)]:
            pass
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        if again:
            engine.copy_databases(CHANGE, plan, SilentProgress())
            assert engine.is_copied(CHANGE, plan)
        recover(engine, CHANGE, plan)
        no_orphans(doomed)
        assert doomed.snapshot() == before


def give_numbers(site: Site) -> None:
    site.sql(
        "t_seizure",
        "CREATE TABLE numbered (n bigserial PRIMARY KEY)",
        "ALTER TABLE numbered OWNER TO ncen",
        "INSERT INTO numbered DEFAULT VALUES",
    )


def next_number(site: Site) -> int:
    insert = "INSERT INTO numbered DEFAULT VALUES RETURNING n"
    [(number,)] = site.sql("t_seizure", insert, user="ncen")
    return int(number)


@pytest.mark.parametrize("method", ["wal-log", "file-copy"])
def test_no_sequence_number_is_reused_after_a_server_kill(
    doomed: Site, tmp_path: Path, method: str
) -> None:
    """A copy's sequences are as durable as its rows."""
    give_numbers(doomed)
    engine = doomed.engine(copy_method=method)
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())
    target = release(tmp_path, "INSERT INTO numbered DEFAULT VALUES")
    engine.migrate(CHANGE, target, None, SilentProgress())
    engine.cut_over(CHANGE)
    kill_whole(doomed.server)
    doomed.server.start()
    engine.unfence(CHANGE)
    assert next_number(doomed) > 2  # after a crash the server leaves out what it had written ahead
