"""A password in the address of a feed goes to its server, and nowhere else."""

from __future__ import annotations

import base64
import random

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from tests.feed.conftest import Agent
from tests.feed.test_hostile_servers import CONTENT, NAME, OK, Hostile, fetching, once
from tests.support.http_server import PORTAL, Fault, serving
from tests.support.tuf_repository import Feed


def test_password_in_an_address_is_sent_but_never_shown(
    agent: Agent, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in errors, nor in the log, nor in the notes beside a download."""
    caplog.set_level(0)
    feed.add_release("3.4.0", content={"big": random.Random(1).randbytes(60_000)})
    feed.publish()
    told: list[str] = []
    with serving(feed.directory) as server:
        secret = server.url.replace("//", "//site:s3cr%40t@")
        for fault in (
            Fault("", status=503), Fault("", cut_after=2), Fault("", body=PORTAL),
            Fault("", drip=0.02), Fault("timestamp", body=b" " * 20_000),
            Fault("", status=302, headers={"Location": "metadata/x.json"}),
            Fault("", status=302, headers={"Location": "http://[::1"}),
        ):  # fmt: skip
            server.faults = [fault]
            with pytest.raises(UpdaterError) as caught:
                agent.source(secret, minimum_bytes_per_s=1000).refresh()
            told.append(str(caught.value))
        server.faults = [Fault(".tar.gz", cut_after=5000, times=1), Fault(".tar.gz", cut_after=0)]
        source = agent.source(secret)
        with pytest.raises(UpdaterError) as caught:
            source.download_release(source.refresh().offers[-1], SilentProgress())
    for url in ("https://site:s3cr%40t@127.0.0.1:9/", "http://site:s3cr%40t@[::1/"):
        with pytest.raises(UpdaterError) as caught:
            agent.source(url).refresh()
        told.append(str(caught.value))
    kept = b"".join(agent.contents().values()).decode("utf-8", "replace")
    assert "127.0.0.1" in kept, "the note names the server"
    assert "127.0.0.1" in "".join(told)
    # urllib3 itself tells no more than host and path.
    for text in (*told, caplog.text, kept):
        assert "s3cr" not in text
    with Hostile(once(OK + b"Content-Length: 8\r\n\r\n" + CONTENT)) as named:
        with fetching(named.url.replace("//", "//site:s3cr%40t@")) as fetcher:
            assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert base64.b64encode(b"site:s3cr@t").decode() in named.heads[0]


def test_password_is_not_sent_to_a_redirect_target() -> None:
    with Hostile(once(OK + b"Content-Length: 8\r\n\r\n" + CONTENT)) as other:
        led = b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: %smetadata/x.json\r\n\r\n"
        with (
            Hostile(once(led % other.url.encode())) as first,
            fetching(first.url.replace("//", "//site:secret@"), other.url) as fetcher,
        ):
            assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert "Authorization" in first.heads[0]
        assert "Authorization" not in other.heads[0]
