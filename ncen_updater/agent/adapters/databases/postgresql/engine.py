"""PostgreSQL as a :class:`DatabaseEngine`: combines the modules of this package."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    CandidateDatabase,
    ChangeEvidence,
    ChangeRef,
    CopyPlan,
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
from ncen_updater.agent.adapters.databases.migrations.migrator import find_migrator_user
from ncen_updater.agent.adapters.databases.postgresql import cut_over, inspection, round_trip
from ncen_updater.agent.adapters.databases.postgresql.blockers import (
    delete_quarantined,
    find_blockers,
    find_orphans,
    list_quarantined,
)
from ncen_updater.agent.adapters.databases.postgresql.candidate_migrations import (
    CandidateMigrations,
)
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    candidate_name,
    find_data_directory,
    parse_marker,
    previous_name,
    quarantine_name,
    read_databases,
    read_disks,
    read_server_major,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    ServerTimeouts,
    fetch_rows,
    record_login,
    translate_errors,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    ControlDatabase,
    alter_and_renew,
    forget_versions,
    open_settled_session,
    read_cut_over_transaction,
    read_fences,
    read_last_event,
    read_recorded_marker,
)
from ncen_updater.agent.adapters.databases.postgresql.copies import (
    CloneSupport,
    TemplateCopies,
    build_pre_drop_statements,
    drop_database,
    make_copy_plan,
)
from ncen_updater.agent.adapters.databases.postgresql.cut_over import CutOver
from ncen_updater.agent.adapters.databases.postgresql.fence import DatabaseFence
from ncen_updater.agent.adapters.databases.postgresql.rehearsal_copies import (
    DUMP_PROGRAMS,
    RehearsalCopies,
    find_matching_program,
)
from ncen_updater.agent.adapters.databases.postgresql.roles import (
    find_exposures,
    find_login_trouble,
    survey_roles,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import DatabaseSessions
from ncen_updater.agent.adapters.databases.postgresql.statistics import refresh_statistics
from ncen_updater.agent.adapters.databases.postgresql.survey import ServerSurvey, survey_server
from ncen_updater.agent.adapters.databases.round_trip import DatabaseSample, RowKeys, UntestedReason
from ncen_updater.agent.adapters.databases.schema import SchemaDigest
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import DATABASE_SET_INCOMPLETE
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.data_loss import DataLoss
from ncen_updater.formats.manifest import DatabaseProgram

_LOCKED_OUT = (
    "SELECT datname, (SELECT string_agg(quote_ident(role), ', ') FROM unnest(%s::text[]) role)"
    " FROM pg_database d WHERE datname = ANY(%s)"
    " AND NOT EXISTS (SELECT FROM pg_roles r WHERE rolname = ANY(%s) AND rolcanlogin"
    " AND has_database_privilege(r.oid, d.oid, 'CONNECT')) ORDER BY 1"
)


class PostgresEngine(DatabaseEngine):
    """The databases of a site on one PostgreSQL server.

    Args:
        settings: Address of the server, and the roles.
        names: Logical to physical names.
        timeouts: Time-outs of the agent's own statements.
        migrator_environment: Further variables of the application's own migrator.
        migrator_user: User as which the migrator runs, if the agent is root.
    """

    engine_name = "postgresql"
    supports_online_programs = True

    def __init__(
        self,
        settings: PostgresSettings,
        names: Mapping[str, str],
        *,
        timeouts: ServerTimeouts | None = None,
        migrator_environment: Mapping[str, str] | None = None,
        migrator_user: str | None = None,
    ) -> None:
        self._settings = settings
        self._user = migrator_user
        self._physical = dict(names)
        self._limits = timeouts or ServerTimeouts()
        self._server = Server(settings, self._limits)
        self._control = ControlDatabase(self._server)
        self._fencing = DatabaseFence(self._server, self._control, tuple(self._physical.values()))
        self._cloning = CloneSupport(self._server, self._physical)
        self._copying = TemplateCopies(self._server, self._control)
        self._sessions = DatabaseSessions(self._server, self._physical)
        self._swap = CutOver(
            self._server, self._control, self._fencing, self._sessions, self._physical
        )
        self._migrating = CandidateMigrations(
            self._server,
            self._sessions,
            self._physical,
            migrator_environment,
            self.find_migrator_user,
        )
        self._rehearsing = RehearsalCopies(self._server, self._copying, self._sessions)

    def find_migrator_user(self) -> MigratorUser | None:
        """See :meth:`DatabaseEngine.find_migrator_user`."""
        return find_migrator_user(self._user)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the logical names, in the order of the configuration."""
        return tuple(self._physical)

    # ---- read operations -------------------------------------------------------------------------

    def read_version(self) -> str:
        """Return the server's version, such as ``15.20``."""
        with self._server.open_control_session() as connection:
            number = connection.info.server_version
        return f"{number // 10_000}.{number % 10_000}"

    def describe_databases(self) -> tuple[DatabaseFacts, ...]:
        """Return the facts of each live database.

        Raises:
            DATABASE_SET_INCOMPLETE: If a database is missing.
        """
        facts = []
        with self._server.open_control_session() as connection:
            for name, physical in self._physical.items():
                found = fetch_rows(
                    connection,
                    "SELECT pg_database_size(oid) FROM pg_database"
                    " WHERE datname = %s AND datconnlimit <> -2",
                    [physical],
                )
                if not found:
                    raise DatabaseError(DATABASE_SET_INCOMPLETE, database=physical)
                facts.append(DatabaseFacts(name, physical, int(found[0][0])))
        return tuple(facts)

    def _survey(self, change: ChangeRef) -> ServerSurvey:
        clone = self._cloning.list_cloneable(change)
        return survey_server(self._server, change, self._physical, clone=clone)

    def describe_clone_condition(self) -> LazyText | None:
        """See :meth:`DatabaseEngine.describe_clone_condition`."""
        return self._cloning.describe_condition()

    def find_blockers(
        self,
        change: ChangeRef,
        *,
        application_stopped: bool,
        other_bytes: Callable[[Path], int] = lambda _: 0,
    ) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.find_blockers`."""
        if not application_stopped:  # users still work; plan_copy needs the result
            self._cloning.detect(change)
        return find_blockers(
            self._survey(change),
            change,
            self._physical,
            application_stopped=application_stopped,
            other_bytes=other_bytes,
            role=self._settings.user,
            owner=self._settings.owner,
            application_roles=self._settings.application_roles,
        )

    def find_exposures(self, *, for_rehearsal: bool = False) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.find_exposures`."""
        found = find_login_trouble(self._server, next(iter(self._physical.values())), self._user)
        seen = survey_roles(self._server, tuple(self._physical.values()))
        if seen is None:
            return found
        return found + find_exposures(
            seen,
            databases=len(self._physical),
            role=self._settings.user,
            owner=self._settings.owner,
            control=self._settings.control_database,
            rehearsing=for_rehearsal,
        )

    def read_evidence(self, change: ChangeRef | None) -> ChangeEvidence:
        """See :meth:`DatabaseEngine.read_evidence`.

        Waits until the server has ended the transactions of a dead agent's session.
        """
        with open_settled_session(self._server) as connection:
            found = read_databases(connection)
            if change is None:
                evidence = cut_over.describe_live_set(
                    self._physical, found, read_fences(connection)
                )
                roles, live = list(self._settings.connect_roles), list(self._physical.values())
                return replace(
                    evidence, locked_out=fetch_rows(connection, _LOCKED_OUT, [roles, live, roles])
                )
            record = read_last_event(connection, change.id)
        return cut_over.decide_evidence(change, self._physical, found, record)

    def describe_sessions(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.describe_sessions`."""
        return self._fencing.describe_sessions()

    def list_replaced(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.list_replaced`."""
        return self._fencing.list_replaced()

    def is_accepting_connections(self) -> bool:
        """Tell whether the server accepts connections now."""
        return self._server.is_accepting_connections()

    def measure_free_bytes(self) -> dict[Path, int]:
        """See :meth:`DatabaseEngine.measure_free_bytes`."""
        with self._server.open_control_session() as connection:
            found = read_databases(connection)
            live = {n: found[p].oid for n, p in self._physical.items() if p in found}
            disks = read_disks(self._server, connection, live)
        return {Path(disk.directory): disk.free_bytes for disk in disks}

    def require_dump_programs(self) -> None:
        """See :meth:`DatabaseEngine.require_dump_programs`."""
        for name in DUMP_PROGRAMS:
            find_matching_program(self._server, name)

    def read_marker(self) -> DatabaseMarker | None:
        """See :meth:`DatabaseEngine.read_marker`."""
        return self._read_marker()[0]

    def _read_marker(self) -> tuple[DatabaseMarker | None, bool]:
        """Return the marker of the live databases, and whether it is in every comment."""
        with open_settled_session(self._server) as connection:
            found = read_databases(connection)
            recorded = read_recorded_marker(connection, self._physical.values())
        marker = cut_over.reconcile_markers(
            self._physical, found, recorded, self._migrating.read_state
        )
        in_comments = {parse_marker(found[name].comment) for name in self._physical.values()}
        return marker, in_comments == {marker}

    def list_leftovers(self) -> tuple[tuple[str, DatabaseRole, str], ...]:
        """See :meth:`DatabaseEngine.list_leftovers`."""
        with self._server.open_control_session() as connection:
            return cut_over.list_leftovers(self._physical, read_databases(connection))

    def read_ledger(self, database: DatabaseRef) -> tuple[AppliedMigration, ...]:
        """See :meth:`DatabaseEngine.read_ledger`."""
        return self._migrating.read_ledger(database)

    def run_queries(
        self, database: DatabaseRef, queries: Sequence[str], *, timeout_s: float = 3600.0
    ) -> list[list[tuple[object, ...]]]:
        """See :meth:`DatabaseEngine.run_queries`; runs as the application's role."""
        with self._sessions.open_session_block(database) as connection:
            return inspection.run_release_queries(connection, database.name, queries, timeout_s)

    def compute_table_digests(self, database: DatabaseRef) -> dict[str, TableDigest]:
        """See :meth:`DatabaseEngine.compute_table_digests`; may run casts of the application."""
        long_s = self._limits.long_s
        with self._sessions.open_session_block(database, statement_s=long_s) as connection:
            inspection.begin_read_only(connection)
            tables = inspection.list_user_tables(connection)
            return {
                table.label: inspection.compute_table_digest(connection, table) for table in tables
            }

    def read_schema(self, database: DatabaseRef) -> SchemaDigest:
        """See :meth:`DatabaseEngine.read_schema`."""
        sessions = self._sessions
        open_block = (
            sessions.open_session_block
            if isinstance(database, CandidateDatabase)
            else sessions.open_catalogue_session
        )
        with open_block(database) as connection:
            return inspection.read_schema(connection)

    @contextlib.contextmanager
    def hold_sessions(self, *, migrating: bool = False) -> Iterator[None]:
        """See :meth:`DatabaseEngine.hold_sessions`."""
        with self._sessions.hold_sessions(migrating=migrating):
            yield

    @contextlib.contextmanager
    def reuse_control_sessions(self) -> Iterator[None]:
        """See :meth:`DatabaseEngine.reuse_control_sessions`."""
        with self._server.reuse_control_sessions():
            yield

    def cancel_sessions(self) -> None:
        """See :meth:`DatabaseEngine.cancel_sessions`."""
        self._sessions.active.terminate_all()

    def count_release_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """Return nothing: rows written by the release are older than its cut-over."""
        del change
        return {}

    def count_lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.count_lost_rows`; each table is read once.

        Raises:
            ROWS_UNREADABLE: If the application's role may not read a table.
        """
        previous_change = ChangeRef(
            change.retained_from or change.id, change.generation, change.release
        )
        with self._server.open_control_session() as connection:
            moment = read_cut_over_transaction(connection, previous_change.id)
        result: dict[str, dict[str, int]] = {}
        long_s = self._limits.long_s
        for name in self._physical:
            with self._sessions.open_count_session(LiveDatabase(name), statement_s=long_s) as live:
                lost = inspection.count_newer_rows(live, moment)
                if lost is None:
                    lost = self._compare_with_previous(name, live, previous_change)
            if lost:
                result[name] = lost
        return result

    def count_entered_rows(
        self, change: ChangeRef, losses: Mapping[str, Sequence[DataLoss]]
    ) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.count_entered_rows`.

        A row's ``xmin`` shows since when it has its values.

        Raises:
            ROWS_UNREADABLE: If the application's role may not read a table.
        """
        with self._server.open_control_session() as connection:
            moment = read_cut_over_transaction(connection, change.retained_from or change.id)
        result: dict[str, dict[str, int]] = {}
        for name in (name for name in self._physical if losses.get(name)):
            with self._sessions.open_count_session(
                LiveDatabase(name), statement_s=self._limits.long_s
            ) as live:
                found = inspection.count_entered_rows(live, moment, losses[name])
            if found:
                result[name] = found
        return result

    def read_sample(self, database: DatabaseRef, keys: RowKeys | None = None) -> DatabaseSample:
        """See :meth:`DatabaseEngine.read_sample`.

        Reads tables that the application's role may read and write.
        """
        with self._sessions.open_session_block(
            database, statement_s=self._limits.long_s
        ) as connection:
            return round_trip.read_sample(connection, keys)

    def write_sample_values(
        self,
        candidate: CandidateDatabase,
        seed: str,
        minimal_columns: Mapping[str, Collection[str]],
    ) -> dict[str, dict[str, Counter[UntestedReason]]]:
        """See :meth:`DatabaseEngine.write_sample_values`."""
        with self._sessions.open_session_block(candidate) as connection:
            return round_trip.write_sample_values(connection, seed, minimal_columns)

    def _compare_with_previous(
        self, name: str, live: Connection, previous_change: ChangeRef
    ) -> dict[str, int]:
        """Compare a live database with its previous one; slow, so only if the other count fails."""
        long_s = self._limits.long_s
        with self._sessions.open_count_session(
            previous_change.get_previous(name), statement_s=long_s
        ) as previous:
            return inspection.count_lost_rows(live, previous)

    def find_orphans(self, plan: CopyPlan) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.find_orphans`."""
        return tuple(find_orphans(self._server, plan))

    def list_quarantined(self) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.list_quarantined`."""
        with self._server.open_control_session() as connection:
            return list_quarantined(connection, self._physical)

    # ---- write operations ------------------------------------------------------------------------

    def fence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.fence`."""
        self._fencing.fence(change)

    def unfence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.unfence`."""
        self._fencing.unfence(change)

    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """See :meth:`DatabaseEngine.plan_copy`."""
        if change.no_copy:
            return CopyPlan({})
        source_change = change.retained_from
        with self._server.open_control_session() as connection:
            found = read_databases(connection)
            directory = find_data_directory(self._server, connection)
            oids: dict[str, int] = {}
            for name, physical in self._physical.items():
                source = previous_name(physical, source_change) if source_change else physical
                if source not in found or not found[source].is_valid:
                    raise DatabaseError(DATABASE_SET_INCOMPLETE, database=source)
                oids[name] = found[source].oid
            sizes = dict(
                fetch_rows(
                    connection,
                    "SELECT name, pg_database_size(oid) FROM unnest(%s::text[], %s::oid[])"
                    " AS source(name, oid)",
                    [list(oids), list(oids.values())],
                )
            )
            taken = {row.oid for row in found.values()}
            if directory is not None:
                taken |= directory.list_oids()
            return make_copy_plan(
                change,
                self._physical,
                sizes,
                taken,
                read_server_major(connection),
                copy_method=self._settings.copy_method,
                clone=self._cloning.list_cloneable(change),
            )

    def copy_databases(self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener) -> None:
        """See :meth:`DatabaseEngine.copy_databases`."""
        if not change.no_copy:
            self._copying.copy_all(change, plan, progress)

    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: ProgressListener
    ) -> dict[str, tuple[str, ...]]:
        """See :meth:`DatabaseEngine.copy_online`."""
        self._control.create_if_missing()
        missing = self._rehearsing.copy_online(change, plan, progress)
        with self._control.transaction() as connection:
            record_login(connection, self._server)
        return missing

    def copy_candidates(
        self, change: ChangeRef, timing_change: ChangeRef, progress: ProgressListener
    ) -> CopyPlan:
        """See :meth:`DatabaseEngine.copy_candidates`."""
        plan = self._rehearsing.plan_candidate_copy(change, self.plan_copy(timing_change))
        self._copying.copy_all(timing_change, plan, progress)
        return plan

    def is_copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """See :meth:`DatabaseEngine.is_copied`."""
        return change.no_copy or self._copying.is_copied(change, plan)

    def discard_candidates(self, change: ChangeRef, plan: CopyPlan) -> None:
        """See :meth:`DatabaseEngine.discard_candidates`."""
        targets = [candidate_name(physical, change.id) for physical in self._physical.values()]
        self._copying.drop_copies(targets, change, plan)
        with self._server.open_control_session() as connection:
            self._cloning.drop_trial_if_possible(connection)

    def plan_migrations(
        self, select: DatabaseSelector, target: MigrationSet, current: MigrationSet | None
    ) -> MigrationPlan:
        """See :meth:`DatabaseEngine.plan_migrations`."""
        return self._migrating.plan_migrations(select, target, current)

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        current: MigrationSet | None,
        progress: ProgressListener,
    ) -> bool:
        """See :meth:`DatabaseEngine.migrate`."""
        return self._migrating.migrate(change, target, current, progress)

    def prepare_control_storage(self) -> None:
        """See :meth:`DatabaseEngine.prepare_control_storage`.

        Creating the control database takes as long as a copy. The cut-over needs two sessions at
        the same time: both are opened while users are in, so that a login which is refused later
        stops neither it nor its revert.
        """
        self._control.create_if_missing()
        with self._server.open_control_session(), self._server.open_control_session():
            pass

    def run_online_program(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: ProgressListener,
        *,
        change: ChangeRef | None = None,
        lock_fd: int = -1,
    ) -> None:
        """See :meth:`DatabaseEngine.run_online_program`."""
        self._migrating.run_online_program(program, slot, progress, change, lock_fd)

    def terminate_online_program(self) -> bool:
        """See :meth:`DatabaseEngine.terminate_online_program`."""
        return self._migrating.terminate_online_program()

    def mark_candidates(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.mark_candidates`."""
        self._migrating.mark_candidates(change)

    def baseline_ledger(self, change: ChangeRef, target: MigrationSet) -> None:
        """See :meth:`DatabaseEngine.baseline_ledger`."""
        self._migrating.baseline_ledger(change, target)

    def refresh_statistics(self, limit_s: float) -> dict[str, tuple[str, ...]]:
        """See :meth:`DatabaseEngine.refresh_statistics`."""
        return refresh_statistics(self._server, self._sessions, self._physical, limit_s)

    def cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_over`."""
        self._swap.cut_over(change)

    def repair_marker(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.repair_marker`."""
        marker, everywhere = self._read_marker()
        return () if marker is None or everywhere else self._swap.rewrite_marker(marker)

    def adopt_restored(
        self, change: ChangeRef, target: MigrationSet, closed_change: ChangeRef | None = None
    ) -> None:
        """See :meth:`DatabaseEngine.adopt_restored`."""
        self._control.create_if_missing()
        self._swap.reopen_databases()
        self._migrating.adopt_restored(change, target)
        self._swap.adopt_restored(change, closed_change)

    def check_before_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.check_before_commit`."""
        self._swap.check_before_commit(change)

    def record_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.record_commit`."""
        self._swap.record_commit(change)
        if change.no_copy:
            # Migrated databases were marked inside before the cut-over.
            self._migrating.mark_live(change)

    def revert_cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.revert_cut_over`."""
        self._swap.revert_cut_over(change)

    def drop_previous(self, change_id: str) -> None:
        """See :meth:`DatabaseEngine.drop_previous`."""
        with translate_errors(", ".join(self._physical.values())):
            self._swap.quarantine_written(change_id)
        with self._server.open_control_session(
            statement_s=self._limits.long_s, lock_s=0
        ) as connection:
            self._cloning.drop_trial_if_possible(connection)
            for physical in self._physical.values():
                name = previous_name(physical, change_id)
                row = read_databases(connection).get(name)
                altering = (
                    build_pre_drop_statements(row) if row is not None and row.is_valid else []
                )
                if altering:
                    # Record the new version, or an interrupted drop would look like somebody
                    # opening the database.
                    alter_and_renew(self._server, connection, [name], altering)
                drop_database(connection, name, self._limits.terminate_s)
            forget_versions(
                connection, [previous_name(name, change_id) for name in self._physical.values()]
            )

    def drop_quarantined(self, change_id: str) -> None:
        """See :meth:`DatabaseEngine.drop_quarantined`."""
        with self._server.open_control_session(
            statement_s=self._limits.long_s, lock_s=0
        ) as connection:
            for physical in self._physical.values():
                drop_database(
                    connection, quarantine_name(physical, change_id), self._limits.terminate_s
                )
            delete_quarantined(connection, change_id)
