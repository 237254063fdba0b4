"""Run programs as forks of an interpreter that has already imported them.

A short command of the agent takes a twentieth of a second, but its imports take half a second. A
fork has its own environment, directory and standard streams, and is killed like any other process;
so are the workers that a fork of the agent starts (:mod:`tests.support.workers`). Settings that an
interpreter makes at start-up (encoding, buffering of streams) come from the forking interpreter:
tests of terminals, closed streams and other locales need a real interpreter.
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

# A process without progress after this time is hung. Generous, for loaded machines.
DEADLINE_S = 900
MOST_BYTES = 1 << 17
ROOT = Path(__file__).resolve().parents[2]
AGENT = "ncen_updater.agent.cli.main"
PUBLISHER = "ncen_updater.publisher.cli.main"
# Modules that the agent imports late. (Commands of the publisher name their own.)
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
    """A started process.

    Attributes:
        pid: Its process id.
    """

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._status: int | None = None
        self.pid = self._number()

    def wait(self, limit_s: float = DEADLINE_S) -> int:
        """Wait for its end; return its exit status."""
        if self._status is None:
            self._told.settimeout(limit_s)
            self._status = self._number()
            self._told.close()
        return self._status

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        ready = self._status is not None or select.select([self._told], [], [], 0)[0]
        return self.wait() if ready else None

    def kill(self) -> None:
        """SIGKILL it."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _number(self) -> int:
        answer = self._told.recv(64)
        if not answer:
            raise ChildProcessError("the process that forks is gone")
        return int(answer)


class Forks:
    """Interpreter that has imported a program, and forks for each request.

    Args:
        program: The module.
        function: Takes the arguments and returns the exit status.
        environment: Environment of the interpreter; the current one by default.
        workers: Listening socket for requests of forked workers.
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
        """End the interpreter; processes that it started continue."""
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
        """Start a process.

        Args:
            words: Arguments of the program.
            streams: Its standard streams; they remain open in this process.
            environment: Its whole environment; that of the forking process by default.
            session: Whether it starts a new session.
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
        """Run a process to its end, with empty standard input."""
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
    """Run a command of the agent to its end, without a terminal."""
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
    """Start a command of the agent without a terminal.

    Args:
        words: Its arguments.
        environment: Its whole environment.
        log: Descriptor for its standard output and standard error.
        session: Whether it starts a new session.
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
    # The choice of languages is an option, created once at the import.
    return environment.get("LANG") == "C.UTF-8" and not any(
        name.startswith(("COVERAGE_", "LC_", "NCEN_LOCALE_DIR")) for name in environment
    )


def run_publisher(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the publisher to its end, in English and without a terminal."""
    return _publisher().run(words, _environment())


def workers_place() -> str:
    """Return the socket that forks a worker for each connection (:mod:`tests.support.workers`)."""
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
    """Run a program in a fork like in an interpreter of its own. Does not return.

    Args:
        program: Function to run.
        streams: Maps descriptors to those of the fork.
        environment: Its whole environment; that of the forking process by default.
        directory: Working directory.
        session: Whether it starts a new session.
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
    """Fork for each request on standard input, until it is closed."""
    if sys.argv[1] != PUBLISHER:
        import_module("ncen_updater.feed").prepare_process()
        for name in HEAVY:
            import_module(name)
        import_module("tests.support.setup_sessions").begin()
    module = import_module(sys.argv[1])
    for name, _ in getattr(module, "COMMANDS", {}).values():
        import_module(name)
    program = getattr(module, sys.argv[2])
    gc.freeze()  # frozen objects are not copied by a fork
    gc.set_threshold(50_000, 20, 20)  # short commands end before a collection is useful
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children need not be waited for
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
