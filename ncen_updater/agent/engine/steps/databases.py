"""The databases: fence, copy, migrate, cut over; the originals are not written before that."""

from __future__ import annotations

from dataclasses import replace

from ncen_updater.agent.adapters.databases.base import MigrationSet
from ncen_updater.agent.adapters.databases.migrations.planner import plan_way_back
from ncen_updater.agent.adapters.databases.ways import Back
from ncen_updater.agent.engine import site_files
from ncen_updater.agent.engine.aside import note_kept
from ncen_updater.agent.engine.fingerprints import (
    differing,
    expected_before,
    schemas_of,
    taken_by,
)
from ncen_updater.agent.engine.migrating import down_target, mark_only, migrate_and_check
from ncen_updater.agent.engine.rollback_plan import (
    lost_words,
    records_lost,
    values_lost,
)
from ncen_updater.agent.engine.rollback_words import way_words
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.model.change import ChangeKind, Mode, StepName
from ncen_updater.agent.model.facts import NO_FACTS, ChangeFacts
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import NOT_AS_KEPT, RECORDS_WOULD_BE_LOST, VALUES_WOULD_BE_LOST


class Fence(Step):
    """Bar every session from all databases at once."""

    name = StepName.FENCE
    title = Text(N_("closing the databases to every session"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Count once more what going back loses, now that officers are out; say who is in.

        Raises:
            RecordsWouldBeLost: If more was entered than a person agreed to lose.
            ValuesWouldBeLost: The same, of what ways down do not keep.
        """
        ended = context.site.engine.sessions() or None
        if context.change.mode is not Mode.RESTORE:
            return ChangeFacts(lost=self._values_lost(context), ended_sessions=ended)
        lost = records_lost(context.site, context.journal, context.ref).records
        total = sum(sum(tables.values()) for tables in lost.values())
        if total > (context.facts().accepted_loss or 0):
            origin, target = context.change.from_version, context.change.to_version
            raise UpdaterError(
                RECORDS_WOULD_BE_LOST,
                way=way_words(Back.RESTORES, origin, target),
                version=target,
                current=origin,
                count=total,
                tables=lost_words(lost),
                reason=Text(N_("records were entered after the question was asked")),
            )
        return ChangeFacts(lost=total, ended_sessions=ended)

    @staticmethod
    def _values_lost(context: StepContext) -> int | None:
        undoes = context.facts().undoes
        if context.change.kind is not ChangeKind.ROLLBACK or undoes is None:
            return None
        lost = values_lost(context.site, context.journal, undoes).records
        total = sum(sum(objects.values()) for objects in lost.values())
        if total > (context.facts().accepted_loss or 0):
            origin, target = context.change.from_version, context.change.to_version
            loses = [f"{name}.{of}" for name, objects in lost.items() for of in objects]
            raise UpdaterError(
                VALUES_WOULD_BE_LOST,
                way=way_words(Back.KEEPS, origin, target, loses),
                current=origin,
                count=total,
                objects=lost_words(lost),
                days=f"{context.site.config.keep.previous_days:g}",
            )
        return total or None

    def do(self, context: StepContext) -> ChangeFacts:
        """Fence."""
        context.site.engine.fence(context.ref)
        return NO_FACTS

    def check(self, context: StepContext) -> bool:
        """The databases refuse sessions."""
        return context.site.engine.evidence(context.ref).fenced

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("opening the databases to sessions again"))

    def undo(self, context: StepContext) -> None:
        """Let sessions in as before."""
        engine = context.site.engine
        engine.require_live(opened=False)
        context.journal.keep(context.change.id, ChangeFacts(replaced=engine.replaced() or None))
        engine.unfence(context.ref)
        engine.require_live()

    def undone(self, context: StepContext) -> bool:
        """The databases take sessions."""
        return not context.site.engine.evidence(context.ref).fenced


class Copy(Step):
    """Copy all databases from one quiet moment, and keep the site's own files of that moment."""

    name = StepName.COPY
    title = Text(N_("copying the databases"))

    def doing(self, context: StepContext) -> Text | None:
        """Nothing is told where databases stay as they are."""
        return None if context.ref.as_is else self.title

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Choose method and object ids, so that an interrupted copy can be found."""
        return ChangeFacts(copy=context.site.engine.plan_copy(context.ref).data)

    def do(self, context: StepContext) -> ChangeFacts:
        """Copy, side by side; going back after an upgrade, give files their old names again."""
        with site_files.keeping(context):
            context.site.engine.copy(context.ref, context.copy_plan(), context.progress)
        site_files.bring_back(context)
        return NO_FACTS

    def check(self, context: StepContext) -> bool:
        """Every copy is whole."""
        copied = context.site.engine.copied(context.ref, context.copy_plan())
        return copied and site_files.all_kept(context)

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("removing the copies of the databases"))

    def undo(self, context: StepContext) -> None:
        """Put files back; remove the copies and what an interrupted copy left.

        Not while a live database is missing: what was copied of it may be all that there is.
        """
        context.site.engine.require_live(opened=False)
        site_files.put_back(context)
        context.site.engine.discard(context.ref, context.copy_plan())
        note_kept(context.site, context.journal, context.change.id)

    def undone(self, context: StepContext) -> bool:
        """No candidate is left, and no file is missing."""
        left = context.site.engine.evidence(context.ref).candidates
        return not left and site_files.all_there(context)


class Migrate(Step):
    """Bring the candidates to the target's schema and check what the data mean.

    A way back never runs a program of the older release: it runs the ways down of the newer one or,
    from kept databases and where nothing had changed, nothing at all.
    """

    name = StepName.MIGRATE
    title = Text(N_("migrating the databases"))

    def doing(self, context: StepContext) -> Text | None:
        """Nothing is told where databases stay as they are."""
        return None if context.ref.as_is else self.title

    def do(self, context: StepContext) -> ChangeFacts:
        """Ask the checks, migrate, ask them again, compare; or prove that nothing has to run."""
        with context.site.engine.held():
            if context.change.mode is Mode.RESTORE:
                return self._as_kept(context)
            if context.ref.as_is:
                # Taken while officers were still in: nobody enters a closed original for it. So
                # were the kinds, which are of what becomes of it at once.
                facts = context.facts()
                return ChangeFacts(
                    fingerprints=facts.fingerprints_before,
                    fingerprints_by=facts.fingerprints_by,
                    databases_unchanged=not facts.expands,
                    one_way=False,
                )
            if context.facts().by_code:
                found = mark_only(context.site.engine, context.ref)
                return ChangeFacts(
                    fingerprints=found.fingerprints,
                    schema_kinds=found.kinds,
                    fingerprints_by=taken_by(context.site.engine),
                    one_way=False,
                )
            return self._migrate(context)

    def _migrate(self, context: StepContext) -> ChangeFacts:
        site, up = context.site, context.leads_up
        origin, target = site.migrations(context.origin_version), self._target(context)
        checks = context.newer().manifest.checks
        found = migrate_and_check(
            site.engine, context.ref, checks, target, origin, context.progress, up=up
        )
        return ChangeFacts(
            fingerprints=found.fingerprints,
            schema_kinds=found.kinds,
            fingerprints_by=taken_by(site.engine),
            checks_before=found.before,
            checks_after=found.after,
            fingerprints_before=found.as_copied,
            databases_unchanged=found.unchanged,
            one_way=self._is_one_way(context, target, origin, unchanged=found.unchanged),
        )

    def _as_kept(self, context: StepContext) -> ChangeFacts:
        """Prove that the copies are what the older release ran on, and mark them."""
        engine, source = context.site.engine, context.change.source or ""
        expected = expected_before(context.journal, source, engine)
        schemas = schemas_of(engine, context.ref.candidate)
        found = schemas.fingerprints
        differs = differing(expected, found)
        if differs:
            raise UpdaterError(
                NOT_AS_KEPT, database=", ".join(differs), version=context.change.to_version
            )
        words = (
            N_("the structure of {databases} is as it was recorded")
            if expected
            else N_("nothing was recorded of the structure of {databases}; going on")
        )
        values = {"databases": ", ".join(engine.names), "version": context.change.to_version}
        context.progress.tell(Text(words, values))
        engine.mark(context.ref)
        return ChangeFacts(
            fingerprints=found,
            schema_kinds=schemas.kinds,
            fingerprints_by=taken_by(engine),
            compared_with="before" if expected else "nothing",
            one_way=False,
        )

    @staticmethod
    def _target(context: StepContext) -> MigrationSet:
        """What is migrated to; on the way back files only, never a program."""
        site = context.site
        target = site.migrations(context.target_version)
        if context.change.kind is ChangeKind.UPGRADE:
            return target
        newer, undoes = site.migrations(context.origin_version), context.facts().undoes
        return down_target(site.engine, context.ref, newer, target, undoes or "")

    @staticmethod
    def _is_one_way(
        context: StepContext, target: MigrationSet, origin: MigrationSet, *, unchanged: bool
    ) -> bool:
        """Whether the way back from here loses what officers enter: as the rollback will find."""
        if context.change.kind is not ChangeKind.UPGRADE:
            return False
        engine, ref = context.site.engine, context.ref
        by_files = target.command is None
        names = engine.names if by_files else ()
        ledgers = {name: engine.applied(ref.candidate(name)) for name in names}
        way = plan_way_back(
            engine.names, ledgers, target, origin, ref.id, engine=engine.kind, unchanged=unchanged
        )
        return way.back is not Back.KEEPS

    def check(self, context: StepContext) -> bool:
        """Nothing is left to migrate; where nothing had to run, that is so by itself."""
        site = context.site
        facts = context.facts()
        if context.change.mode is Mode.RESTORE or facts.by_code or facts.as_is:
            return True
        target = self._target(context)
        if target.command is not None:
            return True
        plan = site.engine.plan_migrations(
            context.ref.candidate, target, site.migrations(context.origin_version)
        )
        return not plan.steps


class CutOver(Step):
    """One transaction: live to previous, candidates to live, and the marker."""

    name = StepName.CUT_OVER
    title = Text(N_("cutting the databases over"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Cut over; keep how long it took, in seconds."""
        clock = context.site.clock.monotonic
        begin = clock()
        context.site.engine.cut_over(context.ref)
        facts = ChangeFacts(cut_over_s=round(clock() - begin, 6))
        if context.facts().one_way and context.change.kind is ChangeKind.UPGRADE:
            # Rows that the release itself made must not count as records that officers would lose.
            made = context.site.engine.made_by_release(context.ref)
            facts = replace(facts, made_by_release=made)
        return facts

    def check(self, context: StepContext) -> bool:
        """The catalogue carries the marker."""
        return context.site.engine.evidence(context.ref).swapped

    def undoing(self, context: StepContext) -> Text | None:
        """See :meth:`Step.undoing`."""
        return Text(N_("cutting the databases back"))

    def undo(self, context: StepContext) -> None:
        """Cut back; what may hold somebody's records is kept, and told."""
        context.site.engine.cut_back(context.ref)
        note_kept(context.site, context.journal, context.change.id)

    def undone(self, context: StepContext) -> bool:
        """The catalogue does not carry the marker."""
        return not context.site.engine.evidence(context.ref).swapped
