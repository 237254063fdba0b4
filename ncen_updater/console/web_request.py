"""Requests of browsers, parsed strictly: a mistake is refused and never guessed at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import CONSOLE_CROSS_SITE, CONSOLE_FORM

MAX_FORM_BYTES = 65_536
MAX_FIELDS = 40
FORM_CONTENT_TYPE = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class WebRequest:
    """One request.

    Attributes:
        method: Of HTTP.
        path: The address.
        query: What stands behind the question mark.
        host: As the browser names this place.
        languages: That the browser asks for, the one liked best first.
        session_secret: Of its session; empty if it brings none.
        origin: Where the page is from that sends it.
        fetch_site: What the browser says of that (``Sec-Fetch-Site``).
        fetch_mode: How the answer is used (``Sec-Fetch-Mode``).
        address: Of the browser, as a web server in front says; from elsewhere it is not believed.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    languages: tuple[str, ...] = ()
    session_secret: str = ""
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    address: str = ""


def parse_request(environ: Mapping[str, Any], cookie: str, hosts: re.Pattern[str]) -> WebRequest:
    """Read the head of a request.

    Args:
        environ: As WSGI has it.
        cookie: Name of the cookie with the secret of a session.
        hosts: What names this place.

    Raises:
        UpdaterError: If it cannot be understood, or is for another place.
    """
    host = str(environ.get("HTTP_HOST", ""))
    if hosts.fullmatch(host) is None:
        raise UpdaterError(CONSOLE_CROSS_SITE)
    return WebRequest(
        method=str(environ["REQUEST_METHOD"]),
        path=str(environ.get("PATH_INFO", "")),
        query=_parse_pairs(str(environ.get("QUERY_STRING", ""))),
        host=host,
        languages=tuple(_parse_languages(str(environ.get("HTTP_ACCEPT_LANGUAGE", "")))),
        session_secret=_read_session_cookie(str(environ.get("HTTP_COOKIE", "")), cookie),
        origin=environ.get("HTTP_ORIGIN"),
        fetch_site=environ.get("HTTP_SEC_FETCH_SITE"),
        fetch_mode=environ.get("HTTP_SEC_FETCH_MODE"),
        address=str(environ.get("HTTP_X_REAL_IP", ""))[:100],
    )


def require_same_origin(request: WebRequest, scheme: str) -> None:
    """Refuse what another place has a browser send.

    A page that names no referrer sends ``Origin: null``; then what the browser says of the place
    decides. To look, a person may come from anywhere, with a whole page; but without the cookie,
    which goes with what our own pages ask for alone.

    Raises:
        UpdaterError: If it is foreign, or nothing says that it is not.
    """
    own = request.origin == f"{scheme}://{request.host}"
    same = request.fetch_site == "same-origin"
    if request.method == "POST":
        named = request.origin not in (None, "null")
        if (
            (named and not own)
            or (request.fetch_site is not None and not same)
            or not (own or same)
        ):
            raise UpdaterError(CONSOLE_CROSS_SITE)
    elif request.fetch_site in ("cross-site", "same-site") and request.fetch_mode != "navigate":
        raise UpdaterError(CONSOLE_CROSS_SITE)


def read_form(environ: Mapping[str, Any]) -> Mapping[str, str]:
    """Read the body of a form.

    Raises:
        UpdaterError: If it is none.
    """
    kind = str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()
    if kind != FORM_CONTENT_TYPE:
        raise UpdaterError(CONSOLE_FORM, reason="not a form")
    size = str(environ.get("CONTENT_LENGTH", ""))
    if not (size.isascii() and size.isdigit() and int(size) <= MAX_FORM_BYTES):
        raise UpdaterError(CONSOLE_FORM, reason="too large, or without a length")
    content = environ["wsgi.input"].read(int(size))
    try:
        return _parse_pairs(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise UpdaterError(CONSOLE_FORM, reason="not readable") from error


def _parse_pairs(text: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=MAX_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError as error:  # and what is no UTF-8
        raise UpdaterError(CONSOLE_FORM, reason="not readable") from error
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UpdaterError(CONSOLE_FORM, reason="duplicate field")
    return found


def _read_session_cookie(header: str, cookie: str) -> str:
    try:
        found = SimpleCookie(header).get(cookie)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _parse_languages(header: str) -> list[str]:
    """Languages of ``Accept-Language``, the one that is liked best first."""
    found = []
    for part in header[:1000].split(","):
        name, _, weight = part.partition(";q=")
        try:
            found.append((-float(weight or 1), name.strip()))
        except ValueError:
            continue
    return [name for _, name in sorted(found, key=lambda item: item[0])]


#: Of the names of cookies: with this a browser takes one from a secure place alone, for this host
#: and every path. What comes from the machine itself counts as secure, also without TLS: W3C Secure
#: Contexts, 3.1. A host has many ports: each console has a name of its own behind it.
COOKIE_PREFIX = "__Host-ncen-console-"


#: Nothing from elsewhere; scripts and styles are files of ours, never part of a page.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


def build_security_headers(policy: str, *, framed: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the headers of an answer.

    Args:
        policy: Its ``Content-Security-Policy``.
        framed: Whether a page of ours shows it within itself.
    """
    yield "Content-Security-Policy", policy
    yield "X-Frame-Options", "SAMEORIGIN" if framed else "DENY"
    yield "X-Content-Type-Options", "nosniff"
    yield "Referrer-Policy", "no-referrer"
    yield "Cache-Control", "no-store"
    yield "Cross-Origin-Opener-Policy", "same-origin"
    yield "Cross-Origin-Resource-Policy", "same-origin"
    yield "Permissions-Policy", "camera=(), geolocation=(), microphone=()"


def build_session_cookie(name: str, secret: str, *, expire: bool = False) -> tuple[str, str]:
    """Return the header that gives a browser the secret of its session, or takes it back."""
    age = "; Max-Age=0" if expire else ""
    return "Set-Cookie", f"{name}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict{age}"
