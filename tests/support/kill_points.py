"""Kill a process with SIGKILL immediately before its n-th change to the disk."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _changes(event: str, arguments: tuple[object, ...]) -> bool:
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    return event in CHANGES or bool(writes)


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run an action in a forked process that is killed before its n-th change to the disk.

    Returns:
        False if the action ended before.
    """
    child = os.fork()
    if child == 0:
        _be_killed(number, action)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the action failed by itself; its trace is above"
    return False


def changes_of(action: Callable[[], object]) -> int:
    """Run an action in a forked process; return the number of its changes to the disk."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal made
            made += _changes(event, arguments)

        try:
            sys.addaudithook(count)
            action()
            os.write(writer, str(made).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        counted = stream.read()
    os.waitpid(child, 0)
    assert counted, "the action failed by itself"
    return int(counted)


def instants(last: int, close: int, stride: int) -> list[int]:
    """Return every ``stride``-th change, and each of the last ``close`` ones."""
    return [n for n in range(1, last + 1) if n > last - close or n % stride == 0]


def _be_killed(number: int, action: Callable[[], object]) -> None:
    left = number

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if _changes(event, arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        action()
    except BaseException:  # noqa: BLE001 - it must not go on as the trial itself
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
