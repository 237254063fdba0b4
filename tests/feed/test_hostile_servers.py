"""Tests of hostile HTTP servers: each is abandoned within bounds for the next address."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.exceptions import DownloadError

from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher, MirrorError, NetworkFailure
from ncen_updater.feed.http_session import TransferTooSlowError
from tests.badinput.hostile import FEW, HUGE, bounded
from tests.support.http_server import Fault, serving

NAME = f"{FEED_SCHEME}metadata/x.json"
CONTENT = b'{"x": 1}'
OK = b"HTTP/1.1 200 OK\r\n"
Answer = Callable[[], Iterator[bytes]]


class Hostile:
    """Answers every request with what a generator gives, until the other side has gone.

    Attributes:
        url: Base address.
        heads: What was asked, one text for each request.
    """

    def __init__(self, answer: Answer) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer, self._ended = answer, threading.Event()
        self._open: list[socket.socket] = []
        self.heads: list[str] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self._open.append(connection)
                with connection:
                    self._speak(connection)

    def _speak(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                return
            head += more
        self.heads.append(head.decode("latin-1"))
        for piece in self._answer():
            if self._ended.is_set():
                return
            connection.sendall(piece)

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Ticking:
    """A clock that goes on by a second at each look: what never ends, ends after some looks."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def __call__(self) -> float:
        return float(next(self._ticks))


def once(*pieces: bytes) -> Answer:
    return lambda: iter(pieces)


def forever(start: bytes, more: bytes) -> Answer:
    return lambda: itertools.chain([start], itertools.repeat(more))


@pytest.fixture
def served(tmp_path: Path) -> Path:
    (tmp_path / "good/metadata").mkdir(parents=True)
    (tmp_path / "good/metadata/x.json").write_bytes(CONTENT)
    return tmp_path / "good"


@contextlib.contextmanager
def fetching(*urls: str, **settings: object) -> Iterator[HttpFetcher]:
    base: dict[str, object] = {
        "timeout_s": 5.0,
        "window_s": 5.0,
        "attempts": 1,
        "sleep": lambda _: None,
    }
    with contextlib.closing(HttpFetcher(urls, **{**base, **settings})) as fetcher:  # type: ignore[arg-type]
        yield fetcher


# ---- what never ends ---------------------------------------------------------------------------

LED = b"HTTP/1.1 302 Found\r\nLocation: /metadata/y.json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "continue, and again": forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "continue with headers": forever(b"", b"HTTP/1.1 100 Continue\r\na: b\r\n\r\n" * 50),
    "a first line": forever(b"HTTP/1.1 200 ", b"O" * 100),
    "a header": forever(OK + b"a: ", b"a" * 100),
    "headers": forever(OK, b"a: b\r\n"),
    "empty pieces": forever(CHUNKED, b"0;a=b"),
    "the length of a piece": forever(CHUNKED, b"0" * 100),
    "what follows the last piece": forever(CHUNKED + b"0\r\n", b"a: b\r\n" * 50),
    "what leads elsewhere": forever(LED + b"\r\n", b"a" * 65536),
    "what leads elsewhere, in pieces": forever(
        LED + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n"
    ),
    "a refusal": forever(b"HTTP/1.1 404 No\r\n\r\n", b"a" * 65536),
    "a refusal for now": forever(b"HTTP/1.1 503 No\r\n\r\n", b"a" * 65536),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_answer_is_abandoned_for_the_next_address(served: Path, name: str) -> None:
    tracemalloc.start()
    try:
        with (
            Hostile(ENDLESS[name]) as bad,
            serving(served) as good,
            fetching(bad.url, good.url, clock=Ticking()) as fetcher,
            bounded(60),
        ):
            assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert bad.heads


def test_redirect_body_is_not_decompressed(served: Path) -> None:
    """A body of a redirection that is small on the line and fills the memory."""
    bomb = gzip.compress(bytes(40 << 20), 1)
    head = LED + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    tracemalloc.start()
    try:
        with (
            Hostile(once(head, bomb)) as bad,
            fetching(bad.url) as fetcher,
            pytest.raises(DownloadError),
        ):
            fetcher.download_bytes(NAME, 100)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\na: ", CHUNKED, CHUNKED + b"0\r\na: "], ids=range(3)
)
def test_slow_header_or_body_times_out(served: Path, start: bytes) -> None:
    """One byte at a time, each before the line would count as dead."""

    def drip() -> Iterator[bytes]:
        yield start
        while not ended.wait(0.02):
            yield b"1"

    ended = threading.Event()
    with (
        Hostile(drip) as bad,
        fetching(bad.url, clock=Ticking()) as fetcher,
        bounded(60),
        pytest.raises(TransferTooSlowError),
    ):
        try:
            fetcher.download_bytes(NAME, 1 << 20)
        finally:
            ended.set()


def test_proxy_that_never_opens_its_tunnel_times_out(served: Path) -> None:
    with (
        Hostile(forever(OK + b"a: ", b"a" * 10)) as proxy,
        fetching("https://feed.invalid/", proxy=proxy.url, clock=Ticking()) as fetcher,
        bounded(60),
        pytest.raises(DownloadError),
    ):
        fetcher.download_bytes(NAME, 100)


# ---- what cannot be understood -----------------------------------------------------------------

HEADERS = {
    "a date of no year": b"Date: Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "a date of no zone": b"Date: Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
    "a date that no zone can show": b"Date: Fri, 31 Dec 9999 23:59:59 -2359",
    "a date of many digits": b"Date: Mon, 01 Jan %s 00:00:00 GMT" % HUGE.encode(),
    "a date that is text": b"Date: \xff\xfe",
    "a length that is a digit to some": b"Content-Length: \xb2",
    "a length of many digits": b"Content-Length: %s" % HUGE.encode(),
    "a length below zero": b"Content-Length: -1",
    "two lengths": b"Content-Length: 8\r\nContent-Length: 9",
    "a length and another": b"Content-Length: 8, 9",
    "a cookie": b"Set-Cookie: a=%s; Expires=%s" % (b"b" * 5000, HUGE.encode()),
    "a range of text": b"Content-Range: bytes \xb2-\xb2/x",
    "an entity tag of bytes": b"ETag: \xff\xff",
    "a header without a name": b": a",
    "a header without a value": b"a",
}


@pytest.mark.parametrize("name", HEADERS)
def test_invalid_headers_are_tolerated_or_skipped(served: Path, name: str) -> None:
    """Whatever a header says, the file comes, or the next address is asked."""
    answer = once(OK + HEADERS[name] + b"\r\nConnection: close\r\n\r\n" + CONTENT)
    with Hostile(answer) as bad, serving(served) as good:
        with fetching(bad.url, good.url) as fetcher:
            assert fetcher.download_bytes(NAME, 100) == CONTENT
            part = fetcher.open_stream(NAME, 0)
            assert b"".join(part.chunks) == CONTENT
            part.close()
        assert bad.heads


PLACES = {
    "half an address": b"http://[::1",
    "no host": b"http://",
    "another kind": b"file:///etc/passwd",
    "another kind, of the line": b"ftp://127.0.0.1/x",
    "data": b"data:,x",
    "a host of one letter too many": b"http://" + b"a" * 64 + b".invalid/",
    "a host that ends twice": b"http://a..b/",
    "bytes": b"http://\xff\xff/",
    "a port that is none": b"http://127.0.0.1:99999/",
    "a port of text": b"http://127.0.0.1:x/",
    "a line within": b"/a\x0bb\x0c",
    "nothing": b"",
    "itself": b"/metadata/x.json",
    "long": b"/" + b"a" * 60000,
}


@pytest.mark.parametrize("name", PLACES)
def test_invalid_redirects_are_bounded(served: Path, name: str) -> None:
    answer = once(
        b"HTTP/1.1 302 Found\r\nLocation: " + PLACES[name] + b"\r\nConnection: close\r\n\r\n"
    )
    with Hostile(answer) as bad, serving(served) as good:
        with fetching(bad.url, good.url) as fetcher, bounded(60):
            assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert 1 <= len(bad.heads) <= 6


def test_redirects_are_followed_only_within_the_feed(served: Path) -> None:
    with serving(served) as moved, serving(served) as other:
        moved.faults = [
            Fault("metadata/x", status=301, headers={"Location": "../moved/%C3%A9.json"}),
            Fault("moved", status=307, headers={"Location": f"{other.url}metadata/x.json"}),
        ]
        with fetching(moved.url) as fetcher, pytest.raises(MirrorError) as caught:
            fetcher.download_bytes(NAME, 100)
        assert caught.value.kind is NetworkFailure.REDIRECTED
        assert moved.paths() == ["/metadata/x.json", "/moved/%C3%A9.json"]
        assert other.paths() == []
        with fetching(moved.url, other.url) as fetcher:
            assert fetcher.download_bytes(NAME, 100) == CONTENT
        assert (moved.paths()[2:], other.paths()) == (moved.paths()[:2], ["/metadata/x.json"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "127.0.0.1.nip.invalid"])
def test_redirect_to_another_server_is_not_followed(served: Path, status: int, host: str) -> None:
    with serving(served) as moved, serving(served) as inner:
        inside, itself = (one.url.rpartition(":")[2] for one in (inner, moved))
        masked = f"http://{host}:{inside[:-1]}\\@127.0.0.1:{itself}x"
        for place in (f"http://{host}:{inside}x", f"//{host}:{itself}x", masked):
            moved.faults = [Fault("", status=status, headers={"Location": place})]
            with fetching(moved.url) as fetcher, pytest.raises(MirrorError) as caught:
                fetcher.download_bytes(NAME, 100)
            assert caught.value.kind is NetworkFailure.REDIRECTED
        assert inner.paths() == []


def test_range_is_requested_from_the_redirect_target(served: Path) -> None:
    with serving(served) as moved, serving(served) as other:
        moved.faults = [Fault("", status=302, headers={"Location": f"{other.url}metadata/x.json"})]
        with fetching(moved.url, other.url) as fetcher:
            part = fetcher.open_stream(NAME, 3)
            assert (part.start, b"".join(part.chunks)) == (3, CONTENT[3:])
            part.close()
        assert other.requests[0].range == "bytes=3-"


def test_no_cookie_is_stored(served: Path) -> None:
    # It says that it closes: else the second request may still be sent into the first connection.
    head = OK + b"Connection: close\r\nSet-Cookie: a=b\r\nContent-Length: 8\r\n\r\n"
    with Hostile(once(head + CONTENT)) as server, fetching(server.url) as fetcher:
        for _ in range(2):
            assert fetcher.download_bytes(NAME, 100) == CONTENT
    assert len(server.heads) == 2
    assert "cookie" not in "".join(server.heads).lower()


def test_unexpected_answer_is_reported_as_unreachable(served: Path) -> None:
    with (
        Hostile(once(b"\0\1\2\r\n\r\n")) as bad,
        fetching(bad.url) as fetcher,
        pytest.raises(MirrorError) as caught,
    ):
        fetcher.download_bytes(NAME, 100)
    assert caught.value.kind is NetworkFailure.UNREACHABLE


_LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.1 206 Partial", b"HTTP/1.1 302 Found", b"HTTP/1.0 200",
        b"HTTP/9.9 999 \xff", b"HTTP/1.1 -1 x", b"HTTP/1.1 200000 x", b"", b"\0",
    ]
)  # fmt: skip
_NAMES = st.sampled_from(
    [
        b"Date", b"Content-Length", b"Content-Range", b"Content-Type", b"Content-Encoding",
        b"Transfer-Encoding", b"Location", b"ETag", b"Retry-After", b"Set-Cookie", b"Connection",
        b"Proxy-Authenticate", b"WWW-Authenticate", b"Upgrade", b"Refresh", b"Trailer",
    ]
)  # fmt: skip
_VALUES = st.binary(max_size=12) | st.sampled_from(
    [
        b"chunked", b"gzip", b"bytes 4-7/8", b"bytes 0-0/8", b"8", b"4", b"text/html", b"close",
        b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", b"=?utf-8?b?/w==?=", b"a\r\n b",
        b"http://[", b"//", b"?", HUGE.encode(),
    ]
)  # fmt: skip


@FEW
@given(
    line=_LINES,
    headers=st.lists(st.tuples(_NAMES, _VALUES), max_size=5),
    body=st.binary(max_size=20) | st.sampled_from([CONTENT, b"8\r\n" + CONTENT + b"\r\n0\r\n\r\n"]),
    offset=st.sampled_from([0, 4]),
)
def test_arbitrary_answers_are_handled(
    line: bytes, headers: list[tuple[bytes, bytes]], body: bytes, offset: int
) -> None:
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    with (
        Hostile(once(line + b"\r\n" + head + b"\r\n" + body)) as server,
        fetching(server.url) as fetcher,
        bounded(60),
    ):
        with contextlib.suppress(DownloadError):
            fetcher.download_bytes(NAME, 100)
        with contextlib.suppress(DownloadError):
            part = fetcher.open_stream(NAME, offset)
            with contextlib.closing(part):
                assert part.start in (0, offset)
                for _ in part.chunks:
                    pass
