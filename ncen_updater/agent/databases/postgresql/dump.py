"""A dump outside the server as the way back, for sites with no room for a copy in it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from ncen_updater.agent.databases.base import ChangeRef, CopyPlan
from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.migrations.runner import heartbeat
from ncen_updater.agent.databases.postgresql.carrying import judge, survey_contents
from ncen_updater.agent.databases.postgresql.catalogue import read_databases, server_major
from ncen_updater.agent.databases.postgresql.connection import Connection, Server, rows, run
from ncen_updater.agent.databases.postgresql.control import Control
from ncen_updater.agent.databases.postgresql.copying import Copying, drop_database
from ncen_updater.agent.databases.postgresql.errors import DumpFailed
from ncen_updater.agent.databases.postgresql.naming import (
    copied_comment,
    is_change_id,
    is_copy_of,
    prev_name,
)
from ncen_updater.agent.databases.postgresql.planning import copies
from ncen_updater.agent.databases.postgresql.programs import program_for, run_to_end
from ncen_updater.agent.databases.postgresql.quoting import identifier, literal
from ncen_updater.agent.databases.postgresql.sessions import Sessions
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.database_words import of_output
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    DUMPS_UNREADABLE,
    NOT_CARRIED,
    SET_INCOMPLETE,
    TABLESPACE_CLOSED,
    WAY_BACK_MISSING,
)
from ncen_updater.common.progress import Progress

logger = logging.getLogger(__name__)

COMPLETE = "complete.json"
# Fast and small where the programs were built with it (16 and later), else the least gzip.
COMPRESSIONS = ("--compress=zstd:1", "--compress=1")
JOBS = "--jobs=2"


class Dumps:
    """Dumps of a set, each in ``<dump_directory>/<change>/<name>``.

    Args:
        server: The server.
        control: Made before the first act.
        sessions: Opens the fenced databases for the programs.
        directory: The dump directory; None where dumps are not the way back.
    """

    def __init__(
        self, server: Server, control: Control, sessions: Sessions, directory: Path | None
    ) -> None:
        self._server = server
        self._control = control
        self._sessions = sessions
        self._directory = directory

    def dump(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """Dump every database that has no complete dump yet.

        Raises:
            NotCarried: If somebody put something in, since officers went out, that a dump by the
                agent's role does not carry.
            DumpFailed: With the end of the program's message.
        """
        self._control.ensure()
        with self._server.facts() as connection:
            found = read_databases(connection)
        for copy in copies(plan):
            place = self._place(change.id) / copy.name
            if self._is_complete(place):
                continue
            if copy.source not in found:
                raise DatabaseError(SET_INCOMPLETE, database=copy.source)
            durable.make_directory(place.parent, 0o700)

            def tell(seconds: float, name: str = copy.name) -> None:
                values = {"database": name, "seconds": int(seconds)}
                progress.tell(Text(N_("dumping {database}, for {seconds} seconds"), values))

            with self._sessions.opened(change), heartbeat(tell):
                self._require_carried(copy.source)
                self._dump_one(copy.source, place)
            for path in sorted(place.iterdir()):
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
            durable.fsync_directory(place)
            content = json.dumps({"comment": found[copy.source].comment})
            durable.write(place / COMPLETE, content.encode(), 0o600)

    def complete(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """Whether every dump came to its end."""
        return all(self._is_complete(self._place(change.id) / c.name) for c in copies(plan))

    def holds(self, change_id: str, names: Iterable[str]) -> bool:
        """Whether there is a whole dump of each of these databases, made by a change.

        Args:
            change_id: The change.
            names: Logical names.
        """
        directory = self._directory
        return directory is not None and all(
            self._is_complete(directory / change_id / name) for name in names
        )

    def restore(self, change: ChangeRef, names: Mapping[str, str], progress: Progress) -> None:
        """Bring every dump of a change back as the previous database of its live one.

        Raises:
            WayBackMissing: If a dump is not there or not complete.
            DumpFailed: With the end of the program's message.
        """
        with self._server.facts(statement_s=self._server.limits.long_s) as connection:
            run(connection, "SET lock_timeout = 0")
            for name, physical in names.items():
                target = prev_name(physical, change.id)
                row = read_databases(connection).get(target)
                if row is not None and row.valid and is_copy_of(row.comment, change.id):
                    continue
                place = self._place(change.id) / name
                self._restore_one(connection, place, physical, target, 0, progress)
                comment = json.loads((place / COMPLETE).read_bytes())["comment"]
                quoted = identifier(target)
                marked = literal(copied_comment(comment, change.id))
                with connection.transaction():
                    run(connection, f"ALTER DATABASE {quoted} ALLOW_CONNECTIONS false")
                    run(connection, f"COMMENT ON DATABASE {quoted} IS {marked}")

    def restore_kept(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """Make the candidates of a change from the dumps of the one that it goes back on.

        Raises:
            WayBackMissing: If a dump is not there or not complete.
            DumpFailed: With the end of the program's message.
        """
        self._control.ensure()
        with self._server.facts(statement_s=self._server.limits.long_s) as connection:
            run(connection, "SET lock_timeout = 0")
            for copy in copies(plan):
                row = read_databases(connection).get(copy.target)
                if row is not None and row.valid and is_copy_of(row.comment, change.id):
                    continue
                place = self._place(change.source or change.id) / copy.name
                self._restore_one(connection, place, copy.source, copy.target, copy.oid, progress)
                run(connection, f"ALTER DATABASE {identifier(copy.target)} ALLOW_CONNECTIONS false")
                Copying.finish(connection, change, copy)

    def _restore_one(
        self,
        connection: Connection,
        place: Path,
        live: str,
        target: str,
        oid: int,
        progress: Progress,
    ) -> None:
        if not self._is_complete(place):
            raise DatabaseError(WAY_BACK_MISSING, database=live, detail=str(place))

        def tell(seconds: float) -> None:
            values = {"database": live, "seconds": int(seconds)}
            progress.tell(Text(N_("restoring {database}, for {seconds} seconds"), values))

        drop_database(connection, target, self._server.limits.terminate_s)
        create_empty(connection, live, target, oid=oid)
        with heartbeat(tell):
            # It runs what the application's role left there.
            self._server.try_owner(target)
            user = self._server.restorer
            self._run("pg_restore", target, user, "-Fd", JOBS, "--exit-on-error", str(place))

    def remove(self, change_id: str) -> None:
        """Remove the dumps of a change, if there are any."""
        if self._directory is not None and (self._directory / change_id).is_dir():
            shutil.rmtree(self._directory / change_id)
            durable.fsync_directory(self._directory)

    def kept(self) -> tuple[str, ...]:
        """Changes of which there is a dump, whole or not.

        Raises:
            DumpsUnreadable: If the directory cannot be looked into.
        """
        if self._directory is None:
            return ()
        try:
            found = [path.name for path in self._directory.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return ()  # made at the first dump
        except OSError as error:
            raise DatabaseError(
                DUMPS_UNREADABLE, path=self._directory, reason=error.strerror
            ) from error
        return tuple(sorted(name for name in found if is_change_id(name)))

    # ---- one dump --------------------------------------------------------------------------------

    def _place(self, change_id: str) -> Path:
        if self._directory is None:
            raise DumpFailed(program="pg_dump", database="-", detail="no dump_directory")
        return self._directory / change_id

    @staticmethod
    def _is_complete(place: Path) -> bool:
        return (place / COMPLETE).is_file()

    def _require_carried(self, database: str) -> None:
        """Refuse a dump that would not lead back: nothing was touched yet."""
        with self._server.session(database) as connection:
            obstacles = judge(survey_contents(connection, self._server.restorer))
        if obstacles:
            words = ", ".join(obstacle.item.words for obstacle in obstacles)
            raise DatabaseError(
                NOT_CARRIED, database=database, objects=words, role=self._server.settings.user
            )

    def _dump_one(self, database: str, place: Path) -> None:
        for compression in COMPRESSIONS:
            if place.exists():
                shutil.rmtree(place)
            try:
                to = ("-Fd", JOBS, compression, "-f", str(place))
                self._run("pg_dump", database, self._server.settings.user, *to)
            except DumpFailed as error:
                unsupported = "compress" in (error.detail or "")
                if not unsupported or compression == COMPRESSIONS[-1]:
                    raise
            else:
                return

    def _run(self, program: str, database: str, user: str, *arguments: str) -> None:
        settings = self._server.settings
        argv = [
            program_for(self._server, program),
            *arguments,
            f"--host={settings.host}",
            f"--port={settings.port}",
            f"--username={user}",
            "--no-password",
            f"--dbname={database}",
        ]
        try:
            status, output = run_to_end(
                argv, self._server.child_environment(user), self._server.limits.long_s
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DumpFailed(program=program, database=database, detail=str(error)) from error
        if status:
            whole = output.decode("utf-8", "replace").strip()
            raise DumpFailed(
                program=program,
                database=database,
                detail=of_output(whole)[-2000:],
            ).privately(whole)


def create_empty(connection: Connection, like: str, target: str, *, oid: int = 0) -> None:
    """Make an empty database with encoding, locale and tablespace of another.

    Args:
        connection: In autocommit mode.
        like: The database whose form it gets.
        target: Its name.
        oid: Its object id; 0 lets the server choose.

    Raises:
        TablespaceClosed: If the agent's role may make nothing where the other one is.
    """
    major = server_major(connection)
    locale = "NULL"
    provider = "'c'"
    if major >= 15:
        locale = "d.datlocale" if major >= 17 else "d.daticulocale"
        provider = "d.datlocprovider::text"
    owner, encoding, collate, ctype, tablespace, kind, name = rows(
        connection,
        "SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate,"  # noqa: S608
        f" d.datctype, t.spcname, {provider}, {locale}::text FROM pg_database d"
        " JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %s",
        [like],
    )[0]
    if tablespace != "pg_default":
        may = rows(connection, "SELECT has_tablespace_privilege(%s, 'CREATE')", [tablespace])
        if not may[0][0]:
            role = connection.info.user
            raise DatabaseError(TABLESPACE_CLOSED, role=role, tablespace=tablespace, database=like)
    parts = [
        f"CREATE DATABASE {identifier(target)} WITH TEMPLATE template0",
        f"OWNER {identifier(owner)} ENCODING {literal(encoding)}",
        f"LC_COLLATE {literal(collate)} LC_CTYPE {literal(ctype)}",
    ]
    if tablespace != "pg_default":  # to name the default takes a right that copies do not need
        parts.append(f"TABLESPACE {identifier(tablespace)}")
    if kind == "i":
        parts.append(f"LOCALE_PROVIDER icu ICU_LOCALE {literal(name)}")
    elif kind == "b":
        parts.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(name)}")
    if oid:
        parts.append(f"OID {oid}")
    run(connection, " ".join(parts))
    run(connection, f"REVOKE ALL ON DATABASE {identifier(target)} FROM PUBLIC")
