"""Operations in processes of their own that do not import the program each: one that has, forks.

An operation takes a second of the processor, and half of that is importing. A fork has a session of
its own and is struck and killed like any other process. Random kills have an interpreter each
(:meth:`tests.faults.trial.Trial.start`).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Self

__all__ = ["DEADLINE_S", "Nursery"]

# After this a process stands still. Nothing is judged by it: a loaded machine may take its time.
DEADLINE_S = 900
MOST_BYTES = 65536
# What an operation imports while it works.
HEAVY = (
    "ncen_updater.agent.databases.migrations.runner",
    "ncen_updater.agent.databases.postgresql.engine",
    "ncen_updater.agent.databases.sqlite.engine",
    "ncen_updater.agent.preflight.registry",
    "ncen_updater.feed.client",
)


class Nursery:
    """Runs one operation after the other, each in a new process.

    Args:
        program: The module whose ``main`` a fork runs.
    """

    def __init__(self, program: str = "tests.faults.worker") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, program],
                stdin=theirs.fileno(),
                cwd=Path(__file__).parents[2],
            )
        self._socket = ours
        self._socket.settimeout(DEADLINE_S)
        self._pid = 0
        self.returncode = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait(DEADLINE_S)

    def run(self, argv: Sequence[str]) -> Iterator[str]:
        """The lines that the program prints; then :attr:`returncode` is known."""
        read, write = os.pipe()
        with os.fdopen(read, encoding="utf-8") as lines:
            try:
                socket.send_fds(self._socket, [json.dumps(list(argv)).encode()], [write])
            finally:
                os.close(write)
            self._pid = self._number()
            yield from lines
        self.returncode = self._number()

    @property
    def pid(self) -> int:
        """Of the process that is at work, or was last."""
        return self._pid

    def kill(self) -> None:
        """SIGKILL the process that is at work."""
        os.kill(self._pid, signal.SIGKILL)

    def _number(self) -> int:
        answer = self._socket.recv(MOST_BYTES)
        if not answer:
            raise ChildProcessError("the process that forks is gone")
        return int(answer)


def _work(program: Callable[[list[str]], int], argv: Sequence[str], output: int) -> None:
    """In the fork: what an interpreter of its own would do. Does not return."""
    status = 1
    try:
        os.setsid()
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        status = program(list(argv))
    except Exception:  # noqa: BLE001 - as an interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Fork for each order that comes through standard input, until that is closed."""
    for name in HEAVY:
        import_module(name)
    program = import_module(sys.argv[1]).main
    with socket.socket(fileno=os.dup(0)) as orders:
        while True:
            order, files, _, _ = socket.recv_fds(orders, MOST_BYTES, 1)
            if not order:
                return
            if threading.active_count() > 1:
                raise RuntimeError("a process with threads cannot be forked")
            pid = os.fork()
            if pid == 0:
                orders.close()
                _work(program, json.loads(order), files[0])
            os.close(files[0])
            orders.send(str(pid).encode())
            _, status = os.waitpid(pid, 0)
            orders.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    main()
