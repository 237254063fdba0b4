"""Preflight steps: before anything is changed, and again when the application is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.planner import (
    is_copy_free_upgrade,
    is_expand_upgrade,
)
from ncen_updater.agent.engine import expand_contract
from ncen_updater.agent.engine import file_snapshots as site_files
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.change_guards import require_no_hold
from ncen_updater.agent.engine.schema_fingerprints import read_fingerprint_source, read_schemas
from ncen_updater.agent.engine.site import Step, StepContext
from ncen_updater.agent.engine.site_preflight import run_preflight
from ncen_updater.agent.model.change import ChangeKind, StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText, join_texts
from ncen_updater.common.messages import APPROVAL_MISSING, PREFLIGHT_BLOCKED, WINDOW_CLOSED

#: Findings in the databases that only an operator can resolve: they also refuse rehearsals and
#: approvals. All other findings may be gone by the time of the upgrade.
LASTING_CODES = frozenset({"NU-6106", "NU-6107"})


def require_no_blockers(findings: Sequence[Finding]) -> None:
    """Raise if any finding is critical.

    Raises:
        PREFLIGHT_BLOCKED: With every critical finding and its remedy.
    """
    blockers = [finding for finding in findings if finding.severity is Severity.CRITICAL]
    if blockers:
        titles = [LazyText("{code} {title}", {"code": f.code, "title": f.title}) for f in blockers]
        raise UpdaterError(
            PREFLIGHT_BLOCKED,
            problems=join_texts({str(text): text for text in titles}.values()),
            remedies=join_texts({str(f.remedy): f.remedy for f in blockers}.values(), " "),
            findings=[f.code for f in blockers],
        )


def require_no_lasting_blockers(findings: Sequence[Finding]) -> None:
    """Refuse a rehearsal or an approval because of findings that only an operator can resolve.

    Raises:
        PREFLIGHT_BLOCKED: With every such finding and its remedy.
    """
    require_no_blockers([finding for finding in findings if finding.code in LASTING_CODES])


def _require_open_window(context: StepContext) -> None:
    """Refuse a change whose maintenance window has closed: its downtime would begin next."""
    until = context.read_facts().start_before
    if until is not None and context.site.clock.now() >= until:
        zone = context.site.config.service.get_timezone()
        raise UpdaterError(WINDOW_CLOSED, until=format_scheduled_time(until, zone))


def _require_still_approved(context: StepContext) -> None:
    """Refuse an upgrade that was put on hold, or lost an approval, since it began.

    Download and build may take hours, and there has been no downtime yet.
    """
    if context.change.kind is not ChangeKind.UPGRADE:
        return
    site = context.site
    require_no_hold(context.journal, site.clock.now(), site.config.service.get_timezone())
    facts = context.read_facts()
    needed, binding = facts.required_approvals or 0, facts.binding or ""
    count = ApprovalStore(context.journal).count_for_binding(binding, needed)
    if not count:
        raise UpdaterError(
            APPROVAL_MISSING,
            version=context.change.to_version,
            missing=count.missing,
            needed=count.needed,
        )


def decide_copying(context: StepContext) -> ChangeFacts:
    """Decide whether the databases stay uncopied, and whether the expand program runs.

    This is decided once the slot is built, before the downtime, and recorded as facts. For a
    rollback it is known from the beginning.
    """
    site = context.site
    if context.change.kind is not ChangeKind.UPGRADE:
        return ChangeFacts(no_copy=context.read_facts().no_copy or None)
    target, origin = (
        site.load_migrations(context.target_version),
        site.load_migrations(context.origin_version),
    )
    if site.database_engine.supports_online_programs and is_expand_upgrade(target, origin):
        return ChangeFacts(no_copy=True, has_expand=True)
    no_copy = is_copy_free_upgrade(
        site.database_engine.plan_migrations(LiveDatabase, target, origin), target, origin
    )
    return ChangeFacts(no_copy=no_copy or None)


class PreflightStep(Step):
    """Check everything that could stop the change later: space, versions, health, data."""

    name = StepName.PREFLIGHT
    title = LazyText(N_("running preflight checks"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Decide which site files are saved and how, and whether databases are copied."""
        copying = decide_copying(context)
        return replace(
            site_files.plan_snapshots(context),
            no_copy=copying.no_copy,
            has_expand=copying.has_expand,
        )

    def do(self, context: StepContext) -> ChangeFacts:
        """Run every check; critical findings raise. Then do all work that needs no downtime."""
        context.site.database_engine.require_live()
        findings = run_preflight(
            context.site, context.change_ref, context.origin_version, context.progress
        )
        require_no_blockers(findings)
        context.site.database_engine.prepare_control_storage()
        if context.read_facts().has_expand:
            _require_open_window(context)
            _require_still_approved(context)
            expand_contract.run_expand(context)
        site_files.prepare_snapshots(context)
        _require_open_window(context)
        _require_still_approved(context)
        context.site.database_engine.require_live()  # One may have been closed meanwhile.
        facts = ChangeFacts(advisories=tuple(f"{f.code} {f.title}" for f in findings))
        if not context.change_ref.no_copy:
            return facts
        engine = context.site.database_engine
        schemas = read_schemas(engine, LiveDatabase)
        return replace(
            facts,
            fingerprints_before=schemas.fingerprints,
            schema_kinds=schemas.kinds,
            fingerprint_source=read_fingerprint_source(engine),
        )

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return (
            LazyText(N_("removing the snapshots of site files"))
            if context.read_facts().snapshots
            else None
        )

    def undo(self, context: StepContext) -> None:
        """Discard the snapshots of site files; the effects of the expand program stay.

        The files themselves were restored by the undo of earlier steps.
        """
        site_files.discard_snapshots(context)
        expand_contract.record_live_schemas(context.site, context.journal, context.change)


class FinalPreflightStep(Step):
    """Check the databases for anything that blocks the copy, now without any sessions."""

    name = StepName.FINAL_PREFLIGHT
    title = LazyText(N_("rerunning preflight checks on the databases"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Check the databases; critical findings raise."""
        require_no_blockers(
            context.site.database_engine.find_blockers(context.change_ref, application_stopped=True)
        )
        return NO_FACTS
