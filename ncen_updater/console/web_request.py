"""Strict parsing of browser requests: malformed input is refused, never corrected."""

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
        method: HTTP method.
        path: Path of the URL.
        query: Query parameters.
        host: Host header.
        languages: Accepted languages, most preferred first.
        session_secret: Secret from the session cookie; empty without one.
        origin: ``Origin`` header.
        fetch_site: ``Sec-Fetch-Site`` header.
        fetch_mode: ``Sec-Fetch-Mode`` header.
        address: Client address from the web server in front (``X-Real-IP``).
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
    """Parse the head of a request.

    Args:
        environ: WSGI environment.
        cookie: Name of the session cookie.
        hosts: Pattern of the accepted Host headers.

    Raises:
        UpdaterError: If the request is malformed or for another host.
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
    """Refuse cross-site requests.

    A page with the policy ``no-referrer`` sends ``Origin: null``; then ``Sec-Fetch-Site`` decides.
    A GET navigation may come from any site; the SameSite cookie is sent only from our own pages.

    Raises:
        UpdaterError: If the request is cross-site, or a POST has no header that proves same origin.
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
    """Read the fields of a posted form.

    Raises:
        UpdaterError: If the body is not a valid form.
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
    except ValueError as error:  # also for invalid UTF-8
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
    """Return the languages of ``Accept-Language``, most preferred first."""
    found = []
    for part in header[:1000].split(","):
        name, _, weight = part.partition(";q=")
        try:
            found.append((-float(weight or 1), name.strip()))
        except ValueError:
            continue
    return [name for _, name in sorted(found, key=lambda item: item[0])]


#: With the prefix ``__Host-``, browsers accept the cookie only from a secure origin, for this host
#: and all paths. Loopback counts as secure even without TLS (W3C Secure Contexts, 3.1). Cookies do
#: not distinguish ports, so each console appends a name of its own.
COOKIE_PREFIX = "__Host-ncen-console-"


#: No content from other origins; scripts and styles only from files of the console, never inline.
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
    """Yield the security headers of a response.

    Args:
        policy: Value of ``Content-Security-Policy``.
        framed: Whether a page of the console may embed the response in a frame.
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
    """Return the Set-Cookie header that sets or expires the session cookie."""
    age = "; Max-Age=0" if expire else ""
    return "Set-Cookie", f"{name}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict{age}"
