"""SIGKILL before or after the n-th system call of any process, by ptrace.

The process is seized when the count begins, so it runs at full speed until then. The calls of one
thread are counted; all threads are killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from pathlib import Path

PTRACE_CONT, PTRACE_DETACH, PTRACE_SYSCALL = 7, 17, 24
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
O_TRACESYSGOOD = 1
WALL = 0x40000000
SYSCALL_STOP = signal.SIGTRAP | 0x80
EVENT_STOP = 128
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def read_state(pid: int) -> str:
    """Return the state letter of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""


def wait_stopped(pid: int, seconds: float = 60.0) -> bool:
    """Wait until a process that stops itself has stopped.

    A traced process stops at every system call, so it may have to continue before its own stop.
    """
    deadline = time.monotonic() + seconds
    while (state := read_state(pid)) not in ("T", "t"):
        if state in ("", "Z") or time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def descendants(pid: int) -> list[int]:
    """Return the descendants of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    found += [int(child), *descendants(int(child))]
    return found


def _ptrace(request: int, pid: int, data: int = 0) -> bool:
    return bool(_libc.ptrace(request, pid, None, data) == 0)


def _wait(pid: int, deadline: float) -> int | None:
    while time.monotonic() < deadline:
        try:
            found, status = os.waitpid(pid, os.WNOHANG | WALL)
        except ChildProcessError:
            return None
        if found:
            return status
        time.sleep(0.0002)
    return None


def kill_at_call(
    pid: int,
    number: int,
    *,
    after: bool,
    seconds: float = 4.0,
    wake: bool = False,
    seized: threading.Event | None = None,
) -> str:
    """Count system calls from now on, and kill the process at one of them.

    Args:
        pid: The process.
        number: Number of the call, from 1.
        after: Whether the call is completed before the process is killed.
        seconds: Time limit; after it the process is released.
        wake: Whether the process is stopped and continues after it was seized.
        seized: Set once the count has begun.

    Returns:
        ``struck``, or why it was not killed.
    """
    if not _ptrace(PTRACE_SEIZE, pid, O_TRACESYSGOOD):
        return "it was gone"
    _ptrace(PTRACE_INTERRUPT, pid)
    if wake:
        os.kill(pid, signal.SIGCONT)
    if seized is not None:
        seized.set()
    deadline = time.monotonic() + seconds
    calls, inside = 0, False
    while True:
        status = _wait(pid, deadline)
        if status is None:
            return _detach(pid)
        if not os.WIFSTOPPED(status):
            return "it had ended"
        stop = os.WSTOPSIG(status)
        deliver = 0
        if stop == SYSCALL_STOP:
            inside = not inside
            calls += inside
            if calls >= number and inside is not after:
                return _kill(pid)
        elif status >> 16 != EVENT_STOP:
            deliver = stop
        if not _ptrace(PTRACE_SYSCALL, pid, deliver):
            return "it was gone"


def _kill(pid: int) -> str:
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, WALL)
    return "struck"


def _detach(pid: int) -> str:
    """Detach from a process that waits in a system call."""
    _ptrace(PTRACE_INTERRUPT, pid)
    if _wait(pid, time.monotonic() + 1.0) is not None:
        _ptrace(PTRACE_DETACH, pid)
    # Its own stop may have arrived after the waiting process mistook one of the tracer's for it.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    return "too few calls"
