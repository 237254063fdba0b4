"""Copies for a rehearsal: a dump of each live database, restored while users work.

A template copy needs a live database without sessions. A dump does not, and it also proves that a
backup can be restored. It is piped from one program to the other without touching a disk.

A restore runs code that the application's role may have planted in its databases (defaults, checks,
triggers), and the role could replace a table by a view during the dump. So both programs log in as
that role; without that login there is no rehearsal.

A database administrator may have added objects that this role cannot dump or restore, although a
template copy contains them. Then everything else is dumped and restored, and these objects are
reported as not rehearsed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan, LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.migrator import OutputTail
from ncen_updater.agent.adapters.databases.migrations.runner import report_heartbeat
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    candidate_name,
    read_databases,
    read_server_major,
    require_database,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    fetch_rows,
    quote_identifier,
    quote_literal,
)
from ncen_updater.agent.adapters.databases.postgresql.copies import (
    DatabaseCopy,
    TemplateCopies,
    drop_database,
    list_copies,
)
from ncen_updater.agent.adapters.databases.postgresql.dump_portability import (
    DumpOptions,
    ExcludedObjects,
    choose_dump_options,
    filter_restore_list,
    find_dump_obstacles,
    find_excluded_objects,
    read_database_contents,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import DatabaseSessions
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.error_sanitizer import sanitize_program_output
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DUMP_FAILED,
    PROGRAMS_DIFFER,
    ROLE_LOGIN_REFUSED,
    TABLESPACE_CLOSED,
)
from ncen_updater.common.progress import ProgressListener

logger = logging.getLogger(__name__)


# ---- pg_dump and pg_restore ----------------------------------------------------------------------

# An older pg_dump refuses the server, and a newer pg_restore writes settings that an older server
# does not know. A machine may have several versions, and the first one in the PATH is the newest.

DUMP_PROGRAMS = ("pg_dump", "pg_restore")
# Directories of each version in the packages of Debian and of PostgreSQL.
PROGRAM_DIRECTORIES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")
VERSION_TIMEOUT_S = 30
TAIL_BYTES = 4000
BLOCK = 1 << 20


def find_program(name: str, major: int, bin_directory: Path | None) -> Path:
    """Return the path of a program: as configured, else by version, else from the PATH.

    Args:
        name: Name of the program.
        major: Major version of the server.
        bin_directory: The configured directory.
    """
    if bin_directory is not None:
        return bin_directory / name
    paths = (Path(directory.format(major=major)) / name for directory in PROGRAM_DIRECTORIES)
    return next((path for path in paths if path.is_file()), Path(name))


def read_program_version(program: Path) -> int | None:
    """Return the major version of a program, None if it cannot be run."""
    try:
        text = subprocess.run(
            [str(program), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rb"\(PostgreSQL\) (\d+)", text)
    return int(match[1]) if match else None


def format_program_version(version: int | None) -> LazyText:
    """Describe the version of a program, as the end of a sentence."""
    if version is None:
        return LazyText(N_("not found, or not executable"))
    return LazyText(N_("it belongs to PostgreSQL {version}"), {"version": version})


def find_matching_program(server: Server, name: str) -> str:
    """Return the path of a program that matches the server.

    Raises:
        PROGRAMS_DIFFER: If no program has the server's version.
    """
    with server.open_control_session() as connection:
        major = read_server_major(connection)
    program = find_program(name, major, server.settings.bin_directory)
    found = read_program_version(program)
    if found != major:
        raise DatabaseError(
            PROGRAMS_DIFFER,
            program=program,
            found=found,
            major=major,
            which=format_program_version(found),
        )
    return str(program)


class RehearsalCopies:
    """Copies of a rehearsal.

    Args:
        server: The server.
        copying: Makes template copies.
        sessions: Opens candidates for programs.
    """

    def __init__(self, server: Server, copying: TemplateCopies, sessions: DatabaseSessions) -> None:
        self._server, self._copying, self._sessions = server, copying, sessions

    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener
    ) -> dict[str, tuple[str, ...]]:
        """Restore a fresh dump of every live database as a candidate.

        Returns:
            Objects that were not copied, or not unchanged, in the server's words, by logical name.
            Databases with a complete copy are left out.

        Raises:
            DatabaseError: If the agent cannot log in as the application's role, or a program fails,
                with the end of its message.
            PROGRAMS_DIFFER: If there are no programs of the server's version.
            DATABASE_SET_INCOMPLETE: If a live database is missing.
            TABLESPACE_CLOSED: If a database cannot be created in the tablespace of the live one.
        """
        not_copied: dict[str, tuple[str, ...]] = {}
        settings = self._server.settings
        for copy in list_copies(plan):
            if not self._server.check_owner_login(copy.source):
                raise DatabaseError(ROLE_LOGIN_REFUSED, user=settings.owner, database=copy.source)
        programs = {name: find_matching_program(self._server, name) for name in DUMP_PROGRAMS}
        for copy in list_copies(plan):
            with self._server.open_control_session(
                statement_s=self._server.timeouts.long_s, lock_s=0
            ) as connection:
                require_database(read_databases(connection), copy.source)
                drop_database(connection, copy.target, self._server.timeouts.terminate_s)
                create_empty_database(connection, copy.source, copy.target, oid=copy.oid)

            def report(seconds: float, name: str = copy.name) -> None:
                values = {"database": name, "seconds": int(seconds)}
                progress.report(LazyText(N_("copying {database} ({seconds} s)"), values))

            with report_heartbeat(report):
                not_copied[copy.name] = self._dump_and_restore(copy, programs)
            self._close_copy(change, copy)
        return {name: objects for name, objects in not_copied.items() if objects}

    def _dump_and_restore(self, copy: DatabaseCopy, programs: Mapping[str, str]) -> tuple[str, ...]:
        """Dump and restore one database; return the objects that were not copied."""
        owner = self._server.settings.owner
        with self._sessions.open_session_block(LiveDatabase(copy.name)) as connection:
            obstacles = find_dump_obstacles(read_database_contents(connection, owner))
            options = choose_dump_options(obstacles, owner)
            excluded = find_excluded_objects(connection, options)
        if not obstacles:
            self._pipe_dump_to_restore(copy, programs)
            return ()
        logger.warning("a dump of %s omits %d objects", copy.source, len(obstacles))
        self._pipe_dump_to_restore(copy, programs, options, excluded)
        labels = (obstacle.item.label for obstacle in obstacles)
        return tuple(dict.fromkeys((*labels, *excluded.labels)))

    @staticmethod
    def plan_candidate_copy(change: ChangeRef, plan: CopyPlan) -> CopyPlan:
        """Return a plan that copies the candidates of a rehearsal instead of the live databases.

        Args:
            change: The rehearsal.
            plan: A plan for copies of the live databases, made for another change.
        """
        copies: dict[str, Mapping[str, object]] = {}
        for name, item in plan.copies.items():
            source = candidate_name(str(item["source"]), change.id)
            copies[name] = {**item, "source": source}
        return CopyPlan(copies)

    def _close_copy(self, change: ChangeRef, copy: DatabaseCopy) -> None:
        """Copy the attributes of the live database, and close the copy."""
        with self._server.open_control_session() as connection:
            self._copying.finish_copies(connection, change, [copy])
            name = quote_identifier(copy.target)
            execute(connection, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")

    def _pipe_dump_to_restore(
        self,
        copy: DatabaseCopy,
        programs: Mapping[str, str],
        options: DumpOptions | None = None,
        excluded: ExcludedObjects | None = None,
    ) -> None:
        """Pipe ``pg_dump`` into ``pg_restore``; both must succeed."""
        dumper, restorer = (programs[name] for name in DUMP_PROGRAMS)
        options, settings = options or DumpOptions(), self._server.settings
        with (
            self._start_program(
                dumper,
                copy.source,
                settings.owner,
                "--format=custom",
                "--compress=0",
                *options.dump_arguments,
                stdout=subprocess.PIPE,
            ) as dump,
            contextlib.ExitStack() as stack,
        ):
            tails = {"pg_dump": _make_output_tail(dump)}
            try:
                restore_arguments, head = list(options.restore_arguments), b""
                if excluded is not None:
                    contents, head = _read_dump_contents(restorer, dump)
                    restore_list = stack.enter_context(
                        tempfile.NamedTemporaryFile("w", encoding="utf-8")
                    )
                    restore_list.write(filter_restore_list(contents, options, excluded))
                    restore_list.flush()
                    restore_arguments.append(f"--use-list={restore_list.name}")
                restore = stack.enter_context(
                    self._start_program(
                        restorer, copy.target, settings.owner,
                        "--format=custom", "--exit-on-error", *restore_arguments,
                        stdin=subprocess.PIPE if head else dump.stdout,
                    )
                )  # fmt: skip
            except BaseException:
                dump.kill()
                raise
            tails["pg_restore"] = _make_output_tail(restore)
            pump = _PipeFeeder(head, dump.stdout, restore.stdin) if head else None
            if pump is None and dump.stdout is not None:
                dump.stdout.close()  # otherwise a dead pg_restore would not end pg_dump
            try:
                restored = restore.wait(self._server.timeouts.long_s)
                if pump is not None:
                    pump.wait()
                dumped = dump.wait(60)
            except BaseException as error:
                dump.kill()
                restore.kill()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise DatabaseError(
                        DUMP_FAILED,
                        program=Path(error.cmd[0]).name,
                        database=copy.source,
                        detail=str(error),
                    ) from error
                raise
        # A failed restore ends the dump by a broken pipe: then the dump is not the cause.
        codes = {"pg_dump": dumped if dumped != -signal.SIGPIPE else 0, "pg_restore": restored}
        failed = [program for program, code in codes.items() if code]
        if failed:
            outputs = [tails[program].read_text() for program in failed]
            raise DatabaseError(
                DUMP_FAILED,
                program=failed[0],
                database=copy.source,
                detail="; ".join(sanitize_program_output(text) for text in outputs),
            ).with_raw_error("\n".join(outputs))

    def _start_program(
        self,
        program: str,
        database: str,
        user: str,
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
            f"--username={user}",
            "--no-password",
            f"--dbname={database}",
        ]
        try:
            return subprocess.Popen(
                argv,
                env=self._server.build_child_environment(user),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise DatabaseError(
                DUMP_FAILED, program=program, database=database, detail=str(error)
            ) from error


def _make_output_tail(program: subprocess.Popen[bytes]) -> OutputTail:
    assert program.stderr is not None  # noqa: S101 - asked for where it was started
    return OutputTail(program.stderr.read, TAIL_BYTES, 10)


def _read_dump_contents(restorer: str, dump: subprocess.Popen[bytes]) -> tuple[str, bytes]:
    """Return the list of contents of a running dump, and the bytes read for it.

    The list is at the beginning, and ``pg_restore --list`` ends once it has read it.
    """
    head = bytearray()
    with subprocess.Popen(
        [restorer, "--list", "--format=custom"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as lister:
        lines: list[bytes] = []
        assert lister.stdout is not None  # noqa: S101 - asked for above
        reader = threading.Thread(target=lambda out=lister.stdout: lines.append(out.read()))
        reader.start()
        source, sink = dump.stdout, lister.stdin
        while source is not None and sink is not None:
            block = os.read(source.fileno(), BLOCK)
            head += block
            try:
                if not block:
                    break
                sink.write(block)
            except BrokenPipeError:
                break  # it has read enough
        with contextlib.suppress(BrokenPipeError):
            if sink is not None:
                sink.close()
        lister.wait()
        reader.join()
    return b"".join(lines).decode("utf-8", "replace"), bytes(head)


class _PipeFeeder:
    """Feeder of a program's input: first the bytes already read, then the rest of a pipe."""

    def __init__(self, head: bytes, source: IO[bytes] | None, sink: IO[bytes] | None) -> None:
        self._head, self._source, self._sink = head, source, sink
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self._source is None or self._sink is None:
            return
        # A program that ended early reports the reason itself; closing both ends the other one,
        # too.
        with contextlib.suppress(BrokenPipeError), self._source, self._sink:
            self._sink.write(self._head)
            while block := os.read(self._source.fileno(), BLOCK):
                self._sink.write(block)

    def wait(self) -> None:
        """Wait until everything is written, once the receiving program has ended."""
        self._thread.join()


def create_empty_database(
    connection: Connection, template: str, target: str, *, oid: int = 0
) -> None:
    """Create an empty database with encoding, locale and tablespace of another.

    Args:
        connection: In autocommit mode.
        template: The database whose properties it gets.
        target: Its name.
        oid: Its object id; 0 lets the server choose.

    Raises:
        TABLESPACE_CLOSED: If the agent's role may not create databases in that tablespace.
    """
    major = read_server_major(connection)
    locale = rules = "NULL"
    provider = "'c'"
    if major >= 15:
        locale = "d.datlocale" if major >= 17 else "d.daticulocale"
        provider = "d.datlocprovider::text"
    if major >= 16:
        rules = "d.daticurules"
    row = fetch_rows(
        connection,
        "SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate,"  # noqa: S608
        f" d.datctype, t.spcname, {provider}, {locale}::text, {rules}::text FROM pg_database d"
        " JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %s",
        [template],
    )[0]
    tablespace = row[4]
    if tablespace != "pg_default":
        allowed = fetch_rows(
            connection, "SELECT has_tablespace_privilege(%s, 'CREATE')", [tablespace]
        )
        if not allowed[0][0]:
            role = connection.info.user
            raise DatabaseError(
                TABLESPACE_CLOSED, role=role, tablespace=tablespace, database=template
            )
    execute(connection, build_empty_database_statement(target, row, oid=oid))
    execute(connection, f"REVOKE ALL ON DATABASE {quote_identifier(target)} FROM PUBLIC")


def build_empty_database_statement(target: str, row: Sequence[Any], *, oid: int = 0) -> str:
    """Return the statement that creates an empty database. Pure.

    Args:
        target: Its name.
        row: Owner, encoding, collation, character type, tablespace, locale provider, its locale and
            ICU rules of the database whose properties it gets.
        oid: Its object id; 0 lets the server choose.
    """
    owner, encoding, collate, ctype, tablespace, kind, name, rules = row
    parts = [
        f"CREATE DATABASE {quote_identifier(target)} WITH TEMPLATE template0",
        f"OWNER {quote_identifier(owner)} ENCODING {quote_literal(encoding)}",
        f"LC_COLLATE {quote_literal(collate)} LC_CTYPE {quote_literal(ctype)}",
    ]
    if tablespace != "pg_default":  # naming the default needs a privilege that copies do not need
        parts.append(f"TABLESPACE {quote_identifier(tablespace)}")
    if kind == "i":
        parts.append(f"LOCALE_PROVIDER icu ICU_LOCALE {quote_literal(name)}")
        if rules:
            parts.append(f"ICU_RULES {quote_literal(rules)}")
    elif kind == "b":
        parts.append(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {quote_literal(name)}")
    if oid:
        parts.append(f"OID {oid}")
    return " ".join(parts)
