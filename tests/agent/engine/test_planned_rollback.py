"""Tests that the rollback is the planned one, and runs nothing of the old release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace
from demo.site import DemoSite, digests
from ncen_updater.agent.adapters.databases.base import ChangeRef, RollbackKind
from ncen_updater.agent.adapters.databases.postgresql.catalogue import previous_name
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.engine.rollback_plan import describe_rollback
from ncen_updater.agent.model.change import DatabaseMode, StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import PREVIOUS_SCHEMA_CHANGED, RECORDS_WOULD_BE_LOST
from tests.agent.engine.site_views import enter, facts, is_there, latest
from tests.agent.engine.trial_releases import (
    execute,
    operations,
    rehearse,
    release,
    run_text,
    runs,
    served_feed,
    site_on,
)
from tests.support.errors import has_message, refused
from tests.support.migrators import not_as_root
from tests.support.rotation import either_engine
from tests.support.sites import TrialFeed, site_in_process

OLD = "3.2.5"

pytestmark = [not_as_root, either_engine("demo")]

RELEASES = {OLD: "once", "3.2.6": None, "3.2.7": "nothing", "3.2.8": "schema", "3.2.9": "rows"}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [release(sources, version, does) for version, does in RELEASES.items()]
    with served_feed(tmp_path_factory.mktemp("feed"), built) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    """A site of the release with a program that does not bear to be run again."""
    with site_on(request, tmp_path, feed) as site:
        operations(site).upgrade(Version(OLD))
        yield site


@pytest.mark.parametrize(
    ("version", "planned", "found"),
    [
        ("3.2.6", RollbackKind.KEEPS_RECORDS, RollbackKind.KEEPS_RECORDS),
        ("3.2.7", RollbackKind.DEPENDS_ON_MIGRATOR, RollbackKind.KEEPS_RECORDS),
        ("3.2.8", RollbackKind.DEPENDS_ON_MIGRATOR, RollbackKind.RESTORES_PREVIOUS),
        ("3.2.9", RollbackKind.DEPENDS_ON_MIGRATOR, RollbackKind.RESTORES_PREVIOUS),
    ],
    ids=["the old has a program", "it changes nothing", "it changes schemas", "it changes rows"],
)
def test_plan_and_rollback_use_the_same_sentence(
    demo: DemoSite, version: str, planned: RollbackKind, found: RollbackKind
) -> None:
    before = digests(demo)
    assert str(describe_rollback(planned, version, OLD, rehearsed=False)) in run_text(
        demo, "plan", version
    )
    hop = rehearse(demo, version)
    assert hop["rollback_path"] == found.value
    assert (hop["rollback_s"] is None, hop["restore_s"] is None) == (
        found is RollbackKind.RESTORES_PREVIOUS, found is RollbackKind.KEEPS_RECORDS
    )  # fmt: skip
    sentence = str(describe_rollback(found, version, OLD))
    assert sentence in run_text(demo, "plan", version)

    operations(demo).upgrade(Version(version))
    assert facts(demo).rollback_loses_data is (found is RollbackKind.RESTORES_PREVIOUS)
    enter(demo)
    if found is RollbackKind.KEEPS_RECORDS:
        assert sentence in run_text(demo, "rollback", "--dry-run")
        (outcome,) = operations(demo).rollback().outcomes
        assert outcome.change.mode is DatabaseMode.MIGRATE
    else:
        refusal = run_text(demo, "rollback", "--dry-run")
        assert sentence in refusal and "1 record " in refusal and "it only goes forward" in refusal
        assert sentence in run_text(demo, "rollback", "--dry-run", "--accept-loss", "1")
        with refused(RECORDS_WOULD_BE_LOST):
            operations(demo).rollback()
        (outcome,) = operations(demo).rollback(accept_loss=1).outcomes
        assert outcome.change.mode is DatabaseMode.RESTORE
        assert facts(demo).schema_basis == "before"
        assert digests(demo) == before
    assert is_there(demo) is (found is RollbackKind.KEEPS_RECORDS)
    assert runs(demo) == OLD


def alter_previous(demo: DemoSite) -> None:
    statement = "CREATE TABLE nobody_knows (id integer)"
    change, _ = latest(demo)
    if isinstance(demo.databases, PostgresPlace):
        newest = previous_name(demo.databases.names["suspects"], change.id)
        with psycopg.connect(
            demo.databases.conninfo("postgres", "postgres"), autocommit=True
        ) as admin:
            admin.execute(f'ALTER DATABASE "{newest}" ALLOW_CONNECTIONS true'.encode())
            execute(demo.databases.conninfo(newest, demo.databases.owner), statement)
            admin.execute(f'ALTER DATABASE "{newest}" ALLOW_CONNECTIONS false'.encode())
    else:
        engine = site_in_process(demo).database_engine
        assert isinstance(engine, SqliteEngine)
        reference = ChangeRef(change.id, change.generation, change.from_version)
        path = engine._find_path(reference.get_previous("suspects"))
        modes = path.stat().st_mode, path.parent.stat().st_mode
        path.chmod(0o600)
        path.parent.chmod(0o700)
        execute(str(path), statement)
        path.chmod(modes[0])
        path.parent.chmod(modes[1])


def test_changed_previous_databases_are_not_cut_over(demo: DemoSite) -> None:
    operations(demo).upgrade(Version("3.2.8"))
    before = digests(demo)
    alter_previous(demo)
    with pytest.raises(ChangeFailedError) as caught:
        operations(demo).rollback(accept_loss=100)
    assert has_message(caught.value.__cause__, PREVIOUS_SCHEMA_CHANGED)
    assert caught.value.values["step"] == StepName.MIGRATE
    assert "suspects" in str(caught.value.__cause__)
    assert runs(demo) == "3.2.8"
    assert digests(demo) == before


def test_rollback_works_without_recorded_facts(demo: DemoSite) -> None:
    operations(demo).upgrade(Version("3.2.8"))
    with Journal.open(demo.state / JOURNAL_FILE) as journal, journal.transaction() as connection:
        for name in ("fingerprints_before", "fingerprint_source", "databases_unchanged"):
            connection.execute("DELETE FROM facts WHERE name = ?", (name,))
    operations(demo).rollback(accept_loss=100)
    assert facts(demo).schema_basis == "nothing"
    assert runs(demo) == OLD


def test_rollback_needs_no_migrator_or_files_of_the_old_release(demo: DemoSite) -> None:
    """Only its code is needed: not its program, and no file of its migrations."""
    operations(demo).upgrade(Version("3.2.8"))
    ran: list[object] = []

    def watch(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.MIGRATE, StepPhase.BEFORE_EFFECT):
            (demo.slots / OLD / "bin" / "migrate.py").unlink()
            ran.append(step)

    (demo.slots / OLD / "bin").chmod(0o755)
    operations(demo, watch).rollback(accept_loss=100)
    assert ran and runs(demo) == OLD


def test_damaged_release_files_block_only_down_migrations(demo: DemoSite) -> None:
    """3.2.6 rolls back by its files; without them the previous databases are restored."""
    operations(demo).upgrade(Version("3.2.6"))
    enter(demo)
    kind = "postgresql" if isinstance(demo.databases, PostgresPlace) else "sqlite"
    for damaged in (demo.slots / "3.2.6" / "migrations" / kind).rglob("0001_schema.up.sql"):
        damaged.chmod(0o644)
        damaged.write_text("-- something else", "utf-8")
    with refused(RECORDS_WOULD_BE_LOST) as caught:
        operations(demo).rollback()
    assert "the down migrations cannot be used" in str(caught.value.state)
    operations(demo).rollback(accept_loss=100)
    assert runs(demo) == OLD
    assert not is_there(demo)
