"""Run a command in its own session, with a deadline and a limited tail of its output.

Processes that the command starts may continue. The output goes to an unnamed file, not to a pipe,
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
    """Result of a command.

    Attributes:
        status: Exit status; negative for a signal; None if it was killed at its deadline.
        output: The end of its output, both streams together.
    """

    status: int | None
    output: str


def build_minimal_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the minimal environment of a command: PATH, user, locale and time zone.

    Args:
        environment: Variables to take from; those of this process by default.
    """
    own = os.environ if environment is None else environment
    return {
        "PATH": DEFAULT_PATH,
        **{name: own[name] for name in INHERITED_VARIABLES if name in own},
    }


def run_command(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> CommandResult:
    """Run a command in its own session and wait for it, but not for the processes it starts.

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
    """Wait for the end of a process, without polling."""
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
    run_as: tuple[int, int] | None = None,
) -> CommandResult:
    """Run a command with effects; if this process ends, all processes of the command end, too.

    Args:
        argv: Program and arguments; no shell.
        environment: All variables.
        timeout_s: Seconds after which all its processes are killed.
        leftovers: Processes that may remain when it ends on its own.
        lock_fd: A descriptor that stays open as long as any of its processes runs.
        run_as: User and group as which it runs; its program must then be an absolute path.

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
            run_as=run_as,
        ) as command:
            status = command.wait_for_exit(timeout_s)
        return CommandResult(status, _read_tail(output))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The leader has not been waited for, so its pid still identifies the group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_tail(output: IO[bytes]) -> str:
    size = os.fstat(output.fileno()).st_size
    content = os.pread(output.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    return content.decode("utf-8", "replace").strip()
