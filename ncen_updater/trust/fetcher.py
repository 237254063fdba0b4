"""Fetching from plain web servers: several addresses of one feed, with limits on time and length.

A server can only refuse us something here; whether bytes are right is decided elsewhere. Whatever
``requests`` or ``urllib3`` raise becomes one of the exceptions of this module or of ``tuf``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import IO, TypeVar

import requests
import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)

from ncen_updater.transfer.download import LineBroken, Part
from ncen_updater.trust.fetching import FEED_SCHEME, FeedFetcher

__all__ = ["FEED_SCHEME", "Failure", "HttpFetcher", "MirrorFailure", "MirrorRefused", "TooSlow"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
BLOCK = 1 << 16
HTTP_OK, HTTP_PARTIAL, HTTP_RANGE = 200, 206, 416
RETRY_STATUS = frozenset({429, 500, 502, 503, 504})


class Failure(StrEnum):
    """In what way a mirror failed."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    PORTAL = "portal"
    CUT = "cut"


class MirrorFailure(DownloadError, LineBroken):
    """A mirror that did not give the file."""

    def __init__(self, message: str, kind: Failure) -> None:
        super().__init__(message)
        self.kind = kind


class MirrorRefused(DownloadHTTPError):
    """A mirror that answered with a status."""


class TooSlow(SlowRetrievalError, LineBroken):
    """A mirror that drips."""


class _Pace:
    """Raises when less than the smallest rate came within a window, or the deadline passed."""

    def __init__(self, minimum: int, window_s: float, deadline_s: float, name: str) -> None:
        self._minimum, self._window, self._name = minimum, window_s, name
        self._begun = self._since = time.monotonic()
        self._deadline, self._bytes = deadline_s, 0

    def count(self, size: int) -> None:
        now = time.monotonic()
        self._bytes += size
        if now - self._begun > self._deadline:
            raise TooSlow(f"{self._name}: not finished after {self._deadline:.0f} s")
        if now - self._since >= self._window:
            rate = self._bytes / (now - self._since)
            if rate < self._minimum:
                raise TooSlow(f"{self._name}: {rate:.0f} bytes/s, at least {self._minimum} needed")
            self._since, self._bytes = now, 0


class HttpFetcher(FeedFetcher):
    """Fetches by name from the first address that gives the file.

    Args:
        urls: Base addresses of the same feed, tried in order; one that failed goes to the end.
        timeout_s: Seconds without a byte after which a server counts as dead.
        minimum_bytes_per_s: Slower than this over the window counts as dead.
        window_s: Length of that window, seconds.
        metadata_deadline_s: How long one signed list may take.
        target_deadline_s: How long one connection may last; a download goes on with the next.
        attempts: Tries for one address when it does not answer or says "later".
        backoff_s: Seconds before the second try; doubled each time.
        proxy: ``http://host:port``.
        ca_file: Certificates of a private authority.
        client_certificate: PEM file with certificate and key.
        sleep: Waits between tries.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        *,
        timeout_s: float = 30.0,
        minimum_bytes_per_s: int = 200,
        window_s: float = 30.0,
        metadata_deadline_s: float = 600.0,
        target_deadline_s: float = 6 * 3600.0,
        attempts: int = 2,
        backoff_s: float = 1.0,
        proxy: str | None = None,
        ca_file: Path | None = None,
        client_certificate: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._order = [url if url.endswith("/") else f"{url}/" for url in urls]
        self._timeout = timeout_s
        self._minimum, self._window = minimum_bytes_per_s, window_s
        self._metadata_deadline, self._target_deadline = metadata_deadline_s, target_deadline_s
        self._attempts, self._backoff, self._sleep = attempts, backoff_s, sleep
        self._session = requests.Session()
        self._session.trust_env = False  # the agent's configuration decides, nothing else
        self._session.max_redirects = 5
        if proxy is not None:
            self._session.proxies = {"http": proxy, "https": proxy}
        if ca_file is not None:
            self._session.verify = str(ca_file)
        if client_certificate is not None:
            self._session.cert = str(client_certificate)
        #: The ``Date`` of the last answer: a hint for words about the clock, never trusted.
        self.server_date: datetime | None = None

    @property
    def mirrors(self) -> int:
        """How many addresses there are."""
        return len(self._order)

    def demote(self) -> None:
        """Put the address that is tried first to the end."""
        self._order.append(self._order.pop(0))

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    # -- the interface of tuf ------------------------------------------------------------------

    def _fetch(self, url: str) -> Iterator[bytes]:
        part = self.open(url, 0)
        with contextlib.closing(part):
            yield from part.chunks

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a small file whole; the next address is tried when one fails midway."""

        def read(base: str) -> bytes:
            part = self._open(base, url, 0, self._metadata_deadline)
            content = bytearray()
            with contextlib.closing(part):
                for chunk in part.chunks:
                    content += chunk
                    if len(content) > max_length:
                        raise DownloadLengthMismatchError(
                            f"{url}: more than {max_length} bytes from {base}"
                        )
            if content[:200].lstrip().startswith(b"<"):
                raise MirrorFailure(f"{base}: a web page", Failure.PORTAL)
            return bytes(content)

        return self._from_any(read)

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Yield a small file as a stream in memory: nothing is ever spooled in TMPDIR."""
        yield BytesIO(self.download_bytes(url, max_length))

    # -- for large files -----------------------------------------------------------------------

    def open(self, url: str, offset: int) -> Part:
        """Open a file from an offset; large files go on from there after a break."""
        return self._from_any(lambda base: self._open(base, url, offset, self._target_deadline))

    def _from_any(self, action: Callable[[str], T]) -> T:
        """Do something with the first address that lets us; raise what says most if none does."""
        failures: list[DownloadError] = []
        for base in tuple(self._order):
            try:
                return self._again(base, action)
            except DownloadError as error:
                missing = isinstance(error, DownloadHTTPError) and error.status_code == 404
                # Each refresh ends its walk of the roots at one that is not there yet.
                logger.log(
                    logging.DEBUG if missing else logging.WARNING, "feed address failed: %s", error
                )
                failures.append(error)
                self._to_the_end(base)
        told = next((e for e in failures if isinstance(e, DownloadHTTPError)), failures[0])
        for other in failures:
            if other is not told:
                told.add_note(str(other))
        raise told

    def _again(self, base: str, action: Callable[[str], T]) -> T:
        for attempt in range(self._attempts):
            try:
                return action(base)
            except MirrorFailure as error:
                if error.kind not in (Failure.UNREACHABLE, Failure.CUT):
                    raise
                if attempt + 1 == self._attempts:
                    raise
            except MirrorRefused as error:
                if error.status_code not in RETRY_STATUS or attempt + 1 == self._attempts:
                    raise
            self._sleep(self._backoff * 2**attempt)
        raise AssertionError("unreachable")

    def _to_the_end(self, base: str) -> None:
        self._order.remove(base)
        self._order.append(base)

    def _open(self, base: str, url: str, offset: int, deadline_s: float) -> Part:
        name = url.removeprefix(FEED_SCHEME)
        address = base + name
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            response = self._session.get(
                address, stream=True, timeout=self._timeout, headers=headers
            )
        except requests.exceptions.SSLError as error:
            raise MirrorFailure(f"{address}: {error}", Failure.TLS) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise MirrorFailure(f"{address}: {error}", Failure.UNREACHABLE) from error
        try:
            self._note_date(response)
            start = self._judge(response, address, offset)
        except BaseException:
            response.close()
            raise
        pace = _Pace(self._minimum, self._window, deadline_s, address)
        return Part(
            start=start,
            chunks=self._chunks(response, base, address, pace),
            origin=base,
            etag=response.headers.get("ETag"),
            close=response.close,
        )

    def _note_date(self, response: requests.Response) -> None:
        try:
            moment = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return  # only a hint; its absence changes nothing
        self.server_date = moment.astimezone(UTC)

    @staticmethod
    def _judge(response: requests.Response, address: str, offset: int) -> int:
        """Return where the answer's bytes begin, or raise what is wrong with it."""
        status = response.status_code
        if status == HTTP_RANGE and offset:
            raise MirrorFailure(f"{address}: no bytes from {offset} on", Failure.CUT)
        if status not in (HTTP_OK, HTTP_PARTIAL):
            raise MirrorRefused(f"{address}: status {status}", status)
        if address.startswith("https:") and not response.url.startswith("https:"):
            raise MirrorFailure(f"{address}: led to an open connection", Failure.TLS)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise MirrorFailure(f"{address}: a web page", Failure.PORTAL)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise MirrorFailure(f"{address}: sent in another encoding", Failure.PORTAL)
        if status == HTTP_OK:
            return 0
        unit, _, span = response.headers.get("Content-Range", "").partition(" ")
        first = span.partition("-")[0]
        if unit != "bytes" or first != str(offset):
            raise MirrorFailure(f"{address}: another range than asked for", Failure.CUT)
        return offset

    def _chunks(
        self, response: requests.Response, base: str, address: str, pace: _Pace
    ) -> Iterator[bytes]:
        # read1 returns what is there: a drip is seen at each byte, not after a whole block.
        expected = response.headers.get("Content-Length", "")
        count = 0
        try:
            while chunk := response.raw.read1(BLOCK):
                pace.count(len(chunk))
                count += len(chunk)
                yield chunk
        except TooSlow:
            self._to_the_end(base)
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            self._to_the_end(base)
            raise MirrorFailure(f"{address}: {error}", Failure.CUT) from error
        if expected.isdigit() and count < int(expected):
            self._to_the_end(base)
            raise MirrorFailure(f"{address}: ended after {count} bytes", Failure.CUT)
