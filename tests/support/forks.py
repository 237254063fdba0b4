"""Programs in processes of their own that do not import what they need each: one that has, forks.

A short command of the agent is a twentieth of a second of work and half a second of importing. A
fork has an environment, a directory and standard streams of its own, and is killed like any other
process. What an interpreter decides as it starts (the encoding, how streams are buffered) it has
from the one that forks: for terminals, closed streams and other locales take an interpreter.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

__all__ = [
    "AGENT",
    "DEADLINE_S",
    "PUBLISHER",
    "Fork",
    "Forks",
    "run_agent",
    "run_publisher",
    "work",
]

# After this a process stands still. Nothing is judged by it: a loaded machine may take its time.
DEADLINE_S = 900
MOST_BYTES = 1 << 17
ROOT = Path(__file__).resolve().parents[2]
AGENT = "ncen_updater.agent.cli.main"
PUBLISHER = "ncen_updater.publisher.cli.main"
# What the agent imports while it works. (The publisher names in its commands what it needs.)
HEAVY = (
    "ncen_updater.agent.databases.migrations.runner",
    "ncen_updater.agent.databases.postgresql.engine",
    "ncen_updater.agent.databases.sqlite.engine",
    "ncen_updater.agent.preflight.registry",
    "ncen_updater.feed.client",
)


class Fork:
    """A process that was begun.

    Attributes:
        pid: Its number.
    """

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self.pid = self._number()

    def wait(self, limit_s: float = DEADLINE_S) -> int:
        """Its exit status; once it has ended."""
        self._told.settimeout(limit_s)
        with self._told:
            return self._number()

    def kill(self) -> None:
        """SIGKILL it."""
        os.kill(self.pid, signal.SIGKILL)

    def _number(self) -> int:
        answer = self._told.recv(64)
        if not answer:
            raise ChildProcessError("the process that forks is gone")
        return int(answer)


class Forks:
    """An interpreter that has imported a program, and forks for each order.

    Args:
        program: The module.
        function: What of it takes the words and returns the exit status.
        environment: Of the interpreter; ours by default.
    """

    def __init__(
        self,
        program: str,
        function: str = "main",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, program, function],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd=ROOT, env=environment,
            )  # fmt: skip
        self._orders = ours
        self._orders.settimeout(DEADLINE_S)

    def close(self) -> None:
        """End it; what it began goes on."""
        self._orders.close()
        self._process.wait(DEADLINE_S)

    def start(
        self,
        words: Sequence[str],
        streams: tuple[int, int, int],
        environment: Mapping[str, str] | None = None,
        *,
        session: bool = False,
    ) -> Fork:
        """Begin a process.

        Args:
            words: For the program.
            streams: Its standard streams; they stay open here.
            environment: All its variables; those of the one that forks by default.
            session: Whether it has a session of its own.
        """
        directory = None if environment is None else str(Path.cwd())
        variables = None if environment is None else dict(environment)
        order = json.dumps([list(words), variables, directory, session])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(DEADLINE_S)
        with theirs:
            socket.send_fds(self._orders, [order.encode()], [theirs.fileno(), *streams])
        return Fork(ours)

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], limit_s: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, with nothing to read."""
        with (
            Path(os.devnull).open() as nothing,
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        ):
            streams = (nothing.fileno(), out.fileno(), err.fileno())
            fork = self.start(words, streams, environment)
            try:
                status = fork.wait(limit_s)
            except TimeoutError:
                fork.kill()
                raise
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(list(words), status, out.read(), err.read())


def run_agent(
    *words: str, environment: Mapping[str, str], limit_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Run a command of the agent with no terminal, to its end."""
    # The languages that there are belong to the options, which are made once, in the import.
    if environment.get("LANG") == "C.UTF-8" and not any(
        name.startswith(("COVERAGE_", "LC_", "NCEN_LOCALE_DIR")) for name in environment
    ):
        return _forks(AGENT).run(words, environment, limit_s)
    return subprocess.run(
        [sys.executable, "-m", AGENT, *words],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=limit_s, check=False,
    )  # fmt: skip


def run_publisher(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the publisher in English with no terminal, to its end."""
    return _forks(PUBLISHER).run(words, _environment())


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8"}


@functools.cache
def _forks(program: str) -> Forks:
    forks = Forks(program, "run", _environment())
    atexit.register(forks.close)
    return forks


# ---- in the process that forks -------------------------------------------------------------------


def _answer(program: Callable[[list[str]], int], order: str, files: list[int]) -> None:
    """Begin the process, tell its number, wait for it and tell its status. Does not return."""
    words, environment, directory, session = json.loads(order)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told, *streams = files
    pid = os.fork()
    if pid == 0:
        os.close(told)
        begun = functools.partial(program, words)
        work(begun, dict(enumerate(streams)), environment, directory, session=session)
    for stream in streams:
        os.close(stream)
    with socket.socket(fileno=told) as channel:
        channel.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        channel.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def work(
    program: Callable[[], int],
    streams: Mapping[int, int],
    environment: dict[str, str] | None,
    directory: str | None,
    *,
    session: bool,
) -> None:
    """Do in a fork what an interpreter of its own would do. Does not return.

    Args:
        program: What it does.
        streams: Which descriptor becomes which of its own.
        environment: All its variables; those of the one that forked by default.
        directory: Where it works.
        session: Whether it has a session of its own.
    """
    status = 1
    try:
        if session:
            os.setsid()
        for standard, stream in streams.items():
            os.dup2(stream, standard)
            os.close(stream)
        if directory is not None:
            os.chdir(directory)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
            tempfile.tempdir = None
            time.tzset()
        status = program()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except Exception:  # noqa: BLE001 - as an interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Fork for each order that comes through standard input, until that is closed."""
    for name in HEAVY if sys.argv[1] != PUBLISHER else ():
        import_module(name)
    module = import_module(sys.argv[1])
    for name, _ in getattr(module, "COMMANDS", {}).values():
        import_module(name)
    program = getattr(module, sys.argv[2])
    gc.freeze()  # what is never collected is never copied by a fork
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for orders waits for nobody
    with socket.socket(fileno=os.dup(0)) as orders:
        while True:
            order, files, _, _ = socket.recv_fds(orders, MOST_BYTES, 4)
            if not order:
                return
            if threading.active_count() > 1:
                raise RuntimeError("a process with threads cannot be forked")
            if os.fork() == 0:
                orders.close()
                _answer(program, order.decode(), files)
            for file in files:
                os.close(file)


if __name__ == "__main__":
    main()
