"""Tests of adopting a site on SQLite files whose application has its own migrator."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.databases import SqlitePlace
from demo.site import DemoSite, SiteOptions, digests
from ncen_updater.agent.adapters.databases.base import MigrationSet
from ncen_updater.agent.engine.adopt import ADOPTION_ID, adopt_site
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import ID_ALPHABET
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import MigratorCommand
from tests.support.sites import TrialFeed, serve, site_in_process

OLD = "3.2.4"
COMMAND = MigratorCommand(argv=("bin/migrate",), no_rollback_reason="it only goes forward")


@pytest.fixture
def plain() -> Iterator[DemoSite]:
    """A site as it is before an agent comes: ``live`` is a directory with the files."""
    with tempfile.TemporaryDirectory(prefix="nu-adopt-") as directory:
        feed = TrialFeed(Path(directory))
        feed.publish([OLD])
        with serve(feed.directory) as url:
            options = SiteOptions(feed_urls=(url,), cases=5, icomm=False)
            with DemoSite(Path(directory) / "site", None, options) as site:
                shutil.copyfile(feed.root, site.trusted_root)
                assert isinstance(site.databases, SqlitePlace)
                place = site.databases.directory
                (place / "live").unlink()
                (place / "sets" / "base").rename(place / "live")
                (place / "sets").rmdir()
                yield site


@pytest.mark.parametrize("command", [None, COMMAND], ids=["files", "command"])
def test_site_on_sqlite_files_is_adopted(
    plain: DemoSite, monkeypatch: pytest.MonkeyPatch, command: MigratorCommand | None
) -> None:
    of_release = Site.load_migrations

    def migrations(site: Site, version: Version) -> MigrationSet:
        return dataclasses.replace(of_release(site, version), migrator=command)

    monkeypatch.setattr(Site, "load_migrations", migrations)
    before = digests(plain)
    site = site_in_process(plain)
    adopt_site(site, Version(OLD), SilentProgress(), confirmed=True)
    assert isinstance(plain.databases, SqlitePlace)
    assert (plain.databases.directory / "live").readlink() == Path("sets/base")
    assert digests(plain) == before
    with Journal.open(plain.state / JOURNAL_FILE, read_only=True) as journal:
        assert verify_site(site, journal, SilentProgress()) == ()


def test_adoption_has_an_id_that_no_change_gets() -> None:
    assert not set(ADOPTION_ID) <= set(ID_ALPHABET)
    assert len(ADOPTION_ID) == 8
