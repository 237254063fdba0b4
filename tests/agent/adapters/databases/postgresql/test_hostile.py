"""Connections cut, servers restarted, databases moved by hand, migrations that mean harm.

Whatever is done to a change before its commit, it fails in typed words or goes on, and the rollback
leads to the exact originals.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    LiveDatabase,
    MigrationSet,
)
from ncen_updater.agent.adapters.databases.postgresql import dialect
from ncen_updater.agent.adapters.databases.postgresql.catalogue import candidate_name, previous_name
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailedError
from ncen_updater.common.messages import (
    FENCED_BY_OTHER,
    PREVIOUS_DATABASE_MISSING,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import CHANGE, NEWEST, Site
from tests.agent.adapters.databases.postgresql.test_crash import doomed, own_server, recover
from tests.agent.adapters.databases.postgresql.test_migrate import fenced_copies, release
from tests.support.errors import has_message, refused
from tests.support.forks import DEADLINE_S

__all__ = ["doomed", "own_server"]

CUTS = 6
NEXT = candidate_name("t_seizure", CHANGE.id)


def acts(engine: PostgresEngine, target: MigrationSet) -> Iterator[Callable[[], object]]:
    """What a change does to the databases, one act after the other."""
    yield lambda: engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    yield lambda: engine.copy_databases(CHANGE, plan, SilentProgress())
    yield lambda: engine.migrate(CHANGE, target, None, SilentProgress())
    yield lambda: engine.cut_over(CHANGE)


def test_server_restart_between_any_two_operations_is_survived(
    doomed: Site, tmp_path: Path
) -> None:
    before = doomed.snapshot()
    engine = doomed.engine()
    plan = engine.plan_copy(CHANGE)
    for act in acts(engine, release(tmp_path)):
        act()
        doomed.server.stop()
        doomed.server.start()
    assert engine.read_evidence(CHANGE) == ChangeEvidence(True, False, (), ("seizure", "suspect"))
    assert [row.id for row in engine.read_ledger(LiveDatabase("seizure"))] == ["0001_grade"]
    for back in (
        engine.revert_cut_over,
        lambda c: engine.discard_candidates(c, plan),
        engine.unfence,
    ):
        doomed.server.stop()
        doomed.server.start()
        back(CHANGE)
    assert doomed.snapshot() == before


@NEWEST
def test_terminated_sessions_are_survived_at_any_instant(site: Site, tmp_path: Path) -> None:
    """As a server does that runs out of memory, or a DBA who ends what looks strange."""
    before = site.snapshot()
    target = release(tmp_path)
    chance = random.Random("cut")
    failed = 0
    for _ in range(CUTS):
        engine = site.engine()
        plan = engine.plan_copy(CHANGE)
        over = threading.Event()

        def cut(over: threading.Event = over) -> None:
            with psycopg.connect(site.server.conninfo(), autocommit=True) as dba:
                while not over.wait(chance.uniform(0, 0.3)):
                    dba.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'ncen-updater%' ORDER BY random() LIMIT 1"
                    )

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            for act in acts(engine, target):
                act()
        except DatabaseError:
            failed += 1
        finally:
            over.set()
            cutter.join()
        recover(engine, CHANGE, plan)
        assert site.snapshot() == before
        assert site.databases() == set(site.names.values())
    assert failed, "no cut struck"


BY_HAND: dict[str, tuple[list[str], type[DatabaseError], str]] = {
    "candidate dropped": ([f'DROP DATABASE "{NEXT}"'], DatabaseError, NEXT),
    "candidate renamed": ([f'ALTER DATABASE "{NEXT}" RENAME TO away'], DatabaseError, NEXT),
    "candidate replaced": (
        [f'DROP DATABASE "{NEXT}"', f'CREATE DATABASE "{NEXT}" OWNER ncen'],
        DatabaseError,
        "not the original copy",
    ),
    "live renamed": (["ALTER DATABASE t_seizure RENAME TO away"], DatabaseError, "replaced"),
    "live replaced": (
        ["ALTER DATABASE t_seizure RENAME TO away", "CREATE DATABASE t_seizure OWNER ncen"],
        DatabaseError,
        "replaced",
    ),
    "live opened": (["ALTER DATABASE t_seizure ALLOW_CONNECTIONS true"], DatabaseError, "opened"),
}


@NEWEST
@pytest.mark.parametrize("name", BY_HAND)
def test_databases_moved_manually_before_the_cut_over_are_detected(site: Site, name: str) -> None:
    statements, error, words = BY_HAND[name]
    before = site.snapshot()
    engine = site.engine()
    plan = engine.plan_copy(CHANGE)
    fenced_copies(engine)
    site.sql("postgres", *statements)
    with pytest.raises(error, match=words):
        engine.cut_over(CHANGE)
    assert not engine.read_evidence(CHANGE).is_cut_over
    if name == "live renamed":
        assert engine.read_evidence(CHANGE).missing == ("t_seizure",)
    if name.startswith("live re"):
        # The administrator puts back what was taken away.
        site.sql("postgres", "DROP DATABASE IF EXISTS t_seizure")
        site.sql("postgres", "ALTER DATABASE away RENAME TO t_seizure")
    recover(engine, CHANGE, plan)
    assert site.snapshot() == before
    left = {"away"} if name == "candidate renamed" else set()
    assert site.databases() == set(site.names.values()) | left


@NEWEST
def test_previous_database_dropped_manually_is_reported(site: Site) -> None:
    engine = site.engine()
    fenced_copies(engine)
    engine.cut_over(CHANGE)
    site.sql("postgres", f'DROP DATABASE "{previous_name("t_seizure", CHANGE.id)}"')
    before = site.snapshot()
    with refused(PREVIOUS_DATABASE_MISSING):
        engine.revert_cut_over(CHANGE)
    engine.unfence(CHANGE)
    assert site.snapshot() == before


HARM = {
    "commit": "COMMIT",
    "commit in words of its own": "DO $$ BEGIN COMMIT; END $$",
    "another transaction": "UPDATE cases SET what = ''; COMMIT; BEGIN",
    "a database is made": "CREATE DATABASE other",
    "a database is dropped": "DROP DATABASE t_seizure",
    "the fence is opened": "ALTER DATABASE t_seizure ALLOW_CONNECTIONS true",
    "the fence is opened out of sight":
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE t_seizure ALLOW_CONNECTIONS true'; END $$",
    "live is renamed out of sight":
        "DO $$ BEGIN EXECUTE 'SET ROLE postgres';"
        " EXECUTE 'ALTER DATABASE t_seizure RENAME TO away'; EXECUTE 'SET ROLE ncen'; END $$",
    "a setting is lost": "DO $$ BEGIN EXECUTE 'ALTER DATABASE t_seizure RESET ALL'; END $$",
    "another role": "SET LOCAL ROLE postgres",
    "another role out of sight": "DO $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$",
    "different owners": "SET SESSION AUTHORIZATION postgres",
    "a program": "COPY cases FROM PROGRAM 'echo 1'",
    "a program out of sight": "DO $$ BEGIN EXECUTE 'COPY cases (id) FROM PROGRAM ''id'''; END $$",
    "words of psql": "\\connect t_seizure",
    "the server's settings": "ALTER SYSTEM SET fsync = off",
}  # fmt: skip


@NEWEST
def test_malicious_migrations_are_contained(site: Site, tmp_path: Path) -> None:
    """The agent is a superuser here, which is the worst case."""
    before = site.snapshot()
    engine = site.engine()
    plan = engine.plan_copy(CHANGE)
    fenced_copies(engine)
    copied = engine.compute_table_digests(CHANGE.get_candidate("seizure"))
    for name, sql in HARM.items():
        with pytest.raises(MigrationFailedError):
            engine.migrate(CHANGE, release(tmp_path, sql + ";"), None, SilentProgress())
            pytest.fail(name)  # it was not refused
        assert engine.compute_table_digests(CHANGE.get_candidate("seizure")) == copied, name
        assert engine.read_ledger(CHANGE.get_candidate("seizure")) == (), name
    recover(engine, CHANGE, plan)
    assert site.snapshot() == before
    assert site.databases() == set(site.names.values())


@NEWEST
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(600);",
        "SET LOCAL statement_timeout = 0; SELECT pg_sleep(600);",
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600);"
        " EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;",
    ],
)
def test_endless_migrations_are_terminated(
    site: Site, tmp_path: Path, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "GRACE_S", 0.3)
    engine = site.engine()
    fenced_copies(engine)
    target = release(tmp_path, sql, statement_timeout_ms=200)
    with pytest.raises(MigrationFailedError, match=r"statement time-?out"):
        engine.migrate(CHANGE, target, None, SilentProgress())
    assert engine.read_ledger(CHANGE.get_candidate("seizure")) == ()


@NEWEST
def test_concurrent_agents_on_one_server_are_serialised(site: Site) -> None:
    """With journals of their own they know nothing of each other; the server decides."""
    changes = [replace(CHANGE, id=letter * 8) for letter in "abcd"]
    for _ in range(3):
        site.sql("postgres", "DROP DATABASE IF EXISTS t_control WITH (FORCE)")
        before = site.snapshot()
        together = threading.Barrier(len(changes))

        def close(change: ChangeRef, together: threading.Barrier = together) -> bool:
            engine = site.engine()
            together.wait(DEADLINE_S)
            try:
                engine.fence(change)
            except DatabaseError as error:
                assert has_message(error, FENCED_BY_OTHER)
                return False
            return True

        with ThreadPoolExecutor(len(changes)) as pool:
            won = list(pool.map(close, changes))
        assert won.count(True) == 1
        winner = changes[won.index(True)]
        loser = changes[won.index(False)]
        with refused(FENCED_BY_OTHER, match=winner.id):
            site.engine().unfence(loser)
        fences = site.sql("t_control", "SELECT DISTINCT change FROM fences")
        assert fences == [(winner.id,)]
        site.engine().unfence(winner)
        assert site.snapshot() == before
