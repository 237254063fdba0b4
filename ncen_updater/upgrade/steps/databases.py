"""The databases: fence, copy, migrate, cut over. Until the cut-over the originals are not written.

In the in-place strategy the copy is the way back, so the undo of *migrate* already brings it back.
"""

from __future__ import annotations

import dataclasses

from ncen_updater.databases.base import Role, Strategy
from ncen_updater.databases.migrations.checks import ask, compare
from ncen_updater.i18n import N_, Text
from ncen_updater.release.manifest import When
from ncen_updater.upgrade import overlay
from ncen_updater.upgrade.context import StepContext
from ncen_updater.upgrade.errors import ChecksFailed, RecordsWouldBeLost
from ncen_updater.upgrade.model import ChangeKind, Mode, StepName
from ncen_updater.upgrade.reverse import reversed_checks
from ncen_updater.upgrade.steps.base import Facts, Step
from ncen_updater.upgrade.ways import lost_words, records_lost

__all__ = ["Copy", "CutOver", "Fence", "Migrate"]


class Fence(Step):
    """Bar every session from all databases at once."""

    name = StepName.FENCE
    title = Text(N_("closing the databases to every session"))

    def prepare(self, context: StepContext) -> Facts:
        """Count once more what a restore loses, now that officers are out.

        Raises:
            RecordsWouldBeLost: If more was entered than a person agreed to lose.
        """
        if context.change.mode is not Mode.RESTORE:
            return {}
        lost = records_lost(context.site, context.journal, context.ref)
        total = sum(sum(tables.values()) for tables in lost.values())
        if total > context.count_of("accepted_loss"):
            raise RecordsWouldBeLost(
                version=context.change.to_version,
                current=context.change.from_version,
                count=total,
                tables=lost_words(lost),
                reason=Text(N_("records were entered after the question was asked")),
            )
        return {"lost": total}

    def do(self, context: StepContext) -> Facts:
        """Fence."""
        context.site.engine.fence(context.ref)
        return {}

    def check(self, context: StepContext) -> bool:
        """The databases refuse sessions."""
        return context.site.engine.evidence(context.ref).fenced

    def undo(self, context: StepContext) -> None:
        """Let sessions in as before."""
        context.site.engine.unfence(context.ref)

    def undone(self, context: StepContext) -> bool:
        """The databases take sessions."""
        return not context.site.engine.evidence(context.ref).fenced


class Copy(Step):
    """Copy all databases from one quiet moment, and keep the site's own files of that moment."""

    name = StepName.COPY
    title = Text(N_("copying the databases"))

    def prepare(self, context: StepContext) -> Facts:
        """Choose method and object ids, so that an interrupted copy can be found."""
        return {"copy": dict(context.site.engine.plan_copy(context.ref).data)}

    def do(self, context: StepContext) -> Facts:
        """Copy, side by side; going back after an upgrade, give files their old names again."""
        with overlay.keeping(context):
            context.site.engine.copy(context.ref, context.copy_plan(), context.progress)
        overlay.bring_back(context)
        return {}

    def check(self, context: StepContext) -> bool:
        """Every copy is whole."""
        copied = context.site.engine.copied(context.ref, context.copy_plan())
        return copied and overlay.all_kept(context)

    def undo(self, context: StepContext) -> None:
        """Put files back; remove the copies and what an interrupted copy left."""
        overlay.put_back(context)
        context.site.engine.discard(context.ref, context.copy_plan())

    def undone(self, context: StepContext) -> bool:
        """No candidate is left, and no file is missing."""
        left = context.site.engine.evidence(context.ref).candidates
        return not left and overlay.all_there(context)


class Migrate(Step):
    """Bring the candidates to the target's schema and check what the data mean."""

    name = StepName.MIGRATE
    title = Text(N_("migrating the databases"))

    def do(self, context: StepContext) -> Facts:
        """Ask the checks, migrate, ask them again, compare."""
        site, ref = context.site, context.ref
        migrating = context.change.mode is Mode.MIGRATE
        checks = context.newer().manifest.checks if migrating else ()
        if not context.leads_up:
            checks = reversed_checks(checks)
        before = ask(site.engine, Role.CANDIDATE, ref, checks, When.BEFORE)
        target, origin = (
            site.migrations(context.target_version),
            site.migrations(context.origin_version),
        )
        plan = site.engine.plan_migrations(Role.CANDIDATE, ref, target, origin)
        site.engine.migrate(ref, target, origin, context.progress)
        after = ask(site.engine, Role.CANDIDATE, ref, checks, When.AFTER)
        failures = compare(checks, before, after)
        if failures:
            raise ChecksFailed(problems="; ".join(str(failure.what) for failure in failures))
        fingerprints = {
            name: site.engine.fingerprint(Role.CANDIDATE, name, ref) for name in site.engine.names
        }
        return {
            "checks_before": dict(before),
            "checks_after": dict(after),
            "fingerprints": fingerprints,
            "one_way": bool(plan.irreversible),
        }

    def check(self, context: StepContext) -> bool:
        """Nothing is left to migrate."""
        site = context.site
        target = site.migrations(context.target_version)
        if target.command is not None:
            return True
        plan = site.engine.plan_migrations(
            Role.CANDIDATE, context.ref, target, site.migrations(context.origin_version)
        )
        return not plan.steps

    def undo(self, context: StepContext) -> None:
        """In place: bring the copy back. Otherwise the candidates go with the undo of the copy."""
        if context.ref.strategy is Strategy.IN_PLACE:
            context.site.engine.cut_back(context.ref)


class CutOver(Step):
    """One transaction: live to previous, candidates to live, and the marker."""

    name = StepName.CUT_OVER
    title = Text(N_("cutting the databases over"))

    def do(self, context: StepContext) -> Facts:
        """Cut over; keep how long it took, in seconds."""
        clock = context.site.clock.monotonic
        begin = clock()
        context.site.engine.cut_over(context.ref)
        facts: dict[str, object] = {"cut_over_s": round(clock() - begin, 6)}
        if context.facts().get("one_way") and context.change.kind is ChangeKind.UPGRADE:
            # Rows that the release itself made must not count as records that officers would lose.
            own = dataclasses.replace(context.ref, source=context.ref.id)
            facts["made_by_release"] = context.site.engine.lost_rows(own)
        return facts

    def check(self, context: StepContext) -> bool:
        """The catalogue carries the marker."""
        return context.site.engine.evidence(context.ref).swapped

    def undo(self, context: StepContext) -> None:
        """Cut back."""
        context.site.engine.cut_back(context.ref)

    def undone(self, context: StepContext) -> bool:
        """The catalogue does not carry the marker."""
        return not context.site.engine.evidence(context.ref).swapped
