"""One change at a time: a lock on a file that dies with its holder, however the holder dies."""

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

#: A process that checks whether it is taken holds it for an instant (:func:`read_lock_holder`).
LOCK_TRIES, LOCK_RETRY_S = 4, 0.02
#: The name of the holder takes so many bytes, always the same.
HOLDER_BYTES = 200


@contextlib.contextmanager
def hold_application_lock(maintenance_file: Path, what: str) -> Iterator[None]:
    """Hold the lock of an application while the block runs, beside the maintenance file.

    Two agents with a state directory each may look after one application by mistake; what they have
    in common is its maintenance page. Its directory is made where it is not there: what is below
    /run is gone after each start of the machine.

    A file that cannot be made, on a full disk, must not keep a resume from letting users in: the
    lock of the state directory is held, and this one is for a mistake.

    Raises:
        SiteBusyError: If another agent holds it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the maintenance file has the same problem
            durable.make_directory(maintenance_file.parent, exactly=True)
        if maintenance_file.parent.is_dir():
            path = maintenance_file.with_name(f"{maintenance_file.name}.lock")
            try:
                stack.enter_context(hold_change_lock(path, what, lock_directory=False))
            except LockUnusableError as error:
                logger.warning("the lock beside the maintenance file was not taken: %s", error)
        yield


@contextlib.contextmanager
def hold_change_lock(path: Path, operation: str, *, lock_directory: bool = True) -> Iterator[None]:
    """Hold the lock while the block runs.

    Args:
        path: The lock file; stays there, empty of meaning when nobody holds it.
        operation: What the holder is doing, for a process that finds it taken.
        lock_directory: Lock the directory of the file, too, which then is ours alone.

    Raises:
        SiteBusyError: If another process holds it.
        LockUnusableError: If the state directory takes no lock: full, read-only, or not ours.
    """
    with contextlib.ExitStack() as stack:
        try:
            if lock_directory:
                durable.make_directory(path.parent, 0o750)
            # Not inherited: a child that outlives us must not keep the site locked.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            stack.callback(os.close, descriptor)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            # The directory too: a clean-up of the file must not let a second one in.
            for locked in (descriptor, directory) if lock_directory else (descriptor,):
                _acquire(locked)
            # Over what was there, and never cut to nothing before: on a disk that is full by now
            # that takes no room, and a resume has to be possible there.
            holder = f"{operation}, process {os.getpid()}".encode()[:HOLDER_BYTES]
            os.pwrite(descriptor, holder.ljust(HOLDER_BYTES), 0)
        except BlockingIOError as error:
            raise SiteBusyError(holder=_read_holder(descriptor) or "?") from error
        except OSError as error:
            raise LockUnusableError(path=path, reason=error.strerror or str(error)) from error
        yield


def _acquire(descriptor: int) -> None:
    """Take the lock, or find it taken for longer than somebody's look at it lasts.

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
    """Say who holds the lock, None when nobody does. Never takes it for longer than the look."""
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
