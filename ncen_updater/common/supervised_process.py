"""Run a command that cannot outlive the agent, however the agent ends.

A small supervisor process, in a session of its own, runs between the agent and the command. Its
standard input is a socket whose other end only the agent holds. When the agent ends, the socket
closes, and the supervisor kills all processes that the command started. (The kernel's parent-death
signal would reach one process only, and also if merely a thread of the agent ends.) Processes that
left the process group or became daemons are included: the supervisor is a *subreaper*, so it
becomes the parent of orphaned processes. It kills only its own children, which no other process can
have reaped, so a PID cannot refer to another process.

A command may start a daemon and leave it running. The daemon is left alone once the agent was told
that the command succeeded (:attr:`AllowedLeftovers.DAEMONS`), and not before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Self

# Arguments of the supervisor: allowed leftovers, and a descriptor that only it holds, or -1.
_SUPERVISOR = """
import ctypes, os, select, signal, sys
left, kept, argv = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
me = os.getpid()
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
if kept >= 0:
    os.set_inheritable(kept, False)
wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(woken)

def children():
    try:
        with open(f"/proc/self/task/{me}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without this list
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{int(name)}/stat", "rb") as file:
                    if int(file.read().rsplit(b") ", 1)[1].split()[1]) == me:
                        found.append(int(name))
            except (OSError, ValueError):
                pass
        return found

def end_all():
    refused = set()
    while True:
        alive = [pid for pid in children() if pid not in refused]
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                refused.add(pid)
        for pid in alive:
            if pid not in refused:
                os.waitpid(pid, 0)

def tell(text):
    try:
        os.write(0, text.encode())
    except OSError:  # nobody is there any more who could look after what was started
        orphaned()

def orphaned():
    end_all()
    os.killpg(0, signal.SIGKILL)

signals = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD]
nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
try:
    command = os.posix_spawnp(
        argv[0], argv, os.environ, file_actions=[nothing], setsigdef=signals
    )
except OSError as error:
    tell(f"errno {error.errno}")
    os._exit(0)
poll = select.poll()
poll.register(0, select.POLLIN)
poll.register(wake, select.POLLIN)
code = None
while code is None:
    for descriptor, _ in poll.poll():
        if descriptor == 0:
            orphaned()
        os.read(wake, 512)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
if left == "nothing" or (left == "daemons" and code != 0):
    end_all()
tell(f"ended {code}")
os._exit(0)
"""

# Switches to another user for good, without capabilities, and executes the command.
_SWITCH_USER = """
import ctypes, os, sys
uid, gid, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
try:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if ctypes.CDLL(None, use_errno=True).prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    os.execv(argv[0], argv)
except OSError as error:
    sys.stderr.write(f"{argv[0]}: {error}")
    os._exit(126)
"""


class AllowedLeftovers(StrEnum):
    """Processes that may remain after a command has ended by itself."""

    NOTHING = "nothing"
    DAEMONS = "daemons"  # if it succeeded; if it failed, nothing remains
    ANYTHING = "anything"


class SupervisedProcess:
    """A command under its supervisor. As a context manager it leaves no process behind.

    Args:
        argv: Program and arguments, without a shell. A program without ``/`` is searched in the
            ``PATH`` of ``environment``.
        environment: All environment variables.
        allowed_leftovers: Processes that may remain after the command has ended by itself.
        cwd: Working directory.
        output: Destination of stdout and stderr.
        held_descriptor: A descriptor that the supervisor holds open while it runs, such as a
            lock.
        run_as: User and group id for the command, without further groups; the program must be an
            absolute path then. The supervisor keeps our user, so that the command cannot kill it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        allowed_leftovers: AllowedLeftovers,
        cwd: Path | str = "/",
        output: IO[bytes] | int,
        held_descriptor: int = -1,
        run_as: tuple[int, int] | None = None,
    ) -> None:
        self._program = argv[0]
        if run_as is not None:
            argv = [sys.executable, "-I", "-S", "-c", _SWITCH_USER, *map(str, run_as), *argv]
        self._left = allowed_leftovers
        self._status: int | None = None
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _SUPERVISOR,
                    allowed_leftovers,
                    str(held_descriptor),
                    *argv,
                ],
                cwd=cwd,
                env=dict(environment),
                stdin=theirs.fileno(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=() if held_descriptor < 0 else (held_descriptor,),
            )

    @property
    def stdout(self) -> IO[bytes] | None:
        """Return the pipe, if ``output`` was ``PIPE``."""
        return self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.terminate()

    def wait_for_exit(self, timeout_s: float) -> int | None:
        """Wait for the end of the command, not of its leftovers.

        Returns:
            Exit status, negative for a signal; None if the command is still running after the
            time-out.

        Raises:
            OSError: If it could not be started.
        """
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        if not ready.poll(timeout_s * 1000):
            return None
        word, _, number = self._socket.recv(100).decode("ascii").partition(" ")
        if word == "errno":
            raise OSError(int(number), os.strerror(int(number)), self._program)
        # Without a message the supervisor was killed; treat the command as killed, too.
        self._status = int(number) if word == "ended" else -signal.SIGKILL
        return self._status

    def terminate(self) -> None:
        """Kill processes that may not remain, and return when they have ended."""
        self._socket.close()
        # Reaped only after its group was killed, so that the PID still refers to that group.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        lives_on = self._left is not AllowedLeftovers.NOTHING and self._status is not None
        if not lives_on or (self._left is AllowedLeftovers.DAEMONS and self._status != 0):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def try_lock(descriptor: int) -> bool:
    """Lock a file that a supervisor may hold; return whether it was free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
