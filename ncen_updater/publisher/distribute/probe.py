"""Single questions to the public server: is the file there, how long is it, may caches keep it.

Signed metadata say what must be there; what a server and the caches in front of it say of a file is
not signed, and is where feeds break: an old ``timestamp.json`` from a cache, a "not found" for the
next root that a cache remembers, files that are compressed on the way.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

import requests
import urllib3

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.feed.bounded_http import BoundedSession
from ncen_updater.feed.http import reason_of
from ncen_updater.feed.limits import TooSlow
from ncen_updater.publisher.errors import system_words

TIMEOUT_S: Final = (20.0, 60.0)
BLOCK: Final = 1 << 16
#: A cached timestamp is at most so old; the timestamp itself is valid for days.
TIMESTAMP_MAX_AGE_S: Final = 600
#: Sites ask for the next root at every check, and must see it soon after it is there.
ABSENT_MAX_AGE_S: Final = 600
UNREACHABLE: Final = "NU-7211"
NO_RANGES: Final = "NU-7215"
OK, PARTIAL, FORBIDDEN, NOT_FOUND, GONE = 200, 206, 403, 404, 410
#: Servers that answer a HEAD so may still give the file; some stores want a right of its own.
NO_HEAD: Final = frozenset({403, 405, 501})


class Probe:
    """Asks one server.

    Args:
        url: Address of the feed.
        session: Proxy and certificates are set in it.
    """

    def __init__(self, url: str, session: BoundedSession) -> None:
        self._url = url if url.endswith("/") else f"{url}/"
        self._session = session

    def metadata(self, prefix: str, root_version: int, names: list[str]) -> list[Finding]:
        """Look at the headers of the lists, and at the answer for a root that is not there."""
        found: list[Finding] = []
        following = f"{prefix}{root_version + 1}.root.json"
        for name in [*(prefix + name for name in names), following]:
            try:
                answer = self._ask(name)
            except requests.RequestException as error:
                found.append(_unreachable(name, error))
                continue
            age = _max_age(answer)
            if name == following:
                found += _absent(name, answer.status_code, age)
            elif answer.status_code not in (OK, PARTIAL):
                found.append(_missing(name, answer.status_code))
            elif name.endswith("timestamp.json") and (age is None or age > TIMESTAMP_MAX_AGE_S):
                found.append(_kept(name, age))
        return found

    def target(self, name: str, length: int, sha256: str, deep: bool) -> list[Finding]:
        """Look whether a signed file is there, and whole.

        Args:
            name: Below the feed's address.
            length: Signed length, bytes.
            sha256: Signed digest.
            deep: Fetch and hash it.
        """
        try:
            if deep:
                return self._hash(name, length, sha256)
            answer = self._ask(name)
            if answer.status_code not in (OK, PARTIAL):
                return [_missing(name, answer.status_code)]
            told = _length(answer)
            ranged = self._ask(name, "bytes=0-0") if length else answer
            if told is None:
                told = _length(ranged)
        except requests.RequestException as error:
            return [_unreachable(name, error)]
        if told is not None and told != length:
            return [_other_length(name, told, length)]
        if length and ranged.status_code != PARTIAL:
            return [_no_ranges(name)]
        return []

    def _ask(self, name: str, wanted: str | None = None) -> requests.Response:
        """A question whose body is never read."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": wanted} if wanted else {})
        method = "GET" if wanted else "HEAD"
        answer = self._answer(method, name, headers)
        answer.close()
        if method == "HEAD" and answer.status_code in NO_HEAD:
            return self._ask(name, "bytes=0-0")
        return answer

    def _hash(self, name: str, length: int, sha256: str) -> list[Finding]:
        headers = {"Accept-Encoding": "identity"}
        digest, count = hashlib.sha256(), 0
        with self._answer("GET", name, headers) as answer:
            if answer.status_code != OK:
                return [_missing(name, answer.status_code)]
            while block := self._block(answer):
                digest.update(block)
                count += len(block)
                if count > length:
                    break
        if count != length:
            return [_other_length(name, count, length)]
        return [] if digest.hexdigest() == sha256 else [_altered(name)]

    def _answer(self, method: str, name: str, headers: dict[str, str]) -> requests.Response:
        with _in_one_family():
            return self._session.ask(
                method, self._url + name, headers=headers, timeout=TIMEOUT_S, origins=[self._url]
            )

    def _block(self, answer: requests.Response) -> bytes:
        with _in_one_family():
            return self._session.read(answer, BLOCK)


@contextlib.contextmanager
def _in_one_family() -> Iterator[None]:
    """Whatever way an answer fails in, one finding tells of it."""
    try:
        yield
    except requests.RequestException:
        raise
    except (TooSlow, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise requests.RequestException(system_words(error)) from error


def _max_age(answer: requests.Response) -> int | None:
    """Seconds for which a cache may keep an answer; None if that is not said."""
    said = answer.headers.get("Cache-Control", "").lower()
    if "no-store" in said or "no-cache" in said:
        return 0
    ages = re.findall(r"(?:s-maxage|max-age)\s*=\s*\"?(\d{1,10})", said)
    return max(map(int, ages)) if ages else None


def _length(answer: requests.Response) -> int | None:
    told = answer.headers.get("Content-Length", "")
    if answer.status_code == PARTIAL:
        told = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(told) if re.fullmatch(r"\d{1,18}", told) else None


def _unreachable(name: str, error: requests.RequestException) -> Finding:
    return Finding(
        UNREACHABLE,
        Severity.STRICT,
        Text(
            N_("'{name}' could not be asked for: {detail}"),
            {"name": name, "detail": reason_of(error)},
        ),
        Text(N_("Look at the public server, its name, its certificate and the line to it.")),
        {"name": name},
    )


def _missing(name: str, status: int) -> Finding:
    return Finding(
        "NU-7212",
        Severity.STRICT,
        Text(
            N_("'{name}' is signed and not there (status {status})."),
            {"name": name, "status": status},
        ),
        Text(N_("Copy the feed to the public server again; nothing in it is ever deleted.")),
        {"name": name, "status": status},
    )


def _other_length(name: str, told: int, length: int) -> Finding:
    values = {"name": name, "told": told, "length": length}
    return Finding(
        "NU-7213",
        Severity.STRICT,
        Text(N_("'{name}' has {told} bytes there, and {length} are signed."), values),
        Text(N_("Copy the file again, and let the server not compress or change files.")),
        values,
    )


def _altered(name: str) -> Finding:
    return Finding(
        "NU-7214",
        Severity.STRICT,
        Text(N_("'{name}' is not the file that was signed."), {"name": name}),
        Text(N_("Find out who changed it; sites refuse it. Then copy the feed again.")),
        {"name": name},
    )


def _no_ranges(name: str, count: int = 1) -> Finding:
    values = {"name": name, "count": count}
    return Finding(
        NO_RANGES,
        Severity.ADVISORY,
        Text(N_("The server sends no parts of files ({count} of them, such as '{name}')."), values),
        Text(N_("Let it answer Range requests, or a broken download begins again from nothing.")),
        values,
    )


def said_once(findings: Sequence[Finding]) -> list[Finding]:
    """Say once of all files together that the server sends no parts: it is so of every file."""
    parts = [finding for finding in findings if finding.code == NO_RANGES]
    others = [finding for finding in findings if finding.code != NO_RANGES]
    return [*others, *([_no_ranges(str(parts[0].figures["name"]), len(parts))] if parts else [])]


def _kept(name: str, age: int | None) -> Finding:
    values = {"name": name, "age": "-" if age is None else age, "most": TIMESTAMP_MAX_AGE_S}
    words = N_("Caches may keep '{name}' for {age} seconds; {most} is the most that is good.")
    if age is None:
        words = N_(
            "The server does not say how long caches may keep '{name}'; {most} seconds is the most"
            " that is good."
        )
    return Finding(
        "NU-7216",
        Severity.ADVISORY if age is None else Severity.STRICT,
        Text(words, values),
        Text(N_("Send it with 'Cache-Control: no-cache, max-age=60'.")),
        values,
    )


def _absent(name: str, status: int, age: int | None) -> list[Finding]:
    if status not in (FORBIDDEN, NOT_FOUND, GONE):
        return [
            Finding(
                "NU-7217",
                Severity.STRICT,
                Text(
                    N_("The server answers {status} for '{name}', which does not exist."),
                    {"name": name, "status": status},
                ),
                Text(N_("Let it answer 404; sites take a page in its place for a bad root.")),
                {"name": name, "status": status},
            )
        ]
    if age is None or age <= ABSENT_MAX_AGE_S:
        return []
    return [
        Finding(
            "NU-7218",
            Severity.STRICT,
            Text(
                N_("Caches may remember for {age} seconds that '{name}' does not exist."),
                {"name": name, "age": age},
            ),
            Text(N_("Let 404 for '*.root.json' not be cached: it hides the next root.")),
            {"name": name, "age": age},
        )
    ]
