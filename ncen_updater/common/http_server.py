"""HTTP routes, and a threaded HTTP server with time limits (cheroot), for service and console.

All limits are here; each server only decides who may connect. Only servers import this module, so
that other programs start fast.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

from ncen_updater.common import messages as m
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ErrorMessage, ExitCode
from ncen_updater.common.unix_http import connect_unix_socket

logger = logging.getLogger(__name__)

#: Maximum seconds for a request's headers, for the whole request, and additionally for its
#: response; a stream is exempt.
HEADER_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 20.0
RESPONSE_TIMEOUT_S = 60.0
#: Maximum seconds between two bytes of a request, and between two requests of a connection.
TIMEOUT_S = 10
MAX_HEADER_BYTES = 16_384
#: Larger bodies are not read; each program sets lower limits for its forms.
MAX_BODY_BYTES = 1_000_000
#: Threads at the start, and threads added at a time when all are busy.
INITIAL_THREADS, THREAD_INCREMENT = 4, 4
#: Maximum number of requests that wait for a thread.
MAX_QUEUED_CONNECTIONS = 32
#: Backlog of the listening socket, more than one program's open files. Beyond it the kernel refuses
#: clients that do not wait.
BACKLOG = 1024
#: Seconds between checks for idle connections; also the maximum time of a shutdown.
IDLE_CHECK_S = 2.0
SHUTDOWN_TIMEOUT_S = 5
#: WSGI environment key of the function that lifts the response's time limit, for streams.
LIFT_DEADLINE_KEY = "ncen_updater.no_end"


class HeaderAwareRequest(HTTPRequest):
    """A request that notifies its connection when its headers have arrived."""

    def parse_request(self) -> None:
        """Read the request line and headers, then notify the connection."""
        super().parse_request()
        self.conn.head_is_here()

    def read_request_headers(self) -> bool:
        """Refuse a Content-Length with anything but digits: other servers parse it differently."""
        if not super().read_request_headers():  # type: ignore[no-untyped-call]
            return False
        if self.inheaders.get(b"Content-Length", b"0").isdigit():
            return True
        self.simple_response("400 Bad Request", "Malformed Content-Length Header.")
        return False


class LimitedConnection(HTTPConnection):
    """A connection that gets a thread only after its client has sent data."""

    RequestHandlerClass = HeaderAwareRequest
    server: LimitedServer
    has_waited = False

    def communicate(self) -> bool:
        """Handle one request within the time limits.

        The time limit between two bytes is not enough: a client that sends a byte now and then
        keeps it and would occupy the thread.
        """
        head, whole = (
            self._schedule_shutdown(HEADER_TIMEOUT_S, socket.SHUT_RD),
            self._schedule_shutdown(REQUEST_TIMEOUT_S, socket.SHUT_RD),
        )
        answer = self._schedule_shutdown(REQUEST_TIMEOUT_S + RESPONSE_TIMEOUT_S, socket.SHUT_RDWR)
        self.head_is_here, self.without_end = head, answer
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            for cancel in (head, whole, answer):
                cancel()
            self.server.on_request_done(self)

    def close(self) -> None:
        """Close the connection and discard unsent data.

        Otherwise the data would be sent again when the stream is destroyed, and Python 3.13 warns.
        """
        try:
            super().close()
        finally:
            with contextlib.suppress(OSError):
                self.wfile.close()
            self.server.on_connection_closed(self)

    def _schedule_shutdown(self, seconds: float, how: int) -> Callable[[], None]:
        return self.server.deadlines.schedule(seconds, lambda: self._shut_down(how))

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(how)

    def reject_connection(self, answer: bytes) -> None:
        """Send a reason, as far as the client reads it at once, and shut the connection down.

        The owner of the connection, a thread or the list of idle connections, then closes it.
        """
        with contextlib.suppress(OSError):
            self.socket.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self._shut_down(socket.SHUT_RDWR)


class LimitedGateway(wsgi.Gateway_10):
    """A gateway that lets a streamed response lift its time limit."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the WSGI environment."""
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ[LIFT_DEADLINE_KEY] = self.req.conn.without_end
        return environ


class LimitedServer(wsgi.Server):
    """A server that checks each connection before it gets a thread.

    Args:
        address: Address to listen on: host and port, or a Unix socket.
        application: The WSGI application.
        threads: Maximum number of threads.
        listener: A listening Unix socket with its permissions set, if the caller created it.
    """

    ConnectionClass = LimitedConnection
    GatewayClass = LimitedGateway

    expiration_interval = IDLE_CHECK_S
    max_request_header_size = MAX_HEADER_BYTES
    max_request_body_size = MAX_BODY_BYTES

    def __init__(
        self,
        address: tuple[str, int] | Path,
        application: Callable[..., object],
        *,
        threads: int,
        listener: socket.socket | None = None,
    ) -> None:
        super().__init__(
            address if isinstance(address, tuple) else str(address),
            application,
            numthreads=INITIAL_THREADS,
            max=threads,
            server_name="ncen-updater",
            request_queue_size=BACKLOG,
            timeout=TIMEOUT_S,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            accepted_queue_size=MAX_QUEUED_CONNECTIONS,
            accepted_queue_timeout=TIMEOUT_S,
        )
        self.gateway = self.GatewayClass
        self._place, self._listener = address, listener
        self.deadlines = DeadlineTimer()
        self._busy, self._threads, self._counting = 0, INITIAL_THREADS, threading.Lock()

    # ---- connections -----------------------------------------------------------------------------

    def admit_connection(self, conn: LimitedConnection) -> bytes | None:
        """Check a new connection; return the response if it is refused, else None."""
        raise NotImplementedError

    def on_connection_closed(self, conn: LimitedConnection) -> None:
        """Handle the end of a connection; called at least once for each."""
        del conn

    def on_request_done(self, conn: LimitedConnection) -> None:
        """Handle the end of a request, which frees a thread."""
        del conn
        with self._counting:
            self._busy -= 1

    def process_conn(self, conn: LimitedConnection) -> None:
        """Pass a connection to a thread; a new one first waits among the idle connections for data.

        So clients that connect and send nothing occupy no thread, and their time is limited.
        """
        if conn.has_waited:
            self._reserve_thread()
            super().process_conn(conn)
            return
        conn.has_waited = True
        refused = self.admit_connection(conn)
        if refused is None:
            self.put_conn(conn)
        else:
            conn.reject_connection(refused)
            conn.close()

    def _reserve_thread(self) -> None:
        with self._counting:
            self._busy += 1
            if self._busy > self._threads < self.requests.max:
                self.requests.grow(THREAD_INCREMENT)
                self._threads += THREAD_INCREMENT

    # ---- start and stop --------------------------------------------------------------------------

    @contextmanager
    def serve_in_thread(self, name: str) -> Iterator[None]:
        """Serve in a thread of this name during the block.

        Raises:
            OSError: If the address cannot be bound.
        """
        self.prepare()
        thread = threading.Thread(target=self.serve, name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            waking = self._make_wakeup()
            ending = threading.Thread(target=self.stop)
            ending.start()
            with contextlib.suppress(OSError):  # a connection wakes the server from its poll
                waking().close()
            ending.join()
            thread.join()
            self.deadlines.close()

    def _make_wakeup(self) -> Callable[[], socket.socket]:
        place = self._place
        if isinstance(place, Path):
            return lambda: connect_unix_socket(place, IDLE_CHECK_S)
        address, port = self.socket.getsockname()[:2]
        return lambda: socket.create_connection((address, port), IDLE_CHECK_S)

    def bind_unix_socket(self, bind_addr: object) -> None:
        """Use the listening socket that the caller created."""
        del bind_addr
        self.socket = self._listener

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Write a message of cheroot to the program's log."""
        logger.log(level, "%s", msg, exc_info=traceback)


class DeadlineTimer:
    """Calls functions after a time, unless they are cancelled before.

    The functions must not block. The thread starts with the first deadline.
    """

    def __init__(self) -> None:
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def schedule(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function after a time; return a function that cancels this at any time."""
        with self._changed:
            number = next(self._numbers)
            self._due[number] = (time.monotonic() + seconds, callback)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run_due_calls, name="deadlines", daemon=True
                )
                self._thread.start()
            self._changed.notify()

        def cancel() -> None:
            with self._changed:
                self._due.pop(number, None)

        return cancel

    def close(self) -> None:
        """Stop the thread and drop all pending calls."""
        with self._changed:
            self._closed, thread = True, self._thread
            self._due.clear()
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run_due_calls(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                over = [number for number, (at, _) in self._due.items() if at <= now]
                calls = [self._due.pop(number)[1] for number in over]
                if not calls:
                    first = min((at for at, _ in self._due.values()), default=None)
                    self._changed.wait(None if first is None else first - now)
            for call in calls:
                call()


#: Patterns of the placeholders in path templates.
PATH_PATTERNS: Mapping[str, str] = {
    "id": r"[a-z2-7]{8}",
    "number": r"[1-9][0-9]{0,17}",
    "binding": r"[0-9a-f]{64}",
    "role": "read|operate|approve",
}


@dataclass(frozen=True)
class Route:
    """One resource and method of a server.

    Attributes:
        method: HTTP method.
        path_template: Path with placeholders in braces.
    """

    method: str
    path_template: str

    def match_path(self, path: str) -> dict[str, str] | None:
        """Return the placeholders' values if a path matches, else None."""
        pattern = re.sub(
            r"\\{([a-z]+)\\}",
            lambda p: f"(?P<{p[1]}>{PATH_PATTERNS[p[1]]})",
            re.escape(self.path_template),
        )
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


AnyRoute = TypeVar("AnyRoute", bound=Route)


def find_routes(
    path: str, routes: Iterable[AnyRoute]
) -> Mapping[str, tuple[AnyRoute, dict[str, str]]]:
    """Return the routes of a path by method, each with its placeholders' values."""
    found = ((route, route.match_path(path)) for route in routes)
    return {route.method: (route, names) for route, names in found if names is not None}


#: HTTP status by error, and by exit code for other errors.
_STATUS: Mapping[ErrorMessage, int] = {
    m.API_PATH_UNKNOWN: 404,
    m.METHOD_NOT_ALLOWED: 405,
    m.TOO_LARGE: 413,
    m.NOT_ALLOWED: 403,
    m.DATA_LOSS_NEEDS_APPROVER: 403,
    m.APPROVER_IS_SHARED_ACCOUNT: 403,
    m.NOTHING_TO_APPROVE: 409,
    m.NOTHING_TO_CONFIRM: 409,
    m.TOO_MANY_ACTIONS: 429,
    m.TOO_MANY_JOBS: 429,
    m.TOO_MANY_INSPECTIONS: 429,
    m.TOO_MANY_STREAMS: 503,
    m.TOO_MANY_CONNECTIONS: 503,
    m.CONSOLE_NO_SESSION: 401,
    m.CONSOLE_NOT_LOGGED_IN: 401,
    m.CONSOLE_PASSWORD: 401,
    m.CONSOLE_EXPIRED: 400,
    m.CONSOLE_SECOND_SECRET: 400,
    m.CONSOLE_LOGIN_THROTTLED: 429,
    m.CONSOLE_NO_LOGIN: 503,
    m.CONSOLE_LINK_EXPIRED: 403,
    m.CONSOLE_CROSS_SITE: 403,
    m.CONSOLE_NO_PAGE: 404,
    m.CONSOLE_TOO_MUCH: 429,
    m.CONSOLE_BUSY: 503,
}
_BY_EXIT_CODE: Mapping[ExitCode, int] = {
    ExitCode.USAGE: 400,
    ExitCode.BLOCKED: 409,
    ExitCode.APPROVAL_MISSING: 409,
    ExitCode.OUTSIDE_WINDOW_OR_HELD: 409,
    ExitCode.BUSY: 409,
    ExitCode.REHEARSAL_STALE: 409,
    ExitCode.FEED_STALE: 409,
    ExitCode.SPACE: 507,
    ExitCode.INTERVENTION_NEEDED: 503,
}
#: Errors of the configuration, which are not the client's fault.
_CONFIGURATION = frozenset(f"NU-{number}" for number in range(1001, 1100))


def status_of(error: UpdaterError) -> int:
    """Return the HTTP status for an error."""
    if error.code in _CONFIGURATION:
        return 409
    return _STATUS.get(error.message) or _BY_EXIT_CODE.get(error.exit_code, 500)
