"""The application's own migrator, run as a child that cannot outlive the agent, nor leave anything.

How that is made sure of: :mod:`ncen_updater.common.supervised`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ncen_updater.agent.databases.errors import DatabaseError, MigrationFailed
from ncen_updater.agent.databases.migrations.runner import HEARTBEAT_SECONDS, heartbeat
from ncen_updater.agent.databases.tail import Tail
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import MIGRATOR_FAILED, MIGRATOR_MISSING
from ncen_updater.common.progress import Progress
from ncen_updater.common.supervised import LeftBehind, Supervised
from ncen_updater.formats.manifest import MigratorCommand

__all__ = ["migrator_environment", "run_command"]

KEPT_OUTPUT_BYTES = 16_384
SLOT_PLACE = "{slot}"
INHERITED = frozenset({"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"})
INHERITED_PREFIX = "PGSSL"
NOT_RUN = 126  # as a shell says that a program was found and could not be run


def migrator_environment(own: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """Return what a migrator inherits: programs, language, time zone, TLS of the server. Pure.

    Nothing that could lead it to a live database, and no secret of the agent's.

    Args:
        own: The agent's variables.
        configured: The operator's, which win.
    """
    kept = {
        name: value
        for name, value in own.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIX)
    }
    return {"PATH": os.defpath, **kept, **configured}


def run_command(
    command: MigratorCommand,
    slot: Path,
    environment: Mapping[str, str],
    progress: Progress,
    databases: Sequence[str],
    *,
    heartbeat_s: float = HEARTBEAT_SECONDS,
) -> str:
    """Run the migrator and return the end of its output.

    Args:
        command: From the manifest; ``{slot}`` in an argument stands for the slot's directory, and a
            program with a ``/`` in its name is looked for in the slot.
        slot: Directory of the verified release, also the working directory.
        environment: The child's whole environment: ``PATH``, ``NCEN_DB_<NAME>_URL`` and so on.
        progress: Told every two seconds.
        databases: Logical names of those that it works on, for the words of an error.
        heartbeat_s: Seconds between two signs of life.

    Raises:
        MigratorMissing: The program is not there or may not be run.
        MigratorFailed: It ended with another status than 0 or ran out of time; its whole group has
            been ended and ``detail`` holds the end of its output.
    """
    argv = [part.replace(SLOT_PLACE, str(slot)) for part in command.argv]
    if "/" in argv[0] and not argv[0].startswith("/"):
        argv[0] = str(slot / argv[0])
    named = ", ".join(databases)
    program = shutil.which(argv[0], path=environment.get("PATH", os.defpath))
    if program is None:
        raise DatabaseError(MIGRATOR_MISSING, program=command.argv[0], database=named)
    argv[0] = program
    migrator = Supervised(
        argv, environment, left=LeftBehind.NOTHING, cwd=slot, output=subprocess.PIPE
    )
    stdout = migrator.stdout
    assert stdout is not None  # noqa: S101 - asked for above
    tail = Tail(partial(os.read, stdout.fileno()), KEPT_OUTPUT_BYTES, 5)

    def tell(seconds: float) -> None:
        what = N_("the application's migrator has been running for {seconds} s")
        progress.tell(Text(what, {"seconds": round(seconds)}))

    refused = ""
    with migrator, heartbeat(tell, heartbeat_s):
        try:
            status = migrator.wait(command.timeout_s)
        except OSError as error:
            status, refused = NOT_RUN, str(error)
    output = tail.text() or refused
    stdout.close()
    if status != 0:
        how = (
            Text(N_("it had not ended after {seconds} s."), {"seconds": command.timeout_s})
            if status is None
            else Text(
                N_("it ended with status {status}."),
                {"status": status if status >= 0 else 128 - status},  # as a shell says it
            )
        )
        raise MigrationFailed(
            MIGRATOR_FAILED,
            database=named,
            migration=command.argv[0],
            program=command.argv[0],
            how=how,
            detail=output or None,
        )
    return output
