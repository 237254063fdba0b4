"""A mirror, or a person, that leads a site to a release for another country."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.evidence import database_digests
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import TARGET_FOR_OTHER_COUNTRY, ExitCode
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import NoUpgradePath, RejectionReason
from tests.support.errors import refused
from tests.support.sites import TrialFeed, connect, serve, site_in_process

FOREIGN = Version("3.3.8")  # for one country that is not this site's


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoSite]:
    feed = TrialFeed(tmp_path)
    feed.publish([str(FOREIGN)])
    with serve(feed.directory) as url:
        options = SiteOptions(feed_urls=(url,), cases=20, icomm=False, soak_s=0.0)
        with DemoSite(tmp_path / "site", None, options) as site:
            connect(site, feed)
            yield site


def test_release_for_another_country_is_refused_and_changes_nothing(demo: DemoSite) -> None:
    site = site_in_process(demo)
    before = database_digests(demo.databases)
    operations = Operations(site, SilentProgress())
    path = find_upgrade_path(site)
    assert isinstance(path, NoUpgradePath)
    assert [row.reason for row in path.rejected] == [RejectionReason.OTHER_COUNTRY]
    with refused(TARGET_FOR_OTHER_COUNTRY) as caught:
        operations.upgrade(FOREIGN)
    assert caught.value.exit_code is ExitCode.BLOCKED
    assert site.slots.list_versions() == (Version("3.2.4"),)
    assert database_digests(demo.databases) == before
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert journal.list_changes() == ()


def test_release_for_this_country_is_offered(demo: DemoSite) -> None:
    """The other side, so that the refusal above is the country's and nothing else's."""
    text = demo.config_path.read_text("utf-8")
    assert 'country = "MU"' in text
    demo.config_path.write_text(text.replace('country = "MU"', 'country = "ZZ"'), "utf-8")
    path = find_upgrade_path(site_in_process(demo))
    assert not isinstance(path, NoUpgradePath)
    assert path.target.release_version == FOREIGN
