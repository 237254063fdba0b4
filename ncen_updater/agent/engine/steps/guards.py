"""The looks before anything is touched, and once more when the application stands still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ncen_updater.agent.adapters.databases.base import Live
from ncen_updater.agent.adapters.databases.migrations.planner import expands, goes_as_is
from ncen_updater.agent.engine import expand_contract, site_files
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.fingerprints import schemas_of, taken_by
from ncen_updater.agent.engine.guard import preflight_findings
from ncen_updater.agent.engine.permitted import require_no_hold
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.model.change import ChangeKind, StepName
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.common.cli.render import format_minute
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import APPROVAL_MISSING, GUARD_BLOCKS, WINDOW_CLOSED

#: What of the preflight no hour mends, since it is in the databases: nothing is rehearsed or
#: approved before a person did. All else may be gone by the time of the upgrade.
LASTING = frozenset({"NU-6106", "NU-6107"})


def refuse_strict(findings: Sequence[Finding]) -> None:
    """Raise if any finding is strict.

    Raises:
        GuardBlocks: With every strict finding and its remedy.
    """
    strict = [finding for finding in findings if finding.severity is Severity.STRICT]
    if strict:
        raise UpdaterError(
            GUARD_BLOCKS,
            problems="; ".join(dict.fromkeys(f"{f.code} {f.what}" for f in strict)),
            remedies=" ".join(dict.fromkeys(str(f.remedy) for f in strict)),
            findings=[f.code for f in strict],
        )


def refuse_lasting(findings: Sequence[Finding]) -> None:
    """Refuse a rehearsal or an approval where waiting mends nothing.

    Raises:
        GuardBlocks: With every such finding and its remedy.
    """
    refuse_strict([finding for finding in findings if finding.code in LASTING])


def _refuse_late(context: StepContext) -> None:
    """Refuse a change whose window has closed: the next step keeps officers out."""
    until = context.facts().begin_before
    if until is not None and context.site.clock.now() >= until:
        zone = context.site.config.service.zone()
        raise UpdaterError(WINDOW_CLOSED, until=format_minute(until, zone))


def _refuse_unwanted(context: StepContext) -> None:
    """Refuse an upgrade that somebody held or no longer approves since it began.

    Downloading and building may take hours, and nobody is out yet.
    """
    if context.change.kind is not ChangeKind.UPGRADE:
        return
    site = context.site
    require_no_hold(context.journal, site.clock.now(), site.config.service.zone())
    facts = context.facts()
    needed, binding = facts.approvals or 0, facts.binding or ""
    people = ApprovalStore(context.journal).people(binding, needed)
    if not people:
        raise UpdaterError(
            APPROVAL_MISSING,
            version=context.change.to_version,
            missing=people.missing,
            needed=people.needed,
        )


def what_is_copied(context: StepContext) -> ChangeFacts:
    """Say whether the databases go to the other release uncopied, and what runs before it.

    Asked once the slot is built and before officers are out. The answer is a fact of the change;
    of a rollback it is known from its beginning.
    """
    site = context.site
    if context.change.kind is not ChangeKind.UPGRADE:
        return ChangeFacts(as_is=context.facts().as_is or None)
    target, origin = (
        site.migrations(context.target_version),
        site.migrations(context.origin_version),
    )
    if site.engine.runs_beside and expands(target, origin):
        return ChangeFacts(as_is=True, expands=True)
    as_is = goes_as_is(site.engine.plan_migrations(Live, target, origin), target, origin)
    return ChangeFacts(as_is=as_is or None)


class Preflight(Step):
    """Space, versions, configuration, health, unmapped data: everything that may stop us later."""

    name = StepName.PREFLIGHT
    title = Text(N_("looking over the site"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Say which of the site's own files are kept, and how; and whether databases stay."""
        found = what_is_copied(context)
        return replace(site_files.planned(context), as_is=found.as_is, expands=found.expands)

    def do(self, context: StepContext) -> ChangeFacts:
        """Run every check; strict ones block. Then do what can be done while officers work."""
        context.site.engine.require_live()
        findings = preflight_findings(
            context.site, context.ref, context.origin_version, context.progress
        )
        refuse_strict(findings)
        context.site.engine.make_ready()
        if context.facts().expands:
            _refuse_late(context)
            _refuse_unwanted(context)
            expand_contract.expand(context)
        site_files.prepare(context)
        _refuse_late(context)
        _refuse_unwanted(context)
        context.site.engine.require_live()  # somebody may have closed one meanwhile
        facts = ChangeFacts(advisories=tuple(f"{f.code} {f.what}" for f in findings))
        if not context.ref.as_is:
            return facts
        engine = context.site.engine
        found = schemas_of(engine, Live)
        return replace(
            facts,
            fingerprints_before=found.fingerprints,
            schema_kinds=found.kinds,
            fingerprints_by=taken_by(engine),
        )

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("removing what was kept of files")) if context.facts().files else None

    def undo(self, context: StepContext) -> None:
        """Remove what was kept of files; they were put back before. What was expanded stays."""
        site_files.discard(context)
        expand_contract.note_what_stays(context.site, context.journal, context.change)


class PreflightAgain(Step):
    """What blocks the copy, now that every session should be gone."""

    name = StepName.PREFLIGHT_AGAIN
    title = Text(N_("looking over the databases once more"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Ask the databases; strict findings block."""
        refuse_strict(context.site.engine.blockers(context.ref, final=True))
        return NO_FACTS
