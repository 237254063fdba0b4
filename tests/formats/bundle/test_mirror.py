"""Tests of a national mirror from feed or bundle, read by the real client over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BUNDLE_OLDER, MIRROR_BUSY, MIRROR_NOT_OURS
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.bundle_fetcher import BundleFetcher, map_bundle_errors
from ncen_updater.feed.errors import MetadataRollbackError, RoleExpiredError, TrustError
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.mirror import FeedMirror, MirrorReport
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.bundle_file import open_bundle, read_members
from ncen_updater.publisher.build.attachments import (
    AttachmentBuilder,
    BuildSource,
    check_published_attachments,
)
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import publish_draft
from ncen_updater.publisher.signing.draft import draft_releases, draft_renewal
from tests.formats.bundle.conftest import OfflineSite, Publication, contents
from tests.formats.bundle.forging import members, well_formed
from tests.publisher.feeds import fresh_signer
from tests.publisher.releases import write_release, write_sbom
from tests.support.errors import refused
from tests.support.http_server import serving
from tests.support.kill_points import changes_of, killed_at
from tests.support.rotation import in_turns

DAYS = timedelta(days=1)


class Home:
    """Where a mirror is made."""

    def __init__(self, directory: Path, publication: Publication) -> None:
        self.served, self.state = directory / "www", directory / "mirror-state"
        self.publication = publication
        self.grace = timedelta(0)

    def mirror(self) -> FeedMirror:
        return FeedMirror(
            self.served,
            state=self.state,
            trusted_root=self.publication.root,
            now=self.publication.clock,
        )

    def from_feed(self, keep: int | None = None, dry_run: bool = False) -> MirrorReport:
        with serving(self.publication.directory) as server:
            fetcher = HttpFetcher((server.url,), timeout_s=5.0, attempts=1)
            try:
                return self.mirror().update_mirror(
                    fetcher, SilentProgress(), max_releases=keep, dry_run=dry_run
                )
            finally:
                fetcher.close()

    def from_bundle(self, file: Path, keep: int | None = None) -> MirrorReport:
        with open_bundle(file) as bundle, map_bundle_errors(self.grace):
            inside = read_members(bundle)
            return self.mirror().update_mirror(
                BundleFetcher(bundle, inside),
                SilentProgress(),
                max_releases=keep,
                grace=self.grace,
                is_available=inside.__contains__,
            )


@pytest.fixture
def home(tmp_path: Path, publication: Publication) -> Home:
    return Home(tmp_path, publication)


@pytest.fixture
def reader(home: Home, site: OfflineSite) -> Callable[[], str]:
    """A site that follows the mirror: looks, and fetches the newest release; returns it."""

    def read() -> str:
        with serving(home.served) as server:
            ours = replace(
                site, root=home.publication.root, urls=(server.url,), at=home.publication.at
            )
            source = ours.source()
            try:
                offer = source.refresh().offers[-1]
                assert source.download_release(offer, SilentProgress()).archive.is_file()
            finally:
                source.close()
            return offer.version

    return read


def test_site_follows_a_mirror_of_the_feed(home: Home, reader: Callable[[], str]) -> None:
    report = home.from_feed()
    assert report.releases == {"ncen": ("3.2.0", "3.3.0", "3.4.0"), "ncen-updater": ()}
    assert reader() == "3.4.0"
    home.publication.at += DAYS
    home.publication.publish("3.5.0")
    assert home.from_feed().releases["ncen"][-1] == "3.5.0"
    assert reader() == "3.5.0"
    assert not list(home.state.glob("mirror-*"))


def test_mirror_contains_every_signed_file_of_a_release(home: Home, tmp_path: Path) -> None:
    """Auditors read the attachments of a release in any copy of the feed."""
    feed, at = home.publication.directory, home.publication.clock
    release, staging = tmp_path / "3.5.0", tmp_path / "staging"
    write_release(release, "3.5.0")
    builder = fresh_signer(tmp_path / "builder", "builder")
    source = BuildSource("https://build.example.org", "git+https://git.example.org/ncen")
    sbom = write_sbom(tmp_path / "sbom.json", "3.5.0")
    build_release(release, staging, attachments=AttachmentBuilder(sbom, source, builder))
    draft = draft_releases(
        FeedDirectory(feed).read_state(), staging, at(), builder=builder.public_key
    )
    publish_draft(feed, draft, home.publication.keys, at, [staging])
    home.from_feed()
    _, checked = check_published_attachments(
        FeedDirectory(home.served), "ncen", "3.5.0", builder.public_key
    )
    assert checked.component_count is not None
    assert checked.provenance is not None


def test_second_run_changes_nothing(home: Home) -> None:
    home.from_feed()
    before = contents(home.served)
    assert home.from_feed().downloaded_bytes == 0
    assert contents(home.served) == before


def test_dry_run_writes_nothing(home: Home) -> None:
    assert home.from_feed(dry_run=True).downloaded_bytes > 50_000
    assert not home.served.exists()


def test_site_follows_a_mirror_of_a_bundle(
    home: Home, reader: Callable[[], str], tmp_path: Path
) -> None:
    bundle = home.publication.export(tmp_path / "ke.ncen")
    assert home.from_bundle(bundle.file).releases["ncen"] == ("3.3.0", "3.4.0")
    assert reader() == "3.4.0"


def test_older_metadata_is_refused_and_changes_nothing(home: Home, tmp_path: Path) -> None:
    old = home.publication.export(tmp_path / "old.ncen").file
    home.publication.at += DAYS
    home.publication.publish("3.5.0")
    home.from_feed()
    before = contents(home.served)
    with refused(BUNDLE_OLDER):
        home.from_bundle(old)
    assert contents(home.served) == before
    with open_bundle(old) as bundle:
        inside = read_members(bundle)
        with pytest.raises(MetadataRollbackError):
            home.mirror().update_mirror(
                BundleFetcher(bundle, inside), SilentProgress(), is_available=inside.__contains__
            )
    assert contents(home.served) == before


def test_altered_file_is_not_served(home: Home, tmp_path: Path) -> None:
    good = home.publication.export(tmp_path / "good.ncen").file
    altered = members(good)
    name = next(key for key in altered if key.endswith("ncen-3.4.0.tar.gz"))
    altered[name] = altered[name][:-1] + b"x"
    with pytest.raises(UpdaterError, match=r"ncen-3\.4\.0"):
        home.from_bundle(well_formed(tmp_path / "bad.ncen", altered))
    assert not (home.served / "metadata").exists()
    assert name not in contents(home.served)


def test_metadata_expires_without_a_grace(home: Home, tmp_path: Path) -> None:
    bundle = home.publication.export(tmp_path / "ke.ncen").file
    home.publication.at += 20 * DAYS
    with pytest.raises(UpdaterError, match="expired"):
        home.from_bundle(bundle)
    home.grace = 90 * DAYS
    report = home.from_bundle(bundle)
    assert report.releases["ncen"] == ("3.3.0", "3.4.0")
    assert report.expires_at < home.publication.at  # the grace is the mirror's, not its readers'
    with pytest.raises(RoleExpiredError):
        home.from_feed()


def test_readers_of_bundle_mirrors_may_have_a_grace(
    home: Home, site: OfflineSite, tmp_path: Path
) -> None:
    home.from_bundle(home.publication.export(tmp_path / "ke.ncen").file)
    late = home.publication.at + 20 * DAYS
    with serving(home.served) as server:
        server.date = format_datetime(late, usegmt=True)
        for grace, expected in ((0, RoleExpiredError), (30, None)):
            fetcher = HttpFetcher((server.url,), timeout_s=5.0, attempts=1)
            source = TufReleaseSource(
                "ncen",
                state=site.state,
                trusted_root=home.publication.root,
                make_fetcher=lambda fetcher=fetcher: fetcher,  # type: ignore[misc]
                now=lambda: late,
                feed_grace=grace * DAYS,
            )
            if expected is not None:
                with pytest.raises(expected):
                    source.refresh()
            else:
                assert source.refresh().offers[-1].version == "3.4.0"
            source.close()


def test_keep_removes_older_releases_except_required_ones(
    home: Home, reader: Callable[[], str]
) -> None:
    home.publication.publish("3.5.0")
    home.from_feed()
    report = home.from_feed(keep=1)
    assert report.releases["ncen"] == ("3.3.0", "3.5.0")
    assert report.removed_files == 6
    left = [name for name in contents(home.served) if name.startswith("targets/")]
    assert len(left) == 6
    assert reader() == "3.5.0"
    lists = {name for name in contents(home.served) if name.startswith("metadata/")}
    assert {"metadata/1.root.json", "metadata/timestamp.json"} <= lists


def test_every_root_is_kept_for_long_offline_sites(
    home: Home, reader: Callable[[], str], tmp_path: Path
) -> None:
    for _ in range(2):
        state = FeedDirectory(home.publication.directory).read_state()
        draft = draft_renewal(state, ["root"], home.publication.at)
        publication = home.publication
        publish_draft(publication.directory, draft, publication.keys, publication.clock)
    second = Home(tmp_path / "second", replace(home.publication))
    home.from_feed()
    assert reader() == "3.4.0"
    # An agent that was installed with the third root still serves the first two.
    root = tmp_path / "3.root.json"
    shutil.copy(home.publication.directory / "metadata/3.root.json", root)
    with serving(home.publication.directory) as server:
        fetcher = HttpFetcher((server.url,), timeout_s=5.0, attempts=1)
        FeedMirror(
            second.served, state=second.state, trusted_root=root, now=home.publication.clock
        ).update_mirror(fetcher, SilentProgress())
        fetcher.close()
    assert {f"metadata/{n}.root.json" for n in (1, 2, 3)} <= contents(second.served).keys()
    for name in ("metadata/1.root.json", "metadata/2.root.json"):
        assert contents(second.served)[name] == contents(home.publication.directory)[name]


def test_first_root_outside_the_chain_is_not_served(
    home: Home, publication: Publication, shared: Publication, tmp_path: Path
) -> None:
    state = FeedDirectory(publication.directory).read_state()
    draft = draft_renewal(state, ["root"], publication.at)
    publish_draft(publication.directory, draft, publication.keys, publication.clock)
    root = tmp_path / "2.root.json"
    shutil.copy(publication.directory / "metadata/2.root.json", root)
    first = publication.directory / "metadata/1.root.json"
    first.write_bytes(shared.root.read_bytes())
    with serving(publication.directory) as server:
        fetcher = HttpFetcher((server.url,), timeout_s=5.0, attempts=1)
        mirror = FeedMirror(home.served, state=home.state, trusted_root=root, now=publication.clock)
        with pytest.raises(TrustError):
            mirror.update_mirror(fetcher, SilentProgress())
        fetcher.close()
    assert contents(home.served) == {}


@pytest.mark.parametrize("name", ["index.html", "metadata.old"])
def test_directory_with_other_files_is_refused(home: Home, name: str) -> None:
    home.served.mkdir(parents=True)
    (home.served / name).write_text("hello")
    with refused(MIRROR_NOT_OURS):
        home.from_feed()
    assert list(contents(home.served)) == [name]


def test_one_run_at_a_time(home: Home) -> None:
    home.served.mkdir(parents=True)
    with home.mirror()._lock_directory(dry_run=False), refused(MIRROR_BUSY):
        home.from_feed()


@in_turns("share")
@pytest.mark.parametrize("share", range(3))
def test_kill_before_every_change_leaves_a_usable_mirror(
    home: Home, reader: Callable[[], str], tmp_path: Path, site: OfflineSite, share: int
) -> None:
    publication = home.publication
    first = publication.export(tmp_path / "first.ncen").file
    publication.at += DAYS
    publication.publish("3.5.0")
    second = publication.export(tmp_path / "second.ncen").file
    home.from_bundle(first)
    begun = tmp_path / "begun"
    shutil.copytree(home.served, begun)
    last = changes_of(lambda: home.from_bundle(second))
    whole = contents(home.served)
    seen = set()
    for number in range(1 + share, last + 1, 3):
        shutil.rmtree(home.served)
        shutil.copytree(begun, home.served)
        shutil.rmtree(site.state, ignore_errors=True)
        assert killed_at(number, lambda: home.from_bundle(second))
        seen.add(reader())
        home.from_bundle(second)
        assert contents(home.served) == whole, f"killed at {number}"
    assert seen == {"3.4.0", "3.5.0"}
    assert last > 20
