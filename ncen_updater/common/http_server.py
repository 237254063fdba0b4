"""A server of HTTP in threads, whose patience ends: cheroot, for the service and for the console.

Imported by who serves, and by nobody else: start-up stays light.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

__all__ = ["LOOK_S", "NO_END", "LimitedConnection", "LimitedGateway", "LimitedServer"]

logger = logging.getLogger(__name__)

#: So long may the head of a request take to arrive, the whole of it, and its answer besides; a
#: stream has no end.
HEAD_S = 3.0
REQUEST_S = 20.0
ANSWER_S = 60.0
MAX_HEADERS = 16_384
MAX_BODY = 1_000_000
#: Between two looks for connections whose time is over; also how long an end may take.
LOOK_S = 2.0


class HeadedRequest(HTTPRequest):
    """A request that tells its connection when its head is here."""

    def parse_request(self) -> None:
        super().parse_request()
        self.conn.head_is_here()


class LimitedConnection(HTTPConnection):
    """A connection that is given a thread when it says something, and not before."""

    RequestHandlerClass = HeadedRequest
    waited_for = False
    #: Called once when it is closed.
    left: Callable[[], None] | None = None

    def communicate(self) -> bool:
        """Answer one request, which has to be here whole in a limited time.

        Who sends a byte now and then keeps each single time limit, and would keep the thread.
        """
        head, whole = self._after(HEAD_S, socket.SHUT_RD), self._after(REQUEST_S, socket.SHUT_RD)
        answer = self._after(REQUEST_S + ANSWER_S, socket.SHUT_RDWR)
        self.head_is_here, self.without_end = head.cancel, answer.cancel
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            for timer in (head, whole, answer):
                timer.cancel()

    def close(self) -> None:
        """Close it, and let go of what could not be sent.

        Else that is tried once more when the stream is thrown away, which Python 3.13 complains of.
        """
        left, self.left = self.left, None
        try:
            super().close()
        finally:
            with contextlib.suppress(OSError):
                self.wfile.close()
            if left is not None:
                left()

    def _after(self, seconds: float, how: int) -> threading.Timer:
        timer = threading.Timer(seconds, self._end, (how,))
        timer.daemon = True
        timer.start()
        return timer

    def _end(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(how)

    def refuse(self, answer: bytes) -> None:
        """Say why it is not served, as far as that is read at once, and close it."""
        with contextlib.suppress(OSError):
            self.socket.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self.close()


#: Name in the environment of a request: called by an answer that has no end.
NO_END = "ncen_updater.no_end"


class LimitedGateway(wsgi.Gateway_10):
    """Lets an answer say that it has no end."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        """Return what the application is given."""
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ[NO_END] = self.req.conn.without_end
        return environ


class LimitedServer(wsgi.Server):
    """A server of such connections, of which it looks at each before it gives it a thread."""

    ConnectionClass = LimitedConnection

    expiration_interval = LOOK_S
    max_request_header_size = MAX_HEADERS
    max_request_body_size = MAX_BODY

    def admit(self, conn: LimitedConnection) -> bytes | None:
        """Look at a connection that is new; return what it hears if it is not served."""
        raise NotImplementedError

    def process_conn(self, conn: LimitedConnection) -> None:
        """Give it to a thread; one that is new waits among the idle ones for its first word.

        So those that connect and say nothing take no thread from anybody, and their time ends, too.
        """
        if conn.waited_for:
            super().process_conn(conn)
            return
        conn.waited_for = True
        refused = self.admit(conn)
        if refused is None:
            self.put_conn(conn)
        else:
            conn.refuse(refused)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Say it in the log of the program."""
        logger.log(level, "%s", msg, exc_info=traceback)
