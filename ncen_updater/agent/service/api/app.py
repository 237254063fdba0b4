"""The WSGI application (PEP 3333) of the API, its rate limits and its event streams."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from ncen_updater.agent.reports.status import read_mtime_ns
from ncen_updater.agent.service.api.authorization import ApiContext, ApiRole, identify_caller
from ncen_updater.agent.service.api.forms import (
    MAX_BODY_BYTES,
    ApiForm,
    parse_query,
    parse_query_value,
    read_form,
)
from ncen_updater.agent.service.api.queries import ApiRequest, build_activity_document
from ncen_updater.agent.service.api.routes import ROUTES
from ncen_updater.agent.service.errors import (
    NOTHING_CHANGED,
    BadRequestError,
    RequestRefusedError,
    build_error_document,
)
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import LIFT_DEADLINE_KEY, find_routes, get_http_status
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText, match_language
from ncen_updater.common.json_records import error_to_json, to_json_value
from ncen_updater.common.messages import (
    API_PATH_UNKNOWN,
    METHOD_NOT_ALLOWED,
    SERVICE_OTHER_CONFIGURATION,
    TOO_LARGE,
    TOO_MANY_ACTIONS,
    TOO_MANY_INSPECTIONS,
    TOO_MANY_JOBS,
    TOO_MANY_STREAMS,
)

#: Rate limit per user: initial burst, and seconds until one more request is allowed.
BURST, REFILL_INTERVAL_S = 60, 30.0


class RateLimiter:
    """Limits the changes that each user makes.

    Each change is recorded in the journal permanently, and most cause notifications.

    Args:
        exempt_uids: UIDs without a limit: root and the service's own user.
        monotonic: A monotonic clock.
    """

    def __init__(
        self, exempt_uids: Collection[int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._exempt_uids, self._monotonic = frozenset(exempt_uids), monotonic
        self._spent: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def try_acquire(self, uid: int) -> bool:
        """Count a request of a user; return False, without counting, if the limit is exceeded."""
        if uid in self._exempt_uids:
            return True
        with self._lock:
            now = self._monotonic()
            left = {
                other: (spent - (now - at) / REFILL_INTERVAL_S, now)
                for other, (spent, at) in self._spent.items()
            }
            self._spent = {other: item for other, item in left.items() if item[0] > 0}
            spent, _ = self._spent.get(uid, (0.0, now))
            if spent + 1 > BURST:
                return False
            self._spent[uid] = (spent + 1, now)
            return True


logger = logging.getLogger(__name__)

Environ = Mapping[str, Any]
#: WSGI variable with the peer's UID, which the server got from the kernel.
PEER_UID = "ncen_updater.peer_uid"
#: WSGI variable with a function that marks the request as received; it raises after an eviction.
REQUEST_COMPLETE = "ncen_updater.request_complete"
CHUNK_BYTES = 65_536
#: Retry-After in seconds, by error.
_RETRY_S = {
    TOO_MANY_STREAMS: 30,
    TOO_MANY_JOBS: 30,
    TOO_MANY_ACTIONS: 30,
    TOO_MANY_INSPECTIONS: 5,
}
JSON_HEADERS = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


class StartResponse(Protocol):
    """The ``start_response`` function of a WSGI server."""

    def __call__(self, status: str, headers: list[tuple[str, str]], /) -> object:
        """Start the response."""


class ApiApplication:
    """The API for users of this machine.

    Args:
        context: Resources of the requests.
        uid_of: Returns the caller's UID; by default from :data:`PEER_UID`.
    """

    def __init__(
        self,
        context: ApiContext,
        uid_of: Callable[[Environ], int] = lambda environ: environ[PEER_UID],
    ) -> None:
        self._context, self._uid_of = context, uid_of
        self._streams = EventStreams(context)
        self._rate_limiter = RateLimiter({0, os.geteuid()})

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        language = _negotiate_language(environ.get("HTTP_ACCEPT_LANGUAGE", ""))
        try:
            return self._dispatch(environ, start_response, language)
        except UpdaterError as error:
            return self._respond_with_error(error, start_response, language)
        except Exception:
            logger.exception("a request failed with an unexpected error")
            unknown = UpdaterError(state=LazyText(N_("Unknown whether anything was changed.")))
            return self._respond_with_error(unknown, start_response, language)

    def _dispatch(
        self, environ: Environ, start_response: StartResponse, language: str
    ) -> Iterable[bytes]:
        # Read the body first: a client that is refused earlier would not read the response.
        content = _read_body(environ)
        environ.get(REQUEST_COMPLETE, lambda: None)()
        caller = identify_caller(self._uid_of(environ), self._context.snapshots.settings)
        caller.require_role(ApiRole.READ)
        expected_config = environ.get("HTTP_NCEN_CONFIGURATION")
        if (
            expected_config is not None
            and Path(unquote(expected_config)) != self._context.config_path.resolve()
        ):
            raise RequestRefusedError(
                SERVICE_OTHER_CONFIGURATION,
                path=self._context.config_path,
                given=unquote(expected_config),
            )
        path = environ["PATH_INFO"]
        methods = find_routes(path, ROUTES)
        if not methods:
            raise RequestRefusedError(API_PATH_UNKNOWN, path=path[:200])
        if environ["REQUEST_METHOD"] not in methods:
            raise RequestRefusedError(
                METHOD_NOT_ALLOWED, path=path[:200], allowed=", ".join(methods)
            )
        route, names = methods[environ["REQUEST_METHOD"]]
        caller.require_role(route.role)
        if route.writes and not self._rate_limiter.try_acquire(caller.actor.uid):
            raise RequestRefusedError(TOO_MANY_ACTIONS)
        query = parse_query(environ.get("QUERY_STRING", ""), route.query)
        form = _parse_form(route.form, content, environ.get("CONTENT_TYPE", ""))
        request = ApiRequest(
            caller, path, names, query, form, language, environ.get("HTTP_LAST_EVENT_ID")
        )
        if route.handler is not None:
            status, document = route.handler(self._context, request)
            return _respond_json(status, document, start_response, language)
        stream = self._streams.open_stream(request)
        environ.get(LIFT_DEADLINE_KEY, lambda: None)()
        start_response(
            "200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]
        )
        return stream

    def _respond_with_error(
        self, error: UpdaterError, start_response: StartResponse, language: str
    ) -> Iterable[bytes]:
        status = get_http_status(error)
        # An error occurs before anything is written, or is rolled back.
        state = [error.state if isinstance(error.state, LazyText) else NOTHING_CHANGED]
        document = build_error_document(error, state, language)
        headers = [("Retry-After", str(wait))] if (wait := _RETRY_S.get(error.message)) else []
        if error.message is METHOD_NOT_ALLOWED:
            headers = [("Allow", str(error.values["allowed"]))]
        return _respond_json(status, document, start_response, language, headers)


def _respond_json(
    status: int,
    document: object,
    start_response: StartResponse,
    language: str,
    more: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Respond in chunks: a slow client then occupies one chunk, not the whole response."""
    text = json.dumps(to_json_value(document, language), ensure_ascii=False)
    content = text.encode("utf-8", "backslashreplace")
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [*JSON_HEADERS, *more, ("Content-Length", str(len(content)))],
    )
    view = memoryview(content)
    return (bytes(view[start : start + CHUNK_BYTES]) for start in range(0, len(view), CHUNK_BYTES))


def _read_body(environ: Environ) -> bytes:
    """Read the body, which must have a Content-Length.

    Raises:
        RequestRefusedError, BadRequestError: If the length is missing, invalid or too large.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise BadRequestError(reason="missing Content-Length")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise BadRequestError(reason="invalid Content-Length")
    size = int(length)
    if size > MAX_BODY_BYTES:
        raise RequestRefusedError(TOO_LARGE, limit_bytes=MAX_BODY_BYTES)
    content: bytes = environ["wsgi.input"].read(size) if size else b""
    if len(content) != size:
        raise BadRequestError(reason="body shorter than Content-Length")
    return content


def _parse_form(kind: type[ApiForm] | None, content: bytes, content_type: str) -> ApiForm | None:
    """Return the form in the body.

    Raises:
        BadRequestError: If the body does not match the form, or is unexpected.
    """
    if kind is not None:
        return read_form(kind, content, content_type)
    if content:
        raise BadRequestError(reason="unexpected body")
    return None


def _negotiate_language(accepted: str) -> str:
    """Return the first accepted language that has a catalogue."""
    languages = (part.partition(";")[0].strip() for part in accepted.split(","))
    return match_language(*languages) or DEFAULT_LANGUAGE


#: Limits of event streams: for all users together, and per user.
MAX_STREAMS, MAX_STREAMS_PER_USER = 9, 3
HEARTBEAT_S = 15.0
#: Interval for checking the journal's file, since worker processes write it, too.
POLL_INTERVAL_S = 0.25
EVENT_BATCH_SIZE = 200


class EventStreams:
    """Limits and generates event streams.

    Args:
        context: Resources of the requests.
        max_streams: Limit for all users together; root and the service's own user have a separate
            limit of the same size.
        monotonic: A monotonic clock for keep-alives.
    """

    def __init__(
        self,
        context: ApiContext,
        max_streams: int = MAX_STREAMS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._max_streams, self._monotonic = context, max_streams, monotonic
        #: UID of each open stream.
        self._open: list[int] = []
        self._lock = threading.Lock()

    def open_stream(self, request: ApiRequest) -> Iterator[bytes]:
        """Return a stream of the events after a given one.

        Raises:
            RequestRefusedError: If a limit is exceeded.
            BadRequestError: If the event number is invalid.
            UpdaterError: If the journal cannot be read.
        """
        after = request.query.get("after")
        if after is None and request.last_event is not None:
            after = parse_query_value("after", request.last_event)
        if after is None:
            with self._context.open_journal() as journal:
                after = journal.read_last_event_number()
        uid = request.caller.actor.uid
        self._acquire_place(uid)
        return _StreamIterator(
            self._generate_messages(after, request.language), partial(self._release_place, uid)
        )

    def _acquire_place(self, uid: int) -> None:
        exempt = {0, os.geteuid()}
        with self._lock:
            same = [other for other in self._open if (other in exempt) is (uid in exempt)]
            own = same.count(uid)
            if len(same) >= self._max_streams or (
                uid not in exempt and own >= MAX_STREAMS_PER_USER
            ):
                raise RequestRefusedError(TOO_MANY_STREAMS, count=own or len(same))
            self._open.append(uid)

    def _release_place(self, uid: int) -> None:
        with self._lock:
            self._open.remove(uid)

    def _generate_messages(self, after: int, language: str) -> Iterator[bytes]:
        context, seen, changed_at, reported_at = self._context, -1, -1, self._monotonic()
        yield b"retry: 2000\n\n"
        while True:
            moment = context.snapshots.get_latest()
            if moment.sequence != seen:
                yield _format_message("service", build_activity_document(moment, language))
                reported_at = self._monotonic()
            if moment.closing:
                return
            seen = moment.sequence
            try:
                now_changed = read_mtime_ns(context.journal_path)
                if now_changed != changed_at:
                    for event in self._read_events(after):
                        after = event.number
                        yield _format_event(event, language)
                        reported_at = self._monotonic()
                    changed_at = now_changed
            except (UpdaterError, OSError) as error:
                known = error if isinstance(error, UpdaterError) else UpdaterError()
                yield _format_message("error", {"error": error_to_json(known, [], language)})
                return
            if self._monotonic() - reported_at >= HEARTBEAT_S:
                yield b": alive\n\n"
                reported_at = self._monotonic()
            context.snapshots.wait_for_change(seen, POLL_INTERVAL_S)

    def _read_events(self, after: int) -> Iterator[JournalEvent]:
        while True:
            with self._context.open_journal() as journal:
                events = journal.list_events(after, limit=EVENT_BATCH_SIZE)
            yield from events
            if len(events) < EVENT_BATCH_SIZE:
                return
            after = events[-1].number


class _StreamIterator:
    """Iterator that releases its place when closed, even if it was never started."""

    def __init__(self, messages: Iterator[bytes], release: Callable[[], None]) -> None:
        self._messages, self._release = messages, release
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._messages)

    def close(self) -> None:
        """Release the place; WSGI servers always call this at the end of a response."""
        if self._open:
            self._open = False
            self._release()


def _format_event(event: JournalEvent, language: str) -> bytes:
    document = {
        "number": event.number,
        "at": event.at,
        "change": event.change,
        "kind": event.kind,
        "data": event.data,
    }
    return _format_message(event.kind, to_json_value(document, language), event.number)


def _format_message(kind: str, document: object, number: int | None = None) -> bytes:
    head = f"id: {number}\n" if number is not None else ""
    body = json.dumps(to_json_value(document), ensure_ascii=False)
    return f"{head}event: {kind}\ndata: {body}\n\n".encode("utf-8", "replace")
