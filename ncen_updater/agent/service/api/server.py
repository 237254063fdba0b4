"""The API server: threads of the service, with limits on the connections of each user."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ncen_updater.agent.adapters.rights import find_group_id
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.essential_settings import EssentialSettings, load_essential_settings
from ncen_updater.agent.service.api.app import PEER_UID, REQUEST_COMPLETE, ApiApplication
from ncen_updater.agent.service.api.authorization import ApiContext
from ncen_updater.agent.service.availability_cache import create_availability_cache
from ncen_updater.agent.service.errors import (
    NOTHING_CHANGED,
    RequestRefusedError,
    build_error_document,
)
from ncen_updater.agent.service.inspections import InspectionQueue
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.service_state import ServiceStateFile
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import (
    BACKLOG,
    LimitedConnection,
    LimitedGateway,
    LimitedServer,
)
from ncen_updater.common.i18n import DEFAULT_LANGUAGE
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.messages import SOCKET_TAKEN, SOCKET_UNUSABLE, TOO_MANY_CONNECTIONS
from ncen_updater.common.unix_http import get_peer_uid, shorten_socket_path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_listener(path: Path, group: int | None) -> Iterator[socket.socket]:
    """Listen on a Unix socket during the block.

    A lock file beside the socket shows whether the socket is in use. The kernel releases the lock
    when its holder dies, so that only the socket of a dead service is replaced.

    Args:
        path: Path of the socket.
        group: GID of the group that may connect; None for only root and the service's own user.

    Raises:
        SOCKET_TAKEN: If another service listens on it.
        SOCKET_UNUSABLE: If the socket cannot be created, or other users may write to its directory.
    """
    with contextlib.ExitStack() as stack:
        try:
            _make_directory(path.parent, group)
            stack.callback(os.close, _acquire_lock(path))
            _remove_stale(path)
            listener = _bind(path, group)
        except BlockingIOError as error:
            raise UpdaterError(SOCKET_TAKEN, path=path) from error
        except OSError as error:
            raise UpdaterError(
                SOCKET_UNUSABLE, path=path, reason=error.strerror or str(error)
            ) from error
        stack.callback(listener.close)
        stack.callback(path.unlink, missing_ok=True)
        yield listener


def _make_directory(directory: Path, group: int | None) -> None:
    if not directory.exists():
        directory.mkdir(parents=True)
        directory.chmod(0o750)
        _grant_group_access(directory, group, 0o750)
    info = directory.stat()
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UpdaterError(
            SOCKET_UNUSABLE, path=directory, reason="the directory is writable by other users"
        )


def _acquire_lock(path: Path) -> int:
    lock_path = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UpdaterError(SOCKET_UNUSABLE, path=path, reason="it is not a socket")
        path.unlink()


def _bind(path: Path, group: int | None) -> socket.socket:
    """Bind to a temporary name, set the permissions, and only then rename the socket."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o600)  # the mode of the file that bind() creates
        with shorten_socket_path(temporary) as address:
            listener.bind(address)
        temporary.chmod(0o600)
        _grant_group_access(temporary, group, 0o660)
        listener.listen(BACKLOG)
        temporary.rename(path)
    except BaseException:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise
    return listener


def _grant_group_access(path: Path, group: int | None, mode: int) -> None:
    """Grant a group access; if that is not permitted, only log a warning."""
    if group is None:
        return
    try:
        os.chown(path, -1, group)
        path.chmod(mode)
    except PermissionError as error:
        logger.warning("cannot give the group access to %s: %s", path, error)


Connection = TypeVar("Connection")


@dataclass(frozen=True)
class Admission(Generic[Connection]):
    """Whether a connection is admitted, and which connection is evicted for it."""

    admitted: bool
    evicted: Connection | None = None

    def __bool__(self) -> bool:
        """Return whether the connection is admitted."""
        return self.admitted


class AdmissionController(Generic[Connection]):
    """Limits on open connections.

    Args:
        per_user: Limit per user.
        total: Limit for all users together; the rest is reserved for exempt users.
        exempt_uids: UIDs without a limit.
    """

    def __init__(self, per_user: int, total: int, exempt_uids: Collection[int]) -> None:
        self._per_user, self._total, self._exempt_uids = per_user, total, frozenset(exempt_uids)
        #: UIDs by connection, oldest connection first.
        self._held: dict[Connection, int] = {}
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()

    def admit(self, uid: int, connection: Connection) -> Admission[Connection]:
        """Admit a connection if there is a free place or an idle connection can be evicted."""
        if uid in self._exempt_uids:
            return Admission(admitted=True)
        with self._lock:
            count = Counter(self._held.values())
            evicted = None
            if count[uid] >= self._per_user:
                evicted = self._find_oldest_idle({uid})
            elif count.total() >= self._total:
                maximum = max(count.values())
                larger_users = {
                    other for other, held in count.items() if held == maximum > count[uid]
                }
                evicted = self._find_oldest_idle(larger_users)
            else:
                self._held[connection] = uid
                return Admission(admitted=True)
            if evicted is None:
                return Admission(admitted=False)
            del self._held[evicted]
            self._held[connection] = uid
            return Admission(admitted=True, evicted=evicted)

    def mark_busy(self, uid: int, connection: Connection) -> bool:
        """Mark a request as completely received; return False if its connection was evicted."""
        if uid in self._exempt_uids:
            return True
        with self._lock:
            if connection not in self._held:
                return False
            self._busy.add(connection)
            return True

    def mark_idle(self, connection: Connection) -> None:
        """Mark a connection as answered, so that it may be evicted again."""
        with self._lock:
            self._busy.discard(connection)

    def release(self, connection: Connection) -> None:
        """Release a closed connection; do nothing if it was evicted before."""
        with self._lock:
            self._held.pop(connection, None)
            self._busy.discard(connection)

    def _find_oldest_idle(self, uids: Collection[int]) -> Connection | None:
        """Return the oldest idle connection of some users."""
        return next(
            (c for c, uid in self._held.items() if uid in uids and c not in self._busy), None
        )


#: Three users with two pages each, and a terminal: each page has an event stream and one request.
THREADS = 26
#: Connections per user; root and the service's own user have no limit.
MAX_CONNECTIONS_PER_USER = 8
#: Connections of all other users; two threads always remain for root.
MAX_UNPRIVILEGED_CONNECTIONS = THREADS - 2


def _build_too_many_response() -> bytes:
    """Build the response to a user with too many connections, sent before a request is read."""
    error = RequestRefusedError(TOO_MANY_CONNECTIONS, count=MAX_CONNECTIONS_PER_USER)
    document = build_error_document(error, [NOTHING_CHANGED], DEFAULT_LANGUAGE)
    content = json.dumps(to_json_value(document, DEFAULT_LANGUAGE)).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nRetry-After: 3\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


TOO_MANY_RESPONSE = _build_too_many_response()


class _PeerGateway(LimitedGateway):
    """Adds the peer's UID to the WSGI environment."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            **super().get_environ(),
            PEER_UID: self.req.conn.uid,
            REQUEST_COMPLETE: self.req.conn.mark_request_complete,
        }


class _UserConnection(LimitedConnection):
    """Connection of one user, with admission control."""

    server: _FairServer
    uid = -1

    def mark_request_complete(self) -> None:
        """Mark the request as completely received.

        Raises:
            RequestRefusedError: If the connection was evicted, so that the request must not be
                executed.
        """
        if not self.server.limits.mark_busy(self.uid, self):
            raise RequestRefusedError(TOO_MANY_CONNECTIONS, count=MAX_CONNECTIONS_PER_USER)


class _FairServer(LimitedServer):
    """Server with limits per user."""

    ConnectionClass = _UserConnection
    GatewayClass = _PeerGateway

    def __init__(self, path: Path, listener: socket.socket, application: ApiApplication) -> None:
        super().__init__(path, application, threads=THREADS, listener=listener)
        self.limits: AdmissionController[LimitedConnection] = AdmissionController(
            MAX_CONNECTIONS_PER_USER, MAX_UNPRIVILEGED_CONNECTIONS, {0, os.geteuid()}
        )

    def admit_connection(self, conn: LimitedConnection) -> bytes | None:
        """Get the peer's UID from the kernel, and admit the connection if possible."""
        assert isinstance(conn, _UserConnection)  # noqa: S101 - it is made by this server
        conn.uid = get_peer_uid(conn.socket)
        admission = self.limits.admit(conn.uid, conn)
        if admission.evicted is not None:
            admission.evicted.reject_connection(TOO_MANY_RESPONSE)
        return None if admission else TOO_MANY_RESPONSE

    def on_request_done(self, conn: LimitedConnection) -> None:
        """Mark a connection as idle, so that it may be evicted again."""
        self.limits.mark_idle(conn)
        super().on_request_done(conn)

    def on_connection_closed(self, conn: LimitedConnection) -> None:
        """Release the connection's place."""
        self.limits.release(conn)


def start_api(
    config_path: Path,
    config: AgentConfig,
    *,
    snapshots: SnapshotStore,
    state_file: ServiceStateFile,
    wake: Callable[[], None],
    now: Callable[..., Any],
    inspections: InspectionQueue,
    essential_settings: EssentialSettings | None = None,
) -> Callable[[], None]:
    """Start the API server; return a function that stops it.

    Raises:
        SOCKET_TAKEN, SOCKET_UNUSABLE: If the socket cannot be used.
    """
    settings = config.service
    path = config.paths.resolve(settings.api_socket)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(open_listener(path, find_group_id(settings.viewer_group)))
        read_availability = create_availability_cache(config_path, config)
        context = ApiContext(
            config_path,
            essential_settings or load_essential_settings(config_path),
            state_file,
            snapshots,
            wake,
            now,
            inspections,
            config.paths.resolve(config.paths.agent_slots),
            read_availability,
        )
        server = _FairServer(path, listener, ApiApplication(context))
        stack.enter_context(server.serve_in_thread("api"))
        resources = stack.pop_all()

    def stop() -> None:
        with resources:
            snapshots.close()
            inspections.close()

    return stop
