"""In place on PostgreSQL, with a copy and with a dump as the way back: both lead back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ncen_updater.databases.postgresql.engine import PostgresEngine
from ncen_updater.demo.databases import PostgresPlace
from ncen_updater.demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.demo.evidence import database_digests
from ncen_updater.demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.progress import Silent
from ncen_updater.upgrade.errors import ChangeFailed, GuardBlocks, RecordsWouldBeLost
from ncen_updater.upgrade.model import Phase, StepName
from ncen_updater.upgrade.operations import Operations
from tests.support.sites import TrialFeed, connect, site_in_process
from tests.upgrade.test_rehearsing import rehearse

OLD, ONE_WAY, FAILING = "3.2.4", "3.3.9", "3.3.1"
SiteMaker = Callable[..., DemoSite]


@pytest.fixture(params=["copy", "dump"])
def demo(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    feed: tuple[TrialFeed, str],
    server: EmbeddedPostgres,
) -> Iterator[DemoSite]:
    """A site that is upgraded in place."""
    with in_place(request.param, tmp_path, feed, server) as made:
        yield made


@pytest.fixture
def dumping(
    tmp_path: Path, feed: tuple[TrialFeed, str], server: EmbeddedPostgres
) -> Iterator[DemoSite]:
    """The same, with a dump alone."""
    with in_place("dump", tmp_path, feed, server) as made:
        yield made


@contextmanager
def in_place(
    way_back: str, directory: Path, feed: tuple[TrialFeed, str], server: EmbeddedPostgres
) -> Iterator[DemoSite]:
    place = PostgresPlace(
        str(server.host), prefix="inplace_", programs=server.binaries.directory
    )
    options = SiteOptions(
        feed_urls=(feed[1],), cases=10, icomm=False, soak_s=0.0, strategy="in-place",
        way_back=way_back,
    )  # fmt: skip
    try:
        with DemoSite(directory / "site", place, options) as site:
            connect(site, feed[0])
            site.start_app()
            site_in_process(site).source.refresh()
            yield site
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            for (name,) in admin.execute("SELECT datname FROM pg_database").fetchall():
                if str(name).startswith(place.prefix):
                    admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def operations(demo: DemoSite) -> Operations:
    return Operations(site_in_process(demo), Silent())


def enter_person(demo: DemoSite, number: int) -> None:
    with psycopg.connect(demo.databases.address("suspects")) as connection:
        connection.execute(
            "INSERT INTO persons (person_ref, family_name, workflow_state) VALUES (%s, %s, 'new')",
            (f"LATER-{number}", "entered later"),
        )


def test_to_a_release_without_a_way_back_and_back_again(demo: DemoSite) -> None:
    before = database_digests(demo.databases)
    rehearse(site_in_process(demo), ONE_WAY)
    operations(demo).upgrade()
    assert version_of(demo).whole == ONE_WAY
    enter_person(demo, 1)
    enter_person(demo, 2)
    with pytest.raises(RecordsWouldBeLost) as caught:
        operations(demo).rollback()
    assert caught.value.values["count"] == 2
    assert "suspects.persons 2" in str(caught.value)
    operations(demo).rollback(accept_loss=2)
    assert version_of(demo).whole == OLD
    assert database_digests(demo.databases) == before
