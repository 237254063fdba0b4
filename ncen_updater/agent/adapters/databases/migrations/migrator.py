"""The application's own migrator, run as a child process that cannot outlive the agent.

How this is ensured: :mod:`.supervised_process`. The migrator is a program of the release and no
more trusted than the application: root runs it as the application's user.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import MigratorUser
from ncen_updater.agent.adapters.databases.migrations.runner import HEARTBEAT_S, report_heartbeat
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailedError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    MIGRATOR_FAILED,
    MIGRATOR_MISSING,
    MIGRATOR_OUTSIDE,
    MIGRATOR_USER_UNKNOWN,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.common.supervised_process import AllowedLeftovers, SupervisedProcess
from ncen_updater.formats.manifest import DatabaseProgram

OUTPUT_TAIL_BYTES = 16_384
SLOT_PLACEHOLDER = "{slot}"
INHERITED_VARIABLES = frozenset(
    {"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"}
)
INHERITED_PREFIX = "PGSSL"
EXIT_NOT_EXECUTABLE = 126  # a shell's status for a program that cannot be executed
READ_BYTES = 4096


def find_migrator_user(
    configured: str | None, owner: tuple[int, int] | None = None
) -> MigratorUser | None:
    """Return the user as which a migrator runs; None if the agent is not root.

    Args:
        configured: ``application.user``.
        owner: User and group of the databases' files; used if no user is configured.

    Raises:
        MIGRATOR_USER_UNKNOWN: There is no user, or it is unknown to the system, or root.
    """
    if os.geteuid() != 0:
        return None
    found: MigratorUser | None = None
    if configured is not None:
        try:
            entry = pwd.getpwnam(configured)
        except KeyError as error:
            raise DatabaseError(MIGRATOR_USER_UNKNOWN, user=configured) from error
        found = MigratorUser(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
    elif owner is not None:
        found = MigratorUser(str(owner[0]), *owner)
    if found is None or found.uid == 0:
        raise DatabaseError(MIGRATOR_USER_UNKNOWN, user=configured or "-")
    return found


def resolve_program(command: DatabaseProgram, slot: Path) -> Path:
    """Return the path of a migrator, which must be a program of its release.

    Raises:
        MIGRATOR_OUTSIDE: Its path, or the target of its link, is outside the slot.
        MIGRATOR_MISSING: It does not exist or is not executable.
    """
    program = command.argv[0]
    real_slot = Path(os.path.realpath(slot))
    path = Path(os.path.realpath(real_slot / program))
    if not command.is_in_slot() or not path.is_relative_to(real_slot):
        raise DatabaseError(MIGRATOR_OUTSIDE, program=program)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise DatabaseError(MIGRATOR_MISSING, program=program)
    return slot / program


def build_migrator_environment(
    agent_variables: Mapping[str, str],
    configured: Mapping[str, str],
    user: MigratorUser | None = None,
) -> dict[str, str]:
    """Return the environment of a migrator: PATH, locale, time zone, TLS of the server. Pure.

    It contains nothing that leads to a live database, and no secret of the agent.

    Args:
        agent_variables: The agent's variables.
        configured: The operator's variables, which take precedence.
        user: The user of the migrator; its names and home replace the agent's.
    """
    inherited = {
        name: value
        for name, value in agent_variables.items()
        if name in INHERITED_VARIABLES or name.startswith(INHERITED_PREFIX)
    }
    if user is not None:
        inherited.pop("TMPDIR", None)
        inherited |= {"HOME": user.home, "LOGNAME": user.name, "USER": user.name}
    return {"PATH": os.defpath, **inherited, **configured}


def build_database_variables(name: str, address: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give a program the address of a database, such as ``..._URL``."""
    prefix = f"NCEN_DB_{name.upper().replace('-', '_')}"
    return {f"{prefix}_{part}": text for part, text in address.items()}


def run_migrator(
    declared: DatabaseProgram,
    slot: Path,
    environment: Mapping[str, str],
    progress: ProgressListener,
    databases: Sequence[str],
    *,
    user: MigratorUser | None = None,
    lock_fd: int = -1,
    heartbeat_s: float = HEARTBEAT_S,
) -> str:
    """Run the migrator and return the end of its output.

    Args:
        declared: Program from the manifest, in the slot; ``{slot}`` in an argument is replaced by
            the slot's directory.
        slot: Directory of the verified release, also the working directory.
        environment: The child's whole environment: ``PATH``, ``NCEN_DB_<NAME>_URL`` and so on.
        progress: Receives a report at each heartbeat.
        databases: Logical names of its databases, for error messages.
        user: The user as which it runs; required if the agent is root.
        lock_fd: A descriptor that stays open as long as any of its processes runs.
        heartbeat_s: Seconds between two heartbeats.

    Raises:
        MIGRATOR_USER_UNKNOWN: It would run as root.
        MIGRATOR_OUTSIDE: The program is not part of the release.
        MIGRATOR_MISSING: The program does not exist or is not executable.
        MIGRATOR_FAILED: It ended with a status other than 0 or timed out; its process group was
            killed, and ``raw_error`` holds the end of its output.
    """
    if os.geteuid() == 0 and (user is None or user.uid == 0):
        raise DatabaseError(MIGRATOR_USER_UNKNOWN, user=user.name if user else "-")
    program = resolve_program(declared, slot)
    argv = [
        str(program),
        *(part.replace(SLOT_PLACEHOLDER, str(slot)) for part in declared.argv[1:]),
    ]
    migrator = SupervisedProcess(
        argv,
        environment,
        allowed_leftovers=AllowedLeftovers.NOTHING,
        cwd=slot,
        output=subprocess.PIPE,
        held_descriptor=lock_fd,
        run_as=(user.uid, user.gid) if user else None,
    )
    stdout = migrator.stdout
    assert stdout is not None  # noqa: S101 - asked for above
    tail = OutputTail(partial(os.read, stdout.fileno()), OUTPUT_TAIL_BYTES, 5)

    def report(seconds: float) -> None:
        template = N_("{program} has been running for {seconds} s")
        progress.report(
            LazyText(template, {"program": declared.argv[0], "seconds": round(seconds)})
        )

    start_error = ""
    with migrator, report_heartbeat(report, heartbeat_s):
        try:
            status = migrator.wait_for_exit(declared.timeout_s)
        except OSError as error:
            status, start_error = EXIT_NOT_EXECUTABLE, str(error)
    output = tail.read_text() or start_error
    stdout.close()
    if status != 0:
        reason = (
            LazyText(N_("timed out after {seconds} s"), {"seconds": declared.timeout_s})
            if status is None
            else LazyText(
                N_("exit code {status}"),
                {"status": status if status >= 0 else 128 - status},  # in the form of a shell
            )
        )
        raise MigrationFailedError(
            MIGRATOR_FAILED,
            database=", ".join(databases),
            migration=declared.argv[0],
            program=declared.argv[0],
            how=reason,
            detail=start_error or None,
        ).with_raw_error(output)  # a program may print rows in its error messages
    return output


class OutputTail:
    """Reader that drains a program's output, so that it never blocks, and keeps the end.

    Args:
        read: Reads at most the given number of bytes; returns none at the end.
        max_bytes: Number of bytes that are kept.
        wait_s: Limit of the wait for the end, which an escaped process may hold open.
    """

    def __init__(self, read: Callable[[int], bytes], max_bytes: int, wait_s: float) -> None:
        self._read_bytes, self._max_bytes, self._wait_s = read, max_bytes, wait_s
        self._tail = b""
        self._thread = threading.Thread(target=self._read, name="tail", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while block := self._read_bytes(READ_BYTES):
            self._tail = (self._tail + block)[-self._max_bytes :]

    def read_text(self) -> str:
        """Return the end of the output, stripped; what is missing after the wait is left out."""
        self._thread.join(self._wait_s)
        return self._tail.decode("utf-8", "replace").strip()
