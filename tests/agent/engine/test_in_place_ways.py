"""In place on PostgreSQL, with a copy and with a dump as the way back: both lead back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.evidence import database_digests
from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.approvals.status import standing_for
from ncen_updater.agent.databases.base import Live
from ncen_updater.agent.diagnostics.verify import verify_site
from ncen_updater.agent.engine.errors import ChangeFailed
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.runner import Checkpoint
from ncen_updater.agent.journal.change import Phase, StepName
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.journal.wordings import REWORDED
from ncen_updater.agent.policy.automation import Rehearsed
from ncen_updater.agent.rehearsal.store import Rehearsals, RehearsalState
from ncen_updater.common.messages import (
    GUARD_BLOCKS,
    LATER_HOP_FAILED,
    RECORDS_WOULD_BE_LOST,
    REHEARSAL_FAILED,
    REHEARSAL_LIMITED,
)
from ncen_updater.common.progress import Silent
from tests.agent.rehearsal.test_rehearsing import rehearse
from tests.support.errors import refused
from tests.support.rotation import in_turns
from tests.support.sites import TrialFeed, connect, serve, site_in_process

OLD, ONE_WAY, FAILING, STOP, LAST = "3.2.4", "3.3.9", "3.3.1", "3.3.10", "3.4.0"


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
    place = PostgresPlace(str(server.host), prefix="inplace_", programs=server.binaries.directory)
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


@in_turns("demo")
def test_to_a_release_without_a_way_back_and_back_again(demo: DemoSite) -> None:
    before = database_digests(demo.databases)
    rehearse(site_in_process(demo), ONE_WAY)
    operations(demo).upgrade()
    assert version_of(demo).whole == ONE_WAY
    enter_person(demo, 1)
    enter_person(demo, 2)
    with refused(RECORDS_WOULD_BE_LOST) as caught:
        operations(demo).rollback()
    assert caught.value.values["count"] == 2
    assert "suspects.persons 2" in str(caught.value)
    operations(demo).rollback(accept_loss=2)
    assert version_of(demo).whole == OLD
    assert database_digests(demo.databases) == before


@in_turns("demo")
def test_a_failing_release_leads_back_to_the_same_rows(demo: DemoSite) -> None:
    before = database_digests(demo.databases)
    with refused(REHEARSAL_FAILED):
        rehearse(site_in_process(demo), FAILING)  # which proves the backup all the same
    with pytest.raises(ChangeFailed):
        operations(demo).upgrade(Version(FAILING), retry=True)
    assert version_of(demo).whole == OLD
    assert version_of(demo).reported == OLD
    assert not demo.door_file.exists()
    assert database_digests(demo.databases) == before


def test_what_the_server_words_anew_in_a_restore_bars_neither_way(dumping: DemoSite) -> None:
    """It does so with every list of values of a varchar: the schema is the same all the same."""
    with as_superuser(dumping, "seizures") as connection:
        connection.execute("CREATE TABLE colours (name varchar(9) CHECK (name IN ('red', 'blue')))")
        connection.execute("ALTER TABLE colours OWNER TO ncen")
    before = database_digests(dumping.databases)
    rehearse(site_in_process(dumping), ONE_WAY)
    operations(dumping).upgrade(Version(ONE_WAY))
    enter_person(dumping, 1)
    operations(dumping).rollback(accept_loss=1)
    assert version_of(dumping).whole == OLD
    assert database_digests(dumping.databases) == before
    with Journal.open(dumping.state / JOURNAL, read_only=True) as journal:
        assert journal.facts(journal.changes()[0].id).differs == ("seizures",)


@pytest.fixture
def with_stop(tmp_path: Path, server: EmbeddedPostgres) -> Iterator[DemoSite]:
    """The same, with a feed whose path is two changes."""
    made = TrialFeed(tmp_path)
    made.publish((OLD, STOP, LAST))
    with serve(made.directory) as url, in_place("dump", tmp_path, (made, url), server) as site:
        yield site


def test_what_a_restore_words_anew_is_no_other_schema_for_those_who_compare(
    with_stop: DemoSite,
) -> None:
    """A hop forward on the originals, and one that fails and is undone by a restore."""
    with as_superuser(with_stop, "seizures") as connection:
        connection.execute("CREATE TABLE colours (name varchar(9) CHECK (name IN ('red', 'blue')))")
        connection.execute("ALTER TABLE colours OWNER TO ncen")
    rehearse(site_in_process(with_stop), LAST)
    failing = Operations(site_in_process(with_stop), Silent(), checkpoint=at_switch_of_second_hop())
    # The rehearsal migrated restored copies, the first hop the originals: their words differ.
    with refused(LATER_HOP_FAILED):
        failing.upgrade(Version(LAST))
    assert version_of(with_stop).whole == STOP
    with Journal.open(with_stop.state / JOURNAL, read_only=True) as journal:
        undone, _ = journal.changes(2)
        before = journal.facts(undone.id).fingerprints_before
        (noted,) = [e for e in journal.events(change=undone.id) if e.kind == REWORDED]
        site = site_in_process(with_stop)
        assert before is not None
        assert noted.data["before"] == {"seizures": before["seizures"]}
        assert site.engine.fingerprint(Live("seizures")) != before["seizures"]
        assert verify_site(site, journal, Silent()) == ()
        # What somebody does by hand is told all the same.
        with as_superuser(with_stop, "seizures") as connection:
            connection.execute("CREATE TABLE later (a int)")
        codes = [finding.code for finding in verify_site(site, journal, Silent())]
        assert codes == ["NU-6106"]
        with as_superuser(with_stop, "seizures") as connection:
            connection.execute("DROP TABLE later")
    operations(with_stop).upgrade(Version(LAST))  # the same rehearsal is enough
    assert version_of(with_stop).whole == LAST


def at_switch_of_second_hop() -> Checkpoint:
    seen: list[StepName] = []

    def strike(step: StepName, phase: Phase) -> None:
        if phase is Phase.BEFORE_EFFECT and step is StepName.SWITCH:
            seen.append(step)
            if len(seen) == 2:
                raise RuntimeError("a fault")

    return strike


def test_nobody_is_out_before_a_restore_was_proved_here(dumping: DemoSite) -> None:
    before = database_digests(dumping.databases)
    target = Version(ONE_WAY)
    with refused(GUARD_BLOCKS) as caught:
        operations(dumping).upgrade(target)
    assert caught.value.values["findings"] == ["NU-4161"]
    rehearse(site_in_process(dumping), ONE_WAY)
    # What was proved was proved of what was there.
    with as_superuser(dumping, "seizures") as connection:
        connection.execute("CREATE TABLE later (a int)")
        connection.execute("ALTER TABLE later OWNER TO ncen")
    with refused(GUARD_BLOCKS) as caught:
        operations(dumping).upgrade(target)
    assert caught.value.values["findings"] == ["NU-4161"]
    assert "seizures" in str(caught.value)
    with as_superuser(dumping, "seizures") as connection:
        connection.execute("DROP TABLE later")
        connection.execute("CREATE EXTENSION pg_stat_statements")
    with refused(GUARD_BLOCKS) as caught:
        operations(dumping).upgrade(target)
    assert "NU-4160" in str(caught.value.values["findings"])
    assert "extension pg_stat_statements" in str(caught.value)
    with Journal.open(dumping.state / JOURNAL, read_only=True) as journal:
        assert not any(StepName.CLOSE in change.steps for change in journal.changes())
    assert database_digests(dumping.databases) == before


def test_a_rehearsal_tells_what_it_did_not_prove_and_blames_no_release_for_it(
    dumping: DemoSite,
) -> None:
    with as_superuser(dumping, "companies") as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    site = site_in_process(dumping)
    record = rehearse(site, ONE_WAY)
    assert record.state is RehearsalState.PASSED
    assert record.report is not None
    assert record.report.not_carried == {"companies": ("extension pg_stat_statements",)}
    assert record.stored is not None and "proof" not in record.stored
    with refused(REHEARSAL_LIMITED) as caught:
        rehearse(site, FAILING)
    assert "extension pg_stat_statements" in str(caught.value)
    with Journal.open(dumping.state / JOURNAL, read_only=True) as journal:
        assert standing_for(site, journal, "plan", FAILING).rehearsed is Rehearsed.MISSING
        assert Rehearsals(journal).proof() is None


@contextmanager
def as_superuser(demo: DemoSite, name: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    place = demo.databases
    assert isinstance(place, PostgresPlace)
    conninfo = place.conninfo(place.names[name], place.superuser)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection
