"""The server beside the loop: cheroot on our socket, in threads of its own."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection

from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.service.api.app import PEER_UID, ApiApplication
from ncen_updater.agent.service.api.desk import ApiContext
from ncen_updater.agent.service.api.listening import BACKLOG, listening
from ncen_updater.agent.service.api.people import group_id
from ncen_updater.agent.service.board import ServiceBoard
from ncen_updater.agent.service.knowledge import KnowledgeFile
from ncen_updater.common.unix_socket import connect

__all__ = ["start_api"]

logger = logging.getLogger(__name__)

THREADS = 10
WAITING = 32
TIMEOUT_S = 10
SHUTDOWN_S = 5
#: So long may a request take to arrive; the answer, such as a stream, may take longer.
REQUEST_S = 20.0
MAX_HEADERS = 16_384
MAX_BODY = 1_000_000
#: Between two looks for connections whose time is over; also how long an end may take.
LOOK_S = 2.0


class _Gateway(wsgi.Gateway_10):
    """Asks the kernel who is at the other end: SO_PEERCRED, unix(7)."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        size = struct.calcsize("i2I")
        found = self.req.conn.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, environ[PEER_UID], _ = struct.unpack("i2I", found)
        return environ


class _Connection(HTTPConnection):
    """A connection that is given a thread when it says something, and not before."""

    waited_for = False

    def communicate(self) -> bool:
        """Answer one request, which has to be here whole in a limited time.

        Who sends a byte now and then keeps each single time limit, and would keep the thread.
        """
        timer = threading.Timer(REQUEST_S, self._read_no_more)
        timer.daemon = True
        timer.start()
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close it, and let go of what could not be sent.

        Else that is tried once more when the stream is thrown away, which Python 3.13 complains of.
        """
        try:
            super().close()
        finally:
            with contextlib.suppress(OSError):
                self.wfile.close()

    def _read_no_more(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)


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
            numthreads=THREADS,
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

    def bind_unix_socket(self, bind_addr: object) -> None:
        """Take the socket that was made for us, with its rights and its lock."""
        del bind_addr
        self.socket = self._listener

    def process_conn(self, conn: _Connection) -> None:
        """Give it to a thread; one that is new waits among the idle ones for its first word.

        So those that connect and say nothing take no thread from anybody, and their time ends, too.
        """
        if conn.waited_for:
            super().process_conn(conn)
        else:
            conn.waited_for = True
            self.put_conn(conn)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Say it in the service's log."""
        logger.log(level, "%s", msg, exc_info=traceback)


def start_api(
    config_path: Path,
    config: AgentConfig,
    *,
    board: ServiceBoard,
    keeper: KnowledgeFile,
    wake: Callable[[], None],
    now: Callable[..., Any],
) -> Callable[[], None]:
    """Start to answer; return what ends it.

    Raises:
        SocketTaken, SocketUnusable: If the socket cannot be used.
    """
    settings = config.service
    path = config.paths.resolve(settings.socket)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(path, group_id(settings.read_group)))
        desk = ApiContext(config_path, load_places(config_path), keeper, board, wake, now)
        server = _Server(path, listener, ApiApplication(desk))
        server.prepare()
        thread = threading.Thread(target=server.serve, name="api", daemon=True)
        thread.start()
        held = stack.pop_all()

    def stop() -> None:
        with held:
            board.close()
            ending = threading.Thread(target=server.stop)
            ending.start()
            with contextlib.suppress(OSError):  # somebody who connects ends its sleep
                connect(path, LOOK_S).close()
            ending.join()
            thread.join()

    return stop
