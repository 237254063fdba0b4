"""Programs in processes of their own that do not import what they need each: one that has, forks.

A short command of the agent is a twentieth of a second of work and half a second of importing. A
fork has an environment, a directory and standard streams of its own, and is killed like any other
process; so have the workers that a fork of the agent asks (:mod:`tests.support.workers`). What an
interpreter decides as it starts (the encoding, how streams are buffered) it has from the one that
forks: for terminals, closed streams and other locales take an interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
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

# After this a process stands still. Nothing is judged by it: a loaded machine may take its time.
DEADLINE_S = 900
MOST_BYTES = 1 << 17
ROOT = Path(__file__).resolve().parents[2]
AGENT = "ncen_updater.agent.cli.main"
PUBLISHER = "ncen_updater.publisher.cli.main"
# Modules that the agent imports late. (Commands of the publisher name theirs.)
HEAVY = (
    "ncen_updater.agent.adapters.databases.migrations.runner",
    "ncen_updater.agent.adapters.databases.postgresql.engine",
    "ncen_updater.agent.adapters.databases.sqlite.engine",
    "ncen_updater.agent.engine.site_preflight",
    "ncen_updater.agent.service.assessment",
    "ncen_updater.agent.service.serve",
    "ncen_updater.feed.tuf_client",
    "ncen_updater.feed.http_fetcher",
    "ncen_updater.feed.tuf_source",
)


class Fork:
    """A process that was started.

    Attributes:
        pid: Its number.
    """

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._status: int | None = None
        self.pid = self._number()

    def wait(self, limit_s: float = DEADLINE_S) -> int:
        """Its exit status; once it has ended."""
        if self._status is None:
            self._told.settimeout(limit_s)
            self._status = self._number()
            self._told.close()
        return self._status

    def poll(self) -> int | None:
        """Its exit status; None as long as it is at work."""
        ready = self._status is not None or select.select([self._told], [], [], 0)[0]
        return self.wait() if ready else None

    def kill(self) -> None:
        """SIGKILL it."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _number(self) -> int:
        answer = self._told.recv(64)
        if not answer:
            raise ChildProcessError("the process that forks is gone")
        return int(answer)


class Forks:
    """An interpreter that has imported a program, and forks for each order.

    Args:
        program: The module.
        function: Takes the arguments and returns the exit status.
        environment: Of the interpreter; ours by default.
        workers: Listening socket for callers that want a worker forked, too.
    """

    def __init__(
        self,
        program: str,
        function: str = "main",
        environment: Mapping[str, str] | None = None,
        workers: socket.socket | None = None,
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = [] if workers is None else [workers.fileno()]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, program, function, *map(str, passed)],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, cwd=ROOT, env=environment,
                pass_fds=passed,
            )  # fmt: skip
        self._orders = ours
        self._orders.settimeout(DEADLINE_S)

    def close(self) -> None:
        """End it; the processes that it started continue."""
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
            words: Arguments of the program.
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
    if _may_be_forked(environment):
        return _agent()[0].run(words, environment, limit_s)
    return subprocess.run(
        [sys.executable, "-m", AGENT, *words],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=limit_s, check=False,
    )  # fmt: skip


def begin_agent(
    *words: str, environment: Mapping[str, str], log: int, session: bool = False
) -> Fork | subprocess.Popen[bytes]:
    """Begin a command of the agent with no terminal.

    Args:
        words: Its arguments.
        environment: All its variables.
        log: Where both its streams go.
        session: Whether it has a session of its own.
    """
    with Path(os.devnull).open() as nothing:
        if _may_be_forked(environment):
            streams = (nothing.fileno(), log, log)
            return _agent()[0].start(words, streams, environment, session=session)
        return subprocess.Popen(
            [sys.executable, "-m", AGENT, *words],
            stdin=nothing, stdout=log, stderr=log, env=environment, start_new_session=session,
        )  # fmt: skip


def _may_be_forked(environment: Mapping[str, str]) -> bool:
    # The languages that there are belong to the options, which are made once, in the import.
    return environment.get("LANG") == "C.UTF-8" and not any(
        name.startswith(("COVERAGE_", "LC_", "NCEN_LOCALE_DIR")) for name in environment
    )


def run_publisher(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the publisher in English with no terminal, to its end."""
    return _publisher().run(words, _environment())


def workers_place() -> str:
    """Where a worker is forked for each connection (:mod:`tests.support.workers`)."""
    return _agent()[1]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8"}


@functools.cache
def _agent() -> tuple[Forks, str]:
    name = str(Path(tempfile.mkdtemp(prefix="nu-w-")) / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as workers:
        workers.bind(name)
        workers.listen(64)
        forks = Forks(AGENT, "run", _environment(), workers)
    atexit.register(forks.close)
    return forks, name


@functools.cache
def _publisher() -> Forks:
    forks = Forks(PUBLISHER, "run", _environment())
    atexit.register(forks.close)
    return forks


# ---- in the process that forks -------------------------------------------------------------------


def _answer(program: Callable[[list[str]], int], order: str, files: list[int]) -> None:
    """Start the process, report its pid, wait for it and report its status. Does not return."""
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
    """Do in a fork the work of an interpreter of its own. Does not return.

    Args:
        program: The function that it runs.
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
    if sys.argv[1] != PUBLISHER:
        import_module("ncen_updater.feed").block_unused_imports()
        for name in HEAVY:
            import_module(name)
    module = import_module(sys.argv[1])
    for name, _ in getattr(module, "COMMANDS", {}).values():
        import_module(name)
    program = getattr(module, sys.argv[2])
    gc.freeze()  # frozen objects are not copied by a fork
    gc.set_threshold(50_000, 20, 20)  # short commands end before there is anything to find
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it reaps no children
    for number in map(int, sys.argv[3:]):
        import_module("tests.support.workers").begin(number)
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
