"""Workers as forks of an interpreter that has already imported them.

Starting a worker takes half a second for imports, but its task a twentieth. A fork is a process of
its own with the given descriptors, environment, directory and limit, and ends with its caller.
Tests of start-up and rights use a real interpreter, and so do workers that change their user.

:mod:`tests.support.forked_worker` replaces the interpreter; the fork works for it. After one of
them is killed, :func:`gone` waits until the other has ended, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from ncen_updater.common.workers import Worker
from tests.support.forks import DEADLINE_S, work, workers_place

#: Modules that are forked, with their late imports.
FORKED = (
    "ncen_updater.agent.service.notifications.send_worker",
    "ncen_updater.agent.adapters.feed_reader.worker",
    "ncen_updater.agent.cli.worker",
)
HANDS_OVER = Path(__file__).with_name("forked_worker.py")
MOST_BYTES, MOST_FILES = 1 << 17, 64
# Higher than all descriptors given to a worker.
ABOVE = 200


def forked(where: str) -> Callable[[Worker], list[str]]:
    """Replace :meth:`Worker.build_command` by a command that lets workers be forked."""
    started = Worker.build_command

    def command(worker: Worker) -> list[str]:
        if worker.module not in FORKED or worker.owner is not None:
            return started(worker)
        return [
            sys.executable,
            "-I",
            "-S",
            str(HANDS_OVER),
            where,
            worker.module,
            *worker.arguments,
        ]

    return command


def behind(pid: int) -> int | None:
    """Return the fork of a replacement process; None if there is none."""
    try:
        return int(_note(pid).read_text("ascii"))
    except (OSError, ValueError):
        return None


def gone(pid: int) -> None:
    """Wait until the fork of a killed replacement process has ended."""
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.suppress(FileNotFoundError), _note(pid).open("rb") as note:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.005)  # interval of polling
        raise TimeoutError("it goes on")


def _note(pid: int) -> Path:
    return Path(workers_place()).with_name(str(pid))


# ---- in the process that forks -------------------------------------------------------------------


def begin(number: int) -> None:
    """Listen at a socket in a fork of this process, and fork the workers of this process there."""
    for name in FORKED:
        import_module(name)
    with socket.socket(fileno=number) as waits:
        Worker.build_command = forked(waits.getsockname())  # type: ignore[assignment, method-assign]
        parent = os.pidfd_open(os.getpid())
        if os.fork() == 0:
            _wait(waits, parent)
        os.close(parent)


def _wait(waits: socket.socket, parent: int) -> NoReturn:
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)  # in place of the parent's sockets
    watched: list[socket.socket | int] = [waits, parent]
    while waits in select.select(watched, [], [])[0]:
        other, _ = waits.accept()
        with other:
            if os.fork() == 0:
                waits.close()
                os.close(parent)
                _answer(other)
    os._exit(0)


def _answer(other: socket.socket) -> NoReturn:
    """Start a worker, and report how it ended; end it if the caller ends."""
    told, (note, *files), _, _ = socket.recv_fds(other, MOST_BYTES, MOST_FILES)
    stands_in, directory, given, count, *rest = told.decode().split("\0")
    words, variables = rest[: int(count)], rest[int(count) :]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        other.close()
        os.close(note)
        above = [fcntl.fcntl(file, fcntl.F_DUPFD, ABOVE) for file in files]
        for file in files:
            os.close(file)
        streams = dict(zip(map(int, given.split()), above, strict=True))
        sys.argv = words
        environment = dict(variable.split("=", 1) for variable in variables)
        program = import_module(words[0]).main

        def limited() -> int:
            """Wait for the task, copy the file size limit of the replaced process, and run."""
            select.select([0], [], [])
            limits = resource.prlimit(int(stands_in), resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            return int(program())

        work(limited, streams, environment, directory, session=True)
    for file in files:
        os.close(file)
    os.write(note, str(pid).encode())
    ends = os.pidfd_open(pid)
    watched: list[socket.socket | int] = [other, ends]
    if other in select.select(watched, [], [])[0]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    Path(other.getsockname()).with_name(stands_in).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        other.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)
