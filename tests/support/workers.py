"""Workers that are forked by an interpreter which has imported them, and not started.

To start one takes half a second of importing, and what it does a twentieth. It is a process of its
own as ever: with the descriptors, variables and directory that it was given, and it ends with who
asked. What is judged about starting, rights and limits has an interpreter of its own, and so have
workers that become another user.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ncen_updater.common.workers import Worker
from tests.support.forks import work

__all__ = ["READER", "forked", "place"]

READER = "ncen_updater.agent.reader.worker"
# What it imports while it works.
HEAVY = ("ncen_updater.feed.tuf_source", "ncen_updater.feed.http", "ncen_updater.feed.client")
ROOT = Path(__file__).resolve().parents[2]
HANDS_OVER = Path(__file__).with_name("forked_worker.py")
MOST_BYTES, MOST_FILES = 1 << 17, 64
# Above all descriptors that a worker is given.
ABOVE = 200


@functools.cache
def place() -> str:
    """Where the one of this process waits that forks; begun when it is first asked for."""
    name = str(Path(tempfile.mkdtemp(prefix="nu-w-")) / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waits:
        waits.bind(name)
        waits.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=waits.fileno(), stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )  # fmt: skip
    atexit.register(process.kill)
    return name


def forked(where: str) -> Callable[[Worker], list[str]]:
    """What :meth:`Worker.command` is where workers are forked."""
    started = Worker.command

    def command(worker: Worker) -> list[str]:
        if worker.module != READER or worker.owner is not None:
            return started(worker)
        return [sys.executable, "-I", "-S", str(HANDS_OVER), where, READER, *worker.arguments]

    return command


# ---- in the process that forks -------------------------------------------------------------------


def _answer(other: socket.socket) -> None:
    """Begin a worker, and tell how it ended; it ends where nobody waits. Does not return."""
    told, files, _, _ = socket.recv_fds(other, MOST_BYTES, MOST_FILES)
    directory, given, count, *rest = told.decode().split("\0")
    words, variables = rest[: int(count)], rest[int(count) :]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        other.close()
        above = [fcntl.fcntl(file, fcntl.F_DUPFD, ABOVE) for file in files]
        for file in files:
            os.close(file)
        streams = dict(zip(map(int, given.split()), above, strict=True))
        sys.argv = words
        environment = dict(variable.split("=", 1) for variable in variables)
        program = import_module(words[0]).main
        work(program, streams, environment, directory, session=True)
    for file in files:
        os.close(file)
    ends = os.pidfd_open(pid)
    watched: list[socket.socket | int] = [other, ends]
    if other in select.select(watched, [], [])[0]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        other.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


@functools.cache
def _import() -> None:
    import_module(READER).leave_out()
    for name in HEAVY:
        import_module(name)
    gc.freeze()  # what is never collected is never copied by a fork


def main() -> None:
    """Fork for everyone who comes; what they need is imported for the first one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as waits:
        while True:
            other, _ = waits.accept()
            _import()
            with other:
                if os.fork() == 0:
                    waits.close()
                    _answer(other)


if __name__ == "__main__":
    main()
