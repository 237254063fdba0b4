"""A published feed with a path of three releases, bundles out of it, and offline sites."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from packaging.version import Version

from demo.release_flow import publish_release
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.bundle_import import BundleImporter, ImportSite
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.import_store import ImportRecord
from ncen_updater.feed.offers import FeedView
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.manifest import Channel
from ncen_updater.publisher.distribute.bundle_export import (
    ExportedBundle,
    ExportRequest,
    ExportSite,
    export_bundle,
)
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, create_keys
from tests.publisher.releases import PASSPHRASE, write_release

BEGIN = datetime.now(UTC).replace(microsecond=0)
ORDER = ExportRequest(
    product="ncen",
    sites=(ExportSite("KE", "ke-national"),),
    origin=Version("3.2.0"),
    target=None,
    channel=Channel.STABLE,
    agent=Version("0.1.0"),
)


@dataclass
class Publication:
    """A feed, its keys and its clock."""

    directory: Path
    keys: FeedKeys
    sources: Path
    at: datetime = BEGIN

    def clock(self) -> datetime:
        return self.at

    @property
    def root(self) -> Path:
        return self.directory / "metadata/1.root.json"

    def publish(
        self,
        version: str,
        product: str = "ncen",
        extra: str = "",
        required: bool = False,
        data_of: str | None = None,
        packs: bool = False,
    ) -> None:
        place = self.sources / f"{product}-{version}"
        write_release(place, version, product, extra, required)
        (place / "data").write_bytes(random.Random(data_of or version).randbytes(20_000))
        publish_release(self.directory, [place], self.keys, self.clock, packs=packs)

    def refresh(self) -> None:
        Publisher(FeedDirectory(self.directory), self.clock).refresh_online_roles(self.keys.online)

    def export(self, output: Path, order: ExportRequest = ORDER) -> ExportedBundle:
        return export_bundle(
            FeedDirectory(self.directory),
            order,
            output,
            clock=self.clock,
            progress=SilentProgress(),
        )


def make_publication(directory: Path) -> Publication:
    keys = create_keys(directory / "keys", PASSPHRASE)
    made = Publication(directory / "feed", keys, directory / "sources")
    create_feed(made.directory, keys, made.clock)
    made.publish("3.2.0", extra="# the release that runs\n")
    made.publish("3.3.0", required=True)
    made.publish("3.4.0")
    return made


@dataclass
class OfflineSite:
    """The state directory of a site, and what it does with it, each as a new process."""

    state: Path
    root: Path
    country: str = "KE"
    product: str = "ncen"
    current: str | None = "3.2.0"
    grace: timedelta = timedelta(days=90)
    at: datetime = BEGIN
    urls: tuple[str, ...] = ()
    fetchers: list[HttpFetcher] = field(default_factory=list)

    def now(self) -> datetime:
        return self.at

    @property
    def importer(self) -> ImportSite:
        return ImportSite(
            product=self.product,
            site=f"{self.country.lower()}-national",
            country=self.country,
            channel=Channel.STABLE,
            current=None if self.current is None else Version(self.current),
            agent=Version("0.1.0"),
            grace=self.grace,
        )

    def take(self, file: Path, dry_run: bool = False) -> ImportRecord:
        work = BundleImporter(self.state, self.root, self.importer, self.now)
        return work.import_bundle(file, SilentProgress(), dry_run=dry_run)

    def source(self) -> TufReleaseSource:
        def make() -> HttpFetcher:
            made = HttpFetcher(self.urls, timeout_s=5.0, attempts=1)
            self.fetchers.append(made)
            return made

        return TufReleaseSource(
            self.product,
            state=self.state,
            trusted_root=self.root,
            make_fetcher=make,
            now=self.now,
            offline=not self.urls,
            grace=self.grace,
        )

    def refresh(self) -> FeedView:
        return self.source().refresh()

    def contents(self) -> dict[str, bytes]:
        return contents(self.state)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, without locks."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "metadata.lock"
    }


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    """A feed that no test may change."""
    return make_publication(tmp_path_factory.mktemp("publication"))


@pytest.fixture(scope="session")
def bundle(shared: Publication, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle from it, for Kenya, from 3.2.0."""
    output = tmp_path_factory.mktemp("bundle") / "ke.ncen"
    shared.export(output)
    return output


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    """A feed of one's own."""
    return make_publication(tmp_path / "publication")


@pytest.fixture
def site(tmp_path: Path, shared: Publication) -> OfflineSite:
    """A site that trusts the shared feed."""
    return OfflineSite(tmp_path / "state", shared.root)


@pytest.fixture
def order() -> Callable[..., ExportRequest]:
    """The usual order, with changes."""
    return lambda **changes: replace(ORDER, **changes)
