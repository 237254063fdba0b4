"""A stand-in site of each engine that runs, and a feed over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.databases import PostgresPlace, SqlitePlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.engine.site import Site
from tests.support.postgres import available, running
from tests.support.sites import TrialFeed, connect, serve, site_in_process


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    made = TrialFeed(tmp_path_factory.mktemp("feed"))
    made.publish(["3.3.0", "3.3.1", "3.3.3", "3.3.9"])
    with serve(made.directory) as url:
        yield made, url


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(available()[-1], Path(directory)) as server,
    ):
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    place: PostgresPlace | SqlitePlace | None = None
    if request.param == "postgresql":
        running: EmbeddedPostgres = request.getfixturevalue("server")
        place = PostgresPlace(
            str(running.host), prefix=f"up{len(request.node.name)}_",
            programs=running.binaries.directory,
        )  # fmt: skip
    options = SiteOptions(
        feed_urls=(feed[1],), cases=60, icomm=False, soak_s=0.0, health_timeout_s=60.0,
    )  # fmt: skip
    with DemoSite(tmp_path / "site", place, options) as site:
        connect(site, feed[0])
        site.start_app()
        yield site
        site.stop_app()
    if isinstance(place, PostgresPlace):
        with psycopg.connect(place.conninfo("postgres", "postgres"), autocommit=True) as admin:
            names = [
                row[0]
                for row in admin.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
            ]
            for name in names:
                if str(name).startswith(place.prefix):
                    admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def site(demo: DemoSite) -> Site:
    found = site_in_process(demo)
    found.release_source.refresh()
    return found
