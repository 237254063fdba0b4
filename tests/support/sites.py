"""Feed over real HTTP, and a stand-in site that uses it."""

from __future__ import annotations

import functools
import http.server
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from demo.release_flow import publish_release
from demo.releases import assemble, declare
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, create_keys


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Publication:
    """Releases that are published together.

    Attributes:
        versions: Releases of the stand-in.
        packs: Whether delta packs from earlier releases are built.
        faults: Faults of the newest release, as in ``fault.toml``.
        made: Changes the sources of 3.2.4 into the newest release, see :func:`as_code_only`; the
            earlier releases then declare schema 1. None: the newest release is the stand-in's own.
    """

    versions: tuple[str, ...]
    packs: bool = False
    faults: str | None = None
    made: Callable[[Path, str], None] | None = None

    def publish(self, feed: Path, sources: Path) -> None:
        """Build, sign and publish the releases."""
        versions = self.versions
        named = [*versions[:-1], "3.2.4"] if self.made else versions
        made = [
            assemble(name, sources / version) for name, version in zip(named, versions, strict=True)
        ]
        if self.made:
            self.made(made[-1], versions[-1])
            for source in made[:-1]:
                declare(source, 1)
        if self.faults is not None:
            (made[-1] / "app" / "fault.toml").write_text(self.faults, "utf-8")
        publish_release(feed, made, keys(), _now, packs=self.packs)


@functools.cache
def keys() -> FeedKeys:
    """Return the keys of all feeds of this process: loading them takes longer than publishing."""
    return create_keys(Path(tempfile.mkdtemp(prefix="nu-keys-")), "a long pass phrase")


@functools.cache
def _made(publication: Publication | None) -> Path:
    """Return a feed with only this publication, built once per process and copied by users."""
    directory = Path(tempfile.mkdtemp(prefix="nu-feed-"))
    if publication is None:
        create_feed(directory / "feed", keys(), _now)
    else:
        shutil.copytree(_made(None), directory / "feed", symlinks=True)
        publication.publish(directory / "feed", directory / "sources")
    return directory / "feed"


class TrialFeed:
    """Feed in a directory, signed by two of three signers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "feed"
        self.keys = keys()
        self._sources = directory / "sources"
        self._empty = True
        shutil.copytree(_made(None), self.directory, symlinks=True)

    @property
    def root(self) -> Path:
        """Return the trusted root for a site."""
        return self.directory / "metadata" / "1.root.json"

    def publish(
        self,
        versions: Sequence[str],
        *,
        packs: bool = False,
        faults: str | None = None,
        made: Callable[[Path, str], None] | None = None,
    ) -> None:
        """Publish releases of the stand-in; see :class:`Publication`."""
        publication = Publication(tuple(versions), packs, faults, made)
        if self._empty:
            self._empty = False
            ready = _made(publication)
            shutil.copytree(ready, self.directory, symlinks=True, dirs_exist_ok=True)
        else:
            publication.publish(self.directory, self._sources)


def as_code_only(source: Path, version: str) -> None:
    """Change the sources of 3.2.4 into a release of another version that changes only the code.

    Declare its schema with :func:`demo.releases.declare`.
    """
    manifest = source / "manifest.toml"
    text = manifest.read_text("utf-8").replace(
        'version = "3.2.4"', f'version = "{version}"\nupgrade_from = ">=3.2.4,<{version}"', 1
    )
    manifest.write_text(text, "utf-8")
    said = {"version": version, "schema": "3.2.4"}
    (source / "app" / "release.json").write_bytes(encode_canonical_json(said))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that were killed during a response."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serve(directory: Path, port: int = 0) -> Iterator[str]:
    """Serve a directory, by default on a free port; yield its URL."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with _Server(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def connect(site: DemoSite, feed: TrialFeed) -> None:
    """Install the trusted root and an empty journal at a laid-out site."""
    shutil.copyfile(feed.root, site.trusted_root)
    Journal.create(site.state / JOURNAL_FILE).close()


def site_in_process(demo: DemoSite) -> Site:
    """Return the agent's view of a stand-in site, with a feed reader in this process."""
    config = load_config(demo.config_path)
    source = make_release_source(
        config.site.product, config.feed, state=demo.state, trusted_root=demo.trusted_root
    )
    return build_site(config, demo.config_path, source=source)


@contextmanager
def running_site(
    *versions: str, own_words: bool = False, faults: str | None = None
) -> Iterator[DemoSite]:
    """Run a small site on SQLite with a feed of these releases.

    Args:
        versions: The releases.
        own_words: Whether the site has a local overlay.
        faults: Faults of the newest release.
    """
    with tempfile.TemporaryDirectory(prefix="nu-site-") as directory:
        feed = TrialFeed(Path(directory))
        feed.publish(versions, faults=faults)
        with serve(feed.directory) as url:
            options = SiteOptions(
                feed_urls=(url,), cases=10, icomm=False, soak_s=0.2, soak_interval_s=0.1
            )
            with DemoSite(Path(directory) / "site", None, options) as site:
                connect(site, feed)
                if own_words:
                    site.configure(site.own_words())
                site.start_app()
                yield site
