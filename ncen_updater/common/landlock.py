"""Landlock: give up the right to write or read files, for the present thread and its children.

The kernel refuses the kinds of access that a ruleset handles, except below the paths it allows
(https://docs.kernel.org/userspace-api/landlock.html). This needs no privilege, cannot be undone,
and does not affect other processes. Open files stay open, and free space can still be queried.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PR_SET_NO_NEW_PRIVS = 38
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
WRITE_FILE, READ_FILE = 1 << 1, 1 << 2
ENTRY_ACCESS = sum(1 << bit for bit in range(4, 13))
#: Access rights by the ABI version that added them: linking across directories, truncating.
ACCESS_BY_ABI = {2: 1 << 13, 3: 1 << 14}
FILE_ACCESS = WRITE_FILE | READ_FILE | ACCESS_BY_ABI[3]
#: Maximum bytes of one file that a confined program writes, and of an unpacked agent release.
MAX_CONFINED_BYTES = 1_000_000_000


class _Ruleset(ctypes.Structure):
    _fields_ = [("handled_access_fs", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def _load_libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def get_abi_version() -> int:
    """Return the kernel's Landlock ABI version; 0 without Landlock."""
    return max(0, int(_load_libc().syscall(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)))


def restrict_writes(writable_paths: Iterable[Path]) -> None:
    """Deny writing, creating and removing files from now on, except at some paths.

    Args:
        writable_paths: Files, and directories with everything below; symbolic links are ignored.

    Raises:
        OSError: If the kernel lacks Landlock; nothing is denied then.
    """
    known = get_abi_version()
    _restrict_access(
        writable_paths,
        WRITE_FILE | ENTRY_ACCESS | sum(bit for n, bit in ACCESS_BY_ABI.items() if n <= known),
    )


def _restrict_access(places: Iterable[Path], access: int) -> None:
    libc = _load_libc()
    rules = _Ruleset(access)
    ruleset = _check_result(
        libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    )
    try:
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                _add_rule(libc, ruleset, access, place)
        _check_result(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check_result(libc.syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _add_rule(libc: ctypes.CDLL, ruleset: int, access: int, place: Path) -> None:
    descriptor = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISLNK(mode):
            return
        allowed = access if stat.S_ISDIR(mode) else access & FILE_ACCESS
        beneath = _PathBeneath(allowed, descriptor)
        _check_result(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(beneath), 0))
    finally:
        os.close(descriptor)


def _check_result(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result


def deny_reads(directory: Path, required_paths: Iterable[Path] = ()) -> bool:
    """Give up the right to read files below a directory; return whether that was possible.

    File names and free space remain visible. It is not possible without Landlock or with ABI
    version 1, which prevents renaming between directories, or if a required path would be denied.

    Args:
        directory: The directory.
        required_paths: Directories that must stay readable; they need not exist yet.
    """
    if get_abi_version() < 2 or not directory.is_dir():
        return False
    for place in required_paths:
        if _is_denied(place, directory):
            logger.warning("files below %s can be read: %s is needed", directory, place)
            return False
    try:
        # Any ruleset that does not allow it denies linking and renaming across directories.
        _restrict_access(iter_paths_outside(directory), READ_FILE | ACCESS_BY_ABI[2])
    except OSError as error:
        logger.warning("files below %s can be read: %s", directory, error)
        return False
    return True


def _is_denied(place: Path, directory: Path) -> bool:
    """Return whether denying a directory would deny a path, too; reads the file system."""
    closed, place = directory.resolve(), place.resolve()
    there = next(path for path in (place, *place.parents) if path.exists())
    return there.is_relative_to(closed) or there in closed.parents


def iter_paths_outside(directory: Path) -> Iterator[Path]:
    """Yield all siblings of a directory and of its parents, but not the parents themselves.

    Allowing exactly these denies the directory, and new names beside its parents.
    """
    here = directory.resolve()
    for above in here.parents:
        with os.scandir(above) as items:
            yield from (Path(item.path) for item in items if item.name != here.name)
        here = above


def main() -> None:
    """Execute a program that may write below one directory only; the user was switched before.

    The arguments are that directory, then the program with its arguments.
    """
    directory, *argv = sys.argv[1:]
    with contextlib.suppress(OSError, ValueError):  # a unit may forbid it, or allow less
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_CONFINED_BYTES, MAX_CONFINED_BYTES))
    if get_abi_version() >= 2:
        restrict_writes([Path(os.devnull), Path(directory)])
    os.execv(argv[0], argv)  # noqa: S606 - it becomes the program


if __name__ == "__main__":
    main()
