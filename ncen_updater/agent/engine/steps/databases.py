"""Steps on the databases: fence, copy, migrate, cut over.

The original databases are not written before the cut-over.
"""

from __future__ import annotations

import contextlib

from ncen_updater.agent.adapters.databases.base import MigrationSet, RollbackKind
from ncen_updater.agent.adapters.databases.migrations.planner import plan_rollback_path
from ncen_updater.agent.engine import file_snapshots as site_files
from ncen_updater.agent.engine.approvals.rollback_approvals import choose_acceptance_command
from ncen_updater.agent.engine.migration import (
    build_down_target,
    mark_without_migrating,
    migrate_and_check,
)
from ncen_updater.agent.engine.prune import record_quarantined
from ncen_updater.agent.engine.rollback_plan import (
    count_record_loss,
    count_value_loss,
    describe_rollback,
    format_loss,
)
from ncen_updater.agent.engine.schema_fingerprints import (
    list_differing,
    read_expected_fingerprints,
    read_fingerprint_source,
    read_schemas,
)
from ncen_updater.agent.engine.site import Step, StepContext
from ncen_updater.agent.model.change import ChangeKind, DatabaseMode, StepName
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    NEW_ROWS_WOULD_BE_LOST,
    PREVIOUS_SCHEMA_CHANGED,
    RECORDS_WOULD_BE_LOST,
)


class FenceStep(Step):
    """Fence: close all databases to all sessions at once."""

    name = StepName.FENCE
    title = LazyText(N_("closing the databases to connections"))

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Count the data loss again without users, and record the sessions still connected.

        Raises:
            RECORDS_WOULD_BE_LOST: If more records would be lost than were accepted.
            NEW_ROWS_WOULD_BE_LOST: The same, for values that the down migrations do not keep.
        """
        sessions = context.site.database_engine.describe_sessions() or None
        if context.change.mode is not DatabaseMode.RESTORE:
            return ChangeFacts(
                lost_records=self._require_accepted_loss(context), ended_sessions=sessions
            )
        lost = count_record_loss(context.site, context.journal, context.change_ref).records
        total = sum(sum(tables.values()) for tables in lost.values())
        if total > (context.read_facts().accepted_loss or 0):
            needed = context.site.config.service.required_approvals
            origin, target = context.change.from_version, context.change.to_version
            raise UpdaterError(
                RECORDS_WOULD_BE_LOST,
                summary=describe_rollback(RollbackKind.RESTORES_PREVIOUS, origin, target),
                version=target,
                current=origin,
                count=total,
                tables=format_loss(lost),
                reason=LazyText(N_("records were entered after the confirmation")),
                command=choose_acceptance_command(needed, 0, total),
            )
        return ChangeFacts(lost_records=total, ended_sessions=sessions)

    @staticmethod
    def _require_accepted_loss(context: StepContext) -> int | None:
        undone_upgrade = context.read_facts().undone_upgrade
        if context.change.kind is not ChangeKind.ROLLBACK or undone_upgrade is None:
            return None
        lost = count_value_loss(context.site, context.journal, undone_upgrade).records
        total = sum(sum(counts.values()) for counts in lost.values())
        if total > (context.read_facts().accepted_loss or 0):
            needed = context.site.config.service.required_approvals
            origin, target = context.change.from_version, context.change.to_version
            objects = [f"{name}.{item}" for name, counts in lost.items() for item in counts]
            raise UpdaterError(
                NEW_ROWS_WOULD_BE_LOST,
                summary=describe_rollback(RollbackKind.KEEPS_RECORDS, origin, target, objects),
                current=origin,
                count=total,
                objects=format_loss(lost),
                days=f"{context.site.config.retention.previous_days:g}",
                command=choose_acceptance_command(needed, 0, total),
            )
        return total or None

    def do(self, context: StepContext) -> ChangeFacts:
        """Fence the databases."""
        context.site.database_engine.fence(context.change_ref)
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Return whether the databases refuse sessions."""
        return context.site.database_engine.read_evidence(context.change_ref).fenced

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("opening the databases to connections"))

    def undo(self, context: StepContext) -> None:
        """Open the databases to sessions as before."""
        engine = context.site.database_engine
        engine.require_live(require_open=False)
        context.journal.store_facts(
            context.change.id, ChangeFacts(replaced=engine.list_replaced() or None)
        )
        engine.unfence(context.change_ref)
        engine.require_live()

    def is_undone(self, context: StepContext) -> bool:
        """Return whether the databases accept sessions."""
        return not context.site.database_engine.read_evidence(context.change_ref).fenced


class CopyStep(Step):
    """Copy all databases as of one moment without writes, and complete the site file snapshots."""

    name = StepName.COPY
    title = LazyText(N_("copying the databases"))

    def describe_do(self, context: StepContext) -> LazyText | None:
        """Return None if no database is copied."""
        return None if context.change_ref.no_copy else self.title

    def prepare(self, context: StepContext) -> ChangeFacts:
        """Choose method and object ids, so that the remains of an interrupted copy can be found."""
        return ChangeFacts(
            copy_plan=context.site.database_engine.plan_copy(context.change_ref).copies
        )

    def do(self, context: StepContext) -> ChangeFacts:
        """Copy in parallel; in a rollback of an upgrade, restore the old paths of site files."""
        with site_files.complete_snapshots(context):
            context.site.database_engine.copy_databases(
                context.change_ref, context.read_copy_plan(), context.progress
            )
        site_files.restore_old_paths(context)
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Tell whether every copy is complete."""
        copied = context.site.database_engine.is_copied(
            context.change_ref, context.read_copy_plan()
        )
        return copied and site_files.are_snapshots_complete(context)

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("removing the copies of the databases"))

    def undo(self, context: StepContext) -> None:
        """Restore the site files; remove the copies and the remains of an interrupted copy.

        The copies are kept while a live database is missing: its copy may be the only one left.
        """
        context.site.database_engine.require_live(require_open=False)
        site_files.restore_files(context)
        context.site.database_engine.discard_candidates(
            context.change_ref, context.read_copy_plan()
        )
        record_quarantined(context.site, context.journal, context.change.id)

    def is_undone(self, context: StepContext) -> bool:
        """Tell whether no candidate is left and no site file is missing."""
        candidates = context.site.database_engine.read_evidence(context.change_ref).candidates
        return not candidates and site_files.are_files_restored(context)


class MigrateStep(Step):
    """Migrate the candidates to the target's schema, and run the domain checks.

    A rollback never runs a program of the older release. It runs the down migrations of the newer
    one, or nothing if it uses previous databases or if the databases had not changed.
    """

    name = StepName.MIGRATE
    title = LazyText(N_("migrating the databases"))

    def describe_do(self, context: StepContext) -> LazyText | None:
        """Return None if no database is copied."""
        return None if context.change_ref.no_copy else self.title

    def hold(self, context: StepContext) -> contextlib.AbstractContextManager[None]:
        """Keep the sessions in the candidates open: connecting to a closed database takes long."""
        migrating = not self._has_nothing_to_migrate(context)
        return context.site.database_engine.hold_sessions(migrating=migrating)

    def do(self, context: StepContext) -> ChangeFacts:
        """Run the checks, migrate and run them again; or verify that nothing has to run."""
        if context.change.mode is DatabaseMode.RESTORE:
            return self._verify_previous_copies(context)
        if context.change_ref.no_copy:
            # Fingerprints and kinds were recorded in the preflight, while users worked, since no
            # session is opened in the closed originals. They describe the final state, too.
            facts = context.read_facts()
            return ChangeFacts(
                fingerprints=facts.fingerprints_before,
                fingerprint_source=facts.fingerprint_source,
                databases_unchanged=not facts.has_expand,
                rollback_loses_data=False,
            )
        if context.read_facts().unchanged_databases:
            schemas = mark_without_migrating(context.site.database_engine, context.change_ref)
            return ChangeFacts(
                fingerprints=schemas.fingerprints,
                schema_kinds=schemas.kinds,
                fingerprint_source=read_fingerprint_source(context.site.database_engine),
                rollback_loses_data=False,
            )
        return self._run_migrations(context)

    def _run_migrations(self, context: StepContext) -> ChangeFacts:
        site, up = context.site, context.leads_to_newer
        origin, target = site.load_migrations(context.origin_version), self._build_target(context)
        checks = context.read_newer_release().manifest.checks
        result = migrate_and_check(
            site.database_engine,
            context.change_ref,
            checks,
            target,
            origin,
            context.progress,
            up=up,
        )
        return ChangeFacts(
            fingerprints=result.fingerprints,
            schema_kinds=result.schema_kinds,
            fingerprint_source=read_fingerprint_source(site.database_engine),
            checks_before=result.checks_before,
            checks_after=result.checks_after,
            fingerprints_before=result.fingerprints_before,
            databases_unchanged=result.is_unchanged,
            rollback_loses_data=self._does_rollback_lose_data(
                context, target, origin, unchanged=result.is_unchanged
            ),
        )

    @staticmethod
    def _has_nothing_to_migrate(context: StepContext) -> bool:
        facts = context.read_facts()
        restores = context.change.mode is DatabaseMode.RESTORE
        return restores or facts.unchanged_databases is True or facts.no_copy is True

    def _verify_previous_copies(self, context: StepContext) -> ChangeFacts:
        """Verify that the copies have the schemas of the older release, and mark them."""
        engine, source = context.site.database_engine, context.change.restore_source or ""
        expected = read_expected_fingerprints(context.journal, source, engine)
        schemas = read_schemas(engine, context.change_ref.get_candidate)
        fingerprints = schemas.fingerprints
        differs = list_differing(expected, fingerprints)
        if differs:
            raise UpdaterError(
                PREVIOUS_SCHEMA_CHANGED,
                database=", ".join(differs),
                version=context.change.to_version,
            )
        template = (
            N_("schema of {databases} as recorded")
            if expected
            else N_("no recorded schema of {databases}; continuing")
        )
        values = {"databases": ", ".join(engine.names), "version": context.change.to_version}
        context.progress.report(LazyText(template, values))
        engine.mark_candidates(context.change_ref)
        return ChangeFacts(
            fingerprints=fingerprints,
            schema_kinds=schemas.kinds,
            fingerprint_source=read_fingerprint_source(engine),
            schema_basis="before" if expected else "nothing",
            rollback_loses_data=False,
        )

    @staticmethod
    def _build_target(context: StepContext) -> MigrationSet:
        """Return the migrations to apply; for a rollback only files, never a program."""
        site = context.site
        target = site.load_migrations(context.target_version)
        if context.change.kind is ChangeKind.UPGRADE:
            return target
        newer, undone_upgrade = (
            site.load_migrations(context.origin_version),
            context.read_facts().undone_upgrade,
        )
        return build_down_target(
            site.database_engine, context.change_ref, newer, target, undone_upgrade or ""
        )

    @staticmethod
    def _does_rollback_lose_data(
        context: StepContext, target: MigrationSet, origin: MigrationSet, *, unchanged: bool
    ) -> bool:
        """Return whether a rollback after this upgrade would lose records entered by users."""
        if context.change.kind is not ChangeKind.UPGRADE:
            return False
        engine, ref = context.site.database_engine, context.change_ref
        by_files = target.migrator is None
        names = engine.names if by_files else ()
        ledgers = {name: engine.read_ledger(ref.get_candidate(name)) for name in names}
        path = plan_rollback_path(
            engine.names,
            ledgers,
            target,
            origin,
            ref.id,
            engine=engine.engine_name,
            unchanged=unchanged,
        )
        return path.kind is not RollbackKind.KEEPS_RECORDS

    def is_done(self, context: StepContext) -> bool:
        """Tell whether no migration is left; true if nothing had to run, or a program ran."""
        if self._has_nothing_to_migrate(context):
            return True
        site, target = context.site, self._build_target(context)
        if target.migrator is not None:
            return True
        plan = site.database_engine.plan_migrations(
            context.change_ref.get_candidate, target, site.load_migrations(context.origin_version)
        )
        return not plan.steps


class CutOverStep(Step):
    """Cut over in one transaction: live to previous, candidates to live, and the marker."""

    name = StepName.CUT_OVER
    title = LazyText(N_("switching to the migrated databases"))

    def do(self, context: StepContext) -> ChangeFacts:
        """Cut over."""
        context.site.database_engine.cut_over(context.change_ref)
        if context.read_facts().rollback_loses_data and context.change.kind is ChangeKind.UPGRADE:
            # Rows that the release itself wrote must not count as users' lost records.
            release_rows = context.site.database_engine.count_release_rows(context.change_ref)
            return ChangeFacts(release_rows=release_rows)
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        """Return whether the live databases carry the marker of the change."""
        return context.site.database_engine.read_evidence(context.change_ref).is_cut_over

    def describe_undo(self, context: StepContext) -> LazyText | None:
        """See :meth:`Step.describe_undo`."""
        return LazyText(N_("switching to the previous databases"))

    def undo(self, context: StepContext) -> None:
        """Revert the cut-over; databases that may hold foreign records are put in quarantine."""
        context.site.database_engine.revert_cut_over(context.change_ref)
        record_quarantined(context.site, context.journal, context.change.id)

    def is_undone(self, context: StepContext) -> bool:
        """Return whether the live databases do not carry the marker of the change."""
        return not context.site.database_engine.read_evidence(context.change_ref).is_cut_over
