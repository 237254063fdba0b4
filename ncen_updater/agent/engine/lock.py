"""Lock of a site: a file lock that the kernel releases when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ncen_updater.agent.model.errors import LockUnusableError, SiteBusyError
from ncen_updater.common import atomic_files as durable

logger = logging.getLogger(__name__)

#: :func:`read_lock_holder` of another process takes the lock for an instant, so retry.
LOCK_TRIES, LOCK_RETRY_S = 4, 0.02
#: Fixed size in bytes of the holder's name in the file.
HOLDER_BYTES = 200


@contextlib.contextmanager
def hold_application_lock(maintenance_file: Path, operation: str) -> Iterator[None]:
    """Hold the lock of an application, a file beside the maintenance file, while the block runs.

    Two agents with different state directories may manage the same application by mistake; they
    have the maintenance file in common. Its directory is created if it is missing: files below /run
    disappear at each boot.

    If the lock file cannot be created, for example on a full disk, the block runs without this
    lock, so that a resume can still end the downtime. The lock of the state directory is held in
    any case.

    Raises:
        SiteBusyError: If another agent holds it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # The maintenance file has the same problem.
            durable.make_directory(maintenance_file.parent, exactly=True)
        if maintenance_file.parent.is_dir():
            path = maintenance_file.with_name(f"{maintenance_file.name}.lock")
            try:
                stack.enter_context(hold_change_lock(path, operation, lock_directory=False))
            except LockUnusableError as error:
                logger.warning("cannot take the lock beside the maintenance file: %s", error)
        yield


@contextlib.contextmanager
def hold_change_lock(path: Path, operation: str, *, lock_directory: bool = True) -> Iterator[None]:
    """Hold the lock while the block runs.

    Args:
        path: The lock file; it is never removed, and its content counts only while it is locked.
        operation: Name of the operation, shown to other processes.
        lock_directory: Also lock the directory of the file, which then must belong to the agent
            alone.

    Raises:
        SiteBusyError: If another process holds it.
        LockUnusableError: If the file cannot be locked: disk full, read-only, or no permission.
    """
    with contextlib.ExitStack() as stack:
        try:
            if lock_directory:
                durable.make_directory(path.parent, 0o750)
            # Not inherited: a child that outlives the agent must not keep the site locked.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            stack.callback(os.close, descriptor)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            # The directory too: if the file is deleted, a second agent must not get the lock.
            for locked in (descriptor, directory) if lock_directory else (descriptor,):
                _acquire(locked)
            # Overwrite without truncating: this needs no space on a full disk, where a resume must
            # be possible.
            holder = f"{operation}, process {os.getpid()}".encode()[:HOLDER_BYTES]
            os.pwrite(descriptor, holder.ljust(HOLDER_BYTES), 0)
        except BlockingIOError as error:
            raise SiteBusyError(holder=_read_holder(descriptor) or "?") from error
        except OSError as error:
            raise LockUnusableError(path=path, reason=error.strerror or str(error)) from error
        yield


def _acquire(descriptor: int) -> None:
    """Take the lock; retry for longer than :func:`read_lock_holder` of another process holds it.

    Raises:
        BlockingIOError: If another process holds it.
    """
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(LOCK_RETRY_S)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read_holder(descriptor: int) -> str:
    return os.pread(descriptor, HOLDER_BYTES, 0).decode("utf-8", "replace").rstrip()


def read_lock_holder(path: Path) -> str | None:
    """Return the holder of the lock, None if it is free; lock the file only for an instant."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    finally:
        os.close(descriptor)
    return None
