"""The line itself: proxies, private authorities, certificates of clients; all of them real."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError

from ncen_updater.common.messages import FEED_PROXY, FEED_TLS
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher, MirrorError, NetworkFailure
from tests.feed.conftest import Agent
from tests.support.errors import refused
from tests.support.http_server import serving
from tests.support.proxy import proxying
from tests.support.tls import Authority
from tests.support.tuf_repository import Feed

NAME = f"{FEED_SCHEME}metadata/timestamp.json"
Make = Callable[..., HttpFetcher]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def test_release_is_downloaded_with_private_ca_and_client_certificate(
    tmp_path: Path, authority: Authority, agent: Agent, feed: Feed
) -> None:
    clients = Authority(tmp_path / "clients", "clients")
    context = authority.server_context(authority.certify("server"), clients=clients.file)
    with serving(feed.directory, tls=context) as server:
        source = agent.source(
            server.url, ca_file=authority.file, client_certificate=clients.certify("site")
        )
        source.download_release(source.refresh().offers[0], SilentProgress())
    assert server.url.startswith("https:")


@pytest.mark.parametrize("how", ["no authority", "other authority", "ended"])
def test_untrusted_server_is_a_tls_failure(
    tmp_path: Path, authority: Authority, agent: Agent, feed: Feed, how: str
) -> None:
    context = authority.server_context(authority.certify("server", ended=how == "ended"))
    other = Authority(tmp_path / "other", "other")
    trusted = {"no authority": None, "other authority": other.file, "ended": authority.file}[how]
    with serving(feed.directory, tls=context) as server, refused(FEED_TLS):
        agent.source(server.url, ca_file=trusted).refresh()
    assert server.requests == []


def test_environment_variables_set_no_ca_proxy_or_password(
    tmp_path: Path, authority: Authority, agent: Agent, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``requests`` would take from the environment decides nothing here."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authority.file))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login site password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    context = authority.server_context(authority.certify("server"))
    with serving(feed.directory, tls=context) as server, proxying() as proxy:
        for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with refused(FEED_TLS):
            agent.source(server.url).refresh()
        assert agent.source(server.url, ca_file=authority.file).refresh().offers
        assert proxy.seen == []
    with proxying() as proxy, serving(feed.directory) as server:
        assert agent.source(server.url, proxy=proxy.url).refresh().offers
        assert "secret" not in "".join(proxy.headers)
        assert not [line for line in proxy.headers if line.lower().startswith("authorization")]


@pytest.mark.parametrize("how", ["none", "of another authority"])
def test_untrusted_client_certificate_is_reported(
    tmp_path: Path, authority: Authority, agent: Agent, feed: Feed, how: str
) -> None:
    clients = Authority(tmp_path / "clients", "clients")
    strangers = Authority(tmp_path / "strangers", "strangers")
    mine = strangers.certify("site") if how != "none" else None
    context = authority.server_context(authority.certify("server"), clients=clients.file)
    with serving(feed.directory, tls=context) as server, refused(FEED_TLS):
        agent.source(server.url, ca_file=authority.file, client_certificate=mine).refresh()
    assert server.requests == []


def test_plain_proxy_passes_a_whole_release(agent: Agent, feed: Feed) -> None:
    with serving(feed.directory) as server, proxying() as proxy:
        source = agent.source(server.url, proxy=proxy.url)
        source.download_release(source.refresh().offers[0], SilentProgress())
        assert len(proxy.seen) == len(server.requests) > 5
        assert proxy.seen[0] == f"GET {server.url}metadata/2.root.json HTTP/1.1"


def test_proxy_tunnel_reveals_nothing(authority: Authority, agent: Agent, feed: Feed) -> None:
    context = authority.server_context(authority.certify("server"))
    with serving(feed.directory, tls=context) as server, proxying() as proxy:
        source = agent.source(server.url, proxy=proxy.url, ca_file=authority.file)
        source.download_release(source.refresh().offers[0], SilentProgress())
        place = server.url.removeprefix("https://").rstrip("/")
        assert set(proxy.seen) == {f"CONNECT {place} HTTP/1.0"} or set(proxy.seen) == {
            f"CONNECT {place} HTTP/1.1"
        }
        assert len(server.requests) > 5


def test_proxy_authentication_is_sent(agent: Agent, feed: Feed) -> None:
    with serving(feed.directory) as server, proxying() as proxy:
        named = proxy.url.replace("//", "//site:secret@")
        assert agent.source(server.url, proxy=named).refresh().offers
        word = base64.b64encode(b"site:secret").decode()
        assert f"Proxy-Authorization: Basic {word}" in proxy.headers


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tunnel"])
def test_refusing_proxy_is_reported(
    authority: Authority, agent: Agent, feed: Feed, tls: bool
) -> None:
    context = authority.server_context(authority.certify("server")) if tls else None
    with serving(feed.directory, tls=context) as server, proxying() as proxy:
        proxy.refuse = b"HTTP/1.1 407 Proxy Authentication Required"
        named = proxy.url.replace("//", "//site:secret@")
        with refused(FEED_PROXY) as caught:
            agent.source(server.url, proxy=named, ca_file=authority.file).refresh()
        assert server.requests == []
    assert "407" in str(caught.value.detail)
    assert "secret" not in str(caught.value.detail)


def test_unreachable_proxy_is_reported(agent: Agent, feed: Feed) -> None:
    with serving(feed.directory) as server, refused(FEED_PROXY):
        agent.source(server.url, proxy="http://127.0.0.1:9").refresh()


def test_redirect_out_of_tls_is_not_followed(authority: Authority, feed: Feed) -> None:
    from tests.support.http_server import Fault

    context = authority.server_context(authority.certify("server"))
    with serving(feed.directory) as plain, serving(feed.directory, tls=context) as server:
        place = f"{plain.url}metadata/timestamp.json"
        server.faults = [Fault("", status=302, headers={"Location": place})]
        fetcher = HttpFetcher((server.url,), attempts=1, ca_file=authority.file)
        with pytest.raises(MirrorError) as caught:
            fetcher.download_bytes(NAME, 10_000)
        fetcher.close()
    assert caught.value.kind is NetworkFailure.TLS


def test_next_address_is_used_when_the_proxy_refuses_the_first(feed: Feed) -> None:
    with serving(feed.directory) as server, proxying() as proxy:
        fetcher = HttpFetcher(
            ("http://127.0.0.1:9/", server.url), attempts=1, proxy=proxy.url, sleep=lambda _: None
        )
        with pytest.raises(DownloadHTTPError):
            fetcher.download_bytes(f"{FEED_SCHEME}metadata/absent.json", 10)
        assert fetcher.download_bytes(NAME, 10_000)
        fetcher.close()
