"""Tests that foreign, interrupted, duplicate or oversized requests are refused."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.console.authentication import LOCAL_ORIGIN, TLS_ORIGIN
from ncen_updater.console.web_request import (
    MAX_FORM_BYTES,
    WebRequest,
    parse_request,
    read_form,
    require_same_origin,
)

OWN = "http://127.0.0.1:8460"


@pytest.mark.parametrize(
    ("method", "origin", "site", "mode", "taken"),
    [
        ("POST", OWN, "same-origin", "navigate", True),
        ("POST", "null", "same-origin", "navigate", True),  # a page that names no referrer
        ("POST", OWN, None, None, True),
        ("POST", None, "same-origin", "navigate", True),
        ("POST", None, None, None, False),
        ("POST", "null", None, None, False),
        ("POST", "null", "same-site", "navigate", False),
        ("POST", "null", "none", "navigate", False),
        ("POST", OWN, "cross-site", "navigate", False),
        ("POST", "http://127.0.0.1:9999", "same-site", "navigate", False),  # another port
        ("POST", "http://127.0.0.1:9999", "same-origin", "navigate", False),
        ("POST", "https://evil.example", "cross-site", "navigate", False),
        ("GET", None, "none", "navigate", True),  # typed
        ("GET", None, "cross-site", "navigate", True),  # a link; the cookie is not sent
        ("GET", None, "cross-site", "no-cors", False),
        ("GET", None, "same-site", "cors", False),
        ("GET", None, None, None, True),
    ],
)
def test_origin_of_a_form_is_checked(
    method: str, origin: str | None, site: str | None, mode: str | None, taken: bool
) -> None:
    request = WebRequest(
        method, "/", host="127.0.0.1:8460", origin=origin, fetch_site=site, fetch_mode=mode
    )
    if taken:
        require_same_origin(request, "http")
    else:
        with pytest.raises(UpdaterError, match="NU-9703"):
            require_same_origin(request, "http")


@pytest.mark.parametrize(
    "host",
    ["", "127.0.0.1", "localhost:8460", "evil.example:8460", "127.0.0.1:", "127.0.0.1:x",
     "localhost.evil.example:1", "127.0.0.1.evil.example:8460", "[::1]:8460",
     "127.0.0.1:8460:1", "LOCALHOST@evil:1"],
)  # fmt: skip
def test_foreign_name_of_this_address_is_refused(host: str) -> None:
    with pytest.raises(UpdaterError, match="NU-9703"):
        parse_request({"REQUEST_METHOD": "GET", "HTTP_HOST": host}, "c", LOCAL_ORIGIN.hosts)


@pytest.mark.parametrize(
    ("host", "taken"),
    [("ncen.customs.example", True), ("ncen:8443", True), ("10.0.0.1", True), ("", False),
     ("a/b", False), ("a@b", False), ("-a", False), ("a:b", False), ("a:1:2", False)],
)  # fmt: skip
def test_name_used_by_the_front_end_is_accepted(host: str, taken: bool) -> None:
    environ = {"REQUEST_METHOD": "GET", "HTTP_HOST": host}
    if taken:
        assert parse_request(environ, "c", TLS_ORIGIN.hosts).host == host
    else:
        with pytest.raises(UpdaterError, match="NU-9703"):
            parse_request(environ, "c", TLS_ORIGIN.hosts)


def test_form_behind_tls_needs_a_tls_origin() -> None:
    plain = WebRequest("POST", "/", host="ncen.example", origin="http://ncen.example")
    with pytest.raises(UpdaterError, match="NU-9703"):
        require_same_origin(plain, TLS_ORIGIN.scheme)
    require_same_origin(replace(plain, origin="https://ncen.example"), TLS_ORIGIN.scheme)


def test_request_headers_are_parsed() -> None:
    found = parse_request(
        {
            "REQUEST_METHOD": "GET", "HTTP_HOST": "127.0.0.1:1", "QUERY_STRING": "a=%C3%A9&b=",
            "HTTP_ACCEPT_LANGUAGE": "en;q=0.5, fr-CH, x;q=y, sw;q=0.7", "HTTP_COOKIE": "d=1; c=s",
        },
        "c", LOCAL_ORIGIN.hosts,
    )  # fmt: skip
    assert dict(found.query) == {"a": "é", "b": ""}
    assert (found.languages, found.session_secret) == (("fr-CH", "sw", "en"), "s")


def form(content: bytes, **environ: str) -> dict[str, object]:
    return {
        "CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(content)),
        "wsgi.input": io.BytesIO(content), **environ,
    }  # fmt: skip


def test_form_is_parsed() -> None:
    assert read_form(form(b"a=1&b=c+d")) == {"a": "1", "b": "c d"}


@pytest.mark.parametrize(
    "environ",
    [
        form(b"a=1&a=2"),
        form(b"a=%ff"),
        form(b"a=\xff"),
        form(b"nothing"),
        form(b"a=1&" * 100 + b"b=2"),
        form(b"a=1", CONTENT_TYPE="text/plain"),
        form(b"a=1", CONTENT_TYPE=""),
        form(b"{}", CONTENT_TYPE="application/json"),
        form(b"a=1", CONTENT_LENGTH=str(MAX_FORM_BYTES + 1)),
        form(b"a=1", CONTENT_LENGTH="-1"),
        form(b"a=1", CONTENT_LENGTH=""),
    ],
    ids=range(11),
)
def test_invalid_form_is_refused(environ: dict[str, object]) -> None:
    with pytest.raises(UpdaterError, match="NU-9704"):
        read_form(environ)
