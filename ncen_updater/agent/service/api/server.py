"""The server beside the loop: on our socket, in threads of its own, fair to each user."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import Places, load_places
from ncen_updater.agent.service.api.app import PEER_UID, WHOLE, ApiApplication
from ncen_updater.agent.service.api.context import ApiContext
from ncen_updater.agent.service.api.fair_connections import FairConnections
from ncen_updater.agent.service.api.listening import listening
from ncen_updater.agent.service.api.people import group_id
from ncen_updater.agent.service.availability_asker import availability_asker
from ncen_updater.agent.service.errors import UNCHANGED, Refused
from ncen_updater.agent.service.inspecting import Inspections
from ncen_updater.agent.service.snapshot import ServiceSnapshots
from ncen_updater.agent.service.state import ServiceStateFile
from ncen_updater.common.documents import error_document, jsonable
from ncen_updater.common.http_server import LimitedConnection, LimitedGateway, LimitedServer
from ncen_updater.common.i18n import DEFAULT_LANGUAGE
from ncen_updater.common.messages import TOO_MANY_CONNECTIONS
from ncen_updater.common.unix_socket import peer_uid

#: Three people with two pages each, and a terminal: each page listens, and asks for something.
THREADS = 26
#: Connections of one user; root and the service's own user are not counted.
EACH = 8
#: Of all that are counted: two threads are always left for root.
TOGETHER = THREADS - 2


def _too_many() -> bytes:
    """What somebody hears who holds too many connections, before anything was read."""
    error = Refused(TOO_MANY_CONNECTIONS, count=EACH)
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


TOO_MANY = _too_many()


class _Gateway(LimitedGateway):
    """Says who is at the other end, as the kernel knows it."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            **super().get_environ(),
            PEER_UID: self.req.conn.uid,
            WHOLE: self.req.conn.is_whole,
        }


class _Connection(LimitedConnection):
    """A connection of one user, who has a place among all."""

    server: _Server
    uid = -1

    def is_whole(self) -> None:
        """Its request is here.

        Raises:
            Refused: If it had to leave meanwhile, so that nothing may be done of it.
        """
        if not self.server.limits.answering(self.uid, self):
            raise Refused(TOO_MANY_CONNECTIONS, count=EACH)


class _Server(LimitedServer):
    """Lets each user have their share."""

    ConnectionClass = _Connection
    GatewayClass = _Gateway

    def __init__(self, path: Path, listener: socket.socket, application: ApiApplication) -> None:
        super().__init__(path, application, threads=THREADS, listener=listener)
        self.limits: FairConnections[LimitedConnection] = FairConnections(
            EACH, TOGETHER, {0, os.geteuid()}
        )

    def admit(self, conn: LimitedConnection) -> bytes | None:
        """Ask the kernel whose it is, and let it in if there is a place or one can be had."""
        assert isinstance(conn, _Connection)  # noqa: S101 - it is made by this server
        conn.uid = peer_uid(conn.socket)
        admission = self.limits.enter(conn.uid, conn)
        if admission.leaves is not None:
            admission.leaves.refuse(TOO_MANY)
        return None if admission else TOO_MANY

    def served(self, conn: LimitedConnection) -> None:
        """It may be made to leave again."""
        self.limits.waiting(conn)
        super().served(conn)

    def left(self, conn: LimitedConnection) -> None:
        """Its place is free."""
        self.limits.leave(conn)


def start_api(
    config_path: Path,
    config: AgentConfig,
    *,
    snapshots: ServiceSnapshots,
    keeper: ServiceStateFile,
    wake: Callable[[], None],
    now: Callable[..., Any],
    inspections: Inspections,
    places: Places | None = None,
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
            config_path, places or load_places(config_path), keeper, snapshots, wake, now,
            inspections, config.paths.resolve(config.paths.agent), asker,
        )  # fmt: skip
        server = _Server(path, listener, ApiApplication(context))
        stack.enter_context(server.answering("api"))
        held = stack.pop_all()

    def stop() -> None:
        with held:
            snapshots.close()
            inspections.close()

    return stop
