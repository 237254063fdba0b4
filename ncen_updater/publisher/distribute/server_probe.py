"""Check single files on the public server: existence, length and caching.

Signed metadata states which files must exist. The responses of the server and of caches are not
signed, and often the cause of failures: an old ``timestamp.json`` from a cache, a cached "not
found" for the next root, files that are compressed in transfer.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import requests
import urllib3

from ncen_updater.common import messages
from ncen_updater.common.findings import Finding, report_finding
from ncen_updater.feed.http_fetcher import get_root_cause
from ncen_updater.feed.http_session import BoundedHttpSession, TransferTooSlowError
from ncen_updater.publisher.errors import describe_system_error

TIMEOUT_S: Final = (20.0, 60.0)
BLOCK: Final = 1 << 16
#: Maximum age of a cached timestamp; the timestamp itself is valid for days.
TIMESTAMP_MAX_AGE_S: Final = 600
#: Sites ask for the next root at every check, and must see it soon after publication.
ABSENT_MAX_AGE_S: Final = 600
OK, PARTIAL, FORBIDDEN, NOT_FOUND, GONE = 200, 206, 403, 404, 410
#: Statuses of a HEAD after which GET may still work; some object stores require another right.
NO_HEAD: Final = frozenset({403, 405, 501})


class ServerProbe:
    """Sends requests to one server.

    Args:
        url: Address of the feed.
        session: HTTP session with proxy and certificates.
    """

    def __init__(self, url: str, session: BoundedHttpSession) -> None:
        self._url = url if url.endswith("/") else f"{url}/"
        self._session = session

    def check_metadata(self, prefix: str, root_version: int, names: list[str]) -> list[Finding]:
        """Check the headers of the metadata files, and the response for a missing root."""
        found: list[Finding] = []
        following = f"{prefix}{root_version + 1}.root.json"
        for name in [*(prefix + name for name in names), following]:
            try:
                answer = self._send_head(name)
            except requests.RequestException as error:
                found.append(_report_unreachable(name, error))
                continue
            age = _parse_max_age(answer)
            if name == following:
                found += _check_absent_root(name, answer.status_code, age)
            elif answer.status_code not in (OK, PARTIAL):
                found.append(_report_missing(name, answer))
            elif name.endswith("timestamp.json") and (age is None or age > TIMESTAMP_MAX_AGE_S):
                found.append(_report_caching(name, age))
        return found

    def check_target(self, name: str, length: int, sha256: str, deep: bool) -> list[Finding]:
        """Check that a target exists and is complete.

        Args:
            name: Path below the feed's address.
            length: Signed length in bytes.
            sha256: Signed digest.
            deep: Whether to download and hash it.
        """
        try:
            if deep:
                return self._check_digest(name, length, sha256)
            answer = self._send_head(name)
            if answer.status_code not in (OK, PARTIAL):
                return [_report_missing(name, answer)]
            reported = _parse_length(answer)
            ranged = self._send_head(name, "bytes=0-0") if length else answer
            if reported is None:
                reported = _parse_length(ranged)
        except requests.RequestException as error:
            return [_report_unreachable(name, error)]
        if reported is not None and reported != length:
            return [_report_length(name, reported, length)]
        if length and ranged.status_code != PARTIAL:
            return [report_finding(messages.SERVER_NO_RANGES, name=name, count=1)]
        return []

    def _send_head(self, name: str, wanted: str | None = None) -> requests.Response:
        """Send a request whose body is not read, and return the response."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": wanted} if wanted else {})
        method = "GET" if wanted else "HEAD"
        answer = self._send_request(method, name, headers)
        answer.close()
        if method == "HEAD" and answer.status_code in NO_HEAD:
            return self._send_head(name, "bytes=0-0")
        return answer

    def _check_digest(self, name: str, length: int, sha256: str) -> list[Finding]:
        headers = {"Accept-Encoding": "identity"}
        digest, count = hashlib.sha256(), 0
        with self._send_request("GET", name, headers) as answer:
            if answer.status_code != OK:
                return [_report_missing(name, answer)]
            while block := self._read_block(answer):
                digest.update(block)
                count += len(block)
                if count > length:
                    break
        if count != length:
            return [_report_length(name, count, length)]
        if digest.hexdigest() != sha256:
            return [report_finding(messages.SERVER_FILE_ALTERED, name=name)]
        return []

    def _send_request(self, method: str, name: str, headers: dict[str, str]) -> requests.Response:
        with _map_errors():
            return self._session.send_request(
                method, self._url + name, headers=headers, timeout=TIMEOUT_S, origins=[self._url]
            )

    def _read_block(self, answer: requests.Response) -> bytes:
        with _map_errors():
            return self._session.read_body(answer, BLOCK)


@contextlib.contextmanager
def _map_errors() -> Iterator[None]:
    """Convert all errors of a request to one type, for one finding."""
    try:
        yield
    except requests.RequestException:
        raise
    except (TransferTooSlowError, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise requests.RequestException(describe_system_error(error)) from error


def _parse_max_age(answer: requests.Response) -> int | None:
    """Return the maximum seconds that a cache may keep a response; None if not stated."""
    value = answer.headers.get("Cache-Control", "").lower()
    if "no-store" in value or "no-cache" in value:
        return 0
    ages = re.findall(r"(?:s-maxage|max-age)\s*=\s*\"?(\d{1,10})", value)
    return max(map(int, ages)) if ages else None


def _parse_length(answer: requests.Response) -> int | None:
    reported = answer.headers.get("Content-Length", "")
    if answer.status_code == PARTIAL:
        reported = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(reported) if re.fullmatch(r"\d{1,18}", reported) else None


def _report_unreachable(name: str, error: requests.RequestException) -> Finding:
    found = report_finding(messages.SERVER_UNREACHABLE, name=name, detail=get_root_cause(error))
    return replace(found, figures={"name": name})


def _report_missing(name: str, answer: requests.Response) -> Finding:
    return report_finding(messages.SERVER_FILE_MISSING, name=name, status=answer.status_code)


def _report_length(name: str, reported: int, length: int) -> Finding:
    return report_finding(messages.SERVER_WRONG_LENGTH, name=name, told=reported, length=length)


def merge_range_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Merge the findings about missing Range support, which concern all files of a server."""
    code = messages.SERVER_NO_RANGES.code
    found = [finding for finding in findings if finding.code != code]
    ranges = [finding for finding in findings if finding.code == code]
    if ranges:
        name = ranges[0].figures["name"]
        found.append(report_finding(messages.SERVER_NO_RANGES, name=name, count=len(ranges)))
    return found


def _report_caching(name: str, age: int | None) -> Finding:
    if age is None:
        message = messages.SERVER_CACHE_UNLIMITED
        return report_finding(message, name=name, most=TIMESTAMP_MAX_AGE_S)
    message = messages.SERVER_CACHES_TOO_LONG
    return report_finding(message, name=name, age=age, most=TIMESTAMP_MAX_AGE_S)


def _check_absent_root(name: str, status: int, age: int | None) -> list[Finding]:
    if status not in (FORBIDDEN, NOT_FOUND, GONE):
        return [report_finding(messages.SERVER_WRONG_STATUS, name=name, status=status)]
    if age is None or age <= ABSENT_MAX_AGE_S:
        return []
    return [report_finding(messages.SERVER_CACHES_ABSENCE, name=name, age=age)]
