"""Facts that the steps of a change record in the journal for each other and for people.

A fact that was never kept is None. Facts of a newer agent are kept in ``unknown_facts`` and passed
over.
On the path of ``status``: standard library only.
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
    """When users were kept out, by the clock of one boot that nobody sets; seconds."""

    boot: str
    monotonic_s: float


@dataclass(frozen=True)
class SnapshotPlan(JsonRecord):
    """A directory of the site's own files, and how it is kept."""

    name: str
    directory: str
    method: str


@dataclass(frozen=True)
class FingerprintSource(JsonRecord):
    """Versions by which fingerprints were taken: a newer server prints a schema otherwise."""

    format: int
    engine: str
    major: int


@dataclass(frozen=True)
class ChangeFacts(JsonRecord):
    """Facts of one change, or those that a step adds to them.

    Attributes:
        path_versions: The releases that were to be walked when the change began.
        start_before: When the window closes in which users may be kept out.
        binding: What people approved.
        required_approvals: How many had to.
        accepted_loss: So many records a person agreed to lose.
        undone_upgrade: The upgrade that a rollback undoes.
        code_only: Whether a rollback leaves the databases as they are.
        no_copy: Whether the live databases go to the other release as they are, uncopied.
        has_expand: Whether the release's program runs on them before, while users work.
        expand_started: Whether that began, on schemas that were as the journal had them.
        contract_started: The same of what brings the migrations to their end once it was watched.
        contract_failed: With which code that failed when it was last tried.
        contract_abandoned: Whether a person left it so.
        contract_s: Seconds that it took, in which users worked.
        failed_soak_upgrade: The upgrade whose release turned bad, in a rollback that nobody
            ordered.
        needs_operator: Whether nobody takes back by itself what turned bad.
        confirmed_by: Who said that the release is good.
        fetched: Whether the release had to be fetched, and
        download_name: as which file.
        slot_existed: Whether the slot was there before the change.
        built_from: The file that the slot was built from.
        snapshots: The site's own files that are kept.
        advisories: What was found that stops no change.
        maintenance_was_on: Whether an operator has to remove the maintenance page.
        downtime_started: When users were kept out.
        downtime_s: For how long.
        was_running: Whether the application ran before.
        ended_sessions: Whose sessions were ended when the databases were closed.
        replaced: Databases that somebody replaced while they were closed.
        lost_records: Records that a restore loses, counted once more in the stop.
        copy_plan: The plan of the copy; see ``CopyPlan``.
        checks_before: Values of the domain checks on the copies.
        checks_after: The same once they were migrated.
        overlay_before: What was in use of the country's merged texts and settings; empty where
            nothing was.
        fingerprints_before: Of the schemas of the copies, by database.
        fingerprints: Of what became of them.
        schema_kinds: Of each kind of things in them.
        fingerprint_source: By what they were taken.
        databases_unchanged: Whether an upgrade changed neither schema nor rows.
        rollback_loses_data: Whether the rollback loses what users enter.
        schema_basis: What was known of kept databases.
        cut_over_s: Seconds of the cut-over.
        release_rows: Rows that the release itself made, by database and table.
        startup_s: Seconds until the application was healthy.
        remaining_parts_error: Why a part that waits for users does not start.
        soak_started_at: When the release was first watched.
        soak_error: Why it turned bad.
        soak_checks: How often it was looked at, and
        soak_failed_checks: how often in vain.
        statistics: What was done for the planner meanwhile.
        dropped_changes: Changes whose previous databases were dropped.
        dropped_slots: Releases whose slots were removed.
        unknown_facts: What this agent does not know.
    """

    path_versions: tuple[str, ...] | None = None
    start_before: datetime | None = None
    binding: str | None = None
    required_approvals: int | None = None
    accepted_loss: int | None = None
    undone_upgrade: str | None = None
    code_only: bool | None = None
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
    download_name: str | None = None
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
    cut_over_s: float | None = None
    release_rows: Mapping[str, Mapping[str, int]] | None = None
    startup_s: float | None = None
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
        """Tell whether the release failed in its soak period and was not confirmed."""
        return self.soak_error is not None and self.confirmed_by is None

    def to_json(self) -> dict[str, object]:
        """Return what was kept by its names, as JSON has it."""
        known = {
            name: value for name, value in super().to_json().items() if name != "unknown_facts"
        }
        return {
            **self.unknown_facts,
            **{name: value for name, value in known.items() if value is not None},
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what :meth:`to_json` returned.

        Raises:
            ValueError: If a fact is of another kind than its name says.
        """
        stored = dict(data) if isinstance(data, Mapping) else {}
        names = {item.name for item in fields(cls)} - {"unknown_facts"}
        known = {name: value for name, value in stored.items() if name in names}
        unknown = {name: value for name, value in stored.items() if name not in names}
        return replace(super().from_json(known), unknown_facts=unknown)


#: A step that has nothing to say.
NO_FACTS = ChangeFacts()
