"""Download from web servers, with several addresses of one feed and limits on time and length.

Other modules verify the content, so a server can only withhold files. Exceptions of ``requests``
and ``urllib3`` become exceptions of this module or of ``tuf``.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import requests
import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
)

from ncen_updater.common.errors import get_error_text
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.feed.fetching import FEED_SCHEME, FeedFetcher
from ncen_updater.feed.http_session import (
    MAX_PAUSE_S,
    ReadDeadline,
    RedirectedError,
    Throttle,
    TransferRateMonitor,
    TransferTooSlowError,
    compute_backoff_s,
    make_bounded_session,
    parse_retry_after_s,
)
from ncen_updater.feed.resumable_download import ConnectionLostError, DownloadStream

logger = logging.getLogger(__name__)
T = TypeVar("T")
HTTP_OK, HTTP_PARTIAL, HTTP_PROXY, HTTP_RANGE = 200, 206, 407, 416
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
#: These statuses end the root chain; the timestamp shows if a root was withheld.
ROOT_ABSENT_STATUSES = frozenset({403, 404})
TRANSIENT_FAILURES = frozenset({"unreachable", "cut"})
MIN_PROGRESS_BYTES = 1 << 16  # a connection that brought less counts as a failed attempt
MAX_LENGTH_DIGITS = 18
ENCODING_UNEXPECTED = N_("{name}: unexpected content encoding")
RANGE_UNEXPECTED = N_("{name}: unexpected byte range")
WEB_PAGE = N_("{name}: a web page instead of the file")
#: Bytes that gzip may add to metadata that cannot be compressed.
MAX_GZIP_OVERHEAD_BYTES = 4096
#: Text that OpenSSL puts around its message: the error's name and the line of C code.
TLS_LIBRARY_PREFIX = re.compile(r"^\[\w+: \w+\] | \(_ssl\.c:\d+\)$")


def strip_password(text: str) -> str:
    """Remove user name and password from the addresses in a text, before it is shown or stored."""
    return re.sub(r"(://)[^/\s]*@", r"\1", text)


def _strip_passwords(text: LazyText) -> LazyText:
    values = {
        name: strip_password(value) if isinstance(value, str) else value
        for name, value in text.values.items()
    }
    return LazyText(text.template, values)


def get_root_cause(error: BaseException) -> LazyText | str:
    """Return the message of the innermost exception, without class names of HTTP libraries."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        innermost = current
        inner = (getattr(current, "reason", None), current.__cause__, *current.args)
        current = next((item for item in inner if isinstance(item, BaseException)), None)
    if isinstance(innermost, OSError) and innermost.strerror:
        return TLS_LIBRARY_PREFIX.sub("", innermost.strerror)
    text = get_error_text(innermost)
    return text if isinstance(text, LazyText) else TLS_LIBRARY_PREFIX.sub("", text)


def _decompress(chunks: Iterator[bytes], name: str, limit: int) -> Iterator[bytes]:
    """Yield the decompressed bytes of a gzip stream, at most one byte more than ``limit``.

    Raises:
        MirrorError: If the stream is damaged, truncated or far longer than its content.
    """
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    received = unpacked = 0
    for chunk in chunks:
        received += len(chunk)
        try:
            content = stream.decompress(chunk, limit + 1 - unpacked)
        except zlib.error:
            break
        unpacked += len(content)
        yield content
        if stream.eof or unpacked > limit:
            return
        if received > limit + MAX_GZIP_OVERHEAD_BYTES:
            break
    raise MirrorError(NetworkFailure.CONNECTION_LOST, ENCODING_UNEXPECTED, name=name)


class NetworkFailure(StrEnum):
    """Kind of failure of a mirror."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    CAPTIVE_PORTAL = "portal"
    CONNECTION_LOST = "cut"
    PROXY = "proxy"
    REDIRECTED = "redirected"


class MirrorError(DownloadError, ConnectionLostError):
    """A mirror that could not be reached or did not deliver the file."""

    def __init__(self, kind: NetworkFailure, template: str, **values: object) -> None:
        super().__init__(_strip_passwords(LazyText(template, values)))
        self.kind = kind


class MirrorStatusError(DownloadHTTPError):
    """A mirror that answered with an error status.

    Attributes:
        pause_s: Seconds of its ``Retry-After`` header; None if there was none.
    """

    def __init__(self, message: LazyText, status: int, pause_s: float | None = None) -> None:
        super().__init__("", status)
        self.args = (_strip_passwords(message),)
        self.pause_s = pause_s


class HttpFetcher(FeedFetcher):
    """Downloads files by name from the first address that delivers them.

    Args:
        urls: Base addresses of the same feed, tried in order; a failed one moves to the end.
        timeout_s: Seconds without a byte after which a connection is given up. Bytes outside the
            body extend this at most by ``window_s``.
        minimum_bytes_per_s: A transfer slower than this over the window is given up.
        window_s: Length of that window in seconds.
        metadata_deadline_s: Maximum seconds for one metadata file.
        target_deadline_s: Maximum seconds of one connection; the download resumes with the next.
        attempts: Attempts per address if it does not answer or answers with a retry status.
        backoff_s: Mean seconds before the second attempt; doubled each time. A server's
            ``Retry-After`` is respected up to two minutes.
        proxy: ``http://host:port``.
        ca_file: Certificates of a private certificate authority.
        client_certificate: PEM file with certificate and key.
        rate_limit: Returns the current limit in bytes per second; None for no limit.
        sleep: Waits between attempts.
        clock: A monotonic clock, seconds.
        chance: Returns a random number from 0 to 1.
        now: Returns the time, UTC.
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
        rate_limit: Callable[[], int | None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._order = [url if url.endswith("/") else f"{url}/" for url in urls]
        self._timeout = timeout_s
        self._minimum, self._window = minimum_bytes_per_s, window_s
        self._metadata_deadline, self._target_deadline = metadata_deadline_s, target_deadline_s
        self._attempts, self._backoff, self._sleep = attempts, backoff_s, sleep
        self._clock, self._chance, self._now = clock, chance, now
        self._throttle = Throttle(rate_limit, sleep, clock)
        self._lost_connections = 0  # consecutive connections that broke with almost no data
        self._session = make_bounded_session(
            ReadDeadline(timeout_s + window_s, clock),
            proxy=proxy, ca_file=ca_file, client_certificate=client_certificate,
        )  # fmt: skip
        #: Whether ``server_date`` is read from the responses.
        self.records_date = True

    @property
    def mirror_count(self) -> int:
        """Return the number of addresses."""
        return len(self._order)

    def demote_mirror(self) -> None:
        """Move the current first address to the end of the list."""
        self._order.append(self._order.pop(0))

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return the whole content of a small file; try the next address if one fails midway."""

        def read(base: str) -> bytes:
            part = self._open_at_mirror(base, url, 0, self._metadata_deadline, max_length)
            content = bytearray()
            with contextlib.closing(part):
                for chunk in part.chunks:
                    content += chunk
                    if len(content) > max_length:
                        raise DownloadLengthMismatchError(
                            LazyText(
                                N_("{name}: more than {limit_bytes}"),
                                {
                                    "name": strip_password(base) + url.removeprefix(FEED_SCHEME),
                                    "limit_bytes": max_length,
                                },
                            )
                        )
            if content[:200].lstrip().startswith(b"<"):
                raise MirrorError(NetworkFailure.CAPTIVE_PORTAL, WEB_PAGE, name=base)
            return bytes(content)

        root = url.endswith(".root.json")
        return self._try_mirrors(read, ROOT_ABSENT_STATUSES if root else frozenset())

    def open_stream(self, url: str, offset: int) -> DownloadStream:
        """Open a file from an offset, so that an interrupted download of a large file resumes."""
        if (
            self._lost_connections >= self.mirror_count
        ):  # each address has broken a connection: pause first
            self._sleep(
                compute_backoff_s(
                    self._lost_connections - self.mirror_count, self._backoff, self._chance()
                )
            )
        return self._try_mirrors(
            lambda base: self._open_at_mirror(base, url, offset, self._target_deadline)
        )

    def _try_mirrors(self, action: Callable[[str], T], final: frozenset[int] = frozenset()) -> T:
        """Run an action with the first address that succeeds, else raise the most specific error.

        A status in ``final`` is accepted as the answer; no other address is tried.
        """
        failures: list[DownloadError] = []
        for base in tuple(self._order):
            try:
                return self._retry(base, action)
            except DownloadError as error:
                missing = isinstance(error, DownloadHTTPError) and error.status_code == 404
                # Every refresh looks for the next root, which normally does not exist yet.
                logger.log(
                    logging.DEBUG if missing else logging.WARNING, "feed address failed: %s", error
                )
                if isinstance(error, DownloadHTTPError) and error.status_code in final:
                    raise
                failures.append(error)
                self._move_to_end(base)
        failure = next((e for e in failures if isinstance(e, DownloadHTTPError)), failures[0])
        others = [get_error_text(other) for other in failures if other is not failure]
        failure.args = (join_texts([get_error_text(failure), *others]),)
        raise failure

    def _retry(self, base: str, action: Callable[[str], T]) -> T:
        for attempt in range(self._attempts):
            try:
                return action(base)
            except (MirrorError, MirrorStatusError) as error:
                pause_s = self._compute_retry_pause_s(error, attempt)
                if pause_s is None or attempt + 1 == self._attempts:
                    raise
                self._sleep(pause_s)
        raise AssertionError("unreachable")

    def _compute_retry_pause_s(
        self, error: MirrorError | MirrorStatusError, attempt: int
    ) -> float | None:
        """Return the seconds before a retry of the same address; None if a retry is useless."""
        pause_s = compute_backoff_s(attempt, self._backoff, self._chance())
        if isinstance(error, MirrorError):
            return pause_s if error.kind in TRANSIENT_FAILURES else None
        if error.status_code not in RETRY_STATUSES:
            return None
        requested_s = error.pause_s or 0.0
        return max(pause_s, requested_s) if requested_s <= MAX_PAUSE_S else None

    def _move_to_end(self, base: str) -> None:
        self._order.remove(base)
        self._order.append(base)

    def _open_at_mirror(
        self, base: str, url: str, offset: int, deadline_s: float, gzip_limit: int | None = None
    ) -> DownloadStream:
        """Open a file; with ``gzip_limit``, bytes once unpacked, the server may compress it."""
        name = url.removeprefix(FEED_SCHEME)
        address = base + name
        headers = {"Accept-Encoding": "identity" if gzip_limit is None else "gzip"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        response = self._send_request(address, headers)
        try:
            self._record_server_date(response)
            start = self._check_response(response, address, offset)
            encoding = response.headers.get("Content-Encoding", "identity").lower()
            if encoding != "identity" and (gzip_limit is None or encoding != "gzip"):
                raise MirrorError(NetworkFailure.CAPTIVE_PORTAL, ENCODING_UNEXPECTED, name=address)
        except BaseException:
            response.close()
            raise
        name = strip_password(address)
        monitor = TransferRateMonitor(self._minimum, self._window, deadline_s, name, self._clock)
        chunks = self._read_chunks(response, base, address, monitor)
        if gzip_limit is not None and encoding == "gzip":
            chunks = _decompress(chunks, name, gzip_limit)
        return DownloadStream(
            start=start,
            chunks=chunks,
            origin=strip_password(base),
            etag=response.headers.get("ETag"),
            close=response.close,
        )

    def _send_request(self, address: str, headers: dict[str, str]) -> requests.Response:
        try:
            return self._session.send_request(
                "GET", address, headers=headers, timeout=self._timeout, origins=self._order
            )
        except (
            requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError,
        ) as error:  # fmt: skip
            kind = NetworkFailure.UNREACHABLE
            if isinstance(error, requests.exceptions.ProxyError):
                kind = NetworkFailure.PROXY
            elif isinstance(error, requests.exceptions.SSLError):
                kind = NetworkFailure.TLS
            elif isinstance(error, RedirectedError):
                kind = NetworkFailure.REDIRECTED
            reason = get_root_cause(error)
            raise MirrorError(kind, N_("{name}: {text}"), name=address, text=reason) from error

    def _record_server_date(self, response: requests.Response) -> None:
        if not self.records_date:
            return
        try:
            moment = parsedate_to_datetime(response.headers.get("Date", ""))
            self.server_date = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            return  # only for error texts; its absence changes nothing

    def _check_response(self, response: requests.Response, address: str, offset: int) -> int:
        """Return the offset at which the body begins, or raise if the response is not usable."""
        status = response.status_code
        if status == HTTP_RANGE and offset:
            raise MirrorError(NetworkFailure.CONNECTION_LOST, RANGE_UNEXPECTED, name=address)
        if status == HTTP_PROXY:
            words = N_("{name}: the proxy returned status {status}")
            raise MirrorError(NetworkFailure.PROXY, words, name=address, status=status)
        if status not in (HTTP_OK, HTTP_PARTIAL):
            pause_s = parse_retry_after_s(response.headers.get("Retry-After"), self._now())
            values = {"name": address, "status": status, "seconds": f"{pause_s or 0:.0f}"}
            text = (
                N_("{name}: status {status}")
                if pause_s is None
                else N_("{name}: status {status}, retry after {seconds} s")
            )
            raise MirrorStatusError(LazyText(text, values), status, pause_s)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise MirrorError(NetworkFailure.CAPTIVE_PORTAL, WEB_PAGE, name=address)
        if status == HTTP_OK:
            return 0
        unit, _, span = response.headers.get("Content-Range", "").partition(" ")
        first = span.partition("-")[0]
        if unit != "bytes" or first != str(offset):
            raise MirrorError(NetworkFailure.CONNECTION_LOST, RANGE_UNEXPECTED, name=address)
        return offset

    def _read_chunks(
        self, response: requests.Response, base: str, address: str, monitor: TransferRateMonitor
    ) -> Iterator[bytes]:
        # read1 returns the available bytes, so that a slow server is noticed at each byte.
        text = response.headers.get("Content-Length", "")
        sized = text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS
        expected = int(text) if sized else 0
        count = 0
        try:
            while chunk := self._session.read_body(response, self._throttle.get_block_size()):
                monitor.count_bytes(len(chunk))
                count += len(chunk)
                monitor.exclude_pause(self._throttle.wait_for_rate(len(chunk)))
                yield chunk
            if count < expected:
                raise MirrorError(
                    NetworkFailure.CONNECTION_LOST,
                    N_("{name}: connection closed after {received_bytes}"),
                    name=address, received_bytes=count,
                )  # fmt: skip
            self._lost_connections = 0
        except (MirrorError, TransferTooSlowError):
            self._record_lost_connection(base, count)
            raise
        except (
            requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError,
        ) as error:  # fmt: skip
            self._record_lost_connection(base, count)
            raise MirrorError(
                NetworkFailure.CONNECTION_LOST,
                N_("{name}: connection lost: {reason}"),
                name=address, reason=get_root_cause(error),
            ) from error  # fmt: skip

    def _record_lost_connection(self, base: str, count: int) -> None:
        self._move_to_end(base)
        self._lost_connections = self._lost_connections + 1 if count < MIN_PROGRESS_BYTES else 0
