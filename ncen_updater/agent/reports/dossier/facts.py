"""Collects the facts for a decision on an upgrade. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.engine.approvals.approval import Approval, ApprovalBasis
from ncen_updater.agent.engine.approvals.upgrade_approvals import (
    ApprovalSubject,
    require_approvable_basis,
)
from ncen_updater.agent.engine.pending_rollback import find_rolled_back_releases
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    DowntimeComparison,
    list_comparisons,
)
from ncen_updater.agent.engine.rehearsal.report import ReferenceMapResult, RehearsedHop
from ncen_updater.agent.engine.rehearsal.round_trip import format_round_trip
from ncen_updater.agent.engine.rollback_plan import (
    describe_contract,
    describe_copy_free_downtime,
    describe_rollback,
)
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.policy.windows import find_next_opening
from ncen_updater.agent.reports.command_results import merge_retained
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.manifest import ReleaseNotes

if TYPE_CHECKING:
    from ncen_updater.agent.storage.overlay.layer import OverlayReport

#: Characters of SQL in the dossier of one release: about sixty pages.
MAX_SQL_CHARS = 200_000


@dataclass(frozen=True)
class DossierHop:
    """One hop of the path.

    Attributes:
        notes: Release notes by language.
        rollback_kind: Kind of rollback, according to the plan and the rehearsal.
        irreversible_migrations: Migrations without a lossless rollback: database, migration,
            reason.
        lost_objects: Tables and columns whose new values a rollback loses.
        report: Result of the rehearsal; None without one.
        file_changes: Effects on the site's own files, one sentence each.
        overlay_changes: Effects on the local overlay, one sentence each.
        no_copy: Whether no database is copied during the downtime.
        expands: Whether the release's expand step runs on the databases before the downtime.
        contract: Command of the final migrations after the soak period, with its arguments.
        sql: All SQL statements in order; empty if the release has its own migrator.
    """

    origin: str
    version: str
    required: bool
    urgency: str
    notes: Mapping[str, ReleaseNotes]
    rollback_kind: RollbackKind
    irreversible_migrations: Sequence[tuple[str, str, str]]
    migrations: int
    unpacked_bytes: int
    report: RehearsedHop | None
    file_changes: Sequence[LazyText] = ()
    overlay_changes: Sequence[LazyText] = ()
    lost_objects: Sequence[str] = ()
    no_copy: bool = False
    expands: bool = False
    contract: Sequence[str] = ()
    sql: str = ""

    @property
    def downtime_s(self) -> tuple[float, float, float] | None:
        """Return the predicted downtime: lowest, likely, highest."""
        if self.report is None:
            return None
        downtime = self.report.downtime
        return downtime.low, downtime.likely, downtime.high

    @property
    def keeps_records(self) -> bool:
        """Return whether a rollback keeps the records that users enter."""
        return self.rollback_kind is RollbackKind.KEEPS_RECORDS and not self.lost_objects

    @property
    def rollback_line(self) -> LazyText:
        """Return the rollback in one sentence, as ``rollback`` prints it."""
        rehearsed = self.report is not None or self.no_copy
        return describe_rollback(
            self.rollback_kind, self.version, self.origin, self.lost_objects, rehearsed=rehearsed
        )

    @property
    def no_copy_line(self) -> LazyText | None:
        """Return a sentence on the shorter downtime if no database is copied."""
        return describe_copy_free_downtime(no_copy=self.no_copy, expands=self.expands)

    @property
    def contract_line(self) -> LazyText | None:
        """Return a sentence on the final migrations after the soak period, if there are any."""
        return describe_contract(self.contract)

    def format_round_trip(self, language: str) -> tuple[str, ...]:
        """Return the result of the round-trip test, in sentences."""
        found = self.report.round_trip if self.report else None
        if found is None:
            return ()
        return tuple(line.render(language).strip() for line in format_round_trip(found, language))

    @property
    def unmapped_rows(self) -> int:
        """Return the number of records whose code has no target in this release."""
        maps = self.report.reference_maps if self.report else ()
        return sum(item.unmapped_rows for item in maps)


@dataclass(frozen=True)
class Dossier:
    """Facts for the decision on an upgrade.

    Attributes:
        made_at: When the facts were collected.
        zone: Time zone of the site.
        sizes: Current size of each database in bytes.
        rehearsed_at: Time of the rehearsal; None without one.
        rehearsal_expires_at: When the rehearsal becomes too old for an approval.
        backup_s: Seconds for making and restoring a complete backup.
        not_before: The scheduled earliest start.
        window_opens_at: Start of the next maintenance window, if the site has windows.
        window_closes_at: End of that window.
        needs_no_approval: Whether the service starts the upgrade without approval.
        required_approvals: Number of required approvals.
        retention_days: Days for which the previous databases are retained.
        soak_s: Duration of the soak period in seconds.
        rolls_back_automatically: Whether a release that fails in its soak period is rolled back
            automatically.
        not_in_backup: Objects that the backup lacks, by database.
        chain_head: Number and hash of the newest journal event.
    """

    site: str
    country: str
    product: str
    agent: str
    made_at: datetime
    zone: tzinfo
    current: str
    target: str
    hops: Sequence[DossierHop]
    findings: Sequence[Finding]
    sizes: Mapping[str, int]
    rehearsed_at: datetime | None
    rehearsal: str | None
    rehearsal_expires_at: datetime | None
    backup_s: float | None
    past_predictions: Sequence[DowntimeComparison]
    not_before: datetime | None
    window_opens_at: datetime | None
    window_closes_at: datetime | None
    needs_no_approval: bool
    approvals: Sequence[Approval]
    required_approvals: int
    basis: ApprovalBasis
    retention_days: float
    soak_s: float
    rolls_back_automatically: bool
    not_in_backup: Mapping[str, Sequence[str]] = field(default_factory=dict)
    chain_head: str = ""

    @property
    def downtime_s(self) -> tuple[float, float, float] | None:
        """Return the predicted downtime of the whole path: lowest, likely, highest."""
        predictions = [hop.downtime_s for hop in self.hops]
        known = [prediction for prediction in predictions if prediction is not None]
        if not known or len(known) < len(predictions):
            return None
        low, likely, high = (sum(values) for values in zip(*known, strict=True))
        return low, likely, high

    @property
    def lost_objects(self) -> tuple[str, ...]:
        """Return the data loss of down migrations; empty where a release lacks them."""
        if any(hop.rollback_kind is not RollbackKind.KEEPS_RECORDS for hop in self.hops):
            return ()
        return tuple(dict.fromkeys(name for hop in self.hops for name in hop.lost_objects))

    @property
    def keeps_records(self) -> bool:
        """Return whether a rollback of the whole path keeps the records that users enter."""
        return all(hop.keeps_records for hop in self.hops)


def collect_dossier(site: Site, journal: Journal, subject: ApprovalSubject) -> Dossier:
    """Collect the facts for a decision.

    Args:
        site: The site.
        journal: Its journal.
        subject: The upgrade that can be approved.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If nothing can be approved.
        UpdaterError: If the journal cannot be read.
    """
    basis = require_approvable_basis(subject)
    settings, config = site.config.service, site.config
    record = subject.status.rehearsal
    report = record.report if record is not None else None
    now = site.clock.now()
    not_before = subject.schedule.not_before if subject.schedule else None
    windows = tuple(item.to_window() for item in settings.windows)
    opening = find_next_opening(windows, max(now, not_before or now), settings.get_timezone())
    rehearsed = {hop.versions: hop for hop in report.hops} if report is not None else {}
    hops = tuple(
        DossierHop(
            origin=str(hop.origin),
            version=hop.document.manifest.version,
            required=hop.document.manifest.required,
            urgency=hop.document.manifest.urgency.value,
            notes=hop.document.manifest.notes,
            rollback_kind=hop.rollback_path.kind,
            irreversible_migrations=tuple(hop.rollback_path.reasons),
            migrations=len(hop.migrations.steps),
            unpacked_bytes=hop.offer.unpacked_bytes,
            report=seen,
            file_changes=tuple(item.text for item in hop.site_files),
            overlay_changes=_format_overlay(hop.overlay),
            lost_objects=hop.rollback_path.lost_objects or (seen.all_lost_columns if seen else ()),
            no_copy=hop.no_copy,
            expands=hop.expands,
            contract=hop.contract_command,
            sql=_truncate_sql(hop.render_sql(subject.plan.engine)) if hop.migrations.steps else "",
        )
        for hop in subject.plan.apply_rehearsal(report).hops
        for seen in (rehearsed.get((str(hop.origin), hop.document.manifest.version)),)
    )
    rolled_back = find_rolled_back_releases(journal) & {hop.version for hop in hops}
    return Dossier(
        site=config.site.id,
        country=config.site.country,
        product=config.site.product,
        agent=str(site.agent_version),
        made_at=now,
        zone=settings.get_timezone(),
        current=hops[0].origin if hops else str(site.slots.read_current()),
        target=subject.target,
        hops=hops,
        findings=merge_retained(subject.plan.findings),
        sizes=basis.sizes,
        rehearsed_at=basis.rehearsed_at if record else None,
        rehearsal=record.id if record else None,
        rehearsal_expires_at=_compute_expiry(basis, settings.max_rehearsal_age_days)
        if record
        else None,
        backup_s=report.backup_s if report is not None else None,
        not_in_backup=(report.missing_objects if report is not None else None) or {},
        past_predictions=list_comparisons(journal),
        not_before=not_before,
        window_opens_at=opening.start if opening else None,
        window_closes_at=opening.end if opening else None,
        needs_no_approval=settings.mode == "automatic" and not rolled_back,
        approvals=subject.count.approvals,
        required_approvals=subject.count.needed,
        basis=basis,
        retention_days=config.retention.previous_days,
        soak_s=config.soak.seconds,
        rolls_back_automatically=config.soak.on_failure == "rollback",
        chain_head=str(journal.read_head()),
    )


def _truncate_sql(sql: str) -> str:
    """Shorten SQL to a printable length; ``plan --sql`` shows it completely."""
    return sql if len(sql) <= MAX_SQL_CHARS else sql[:MAX_SQL_CHARS] + "\n-- ... (plan --sql)"


def _compute_expiry(basis: ApprovalBasis, days: float) -> datetime | None:
    return basis.rehearsed_at + timedelta(days=days) if basis.rehearsed_at else None


def _format_overlay(layer: OverlayReport | None) -> tuple[LazyText, ...]:
    from ncen_updater.agent.storage.overlay.report_text import describe_overlay

    return describe_overlay(layer) if layer else ()


#: Maximum number of listed codes without a target; further ones are counted.
MAX_CODES_SHOWN = 20


def format_code_mapping(item: ReferenceMapResult) -> list[LazyText]:
    """Return the effect of a reference map, and the codes without a target."""
    lines = []
    if item.affected is not None:
        values: dict[str, object] = {"name": item.title, "count": item.affected}
        lines.append(LazyText(N_("'{name}': new code for {count} records."), values))
    unmapped = item.unmapped_rows
    if unmapped:
        shown = item.unmapped[:MAX_CODES_SHOWN]
        codes = ", ".join(f"{code} ({count})" for code, count in shown)
        if len(item.unmapped) > len(shown):
            codes += ", ..."
        values = {"name": item.title, "count": unmapped, "codes": codes}
        lines.append(LazyText(N_("'{name}': {count} records without a new code: {codes}"), values))
    return lines


def list_table_changes(hop: RehearsedHop) -> list[tuple[str, str, str, str]]:
    """List the application's tables whose rows change: rows before, rows after, effect."""
    return [
        (table, _format_count(before), _format_count(after), _describe_row_change(before, after))
        for table, before, after in hop.application_tables
    ]


def _format_count(count: int) -> str:
    return "-" if count < 0 else str(count)


def _describe_row_change(before: int, after: int) -> str:
    if before < 0:
        return N_("added")
    if after < 0:
        return N_("removed")
    if before == after:
        return N_("rows modified")
    return N_("rows added") if after > before else N_("rows removed")
