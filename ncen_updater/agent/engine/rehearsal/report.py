"""Journal records of a rehearsal: its copies, its findings, the reason of a failure.

Approvals bind to the report in its stored form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.adapters.databases.migrations.domain_checks import CheckValue
from ncen_updater.agent.adapters.databases.migrations.ledger import PARKED_SCHEMA
from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult
from ncen_updater.agent.engine.rehearsal.round_trip import list_lost_columns
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.common.i18n import LocalizedFigure
from ncen_updater.common.json_records import JsonRecord


@dataclass(frozen=True)
class RehearsalCopyPlans(JsonRecord):
    """Copy plans of a running rehearsal, to remove the copies after a crash.

    Attributes:
        copy: Plan of the copies; see ``CopyPlan``.
        second_copy: Plan of the copies of these copies.
        second_id: Change id of the second copies.
    """

    copy: Mapping[str, Mapping[str, object]] | None = None
    second_copy: Mapping[str, Mapping[str, object]] | None = None
    second_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class _BackupFacts(JsonRecord):
    """Facts on the backup, also of a failed rehearsal.

    Attributes:
        missing_objects: Objects that a backup by the agent's role does not contain, by database.
    """

    missing_objects: Mapping[str, tuple[str, ...]] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the record for JSON, without an empty list of missing objects."""
        record = super().to_json()
        if record["missing_objects"] is None:
            del record["missing_objects"]
        return record


@dataclass(frozen=True, kw_only=True)
class RehearsalFailure(_BackupFacts):
    """Record of a failed rehearsal.

    Attributes:
        release_at_fault: Whether the release is to blame.
    """

    release_at_fault: bool = False


@dataclass(frozen=True)
class ReferenceMapResult(JsonRecord):
    """Effect of a reference map.

    Attributes:
        name: Name of the map.
        database: Logical name of the database.
        affected: Rows that get a new code; None if the manifest has no query for it.
        unmapped: Codes without a target, each with its number of rows.
        names: The name in other languages.
    """

    name: str
    database: str
    affected: int | None = None
    unmapped: tuple[tuple[str | int, ...], ...] = ()
    names: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the record for JSON, without a missing translation."""
        return {key: value for key, value in super().to_json().items() if value or key != "names"}

    @property
    def title(self) -> LocalizedFigure:
        """Return the name in the language of its reader."""
        return LocalizedFigure(self.name, **(self.names or {}))

    @property
    def unmapped_rows(self) -> int:
        """Return the number of rows whose code has no target."""
        return sum(int(count) for _, count in self.unmapped)


@dataclass(frozen=True, kw_only=True)
class RehearsedHop(JsonRecord):
    """Findings of one change of the path.

    Attributes:
        from_version: The release before it.
        to_version: Its release.
        copy_s: Seconds of a copy as an upgrade makes it.
        migrate_s: Seconds of the migrations with their checks.
        contract_s: Seconds of the contract program; None if there is none.
        rollback_s: Seconds of the rollback; None if none was rehearsed.
        rollback_differences: Tables that the rollback did not restore.
        restore_s: Seconds of the rollback to previous databases; None for another rollback path.
        rollback_path: Kind of the rollback.
        lost_columns: Tables and columns whose new values the down migrations do not keep.
        round_trip: Result of the round-trip test.
        unchanged: Whether neither schema nor rows changed.
        checks: Value of each check before and after, by name.
        reference_maps: Effects of the reference maps.
        changed_tables: Changed tables with their rows before and after, by database and table; -1
            if the table is missing.
        downtime: The downtime forecast.
    """

    from_version: str
    to_version: str
    copy_s: float
    migrate_s: float
    contract_s: float | None = None
    rollback_s: float | None = None
    rollback_differences: tuple[str, ...] = ()
    restore_s: float | None = None
    rollback_path: RollbackKind
    lost_columns: tuple[str, ...] = ()
    round_trip: RoundTripResult | None = None
    unchanged: bool | None = None
    checks: Mapping[str, tuple[CheckValue, ...]] = field(default_factory=dict)
    reference_maps: tuple[ReferenceMapResult, ...] = ()
    changed_tables: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    downtime: DowntimeRange

    @property
    def versions(self) -> tuple[str, str]:
        """Return the versions before and after."""
        return self.from_version, self.to_version

    @property
    def application_tables(self) -> tuple[tuple[str, int, int], ...]:
        """Return the application's changed tables with their rows before and after.

        Values parked for the next upgrade are not the application's: they return to its tables.
        """
        return tuple(
            (f"{database}.{table}", before, after)
            for database, tables in self.changed_tables.items()
            for table, (before, after) in tables.items()
            if not table.startswith(PARKED_SCHEMA)
        )

    @property
    def all_lost_columns(self) -> tuple[str, ...]:
        """Return what the rollback loses, by the down migrations or else by the round-trip test."""
        return self.lost_columns or (
            list_lost_columns(self.round_trip) if self.round_trip is not None else ()
        )


@dataclass(frozen=True, kw_only=True)
class RehearsalReport(_BackupFacts):
    """Report of a passed rehearsal.

    Attributes:
        plan: Digest of the rehearsed plan.
        backup_s: Seconds to back up all databases and restore the backup.
        sizes: Bytes of each database.
        hops: The changes of the path, in order.
    """

    plan: str
    backup_s: float
    sizes: Mapping[str, int] = field(default_factory=dict)
    hops: tuple[RehearsedHop, ...] = ()
