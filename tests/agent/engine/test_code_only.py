"""Tests of releases with a compatible schema: only the code changes, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.databases import PostgresPlace
from demo.site import DemoSite, digests
from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.engine.rollback_plan import NO_COPY_TEXT
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from tests.agent.engine.site_views import enter, facts, is_there, numbers, strict
from tests.agent.engine.trial_releases import (
    FIRST,
    operations,
    rehearse,
    release,
    run_text,
    runs,
    served_feed,
    site_on,
)
from tests.support.migrators import not_as_root
from tests.support.rotation import either_engine
from tests.support.sites import TrialFeed, site_in_process

pytestmark = either_engine("demo")

MADE = "CREATE TABLE IF NOT EXISTS made_at_start (id integer)"
CODE, PROGRAM, FORWARD, LIES = "3.2.5", "3.2.6", "3.2.7", "3.2.8"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [
        release(sources, CODE, None, compatibility=(1, 1)),
        release(sources, PROGRAM, "schema", compatibility=(1, 1)),
        release(sources, FORWARD, "schema", compatibility=(2, 1)),
        release(sources, LIES, None, compatibility=(1, 1), at_start=MADE),
    ]
    with served_feed(tmp_path_factory.mktemp("feed"), built) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed, schema_number=1) as site:
        yield site


def has(demo: DemoSite, table: str) -> bool:
    return f"suspects.{table}" in digests(demo)


def nothing_copied(demo: DemoSite) -> bool:
    found = facts(demo)
    return found.copy_plan == {} and found.no_copy is True


@pytest.mark.parametrize(
    "version",
    [pytest.param(CODE, id="files"), pytest.param(PROGRAM, id="a program")],
)
def test_code_only_upgrade_and_rollback_copy_and_lose_nothing(demo: DemoSite, version: str) -> None:
    before, files = digests(demo), numbers(demo)
    assert str(NO_COPY_TEXT) in run_text(demo, "plan", version)
    operations(demo).upgrade(Version(version))
    assert runs(demo) == version and nothing_copied(demo)
    assert digests(demo) == before  # the program of the release did not run
    assert not site_in_process(demo).database_engine.list_leftovers()
    assert strict(demo) == set()
    enter(demo)

    way = operations(demo).plan_rollback()
    assert (way.is_lossless, way.unchanged_databases, way.no_copy) == (True, True, True)
    assert str(NO_COPY_TEXT) in run_text(demo, "rollback", "--dry-run")
    operations(demo).rollback()
    assert runs(demo) == FIRST and is_there(demo) and nothing_copied(demo)
    assert numbers(demo) == files
    assert strict(demo) == set()


def test_control_tables_are_created_before_the_downtime(demo: DemoSite) -> None:
    found: list[object] = []

    def look(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.MAINTENANCE_ON, StepPhase.BEFORE_EFFECT):
            engine = site_in_process(demo).database_engine
            name = f"{demo.databases.prefix}control"  # type: ignore[union-attr]
            sql = f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"
            found.extend(engine.run_query(LiveDatabase("suspects"), sql))

    on_server = isinstance(demo.databases, PostgresPlace)
    operations(demo, look if on_server else None).upgrade(Version(CODE))
    assert found == ([(1,)] if on_server else [])


def test_rehearsal_predicts_downtime_without_a_copy(demo: DemoSite) -> None:
    find_upgrade_path(site_in_process(demo), Version(CODE))  # reads the feed
    hop = rehearse(demo, CODE)
    assert (hop["copy_s"], hop["migrate_s"], hop["unchanged"]) == (0.0, 0.0, True)
    assert (
        hop["rollback_s"] is not None
        and hop["restore_s"] is None
        and hop["rollback_path"] == "keeps"
    )
    assert hop["rollback_differences"] == []


@not_as_root
def test_rollback_from_a_compatible_schema_keeps_it(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(FORWARD))
    found = facts(demo)
    assert found.copy_plan and not found.no_copy and has(demo, "came_with_new")
    enter(demo)
    files = numbers(demo)

    operations(demo).rollback()
    assert runs(demo) == FIRST and is_there(demo)
    assert facts(demo).no_copy is True and numbers(demo) == files
    assert has(demo, "came_with_new")  # it stays: the older release runs with it
    assert strict(demo) == set()


def test_false_compatibility_declaration_is_detected(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(LIES))
    assert runs(demo) == LIES and has(demo, "made_at_start")
    assert strict(demo) == {"NU-6106"}


def test_schema_change_of_a_reverted_release_is_detected(demo: DemoSite) -> None:
    def fails(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.HEALTH, StepPhase.AFTER_EFFECT):
            raise RuntimeError("after its start")

    operations(demo).upgrade(Version(CODE))
    with pytest.raises(ChangeFailedError):
        operations(demo, fails).upgrade(Version(LIES))
    assert runs(demo) == CODE and has(demo, "made_at_start")
    assert strict(demo) == {"NU-6106"}
