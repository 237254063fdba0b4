"""Copies for a rehearsal: a backup of each live database, restored, while officers work.

A template copy would need the live database without sessions. A dump does not, and that it can be
restored is worth knowing by itself. It goes from one program to the other without touching a disk.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping
from typing import IO

from ncen_updater.databases.base import ChangeRef, CopyPlan
from ncen_updater.databases.migrations.runner import heartbeat
from ncen_updater.databases.postgresql.catalogue import read_databases
from ncen_updater.databases.postgresql.connection import Server, run
from ncen_updater.databases.postgresql.copying import Copying, drop_database
from ncen_updater.databases.postgresql.dump import create_empty
from ncen_updater.databases.postgresql.errors import DumpFailed, SetIncomplete
from ncen_updater.databases.postgresql.naming import next_name
from ncen_updater.databases.postgresql.planning import Copy, copies
from ncen_updater.databases.postgresql.programs import DUMP_AND_RESTORE, program_for
from ncen_updater.databases.postgresql.quoting import identifier
from ncen_updater.databases.postgresql.sessions import Sessions
from ncen_updater.i18n import N_, Text
from ncen_updater.progress import Progress

__all__ = ["Rehearsing"]

TAIL_BYTES = 4000


class Rehearsing:
    """Makes the copies of a rehearsal.

    Args:
        server: The server.
        copying: Makes template copies.
        sessions: Opens candidates for programs.
    """

    def __init__(self, server: Server, copying: Copying, sessions: Sessions) -> None:
        self._server, self._copying, self._sessions = server, copying, sessions

    def copy_online(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """Restore a fresh dump of every live database under the candidate's name.

        Raises:
            DumpFailed: With the end of a program's message.
            ProgramsDiffer: If there are no programs of the server's version.
            SetIncomplete: If a live database is not there.
        """
        programs = {name: program_for(self._server, name) for name in DUMP_AND_RESTORE}
        for copy in copies(plan):
            with self._server.facts(statement_s=self._server.limits.long_s) as connection:
                found = read_databases(connection)
                if copy.source not in found or not found[copy.source].valid:
                    raise SetIncomplete(database=copy.source)
                drop_database(connection, copy.target, self._server.limits.terminate_s)
                run(connection, "SET lock_timeout = 0")
                create_empty(connection, copy.source, copy.target, oid=copy.oid)

            def tell(seconds: float, name: str = copy.name) -> None:
                values = {"database": name, "seconds": int(seconds)}
                progress.tell(Text(N_("copying {database}, for {seconds} seconds"), values))

            with heartbeat(tell):
                self._through(copy, programs)
            self._close(change, copy)

    @staticmethod
    def plan_again(change: ChangeRef, plan: CopyPlan) -> CopyPlan:
        """Return a plan that copies the candidates of a rehearsal in place of the live databases.

        Args:
            change: The rehearsal.
            plan: A plan from the live databases, made for another change.
        """
        data: dict[str, Mapping[str, object]] = {}
        for name, item in plan.data.items():
            source = next_name(str(item["source"]), change.id)
            data[name] = {**item, "source": source}
        return CopyPlan(data)

    def _close(self, change: ChangeRef, copy: Copy) -> None:
        """Give the copy what hangs on the live one, and shut it."""
        with self._server.facts() as connection:
            self._copying.finish(connection, change, copy)
            name = identifier(copy.target)
            run(connection, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")

    def _through(self, copy: Copy, programs: Mapping[str, str]) -> None:
        """Run ``pg_dump`` into ``pg_restore``; both have to end well."""
        dumper, restorer = (programs[name] for name in DUMP_AND_RESTORE)
        with (
            self._start(
                dumper, copy.source, "--format=custom", "--compress=0", stdout=subprocess.PIPE
            ) as dump,
            self._start(
                restorer, copy.target, "--format=custom", "--exit-on-error", stdin=dump.stdout
            ) as restore,
        ):
            if dump.stdout is not None:
                dump.stdout.close()  # else a dead pg_restore would not end pg_dump
            said = {"pg_dump": _Tail(dump.stderr), "pg_restore": _Tail(restore.stderr)}
            try:
                restored = restore.wait(self._server.limits.long_s)
                dumped = dump.wait(60)
            except BaseException as error:
                dump.kill()
                restore.kill()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise DumpFailed(
                        program="pg_dump", database=copy.source, detail=str(error)
                    ) from error
                raise
        # A restore that ended early ends the dump by a broken pipe: then it is not the cause.
        codes = {"pg_dump": dumped if dumped != -signal.SIGPIPE else 0, "pg_restore": restored}
        failed = [program for program, code in codes.items() if code]
        if failed:
            detail = "; ".join(said[program].text() for program in failed)
            raise DumpFailed(program=failed[0], database=copy.source, detail=detail)

    def _start(
        self,
        program: str,
        database: str,
        *arguments: str,
        stdin: IO[bytes] | int | None = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        settings = self._server.settings
        argv = [
            program,
            *arguments,
            f"--host={settings.host}",
            f"--port={settings.port}",
            f"--username={settings.user}",
            "--no-password",
            f"--dbname={database}",
        ]
        try:
            return subprocess.Popen(
                argv,
                env=self._server.environment(),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise DumpFailed(program=program, database=database, detail=str(error)) from error


class _Tail:
    """The end of what a program says, read as it comes so that it never waits for us."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._kept = b""
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._stream is not None and (block := self._stream.read(4096)):
            self._kept = (self._kept + block)[-TAIL_BYTES:]

    def text(self) -> str:
        self._thread.join(10)
        return self._kept.decode("utf-8", "replace").strip()
