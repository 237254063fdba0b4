"""A feed, its web server and an agent's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from tests.support.http_server import WebServer, serving
from tests.support.tuf_repository import Feed


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    """A feed with one release, 3.3.0."""
    feed = Feed(tmp_path / "feed")
    feed.add_release("3.3.0", manifest={"upgrade_from": ">=3.2"})
    feed.publish()
    return feed


@pytest.fixture
def server(feed: Feed) -> Iterator[WebServer]:
    """Its web server."""
    with serving(feed.directory) as server:
        yield server


class Agent:
    """A site: its state directory and sources over it, each as if the agent had restarted."""

    def __init__(self, directory: Path, feed: Feed) -> None:
        self.state = directory / "state"
        self.trusted_root = feed.trusted_root(directory / "etc/root.json")
        self.offset = timedelta(0)
        self.fetchers: list[HttpFetcher] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def source(self, *urls: str, product: str = "ncen", **fetcher: object) -> TufReleaseSource:
        settings: dict[str, object] = {
            "timeout_s": 5.0,
            "attempts": 2,
            "sleep": lambda _: None,
            "window_s": 0.2,
            **fetcher,
        }

        def make() -> HttpFetcher:
            made = HttpFetcher(urls, **settings)  # type: ignore[arg-type]
            self.fetchers.append(made)
            return made

        return TufReleaseSource(
            product,
            state=self.state,
            trusted_root=self.trusted_root,
            make_fetcher=make,
            now=self.now,
        )

    def contents(self) -> dict[str, bytes]:
        """Every file below the state directory."""
        return {
            str(path.relative_to(self.state)): path.read_bytes()
            for path in sorted(self.state.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def agent(tmp_path: Path, feed: Feed) -> Iterator[Agent]:
    agent = Agent(tmp_path / "site", feed)
    yield agent
    for fetcher in agent.fetchers:
        fetcher.close()


@pytest.fixture
def check(agent: Agent, server: WebServer) -> Callable[[], object]:
    """Refresh once, as a fresh process would."""
    return lambda: agent.source(server.url).refresh()
