"""Plan of an upgrade at this site, in figures, before anyone approves it.

Planning downloads and builds the slots of the path, since they contain the migrations. That costs
no downtime, and the upgrade uses these slots. Nothing that runs is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    CopyPlan,
    DatabaseFacts,
    LiveDatabase,
    MigrationPlan,
    MigrationSet,
    RollbackKind,
)
from ncen_updater.agent.adapters.databases.migrations.planner import (
    NO_COPY,
    RollbackPath,
    is_copy_free_upgrade,
    is_expand_upgrade,
    plan_rollback_path,
    plan_site_migrations,
    predict_ledgers,
    render_plan_sql,
)
from ncen_updater.agent.engine.expand_contract import CONTRACT_TITLE, EXPAND_TITLE
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_preflight import run_preflight
from ncen_updater.agent.engine.slot_builder import build_slot, list_slot_trees
from ncen_updater.agent.engine.steps import make_steps
from ncen_updater.agent.model.change import DOWNTIME_STEPS, StepName
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256, encode_canonical_json
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.upgrade_path import UpgradePath
from ncen_updater.formats.manifest import Manifest, SiteFileEffect
from ncen_updater.formats.release_document import Offer, ReleaseDocument

if TYPE_CHECKING:
    from ncen_updater.agent.engine.rehearsal.report import RehearsalReport
    from ncen_updater.agent.storage.overlay.layer import OverlayReport

PLACEHOLDER_CHANGE_ID = "planned2"  # Placeholder for the id of the first hop's change
PLACEHOLDER_DIGITS = "234567"  # Last digits of the ids of the following hops
SEPARATE_STEPS: dict[str, LazyText] = {
    "rehearse": LazyText(N_("rehearsal (separate command: rehearse)")),
    "wait": LazyText(N_("approvals and maintenance window (handled by the service)")),
}


@dataclass(frozen=True)
class PlannedStep:
    """One line of the plan.

    Attributes:
        name: Name of the step.
        title: Its title.
        downtime: Whether the step is part of the downtime.
        skipped_because: Why it will not run; None if it will.
    """

    name: str
    title: LazyText
    downtime: bool
    skipped_because: LazyText | None = None


def list_planned_steps(
    *, copies: bool = True, expands: bool = False, contracts: bool = False
) -> tuple[PlannedStep, ...]:
    """Return every step in order, including those that other commands or the service do; pure.

    Args:
        copies: Whether databases are copied and migrated in the downtime.
        expands: Whether a program of the release works on the databases before the downtime.
        contracts: Whether a program of the release works on them after the soak period.
    """
    lines: list[PlannedStep] = []
    for name, step in make_steps().items():
        if name in (StepName.COPY, StepName.MIGRATE) and not copies:
            continue
        if name is StepName.MAINTENANCE_ON:
            lines += [PlannedStep(key, note, False, note) for key, note in SEPARATE_STEPS.items()]
            if expands:
                lines.append(PlannedStep("expand", EXPAND_TITLE, False))
        lines.append(PlannedStep(name.value, step.title, name in DOWNTIME_STEPS))
        if name is StepName.SOAK and contracts:
            lines.append(PlannedStep("contract", CONTRACT_TITLE, False))
    return tuple(lines)


@dataclass(frozen=True)
class PlannedFiles:
    """Site files affected by one change.

    Attributes:
        name: Name in the configuration.
        effect: Declared effect of the release on them; None if it declares none.
        description: Description of the effect.
        configured: Whether this site has them under ``[[files]]``.
    """

    name: str
    effect: SiteFileEffect | None
    description: str
    configured: bool

    def to_json(self) -> dict[str, object]:
        """Return the facts for JSON."""
        effect = self.effect.value if self.effect else None
        return {
            "name": self.name,
            "effect": effect,
            "description": self.description,
            "configured": self.configured,
        }

    @property
    def text(self) -> LazyText:
        """Return the line shown to approvers."""
        values = {"name": self.name, "description": self.description}
        if self.effect in (None, SiteFileEffect.NOTHING) and self.configured:
            templates = {
                None: N_(
                    "  files {name}: the release does not say whether it changes them; they are"
                    " retained"
                ),
                SiteFileEffect.NOTHING: N_(
                    "  files {name}: unchanged according to the release; files are retained"
                ),
            }
            return LazyText(templates[self.effect], values)
        if not self.configured:
            text = N_("  files {name}: not retained (not in agent.toml): {description}")
        elif self.effect is SiteFileEffect.ADDS:
            text = N_("  files {name}: some added, can be reverted until the commit: {description}")
        else:
            text = N_(
                "  files {name}: some changed, can be reverted until the commit; a later rollback "
                "restores previous paths and keeps new files: {description}"
            )
        return LazyText(text, values)


def list_planned_files(configured: Sequence[str], manifest: Manifest) -> tuple[PlannedFiles, ...]:
    """List the site files of a plan: configured ones, and others that the release changes. Pure."""
    declared = {item.name: item for item in manifest.files}
    others = [
        item.name
        for item in manifest.files
        if item.name not in configured and item.effect is not SiteFileEffect.NOTHING
    ]
    files = []
    for name in (*configured, *others):
        effect = declared.get(name)
        files.append(
            PlannedFiles(
                name,
                effect.effect if effect else None,
                effect.description if effect else "",
                name in configured,
            )
        )
    return tuple(files)


@dataclass(frozen=True)
class HopPlan:
    """One change of the path.

    Attributes:
        origin: The release before it.
        offer: The offer of its release.
        document: The document of its release.
        migrations: Migrations to run, in order, and those without a down migration.
        target_migrations: All migrations of its release.
        databases: The live databases.
        copy: How each database will be copied; only for the first hop.
        findings: Current findings of the preflight; only for the first hop.
        rollback_path: How a rollback after the commit works.
        site_files: Site files and the release's declared effect on them.
        overlay: Effect on the local overlay; None if there is none.
        no_copy: Whether no database is copied or migrated in the downtime.
        expands: Whether the expand program works on the databases before the downtime.
        contracts: Whether the contract program works on them after the soak period.
    """

    origin: Version
    offer: Offer
    document: ReleaseDocument
    migrations: MigrationPlan
    target_migrations: MigrationSet
    databases: Sequence[DatabaseFacts]
    copy: CopyPlan | None
    findings: Sequence[Finding]
    rollback_path: RollbackPath
    site_files: Sequence[PlannedFiles] = ()
    overlay: OverlayReport | None = None
    no_copy: bool = False
    expands: bool = False
    contracts: bool = False

    @property
    def contract_command(self) -> Sequence[str]:
        """Return the contract program and its arguments; empty if there is none."""
        program = self.target_migrations.contract_program if self.contracts else None
        return program.argv if program is not None else ()

    @property
    def keeps_records(self) -> bool:
        """Return whether it is already certain that a rollback keeps every record."""
        return self.rollback_path.kind is RollbackKind.KEEPS_RECORDS

    def render_sql(self, engine: str) -> str:
        """Return every statement of this change, in order."""
        return render_plan_sql(self.migrations, engine, self.target_migrations)

    def to_json(self) -> dict[str, object]:
        """Return the facts for JSON; the plan's digest is computed from them."""
        manifest = self.document.manifest
        return {
            "from": str(self.origin),
            "to": manifest.version,
            "required": manifest.required,
            "urgency": manifest.urgency.value,
            "archive": {"bytes": self.offer.archive.length, "sha256": self.offer.archive.sha256},
            "unpacked_bytes": self.offer.unpacked_bytes,
            "tree_digest": self.document.tree_digest,
            "migrations": [
                {
                    "database": step.database,
                    "id": step.id,
                    "direction": step.direction.value,
                    "sha256": step.sha256,
                }
                for step in self.migrations.steps
            ],
            "command": list(manifest.migrator.argv) if manifest.migrator else None,
            "irreversible": [
                {"database": database, "id": id_, "reason": reason}
                for database, id_, reason in self.rollback_path.reasons
            ],
            "rollback_keeps_records": self.keeps_records,
            "no_copy": self.no_copy,
            "expands": self.expands,
            "contract": list(self.contract_command) if self.contracts else [],
            "files": [item.to_json() for item in self.site_files],
            # Texts of the overlay may be corrected until the last moment; its settings are
            # approved.
            "settings_digest": self.overlay.settings_digest if self.overlay else "",
        }


@dataclass(frozen=True)
class UpgradePlan:
    """Plan of the whole path. Check :attr:`is_blocked` first."""

    engine: str
    hops: tuple[HopPlan, ...]
    steps: tuple[PlannedStep, ...]
    original_digest: str | None = None

    @property
    def digest(self) -> str:
        """Return the digest that an approval covers: releases, and each migration by its digest.

        It excludes the results of a rehearsal; an approval covers these separately.
        """
        if self.original_digest is not None:
            return self.original_digest
        return compute_sha256(encode_canonical_json({"hops": [hop.to_json() for hop in self.hops]}))

    def apply_rehearsal(self, report: RehearsalReport | None) -> UpgradePlan:
        """Return the plan with a rehearsal's results on the rollbacks; the digest stays the same.

        Args:
            report: The report of a rehearsal; ignored if it belongs to another plan.
        """
        if report is None or report.plan != self.digest:
            return self
        unchanged_by_hop = {hop.versions: hop.unchanged for hop in report.hops}
        hops = []
        for hop in self.hops:
            unchanged = unchanged_by_hop.get((str(hop.origin), hop.document.manifest.version))
            rollback_path = (
                hop.rollback_path
                if unchanged is None
                else hop.rollback_path.resolve_kind(unchanged=unchanged)
            )
            hops.append(replace(hop, rollback_path=rollback_path))
        return replace(self, hops=tuple(hops), original_digest=self.digest)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return every finding of the preflight."""
        return tuple(finding for hop in self.hops for finding in hop.findings)

    @property
    def is_blocked(self) -> bool:
        """Return whether there is a critical finding."""
        return any(finding.severity is Severity.CRITICAL for finding in self.findings)

    def render_sql(self) -> str:
        """Return every statement that will run, in order, for the database administrator."""
        parts = []
        for hop in self.hops:
            parts.append(f"-- {hop.origin} -> {hop.offer.version}\n")
            parts.append(hop.render_sql(self.engine))
        return "\n".join(parts)

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON."""
        return {
            "digest": self.digest,
            "blocked": self.is_blocked,
            "hops": [
                {
                    **hop.to_json(),
                    "rollback_kind": hop.rollback_path.kind.value,
                    "lost_objects": list(hop.rollback_path.lost_objects),
                    "overlay": _serialize_overlay(hop.overlay),
                    "databases": [
                        {"name": f.name, "physical_name": f.physical_name, "bytes": f.size_bytes}
                        for f in hop.databases
                    ],
                    "copy": {k: dict(v) for k, v in hop.copy.copies.items()} if hop.copy else None,
                    "findings": [
                        {
                            "code": f.code,
                            "severity": f.severity.value,
                            "title": str(f.title),
                            "remedy": str(f.remedy),
                            "figures": dict(f.figures),
                        }
                        for f in hop.findings
                    ],
                }
                for hop in self.hops
            ],
            "steps": [
                {
                    "name": step.name,
                    "title": str(step.title),
                    "downtime": step.downtime,
                    "runs": step.skipped_because is None,
                }
                for step in self.steps
            ],
        }


def _serialize_overlay(report: OverlayReport | None) -> list[dict[str, object]] | None:
    if report is None:
        return None
    # The formatter is imported only if the site has an overlay.
    from ncen_updater.agent.storage.overlay.report_text import serialize_overlay

    return serialize_overlay(report)


def make_plan(
    site: Site, current: Version, path: UpgradePath, progress: ProgressListener
) -> UpgradePlan:
    """Build the slots of a path and plan each hop.

    Raises:
        UpdaterError: If a release cannot be fetched, or its migrations do not continue the ledger.
    """
    hops: list[HopPlan] = []
    origin = current
    engine = site.database_engine
    ledgers: Mapping[str, Sequence[AppliedMigration]] = {
        name: engine.read_ledger(LiveDatabase(name)) for name in engine.names
    }
    for position, offer in enumerate(path.hops):
        document = _prepare_slot(site, offer, progress)
        target = site.load_migrations(offer.release_version)
        before = site.load_migrations(origin)
        # Each hop has its own id, because a rollback undoes the ledger rows with the id of its hop.
        reference = ChangeRef(
            f"{PLACEHOLDER_CHANGE_ID[:-1]}{PLACEHOLDER_DIGITS[position % len(PLACEHOLDER_DIGITS)]}",
            0,
            str(offer.version),
        )
        findings: Sequence[Finding] = ()
        copy: CopyPlan | None = None
        migrations = plan_site_migrations(engine.names, ledgers, target, before)
        expands = engine.supports_online_programs and is_expand_upgrade(target, before)
        no_copy = expands or is_copy_free_upgrade(migrations, target, before)
        reference = replace(reference, no_copy=no_copy)
        ledgers = predict_ledgers(ledgers, migrations, reference)
        rollback_path = (
            NO_COPY
            if no_copy
            else plan_rollback_path(
                engine.names, ledgers, target, before, reference.id, engine=engine.engine_name
            )
        )
        if position == 0:
            findings = run_preflight(site, reference, origin, progress)
            copy = engine.plan_copy(reference)
        files = list_planned_files([item.name for item in site.config.files], document.manifest)
        hops.append(
            HopPlan(
                origin,
                offer,
                document,
                migrations,
                target,
                engine.describe_databases(),
                copy,
                findings,
                rollback_path,
                files,
                site.overlay.make_report(origin, offer.release_version) if site.overlay else None,
                no_copy,
                expands,
                engine.supports_online_programs
                and target.contract_program is not None
                and (expands or not no_copy),
            )
        )
        origin = offer.release_version
    return UpgradePlan(
        site.database_engine.engine_name,
        tuple(hops),
        list_planned_steps(
            copies=not hops or any(not hop.no_copy for hop in hops),
            expands=any(hop.expands for hop in hops),
            contracts=any(hop.contracts for hop in hops),
        ),
    )


def _prepare_slot(site: Site, offer: Offer, progress: ProgressListener) -> ReleaseDocument:
    version = offer.release_version
    if version in site.slots.list_versions():
        document = site.slots.read_document(version)
        if document.archive.sha256 == offer.archive.sha256:
            return document
    slot_trees = list_slot_trees(site.slots)
    download = site.release_source.download_smallest(offer, slot_trees, progress)
    build_slot(site.slots, site.release_source, offer, download, slot_trees, progress)
    return download.document
