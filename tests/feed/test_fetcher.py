"""Addresses that fail, each in its way; what is sent, and what is never used."""

from __future__ import annotations

import errno
import gzip
import re
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError

from ncen_updater.common.errors import UpdaterError
from ncen_updater.feed.error_mapping import FeedErrorContext, map_errors
from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher, MirrorError, NetworkFailure
from ncen_updater.feed.http_session import TransferTooSlowError
from tests.support.http_server import PORTAL, Fault, WebServer, serving

NAME = f"{FEED_SCHEME}metadata/x.json"
CONTENT = b'{"x": 1}'
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
def served(tmp_path: Path) -> Path:
    (tmp_path / "good/metadata").mkdir(parents=True)
    (tmp_path / "good/metadata/x.json").write_bytes(CONTENT)
    return tmp_path / "good"


Make = Callable[..., HttpFetcher]


@pytest.fixture
def make() -> object:
    made: list[HttpFetcher] = []

    def make(*urls: str, **settings: object) -> HttpFetcher:
        base: dict[str, object] = {
            "timeout_s": 5.0,
            "attempts": 1,
            "sleep": lambda _: None,
            "chance": lambda: 0.5,
        }
        made.append(HttpFetcher(urls, **{**base, **settings}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()


def test_length_is_bounded(served: Path, make: Make) -> None:
    with serving(served) as server:
        assert make(server.url).download_bytes(NAME, len(CONTENT)) == CONTENT
        with pytest.raises(DownloadLengthMismatchError):
            make(server.url).download_bytes(NAME, len(CONTENT) - 1)
        assert b"".join(make(server.url).fetch(NAME)) == CONTENT


def test_list_may_be_compressed_and_a_large_file_may_not(served: Path, make: Make) -> None:
    with serving(served) as server:
        server.faults = [Fault("", body=gzip.compress(CONTENT) + b"more", headers=GZIP)]
        assert make(server.url).download_bytes(NAME, len(CONTENT)) == CONTENT
        with pytest.raises(DownloadLengthMismatchError):
            make(server.url).download_bytes(NAME, len(CONTENT) - 1)
        with pytest.raises(MirrorError) as caught:
            make(server.url).open_stream(NAME, 0)
    assert caught.value.kind is NetworkFailure.CAPTIVE_PORTAL


FAULTS: dict[str, tuple[Fault, NetworkFailure | type[DownloadError]]] = {
    "portal": (Fault("", body=PORTAL), NetworkFailure.CAPTIVE_PORTAL),
    "portal by type": (Fault("", content_type="text/HTML"), NetworkFailure.CAPTIVE_PORTAL),
    "encoded": (Fault("", headers={"Content-Encoding": "br"}), NetworkFailure.CAPTIVE_PORTAL),
    "no gzip": (Fault("", headers=GZIP), NetworkFailure.CONNECTION_LOST),
    "gzip without its end": (
        Fault("", body=gzip.compress(CONTENT)[:-1], headers=GZIP),
        NetworkFailure.CONNECTION_LOST,
    ),
    "gzip with a wrong sum": (
        Fault("", body=gzip.compress(CONTENT)[:-8] + bytes(8), headers=GZIP),
        NetworkFailure.CONNECTION_LOST,
    ),
    "gzip of nothing for ever": (
        Fault("", body=gzip.compress(CONTENT)[:10] + b"\0\0\0\xff\xff" * 2000, headers=GZIP),
        NetworkFailure.CONNECTION_LOST,
    ),
    "gzip bomb": (
        Fault("", body=gzip.compress(bytes(40 << 20), 1), headers=GZIP),
        DownloadLengthMismatchError,
    ),
    "cut": (Fault("", cut_after=3), NetworkFailure.CONNECTION_LOST),
    "404": (Fault("", status=404), DownloadHTTPError),
    "204": (Fault("", status=204), DownloadHTTPError),
    "500": (Fault("", status=500), DownloadHTTPError),
    "redirect for ever": (
        Fault("", status=302, headers={"Location": "/x"}),
        NetworkFailure.UNREACHABLE,
    ),
    "slow bytes": (Fault("", drip=0.02), TransferTooSlowError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_next_address_takes_over(served: Path, make: Make, name: str) -> None:
    fault, expected = FAULTS[name]
    slow = {"window_s": 0.05, "minimum_bytes_per_s": 1000}
    with serving(served) as bad, serving(served) as good:
        bad.faults = [fault]
        fetcher = make(bad.url, good.url, **slow)
        assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert len(good.requests) == 1
        asked = len(bad.requests)
        assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert len(bad.requests) == asked, "the address that failed is asked last from now on"
        with pytest.raises(DownloadError) as caught:
            make(bad.url, **slow).download_bytes(NAME, 100)
    if isinstance(expected, NetworkFailure):
        assert isinstance(caught.value, MirrorError)
        assert caught.value.kind is expected
    else:
        assert isinstance(caught.value, expected)


def test_refused_connection_is_unreachable(make: Make) -> None:
    for url in ("http://127.0.0.1:9/", "http://no-such-host.invalid/", "https://127.0.0.1:9/"):
        with pytest.raises(MirrorError) as caught:
            make(url).download_bytes(NAME, 100)
        assert caught.value.kind is NetworkFailure.UNREACHABLE


def test_plain_server_behind_https_is_a_tls_failure(served: Path, make: Make) -> None:
    with serving(served) as server, pytest.raises(MirrorError) as caught:
        make(server.url.replace("http:", "https:")).download_bytes(NAME, 100)
    assert caught.value.kind is NetworkFailure.TLS


def test_reason_names_no_library_internals(served: Path, make: Make) -> None:
    """Seen: "PlainPool(host='127.0.0.1', port=9): Max retries exceeded with url: ..."."""
    with serving(served) as server:
        encrypted = server.url.replace("http:", "https:")
        for url, reason in (
            ("http://127.0.0.1:9/", "Connection refused"),
            ("http://feed.nowhere.invalid/", None),
            (encrypted, "wrong version number"),
        ):
            with pytest.raises(MirrorError) as caught:
                make(url).download_bytes(NAME, 100)
            said = str(caught.value)
            assert said.startswith(f"{url}metadata/x.json: ")
            assert reason is None or said.endswith(f": {reason}"), said
            assert not re.search(r"Pool|Errno|retries|_ssl|0x", said), said


def test_silence_after_connecting_times_out(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(MirrorError) as caught:
            make(url, timeout_s=0.2).download_bytes(NAME, 100)
    assert caught.value.kind is NetworkFailure.UNREACHABLE


def test_invalid_http_is_a_mirror_error(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as junk:

        def answer() -> None:
            connection, _ = junk.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MirrorError):
            make(f"http://127.0.0.1:{junk.getsockname()[1]}/").download_bytes(NAME, 100)
        thread.join()


def test_only_transient_failures_are_retried_with_growing_delays(served: Path, make: Make) -> None:
    pauses: list[float] = []
    with serving(served) as server:
        server.faults = [Fault("", status=503, times=2)]
        fetcher = make(server.url, attempts=3, backoff_s=2.0, sleep=pauses.append)
        assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert pauses == [2.0, 4.0]
        assert len(server.requests) == 3
        server.faults = [Fault("", status=404)]
        with pytest.raises(DownloadHTTPError):
            fetcher.download_bytes(NAME, 100)
        assert pauses == [2.0, 4.0]


def test_environment_is_ignored(served: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(served) as server:
        assert make(server.url).download_bytes(NAME, 100) == CONTENT


def test_configured_proxy_is_used(make: Make, served: Path) -> None:
    """A plain proxy gets the whole address; here the proxy answers by itself."""
    with serving(served) as proxy:
        proxy.faults = [Fault("http://feed.invalid/metadata/x.json", body=b'{"by": "proxy"}')]
        fetcher = make("http://feed.invalid/", proxy=proxy.url.rstrip("/"))
        assert fetcher.download_bytes(NAME, 100) == b'{"by": "proxy"}'


def test_unrequested_range_is_refused(served: Path, make: Make) -> None:
    with serving(served) as server:
        server.faults = [Fault("", status=206, body=b"{", headers={"Content-Range": "bytes 0-0/8"})]
        with pytest.raises(MirrorError) as caught:
            make(server.url).open_stream(NAME, 4)
        assert caught.value.kind is NetworkFailure.CONNECTION_LOST
        assert server.requests[0].range == "bytes=4-"


def test_deadline_ends_a_steady_stream(served: Path, make: Make) -> None:
    server: WebServer
    with serving(served) as server:
        server.faults = [Fault("", endless=True)]
        with pytest.raises(TransferTooSlowError):
            make(server.url, metadata_deadline_s=0.0).download_bytes(NAME, 1 << 40)


@pytest.mark.parametrize(("chance", "pauses"), [(0.0, [1.0, 2.0]), (1.0, [3.0, 6.0])])
def test_delays_are_randomised(
    served: Path, make: Make, chance: float, pauses: list[float]
) -> None:
    made: list[float] = []
    with serving(served) as server:
        server.faults = [Fault("", status=503, times=2)]
        make(
            server.url, attempts=3, backoff_s=2.0, sleep=made.append, chance=lambda: chance
        ).download_bytes(NAME, 100)
    assert made == pauses


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "pauses"),
    [
        ("30", [30.0]),
        ("120", [120.0]),
        ("0", [2.0]),
        ("Sun, 01 Mar 2026 12:01:30 GMT", [90.0]),
        ("Sun, 01 Mar 2026 11:00:00 GMT", [2.0]),
        ("soon", [2.0]),
        ("-5", [2.0]),
        ("121", []),
        ("99999999999999999999", []),
        ("Mon, 01 Mar 2027 12:00:00 GMT", []),
    ],
)
def test_retry_after_is_respected_within_bounds(
    served: Path, make: Make, asked: str, pauses: list[float]
) -> None:
    """Beyond two minutes the next address is asked at once, and without one the server is right."""
    made: list[float] = []
    settings = {"attempts": 2, "backoff_s": 2.0, "sleep": made.append, "now": lambda: NOW}
    with serving(served) as server, serving(served) as other:
        server.faults = [Fault("", status=503, times=1, headers={"Retry-After": asked})]
        assert make(server.url, other.url, **settings).download_bytes(NAME, 100) == CONTENT
        assert len(other.requests) == (0 if pauses else 1)
        assert made == pauses
        if not pauses:
            server.faults = [Fault("", status=503, headers={"Retry-After": asked})]
            with pytest.raises(DownloadHTTPError, match="retry after"):
                make(server.url, **settings).download_bytes(NAME, 100)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_reported_without_invented_figures(number: int) -> None:
    context = FeedErrorContext("timestamp", NOW, NOW, None, 1)
    with pytest.raises(UpdaterError) as caught, map_errors(context):
        raise OSError(number, "full", "/var/lib/feed/timestamp.json")
    assert (caught.value.code, caught.value.values.get("free_bytes")) == ("NU-3110", None)
    assert caught.value.values["path"] == "/var/lib/feed/timestamp.json"


def test_reason_is_translated_to_french(served: Path, make: Make) -> None:
    """Seen: "Détail : ... status 503; ...: a web page": only whole sentences are translated."""
    context = FeedErrorContext("timestamp", NOW, NOW, None, 1)
    with serving(served) as server, serving(served) as other:
        server.faults = [Fault("", status=503)]
        other.faults = [Fault("", body=PORTAL, content_type="text/html")]
        with pytest.raises(UpdaterError) as caught, map_errors(context):
            make(server.url, other.url).download_bytes(NAME, 100)
    told = caught.value.detail_text
    assert told is not None
    assert ": statut 503 ; " in told.render("fr")
    assert told.render("fr").endswith(": une page web au lieu du fichier")


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_rate_limit_applies_across_connections_and_ends_with_its_hours(
    served: Path, make: Make
) -> None:
    (served / "metadata/x.json").write_bytes(bytes(100_000))
    time, cap = Time(), 10_000
    with serving(served) as server:
        fetcher = make(
            server.url,
            rate_limit=lambda: cap if time.now < 15 else None,
            clock=time,
            sleep=time.sleep,
            minimum_bytes_per_s=20_000,  # our own pauses do not count as the server's slowness
            window_s=1.0,
            target_deadline_s=5.0,
        )
        for expected in (10.0, pytest.approx(15.0, abs=1.0), pytest.approx(15.0, abs=1.0)):
            part = fetcher.open_stream(NAME, 0)
            assert sum(map(len, part.chunks)) == 100_000
            part.close()
            assert time.now == expected


def test_newest_root_is_requested_from_one_address_only(served: Path, make: Make) -> None:
    """A check with nothing new costs two requests, however many addresses there are."""
    with serving(served) as one, serving(served) as two:
        fetcher = make(one.url, two.url)
        with pytest.raises(DownloadHTTPError):
            fetcher.download_bytes(f"{FEED_SCHEME}metadata/2.root.json", 100)
        assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert one.paths() == ["/metadata/2.root.json", "/metadata/x.json"]
        assert two.requests == []


def test_broken_chunked_encoding_counts_as_a_broken_connection(make: Make) -> None:
    """What requests calls ChunkedEncodingError is of no family of its own."""
    with socket.create_server(("127.0.0.1", 0)) as broken:

        def answer() -> None:
            connection, _ = broken.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz"
                )

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MirrorError) as caught:
            make(f"http://127.0.0.1:{broken.getsockname()[1]}/").download_bytes(NAME, 100)
        thread.join()
    assert caught.value.kind is NetworkFailure.CONNECTION_LOST


def test_retries_pause_after_all_addresses_failed(served: Path, make: Make) -> None:
    made: list[float] = []
    with serving(served) as one, serving(served) as two:
        one.faults = two.faults = [Fault("", cut_after=2)]
        fetcher = make(one.url, two.url, sleep=made.append, backoff_s=2.0)
        for _ in range(4):
            part = fetcher.open_stream(NAME, 0)
            with pytest.raises(MirrorError):
                list(part.chunks)
            part.close()
        assert made == [2.0, 4.0]
        assert len(one.requests) == len(two.requests) == 2
