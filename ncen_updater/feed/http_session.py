"""HTTP session for untrusted servers: bounded responses and limits of a transfer.

``requests`` and ``http.client`` trust a server in four ways. They read and decompress the whole
body of a redirect. They accept endless interim responses and trailers. Their time-out restarts with
each byte. They store cookies. So a session of this module returns each response, redirects too,
with its body unread, and sets a deadline for everything but the body.

Times are seconds of a monotonic clock, rates are bytes per second. The caller passes the clock, the
sleep function and the random number.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from tuf.api.exceptions import SlowRetrievalError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import parse_url

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.resumable_download import ConnectionLostError

#: Bytes of one read; fewer if the rate is limited, so that pauses stay short.
BLOCK = 1 << 16
MIN_BLOCK = 1 << 10
MAX_PAUSE_S = 120.0
MAX_REDIRECTS = 5


class RedirectedError(requests.RequestException):
    """A redirect to a server that is not one of the feed's addresses."""


class ReadDeadline:
    """A deadline for the head of a response, and for each piece of its body.

    Args:
        seconds: Limit for the head of a response, and from one piece of its body to the next.
        clock: A monotonic clock, seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self.restart()

    def restart(self) -> None:
        """Restart the deadline from now."""
        self._until = self._clock() + self._seconds

    def check_expired(self) -> None:
        """Compare the clock with the deadline; called before each read from the socket.

        Raises:
            TransferTooSlowError: If the deadline has passed.
        """
        if self._clock() > self._until:
            raise TransferTooSlowError(
                LazyText(N_("no data for {seconds} s"), {"seconds": f"{self._seconds:.0f}"})
            )


class _ResponseStream(io.RawIOBase):
    """A response's byte stream that checks the deadline before each read."""

    def __init__(self, stream: io.RawIOBase, deadline: ReadDeadline) -> None:
        self._stream, self._deadline = stream, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as the base class has it
        self._deadline.check_expired()
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _ResponseSocket:
    """The socket as ``http.client`` uses it for a response, with the deadline."""

    def __init__(self, sock: socket.socket, deadline: ReadDeadline) -> None:
        self._socket, self._deadline = sock, deadline

    def makefile(self, _mode: str) -> IO[bytes]:
        return io.BufferedReader(_ResponseStream(self._socket.makefile("rb", 0), self._deadline))


class BoundedHttpSession(requests.Session):
    """A session with bounded responses that ignores environment variables."""

    read_deadline: ReadDeadline

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, so that ``requests`` follows no redirect; :meth:`send_request` does it."""

    def send_request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: float | tuple[float, float],
        origins: Iterable[str],
    ) -> requests.Response:
        """Send a request; follow redirects within some origins, never from TLS to plain HTTP.

        The body of the response is not read.

        Args:
            method: HTTP method.
            url: The address.
            headers: Request headers.
            timeout: Seconds, as ``requests`` takes it.
            origins: Addresses whose scheme, host and port a redirect may name.

        Raises:
            requests.RequestException: If the request fails; ``SSLError`` for a redirect out of TLS.
            RedirectedError: If a redirect leads to another origin.
            TransferTooSlowError: If the head of a response does not arrive in time.
            OSError: If the connection fails in a way that ``requests`` does not wrap.
            ValueError: If a response or its ``Location`` cannot be parsed.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self.request(method, url, headers=headers, timeout=timeout, stream=True)
            try:
                target = _get_redirect_url(response)
            except ValueError:
                response.close()
                raise
            if target is None:
                return response
            response.close()
            if url.startswith("https:") and not target.lower().startswith("https:"):
                raise requests.exceptions.SSLError("redirected to an unencrypted URL")
            if _get_origin(target) not in map(_get_origin, origins):
                raise RedirectedError(
                    LazyText(N_("redirected to {address}"), {"address": repr(target[:80])})
                )
            url = target
        raise requests.TooManyRedirects("too many redirects")

    def read_body(self, response: requests.Response, max_bytes: int) -> bytes:
        """Return the available bytes of a body, at most ``max_bytes``; empty at its end.

        Raises:
            TransferTooSlowError: If no byte of the body arrives in time.
            urllib3.exceptions.HTTPError: If the connection breaks.
        """
        self.read_deadline.restart()
        return bytes(response.raw.read1(max_bytes))


def make_bounded_session(
    read_deadline: ReadDeadline,
    *,
    proxy: str | None = None,
    ca_file: Path | None = None,
    client_certificate: Path | None = None,
) -> BoundedHttpSession:
    """Return a new session.

    Args:
        read_deadline: Its deadline.
        proxy: ``http://host:port``.
        ca_file: Certificates of a private certificate authority.
        client_certificate: PEM file with certificate and key.
    """

    class HttpAnswer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            read_deadline.restart()  # after each request, also after the CONNECT to a proxy
            super().__init__(_ResponseSocket(sock, read_deadline), *args, **kwargs)  # type: ignore[arg-type]

        def begin(self) -> None:
            super().begin()
            if "," in ",".join(self.headers.get_all("Content-Length", [])):
                # Raised here, the error closes the connection; urllib3 would raise it too late for
                # that.
                raise http.client.HTTPException("response with two lengths")

    class Plain(HTTPConnection):
        response_class = HttpAnswer

    class Secure(HTTPSConnection):
        response_class = HttpAnswer

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    pools = {"http": PlainPool, "https": SecurePool}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            manager = super().proxy_manager_for(*args, **kwargs)
            manager.pool_classes_by_scheme = pools
            return manager

    session = BoundedHttpSession()
    session.read_deadline = read_deadline
    session.trust_env = False  # only the agent's configuration decides
    if proxy is not None:
        session.proxies = {"http": proxy, "https": proxy}
    if ca_file is not None:
        session.verify = str(ca_file)
    if client_certificate is not None:
        session.cert = str(client_certificate)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in pools:
        session.mount(f"{scheme}://", Adapter())
    return session


def _get_redirect_url(response: requests.Response) -> str | None:
    """Return the address of a redirect; None if the response is not a redirect.

    Raises:
        ValueError: If the ``Location`` cannot be parsed.
    """
    if not response.is_redirect:
        return None
    return urljoin(response.url, response.headers["Location"].encode("latin-1").decode())


def _get_origin(url: str) -> tuple[str | None, str | None, int | None]:
    parts = parse_url(url)  # urllib3's parser connects too; others read "bad\\@good" as host good
    return parts.scheme, parts.host, parts.port or {"https": 443}.get(parts.scheme or "", 80)


class TransferTooSlowError(SlowRetrievalError, ConnectionLostError):
    """A server that sends too slowly."""


class TransferRateMonitor:
    """Raises if a transfer falls below the minimum rate in a window, or passes its deadline.

    Pauses for our own rate limit are not counted.
    """

    def __init__(
        self,
        min_bytes_per_s: int,
        window_s: float,
        deadline_s: float,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        self._minimum, self._window, self._name, self._clock = (
            min_bytes_per_s,
            window_s,
            name,
            clock,
        )
        self._started = self._window_start = clock()
        self._deadline, self._bytes = deadline_s, 0

    def count_bytes(self, size: int) -> None:
        """Count bytes that arrived.

        Raises:
            TransferTooSlowError: If the transfer is below the minimum rate or past its deadline.
        """
        now = self._clock()
        self._bytes += size
        if now - self._started > self._deadline:
            raise TransferTooSlowError(
                LazyText(
                    N_("{name}: not finished after {seconds} s"),
                    {"name": self._name, "seconds": f"{self._deadline:.0f}"},
                )
            )
        if now - self._window_start >= self._window:
            rate = self._bytes / (now - self._window_start)
            if rate < self._minimum:
                raise TransferTooSlowError(
                    LazyText(
                        N_("{name}: {rate} B/s, the minimum is {minimum} B/s"),
                        {"name": self._name, "rate": f"{rate:.0f}", "minimum": self._minimum},
                    )
                )
            self._window_start, self._bytes = now, 0

    def exclude_pause(self, seconds: float) -> None:
        """Exclude a pause for our own rate limit from the measured time."""
        self._started += seconds
        self._window_start += seconds


class Throttle:
    """Limits the total rate of all connections of a fetcher.

    Args:
        rate_limit: Returns the current limit; None for no limit.
        sleep: Waits.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        rate_limit: Callable[[], int | None],
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._limit, self._sleep, self._clock = rate_limit, sleep, clock
        self._free_at = clock()

    def get_block_size(self) -> int:
        """Return the maximum bytes of the next read."""
        rate = self._limit()
        return BLOCK if rate is None else min(BLOCK, max(MIN_BLOCK, rate // 4))

    def wait_for_rate(self, size: int) -> float:
        """Wait until the rate limit allows these bytes; return the seconds waited."""
        rate, now = self._limit(), self._clock()
        if rate is None:
            self._free_at = now
            return 0.0
        self._free_at = max(now, self._free_at) + size / rate
        pause = self._free_at - now
        self._sleep(pause)
        return pause


def compute_backoff_s(attempt: int, base_s: float, random_fraction: float) -> float:
    """Return the seconds before another attempt: doubled each time, randomised to spread the sites.

    Args:
        attempt: 0 after the first failure.
        base_s: Mean pause after the first failure.
        random_fraction: Random number from 0 to 1.
    """
    return float(min(MAX_PAUSE_S, base_s * 2.0 ** min(attempt, 30)) * (0.5 + random_fraction))


def parse_retry_after_s(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a ``Retry-After`` header; None if it is absent or cannot be parsed.

    Args:
        header: The value: seconds or an HTTP date.
        now: The time, with a time zone.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
