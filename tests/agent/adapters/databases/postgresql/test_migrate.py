"""Candidates are migrated as the application's role and marked; live is not touched."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeRef,
    LiveDatabase,
    MigrationDirection,
    MigrationSet,
    RollbackKind,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.planner import plan_rollback_path
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailedError
from ncen_updater.common.messages import QUERY_FAILED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import Migration, MigratorCommand
from tests.agent.adapters.databases.postgresql.site import CHANGE, NEWEST, Site
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S

UP = "ALTER TABLE cases ADD COLUMN grade text; UPDATE cases SET grade = 'a';"
DOWN = "ALTER TABLE cases DROP COLUMN grade;"


def release(slot: Path, up: str = UP, **more: Any) -> MigrationSet:
    (slot / "up.sql").write_text(up)
    (slot / "down.sql").write_text(DOWN)
    migration = SqlMigration(
        migration=Migration(id="0001_grade", up="up.sql", down="down.sql", **more),
        up=slot / "up.sql",
        down=slot / "down.sql",
        verify=None,
        up_sha256=hashlib.sha256(up.encode()).hexdigest(),
        down_sha256=hashlib.sha256(DOWN.encode()).hexdigest(),
    )
    return MigrationSet("3.3.0", slot, {"seizure": (migration,), "suspect": ()})


def fenced_copies(engine: PostgresEngine) -> None:
    engine.fence(CHANGE)
    engine.copy_databases(CHANGE, engine.plan_copy(CHANGE), SilentProgress())


def test_lagging_ledger_sequence_is_repaired(any_site: Site, tmp_path: Path) -> None:
    """As a server left it that was killed after a change of an agent that did not anchor them."""
    site, engine = any_site, any_site.engine()
    fenced_copies(engine)
    engine.migrate(CHANGE, release(tmp_path), None, SilentProgress())
    engine.cut_over(CHANGE)
    behind = "SELECT setval(pg_get_serial_sequence('ncen_updater.ledger', 'seq'), 1, false)"
    site.sql("t_seizure", behind)
    again = ChangeRef("bcdefghi", 3, "3.3.1")
    engine.fence(again)
    engine.copy_databases(again, engine.plan_copy(again), SilentProgress())
    nothing = MigrationSet("3.3.1", tmp_path, {"seizure": (), "suspect": ()})
    engine.migrate(again, nothing, release(tmp_path), SilentProgress())
    found = [(row.id, row.direction) for row in engine.read_ledger(again.get_candidate("seizure"))]
    assert found == [("0001_grade", MigrationDirection.UP), ("0001_grade", MigrationDirection.DOWN)]


def test_migration_files_are_applied(any_site: Site, tmp_path: Path) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    target = release(tmp_path)
    shape = engine.read_schema(LiveDatabase("seizure"))
    plan = engine.plan_migrations(LiveDatabase, target, None)
    assert [step.id for step in plan.steps] == ["0001_grade"]
    fenced_copies(engine)
    assert engine.read_schema(CHANGE.get_candidate("seizure")) == shape
    engine.migrate(CHANGE, target, None, SilentProgress())
    engine.migrate(CHANGE, target, None, SilentProgress())
    assert [row.id for row in engine.read_ledger(CHANGE.get_candidate("seizure"))] == ["0001_grade"]
    assert engine.read_schema(CHANGE.get_candidate("seizure")) != shape
    engine.cut_over(CHANGE)
    # As the application's own role: what the agent made is the application's.
    assert site.sql("t_seizure", "SELECT count(grade) FROM cases", user="ncen") == [(500,)]
    state = "SELECT release, generation, change FROM ncen_updater.state"
    for physical in site.names.values():
        assert site.sql(physical, state, user="ncen") == [("3.3.0", 2, CHANGE.id)]
    engine.revert_cut_over(CHANGE)
    engine.unfence(CHANGE)
    assert site.snapshot() == before


@NEWEST
def test_down_migration_preserves_the_fingerprint(site: Site, tmp_path: Path) -> None:
    engine = site.engine()
    target = release(tmp_path)
    shape = engine.read_schema(LiveDatabase("seizure"))
    fenced_copies(engine)
    engine.migrate(CHANGE, target, None, SilentProgress())
    old = MigrationSet("3.2.4", tmp_path, {"seizure": (), "suspect": ()})
    engine.migrate(CHANGE, old, target, SilentProgress())
    assert engine.read_schema(CHANGE.get_candidate("seizure")) == shape


@NEWEST
def test_failed_migration_leaves_the_candidate_unchanged(site: Site, tmp_path: Path) -> None:
    engine = site.engine()
    fenced_copies(engine)
    digests = engine.compute_table_digests(CHANGE.get_candidate("seizure"))
    with pytest.raises(MigrationFailedError, match="nowhere"):
        engine.migrate(
            CHANGE, release(tmp_path, UP + "SELECT * FROM nowhere;"), None, SilentProgress()
        )
    assert engine.compute_table_digests(CHANGE.get_candidate("seizure")) == digests
    left = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname ~ '__' AND backend_type = 'client backend'"
    )
    until = time.monotonic() + DEADLINE_S
    while site.sql("postgres", left) != [(0,)]:  # a session that was closed takes a moment to go
        assert time.monotonic() < until, "a session stays in a candidate"


@pytest.fixture
def slot() -> Iterator[Path]:
    """A release's directory that the application's user reaches."""
    place = Path(tempfile.mkdtemp(prefix="nu-slot-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@NEWEST
def test_migrator_of_the_release_is_run(
    any_site: Site, slot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_URL", "postgresql:///live")
    root = os.geteuid() == 0
    user = pwd.getpwuid(65534).pw_name if root else None
    site = any_site
    engine = site.engine(migrator_environment={"MODE": "x"}, migrator_user=user)
    change = CHANGE
    psql = site.server.binaries.directory / "psql"
    slot.joinpath("migrate").write_text(
        "#!/bin/sh -e\n"
        'test -z "$STORAGE_URL" && test "$MODE" = x\n'
        "made='CREATE TABLE made AS SELECT session_user::text AS who'\n"
        f'run() {{ \'{psql}\' -X -q -v ON_ERROR_STOP=1 -c "$made" "$@"; }}\n'
        'run "$NCEN_DB_SEIZURE_URL"\n'
        # A program that knows no URL takes the parts, and the role by PGOPTIONS.
        'run -h "$NCEN_DB_SUSPECT_HOST" -p "$NCEN_DB_SUSPECT_PORT" -U "$NCEN_DB_SUSPECT_USER"'
        ' -d "$NCEN_DB_SUSPECT_NAME"\n'
    )
    slot.joinpath("migrate").chmod(0o755)
    command = MigratorCommand(argv=("migrate",), timeout_s=60)
    target = MigrationSet("3.3.0", slot, {}, command)
    assert engine.plan_migrations(LiveDatabase, target, None).irreversible
    engine.fence(change)
    engine.copy_databases(change, engine.plan_copy(change), SilentProgress())
    assert engine.migrate(change, target, None, SilentProgress())
    engine.cut_over(change)
    # The ledger looks as if nothing had to be undone; the rollback is planned by what ran.
    before = MigrationSet("3.2.4", slot, {})
    way = plan_rollback_path(
        engine.names, {}, target, before, change.id, engine=engine.engine_name, unchanged=False
    )
    assert way.kind is RollbackKind.RESTORES_PREVIOUS
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'made'"
    for physical in site.names.values():
        assert site.sql(physical, owner) == [("ncen",)]
        # It logs in as the application, whose role is not the agent's in the session.
        assert site.sql(physical, "SELECT who FROM made") == [("ncen",)]


@NEWEST
def test_baseline_records_migrations_as_applied(site: Site, tmp_path: Path) -> None:
    engine = site.engine()
    target = release(tmp_path)
    engine.baseline_ledger(CHANGE, target)
    engine.baseline_ledger(CHANGE, target)
    assert [row.id for row in engine.read_ledger(LiveDatabase("seizure"))] == ["0001_grade"]
    assert engine.plan_migrations(LiveDatabase, target, None).steps == ()


@NEWEST
def test_query_is_one_select_that_writes_nothing(site: Site) -> None:
    engine = site.engine()
    assert engine.run_query(LiveDatabase("seizure"), "SELECT '%', current_user") == [("%", "ncen")]
    for sql in ("DELETE FROM cases", "SELECT 1; COMMIT; DELETE FROM cases", "SELECT * FROM none"):
        with refused(QUERY_FAILED):
            engine.run_query(LiveDatabase("seizure"), sql)
    with refused(QUERY_FAILED, match="timeout"):
        engine.run_query(LiveDatabase("seizure"), "SELECT pg_sleep(9)", timeout_s=0.1)
    with pytest.raises(DatabaseError):
        engine.run_query(CHANGE.get_candidate("seizure"), "SELECT 1")


@NEWEST
@pytest.mark.parametrize("is_local", ["true", "false"])
def test_settings_of_one_query_do_not_reach_the_next(site: Site, is_local: str) -> None:
    """Also those of a function of the application, such as the tenant of row-level security."""
    engine, names = site.engine(), ("search_path", "statement_timeout")
    queries = [f"SELECT set_config('{name}', '0', {is_local})" for name in names]
    shown = [f"SELECT current_setting('{name}')" for name in names]
    before = [engine.run_query(LiveDatabase("seizure"), sql, timeout_s=7) for sql in shown]
    assert before[1] == [("7s",)]
    after = engine.run_queries(LiveDatabase("seizure"), [*queries, *shown], timeout_s=7)
    assert after[2:] == before
