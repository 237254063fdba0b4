"""Tests of the packaged nginx configuration, with a real nginx and the agent's client."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.release_flow import publish_release
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount, SilentProgress
from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.publisher.distribute.feed_upload import (
    IMMUTABLE_CACHE_CONTROL,
    MUTABLE_CACHE_CONTROL,
)
from ncen_updater.publisher.new.trial import create_feed
from tests.publisher.releases import clock, ring, write_release
from tests.support.forks import DEADLINE_S
from tests.support.nginx import Nginx, find_nginx, nginx

PROGRAM = find_nginx()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")
LARGE = 6_000_000


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("feed")
    keys = ring(work)
    create_feed(work / "feed", keys, clock)
    release = write_release(work / "r1")
    (release / "photographs").write_bytes(random.Random(1).randbytes(LARGE))
    publish_release(work / "feed", [release], keys, clock)
    (work / "feed" / "metadata" / ".9.root.json.partial-1").write_text("unfinished")
    (work / "feed" / "notes.txt").write_text("not for sites")
    return work / "feed"


@pytest.fixture(scope="module")
def server(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(str(PROGRAM), feed, tmp_path_factory.mktemp("nginx")) as running:
        yield running


def ask(
    server: Nginx, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=DEADLINE_S
    )
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=sent)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def source(feed: Path, state: Path, server: Nginx) -> TufReleaseSource:
    return TufReleaseSource(
        "ncen",
        state=state,
        trusted_root=feed / "metadata" / "1.root.json",
        make_fetcher=lambda: HttpFetcher((server.url,)),
        now=clock,
    )


def test_site_downloads_and_resumes(feed: Path, server: Nginx, tmp_path: Path) -> None:
    class ConnectionLostError(Exception):
        pass

    class Cuts(SilentProgress):
        def report(self, text: LazyText, amount: Amount | None = None) -> None:
            if amount and amount.done > LARGE / 3 and (amount.total or 0) > LARGE / 2:
                raise ConnectionLostError

    agent = source(feed, tmp_path / "site", server)
    offer = agent.refresh().offers[0]
    with pytest.raises(ConnectionLostError):
        agent.download_release(offer, Cuts())
    agent.close()
    again = source(feed, tmp_path / "site", server)
    again.refresh()
    release = again.download_release(offer, SilentProgress())
    again.close()
    assert release.archive.stat().st_size == offer.archive.length
    served = [line.split() for line in server.log.read_text().splitlines() if "tar.gz" in line]
    assert served[-1][0] == "206"
    assert int(served[-1][1]) < offer.archive.length * 0.9


def test_long_list_is_compressed(feed: Path, server: Nginx) -> None:
    path = "metadata/1.root.json"
    status, headers, body = ask(server, f"/{path}", Accept_Encoding="gzip")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert headers["vary"] == "Accept-Encoding", "a cache keeps both forms apart"
    assert headers["cache-control"] == IMMUTABLE_CACHE_CONTROL
    assert gzip.decompress(body) == (feed / path).read_bytes()
    with contextlib.closing(HttpFetcher((server.url,))) as fetcher:
        assert fetcher.download_bytes(FEED_SCHEME + path, 10_000) == (feed / path).read_bytes()
    served = server.log.read_text().splitlines()[-1].split()
    assert int(served[1]) < (feed / path).stat().st_size * 0.7


def test_files_have_their_cache_headers(feed: Path, server: Nginx) -> None:
    archive = next(feed.rglob("*.tar.gz")).relative_to(feed).as_posix()
    for path, cache, kind in (
        ("metadata/timestamp.json", MUTABLE_CACHE_CONTROL, "application/json"),
        ("metadata/2.ncen.json", IMMUTABLE_CACHE_CONTROL, "application/json"),
        (archive, IMMUTABLE_CACHE_CONTROL, "application/octet-stream"),
    ):
        status, headers, body = ask(server, f"/{path}", Accept_Encoding="gzip, br")
        assert (status, body) == (200, (feed / path).read_bytes()), path
        assert headers["cache-control"] == cache, path
        assert headers["content-type"] == kind, path
        assert headers["accept-ranges"] == "bytes", path
        assert "content-encoding" not in headers, path
        assert "etag" in headers, path
    status, headers, body = ask(server, f"/{archive}", Range="bytes=10-19")
    assert (status, headers["content-range"].split("/")[0]) == (206, "bytes 10-19")
    assert body == (feed / archive).read_bytes()[10:20]
    status, headers, _ = ask(server, "/metadata/timestamp.json", "HEAD")
    assert (status, headers["cache-control"]) == (200, MUTABLE_CACHE_CONTROL)


@pytest.mark.parametrize(
    "path",
    ["/metadata/2.root.json", "/metadata/", "/targets/", "/", "/notes.txt", "/metadata",
     "/metadata/.9.root.json.partial-1", "/targets/../notes.txt"],
)  # fmt: skip
def test_missing_file_is_not_cached(path: str, server: Nginx) -> None:
    status, headers, body = ask(server, path)
    assert status in (403, 404)
    assert status == 404 or path in ("/metadata/", "/targets/")
    assert "immutable" not in headers.get("cache-control", "")
    assert b"1.root.json" not in body
    if status == 404:
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_write_methods_are_refused(method: str, server: Nginx) -> None:
    for path in ("/metadata/timestamp.json", "/metadata/1.root.json", "/targets/x"):
        assert ask(server, path, method)[0] in (403, 405)
