"""Facts of a change that its steps record in the journal, for later steps and for display.

A fact that was never recorded is None. Facts of a newer agent are preserved in ``unknown_facts``
and otherwise ignored. ``status`` imports this module: no third-party imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Self

from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord


@dataclass(frozen=True)
class DowntimeStart(JsonRecord):
    """Start of the downtime by the monotonic clock of one boot, in seconds."""

    boot: str
    monotonic_s: float


@dataclass(frozen=True)
class SnapshotPlan(JsonRecord):
    """A directory of site files, and how it is saved."""

    name: str
    directory: str
    method: str


@dataclass(frozen=True)
class FingerprintSource(JsonRecord):
    """Versions that determine fingerprints: a newer server prints the same schema differently."""

    format: int
    engine: str
    major: int


@dataclass(frozen=True)
class ChangeFacts(JsonRecord):
    """Facts of a change, or those that one step adds.

    Attributes:
        path_versions: Releases of the upgrade path when the change began.
        start_before: End of the maintenance window in which the downtime must start.
        binding: Binding of the approval.
        required_approvals: Number of required approvals.
        accepted_loss: Number of records that an operator agreed to lose.
        undone_upgrade: Id of the upgrade that a rollback undoes.
        unchanged_databases: Whether a rollback changes only the code.
        no_copy: Whether the other release uses the live databases, so that none is copied.
        has_expand: Whether the release's migrator runs on the live databases while users work.
        expand_started: Whether it was started, after the schemas matched the journal.
        contract_started: The same for the migrator's contract program after the soak period.
        contract_failed: Error code of the contract program's last failure.
        contract_abandoned: Whether an operator gave the contract program up.
        contract_s: Duration of the contract program in seconds, while users worked.
        failed_soak_upgrade: In an automatic rollback, the upgrade that failed in its soak
            period.
        needs_operator: Whether no automatic rollback follows a failed soak period.
        confirmed_by: Who confirmed the release.
        fetched: Whether the release was downloaded; False if its slot existed.
        slot_existed: Whether the slot existed before the change, so that a revert leaves it.
        built_from: File from which the slot was built.
        snapshots: Saved directories of site files.
        advisories: Preflight findings that do not block.
        maintenance_was_on: Whether an operator had switched maintenance on, and switches it off.
        downtime_started: Start of the downtime.
        downtime_s: Duration of the downtime in seconds.
        was_running: Whether the application ran before.
        ended_sessions: Sessions that were terminated when the databases were fenced.
        replaced: Databases that someone replaced while they were fenced.
        lost_records: Records that a rollback loses, counted again during the downtime.
        copy_plan: Plan of the copy; see ``CopyPlan``.
        checks_before: Values of the domain checks on the copies before the migrations.
        checks_after: The same after the migrations.
        overlay_before: The active merged overlay before; empty if there was none.
        fingerprints_before: Schema fingerprints of the copies, by database.
        fingerprints: The same after the migrations.
        schema_kinds: Fingerprints by database and kind of object.
        fingerprint_source: Versions that determine the fingerprints.
        databases_unchanged: Whether an upgrade changed neither schema nor rows.
        rollback_loses_data: Whether the rollback loses data that users enter.
        schema_basis: Source of what is known about previous databases.
        release_rows: Rows that the release itself added, by database and table.
        remaining_parts_error: Why a part that starts after maintenance did not start.
        soak_started_at: Start of the soak period.
        soak_error: Why the release failed in its soak period.
        soak_checks: Number of health checks in the soak period.
        soak_failed_checks: Number of those that failed.
        statistics: Planner statistics that were updated in the soak period.
        dropped_changes: Changes whose previous databases were dropped.
        dropped_slots: Releases whose slots were removed at the end of the change.
        unknown_facts: Facts of a newer agent.
    """

    path_versions: tuple[str, ...] | None = None
    start_before: datetime | None = None
    binding: str | None = None
    required_approvals: int | None = None
    accepted_loss: int | None = None
    undone_upgrade: str | None = None
    unchanged_databases: bool | None = None
    no_copy: bool | None = None
    has_expand: bool | None = None
    expand_started: bool | None = None
    contract_started: bool | None = None
    contract_failed: str | None = None
    contract_abandoned: bool | None = None
    contract_s: float | None = None
    failed_soak_upgrade: str | None = None
    needs_operator: bool | None = None
    confirmed_by: str | None = None
    fetched: bool | None = None
    slot_existed: bool | None = None
    built_from: str | None = None
    snapshots: tuple[SnapshotPlan, ...] | None = None
    advisories: tuple[str, ...] | None = None
    maintenance_was_on: bool | None = None
    downtime_started: DowntimeStart | None = None
    downtime_s: float | None = None
    was_running: bool | None = None
    ended_sessions: tuple[str, ...] | None = None
    replaced: tuple[str, ...] | None = None
    lost_records: int | None = None
    copy_plan: Mapping[str, Mapping[str, object]] | None = None
    checks_before: Mapping[str, int | str | None] | None = None
    checks_after: Mapping[str, int | str | None] | None = None
    overlay_before: str | None = None
    fingerprints_before: Mapping[str, str] | None = None
    fingerprints: Mapping[str, str] | None = None
    schema_kinds: Mapping[str, Mapping[str, str]] | None = None
    fingerprint_source: FingerprintSource | None = None
    databases_unchanged: bool | None = None
    rollback_loses_data: bool | None = None
    schema_basis: str | None = None
    release_rows: Mapping[str, Mapping[str, int]] | None = None
    remaining_parts_error: LazyText | None = None
    soak_started_at: datetime | None = None
    soak_error: LazyText | None = None
    soak_checks: int | None = None
    soak_failed_checks: int | None = None
    statistics: Mapping[str, object] | None = None
    dropped_changes: tuple[str, ...] | None = None
    dropped_slots: tuple[str, ...] | None = None
    unknown_facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_soak_failed(self) -> bool:
        """Return whether the release failed in its soak period and was not confirmed."""
        return self.soak_error is not None and self.confirmed_by is None

    def to_json(self) -> dict[str, object]:
        """Return the recorded facts as JSON values."""
        known = {
            name: value for name, value in super().to_json().items() if name != "unknown_facts"
        }
        return {
            **self.unknown_facts,
            **{name: value for name, value in known.items() if value is not None},
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Create facts from the result of :meth:`to_json`.

        Raises:
            ValueError: If a fact has an unexpected type.
        """
        stored = dict(data) if isinstance(data, Mapping) else {}
        names = {item.name for item in fields(cls)} - {"unknown_facts"}
        known = {name: value for name, value in stored.items() if name in names}
        unknown = {name: value for name, value in stored.items() if name not in names}
        return replace(super().from_json(known), unknown_facts=unknown)


#: For a step without facts.
NO_FACTS = ChangeFacts()
