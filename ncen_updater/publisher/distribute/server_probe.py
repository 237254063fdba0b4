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
from typing import Final

import requests
import urllib3

from ncen_updater.common.findings import Finding, Severity, make_finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.http_fetcher import get_root_cause
from ncen_updater.feed.http_session import BoundedHttpSession, TransferTooSlowError
from ncen_updater.publisher.errors import describe_system_error

TIMEOUT_S: Final = (20.0, 60.0)
BLOCK: Final = 1 << 16
#: Maximum age of a cached timestamp; the timestamp itself is valid for days.
TIMESTAMP_MAX_AGE_S: Final = 600
#: Sites ask for the next root at every check, and must see it soon after publication.
ABSENT_MAX_AGE_S: Final = 600
UNREACHABLE: Final = "NU-7211"
NO_RANGES: Final = "NU-7215"
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
                found.append(_make_unreachable_finding(name, error))
                continue
            age = _parse_max_age(answer)
            if name == following:
                found += _check_absent_root(name, answer.status_code, age)
            elif answer.status_code not in (OK, PARTIAL):
                found.append(_make_missing_finding(name, answer.status_code))
            elif name.endswith("timestamp.json") and (age is None or age > TIMESTAMP_MAX_AGE_S):
                found.append(_make_caching_finding(name, age))
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
                return [_make_missing_finding(name, answer.status_code)]
            reported = _parse_length(answer)
            ranged = self._send_head(name, "bytes=0-0") if length else answer
            if reported is None:
                reported = _parse_length(ranged)
        except requests.RequestException as error:
            return [_make_unreachable_finding(name, error)]
        if reported is not None and reported != length:
            return [_make_length_finding(name, reported, length)]
        if length and ranged.status_code != PARTIAL:
            return [_make_range_finding(name)]
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
                return [_make_missing_finding(name, answer.status_code)]
            while block := self._read_block(answer):
                digest.update(block)
                count += len(block)
                if count > length:
                    break
        if count != length:
            return [_make_length_finding(name, count, length)]
        return [] if digest.hexdigest() == sha256 else [_make_altered_finding(name)]

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


def _make_unreachable_finding(name: str, error: requests.RequestException) -> Finding:
    return Finding(
        UNREACHABLE,
        Severity.CRITICAL,
        LazyText(
            N_("Cannot download '{name}': {detail}"),
            {"name": name, "detail": get_root_cause(error)},
        ),
        LazyText(N_("Check the public server, its DNS name, its certificate and the network.")),
        {"name": name},
    )


def _make_missing_finding(name: str, status: int) -> Finding:
    return make_finding(
        "NU-7212",
        Severity.CRITICAL,
        N_("'{name}' not found (status {status})"),
        N_("Upload the feed again."),
        name=name,
        status=status,
    )


def _make_length_finding(name: str, reported: int, length: int) -> Finding:
    values = {"name": name, "actual": reported, "length": length}
    return make_finding(
        "NU-7213",
        Severity.CRITICAL,
        N_("'{name}' has {actual} bytes, expected {length}"),
        N_("Upload the file again and disable compression on the server."),
        **values,
    )


def _make_altered_finding(name: str) -> Finding:
    return make_finding(
        "NU-7214",
        Severity.CRITICAL,
        N_("digest mismatch: {name}"),
        N_("Find out who changed it, then upload the feed again."),
        name=name,
    )


def _make_range_finding(name: str, count: int = 1) -> Finding:
    values = {"name": name, "count": count}
    return make_finding(
        NO_RANGES,
        Severity.WARNING,
        N_("Range requests not supported ({count} files, such as '{name}')"),
        N_("Enable Range requests on the server."),
        **values,
    )


def merge_range_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Merge the findings about missing Range support, which concern all files of a server."""
    parts = [finding for finding in findings if finding.code == NO_RANGES]
    others = [finding for finding in findings if finding.code != NO_RANGES]
    return [
        *others,
        *([_make_range_finding(str(parts[0].figures["name"]), len(parts))] if parts else []),
    ]


def _make_caching_finding(name: str, age: int | None) -> Finding:
    values = {"name": name, "age": "-" if age is None else age, "most": TIMESTAMP_MAX_AGE_S}
    words = N_("Cache lifetime of '{name}' is {age} seconds (at most {most})")
    if age is None:
        words = N_("No cache lifetime for '{name}' (at most {most} seconds)")
    return make_finding(
        "NU-7216",
        Severity.WARNING if age is None else Severity.CRITICAL,
        words,
        N_("Send 'Cache-Control: no-cache, max-age=60'."),
        **values,
    )


def _check_absent_root(name: str, status: int, age: int | None) -> list[Finding]:
    if status not in (FORBIDDEN, NOT_FOUND, GONE):
        return [
            make_finding(
                "NU-7217",
                Severity.CRITICAL,
                N_("Server returns {status} for missing file '{name}'"),
                N_("Make the server return 404 for missing files."),
                name=name,
                status=status,
            )
        ]
    if age is None or age <= ABSENT_MAX_AGE_S:
        return []
    return [
        make_finding(
            "NU-7218",
            Severity.CRITICAL,
            N_("Missing '{name}' is cached for {age} seconds"),
            N_("Disable caching of status 404 for '*.root.json'."),
            name=name,
            age=age,
        )
    ]
