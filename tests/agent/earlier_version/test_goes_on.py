"""A site of an earlier version goes on with today's agent, and its feed with today's publisher.

``site.tar.xz`` was made by ``make.py`` with the code of that version: a site on SQLite that its
agent upgraded from 3.2.4 to 3.3.0, the feed, and the keys of the feed. Only places are put right:
where it lies, ports, and which Python runs the application.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.release_flow import publish_release
from demo.releases import assemble
from demo.site import DemoSite, SiteOptions, digests, version_of
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.publisher.new.trial import make_keys
from tests.support.forks import run_agent
from tests.support.sites import serve
from tests.support.trees import remove_tree

ARCHIVE = Path(__file__).with_name("site.tar.xz")
PASSPHRASE = "a long pass phrase"
OLDEST, OLD, NEXT = "3.2.4", "3.3.0", "3.3.10"


def now() -> datetime:
    return datetime.now(UTC)


def put_right(demo: DemoSite, place: Path, url: str) -> None:
    """Write today's places where those of the making are."""
    moved = {
        "/tmp/nu-earlier-version": str(place),
        "/nu-earlier-python": sys.executable,
        "http://feed.invalid/": url,
        "40001": str(demo.app_port),
        "40002": str(demo.front_port),
    }
    for path in (demo.config_path, demo.overlay / "ncen.json"):
        text = path.read_text("utf-8")
        for before, after in moved.items():
            text = text.replace(before, after)
        path.write_text(text, "utf-8")
    with closing(sqlite3.connect(demo.state / JOURNAL)) as journal, journal:
        words = ("/tmp/nu-earlier-version", str(place))
        journal.execute("UPDATE facts SET value = replace(value, ?, ?)", words)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoSite]:
    with tarfile.open(ARCHIVE) as archive:
        # Python before 3.11.4 knows no filters, and asks for none.
        if hasattr(tarfile, "fully_trusted_filter"):
            archive.extraction_filter = tarfile.fully_trusted_filter
        archive.extractall(tmp_path)
    keys = make_keys(tmp_path / "keys", PASSPHRASE)
    feed = tmp_path / "feed"
    publish_release(feed, [assemble(NEXT, tmp_path / "sources" / NEXT)], keys, now)
    with serve(feed) as url:
        site = DemoSite(tmp_path / "site", None, SiteOptions(feed_urls=(url,)))
        put_right(site, tmp_path, url)
        try:
            site.start_app()
            yield site
        finally:
            site.close()
            remove_tree(site.root)


def agent(demo: DemoSite, *words: str) -> dict[str, Any]:
    """Run a command of today's agent and return its document."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(demo.root), "LANG": "C.UTF-8"}
    told = run_agent("--json", "--config", str(demo.config_path), *words, environment=environment)
    assert told.returncode == 0, told.stdout + told.stderr
    document: dict[str, Any] = json.loads(told.stdout)
    return document


def test_a_site_of_an_earlier_version_goes_on(demo: DemoSite) -> None:
    before = digests(demo)
    found = agent(demo, "status")
    assert found["running"]["version"] == OLD
    assert found["feed"]["versions"] == [OLDEST, OLD]  # as the earlier agent left it
    agent(demo, "verify")
    (first,) = agent(demo, "history")["changes"]
    assert (first["from"], first["to"], first["state"]) == (OLDEST, OLD, "finished")

    agent(demo, "upgrade", NEXT, "--yes")
    assert version_of(demo).whole == NEXT
    agent(demo, "verify")

    agent(demo, "rollback", "--yes")
    assert version_of(demo).whole == OLD
    assert digests(demo) == before
    assert len(agent(demo, "history")["changes"]) == 3


def test_it_goes_back_over_the_change_of_the_earlier_version(demo: DemoSite) -> None:
    """With the databases, the slot and the kept files that the earlier agent left."""
    agent(demo, "rollback", "--yes")
    assert version_of(demo).whole == OLDEST
    agent(demo, "verify")
    agent(demo, "upgrade", OLD, "--yes")
    assert version_of(demo).whole == OLD
