"""Rehearsal: the real migrations on copies of the site's data, while users work.

The copies are a restored backup of each database, so every rehearsal also proves that a backup can
be restored; objects missing in the backup are reported. The copies are candidates of a change that
never happens and are always removed; after an interruption the next rehearsal or resume removes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ncen_updater.agent.adapters.databases.base import (
    ChangeRef,
    CopyPlan,
    RollbackKind,
    TableDigest,
)
from ncen_updater.agent.adapters.databases.migrations.domain_checks import (
    CheckValue,
    count_affected_rows,
    find_unmapped_references,
)
from ncen_updater.agent.adapters.databases.migrations.ledger import PARKED_SCHEMA
from ncen_updater.agent.adapters.databases.migrations.planner import RollbackPath
from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult, find_undeclared_losses
from ncen_updater.agent.engine.approvals.approval_status import compute_approval_basis
from ncen_updater.agent.engine.change_runner import is_release_at_fault
from ncen_updater.agent.engine.migration import (
    MigrationResult,
    build_down_target,
    mark_without_migrating,
    migrate_and_check,
)
from ncen_updater.agent.engine.plan import HopPlan, UpgradePlan, make_plan
from ncen_updater.agent.engine.raw_errors import add_raw_error_path, store_raw_error
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    list_past_downtimes,
    list_step_durations,
)
from ncen_updater.agent.engine.rehearsal.rehearsal_store import (
    RehearsalRecord,
    RehearsalState,
    RehearsalStore,
)
from ncen_updater.agent.engine.rehearsal.report import (
    ReferenceMapResult,
    RehearsalCopyPlans,
    RehearsalFailure,
    RehearsalReport,
    RehearsedHop,
)
from ncen_updater.agent.engine.rehearsal.round_trip import run_round_trip_test
from ncen_updater.agent.engine.schema_fingerprints import list_differing, read_fingerprints
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.steps.preflight import (
    require_no_blockers,
    require_no_lasting_blockers,
)
from ncen_updater.agent.model.errors import (
    InterventionRequiredError,
    MigrationFailedError,
    UndeclaredLossError,
)
from ncen_updater.agent.policy.downtime_prediction import predict_downtime
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.error_sanitizer import describe_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    INTERRUPTED,
    PREVIOUS_SCHEMA_CHANGED,
    REHEARSAL_FAILED,
    REHEARSAL_INCOMPLETE_COPY,
    SMOKE_FAILED,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.upgrade_path import UpgradePath
from ncen_updater.formats.manifest import Manifest

TableDigests = dict[str, dict[str, TableDigest]]


def _make_change_ref(change_id: str, release: str) -> ChangeRef:
    return ChangeRef(change_id, 0, release)


def remove_interrupted_rehearsals(site: Site, journal: Journal) -> int:
    """Remove the copies of interrupted rehearsals; return the number of these rehearsals.

    Raises:
        UpdaterError: If a copy cannot be removed.
    """
    rehearsals = RehearsalStore(journal)
    interrupted = rehearsals.list_interrupted()
    for record in interrupted:
        copies = record.copies or RehearsalCopyPlans()
        if copies.second_copy is not None and copies.second_id is not None:
            second = _make_change_ref(copies.second_id, record.to_version)
            site.database_engine.discard_candidates(second, CopyPlan(copies.second_copy))
        if copies.copy is not None:
            site.database_engine.discard_candidates(
                _make_change_ref(record.id, record.to_version), CopyPlan(copies.copy)
            )
        rehearsals.record_end(record.id, RehearsalState.FAILED, error_code=INTERRUPTED.code)
    return len(interrupted)


@dataclass
class _HopMeasurements:
    """Measurements and findings of one hop."""

    plan: HopPlan
    copy_s: float = 0.0
    migrate_s: float = 0.0
    contract_s: float | None = None
    rollback_s: float | None = None
    restore_s: float | None = None
    maps: tuple[ReferenceMapResult, ...] = ()
    tables: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    rollback_differences: list[str] = field(default_factory=list)
    migrated: MigrationResult | None = None
    ledger_rows_before: dict[str, int] = field(default_factory=dict)
    round_trip: RoundTripResult | None = None

    @property
    def is_unchanged(self) -> bool:
        """Return whether the migration changed neither schema nor rows."""
        return self.migrated is not None and self.migrated.is_unchanged and not self.tables

    @property
    def checks(self) -> dict[str, tuple[CheckValue, CheckValue]]:
        """Return the value of each check before and after."""
        result = self.migrated
        if result is None:
            return {}
        names = (*result.checks_before, *result.checks_after)
        return {
            name: (result.checks_before.get(name), result.checks_after.get(name)) for name in names
        }

    @property
    def rollback_path(self) -> RollbackPath:
        """Return the rollback path, resolved by the findings of this rehearsal."""
        return self.plan.rollback_path.resolve_kind(unchanged=self.is_unchanged)


class Rehearser:
    """Rehearser of upgrade paths on one site.

    Args:
        site: The site.
        journal: The journal, open for writing, under the lock of changes.
        progress: Receives progress reports.
        new_id: Creates ids.
        interruption: Decides when a signal may interrupt the work.
    """

    def __init__(
        self,
        site: Site,
        journal: Journal,
        progress: ProgressListener,
        new_id: Callable[[], str],
        interruption: SignalHandler | None = None,
    ) -> None:
        self._site, self._journal, self._progress = site, journal, progress
        self._new_id = new_id
        self._interruption = interruption or SignalHandler()
        self._clock = site.clock.monotonic
        self._missing_objects: dict[str, tuple[str, ...]] = {}

    def rehearse(self, path: UpgradePath) -> RehearsalRecord:
        """Rehearse a path and return its record in the journal.

        Raises:
            REHEARSAL_FAILED, REHEARSAL_INCOMPLETE_COPY: With its cause; the copies are removed.
            UpdaterError: The rehearsal was not begun.
        """
        site, journal = self._site, self._journal
        current = site.slots.read_current()
        if current is None:
            raise InterventionRequiredError(reason=LazyText(N_("no release is installed")))
        remove_interrupted_rehearsals(site, journal)
        plan = make_plan(site, current, path, self._progress)
        rehearsal_id, second_id = self._new_id(), self._new_id()
        target = path.target.version
        reference = _make_change_ref(rehearsal_id, target)
        blockers = site.database_engine.find_blockers(reference, application_stopped=False)
        require_no_blockers([f for f in blockers if "missing_bytes" in f.figures])
        # Restoring a backup runs code of the databases, which an attacker may have planted.
        require_no_blockers(site.database_engine.find_exposures(for_rehearsal=True))
        require_no_lasting_blockers(plan.findings)
        copy = site.database_engine.plan_copy(reference)
        second_copy = site.database_engine.plan_copy(_make_change_ref(second_id, target))
        rehearsals = RehearsalStore(journal)
        rehearsals.record_start(
            rehearsal_id, str(current), target,
            RehearsalCopyPlans(copy.copies, second_copy.copies, second_id),
        )  # fmt: skip
        started = site.clock.now()
        try:
            with self._interruption.allow_interruption():
                basis = compute_approval_basis(site, plan.digest, "", started)
                report = self._rehearse_path(
                    plan, reference, copy, _make_change_ref(second_id, target)
                )
        except BaseException as error:
            self._drop_copies(reference, copy, second_id, second_copy)
            code = error.code if isinstance(error, UpdaterError) else UpdaterError.message.code
            raw_error_path = store_raw_error(journal.path.parent, rehearsal_id, error)
            rehearsals.record_end(
                rehearsal_id, RehearsalState.FAILED, error_code=code,
                error=describe_error(error),
                # An object missing in the copies may have caused the failure.
                result=RehearsalFailure(
                    release_at_fault=is_release_at_fault(error) and not self._missing_objects,
                    missing_objects=self._missing_objects or None,
                ),
            )  # fmt: skip
            if isinstance(error, UpdaterError):
                values: dict[str, Any] = {
                    "version": target,
                    "cause": error.title_text,
                    "cause_code": code,
                    "detail": error.detail,
                    "cause_remedy": add_raw_error_path(error.remedy_text, raw_error_path),
                }
                if self._missing_objects:
                    raise UpdaterError(
                        REHEARSAL_INCOMPLETE_COPY,
                        **values,
                        objects=format_missing_objects(self._missing_objects),
                    ) from error
                raise UpdaterError(REHEARSAL_FAILED, **values) from error
            raise
        self._drop_copies(reference, copy, second_id, second_copy)
        rehearsals.record_end(
            rehearsal_id, RehearsalState.PASSED, basis=basis.to_json(), result=report
        )
        record = rehearsals.find_last(str(current), target)
        assert record is not None  # noqa: S101 - written just now
        return record

    # ---- internal steps ------------------------------------------------------------------------

    def _drop_copies(
        self, reference: ChangeRef, copy: CopyPlan, second_id: str, second_copy: CopyPlan
    ) -> None:
        self._report_progress(N_("removing the copies of the rehearsal"))
        self._site.database_engine.discard_candidates(
            _make_change_ref(second_id, reference.release), second_copy
        )
        self._site.database_engine.discard_candidates(reference, copy)

    def _report_progress(self, template: str, **values: object) -> None:
        self._progress.report(LazyText(template, values))

    def _measure(self, action: Callable[[], object]) -> float:
        begin = self._clock()
        action()
        return round(self._clock() - begin, 3)

    def _rehearse_path(
        self, plan: UpgradePlan, reference: ChangeRef, copy: CopyPlan, second: ChangeRef
    ) -> RehearsalReport:
        engine = self._site.database_engine
        self._report_progress(N_("backing up the databases and restoring the backup"))
        backup_s = self._measure(lambda: self._make_copies(reference, copy))
        self._report_progress(N_("measuring the copy time"))
        second_copies: list[CopyPlan] = []
        if any(item.get("method") == "clone" for item in copy.copies.values()):
            # The first clone also flushes the restored data; in an upgrade there are none to flush.
            engine.discard_candidates(
                second, engine.copy_candidates(reference, second, self._progress)
            )
        copy_s = self._measure(
            lambda: second_copies.append(engine.copy_candidates(reference, second, self._progress))
        )
        verify_s = self._rehearse_restore(reference, second, str(plan.hops[0].origin))
        engine.discard_candidates(second, second_copies[0])
        before = self._read_table_digests(reference)
        hops = [_HopMeasurements(hop, copy_s=0.0 if hop.no_copy else copy_s) for hop in plan.hops]
        digests = [before]
        for hop in hops:
            self._rehearse_upgrade(hop, reference)
            if hop.plan.contracts:
                self._rehearse_contract(hop, reference)
            self._smoke(hop, reference)
            digests.append(self._read_table_digests(reference))
            hop.tables = _list_changed_tables(digests[-2], digests[-1])
        for hop in hops:
            if hop.rollback_path.kind is not RollbackKind.KEEPS_RECORDS:
                hop.restore_s = round(copy_s + verify_s, 3)
        for index in range(len(hops) - 1, -1, -1):
            if hops[index].rollback_path.kind is not RollbackKind.KEEPS_RECORDS:
                break  # Without a rollback of this hop there is none of the hops before it.
            self._rehearse_rollback(hops[index], reference)
            hops[index].rollback_differences = _list_rollback_differences(
                digests[index], self._read_table_digests(reference)
            )
        # Last, since from here on the copies contain sample rows.
        for index, hop in enumerate(hops):
            if hop.rollback_s is None:
                continue
            if hop.rollback_path.unchanged_databases:
                if hop.plan.expands or not hop.plan.no_copy:
                    self._migrate_again(hop, reference)  # The next hop starts from this release.
                continue
            hop.round_trip = self._run_round_trip(hop, reference, index)
            if hop.round_trip.failure is not None:
                break
        return RehearsalReport(
            plan=plan.digest,
            backup_s=backup_s,
            missing_objects=self._missing_objects or None,
            sizes={facts.name: facts.size_bytes for facts in engine.describe_databases()},
            hops=tuple(self._report_hop(hop) for hop in hops),
        )

    def _rehearse_restore(self, reference: ChangeRef, second: ChangeRef, release: str) -> float:
        """Rehearse the rollback to previous databases on copies of them; return the seconds.

        Raises:
            PREVIOUS_SCHEMA_CHANGED: If the schema of a copy differs from its source.
        """
        engine = self._site.database_engine
        self._report_progress(N_("rehearsing the rollback to the previous databases"))
        before = read_fingerprints(engine, reference.get_candidate)
        begin = self._clock()
        differs = list_differing(before, read_fingerprints(engine, second.get_candidate))
        if differs:
            raise UpdaterError(
                PREVIOUS_SCHEMA_CHANGED, database=", ".join(differs), version=release
            )
        engine.mark_candidates(second)
        return round(self._clock() - begin, 3)

    def _make_copies(self, reference: ChangeRef, copy: CopyPlan) -> None:
        """Make the copies, and remember the objects missing in them."""
        missing = self._site.database_engine.copy_online(reference, copy, self._progress)
        self._missing_objects = {name: tuple(objects) for name, objects in missing.items()}

    def _read_table_digests(self, reference: ChangeRef) -> TableDigests:
        engine = self._site.database_engine
        return {n: engine.compute_table_digests(reference.get_candidate(n)) for n in engine.names}

    def _rehearse_upgrade(self, hop: _HopMeasurements, reference: ChangeRef) -> None:
        """Rehearse the step *migrate*, and run the queries of the reference maps."""
        site, engine = self._site, self._site.database_engine
        manifest = hop.plan.document.manifest
        step = _make_change_ref(reference.id, manifest.version)
        self._report_progress(
            N_("rehearsing the migrations to {version}"), version=manifest.version
        )
        hop.maps = self._measure_reference_maps(manifest, step)
        hop.ledger_rows_before = {
            n: len(engine.read_ledger(step.get_candidate(n))) for n in engine.names
        }
        if hop.plan.no_copy and not hop.plan.expands:
            # Neither migration files nor the release's program run.
            schemas = mark_without_migrating(engine, step)
            hop.migrated = MigrationResult(
                {}, {}, schemas.fingerprints, schemas.fingerprints, schemas.kinds, wrote_rows=False
            )
            return
        origin, begin = site.load_migrations(hop.plan.origin), self._clock()
        hop.migrated = migrate_and_check(
            engine,
            step,
            manifest.checks,
            hop.plan.target_migrations,
            origin,
            self._progress,
            up=True,
        )
        hop.migrate_s = round(self._clock() - begin, 3)

    def _rehearse_contract(self, hop: _HopMeasurements, reference: ChangeRef) -> None:
        """Rehearse the contract program, which the step *soak* runs at its end."""
        target = hop.plan.target_migrations
        self._report_progress(
            N_("rehearsing the final migrations of {version}"), version=target.release
        )
        if target.contract_program is not None:
            run_program = partial(
                self._site.database_engine.run_online_program, target.contract_program, target.slot
            )
            hop.contract_s = self._measure(lambda: run_program(self._progress, change=reference))

    def _smoke(self, hop: _HopMeasurements, reference: ChangeRef) -> None:
        """Run the release's smoke test on the migrated copies, if it declares one.

        Raises:
            MigrationFailedError: If the smoke test fails.
        """
        target, smoke = hop.plan.target_migrations, hop.plan.document.manifest.smoke
        if smoke is None:
            return
        self._report_progress(N_("testing {version} on the copies"), version=target.release)
        try:
            self._site.database_engine.run_online_program(
                smoke, target.slot, self._progress, change=reference
            )
        except MigrationFailedError as error:
            how = error.values.get("how", error.title_text)  # A file may have been left damaged.
            raise MigrationFailedError(
                SMOKE_FAILED, version=target.release, program=smoke.argv[0], how=how,
                detail=error.detail,
            ).with_raw_error(error.raw_error) from error  # fmt: skip

    def _rehearse_rollback(self, hop: _HopMeasurements, reference: ChangeRef) -> None:
        """Rehearse the step *migrate* of a rollback."""
        engine, newer = self._site.database_engine, hop.plan.target_migrations
        step = _make_change_ref(reference.id, str(hop.plan.origin))
        self._report_progress(N_("rehearsing the rollback to {version}"), version=hop.plan.origin)
        if hop.rollback_path.unchanged_databases:
            hop.rollback_s = self._measure(lambda: mark_without_migrating(engine, step))
            return
        older = self._site.load_migrations(hop.plan.origin)
        # All hops share one change id here: only ledger rows that this hop added are its own.
        target = build_down_target(engine, step, newer, older, reference.id, hop.ledger_rows_before)
        checks = hop.plan.document.manifest.checks
        hop.rollback_s = self._measure(
            lambda: migrate_and_check(engine, step, checks, target, newer, self._progress, up=False)
        )

    def _migrate_again(self, hop: _HopMeasurements, reference: ChangeRef) -> None:
        step = _make_change_ref(reference.id, hop.plan.document.manifest.version)
        origin = self._site.load_migrations(hop.plan.origin)
        self._site.database_engine.migrate(step, hop.plan.target_migrations, origin, self._progress)
        if hop.plan.contracts:
            self._rehearse_contract(hop, reference)

    def _run_round_trip(
        self, hop: _HopMeasurements, reference: ChangeRef, seed: int
    ) -> RoundTripResult:
        """Test which values the rollback keeps.

        Raises:
            UpdaterError: If it loses values without declaring it.
        """
        engine, newer = self._site.database_engine, hop.plan.target_migrations
        older = self._site.load_migrations(hop.plan.origin)
        version = hop.plan.document.manifest.version
        self._report_progress(
            N_("testing the rollback from {version} with sample values"), version=version
        )
        ledger_rows_before = {
            n: len(engine.read_ledger(reference.get_candidate(n))) for n in engine.names
        }

        def roll_back() -> None:
            step = _make_change_ref(reference.id, str(hop.plan.origin))
            target = build_down_target(engine, step, newer, older, reference.id, ledger_rows_before)
            engine.migrate(step, target, newer, self._progress)

        result = run_round_trip_test(
            engine, reference, str(seed),
            upgrade=lambda: self._migrate_again(hop, reference), roll_back=roll_back,
        )  # fmt: skip
        lost = find_undeclared_losses(result.columns, hop.rollback_path.losses)
        if lost:
            raise UndeclaredLossError(
                version=version, origin=hop.plan.origin, objects=", ".join(lost)
            )
        return result

    def _measure_reference_maps(
        self, manifest: Manifest, step: ChangeRef
    ) -> tuple[ReferenceMapResult, ...]:
        engine = self._site.database_engine
        unmapped = {
            item.name: item.rows
            for item in find_unmapped_references(
                engine, step.get_candidate, manifest.reference_maps
            )
        }
        return tuple(
            ReferenceMapResult(
                item.name,
                item.database,
                count_affected_rows(engine, step.get_candidate, item),
                unmapped.get(item.name, ()),
                item.names,
            )
            for item in manifest.reference_maps
        )

    def _report_hop(self, hop: _HopMeasurements) -> RehearsedHop:
        # Migrations while users work are not part of the downtime.
        migrate_s = 0.0 if hop.plan.expands else hop.migrate_s
        return RehearsedHop(
            from_version=str(hop.plan.origin),
            to_version=hop.plan.document.manifest.version,
            copy_s=hop.copy_s,
            migrate_s=hop.migrate_s,
            contract_s=hop.contract_s,
            rollback_s=hop.rollback_s,
            rollback_differences=tuple(hop.rollback_differences),
            restore_s=hop.restore_s,
            rollback_path=hop.rollback_path.kind,
            lost_columns=tuple(hop.rollback_path.lost_objects),
            round_trip=hop.round_trip,
            unchanged=hop.is_unchanged,
            checks=hop.checks,
            reference_maps=hop.maps,
            changed_tables=hop.tables,
            downtime=predict_downtime(
                hop.copy_s,
                migrate_s,
                list_step_durations(self._journal),
                list_past_downtimes(self._journal),
            ),
        )


def format_missing_objects(missing: Mapping[str, Sequence[str]]) -> str:
    """Format the objects missing in a backup: database and objects."""
    return "; ".join(f"{name}: {', '.join(objects)}" for name, objects in missing.items())


def _list_changed_tables(
    before: TableDigests, after: TableDigests
) -> dict[str, dict[str, tuple[int, int]]]:
    """Return changed tables with their rows before and after; -1 if the table is missing."""
    changed: dict[str, dict[str, tuple[int, int]]] = {}
    for database in after:
        old, new = before.get(database, {}), after[database]
        for table in sorted(old.keys() | new.keys()):
            if old.get(table) != new.get(table):
                changed.setdefault(database, {})[table] = (
                    _count_rows(old, table),
                    _count_rows(new, table),
                )
    return changed


def _count_rows(tables: Mapping[str, TableDigest], table: str) -> int:
    return tables[table].rows if table in tables else -1


def _list_rollback_differences(before: TableDigests, after: TableDigests) -> list[str]:
    """Return the tables that the rollback did not restore.

    Values parked for the next upgrade (in a schema; on SQLite in tables with its name as prefix)
    are expected and not listed.
    """
    return [
        f"{database}.{table}"
        for database, tables in _list_changed_tables(before, after).items()
        for table in tables
        if not table.startswith(PARKED_SCHEMA)
    ]
