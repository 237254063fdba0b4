"""One change at a time: a lock on a file that dies with its holder, however the holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ncen_updater import durable
from ncen_updater.upgrade.errors import Busy

__all__ = ["change_lock", "lock_holder"]


@contextlib.contextmanager
def change_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock while the block runs.

    Args:
        path: The lock file; stays there, empty of meaning when nobody holds it.
        what: What the holder is doing, for whoever finds it taken.

    Raises:
        Busy: If another process holds it.
    """
    durable.make_directory(path.parent, 0o750)
    # Not inherited: a child that outlives us must not keep the site locked.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(holder=os.pread(descriptor, 200, 0).decode("utf-8", "replace")) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{what}, process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_holder(path: Path) -> str | None:
    """Say who holds the lock, None when nobody does. Never takes it for longer than the look."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 200, 0).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    return None
