"""Find and end processes of a service from outside, like an operator or systemd."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support import workers


def is_application(pid: int) -> bool:
    """Return whether a process belongs to the application, or has ended."""
    try:
        return b"ncen_updater" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def ours_below(pid: int) -> list[int]:
    """Return all descendants of a process except the application."""
    found, todo = [], [pid]
    while todo:
        mine = [child for child in _children(todo.pop()) if not is_application(child)]
        found += mine
        todo += mine
    return found


def stop(pid: int) -> list[int]:
    """Send SIGSTOP to a process and its descendants, parents first; return them."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.kill(parent, signal.SIGSTOP)
            todo += [child for child in _children(parent) if not is_application(child)]
            found.append(parent)
    return found[1:]


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL to processes; return when all have ended."""
    ends = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            ends.append((pid, os.pidfd_open(pid)))
            signal.pidfd_send_signal(ends[-1][1], signal.SIGKILL)
    for pid, end in ends:
        select.select([end], [], [])
        os.close(end)
        workers.gone(pid)


def with_variable(mark: str) -> Iterator[tuple[int, list[str]]]:
    """Yield pid and arguments of each process that inherited a variable, ``NAME=value``."""
    wanted = os.fsencode(mark)
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if wanted in (one / "environ").read_bytes().split(b"\0"):
                yield int(one.name), (one / "cmdline").read_bytes().decode().split("\0")


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except OSError:
        return []
    fork = workers.behind(pid)
    return [*map(int, listed), *([] if fork is None else [fork])]
