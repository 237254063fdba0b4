"""PostgreSQL as a :class:`DatabaseEngine`: puts the modules of this package together."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    Candidate,
    ChangeRef,
    CopyPlan,
    DatabaseEngine,
    DatabaseFacts,
    DatabaseRole,
    Evidence,
    Live,
    Marker,
    MigrationPlan,
    MigrationSet,
    Place,
    PlaceOf,
    RunAs,
    TableDigest,
)
from ncen_updater.agent.adapters.databases.migrations.command import migrator_user
from ncen_updater.agent.adapters.databases.postgresql import evidence as evidences
from ncen_updater.agent.adapters.databases.postgresql import reading, trying
from ncen_updater.agent.adapters.databases.postgresql.blockers import (
    find_blockers,
    find_orphans,
    forget_set_aside,
    read_set_aside,
)
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    find_data_directory,
    kept_name,
    next_name,
    parse_marker,
    prev_name,
    read_attributes,
    read_databases,
    read_disks,
    server_major,
)
from ncen_updater.agent.adapters.databases.postgresql.cloning import Cloning
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    ServerLimits,
    remember_login,
    rows,
    run,
    translated,
)
from ncen_updater.agent.adapters.databases.postgresql.control import (
    Control,
    forget,
    is_recorded,
    own_act,
    read_fences,
    read_moment,
    read_record,
    read_standing,
    settled,
)
from ncen_updater.agent.adapters.databases.postgresql.copying import (
    Copying,
    before_drop,
    drop_database,
    make_plan,
)
from ncen_updater.agent.adapters.databases.postgresql.fence import Fencing
from ncen_updater.agent.adapters.databases.postgresql.migrating import Migrating
from ncen_updater.agent.adapters.databases.postgresql.reading import look_at_schema
from ncen_updater.agent.adapters.databases.postgresql.rehearsing import (
    DUMP_AND_RESTORE,
    Rehearsing,
    program_for,
)
from ncen_updater.agent.adapters.databases.postgresql.roles import (
    find_login_trouble,
    judge_roles,
    see_roles,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import Sessions
from ncen_updater.agent.adapters.databases.postgresql.statistics import refresh_statistics
from ncen_updater.agent.adapters.databases.postgresql.survey import survey
from ncen_updater.agent.adapters.databases.postgresql.swap import SWAPS, Swap
from ncen_updater.agent.adapters.databases.schema import Schema
from ncen_updater.agent.adapters.databases.tried import Keys, Sample, Untried
from ncen_updater.agent.config.engines import PostgresSettings
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.findings import Finding
from ncen_updater.common.messages import SET_INCOMPLETE
from ncen_updater.common.progress import Progress
from ncen_updater.formats.losses import Loss
from ncen_updater.formats.manifest import DatabaseProgram

_SHUT = (
    "SELECT datname, array_to_string(%s::text[], ', ') FROM pg_database d WHERE datname = ANY(%s)"
    " AND NOT EXISTS (SELECT FROM pg_roles r WHERE rolname = ANY(%s) AND rolcanlogin"
    " AND has_database_privilege(r.oid, d.oid, 'CONNECT')) ORDER BY 1"
)


class PostgresEngine(DatabaseEngine):
    """The databases of a site on one PostgreSQL server.

    Args:
        settings: Where the server is and who we are.
        names: Logical to physical names.
        limits: Time-outs of our own statements.
        migrator_environment: Further variables of the application's own migrator.
        user: As whom it runs, where the agent is root.
    """

    kind = "postgresql"
    runs_beside = True

    def __init__(
        self,
        settings: PostgresSettings,
        names: Mapping[str, str],
        *,
        limits: ServerLimits | None = None,
        migrator_environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self._settings = settings
        self._user = user
        self._physical = dict(names)
        self._limits = limits or ServerLimits()
        self._server = Server(settings, self._limits)
        self._control = Control(self._server)
        self._fencing = Fencing(self._server, self._control, tuple(self._physical.values()))
        self._cloning = Cloning(self._server, self._physical)
        self._copying = Copying(self._server, self._control)
        self._sessions = Sessions(self._server, self._physical)
        self._swap = Swap(
            self._server, self._control, self._fencing, self._sessions, self._physical
        )
        self._migrating = Migrating(
            self._server, self._sessions, self._physical, migrator_environment, self.migrator_user
        )
        self._rehearsing = Rehearsing(self._server, self._copying, self._sessions)

    def migrator_user(self) -> RunAs | None:
        """See :meth:`DatabaseEngine.migrator_user`."""
        return migrator_user(self._user)

    @property
    def names(self) -> tuple[str, ...]:
        """Logical names, in the order of the configuration."""
        return tuple(self._physical)

    # ---- facts -----------------------------------------------------------------------------------

    def version(self) -> str:
        """Return the server's version, such as ``15.20``."""
        with self._server.facts() as connection:
            number = connection.info.server_version
        return f"{number // 10_000}.{number % 10_000}"

    def describe(self) -> tuple[DatabaseFacts, ...]:
        """Return facts of each live database.

        Raises:
            SetIncomplete: If one is missing.
        """
        facts = []
        with self._server.facts() as connection:
            for name, physical in self._physical.items():
                found = rows(
                    connection,
                    "SELECT pg_database_size(d.oid), pg_encoding_to_char(d.encoding),"
                    " d.datcollate, d.datctype, t.spcname, d.datconnlimit, d.datallowconn"
                    " FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace"
                    " WHERE d.datname = %s AND d.datconnlimit <> -2",
                    [physical],
                )
                if not found:
                    raise DatabaseError(SET_INCOMPLETE, database=physical)
                size, encoding, collate, ctype, tablespace, limit, allow = found[0]
                attributes = read_attributes(connection, physical)
                details = {
                    "owner": attributes.owner,
                    "encoding": encoding,
                    "collate": collate,
                    "ctype": ctype,
                    "tablespace": tablespace,
                    "connection_limit": limit,
                    "allow_connections": allow,
                    "grants": len(attributes.grants),
                    "settings": len(attributes.settings),
                }
                facts.append(DatabaseFacts(name, physical, int(size), details))
        return tuple(facts)

    def blockers(self, change: ChangeRef, *, final: bool) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.blockers`."""
        if not final:  # officers still work: the answer is known when the copy is planned
            self._cloning.find_out(change)
        seen = survey(self._server, change, self._physical, clone=self._cloning.known(change))
        return find_blockers(
            seen,
            change,
            self._physical,
            final=final,
            role=self._settings.user,
            owner=self._settings.owner,
            application_roles=self._settings.application_roles,
        )

    def exposures(self, *, rehearsing: bool = False) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.exposures`."""
        found = find_login_trouble(self._server, next(iter(self._physical.values())), self._user)
        seen = see_roles(self._server, tuple(self._physical.values()))
        if seen is None:
            return found
        return found + judge_roles(
            seen,
            databases=len(self._physical),
            role=self._settings.user,
            owner=self._settings.owner,
            control=self._settings.control_database,
            rehearsing=rehearsing,
        )

    def evidence(self, change: ChangeRef | None) -> Evidence:
        """See :meth:`DatabaseEngine.evidence`; waits for what a dead agent's session still does."""
        with settled(self._server) as connection:
            found = read_databases(connection)
            if change is None:
                seen = evidences.at_rest(self._physical, found, read_fences(connection))
                roles, live = list(self._settings.admitted), list(self._physical.values())
                return replace(seen, shut=rows(connection, _SHUT, [roles, live, roles]))
            record = read_record(connection, change.id, SWAPS)
            committed = is_recorded(connection, change.id)
        return evidences.decide(change, self._physical, found, record, committed=committed)

    def sessions(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.sessions`."""
        return self._fencing.sessions()

    def replaced(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.replaced`."""
        return self._fencing.replaced()

    def answers(self) -> bool:
        """Whether the server takes sessions now."""
        return self._server.answers()

    def free_bytes(self) -> dict[Path, int]:
        """See :meth:`DatabaseEngine.free_bytes`."""
        with self._server.facts() as connection:
            found = read_databases(connection)
            live = {n: found[p].oid for n, p in self._physical.items() if p in found}
            disks = read_disks(self._server, connection, live)
        return {Path(disk.place): disk.free for disk in disks}

    def require_programs(self) -> None:
        """See :meth:`DatabaseEngine.require_programs`."""
        for name in DUMP_AND_RESTORE:
            program_for(self._server, name)

    def marker(self) -> Marker | None:
        """See :meth:`DatabaseEngine.marker`."""
        return self._marker()[0]

    def _marker(self) -> tuple[Marker | None, bool]:
        """Return the marker of the set, and whether every comment has it."""
        with settled(self._server) as connection:
            found = read_databases(connection)
            standing = read_standing(connection, self._physical.values())
        marker = evidences.set_marker(self._physical, found, standing, self._migrating.state)
        said = {parse_marker(found[physical].comment) for physical in self._physical.values()}
        return marker, said == {marker}

    def leftovers(self) -> tuple[tuple[str, DatabaseRole, str], ...]:
        """See :meth:`DatabaseEngine.leftovers`."""
        with self._server.facts() as connection:
            return evidences.leftovers(self._physical, read_databases(connection))

    def applied(self, place: Place) -> tuple[AppliedMigration, ...]:
        """See :meth:`DatabaseEngine.applied`."""
        return self._migrating.applied(place)

    def query(
        self, place: Place, sql: str, *, timeout_s: float = 3600.0
    ) -> list[tuple[object, ...]]:
        """See :meth:`DatabaseEngine.query`; runs as the application's role."""
        with self._sessions.session(place, statement_s=timeout_s) as connection:
            return reading.select(connection, place.name, sql)

    def table_digests(self, place: Place) -> dict[str, TableDigest]:
        """See :meth:`DatabaseEngine.table_digests`; runs casts of the application's."""
        long_s = self._limits.long_s
        with self._sessions.session(place, statement_s=long_s) as connection:
            reading.read_only(connection)
            tables = reading.user_tables(connection)
            return {table.label: reading.digest(connection, table) for table in tables}

    def schema(self, place: Place) -> Schema:
        """See :meth:`DatabaseEngine.schema`."""
        sessions = self._sessions
        enter = sessions.session if isinstance(place, Candidate) else sessions.catalogue
        with enter(place) as connection:
            return look_at_schema(connection)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """See :meth:`DatabaseEngine.held`: one session a database."""
        with self._sessions.held():
            yield

    def halt(self) -> None:
        """See :meth:`DatabaseEngine.halt`."""
        self._sessions.at_work.end()

    def made_by_release(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """None: what a release writes is older than the moment of its cut-over."""
        del change
        return {}

    def lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.lost_rows`; each table is read once.

        Raises:
            RowsUnreadable: If the application's role may not read a table.
        """
        kept_change = ChangeRef(change.source or change.id, change.generation, change.release)
        with self._server.facts() as connection:
            moment = read_moment(connection, kept_change.id)
        result: dict[str, dict[str, int]] = {}
        long_s = self._limits.long_s
        for name in self._physical:
            with self._sessions.counting(Live(name), statement_s=long_s) as live:
                lost = reading.younger_by_table(live, moment)
                if lost is None:
                    lost = self._compared(name, live, kept_change)
            if lost:
                result[name] = lost
        return result

    def entered(
        self, change: ChangeRef, losses: Mapping[str, Sequence[Loss]]
    ) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.entered`: a row's ``xmin`` tells since when it is as it is.

        Raises:
            RowsUnreadable: If the application's role may not read a table.
        """
        with self._server.facts() as connection:
            moment = read_moment(connection, change.source or change.id)
        result: dict[str, dict[str, int]] = {}
        for name in (name for name in self._physical if losses.get(name)):
            with self._sessions.counting(Live(name), statement_s=self._limits.long_s) as live:
                found = reading.entered_by_object(live, moment, losses[name])
            if found:
                result[name] = found
        return result

    def sample(self, place: Place, keys: Keys | None = None) -> Sample:
        """See :meth:`DatabaseEngine.sample`: what the application's role may read and write."""
        with self._sessions.session(place, statement_s=self._limits.long_s) as connection:
            return trying.sample(connection, keys)

    def write_values(
        self, place: Candidate, seed: str, short: Mapping[str, Collection[str]]
    ) -> dict[str, dict[str, Counter[Untried]]]:
        """See :meth:`DatabaseEngine.write_values`."""
        with self._sessions.session(place) as connection:
            return trying.write(connection, seed, short)

    def _compared(self, name: str, live: Connection, kept: ChangeRef) -> dict[str, int]:
        """Compare a live database with the kept one: takes long, and only where it must be."""
        long_s = self._limits.long_s
        with self._sessions.counting(kept.previous(name), statement_s=long_s) as other:
            return reading.lost_by_table(live, other)

    def orphans(self, plan: CopyPlan) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.orphans`."""
        return tuple(find_orphans(self._server, plan))

    def set_aside(self) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.set_aside`."""
        with self._server.facts() as connection:
            return read_set_aside(connection, self._physical)

    def address(self, place: Place) -> str:
        """See :meth:`DatabaseEngine.address`; sessions take on the application's role at once."""
        as_owner = bool(self._server.owner_logs_in)
        return self._server.address_parts(self._sessions.physical(place), as_owner=as_owner)["URL"]

    # ---- acts ------------------------------------------------------------------------------------

    def fence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.fence`."""
        self._fencing.fence(change)

    def unfence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.unfence`."""
        self._fencing.unfence(change)

    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """See :meth:`DatabaseEngine.plan_copy`."""
        if change.as_is:
            return CopyPlan({})
        kept = change.source
        with self._server.facts() as connection:
            found = read_databases(connection)
            directory = find_data_directory(self._server, connection)
            sizes: dict[str, int] = {}
            for name, physical in self._physical.items():
                source = prev_name(physical, kept) if kept else physical
                if source not in found or not found[source].valid:
                    raise DatabaseError(SET_INCOMPLETE, database=source)
                sizes[name] = rows(
                    connection, "SELECT pg_database_size(%s::oid)", [found[source].oid]
                )[0][0]
            taken = {row.oid for row in found.values()}
            if directory is not None:
                taken |= directory.numbers()
            return make_plan(
                change,
                self._physical,
                sizes,
                taken,
                server_major(connection),
                wanted=self._settings.copy_method,
                clone=self._cloning.known(change),
            )

    def copy(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """See :meth:`DatabaseEngine.copy`."""
        if not change.as_is:
            self._copying.copy(change, plan, progress)

    def copy_online(
        self, change: ChangeRef, plan: CopyPlan, progress: Progress
    ) -> dict[str, tuple[str, ...]]:
        """See :meth:`DatabaseEngine.copy_online`."""
        self._control.ensure()
        lacking = self._rehearsing.copy_online(change, plan, progress)
        with self._control.transaction() as connection:
            remember_login(connection, self._server)
        return lacking

    def copy_again(self, change: ChangeRef, again: ChangeRef, progress: Progress) -> CopyPlan:
        """See :meth:`DatabaseEngine.copy_again`."""
        plan = self._rehearsing.plan_again(change, self.plan_copy(again))
        self._copying.copy(again, plan, progress)
        return plan

    def copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """See :meth:`DatabaseEngine.copied`."""
        return change.as_is or self._copying.copied(change, plan)

    def discard(self, change: ChangeRef, plan: CopyPlan) -> None:
        """See :meth:`DatabaseEngine.discard`."""
        targets = [next_name(physical, change.id) for physical in self._physical.values()]
        self._copying.discard(targets, change, plan)
        with self._server.facts() as connection:
            self._cloning.clear_away(connection)

    def plan_migrations(
        self, places: PlaceOf, target: MigrationSet, origin: MigrationSet | None
    ) -> MigrationPlan:
        """See :meth:`DatabaseEngine.plan_migrations`."""
        return self._migrating.plan(places, target, origin)

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
        progress: Progress,
    ) -> bool:
        """See :meth:`DatabaseEngine.migrate`."""
        return self._migrating.migrate(change, target, origin, progress)

    def make_ready(self) -> None:
        """See :meth:`DatabaseEngine.make_ready`: the control database takes as long as a copy."""
        self._control.ensure()

    def run_beside(
        self,
        program: DatabaseProgram,
        slot: Path,
        progress: Progress,
        *,
        change: ChangeRef | None = None,
        kept: int = -1,
    ) -> None:
        """See :meth:`DatabaseEngine.run_beside`."""
        self._migrating.run_beside(program, slot, progress, change, kept)

    def end_beside(self) -> bool:
        """See :meth:`DatabaseEngine.end_beside`."""
        return self._migrating.end_beside()

    def mark(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.mark`."""
        self._migrating.mark(change)

    def baseline(self, change: ChangeRef, target: MigrationSet) -> None:
        """See :meth:`DatabaseEngine.baseline`."""
        self._migrating.baseline(change, target)

    def refresh_statistics(self, limit_s: float) -> dict[str, tuple[str, ...]]:
        """See :meth:`DatabaseEngine.refresh_statistics`."""
        return refresh_statistics(self._server, self._sessions, self._physical, limit_s)

    def cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_over`."""
        self._swap.cut_over(change)

    def heal_marker(self) -> tuple[str, ...]:
        """See :meth:`DatabaseEngine.heal_marker`."""
        marker, everywhere = self._marker()
        return () if marker is None or everywhere else self._swap.mark_again(marker)

    def take_as(
        self, change: ChangeRef, target: MigrationSet, closes: ChangeRef | None = None
    ) -> None:
        """See :meth:`DatabaseEngine.take_as`."""
        self._control.ensure()
        self._swap.reopen()
        self._migrating.take_as(change, target)
        self._swap.take_as(change, closes)

    def before_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.before_commit`."""
        self._swap.before_commit(change)

    def record_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.record_commit`."""
        self._swap.record_commit(change)
        if change.as_is:
            # Others were marked inside before they were live.
            self._migrating.mark_live(change)

    def cut_back(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_back`."""
        self._swap.cut_back(change)

    def drop_previous(self, change_id: str) -> None:
        """See :meth:`DatabaseEngine.drop_previous`."""
        with translated(", ".join(self._physical.values())):
            self._swap.keep_written(change_id)
        with self._server.facts(statement_s=self._limits.long_s) as connection:
            run(connection, "SET lock_timeout = 0")
            self._cloning.clear_away(connection)
            for physical in self._physical.values():
                name = prev_name(physical, change_id)
                row = read_databases(connection).get(name)
                altering = before_drop(row) if row is not None and row.valid else []
                if altering:
                    # Ours, or a drop that is torn would be taken for somebody's opening it.
                    own_act(self._server, connection, name, altering)
                drop_database(connection, name, self._limits.terminate_s)
            forget(connection, [prev_name(name, change_id) for name in self._physical.values()])

    def drop_set_aside(self, change_id: str) -> None:
        """See :meth:`DatabaseEngine.drop_set_aside`."""
        with self._server.facts(statement_s=self._limits.long_s) as connection:
            run(connection, "SET lock_timeout = 0")
            for physical in self._physical.values():
                drop_database(connection, kept_name(physical, change_id), self._limits.terminate_s)
            forget_set_aside(connection, change_id)
