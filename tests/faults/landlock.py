"""Makes the file system read-only for this process and its children, as a failing disk does.

Linux refuses to write where a Landlock ruleset handles writing and allows no place
(https://docs.kernel.org/userspace-api/landlock.html). Works without privileges; other processes,
the database server above all, go on writing.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["available", "forbid_writing"]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PR_SET_NO_NEW_PRIVS = 38
LANDLOCK_CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
WRITE_FILE = 1 << 1
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))


class _Ruleset(ctypes.Structure):
    _fields_ = [("handled_access_fs", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether the kernel knows Landlock."""
    return int(_libc().syscall(CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)) >= 1


def forbid_writing() -> None:
    """Refuse every opening for writing, making and removing from now on, except below /dev."""
    libc = _libc()
    access = WRITE_FILE | REMOVE_AND_MAKE
    rules = _Ruleset(access)
    descriptor = libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    devices = os.open("/dev", os.O_PATH)
    beneath = _PathBeneath(WRITE_FILE, devices)
    steps = (
        descriptor,
        libc.syscall(ADD_RULE, descriptor, RULE_PATH_BENEATH, ctypes.byref(beneath), 0),
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        libc.syscall(RESTRICT_SELF, descriptor, 0),
    )
    if min(steps) < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
