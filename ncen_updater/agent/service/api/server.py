"""The server beside the loop: cheroot on our socket, in threads of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.service.api.app import NO_END, PEER_UID, WHOLE, ApiApplication
from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.deadlines import Deadlines
from ncen_updater.agent.service.api.fair_connections import FairConnections
from ncen_updater.agent.service.api.listening import BACKLOG, listening
from ncen_updater.agent.service.api.people import group_id
from ncen_updater.agent.service.availability_asker import availability_asker
from ncen_updater.agent.service.errors import UNCHANGED, TooManyConnections
from ncen_updater.agent.service.inspecting import Inspections
from ncen_updater.agent.service.snapshot import ServiceSnapshots
from ncen_updater.agent.service.state import ServiceStateFile
from ncen_updater.common.documents import error_document, jsonable
from ncen_updater.common.i18n import DEFAULT_LANGUAGE
from ncen_updater.common.unix_socket import connect

__all__ = ["start_api"]

logger = logging.getLogger(__name__)

#: Three people with two pages each, and a terminal: each page listens, and asks for something.
THREADS = 26
#: So many are there from the start, and so many more come at a time when all have work.
FIRST_THREADS, MORE_THREADS = 4, 4
#: Connections of one user; root and the service's own user are not counted.
EACH = 8
#: Of all that are counted: two threads are always left for root.
TOGETHER = THREADS - 2
WAITING = 32
TIMEOUT_S = 10
SHUTDOWN_S = 5
#: So long may the head of a request take to arrive, the whole of it, and its answer besides; a
#: stream has no end.
HEAD_S = 3.0
REQUEST_S = 20.0
ANSWER_S = 60.0
MAX_HEADERS = 16_384
MAX_BODY = 1_000_000
#: Between two looks for connections whose time is over; also how long an end may take.
LOOK_S = 2.0


def _too_many() -> bytes:
    """What somebody hears who holds too many connections, before anything was read."""
    error = TooManyConnections(count=EACH)
    document = {
        "error": {
            **error_document(error, [UNCHANGED], DEFAULT_LANGUAGE), "exit_code": error.exit_code,
        }
    }  # fmt: skip
    content = json.dumps(jsonable(document, DEFAULT_LANGUAGE)).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nRetry-After: 3\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


class _Gateway(wsgi.Gateway_10):
    """Asks the kernel who is at the other end: SO_PEERCRED, unix(7)."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ[PEER_UID] = peer_uid(self.req.conn.socket)
        environ[NO_END] = self.req.conn.without_end
        environ[WHOLE] = self.req.conn.is_whole
        return environ


def peer_uid(connection: socket.socket) -> int:
    """Return the number of the user at the other end, as the kernel knows it."""
    size = struct.calcsize("i2I")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("i2I", found)[1])


class _Request(HTTPRequest):
    """A request that tells its connection when its head is here."""

    def parse_request(self) -> None:
        super().parse_request()
        self.conn.head_is_here()


class _Connection(HTTPConnection):
    """A connection that is given a thread when it says something, and not before."""

    RequestHandlerClass = _Request
    server: _Server
    waited_for = False
    uid = -1

    def communicate(self) -> bool:
        """Answer one request, which has to be here whole in a limited time.

        Who sends a byte now and then keeps each single time limit, and would keep the thread.
        """
        head, whole = self._after(HEAD_S, socket.SHUT_RD), self._after(REQUEST_S, socket.SHUT_RD)
        answer = self._after(REQUEST_S + ANSWER_S, socket.SHUT_RDWR)
        self.head_is_here, self.without_end = head, answer
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            for cancel in (head, whole, answer):
                cancel()
            self.server.served(self)

    def is_whole(self) -> None:
        """Its request is here.

        Raises:
            TooManyConnections: If it had to leave meanwhile, so that nothing may be done of it.
        """
        if not self.server.limits.answering(self.uid, self):
            raise TooManyConnections(count=EACH)

    def close(self) -> None:
        """Close it, and let go of what could not be sent.

        Else that is tried once more when the stream is thrown away, which Python 3.13 complains of.
        """
        try:
            super().close()
        finally:
            with contextlib.suppress(OSError):
                self.wfile.close()
            self.server.limits.leave(self)

    def _after(self, seconds: float, how: int) -> Callable[[], None]:
        return self.server.deadlines.after(seconds, lambda: self._end(how))

    def _end(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(how)

    def refuse(self, answer: bytes) -> None:
        """Say why it is not served, as far as that is read at once, and end it.

        Whoever has it now, a thread or the list of those that wait, sees its end and closes it.
        """
        with contextlib.suppress(OSError):
            self.socket.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self._end(socket.SHUT_RDWR)


class _Server(wsgi.Server):
    """A server on a socket that is there already."""

    ConnectionClass = _Connection

    expiration_interval = LOOK_S
    max_request_header_size = MAX_HEADERS
    max_request_body_size = MAX_BODY

    def __init__(self, path: Path, listener: socket.socket, application: ApiApplication) -> None:
        super().__init__(
            str(path),
            application,
            numthreads=FIRST_THREADS,
            max=THREADS,
            server_name="ncen-updater",
            request_queue_size=BACKLOG,
            timeout=TIMEOUT_S,
            shutdown_timeout=SHUTDOWN_S,
            accepted_queue_size=WAITING,
            accepted_queue_timeout=TIMEOUT_S,
        )
        self.gateway = _Gateway
        self._listener = listener
        self.limits: FairConnections[_Connection] = FairConnections(
            EACH, TOGETHER, {0, os.geteuid()}
        )
        self.deadlines = Deadlines()
        self._busy, self._threads, self._counting = 0, FIRST_THREADS, threading.Lock()

    def bind_unix_socket(self, bind_addr: object) -> None:
        """Take the socket that was made for us, with its rights and its lock."""
        del bind_addr
        self.socket = self._listener

    def process_conn(self, conn: _Connection) -> None:
        """Give it to a thread; one that is new waits among the idle ones for its first word.

        So those that connect and say nothing take no thread from anybody, and their time ends, too.
        """
        if conn.waited_for:
            with self._counting:
                self._busy += 1
                if self._busy > self._threads < THREADS:
                    self.requests.grow(MORE_THREADS)
                    self._threads += MORE_THREADS
            super().process_conn(conn)
            return
        conn.waited_for, conn.uid = True, peer_uid(conn.socket)
        admission = self.limits.enter(conn.uid, conn)
        if not admission:
            conn.refuse(TOO_MANY)
            conn.close()
            return
        if admission.leaves is not None:
            admission.leaves.refuse(TOO_MANY)
        self.put_conn(conn)

    def served(self, conn: _Connection) -> None:
        """A thread has done with a connection, for now."""
        self.limits.waiting(conn)
        with self._counting:
            self._busy -= 1

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Say it in the service's log."""
        logger.log(level, "%s", msg, exc_info=traceback)


TOO_MANY = _too_many()


def start_api(
    config_path: Path,
    config: AgentConfig,
    *,
    snapshots: ServiceSnapshots,
    keeper: ServiceStateFile,
    wake: Callable[[], None],
    now: Callable[..., Any],
    inspections: Inspections,
) -> Callable[[], None]:
    """Start to answer; return what ends it.

    Raises:
        SocketTaken, SocketUnusable: If the socket cannot be used.
    """
    settings = config.service
    path = config.paths.resolve(settings.socket)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(path, group_id(settings.read_group)))
        asker = availability_asker(config_path, config)
        context = ApiContext(
            config_path, load_places(config_path), keeper, snapshots, wake, now, inspections,
            config.paths.resolve(config.paths.agent), asker,
        )  # fmt: skip
        server = _Server(path, listener, ApiApplication(context))
        server.prepare()
        thread = threading.Thread(target=server.serve, name="api", daemon=True)
        thread.start()
        held = stack.pop_all()

    def stop() -> None:
        with held:
            snapshots.close()
            inspections.close()
            ending = threading.Thread(target=server.stop)
            ending.start()
            with contextlib.suppress(OSError):  # somebody who connects ends its sleep
                connect(path, LOOK_S).close()
            ending.join()
            thread.join()
            server.deadlines.close()

    return stop
