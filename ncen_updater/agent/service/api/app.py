"""The application: from a request to an answer. WSGI (PEP 3333)."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.forms import MAX_BODY, Form, query_of, read_form
from ncen_updater.agent.service.api.people import ApiRole, caller
from ncen_updater.agent.service.api.queries import Page, Request
from ncen_updater.agent.service.api.routes import ROUTES, STREAM
from ncen_updater.agent.service.api.stream import EventStreams
from ncen_updater.agent.service.errors import (
    UNCHANGED,
    BadRequest,
    Refused,
)
from ncen_updater.common.documents import error_document, jsonable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_routes import find_routes, status_of
from ncen_updater.common.http_server import NO_END
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Text, language_of
from ncen_updater.common.messages import (
    INSPECTION_GOES_ON,
    METHOD_NOT_ALLOWED,
    NO_SUCH_THING,
    TOO_LARGE,
    TOO_MANY_ACTS,
    TOO_MANY_INSPECTIONS,
    TOO_MANY_ORDERS,
    TOO_MANY_STREAMS,
)

#: So many at once, as people and scripts of theirs do, and one more after each of these times.
AT_ONCE, EVERY_S = 60, 30.0


class ActLimits:
    """Counts what each user changes.

    Each act is a record in the journal for good, and most are told to people.

    Args:
        free: Numbers of users that are not counted: root and the service's own.
        monotonic: The clock.
    """

    def __init__(
        self, free: Collection[int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._free, self._clock = frozenset(free), monotonic
        self._spent: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, uid: int) -> bool:
        """Count one more of a user; False where that is one too many: then it does not count."""
        if uid in self._free:
            return True
        with self._lock:
            now = self._clock()
            left = {
                other: (spent - (now - at) / EVERY_S, now)
                for other, (spent, at) in self._spent.items()
            }
            self._spent = {other: item for other, item in left.items() if item[0] > 0}
            spent, _ = self._spent.get(uid, (0.0, now))
            if spent + 1 > AT_ONCE:
                return False
            self._spent[uid] = (spent + 1, now)
            return True


logger = logging.getLogger(__name__)

Environ = Mapping[str, Any]
#: Where the server puts the number of the user that the kernel named.
PEER_UID = "ncen_updater.peer_uid"
#: What is told that the request is here whole, and refuses one whose connection had to leave.
WHOLE = "ncen_updater.whole"
#: A page of ours asks for nothing and runs nothing, whatever stands in it.
FORMS_OF_HTML = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    ("X-Content-Type-Options", "nosniff"),
]
PIECE = 65_536
#: After so long who was refused may try again.
_RETRY_S = {
    TOO_MANY_STREAMS: 30,
    TOO_MANY_ORDERS: 30,
    TOO_MANY_ACTS: 30,
    TOO_MANY_INSPECTIONS: 5,
    INSPECTION_GOES_ON: 5,
}
FORMS_OF_JSON = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


class StartResponse(Protocol):
    """What a WSGI server gives to begin an answer."""

    def __call__(self, status: str, headers: list[tuple[str, str]], /) -> object:
        """Begin it."""


class ApiApplication:
    """Answers requests of the people of this machine.

    Args:
        context: What answers are made of.
        uid_of: Finds who asks; by default as the server of this package names them.
    """

    def __init__(
        self,
        context: ApiContext,
        uid_of: Callable[[Environ], int] = lambda environ: environ[PEER_UID],
    ) -> None:
        self._context, self._uid_of = context, uid_of
        self._streams = EventStreams(context)
        self._acts = ActLimits({0, os.geteuid()})

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        language = _language(environ.get("HTTP_ACCEPT_LANGUAGE", ""))
        try:
            return self._answer(environ, start_response, language)
        except UpdaterError as error:
            return self._refuse(error, start_response, language)
        except Exception:
            logger.exception("a request met something unknown")
            unknown = UpdaterError(state=Text(N_("It is not known whether anything was changed.")))
            return self._refuse(unknown, start_response, language)

    def _answer(
        self, environ: Environ, start_response: StartResponse, language: str
    ) -> Iterable[bytes]:
        # First of all: who is refused before has not said everything yet, and hears nothing.
        content = _content(environ)
        environ.get(WHOLE, lambda: None)()
        asks = caller(self._uid_of(environ), self._context.snapshots.settings)
        asks.require(ApiRole.READ)
        path = environ["PATH_INFO"]
        there = find_routes(path, ROUTES)
        if not there:
            raise Refused(NO_SUCH_THING, path=path[:200])
        if environ["REQUEST_METHOD"] not in there:
            raise Refused(METHOD_NOT_ALLOWED, path=path[:200], allowed=", ".join(there))
        route, names = there[environ["REQUEST_METHOD"]]
        asks.require(route.role)
        if route.writes and not self._acts.take(asks.person.uid):
            raise Refused(TOO_MANY_ACTS)
        query = query_of(environ.get("QUERY_STRING", ""), route.query)
        form = _form(route.form, content, environ.get("CONTENT_TYPE", ""))
        request = Request(
            asks, path, names, query, form, language, environ.get("HTTP_LAST_EVENT_ID")
        )
        if route.handler is not None:
            status, document = route.handler(self._context, request)
            if isinstance(document, Page):
                return _answer(status, FORMS_OF_HTML, document.content, start_response)
            return _json(status, document, start_response, language)
        if route.address != STREAM:
            from ncen_updater.agent.service.api.openapi import description  # few ask for it

            return _json(200, description(), start_response, language)
        stream = self._streams.open(request)
        environ.get(NO_END, lambda: None)()
        start_response(
            "200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]
        )
        return stream

    def _refuse(
        self, error: UpdaterError, start_response: StartResponse, language: str
    ) -> Iterable[bytes]:
        status = status_of(error)
        # A refusal comes before anything is written, or takes it back.
        state = [error.state if isinstance(error.state, Text) else UNCHANGED]
        document = {
            "error": {
                **error_document(error, state, language),
                "exit_code": int(error.exit_code),
            }
        }
        more = [("Retry-After", str(wait))] if (wait := _RETRY_S.get(error.message)) else []
        if error.message is METHOD_NOT_ALLOWED:
            more = [("Allow", str(error.values["allowed"]))]
        return _json(status, document, start_response, language, more)


def _json(
    status: int,
    document: object,
    start_response: StartResponse,
    language: str,
    more: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    text = json.dumps(jsonable(document, language), ensure_ascii=False)
    content = text.encode("utf-8", "backslashreplace")
    return _answer(status, [*FORMS_OF_JSON, *more], content, start_response)


def _answer(
    status: int, headers: list[tuple[str, str]], content: bytes, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer in pieces: who reads slowly holds up a small one, not a copy of all of it."""
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [*headers, ("Content-Length", str(len(content)))],
    )
    whole = memoryview(content)
    return (bytes(whole[at : at + PIECE]) for at in range(0, len(whole), PIECE))


def _content(environ: Environ) -> bytes:
    """Read the body, which has to say how long it is.

    Raises:
        TooLarge, BadRequest: If it does not, or is longer than any that is wanted.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise BadRequest(reason="the body does not say its length")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise BadRequest(reason="the length of the body is no number")
    size = int(length)
    if size > MAX_BODY:
        raise Refused(TOO_LARGE, limit_bytes=MAX_BODY)
    content: bytes = environ["wsgi.input"].read(size) if size else b""
    if len(content) != size:
        raise BadRequest(reason="the body is shorter than it says")
    return content


def _form(kind: type[Form] | None, content: bytes, content_type: str) -> Form | None:
    """Return what the body says.

    Raises:
        BadRequest: If it is not what the form wants, or is there where none is wanted.
    """
    if kind is not None:
        return read_form(kind, content, content_type)
    if content:
        raise BadRequest(reason="a body where none is wanted")
    return None


def _language(accepted: str) -> str:
    """Return the first language that is asked for and that we speak."""
    asked = (part.partition(";")[0].strip() for part in accepted.split(","))
    return language_of(*asked) or DEFAULT_LANGUAGE
