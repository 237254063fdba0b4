"""Run one command to its end: its own session, a deadline, and a bounded tail of what it said.

Processes that the command starts may live on. The output goes to an unnamed file and not to a pipe,
so that a daemon that inherited it neither delays the agent nor dies of a broken pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from ncen_updater.common.supervised_process import AllowedLeftovers, SupervisedProcess

TAIL_BYTES = 4_000
INHERITED_VARIABLES = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_RUNTIME_DIR",
)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    Attributes:
        status: Exit status; negative for a signal; None when it was killed at its deadline.
        output: The end of what it wrote, both streams together.
    """

    status: int | None
    output: str


def build_minimal_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a command inherits: where programs are, who we are, language and time zone.

    Args:
        environment: Variables to take from; the process's own by default.
    """
    own = os.environ if environment is None else environment
    return {
        "PATH": DEFAULT_PATH,
        **{name: own[name] for name in INHERITED_VARIABLES if name in own},
    }


def run_command(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> CommandResult:
    """Run a command in a session of its own and wait for it, not for what it starts.

    Args:
        argv: Program and arguments; no shell.
        environment: All variables.
        timeout_s: Seconds after which its whole process group is killed.

    Raises:
        OSError: If it cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            close_fds=True,
        )
        try:
            status = process.wait() if _ends_in_time(process, timeout_s) else None
        except BaseException:
            _kill_group(process)
            raise
        if status is None:
            _kill_group(process)
        return CommandResult(status, _read_tail(output))


def _ends_in_time(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for the end of a process, without looking again and again."""
    ended = os.pidfd_open(process.pid)
    try:
        watch = select.poll()
        watch.register(ended, select.POLLIN)
        return bool(watch.poll(timeout_s * 1000))
    finally:
        os.close(ended)


def run_supervised(
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    *,
    leftovers: AllowedLeftovers,
    lock_fd: int = -1,
    become: tuple[int, int] | None = None,
) -> CommandResult:
    """Run a command that changes something; it ends when we end, with all that came of it.

    Args:
        argv: Program and arguments; no shell.
        environment: All variables.
        timeout_s: Seconds after which all of it is killed.
        leftovers: What may be left of it when it ended by itself.
        lock_fd: A descriptor that is held open as long as anything of it is at work.
        become: User and group that it has instead of ours; its program is an absolute path then.

    Raises:
        OSError: If it cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        with SupervisedProcess(
            argv,
            environment,
            allowed_leftovers=leftovers,
            output=output,
            held_descriptor=lock_fd,
            run_as=become,
        ) as command:
            status = command.wait_for_exit(timeout_s)
        return CommandResult(status, _read_tail(output))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The leader has not been waited for, so the number still stands for its group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_tail(output: IO[bytes]) -> str:
    size = os.fstat(output.fileno()).st_size
    content = os.pread(output.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    return content.decode("utf-8", "replace").strip()
