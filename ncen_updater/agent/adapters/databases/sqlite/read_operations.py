"""Read operations of the SQLite engine, and its findings."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    CandidateDatabase,
    ChangeEvidence,
    ChangeRef,
    DatabaseEngine,
    DatabaseFacts,
    DatabaseMarker,
    DatabaseRef,
    DatabaseRole,
    DatabaseSelector,
    LiveDatabase,
    MigrationPlan,
    MigrationSet,
    MigratorUser,
    TableDigest,
)
from ncen_updater.agent.adapters.databases.migrations import ledger
from ncen_updater.agent.adapters.databases.migrations.migrator import find_migrator_user
from ncen_updater.agent.adapters.databases.round_trip import DatabaseSample, RowKeys
from ncen_updater.agent.adapters.databases.schema import SchemaDigest
from ncen_updater.agent.adapters.databases.sqlite import inspection, round_trip
from ncen_updater.agent.adapters.databases.sqlite.copies import build_uri, open_database
from ncen_updater.agent.adapters.databases.sqlite.database_sets import (
    DatabaseSets,
    FenceRecord,
    RecordStore,
)
from ncen_updater.agent.adapters.databases.sqlite.dialect import LEDGER_TABLES
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    DatabaseSetMissingError,
    NotADatabaseSetError,
    NotRegularFileError,
    can_see_other_users,
    check_after_open,
    check_before_open,
    find_holders,
    is_locked,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.disk_space import REFLINK_ADVICE, get_free_bytes, supports_reflink
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.findings import Finding, Severity, report_finding
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    DATABASE_FILE_DAMAGED,
    DATABASE_FILE_MISSING,
    DATABASE_FILES_IN_USE,
    JOURNAL_OWNER_DIFFERS,
    MARKERS_DISAGREE,
    NO_SPACE_FOR_COPIES,
    OPEN_FILES_INVISIBLE,
    QUERY_FAILED,
    SET_IN_QUARANTINE,
    SET_NOT_ADOPTED,
    TRANSACTIONS_UNFINISHED,
)
from ncen_updater.formats.data_loss import DataLoss

# Number of virtual instructions between two checks of the clock (SQLite's progress handler).
QUERY_INSTRUCTIONS = 20_000
# A copy may grow while it is migrated, so this multiple of its size must be free.
GROWTH_FACTOR = 1.2

logger = logging.getLogger(__name__)


class SqliteReadOperations(DatabaseEngine):
    """Operations on a site's SQLite files that change nothing.

    Args:
        directory: Contains ``live`` and ``sets``, on one file system.
        names: Logical names; the file is ``<name>.sqlite``.
        migrator_environment: Further variables of the application's own migrator.
        records_directory: Directory of the agent's records; only the agent may write there, since
            the records are trusted. ``records`` next to the sets by default.
        migrator_user: User as which the application's own migrator runs; by default the owner of
            the files.
    """

    engine_name = "sqlite"

    def __init__(
        self,
        directory: Path,
        names: Sequence[str],
        migrator_environment: Mapping[str, str] | None = None,
        records_directory: Path | None = None,
        migrator_user: str | None = None,
    ) -> None:
        records = (records_directory or directory / "records").absolute()
        self._fence_records = RecordStore(records, FenceRecord)
        self._layout = DatabaseSets(directory.absolute(), tuple(names), records)
        self._migrator_environment = dict(migrator_environment or {})
        self._user = migrator_user

    @property
    def names(self) -> tuple[str, ...]:
        """Return the logical names, in the order of the configuration."""
        return self._layout.names

    # ---- read operations -----------------------------------------------------------------------

    def read_version(self) -> str:
        """Return the version of the SQLite library that this process uses."""
        return sqlite3.sqlite_version

    def describe_databases(self) -> tuple[DatabaseFacts, ...]:
        """Return the facts of each live database."""
        live = self._layout.find_live_set()
        found = []
        for name in self.names:
            path = self._layout.get_file(live, name)
            size = sum(item.lstat().st_size for item in self._layout.list_files(live, name))
            with self._open_for_reading(path, name) as database:
                database.execute("PRAGMA schema_version").fetchone()  # reads the file
            found.append(DatabaseFacts(name, str(path), size))
        return tuple(found)

    def describe_clone_condition(self) -> LazyText | None:
        """See :meth:`DatabaseEngine.describe_clone_condition`."""
        return LazyText("" if supports_reflink(self._layout.directory) else REFLINK_ADVICE)

    def find_blockers(
        self,
        change: ChangeRef,
        *,
        application_stopped: bool,
        other_bytes: Callable[[Path], int] = lambda _: 0,
    ) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.find_blockers`."""
        other = other_bytes(self._layout.directory)
        return tuple(
            find_blockers(self._layout, change, other, application_stopped=application_stopped)
        )

    def read_evidence(self, change: ChangeRef | None) -> ChangeEvidence:
        """Return the state of a change from links, records and the files of the set."""
        layout = self._layout
        live = layout.find_live_set_or_none()
        present = layout.list_present(live) if live else ()
        closed = () if layout.is_open() or live is None else self.names
        evidence = ChangeEvidence(
            is_cut_over=False,
            fenced=bool(closed),
            missing=tuple(name for name in self.names if name not in present),
            closed=closed,
            fenced_by=layout.list_fencing_changes(),
        )
        if change is None:
            return evidence
        candidates: set[str] = set()
        for path, role in layout.list_roles():
            if role.role is DatabaseRole.CANDIDATE and role.change == change.id:
                # A set that is being made or removed counts with all its names.
                partial = path.name.endswith(".partial")
                candidates.update(self.names if partial else layout.list_present(path))
        previous = layout.find_previous_set(change.id)
        return replace(
            evidence,
            is_cut_over=live is not None and self._is_cut_over(change, live),
            candidates=tuple(name for name in self.names if name in candidates),
            previous=layout.list_present(previous) if previous else (),
            committed=live is not None and change.id in layout.read_committed(live),
            superseded=live is not None and self._is_later(change, live),
        )

    def _is_later(self, change: ChangeRef, live: Path) -> bool:
        """Tell whether a later change installed the live set.

        If the agent's directory was restored from an older backup, the set has no record: then the
        state rows in its files are read.
        """
        record = self._layout.read_marker(live)
        markers = [record] if record is not None else self._read_states(live)
        return any(
            marker is not None
            and marker.change != change.id
            and marker.generation >= change.generation
            for marker in markers
        )

    def _read_states(self, live: Path) -> list[DatabaseMarker | None]:
        """Return the state rows of a set, even with a journal that a killed application left.

        An unreadable file is skipped: recovery must not fail because of it.
        """
        found = []
        for name in () if self._layout.is_plain_directory() else self._layout.list_present(live):
            path = self._layout.get_file(live, name)
            for mode in (self._choose_open_mode(path), "frozen"):
                try:
                    found.append(self._read_state_row(open_session(path, mode, name)))
                    break
                except DatabaseError as error:
                    logger.warning(
                        "the state row of %s cannot be read: %s", name, sanitize_error(error)
                    )
        return found

    def _is_cut_over(self, change: ChangeRef, live: Path) -> bool:
        if live == self._layout.get_candidate_set(change.id):
            return True
        # If no database was copied, the set is the same as before.
        marker = self._layout.read_marker(live)
        return marker is not None and marker.change == change.id

    def read_marker(self) -> DatabaseMarker | None:
        """Return the marker of the live set, after comparing it with the state row in every file.

        If the record is lost (because the files of a set were moved away and back), the state rows
        replace it, provided that the set's name contains the change that they name.
        """
        if self._layout.is_plain_directory():
            return None  # no agent ever cut over to it
        live = self._layout.find_live_set()
        marker = self._layout.read_marker(live)
        states: dict[str, DatabaseMarker | None] = {}
        for name in self.names:
            path = self._layout.get_file(live, name)
            states[name] = self._read_state(path, name)
        inside = next(iter(states.values()))
        if marker is None and inside is not None and set(states.values()) == {inside}:
            names = {live.name.removeprefix("next_"), *self._layout.read_committed(live)}
            marker = inside if inside.change in names else None
        for name, state in states.items():
            if state != marker:
                raise DatabaseError(
                    MARKERS_DISAGREE, reason=f"{name}: {state or '-'}; {live.name}: {marker or '-'}"
                )
        return marker

    def measure_free_bytes(self) -> dict[Path, int]:
        """See :meth:`DatabaseEngine.measure_free_bytes`."""
        return {self._layout.directory: get_free_bytes(self._layout.directory)}

    def list_leftovers(self) -> tuple[tuple[str, DatabaseRole, str], ...]:
        """Return every candidate or previous database that exists."""
        found: list[tuple[str, DatabaseRole, str]] = []
        for path, role in self._layout.list_roles():
            partial = path.name.endswith(".partial")
            names = self.names if partial else self._layout.list_present(path)
            found += [(role.change, role.role, name) for name in names]
        return tuple(found)

    def read_ledger(self, database: DatabaseRef) -> tuple[AppliedMigration, ...]:
        """Return the ledger of a database, oldest row first."""
        with self._open_for_reading(self._find_path(database), database.name) as connection:
            if not connection.execute(LEDGER_TABLES.exists).fetchone():
                return ()
            return ledger.parse_ledger_rows(connection.execute(LEDGER_TABLES.select_rows))

    def run_queries(
        self, database: DatabaseRef, queries: Sequence[str], *, timeout_s: float = 3600.0
    ) -> list[list[tuple[object, ...]]]:
        """See :meth:`DatabaseEngine.run_queries`; the file is opened read-only."""
        path = self._find_path(database)
        results: list[list[tuple[object, ...]]] = []
        sql, deadline = "", 0.0
        try:
            with open_database(path, self._choose_open_mode(path)) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.set_progress_handler(
                    lambda: int(time.monotonic() > deadline), QUERY_INSTRUCTIONS
                )
                for sql in queries:
                    deadline = time.monotonic() + timeout_s
                    results.append([tuple(row) for row in connection.execute(sql)])
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise DatabaseError(
                QUERY_FAILED, database=database.name, sql=sql, detail=sanitize_error(error)
            ) from error
        return results

    def compute_table_digests(self, database: DatabaseRef) -> dict[str, TableDigest]:
        """Return a digest of every table."""
        with self._open_for_reading(self._find_path(database), database.name) as connection:
            return inspection.compute_table_digests(connection)

    def read_schema(self, database: DatabaseRef) -> SchemaDigest:
        """Return digests of the schema."""
        with self._open_for_reading(self._find_path(database), database.name) as connection:
            return inspection.read_schema(connection)

    def count_lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.count_lost_rows`; compares with the previous set."""
        live = self._layout.find_live_set()
        previous = self._find_source_set(change)
        found: dict[str, dict[str, int]] = {}
        for name in self.names:
            older = self._layout.get_file(previous, name)
            with self._open_for_reading(self._layout.get_file(live, name), name) as database:
                check_before_open(older)
                database.execute(
                    "ATTACH ? AS previous", (build_uri(older, self._choose_open_mode(older)),)
                )
                check_after_open(database, older, "previous")
                lost = inspection.count_lost_rows(database)
            if lost:
                found[name] = lost
        return found

    def count_entered_rows(
        self, change: ChangeRef, losses: Mapping[str, Sequence[DataLoss]]
    ) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.count_entered_rows`.

        The age of a value is unknown.
        """
        del change
        found: dict[str, dict[str, int]] = {}
        for name in (name for name in self.names if losses.get(name)):
            with self._open_for_reading(self._find_path(LiveDatabase(name)), name) as database:
                entered = inspection.count_entered_rows(database, losses[name])
            if entered:
                found[name] = entered
        return found

    def read_sample(self, database: DatabaseRef, keys: RowKeys | None = None) -> DatabaseSample:
        """See :meth:`DatabaseEngine.read_sample`."""
        with self._open_for_reading(self._find_path(database), database.name) as connection:
            return round_trip.read_sample(connection, keys)

    def plan_migrations(
        self, select: DatabaseSelector, target: MigrationSet, current: MigrationSet | None
    ) -> MigrationPlan:
        """Compare the ledgers with the releases; for a migrator, return what is known of it."""
        from ncen_updater.agent.adapters.databases.migrations.planner import plan_site_migrations

        by_files = target.migrator is None
        ledgers = {n: self.read_ledger(select(n)) for n in self.names} if by_files else {}
        return plan_site_migrations(self.names, ledgers, target, current)

    def find_migrator_user(self) -> MigratorUser | None:
        """See :meth:`DatabaseEngine.find_migrator_user`."""
        info = self._layout.get_file(self._layout.find_live_set(), self.names[0]).lstat()
        return find_migrator_user(self._user, (info.st_uid, info.st_gid))

    def list_quarantined(self) -> tuple[Finding, ...]:
        """List sets in quarantine because somebody wrote to them."""
        return tuple(find_quarantined(self._layout))

    # ---- access to files -----------------------------------------------------------------------

    def _find_path(self, database: DatabaseRef) -> Path:
        layout, name = self._layout, database.name
        if isinstance(database, LiveDatabase):
            # Before an adoption the files are in a plain directory.
            return layout.get_file(
                layout.live if layout.is_plain_directory() else layout.find_live_set(), name
            )
        change = database.change.id
        if isinstance(database, CandidateDatabase):
            found: Path | None = layout.get_candidate_set(change)
        else:
            found = layout.find_previous_set(change)
        if found is None or not layout.get_file(found, name).is_file():
            raise DatabaseSetMissingError(database=f"{database.role.value} {name} ({change})")
        return layout.get_file(found, name)

    def _choose_open_mode(self, path: Path) -> str:
        """Return the open mode: ``frozen`` (without locks) for a read-only set, else ``ro``.

        A read-only set whose WAL is not empty is opened with ``ro``, so that the WAL is read too.
        """
        if not path.is_file():
            raise DatabaseSetMissingError(database=path)
        frozen = not path.lstat().st_mode & 0o200
        wal = path.with_name(path.name + "-wal")
        wal_bytes = os.path.lexists(wal) and wal.lstat().st_size
        return "frozen" if frozen and not wal_bytes else "ro"

    def _open_for_reading(
        self, path: Path, name: str
    ) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return open_session(path, self._choose_open_mode(path), name)

    def _read_state(self, path: Path, name: str) -> DatabaseMarker | None:
        return self._read_state_row(self._open_for_reading(path, name))

    @staticmethod
    def _read_state_row(
        session: contextlib.AbstractContextManager[sqlite3.Connection],
    ) -> DatabaseMarker | None:
        with session as database:
            if not database.execute(LEDGER_TABLES.exists).fetchone():
                return None
            return ledger.parse_state_row(database.execute(LEDGER_TABLES.select_state).fetchall())

    def _find_source_set(self, change: ChangeRef) -> Path:
        if change.retained_from is None:
            return self._layout.find_live_set()
        previous = self._layout.find_previous_set(change.retained_from)
        if previous is None:
            raise DatabaseSetMissingError(database=f"previous of {change.retained_from}")
        return previous


@contextlib.contextmanager
def open_session(path: Path, mode: str, name: str) -> Iterator[sqlite3.Connection]:
    """Open a database for a block; the driver's errors are translated, also that of opening it."""
    try:
        with open_database(path, mode) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DatabaseError(database=name, detail=sanitize_error(error)) from error


def find_blockers(
    layout: DatabaseSets, change: ChangeRef, other_bytes: int, *, application_stopped: bool
) -> Iterator[Finding]:
    """Yield the findings that block a change; see ``DatabaseEngine.find_blockers``."""
    try:
        live = layout.find_live_set()
    except NotADatabaseSetError:
        yield report_finding(SET_NOT_ADOPTED, path=str(layout.live))
        return
    except DatabaseSetMissingError as error:
        yield Finding("NU-4241", Severity.CRITICAL, error.title_text, error.remedy_text)
        return
    except NotRegularFileError as error:
        yield Finding("NU-4252", Severity.CRITICAL, error.title_text, error.remedy_text)
        return
    sizes = 0
    for name in layout.names:
        path = layout.get_file(live, name)
        if not os.path.lexists(path):
            yield report_finding(DATABASE_FILE_MISSING, path=str(path))
            continue
        try:
            check_before_open(path, applies_journal=application_stopped)
        except NotRegularFileError as error:
            yield Finding("NU-4252", Severity.CRITICAL, error.title_text, error.remedy_text)
            continue
        sizes += sum(item.lstat().st_size for item in layout.list_files(live, name))
        yield from _check_integrity(path)
        if application_stopped:
            yield from _check_journal(path)
        if application_stopped and is_locked(path):
            yield report_finding(DATABASE_FILES_IN_USE, path=str(path), count=1, who="-")
    if application_stopped:
        files = [path for name in layout.names for path in layout.list_files(live, name)]
        found = find_holders(files)
        if found:
            who = ", ".join(sorted({f"{item.name} ({item.pid})" for item in found}))
            count = len({item.pid for item in found})
            yield report_finding(DATABASE_FILES_IN_USE, path=str(live), count=count, who=who)
    if not can_see_other_users():
        yield report_finding(OPEN_FILES_INVISIBLE, path=str(live))
    yield from find_quarantined(layout)
    free = get_free_bytes(layout.directory)
    needed = int(sizes * GROWTH_FACTOR) + other_bytes
    if free < needed and not change.no_copy:
        yield report_finding(
            NO_SPACE_FOR_COPIES,
            path=str(layout.directory),
            needed_bytes=needed,
            free_bytes=free,
            missing_bytes=needed - free,
        )


def find_quarantined(layout: DatabaseSets) -> Iterator[Finding]:
    """Yield a finding for each set in quarantine."""
    for quarantined in layout.list_quarantined():
        for directory, counts in quarantined.counts.items():
            rows = ", ".join(f"{table} {count}" for table, count in (counts or {}).items())
            yield report_finding(
                SET_IN_QUARANTINE, path=directory, rows=rows or "-", change=quarantined.change
            )


def _check_integrity(path: Path) -> Iterator[Finding]:
    try:
        with open_database(path, "ro") as database:
            database.execute("PRAGMA busy_timeout = 5000")
            found = database.execute("PRAGMA quick_check(5)").fetchall()
        problem = "; ".join(str(row[0]) for row in found if row[0] != "ok")
    except sqlite3.Error as error:
        problem = sanitize_error(error)
    if problem:
        yield report_finding(DATABASE_FILE_DAMAGED, path=str(path), problem=problem)


def _check_journal(path: Path) -> Iterator[Finding]:
    """Report journals left by a stopped application after a crash; the copy will apply them."""
    for suffix in ("-wal", "-journal"):
        journal = path.with_name(path.name + suffix)
        if os.path.lexists(journal) and journal.lstat().st_size:
            size = journal.lstat().st_size
            yield report_finding(TRANSACTIONS_UNFINISHED, path=str(journal), bytes=size)
            if journal.lstat().st_uid != path.lstat().st_uid:
                yield report_finding(JOURNAL_OWNER_DIFFERS, path=str(journal))
