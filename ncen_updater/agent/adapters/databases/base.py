"""Interface that the upgrade engine needs of a database engine; a third one implements this alone.

Roles, which all databases of a site change together: *live* is what the application opens; a
*candidate* (``<name>__next_<change>``) is a copy on its way to become live; a *previous*
(``<name>__prev_<change>``) is what was live before the cut-over of that change, frozen. A change
that leaves the databases *as they are* (``ChangeRef.no_copy``) makes no copy: its cut-over writes
the marker into the live set, in one act, and its rollback removes it.

Every operation is idempotent: called again after a crash at any instant, with the same arguments,
it ends in the same state. Operations raise; they never report failure by a value.
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
    """What a database that is not live is to a change."""

    CANDIDATE = "candidate"
    PREVIOUS = "previous"


class MigrationDirection(StrEnum):
    """Which file of a migration runs."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class ChangeRef:
    """What an engine needs to know of a change.

    Attributes:
        id: Eight characters a-z and 2-7; part of database names.
        generation: The number that the databases carry after this change's cut-over.
        release: Version that the databases belong to after the cut-over.
        retained_from: Id of an earlier change whose *previous* databases are copied instead of the
            live ones (a rollback to what was kept); None for the live ones.
        no_copy: Whether the live databases go to the other release as they are: nothing is copied,
            nothing migrated, and there are neither candidates nor previous ones.
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
        """Return the reference to the previous database, which was live before the cut-over."""
        return PreviousDatabase(name, self)


@dataclass(frozen=True)
class LiveDatabase:
    """The live database of a name."""

    name: str


@dataclass(frozen=True)
class CandidateDatabase:
    """What is on its way to become live by a change."""

    role: ClassVar[DatabaseRole] = DatabaseRole.CANDIDATE
    name: str
    change: ChangeRef


@dataclass(frozen=True)
class PreviousDatabase:
    """What was live before the cut-over of a change."""

    role: ClassVar[DatabaseRole] = DatabaseRole.PREVIOUS
    name: str
    change: ChangeRef


#: One database, and what finds it by its logical name: ``LiveDatabase`` or ``change.candidate``.
DatabaseRef = LiveDatabase | CandidateDatabase | PreviousDatabase
DatabaseSelector = Callable[[str], DatabaseRef]


@dataclass(frozen=True)
class DatabaseFacts:
    """Facts of one live database, read without changing anything.

    Attributes:
        name: Logical name, as in the manifest.
        physical_name: Name (or path) in the engine.
        size_bytes: Bytes on the disk.
        details: Engine-specific facts for the plan (owner, encoding, settings...).
    """

    name: str
    physical_name: str
    size_bytes: int
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class SpaceNeed:
    """Bytes that copies of the live databases need at a place, and those that are free there."""

    path: str
    needed_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class DatabaseMarker(JsonRecord):
    """What the catalogue says of the live set; written in the transaction of the cut-over."""

    release: str
    generation: int
    change: str

    def __str__(self) -> str:
        """Show release and generation, as an error quotes them."""
        return f"{self.release} ({self.generation})"


@dataclass(frozen=True)
class ChangeEvidence:
    """What exists for a change, seen in the catalogue; the recovery table reads nothing else.

    Attributes:
        is_cut_over: Whether the cut-over transaction of this change has committed and was not
            undone.
        fenced: Whether the live databases refuse sessions.
        candidates: Logical names whose candidate exists, whole or not.
        previous: Logical names whose previous of this change exists.
        missing: The live databases that are not there, as an administrator knows them.
        closed: Those that refuse sessions.
        shut: Those into which none of the application's roles may log in, with these roles; asked
            for only where there is no change.
        fenced_by: Ids of the changes whose fence is written down, whether it stands or not.
        committed: Whether the databases say that this change was committed.
        superseded: Whether the live set was brought by a later change.
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
    shut: Sequence[tuple[str, str]] = field(default=(), compare=False)


@dataclass(frozen=True)
class CopyPlan:
    """How each database will be copied; goes into the journal before the first byte is copied.

    Attributes:
        copies: JSON-able, by logical name: engine-specific facts such as object id, method, size.
    """

    copies: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class TableDigest:
    """Rows of a table: their number and a digest that does not depend on their order."""

    rows: int
    digest: str


@dataclass(frozen=True)
class AppliedMigration:
    """One row of the ledger inside a database."""

    id: str
    direction: MigrationDirection
    sha256: str
    release: str
    change: str
    applied_at: str  # UTC, ISO 8601


@dataclass(frozen=True)
class SqlMigration:
    """A migration with its files resolved in a verified slot."""

    migration: Migration
    up: Path
    down: Path | None
    verify: Path | None
    up_sha256: str
    down_sha256: str | None
    verify_sha256: str | None = None


@dataclass(frozen=True)
class MigrationSet:
    """All migrations that lead to one release, as they lie in a verified slot.

    Attributes:
        databases: By logical name, in order, from the first release on.
        command: The application's own migrator, instead of files.
        slot: Directory of the release that holds the files.
        compatibility: What the release says of databases of others.
    """

    release: str
    slot: Path
    databases: Mapping[str, Sequence[SqlMigration]]
    migrator: MigratorCommand | None = None
    compatibility: SchemaCompatibility | None = None

    @property
    def contract_program(self) -> DatabaseProgram | None:
        """Return what brings the application's own migrations to their end once users are in."""
        return self.migrator.contract if self.migrator is not None else None


@dataclass(frozen=True)
class PlannedMigration:
    """One file that will run."""

    database: str
    direction: MigrationDirection
    id: str
    path: Path
    sha256: str
    sql: str


@dataclass(frozen=True)
class MigrationPlan:
    """What :meth:`DatabaseEngine.migrate` will run, in order; empty for a command migrator.

    Attributes:
        irreversible: (database, migration id, reason) of every migration in the range that has no
            down migration; never empty for a command migrator.
    """

    steps: tuple[PlannedMigration, ...]
    irreversible: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class MigratorUser:
    """The user that a migrator has instead of root.

    Attributes:
        name: For people, and for the program.
        home: Its directory.
    """

    name: str
    uid: int
    gid: int
    home: str = "/"


class DatabaseEngine(abc.ABC):
    """All databases of a site in one engine. See the module for the contract."""

    engine_name: ClassVar[str]  # a name of .engines.ENGINES; fills {engine} in manifests
    #: Whether a program may work on live databases while the application does.
    supports_online_programs: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Logical names, in the order of the configuration."""

    # ---- facts: nothing is written -------------------------------------------------------------

    @abc.abstractmethod
    def read_version(self) -> str:
        """Version of the server or library, as PEP 440 text."""

    @abc.abstractmethod
    def describe_databases(self) -> tuple[DatabaseFacts, ...]:
        """Facts of each live database."""

    @abc.abstractmethod
    def measure_copy_space(self, change: ChangeRef) -> tuple[SpaceNeed, ...]:
        """Measure the disks that copies would go to, as far as they can be seen from here."""

    @abc.abstractmethod
    def find_blockers(
        self,
        change: ChangeRef,
        *,
        application_stopped: bool,
        other_bytes: Callable[[Path], int] = lambda _: 0,
    ) -> tuple[Finding, ...]:
        """Return what would stop this change, each with its remedy and figures.

        Args:
            change: The change that is planned.
            application_stopped: Whether it is stopped: then sessions of others count, too.
            other_bytes: Bytes that the change needs beside the copies on the disk of a path.
        """

    def find_exposures(self, *, for_rehearsal: bool = False) -> tuple[Finding, ...]:
        """Find ways by which the application's rights in the databases lead to the agent's rights.

        They do not block a rollback.

        Args:
            for_rehearsal: Whether a rehearsal follows, for which more findings may block.

        Raises:
            DatabaseError: If the application itself could not log in any more at its next start.
        """
        del for_rehearsal
        return ()

    @abc.abstractmethod
    def read_evidence(self, change: ChangeRef | None) -> ChangeEvidence:
        """Return what exists for a change, whatever a crash left; for None, of the live set."""

    def require_live(self, *, opened: bool = True, entered: bool = False) -> None:
        """Refuse where a live database is missing, or refuses sessions.

        Args:
            opened: False where the change itself has closed them.
            entered: Whether the application has to be able to log in, too.

        Raises:
            DatabaseUnreachableError: One is missing.
            DatabaseError: One is closed, or shut to the application's roles.
        """
        seen = self.read_evidence(None)
        if seen.missing:
            raise DatabaseUnreachableError(
                DATABASE_SET_INCOMPLETE, database=", ".join(seen.missing)
            )
        if opened and seen.closed:
            raise DatabaseError(DATABASE_CLOSED, database=", ".join(seen.closed))
        for database, role in seen.shut if entered else ():
            raise DatabaseError(ROLES_LOCKED_OUT, database=database, role=role)

    def sessions(self) -> tuple[str, ...]:
        """Return whose sessions in the live set a fence would end, in the words of the engine."""
        return ()

    def list_replaced(self) -> tuple[str, ...]:
        """Live databases that somebody put in the place of those that a change had closed."""
        return ()

    def is_accepting_connections(self) -> bool:
        """Tell whether the server takes sessions now; it is not asked for any. Files always do."""
        return True

    @abc.abstractmethod
    def measure_free_bytes(self) -> dict[Path, int]:
        """Bytes that may still be written by place, of each disk that the live databases lie on.

        Those of another machine are not seen.

        Raises:
            DatabaseError: If the databases cannot be asked where they lie.
            OSError: If such a disk cannot be looked at.
        """

    def require_dump_programs(self) -> None:  # noqa: B027 - files need none
        """Refuse where programs that a rehearsal copies with do not fit the server.

        Raises:
            DatabaseError: If so.
        """

    @abc.abstractmethod
    def read_marker(self) -> DatabaseMarker | None:
        """Return the marker of the live set; None where no agent ever cut over.

        Where one part of the marker was lost (a comment, a record file) and the others agree, these
        count; :meth:`repair_marker` writes it again.

        Raises:
            DatabaseError: If the databases of the set disagree.
        """

    @abc.abstractmethod
    def list_leftovers(self) -> tuple[tuple[str, DatabaseRole, str], ...]:
        """Return every (change id, role, logical name) of candidate or previous that exists."""

    @abc.abstractmethod
    def read_ledger(self, database: DatabaseRef) -> tuple[AppliedMigration, ...]:
        """Return the ledger of a database, oldest first; empty where there is none.

        The ledger of a live database in a fenced set cannot be read; read its candidate's.
        """

    @abc.abstractmethod
    def run_query(
        self, database: DatabaseRef, sql: str, *, timeout_s: float = 3600.0
    ) -> list[tuple[object, ...]]:
        """Run one SELECT in a read-only transaction and return its rows."""

    @abc.abstractmethod
    def compute_table_digests(self, database: DatabaseRef) -> dict[str, TableDigest]:
        """Digest of every user table, without the agent's own tables."""

    @abc.abstractmethod
    def read_schema(self, database: DatabaseRef) -> SchemaDigest:
        """Digests of the schema, of the whole and by kind: see :mod:`.schema`.

        Independent of column order, of the agent's own tables and of parked rows.
        """

    def compute_fingerprint(self, database: DatabaseRef) -> str:
        """Digest of the whole schema: tables, columns, types, keys, indexes, views, code."""
        return self.read_schema(database).fingerprint

    @abc.abstractmethod
    def count_lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """Rows entered or changed since the cut-over of ``change.source``: database, table, count.

        What a rollback to the previous databases would lose. An engine that cannot tell since when
        a row is there compares the live set with the kept one, by key; then the rows that the
        release itself made or changed are in the count, the caller takes out what was counted at
        the cut-over, and a change to one of them is not seen. Rows that were deleted since are not
        counted. Tables with no loss are left out.
        """

    @abc.abstractmethod
    def count_entered_rows(
        self, change: ChangeRef, losses: Mapping[str, Sequence[DataLoss]]
    ) -> dict[str, dict[str, int]]:
        """Count what people entered in objects of the live set: database, object, rows.

        What a rollback by down migrations would not keep. For a column the rows whose value is
        there and is not the default; for a table all rows. An engine that knows since when a row is
        as it is counts those since the cut-over of ``change.source``; else all count, but of a
        table that the release fills nothing can be told. Objects without such rows are left out,
        and so are those that are not there: nothing of them can be lost.
        """

    @abc.abstractmethod
    def read_sample(self, database: DatabaseRef, keys: RowKeys | None = None) -> DatabaseSample:
        """Read a few rows of every table of the application, to compare them later.

        Args:
            database: Which database.
            keys: By table the rows that are wanted; None for the first of each, by key.
        """

    def count_release_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """Rows that the release itself put in or changed: database, table, count.

        Asked right after the cut-over of a release without a rollback, while users are out.
        What :meth:`count_lost_rows` counts then, and :meth:`count_lost_rows` later counts again. An
        engine that knows since when a row is there counts none of them, and answers at once.
        """
        return self.count_lost_rows(dataclasses.replace(change, retained_from=change.id))

    @abc.abstractmethod
    def find_migrator_user(self) -> MigratorUser | None:
        """As whom the application's own migrator runs; None where the agent is not root.

        Raises:
            MIGRATOR_USER_UNKNOWN: The agent is root, and nobody else is known.
        """

    def list_quarantined(self) -> tuple[Finding, ...]:
        """List databases quarantined because somebody wrote to them; nothing drops them.

        The figures of each finding hold ``path``, where it is.
        """
        return ()

    def find_orphans(self, plan: CopyPlan) -> tuple[Finding, ...]:
        """Find what an interrupted copy may have left, unknown to :meth:`list_leftovers`."""
        del plan
        return ()

    @contextlib.contextmanager
    def hold_sessions(self, *, migrating: bool = False) -> Iterator[None]:
        """Keep what is needed to ask the candidates from one question to the next, for a block.

        May be nested. In the block different databases may be asked from different threads.

        Args:
            migrating: Whether the candidates are migrated meanwhile.
        """
        del migrating
        yield

    @contextlib.contextmanager
    def reuse_control_sessions(self) -> Iterator[None]:
        """Keep sessions outside the set from one act to the next, for a block; may be nested."""
        yield

    def cancel_sessions(self) -> None:  # noqa: B027 - not every engine can
        """End what other threads do inside :meth:`hold_sessions`; else they are waited for."""

    @abc.abstractmethod
    def build_migrator_url(self, database: DatabaseRef) -> str:
        """URL for an external migrator; holds no password (that goes by file or environment)."""

    # ---- acts: idempotent ----------------------------------------------------------------------

    @abc.abstractmethod
    def fence(self, change: ChangeRef) -> None:
        """Bar every session but our own from the live set, in one act, and end those that stay.

        Raises:
            FENCED_BY_OTHER: Another change keeps everybody out.
        """

    @abc.abstractmethod
    def unfence(self, change: ChangeRef) -> None:
        """Let sessions in again, exactly as before the fence.

        Raises:
            FENCED_BY_OTHER: Another change keeps everybody out.
        """

    @abc.abstractmethod
    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """Decide method and object ids; nothing for a change that copies none. Writes nothing."""

    @abc.abstractmethod
    def copy_databases(self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener) -> None:
        """Copy the whole set side by side from one quiet moment; the set must be fenced."""

    @abc.abstractmethod
    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener
    ) -> Mapping[str, Sequence[str]]:
        """Fill the candidates from a backup of the live set while it is in use: for a rehearsal.

        Each database is one consistent state; the set is not from one moment. Called again it
        begins again; :meth:`discard_candidates` removes what it made.

        Returns:
            By database what the backup does not carry, though :meth:`copy_databases` would: objects
            in the words of the engine. Databases of which it carries all are left out.
        """

    @abc.abstractmethod
    def copy_candidates(
        self, change: ChangeRef, timing_change: ChangeRef, progress: ProgressListener
    ) -> CopyPlan:
        """Copy the candidates of a rehearsal the way :meth:`copy_databases` copies the live set.

        So that the copy can be timed without users being out. The copies are candidates of
        ``timing_change``; :meth:`discard_candidates` with the plan that is returned removes them.
        """

    @abc.abstractmethod
    def is_copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """Tell whether every copy is there and whole."""

    @abc.abstractmethod
    def discard_candidates(self, change: ChangeRef, plan: CopyPlan) -> None:
        """Remove candidates and whatever an interrupted copy left. Never touches live."""

    @abc.abstractmethod
    def plan_migrations(
        self, select: DatabaseSelector, target: MigrationSet, current: MigrationSet | None
    ) -> MigrationPlan:
        """Compare the ledgers with the migration sets and say what will run. Writes nothing.

        Args:
            select: Whose ledgers are read (live before the stop, candidates after).
            target: Migrations of the release that will run.
            current: Migrations of the release that runs now; needed where the way leads down, since
                only the newer release has the ``down`` files.

        Raises:
            MigrationRefusedError: An applied migration was edited, is unknown, or the order is
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
        """Bring every candidate to the target's schema, as the application's role.

        Each migration runs with its ledger row in one transaction, within its time-outs; ``verify``
        files run after each ``up``. Marks release and generation inside each candidate.

        Returns:
            Whether anything ran that wrote to a candidate beyond the agent's own tables. A change
            of the schema alone may be left out: the fingerprint tells that.
        """

    def prepare_control_storage(self) -> None:  # noqa: B027 - most have nothing to make
        """Make what changes are recorded in, where it is not there yet: before users are out."""

    def run_online_program(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: ProgressListener,
        *,
        change: ChangeRef | None = None,
        lock_fd: int = -1,
    ) -> None:
        """Run a program of a release on the live databases, while the application works on them.

        Only where :attr:`supports_online_programs` is true. Nothing is marked, and nothing undoes
        it.

        Args:
            program: The program.
            slot: Directory of the release.
            progress: Told every two seconds.
            change: Whose candidates it works on instead, in a rehearsal.
            lock_fd: A descriptor that is held open as long as anything of the program is at work.

        Raises:
            MIGRATOR_FAILED: It failed; what it did until then stays.
        """
        raise NotImplementedError(
            f"{self.engine_name}: {program}, {slot}, {progress}, {change}, {lock_fd}"
        )

    def terminate_online_program(self) -> bool:
        """End what such a program left in the server, whose own process has ended.

        Returns:
            Whether nothing of it is there any more; else it is asked again.
        """
        return True

    @abc.abstractmethod
    def write_sample_values(
        self,
        candidate: CandidateDatabase,
        seed: str,
        minimal_columns: Mapping[str, Collection[str]],
    ) -> Mapping[str, Mapping[str, Counter[UntestedReason]]]:
        """Write values on trial into a candidate of a rehearsal, as the application's role.

        Into every column that takes one, in a few rows of each table; a rule of the table that
        refuses one is obeyed. An empty table gets a row where its rules let it.

        Args:
            candidate: A copy that will never be live.
            seed: Another one, other values.
            minimal_columns: By table the columns that get the least value they can.

        Returns:
            By table and column how many rows got none, and why.
        """

    @abc.abstractmethod
    def mark_candidates(self, change: ChangeRef) -> None:
        """Mark release and generation in each candidate; schema and rows stay as copied."""

    def adopt_databases(self) -> None:  # noqa: B027 - most have nothing to do
        """Give the databases of a site the form that the agent works with, once, at adoption."""

    @abc.abstractmethod
    def baseline_ledger(self, change: ChangeRef, target: MigrationSet) -> None:
        """Write the ledger of a release into live databases that were made without an agent.

        Runs no migration: the operator and the fingerprints vouch for the schema. Only where a
        database has no ledger yet, or one of this very change; the rows carry its id.
        """

    def refresh_statistics(self, limit_s: float) -> dict[str, tuple[str, ...]]:
        """Let the planner know what changed in the live databases; return the tables, by database.

        For after users were let in: no row changes, nobody waits for it, and what is not reached
        within the time is left to the engine's own upkeep. Called again it does what is left.
        Nothing for an engine that has that done by :meth:`migrate`.
        """
        del limit_s
        return {}

    @abc.abstractmethod
    def cut_over(self, change: ChangeRef) -> None:
        """Make the candidates live and the live ones previous: one transaction, with the marker.

        Owner, grants, connection limit and settings are carried over. Live is open to sessions
        afterwards (the application's maintenance page is still on); previous is frozen. Of
        a change that leaves the databases as they are, only the marker is written.
        """

    def check_before_commit(self, change: ChangeRef) -> None:
        """Look a last time, right before the commit, whether the change may stand.

        Raises:
            DatabaseError: Something was written meanwhile that the change would leave behind; the
                change then goes back, exactly.
        """
        del change

    @abc.abstractmethod
    def record_commit(self, change: ChangeRef) -> None:
        """Write into the databases that the change is committed, before users are let in.

        Afterwards nothing cuts them back, not even a journal from an old backup.
        """

    @abc.abstractmethod
    def repair_marker(self) -> tuple[str, ...]:
        """Write again what the live set lost of its marker; return where, empty if nowhere.

        Raises:
            DatabaseError: If the databases of the set disagree.
        """

    @abc.abstractmethod
    def adopt_restored(
        self, change: ChangeRef, target: MigrationSet, closed_change: ChangeRef | None = None
    ) -> None:
        """Mark the live set, as it is, as that of a release: people restored it by hand.

        Restores connect grants that any change had revoked, writes a ledger where there is none,
        and records that ``change`` brought the set and is committed. Runs no migration.

        Args:
            change: A new id and generation, and the release.
            target: Migrations of that release.
            closed_change: A change that never came to its end, and of which nothing is expected any
                more.
        """

    @abc.abstractmethod
    def revert_cut_over(self, change: ChangeRef) -> None:
        """Undo the cut-over exactly: previous becomes live, still fenced; what was live, candidate.

        Where rows are in it that were written since the cut-over, or somebody else than the change
        had opened it, it is no candidate but :meth:`list_quarantined`. Of a change that left the
        databases as they are, the previous marker; whatever was written meanwhile stays.

        Raises:
            ALREADY_COMMITTED: The databases say committed, or were brought by a later change.
        """

    @abc.abstractmethod
    def drop_previous(self, change_id: str) -> None:
        """Drop the previous databases of a change for good; one that was written is set aside."""

    def drop_quarantined(self, change_id: str) -> None:
        """Drop for good what :meth:`list_quarantined` names with this change; a person said so."""
        del change_id


class RollbackKind(StrEnum):
    """Which way a rollback takes."""

    KEEPS_RECORDS = "keeps"  # all records: by down migrations, or there is nothing to undo
    RESTORES_PREVIOUS = "restores"  # what was kept at the upgrade; later records are lost
    DEPENDS_ON_MIGRATOR = "depends"  # restores, unless the program turns out to change nothing
