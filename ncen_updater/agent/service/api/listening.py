"""The socket: made beside its name with its rights, then put in place; one server at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.http_server import BACKLOG
from ncen_updater.common.messages import SOCKET_TAKEN, SOCKET_UNUSABLE
from ncen_updater.common.unix_socket import address_of

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def listening(path: Path, group: int | None) -> Iterator[socket.socket]:
    """Listen at a place while the block runs.

    A lock beside the socket says whether the one that lies there is in use; it dies with its holder
    however that dies, so that what a killed service left is removed, and what lives is not.

    Args:
        path: Where.
        group: Number of the group that may connect; None where only the service's own user and
            root may.

    Raises:
        SocketTaken: If another service listens there.
        SocketUnusable: If the place takes no socket, or others could put theirs there.
    """
    with contextlib.ExitStack() as stack:
        try:
            _make_directory(path.parent, group)
            stack.callback(os.close, _lock(path))
            _remove_stale(path)
            listener = _bound(path, group)
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
        _give(directory, group, 0o750)
    found = directory.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UpdaterError(
            SOCKET_UNUSABLE, path=directory, reason="others may write into the directory"
        )


def _lock(path: Path) -> int:
    place = path.with_name(f"{path.name}.lock")
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UpdaterError(SOCKET_UNUSABLE, path=path, reason="something else lies there")
        path.unlink()


def _bound(path: Path, group: int | None) -> socket.socket:
    """Bind beside the name, give it away, and only then let it be found."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(listener.fileno(), 0o600)  # the mode that the file is made with
        with address_of(beside) as address:
            listener.bind(address)
        beside.chmod(0o600)
        _give(beside, group, 0o660)
        listener.listen(BACKLOG)
        beside.rename(path)
    except BaseException:
        listener.close()
        beside.unlink(missing_ok=True)
        raise
    return listener


def _give(path: Path, group: int | None, mode: int) -> None:
    """Let a group in; where that cannot be done, nobody else is."""
    if group is None:
        return
    try:
        os.chown(path, -1, group)
        path.chmod(mode)
    except PermissionError as error:
        logger.warning("%s stays with the service's own user: %s", path, error)
