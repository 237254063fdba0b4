"""Journal records of a rehearsal: its copies, its findings, the reason of a failure.

Approvals bind to the report as it was stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult
from ncen_updater.agent.engine.rehearsal.round_trip import list_lost_columns
from ncen_updater.common.json_records import JsonRecord

Value = int | str | None


@dataclass(frozen=True)
class RehearsalCopyPlans(JsonRecord):
    """Where the copies of a rehearsal are that runs, to remove them after a crash.

    Attributes:
        copy: The plan of the copy of everything; see ``CopyPlan``.
        second_copy: That of the copy of the copies,
        second_id: and the id that it goes by.
    """

    copy: Mapping[str, Mapping[str, object]] | None = None
    second_copy: Mapping[str, Mapping[str, object]] | None = None
    second_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class _BackupFacts(JsonRecord):
    """What is known of the backup, also where the rest failed.

    Attributes:
        missing_objects: By database the objects that a backup by the agent's role does not carry.
    """

    missing_objects: Mapping[str, tuple[str, ...]] | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as JSON has it; of the backup only what there is."""
        found = super().to_json()
        if found["missing_objects"] is None:
            del found["missing_objects"]
        return found


@dataclass(frozen=True, kw_only=True)
class RehearsalFailure(_BackupFacts):
    """What is kept of a rehearsal that failed.

    Attributes:
        release_at_fault: Whether the release is to blame.
    """

    release_at_fault: bool = False


@dataclass(frozen=True)
class DowntimeRange(JsonRecord):
    """The stop that is expected of a hop, seconds.

    Attributes:
        from_history: Whether the range comes from earlier changes of this site.
    """

    low: float
    likely: float
    high: float
    from_history: bool = False


@dataclass(frozen=True)
class CodeMapResult(JsonRecord):
    """What a map of reference data does.

    Attributes:
        affected: Rows that get a new code; None where the manifest does not ask.
        unmapped: Code without a target, and its number of rows.
    """

    name: str
    database: str
    affected: int | None = None
    unmapped: tuple[tuple[str | int, ...], ...] = ()

    @property
    def unmapped_rows(self) -> int:
        """Rows whose code has no target."""
        return sum(int(count) for _, count in self.unmapped)


@dataclass(frozen=True, kw_only=True)
class RehearsedHop(JsonRecord):
    """What was found of one change of the path.

    Attributes:
        from_version: The release before,
        to_version: and the one that was tried.
        copy_s: Seconds of a copy as an upgrade makes it,
        migrate_s: of the migrations with their checks,
        contract_s: of what brings them to their end while users work; None where nothing does,
        rollback_s: and of the rollback; None where none was tried.
        rollback_differences: Tables that the rollback did not restore.
        restore_s: Seconds of the rollback to previous databases; None for another rollback path.
        rollback_path: Which way a rollback takes.
        lost_columns: Tables and columns of which the rollback does not keep what is entered.
        round_trip: What became of values written on trial.
        unchanged: Whether neither schema nor rows changed.
        checks: By name the value of each check before and after.
        code_maps: What maps of reference data do.
        changed_tables: By database and table the rows before and after, where they changed;
            -1 for none.
        downtime: The predicted stop.
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
    checks: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    code_maps: tuple[CodeMapResult, ...] = ()
    changed_tables: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    downtime: DowntimeRange

    @property
    def versions(self) -> tuple[str, str]:
        """From where to where."""
        return self.from_version, self.to_version

    @property
    def all_lost_columns(self) -> tuple[str, ...]:
        """Return what the rollback loses: by the files, or else by the round-trip test."""
        return self.lost_columns or (
            list_lost_columns(self.round_trip) if self.round_trip is not None else ()
        )


@dataclass(frozen=True, kw_only=True)
class RehearsalReport(_BackupFacts):
    """What a rehearsal found that came to its end.

    Attributes:
        plan: Digest of the plan that was tried.
        backup_s: Seconds in which a backup of everything was made and restored.
        sizes: Bytes of each database.
        hops: The changes of the path, in their order.
    """

    plan: str
    backup_s: float
    sizes: Mapping[str, int] = field(default_factory=dict)
    hops: tuple[RehearsedHop, ...] = ()
