"""PostgreSQL as a :class:`DatabaseEngine`: puts the modules of this package together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ncen_updater.config.model import PostgresSettings
from ncen_updater.databases.base import (
    AppliedMigration,
    ChangeRef,
    CopyPlan,
    DatabaseEngine,
    DatabaseFacts,
    Evidence,
    Marker,
    MigrationPlan,
    MigrationSet,
    Role,
    TableDigest,
)
from ncen_updater.databases.errors import WayBackNeeded
from ncen_updater.databases.postgresql import evidence as evidences
from ncen_updater.databases.postgresql import reading
from ncen_updater.databases.postgresql.attributes import read_attributes
from ncen_updater.databases.postgresql.blockers import find_blockers
from ncen_updater.databases.postgresql.catalogue import read_databases, server_major
from ncen_updater.databases.postgresql.connection import Limits, Server, rows, run
from ncen_updater.databases.postgresql.control import (
    Control,
    Event,
    is_recorded,
    read_fences,
    read_moment,
    read_record,
    settled,
)
from ncen_updater.databases.postgresql.copying import Copying, drop_database
from ncen_updater.databases.postgresql.datadir import find_data_directory
from ncen_updater.databases.postgresql.dump import Dumps
from ncen_updater.databases.postgresql.errors import SetIncomplete
from ncen_updater.databases.postgresql.fence import Fencing
from ncen_updater.databases.postgresql.fingerprint import fingerprint
from ncen_updater.databases.postgresql.migrating import Migrating
from ncen_updater.databases.postgresql.naming import in_place, next_name, prev_name
from ncen_updater.databases.postgresql.orphans import find_orphans
from ncen_updater.databases.postgresql.planning import make_plan
from ncen_updater.databases.postgresql.rehearsing import Rehearsing
from ncen_updater.databases.postgresql.sessions import Sessions
from ncen_updater.databases.postgresql.survey import survey
from ncen_updater.databases.postgresql.swap import Swap
from ncen_updater.findings import Finding
from ncen_updater.progress import Progress

__all__ = ["PostgresEngine"]


class PostgresEngine(DatabaseEngine):
    """The databases of a site on one PostgreSQL server.

    Args:
        settings: Where the server is and who we are.
        names: Logical to physical names.
        way_back: In-place only: what is kept, a ``copy`` in the server or a ``dump``.
        dump_directory: Where dumps go.
        limits: Time-outs of our own statements.
        migrator_environment: Further variables of the application's own migrator.
    """

    kind = "postgresql"

    def __init__(
        self,
        settings: PostgresSettings,
        names: Mapping[str, str],
        *,
        way_back: Literal["copy", "dump"] = "copy",
        dump_directory: Path | None = None,
        limits: Limits | None = None,
        migrator_environment: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._physical = dict(names)
        self._way_back = way_back
        self._dump_directory = dump_directory
        self._limits = limits or Limits()
        self._server = Server(settings, self._limits)
        self._control = Control(self._server)
        self._fencing = Fencing(self._server, self._control, tuple(self._physical.values()))
        self._copying = Copying(self._server, self._control)
        self._swap = Swap(self._server, self._control, self._fencing, self._physical)
        self._sessions = Sessions(self._server, self._physical)
        self._migrating = Migrating(
            self._server, self._sessions, self._physical, migrator_environment
        )
        self._rehearsing = Rehearsing(self._server, self._copying, self._sessions)
        self._dumps = Dumps(self._server, self._control, self._sessions, dump_directory)

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
                    raise SetIncomplete(database=physical)
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
        seen = survey(
            self._server,
            change,
            self._physical,
            way_back=self._way_back,
            dump_directory=self._dump_directory,
        )
        return find_blockers(
            seen,
            change,
            self._physical,
            final=final,
            way_back=self._way_back,
            role=self._settings.user,
            owner=self._settings.owner,
        )

    def evidence(self, change: ChangeRef) -> Evidence:
        """See :meth:`DatabaseEngine.evidence`; waits for what a dead agent's session still does."""
        with settled(self._server) as connection:
            found = read_databases(connection)
            fences = read_fences(connection)
            events = (Event.TOUCHED, Event.OVER, Event.BACK)
            record = read_record(connection, change.id, events)
            committed = is_recorded(connection, change.id)
        return evidences.decide(change, self._physical, found, fences, record, committed=committed)

    def marker(self) -> Marker | None:
        """See :meth:`DatabaseEngine.marker`."""
        with settled(self._server) as connection:
            return evidences.set_marker(self._physical, read_databases(connection))

    def leftovers(self) -> tuple[tuple[str, Role, str], ...]:
        """See :meth:`DatabaseEngine.leftovers`."""
        with self._server.facts() as connection:
            return evidences.leftovers(
                self._physical, read_databases(connection), self._dumps.kept()
            )

    def applied(self, role: Role, name: str, change: ChangeRef) -> tuple[AppliedMigration, ...]:
        """See :meth:`DatabaseEngine.applied`."""
        return self._migrating.applied(role, name, change)

    def query(
        self, role: Role, name: str, sql: str, change: ChangeRef, *, timeout_s: float = 3600.0
    ) -> list[tuple[object, ...]]:
        """See :meth:`DatabaseEngine.query`; runs as the application's role."""
        with self._sessions.session(
            role, name, change, as_owner=True, statement_s=timeout_s
        ) as connection:
            return reading.select(connection, name, sql)

    def table_digests(self, role: Role, name: str, change: ChangeRef) -> dict[str, TableDigest]:
        """See :meth:`DatabaseEngine.table_digests`."""
        with self._sessions.session(
            role, name, change, statement_s=self._limits.long_s
        ) as connection:
            reading.read_only(connection)
            tables = reading.user_tables(connection)
            return {table.label: reading.digest(connection, table) for table in tables}

    def fingerprint(self, role: Role, name: str, change: ChangeRef) -> str:
        """See :meth:`DatabaseEngine.fingerprint`."""
        with self._sessions.session(role, name, change) as connection:
            return fingerprint(connection)

    def lost_rows(self, change: ChangeRef) -> dict[str, dict[str, int]]:
        """See :meth:`DatabaseEngine.lost_rows`; each table is read once."""
        kept_change = ChangeRef(
            change.source or change.id, change.generation, change.strategy, change.release
        )
        with self._server.facts() as connection:
            moment = read_moment(connection, kept_change.id)
        result: dict[str, dict[str, int]] = {}
        long_s = self._limits.long_s
        for name in self._physical:
            with self._sessions.session(Role.LIVE, name, change, statement_s=long_s) as live:
                reading.read_only(live)
                lost = reading.younger_by_table(live, moment)
                if lost is None:  # only then: what is kept may be a dump
                    with self._sessions.session(
                        Role.PREVIOUS, name, kept_change, statement_s=long_s
                    ) as kept:
                        reading.read_only(kept)
                        lost = reading.lost_by_table(live, kept)
            if lost:
                result[name] = lost
        return result

    def orphans(self, plan: CopyPlan) -> tuple[Finding, ...]:
        """See :meth:`DatabaseEngine.orphans`."""
        return tuple(find_orphans(self._server, plan))

    def address(self, role: Role, name: str, change: ChangeRef) -> str:
        """See :meth:`DatabaseEngine.address`; sessions take on the application's role at once."""
        return self._server.url(self._sessions.physical(role, name, change))

    # ---- acts ------------------------------------------------------------------------------------

    def fence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.fence`."""
        self._fencing.fence(change)

    def unfence(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.unfence`."""
        self._fencing.unfence(change)

    def plan_copy(self, change: ChangeRef) -> CopyPlan:
        """See :meth:`DatabaseEngine.plan_copy`."""
        with self._server.facts() as connection:
            found = read_databases(connection)
            directory = find_data_directory(self._server, connection)
            sizes: dict[str, int] = {}
            for name, physical in self._physical.items():
                source = prev_name(physical, change.source) if change.source else physical
                if source not in found or not found[source].valid:
                    raise SetIncomplete(database=source)
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
                way_back=self._way_back,
            )

    def copy(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """See :meth:`DatabaseEngine.copy`."""
        if self._is_dump(plan):
            self._dumps.dump(change, plan, progress)
        else:
            self._copying.copy(change, plan, progress)

    def copy_online(self, change: ChangeRef, plan: CopyPlan, progress: Progress) -> None:
        """See :meth:`DatabaseEngine.copy_online`."""
        self._control.ensure()
        self._rehearsing.copy_online(change, plan, progress)

    def copy_again(self, change: ChangeRef, again: ChangeRef, progress: Progress) -> CopyPlan:
        """See :meth:`DatabaseEngine.copy_again`."""
        plan = self._rehearsing.plan_again(change, self.plan_copy(again))
        self._copying.copy(again, plan, progress)
        return plan

    def copied(self, change: ChangeRef, plan: CopyPlan) -> bool:
        """See :meth:`DatabaseEngine.copied`."""
        if self._is_dump(plan):
            return self._dumps.complete(change, plan)
        return self._copying.copied(change, plan)

    def discard(self, change: ChangeRef, plan: CopyPlan) -> None:
        """See :meth:`DatabaseEngine.discard`.

        Raises:
            WayBackNeeded: In-place, after the originals were touched and before the way back.
        """
        targets = [next_name(physical, change.id) for physical in self._physical.values()]
        if in_place(change):
            record = self._swap.state(change)
            if record is not None and record.event is Event.TOUCHED:
                raise WayBackNeeded(database=", ".join(self._physical.values()))
            if record is None or record.event is Event.BACK:
                targets += [prev_name(physical, change.id) for physical in self._physical.values()]
                self._dumps.remove(change.id)
        self._copying.discard(targets, change, plan)

    def plan_migrations(
        self,
        role: Role,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
    ) -> MigrationPlan:
        """See :meth:`DatabaseEngine.plan_migrations`."""
        return self._migrating.plan(role, change, target, origin)

    def migrate(
        self,
        change: ChangeRef,
        target: MigrationSet,
        origin: MigrationSet | None,
        progress: Progress,
    ) -> None:
        """See :meth:`DatabaseEngine.migrate`."""
        if in_place(change):
            if self._way_back == "copy":
                self._migrating.anchor_kept(change)
            self._swap.touch(change)
        self._migrating.migrate(change, target, origin, progress)

    def baseline(self, change: ChangeRef, target: MigrationSet) -> None:
        """See :meth:`DatabaseEngine.baseline`."""
        self._migrating.baseline(change, target)

    def cut_over(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_over`."""
        self._swap.cut_over(change)

    def record_commit(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.record_commit`."""
        self._swap.record_commit(change)

    def cut_back(self, change: ChangeRef) -> None:
        """See :meth:`DatabaseEngine.cut_back`."""
        if in_place(change) and self._way_back == "dump":
            record = self._swap.state(change)
            if record is not None and record.event is not Event.BACK:
                self._dumps.restore(change, self._physical)
        self._swap.cut_back(change)

    def drop_previous(self, change_id: str) -> None:
        """See :meth:`DatabaseEngine.drop_previous`.

        Raises:
            WayBackNeeded: In-place, where the originals are half-migrated.
        """
        with settled(self._server) as connection:
            events = (Event.TOUCHED, Event.OVER, Event.BACK)
            record = read_record(connection, change_id, events)
        if record is not None and record.event is Event.TOUCHED:
            raise WayBackNeeded(database=", ".join(self._physical.values()))
        with self._server.facts(statement_s=self._limits.long_s) as connection:
            run(connection, "SET lock_timeout = 0")
            for physical in self._physical.values():
                drop_database(connection, prev_name(physical, change_id), self._limits.terminate_s)
        self._dumps.remove(change_id)

    @staticmethod
    def _is_dump(plan: CopyPlan) -> bool:
        return any(item["method"] == "dump" for item in plan.data.values())
