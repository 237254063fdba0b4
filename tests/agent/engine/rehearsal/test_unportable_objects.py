"""Tests of objects of a database administrator that a rehearsal by the application's role lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.engine.approvals.approval_status import read_approval_status
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import REHEARSAL_INCOMPLETE_COPY
from tests.agent.engine.rehearsal.test_rehearser import rehearse
from tests.support.errors import refused
from tests.support.sites import TrialFeed, connect, site_in_process

ONE_WAY, FAILING = "3.3.9", "3.3.1"


@pytest.fixture
def demo(
    tmp_path: Path, feed: tuple[TrialFeed, str], server: EmbeddedPostgres
) -> Iterator[DemoSite]:
    place = PostgresPlace(str(server.host), prefix="limited_", programs=server.binaries.directory)
    options = SiteOptions(feed_urls=(feed[1],), cases=10, icomm=False, soak_s=0.0)
    with DemoSite(tmp_path / "site", place, options) as site:
        connect(site, feed[0])
        site.start_app()
        site_in_process(site).release_source.refresh()
        yield site


def test_omitted_object_is_reported_and_not_blamed_on_the_release(demo: DemoSite) -> None:
    place = demo.databases
    assert isinstance(place, PostgresPlace)
    conninfo = place.conninfo(place.names["companies"], place.superuser)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    site = site_in_process(demo)
    record = rehearse(site, ONE_WAY)
    assert record.state is RehearsalState.PASSED
    assert record.report is not None
    assert record.report.missing_objects == {"companies": ("extension pg_stat_statements",)}
    with refused(REHEARSAL_INCOMPLETE_COPY) as caught:
        rehearse(site, FAILING)
    assert "extension pg_stat_statements" in str(caught.value)
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert (
            read_approval_status(site, journal, "plan", FAILING).rehearsal_status
            is RehearsalStatus.MISSING
        )
