"""Interface between the upgrade engine and a database engine; another engine implements only this.

All databases of a site change their role together. The *live* database is the one that the
application opens. A *candidate* (``<name>__next_<change>``) is a copy that will become live. A
*previous* database (``<name>__prev_<change>``) was live before the cut-over of that change, and is
frozen. A change that leaves the databases unchanged (``ChangeRef.no_copy``) makes no copy: its
cut-over writes the marker into the live databases in one transaction, and its rollback removes it.

Every operation is idempotent: called again with the same arguments after a crash at any instant, it
ends in the same state. Operations raise; they never report a failure by a return value.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from ncen_updater.agent.adapters.databases.round_trip import DatabaseSample, RowKeys, UntestedReason
from ncen_updater.agent.adapters.databases.schema import SchemaDigest
from ncen_updater.agent.model.errors import DatabaseError, DatabaseUnreachableError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import DATABASE_CLOSED, DATABASE_SET_INCOMPLETE, ROLES_LOCKED_OUT
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.data_loss import DataLoss
from ncen_updater.formats.manifest import (
    DatabaseProgram,
    Migration,
    MigratorCommand,
    SchemaCompatibility,
)


class DatabaseRole(StrEnum):
    """Role of a database that is not live."""

    CANDIDATE = "candidate"
    PREVIOUS = "previous"


class MigrationDirection(StrEnum):
    """Direction of a migration, and so the file that runs."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class ChangeRef:
    """Reference to a change, with the data that an engine needs.

    Attributes:
        id: Eight characters a-z and 2-7; part of database names.
        generation: Number that the databases carry after this change's cut-over.
        release: Version of the databases after the cut-over.
        retained_from: Id of the earlier change whose *previous* databases are copied (a rollback to
            previous databases); None to copy the live ones.
        no_copy: Whether the live databases are used unchanged by the other release: nothing is
            copied or migrated, and there are neither candidates nor previous databases.
    """

    id: str
    generation: int
    release: str
    retained_from: str | None = None
    no_copy: bool = False

    def get_candidate(self, name: str) -> CandidateDatabase:
        """Return the reference to the candidate of a database."""
        return CandidateDatabase(name, self)

    def get_previous(self, name: str) -> PreviousDatabase:
        """Return the reference to the previous database of this change."""
        return PreviousDatabase(name, self)


@dataclass(frozen=True)
class LiveDatabase:
    """Reference to a live database."""

    name: str


@dataclass(frozen=True)
class CandidateDatabase:
    """Reference to a candidate of a change."""

    role: ClassVar[DatabaseRole] = DatabaseRole.CANDIDATE
    name: str
    change: ChangeRef


@dataclass(frozen=True)
class PreviousDatabase:
    """Reference to a database that was live before the cut-over of a change."""

    role: ClassVar[DatabaseRole] = DatabaseRole.PREVIOUS
    name: str
    change: ChangeRef


#: One database, and a function from logical name to database, such as ``LiveDatabase``.
DatabaseRef = LiveDatabase | CandidateDatabase | PreviousDatabase
DatabaseSelector = Callable[[str], DatabaseRef]


@dataclass(frozen=True)
class DatabaseFacts:
    """Facts of one live database.

    Attributes:
        name: Logical name, as in the manifest.
        physical_name: Name (or path) in the engine.
        size_bytes: Bytes on the disk.
    """

    name: str
    physical_name: str
    size_bytes: int


@dataclass(frozen=True)
class DatabaseMarker(JsonRecord):
    """Marker of the live databases in the catalogue; written in the transaction of the cut-over."""

    release: str
    generation: int
    change: str

    def __str__(self) -> str:
        """Return release and generation in the form for errors."""
        return f"{self.release} ({self.generation})"


@dataclass(frozen=True)
class ChangeEvidence:
    """State of a change in the catalogue; the only database facts that recovery uses.

    Attributes:
        is_cut_over: Whether the cut-over transaction of this change has committed and was not
            reverted.
        fenced: Whether the live databases refuse sessions.
        candidates: Logical names whose candidate exists, complete or not.
        previous: Logical names whose previous database of this change exists.
        missing: Missing live databases, by the names that an administrator knows.
        closed: Live databases that refuse sessions.
        locked_out: Live databases into which none of the application's roles may log in, with these
            roles; read only if no change is given.
        fenced_by: Ids of the changes with a recorded fence, in force or not.
        committed: Whether the databases record that this change was committed.
        superseded: Whether a later change installed the live databases.
    """

    is_cut_over: bool
    fenced: bool
    candidates: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    committed: bool = False
    superseded: bool = False
    closed: tuple[str, ...] = field(default=(), compare=False)
    fenced_by: tuple[str, ...] = field(default=(), compare=False)
    locked_out: Sequence[tuple[str, str]] = field(default=(), compare=False)


@dataclass(frozen=True)
class CopyPlan:
    """Copy method of each database; journaled before the first byte is copied.

    Attributes:
        copies: Engine-specific facts for JSON, by logical name, such as object id, method, size.
    """

    copies: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class TableDigest:
    """Number of rows of a table and a digest of them, independent of their order."""

    rows: int
    digest: str


@dataclass(frozen=True)
class AppliedMigration:
    """One row of the migration ledger of a database."""

    id: str
    direction: MigrationDirection
    sha256: str
    release: str
    change: str
    applied_at: str  # UTC, ISO 8601


@dataclass(frozen=True)
class SqlMigration:
    """A migration with the paths of its files in a verified slot."""

    migration: Migration
    up: Path
    down: Path | None
    verify: Path | None
    up_sha256: str
    down_sha256: str | None
    verify_sha256: str | None = None


@dataclass(frozen=True)
class MigrationSet:
    """All migrations up to one release, in a verified slot.

    Attributes:
        release: Version of the release.
        slot: Directory of the release, with the files.
        databases: Migrations by logical name, in order, from the first release on.
        migrator: The application's own migrator, instead of files.
        compatibility: Declared compatibility with the databases of other releases.
    """

    release: str
    slot: Path
    databases: Mapping[str, Sequence[SqlMigration]]
    migrator: MigratorCommand | None = None
    compatibility: SchemaCompatibility | None = None

    @property
    def contract_program(self) -> DatabaseProgram | None:
        """Return the contract program, which completes the migrations after the soak period."""
        return self.migrator.contract if self.migrator is not None else None


@dataclass(frozen=True)
class PlannedMigration:
    """One migration file that will run."""

    database: str
    direction: MigrationDirection
    id: str
    path: Path
    sha256: str
    sql: str


@dataclass(frozen=True)
class MigrationPlan:
    """Steps that :meth:`DatabaseEngine.migrate` will run, in order; empty for a migrator.

    Attributes:
        steps: The steps.
        irreversible: (database, migration id, reason) of every migration in the range without a
            down migration; never empty for a migrator.
    """

    steps: tuple[PlannedMigration, ...]
    irreversible: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class MigratorUser:
    """User as which a migrator runs, instead of root.

    Attributes:
        name: User name, for messages and the environment.
        uid: User id.
        gid: Group id.
        home: Home directory.
    """

    name: str
    uid: int
    gid: int
    home: str = "/"


class DatabaseEngine(abc.ABC):
    """All databases of a site in one engine. The contract is in the module's docstring."""

    engine_name: ClassVar[str]  # a key of .engines.ENGINES; replaces {engine} in manifests
    #: Whether a program may change live databases while the application uses them.
    supports_online_programs: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the logical names, in the order of the configuration."""

    # ---- read operations -----------------------------------------------------------------------

    @abc.abstractmethod
    def read_version(self) -> str:
        """Return the version of server or library, in the form of PEP 440."""

    @abc.abstractmethod
    def describe_databases(self) -> tuple[DatabaseFacts, ...]:
        """Return the facts of each live database."""

    def describe_clone_condition(self) -> LazyText | None:
        """Return what would let copies share blocks; empty if they do, None if unknown."""
        return None

    @abc.abstractmethod
    def find_blockers(
        self,
        change: ChangeRef,
        *,
        application_stopped: bool,
        other_bytes: Callable[[Path], int] = lambda _: 0,
    ) -> tuple[Finding, ...]:
        """Return findings that would block this change, each with its remedy and figures.

        Args:
            change: The planned change.
            application_stopped: Whether the application is stopped; then foreign sessions block,
                too.
            other_bytes: Returns the bytes that the change needs besides the copies on the file
                system of a path.
        """

    def find_exposures(self, *, for_rehearsal: bool = False) -> tuple[Finding, ...]:
        """Find ways to gain the agent's rights with the application's rights in the databases.

        These findings do not block a rollback.

        Args:
            for_rehearsal: Whether a rehearsal follows, for which more findings may block.

        Raises:
            DatabaseError: If the application could not log in at its next start.
        """
        del for_rehearsal
        return ()

    @abc.abstractmethod
    def read_evidence(self, change: ChangeRef | None) -> ChangeEvidence:
        """Return the state of a change in the catalogue; for None, of the live databases."""

    def require_live(self, *, require_open: bool = True, require_login: bool = False) -> None:
        """Refuse if a live database is missing or refuses sessions.

        Args:
            require_open: False if the change itself has closed them.
            require_login: Whether the application must be able to log in, too.

        Raises:
            DatabaseUnreachableError: A database is missing.
            DatabaseError: A database is closed, or refuses the application's roles.
        """
        evidence = self.read_evidence(None)
        if evidence.missing:
            raise DatabaseUnreachableError(
                DATABASE_SET_INCOMPLETE, database=", ".join(evidence.missing)
            )
        if require_open and evidence.closed:
            raise DatabaseError(DATABASE_CLOSED, database=evidence.closed[0])
        for database, role in evidence.locked_out if require_login else ():
            raise DatabaseError(ROLES_LOCKED_OUT, database=database, quoted_role=role)

    def describe_sessions(self) -> tuple[str, ...]:
        """Return descriptions of the sessions in the live databases that a fence would end."""
        return ()

    def list_replaced(self) -> tuple[str, ...]:
        """Return live databases that somebody created in place of those closed by a change."""
        return ()

    def is_accepting_connections(self) -> bool:
        """Tell whether the server accepts connections now, without opening one. Files always do."""
        return True

    @abc.abstractmethod
    def measure_free_bytes(self) -> dict[Path, int]:
        """Return the writable bytes by directory, for each file system of the live databases.

        File systems of another machine are left out.

        Raises:
            DatabaseError: If the databases do not report their directories.
            OSError: If a file system cannot be inspected.
        """

    def require_dump_programs(self) -> None:  # noqa: B027 - files need none
        """Refuse if the dump programs of a rehearsal do not match the server.

        Raises:
            DatabaseError: If so.
        """

    @abc.abstractmethod
    def read_marker(self) -> DatabaseMarker | None:
        """Return the marker of the live databases; None if no agent ever cut over.

        If one part of the marker is lost (a comment, a record file) and the others agree, they
        count; :meth:`repair_marker` restores the lost part.

        Raises:
            DatabaseError: If the databases disagree.
        """

    @abc.abstractmethod
    def list_leftovers(self) -> tuple[tuple[str, DatabaseRole, str], ...]:
        """Return (change id, role, logical name) of every candidate or previous database."""

    @abc.abstractmethod
    def read_ledger(self, database: DatabaseRef) -> tuple[AppliedMigration, ...]:
        """Return the ledger of a database, oldest row first; empty if there is none.

        The ledger of a live database cannot be read while it is fenced; read its candidate's.
        """

    @abc.abstractmethod
    def run_queries(
        self, database: DatabaseRef, queries: Sequence[str], *, timeout_s: float = 3600.0
    ) -> list[list[tuple[object, ...]]]:
        """Run SELECTs, each with this limit, and return their rows; they can write nothing."""

    def run_query(
        self, database: DatabaseRef, sql: str, *, timeout_s: float = 3600.0
    ) -> list[tuple[object, ...]]:
        """Run one SELECT; see :meth:`run_queries`."""
        return self.run_queries(database, [sql], timeout_s=timeout_s)[0]

    @abc.abstractmethod
    def compute_table_digests(self, database: DatabaseRef) -> dict[str, TableDigest]:
        """Return a digest of every table, without the agent's own tables."""

    @abc.abstractmethod
    def read_schema(self, database: DatabaseRef) -> SchemaDigest:
        """Return digests of the schema, independent of column order and the agent's own tables."""

    @abc.abstractmethod
    def count_lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """Count the rows that a rollback to previous databases would lose: database, table, count.

        These are the rows entered or changed since the cut-over of ``change.retained_from``. An
        engine that does not know the age of a row compares live and previous databases by key; then
        the count includes rows that the release itself wrote, which the caller subtracts as counted
        at the cut-over, and a user's change to such a row is not noticed. Rows deleted since are
        not counted. Tables without loss are left out.
        """

    @abc.abstractmethod
    def count_entered_rows(
        self, change: ChangeRef, losses: Mapping[str, Sequence[DataLoss]]
    ) -> dict[str, dict[str, int]]:
        """Count entered rows in objects of the live databases: database, object, rows.

        These are the rows that a rollback by down migrations would not keep. For a column, count
        the rows whose value is neither null nor the default; for a table, all rows. An engine that
        knows the age of a row counts only those since the cut-over of ``change.retained_from``;
        otherwise all count, but tables that the release fills cannot be judged. Objects without
        such rows, and missing objects, are left out.
        """

    @abc.abstractmethod
    def read_sample(self, database: DatabaseRef, keys: RowKeys | None = None) -> DatabaseSample:
        """Read a few rows of every table of the application, for a later comparison.

        Args:
            database: The database.
            keys: The rows to read, by table; None for the first rows of each table, by key.
        """

    def count_release_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """Count rows that the release itself inserted or changed: database, table, count.

        Called right after the cut-over of a release without a lossless rollback, during the
        downtime: the rows that :meth:`count_lost_rows` counts then are no users' entries, and it
        would count them again later. An engine that knows the age of a row counts none of them.
        """
        return self.count_lost_rows(dataclasses.replace(change, retained_from=change.id))

    @abc.abstractmethod
    def find_migrator_user(self) -> MigratorUser | None:
        """Return the user as which the application's migrator runs; None if the agent is not root.

        Raises:
            MIGRATOR_USER_UNKNOWN: The agent is root, and no user is configured or known.
        """

    def list_quarantined(self) -> tuple[Finding, ...]:
        """List databases in quarantine because somebody wrote to them.

        Nothing drops them automatically. The figure ``path`` of each finding is their location.
        """
        return ()

    def find_orphans(self, plan: CopyPlan) -> tuple[Finding, ...]:
        """Find remains of an interrupted copy that :meth:`list_leftovers` does not list."""
        del plan
        return ()

    @contextlib.contextmanager
    def hold_sessions(self, *, migrating: bool = False) -> Iterator[None]:
        """Keep the sessions in the candidates open for a block.

        Blocks may be nested. Inside, different databases may be queried from different threads.

        Args:
            migrating: Whether the candidates are migrated in the block.
        """
        del migrating
        yield

    @contextlib.contextmanager
    def reuse_control_sessions(self) -> Iterator[None]:
        """Keep sessions outside the application's databases open for a block; may be nested."""
        yield

    def cancel_sessions(self) -> None:  # noqa: B027 - not every engine can
        """Cancel what other threads do inside :meth:`hold_sessions`, if the engine can."""

    # ---- write operations (idempotent) ---------------------------------------------------------

    @abc.abstractmethod
    def fence(self, change: ChangeRef) -> None:
        """Close the live databases to all foreign sessions at once, and end existing ones.

        Raises:
            FENCED_BY_OTHER: The fence of another change is in force.
        """

    @abc.abstractmethod
    def unfence(self, change: ChangeRef) -> None:
        """Open the databases to sessions again, exactly as before the fence.

        Raises:
            FENCED_BY_OTHER: The fence of another change is in force.
        """

    @abc.abstractmethod
    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """Choose copy method and object ids; empty for a change without copies. Writes nothing."""

    @abc.abstractmethod
    def copy_databases(self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener) -> None:
        """Copy all live databases in parallel as of one moment; they must be fenced."""

    @abc.abstractmethod
    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener
    ) -> Mapping[str, Sequence[str]]:
        """Fill the candidates of a rehearsal from a backup of the live databases, still in use.

        Each database is consistent in itself; together they are not from one moment. A second call
        starts again; :meth:`discard_candidates` removes the candidates.

        Returns:
            Objects, by database, that the backup does not contain although :meth:`copy_databases`
            would copy them. Databases with a complete backup are left out.
        """

    @abc.abstractmethod
    def copy_candidates(
        self, change: ChangeRef, timing_change: ChangeRef, progress: ProgressListener
    ) -> CopyPlan:
        """Copy the candidates of a rehearsal as :meth:`copy_databases` copies live databases.

        This measures the duration of a copy without downtime. The copies are candidates of
        ``timing_change``; :meth:`discard_candidates` with the returned plan removes them.
        """

    @abc.abstractmethod
    def is_copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """Tell whether every copy exists and is complete."""

    @abc.abstractmethod
    def discard_candidates(self, change: ChangeRef, plan: CopyPlan) -> None:
        """Remove candidates and the remains of an interrupted copy, never live databases."""

    @abc.abstractmethod
    def plan_migrations(
        self, select: DatabaseSelector, target: MigrationSet, current: MigrationSet | None
    ) -> MigrationPlan:
        """Compare the ledgers with the migration sets and plan the steps. Writes nothing.

        Args:
            select: Selects the databases whose ledgers are read (live before the downtime,
                candidates in it).
            target: Migrations of the release to reach.
            current: Migrations of the installed release; needed for down migrations, since only the
                newer release has the ``down`` files.

        Raises:
            MigrationRefusedError: An applied migration was edited or is unknown, or the order is
                broken.
        """

    @abc.abstractmethod
    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        current: MigrationSet | None,
        progress: ProgressListener,
    ) -> bool:
        """Migrate every candidate to the target's schema, as the application's role.

        Each migration runs with its ledger row in one transaction, within its time-outs; ``verify``
        files run after each ``up``. Writes release and generation into each candidate.

        Returns:
            Whether a migration may have written rows. A change of the schema alone need not be
                reported: the fingerprint shows it.
        """

    def prepare_control_storage(self) -> None:  # noqa: B027 - most have nothing to make
        """Create the storage in which changes are recorded, if missing; before the downtime."""

    def run_online_program(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: ProgressListener,
        *,
        change: ChangeRef | None = None,
        lock_fd: int = -1,
    ) -> None:
        """Run a program of a release on the live databases, while the application uses them.

        Only if :attr:`supports_online_programs` is true. The databases are not marked, and the
        program's effects are not undone.

        Args:
            program: The program.
            slot: Directory of the release.
            progress: Receives a report every two seconds.
            change: In a rehearsal, the change whose candidates the program changes instead.
            lock_fd: A descriptor that stays open as long as any process of the program runs.

        Raises:
            MIGRATOR_FAILED: The program failed; its effects until then stay.
        """
        raise NotImplementedError(
            f"{self.engine_name}: {program}, {slot}, {progress}, {change}, {lock_fd}"
        )

    def terminate_online_program(self) -> bool:
        """End the remaining sessions of such a program, whose process has ended.

        Returns:
            Whether none is left; otherwise the caller calls again.
        """
        return True

    @abc.abstractmethod
    def write_sample_values(
        self,
        candidate: CandidateDatabase,
        seed: str,
        minimal_columns: Mapping[str, Collection[str]],
    ) -> Mapping[str, Mapping[str, Counter[UntestedReason]]]:
        """Write sample values into a candidate of a rehearsal, as the application's role.

        A few rows of each table get a value in every column that accepts one; constraints are
        obeyed. An empty table gets a row if its constraints allow one.

        Args:
            candidate: A copy that will never be live.
            seed: Seed of the values; another seed gives other values.
            minimal_columns: Columns, by table, that get the smallest possible value.

        Returns:
            Number of rows without a sample value and the reason, by table and column.
        """

    @abc.abstractmethod
    def mark_candidates(self, change: ChangeRef) -> None:
        """Write release and generation into each candidate; schema and rows stay as copied."""

    def adopt_databases(self) -> None:  # noqa: B027 - most have nothing to do
        """Prepare the databases of a site for the agent, once, at adoption."""

    @abc.abstractmethod
    def baseline_ledger(self, change: ChangeRef, target: MigrationSet) -> None:
        """Write the ledger of a release into live databases that were created without an agent.

        Runs no migration: the operator and the checks of the adoption confirm the schema. Only if a
        database has no ledger yet, or only rows of this change; the rows carry its id.
        """

    def refresh_statistics(self, limit_s: float) -> dict[str, tuple[str, ...]]:
        """Update the planner's statistics of changed live databases; return the tables.

        Runs after the downtime: no row changes, and nobody waits for it. Tables not reached within
        the limit (in seconds) are left to the engine's own maintenance. A second call continues.
        Does nothing for an engine whose :meth:`migrate` updates them.

        Returns:
            The tables by database.
        """
        del limit_s
        return {}

    @abc.abstractmethod
    def cut_over(self, change: ChangeRef) -> None:
        """Make candidates live and live databases previous, with the marker, in one transaction.

        Owner, grants, connection limit and settings are kept. The live databases are open to
        sessions afterwards (the maintenance page is still shown); the previous ones are frozen. For
        a change without copies, only the marker is written.
        """

    def check_before_commit(self, change: ChangeRef) -> None:
        """Check a last time, right before the commit, that the databases allow it.

        Raises:
            DatabaseError: Somebody wrote to a database that the change would abandon; the change is
                then reverted, exactly.
        """
        del change

    @abc.abstractmethod
    def record_commit(self, change: ChangeRef) -> None:
        """Record in the databases that the change is committed, before users are let in.

        Afterwards nothing reverts them, not even a journal from an old backup.
        """

    @abc.abstractmethod
    def repair_marker(self) -> tuple[str, ...]:
        """Restore lost parts of the marker of the live databases; return their names.

        Raises:
            DatabaseError: If the databases disagree.
        """

    @abc.abstractmethod
    def adopt_restored(
        self, change: ChangeRef, target: MigrationSet, closed_change: ChangeRef | None = None
    ) -> None:
        """Mark the live databases, restored by hand, as those of a release.

        Restores connect grants that any change had revoked, writes a ledger if there is none, and
        records that ``change`` installed the databases and is committed. Runs no migration.

        Args:
            change: A new id and generation, and the release.
            target: Migrations of that release.
            closed_change: An unfinished change that the adoption closes.
        """

    @abc.abstractmethod
    def revert_cut_over(self, change: ChangeRef) -> None:
        """Revert the cut-over exactly: previous databases become live, still fenced.

        The migrated databases become candidates again. If they contain rows written since the
        cut-over, or if somebody other than the change opened them, they are put in quarantine
        (:meth:`list_quarantined`). For a change without copies the previous marker is restored;
        rows written meanwhile stay.

        Raises:
            ALREADY_COMMITTED: The databases record the commit, or were installed by a later change.
        """

    @abc.abstractmethod
    def drop_previous(self, change_id: str) -> None:
        """Drop the previous databases of a change; one that was written to is put in quarantine."""

    def drop_quarantined(self, change_id: str) -> None:
        """Drop a change's databases in quarantine (:meth:`list_quarantined`), by command only."""
        del change_id


class RollbackKind(StrEnum):
    """Kind of a rollback."""

    KEEPS_RECORDS = "keeps"  # all records: by down migrations, or nothing has to be undone
    RESTORES_PREVIOUS = "restores"  # the previous databases; later records are lost
    DEPENDS_ON_MIGRATOR = "depends"  # restores, unless the release's program changes nothing
