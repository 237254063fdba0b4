"""Tests of the contract of every engine: an undisturbed operation succeeds as planned.

"It ended whole" also holds for an upgrade that always fails and always goes back. Here each
operation has to succeed on each engine, by the way that was promised, and with the loss that was
counted.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace, SqlitePlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite, SiteOptions, digests, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.engine.plan import UpgradePlan, make_plan
from ncen_updater.agent.model.change import Change, ChangeState, DatabaseMode
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import RECORDS_WOULD_BE_LOST
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.errors import refused
from tests.support.sites import TrialFeed, connect, serve, site_in_process

OLD, NEW, ONE_WAY = "3.2.4", "3.3.0", "3.3.9"
ENTERED = 3
ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    made = TrialFeed(tmp_path_factory.mktemp("feed"))
    made.publish([OLD, NEW, ONE_WAY])
    with serve(made.directory) as url:
        yield made, url


@pytest.fixture(params=ENGINES)
def site(
    request: pytest.FixtureRequest, tmp_path: Path, releases: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    place: PostgresPlace | None = None
    if request.param == "postgresql":
        running: EmbeddedPostgres = request.getfixturevalue("server")
        prefix = f"c{'u' if 'up' in request.node.name else 'r'}_"
        place = PostgresPlace(str(running.host), prefix=prefix, programs=running.binaries.directory)
    options = SiteOptions(
        feed_urls=(releases[1],), cases=20, icomm=False, soak_s=0.2, soak_interval_s=0.1
    )
    with DemoSite(tmp_path / "site", place, options) as demo:
        connect(demo, releases[0])
        demo.start_app()
        yield demo


def operations(demo: DemoSite) -> Operations:
    return Operations(site_in_process(demo), SilentProgress())


def plan(demo: DemoSite, target: str) -> UpgradePlan:
    site = site_in_process(demo)
    path = find_upgrade_path(site, Version(target))
    assert isinstance(path, UpgradePath)
    return make_plan(site, Version(OLD), path, SilentProgress())


def newest_change(demo: DemoSite) -> Change:
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        return journal.list_changes()[0]


def enter(demo: DemoSite) -> None:
    """Users enter persons, straight into the database."""
    sql = "INSERT INTO persons (person_ref, family_name, workflow_state) VALUES ('{}', 'x', 'new')"
    place = demo.databases
    address = place.address("suspects")
    opened = (
        sqlite3.connect(address) if isinstance(place, SqlitePlace) else psycopg.connect(address)
    )
    with contextlib.closing(opened) as connection:
        for number in range(ENTERED):
            connection.execute(sql.format(f"LATER-{number}"))
        connection.commit()


def expect_whole(demo: DemoSite, version: str) -> None:
    seen = version_of(demo)
    assert (seen.whole, seen.reported) == (version, version)
    assert not demo.maintenance_file.exists()
    assert newest_change(demo).state is ChangeState.FINISHED
    site = site_in_process(demo)
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert verify_site(site, journal, SilentProgress()) == ()


def test_upgrade_and_rollback_keep_records(site: DemoSite) -> None:
    before = digests(site)
    promised = plan(site, NEW).hops[-1].keeps_records
    operations(site).upgrade(Version(NEW))
    expect_whole(site, NEW)
    enter(site)

    way = operations(site).plan_rollback()
    assert (way.mode is DatabaseMode.MIGRATE, way.lost_total) == (promised, 0)
    operations(site).rollback()
    expect_whole(site, OLD)
    assert newest_change(site).mode is way.mode
    # Parked and newly entered rows come on top of every previous row.
    after = digests(site)
    assert {key for key in before if after.get(key) != before[key]} == {"suspects.persons"}
    operations(site).upgrade(Version(NEW))  # and once more, from what a rollback left
    expect_whole(site, NEW)


def test_restore_needs_accepted_loss(site: DemoSite) -> None:
    before = digests(site)
    promised = plan(site, ONE_WAY).hops[-1].keeps_records
    operations(site).upgrade(Version(ONE_WAY))
    expect_whole(site, ONE_WAY)
    enter(site)

    with refused(RECORDS_WOULD_BE_LOST) as caught:
        operations(site).plan_rollback()
    assert caught.value.values["count"] == ENTERED
    way = operations(site).plan_rollback(accept_loss=ENTERED)
    assert (way.mode is DatabaseMode.MIGRATE, way.lost_total) == (promised, ENTERED)
    operations(site).rollback(accept_loss=ENTERED)
    expect_whole(site, OLD)
    assert newest_change(site).mode is way.mode
    assert digests(site) == before
    operations(site).upgrade(Version(NEW))
    expect_whole(site, NEW)
