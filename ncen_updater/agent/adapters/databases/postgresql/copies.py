"""Copies of all databases in parallel, and their removal in any state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psycopg

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan
from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseAttributes,
    DatabaseRow,
    DataDirectory,
    apply_all_attributes,
    candidate_name,
    find_data_directory,
    find_database_directories,
    is_copy_of,
    mark_copied,
    previous_name,
    read_all_attributes,
    read_databases,
    read_server_major,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    execute_all,
    fetch_rows,
    quote_identifier,
    quote_literal,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    ControlDatabase,
    choose_oid,
    is_being_created,
)
from ncen_updater.agent.adapters.databases.postgresql.fence import terminate_sessions
from ncen_updater.agent.adapters.databases.postgresql.sessions import ActiveSessions
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.disk_space import REFLINK_ADVICE, supports_reflink
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import COPY_FAILED, DATABASE_SET_INCOMPLETE, ORPHAN_DIRECTORY
from ncen_updater.common.progress import Amount, ProgressListener, Unit

logger = logging.getLogger(__name__)


# Measured with three databases in parallel on a fast disk: FILE_COPY takes half as long from 0.1 GB
# each. Below, its two checkpoints and one fsync a file count, and cost seconds on a slow disk.
FILE_COPY_FROM_BYTES = 100_000_000
HEARTBEAT_S = 1.0
POLL_S = 0.1
CLONE_MIN_MAJOR = 18
SET_CLONE_STATEMENT = "SET file_copy_method = clone"
ON_NEWER_SERVER = N_("Optional: use PostgreSQL {major} or later.")
REFLINK_AND_SERVER_ADVICE = N_(
    "Optional: move the databases to XFS or Btrfs, and use PostgreSQL {major} or later."
)
BY_SETTING = N_('Optional: set copy_method = "auto" in [databases.postgresql] of agent.toml.')


# ---- copy plan -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DatabaseCopy(JsonRecord):
    """One database of a copy plan.

    Attributes:
        name: Logical name.
        source: Name of the source database.
        target: Name of the copy.
        oid: Object id of the copy; 0 if the server does not accept one (PostgreSQL 14).
        method: ``clone``, ``file-copy``, ``wal-log`` or ``template`` (PostgreSQL 14).
        size_bytes: Bytes of the source.
    """

    name: str
    source: str
    target: str
    oid: int
    method: str
    size_bytes: int


def choose_copy_method(major: int, size_bytes: int, wanted: str, *, clone: bool = False) -> str:
    """Return the copy method for a database of a given size.

    Args:
        major: Major version of the server.
        size_bytes: Bytes on the disk.
        wanted: The setting ``copy_method``.
        clone: Whether the copy can share its blocks with the original.
    """
    if major < 15:
        return "template"
    if wanted != "auto":
        return wanted
    if clone:  # takes the same time for every size
        return "clone"
    return "file-copy" if size_bytes >= FILE_COPY_FROM_BYTES else "wal-log"


def make_copy_plan(
    change: ChangeRef,
    names: Mapping[str, str],
    sizes: Mapping[str, int],
    taken: Collection[int],
    major: int,
    *,
    copy_method: str,
    clone: Collection[str] = (),
) -> CopyPlan:
    """Return the copy plan of a change.

    Args:
        change: The change.
        names: Logical to physical names.
        sizes: Bytes of each source, by logical name.
        taken: Object ids in use, in the catalogue and on the disk.
        major: Major version of the server.
        copy_method: The setting ``copy_method``.
        clone: Logical names whose copies can share blocks with their originals.
    """
    used_oids = set(taken)
    copies: dict[str, Mapping[str, object]] = {}
    for name, physical in names.items():
        oid = 0 if major < 15 else choose_oid(change.id, name, used_oids)
        used_oids.add(oid)
        source_change = change.retained_from
        copies[name] = {
            "source": previous_name(physical, source_change) if source_change else physical,
            "target": candidate_name(physical, change.id),
            "oid": oid,
            "method": choose_copy_method(major, sizes[name], copy_method, clone=name in clone),
            "size_bytes": sizes[name],
        }
    return CopyPlan(copies)


def list_copies(plan: CopyPlan) -> tuple[DatabaseCopy, ...]:
    """Return the databases of a plan as objects, in its order."""
    return tuple(
        DatabaseCopy.from_json({"name": name, **item}) for name, item in plan.copies.items()
    )


def build_create_statement(copy: DatabaseCopy, owner: str) -> str:
    """Return the CREATE DATABASE of a copy, which is closed from its first moment.

    Encoding, locale and tablespace are the template's by default.
    """
    parts = [
        f"CREATE DATABASE {quote_identifier(copy.target)} WITH TEMPLATE "
        f"{quote_identifier(copy.source)}",
        f"OWNER {quote_identifier(owner)} ALLOW_CONNECTIONS false",
    ]
    if copy.oid:
        parts.append(f"OID {copy.oid}")
    if copy.method in ("clone", "file-copy", "wal-log"):
        strategy = "file-copy" if copy.method == "clone" else copy.method
        parts.append(f"STRATEGY {strategy.replace('-', '_')}")
    return " ".join(parts)


class TemplateCopies:
    """Copies made with CREATE DATABASE ... TEMPLATE.

    Args:
        server: The server.
        control: The control database.
        clock: Monotonic seconds, for the heartbeat.
    """

    def __init__(
        self, server: Server, control: ControlDatabase, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._control = control
        self._clock = clock
        self._active = ActiveSessions(server)

    def copy_all(self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener) -> None:
        """Make every missing copy of a plan.

        Raises:
            COPY_FAILED: With the server's message; complete copies stay until ``drop_copies``.
            ORPHAN_DIRECTORY: A killed server left a directory with the object id of a copy, and the
                agent cannot see it.
        """
        copies = list_copies(plan)
        self._control.create_if_missing()
        with self._server.open_control_session() as connection:
            directory = find_data_directory(self._server, connection)
        started = self._clock()
        with self._active.track():
            run_in_parallel(
                {copy.name: partial(self._copy_one, copy, directory) for copy in copies},
                cancel=self._active.terminate_all,
                heartbeat=partial(self._report_progress, copies, directory, progress, started),
                heartbeat_s=HEARTBEAT_S,
            )
        with (
            _translate_errors(", ".join(copy.source for copy in copies)),
            self._server.open_write_session() as connection,
        ):
            self.finish_copies(connection, change, copies)

    def is_copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """Tell whether every copy exists, is complete, and is the planned one."""
        with self._server.open_control_session() as connection:
            found = read_databases(connection)
        return all(_is_complete(found.get(c.target), c, change) for c in list_copies(plan))

    def drop_copies(self, targets: Sequence[str], change: ChangeRef, plan: CopyPlan) -> None:
        """Drop databases of a change and the remains of interrupted copies.

        Args:
            targets: Names of candidates.
            change: The change.
            plan: Its copies; the agent removes directories only for their object ids.
        """
        with self._server.open_control_session(
            statement_s=self._server.timeouts.long_s
        ) as connection:
            for target in targets:
                self._cancel_creation(connection, target)
            # Parallel drops share the checkpoint for which each of them waits.
            with ThreadPoolExecutor(max_workers=max(1, len(targets))) as pool:
                for future in [pool.submit(self._drop_one, target) for target in targets]:
                    future.result()
            directory = find_data_directory(self._server, connection)
            if directory is not None:
                self._remove_orphans(connection, directory, plan)

    def _drop_one(self, target: str) -> None:
        with self._server.open_control_session(
            statement_s=self._server.timeouts.long_s
        ) as connection:
            drop_database(connection, target, self._server.timeouts.terminate_s)

    # ---- one copy -------------------------------------------------------------------------------

    def _copy_one(self, copy: DatabaseCopy, directory: DataDirectory | None) -> None:
        # Waiting for the lock of the source is expected here, not a sign of a deadlock.
        with (
            _translate_errors(copy.source),
            self._server.open_write_session(
                statement_s=self._server.timeouts.long_s, lock_s=0
            ) as connection,
            self._active.lend(connection),
        ):
            self._await_creation(connection, copy.target)
            found = read_databases(connection)
            present = found.get(copy.target)
            source = found.get(copy.source)
            if source is None or not source.is_valid:
                raise DatabaseError(DATABASE_SET_INCOMPLETE, database=copy.source)
            if present is not None and not _is_planned_copy(present, copy):
                drop_database(connection, copy.target, self._server.timeouts.terminate_s)
                present = None
            if present is None:
                if directory is not None:
                    self._remove_orphan(connection, directory, copy.oid)
                terminate_sessions(connection, [copy.source], self._server.timeouts.terminate_s)
                self._create(connection, copy, source)

    def _create(self, connection: Connection, copy: DatabaseCopy, source: DatabaseRow) -> None:
        try:
            with _share_blocks(connection) if copy.method == "clone" else nullcontext():
                execute(connection, build_create_statement(copy, source.owner))
        except psycopg.errors.InvalidParameterValue as error:
            if copy.oid and "directory" in str(error):
                raise DatabaseError(
                    ORPHAN_DIRECTORY,
                    database=copy.source,
                    oid=copy.oid,
                    detail=sanitize_error(error),
                ) from error
            raise

    def finish_copies(
        self, connection: Connection, change: ChangeRef, copies: Sequence[DatabaseCopy]
    ) -> None:
        """Copy the attributes of the sources and mark the copies as complete, in one transaction.

        Until then each copy is closed, and known by its planned object id.
        """
        limit_ms = int(self._server.timeouts.lock_s * 1000)
        with connection.transaction():
            execute(
                connection,
                f"SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = {limit_ms}",
            )
            rows = read_databases(connection)
            names = [name for copy in copies for name in (copy.source, copy.target)]
            found = read_all_attributes(connection, names)
            wanted: dict[str, DatabaseAttributes] = {}
            comments: list[str] = []
            for copy in copies:
                source = found[copy.source]
                # PUBLIC may not connect to a candidate before it is live.
                grants = tuple(grant for grant in source.grants if grant.grantee)
                wanted[copy.target] = replace(source, grants=grants, template=False)
                marked = quote_literal(mark_copied(rows[copy.source].comment, change.id))
                comments.append(f"COMMENT ON DATABASE {quote_identifier(copy.target)} IS {marked}")
            apply_all_attributes(connection, wanted, found)
            execute_all(connection, comments)

    # ---- copies of a dead agent that the server still makes -------------------------------------

    def _find_creating_backends(self, connection: Connection, target: str) -> list[int]:
        found = fetch_rows(
            connection,
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active'"
            " AND starts_with(query, %s)",
            [f"CREATE DATABASE {quote_identifier(target)} "],
        )
        return [row[0] for row in found]

    def _await_creation(self, connection: Connection, target: str) -> None:
        deadline = self._clock() + self._server.timeouts.long_s
        while self._find_creating_backends(connection, target):
            if self._clock() > deadline:
                raise DatabaseError(database=target, detail="CREATE DATABASE did not finish")
            time.sleep(POLL_S)

    def _cancel_creation(self, connection: Connection, target: str) -> None:
        deadline = self._clock() + self._server.timeouts.long_s
        while found := self._find_creating_backends(connection, target):
            for pid in found:
                # The server rolls back a terminated CREATE DATABASE completely: no row, no
                # directory.
                execute(connection, "SELECT pg_terminate_backend(%s, 2000)", [pid])
            if self._clock() > deadline:
                raise DatabaseError(database=target, detail="CREATE DATABASE did not finish")

    # ---- orphans --------------------------------------------------------------------------------

    def _remove_orphans(
        self, connection: Connection, directory: DataDirectory, plan: CopyPlan
    ) -> None:
        for copy in list_copies(plan):
            self._remove_orphan(connection, directory, copy.oid)

    @staticmethod
    def _remove_orphan(connection: Connection, directory: DataDirectory, oid: int) -> None:
        if not oid or not directory.list_directories(oid):
            return
        # A row, or a running CREATE DATABASE, means that the directory has an owner.
        owned = fetch_rows(
            connection,
            "SELECT FROM pg_database WHERE oid = %s::oid UNION ALL SELECT FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND state = 'active'"
            " AND query LIKE 'CREATE DATABASE %%' AND query LIKE %s",
            [oid, f"% OID {oid}%"],
        )
        if not owned:
            directory.remove_orphan(oid)

    # ---- progress -------------------------------------------------------------------------------

    def _report_progress(
        self,
        copies: Sequence[DatabaseCopy],
        directory: DataDirectory | None,
        progress: ProgressListener,
        started: float,
    ) -> None:
        total = sum(copy.size_bytes for copy in copies)
        if directory is not None and all(copy.oid for copy in copies):
            done = sum(directory.measure_size(copy.oid) for copy in copies)
            title = LazyText(N_("copying the databases"))
            progress.report(title, Amount(min(done, total), total, Unit.BYTES))
        else:
            seconds = int(self._clock() - started)
            if seconds:
                text = N_("copying the databases ({seconds} s)")
                progress.report(LazyText(text, {"seconds": seconds}))


def build_pre_drop_statements(row: DatabaseRow) -> list[str]:
    """Return the statements needed before a drop; empty if they ran before a crash."""
    quoted = quote_identifier(row.name)
    template = [f"ALTER DATABASE {quoted} IS_TEMPLATE false"] if row.is_template else []
    allow = [f"ALTER DATABASE {quoted} ALLOW_CONNECTIONS false"] if row.allow_connections else []
    return [*template, *allow]


def drop_database(connection: Connection, name: str, limit_s: float) -> None:
    """Drop a database if it exists, ending its sessions; also after an interrupted DROP."""
    row = read_databases(connection).get(name)
    if row is None:
        return
    quoted = quote_identifier(name)
    if row.is_valid:
        for statement in build_pre_drop_statements(row):
            execute(connection, statement)
        terminate_sessions(connection, [name], limit_s)
    execute(connection, f"DROP DATABASE IF EXISTS {quoted}")


@contextmanager
def _translate_errors(databases: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise DatabaseError(
            COPY_FAILED, database=databases, detail=sanitize_error(error)
        ) from error


@contextmanager
def _share_blocks(connection: Connection) -> Iterator[None]:
    execute(connection, SET_CLONE_STATEMENT)
    try:
        yield
    finally:
        execute(connection, "RESET file_copy_method")


def _is_planned_copy(row: DatabaseRow, copy: DatabaseCopy) -> bool:
    return row.is_valid and (not copy.oid or row.oid == copy.oid)


def _is_complete(row: DatabaseRow | None, copy: DatabaseCopy, change: ChangeRef) -> bool:
    return row is not None and _is_planned_copy(row, copy) and is_copy_of(row.comment, change.id)


class CloneSupport:
    """Test whether copies can share blocks with their originals, with an empty trial database.

    Args:
        server: The server.
        names: Logical to physical names.
    """

    def __init__(self, server: Server, names: Mapping[str, str]) -> None:
        self._server = server
        self._names = names
        self._known: dict[str | None, frozenset[str]] = {}

    @property
    def trial_database(self) -> str:
        """Return the name of the trial database."""
        return f"{self._server.settings.control_database}__clone_trial"

    def list_cloneable(self, change: ChangeRef) -> frozenset[str]:
        """Return logical names whose copies can share blocks, as found by :meth:`detect`."""
        return self._known.get(change.retained_from, frozenset())

    def detect(self, change: ChangeRef) -> None:
        """Check file system and server once; if both may allow it, make the trial database.

        Raises:
            DatabaseError: If no session can be opened.
        """
        if self._server.settings.copy_method != "auto" or change.retained_from in self._known:
            return
        with self._server.open_control_session(
            statement_s=self._server.timeouts.long_s
        ) as connection:
            self._known[change.retained_from] = self._detect(connection, change)

    def describe_condition(self) -> LazyText | None:
        """See :meth:`DatabaseEngine.describe_clone_condition`; needs no trial."""
        with self._server.open_control_session() as connection:
            major, directories = (
                read_server_major(connection),
                self._find_directories(connection, None),
            )
        if not directories:
            return None
        if not all(map(supports_reflink, directories.values())):
            text = REFLINK_ADVICE if major >= CLONE_MIN_MAJOR else REFLINK_AND_SERVER_ADVICE
        elif major < CLONE_MIN_MAJOR:
            text = ON_NEWER_SERVER
        else:
            text = "" if self._server.settings.copy_method == "auto" else BY_SETTING
        return LazyText(text, {"major": CLONE_MIN_MAJOR})

    def _find_directories(
        self, connection: Connection, retained_from: str | None
    ) -> dict[str, Path]:
        """Return the directories of the databases to copy, as far as visible; by logical name."""
        found = read_databases(connection)
        oids: dict[str, int] = {}
        for name, physical in self._names.items():
            row = found.get(previous_name(physical, retained_from) if retained_from else physical)
            if row is not None and row.is_valid:
                oids[name] = row.oid
        return find_database_directories(self._server, connection, oids)

    def _detect(self, connection: Connection, change: ChangeRef) -> frozenset[str]:
        if read_server_major(connection) < CLONE_MIN_MAJOR:
            return frozenset()
        directories = self._find_directories(connection, change.retained_from)
        sharing = frozenset(
            name for name, directory in directories.items() if supports_reflink(directory)
        )
        if not sharing or not self._try_clone(connection):
            return frozenset()
        return sharing

    def _try_clone(self, connection: Connection) -> bool:
        """Create the trial database as a clone, and drop it again."""
        name = quote_identifier(self.trial_database)
        try:
            self.drop_trial(connection)
            oid = self._choose_trial_oid(connection)
            with _share_blocks(connection):
                execute(
                    connection,
                    f"CREATE DATABASE {name} WITH TEMPLATE template0 ALLOW_CONNECTIONS false"
                    f" OID {oid} STRATEGY file_copy",
                )
        except psycopg.Error as error:
            logger.info("copies cannot share blocks: %s", sanitize_error(error))
            return False
        finally:
            self.drop_trial_if_possible(connection)
        return True

    def drop_trial_if_possible(self, connection: Connection) -> None:
        """Drop the trial database; only log an error, since nothing depends on it."""
        try:
            self.drop_trial(connection)
        except psycopg.Error as error:
            # It is empty and closed: the next check, or the next prune, drops it.
            logger.warning("%s was not removed: %s", self.trial_database, sanitize_error(error))

    def _choose_trial_oid(self, connection: Connection) -> int:
        """Choose a predictable OID for the trial database; remove a directory left by a crash."""
        taken = {row.oid for row in read_databases(connection).values()}
        oid = choose_oid("clonetry", self.trial_database, taken)
        directory = find_data_directory(self._server, connection)
        if directory is not None and not is_being_created(connection, oid):
            directory.remove_orphan(oid)
        return oid

    def drop_trial(self, connection: Connection) -> None:
        """Drop the trial database if it exists."""
        if fetch_rows(
            connection, "SELECT FROM pg_database WHERE datname = %s", [self.trial_database]
        ):
            execute(connection, f"DROP DATABASE IF EXISTS {quote_identifier(self.trial_database)}")
