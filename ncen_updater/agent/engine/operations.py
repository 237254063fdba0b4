"""Operations of an operator: upgrade, roll back, resume, confirm. One change at a time.

Upgrade, rollback and resume take the lock, open the journal and compare the site with the journal
before they begin.

The ``require_`` functions check and refuse. They change nothing, except that
:func:`require_consistent_site` repairs a marker that some of the databases have lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from ncen_updater.agent.engine.approvals.rollback_approvals import (
    choose_acceptance_command,
    find_rollback_to_approve,
)
from ncen_updater.agent.engine.change_guards import (
    require_no_hold,
    require_no_open_change,
    require_no_unfinished_change,
)
from ncen_updater.agent.engine.change_outcome import ChangeOutcome, read_outcome
from ncen_updater.agent.engine.elapsed_time import record_elapsed_time
from ncen_updater.agent.engine.expand_contract import record_live_schemas
from ncen_updater.agent.engine.lock import hold_application_lock, hold_change_lock
from ncen_updater.agent.engine.observed_state import find_contradiction, observe_site
from ncen_updater.agent.engine.path_selection import choose_upgrade_path, require_current_version
from ncen_updater.agent.engine.pending_rollback import (
    PENDING_ROLLBACK_REASON,
    can_be_superseded,
    find_pending_rollback,
    inherit_facts,
)
from ncen_updater.agent.engine.recovery import (
    ObservedState,
    RecoveryAction,
    RecoveryDecision,
    decide_recovery,
)
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    find_forecast,
    record_actual_downtime,
    record_forecast,
)
from ncen_updater.agent.engine.rollback_plan import RollbackPlan, plan_rollback
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.engine.site import Site, make_change_ref
from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepState,
    new_change_id,
)
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ApplicationUnhealthyError,
    ChangeFailedError,
    InterventionRequiredError,
    SoakFailedError,
)
from ncen_updater.agent.model.event_names import APPLICATION_STARTED, CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.policy.restart_policy import should_start
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    LATER_HOP_FAILED,
    NEW_ROWS_WOULD_BE_LOST,
    NOTHING_TO_ROLL_BACK,
    RECORDS_WOULD_BE_LOST,
    ROLLBACK_PLAN_CHANGED,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath

if TYPE_CHECKING:  # needed only to run a change: the steps with all that they use
    from ncen_updater.agent.adapters.databases.base import DatabaseMarker
    from ncen_updater.agent.engine.change_runner import ChangeRunner, Checkpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OperationResult:
    """Result of an operation.

    Attributes:
        outcomes: One for each change, in order.
        path: The chosen path, for an upgrade.
        decision: The decision of the recovery, for a resume.
        application_started: Whether a resume started the application because it should be running.
    """

    outcomes: tuple[ChangeOutcome, ...] = ()
    path: UpgradePath | NoUpgradePath | None = None
    decision: RecoveryDecision | None = None
    application_started: bool = False


def _make_later_hop_error(failed: ChangeFailedError, installed: str) -> ChangeFailedError:
    """Return the error of a later hop; it says that the hops before it stay installed."""
    values: dict[str, Any] = {**failed.values, "installed": installed}
    return ChangeFailedError(LATER_HOP_FAILED, detail=failed.original_detail, **values)


class Operations:
    """Operations on one site.

    Args:
        site: The site.
        progress: Receives progress reports.
        interruption: Decides when a signal may interrupt a step.
        checkpoint: For fault tests, see :mod:`ncen_updater.agent.engine.change_runner`.
        new_id: Creates the id of a change.
    """

    def __init__(
        self,
        site: Site,
        progress: ProgressListener,
        *,
        interruption: SignalHandler | None = None,
        checkpoint: Checkpoint | None = None,
        new_id: Callable[[], str] = new_change_id,
    ) -> None:
        self._site = site
        self._progress = progress
        self._interruption = interruption or SignalHandler()
        self._checkpoint = checkpoint
        self._new_id = new_id

    # ---- operations ----------------------------------------------------------------------------

    def upgrade(
        self,
        target: Version | None = None,
        *,
        retry: bool = False,
        start_before: datetime | None = None,
        check_consent: Callable[[Journal, UpgradePath], ChangeFacts] | None = None,
    ) -> OperationResult:
        """Upgrade to a release, with one change for each hop of the path.

        Args:
            target: The release that the operator named; the newest by default.
            retry: Allow releases that are marked bad.
            start_before: End of the maintenance window in which downtime may start.
            check_consent: Called once, under the lock and before the first hop. It raises to
                refuse, and returns the facts of the approval for the first change.

        Raises:
            HELD: An operator's hold is in force; checked again before each hop.
            ChangeFailedError: The first hop failed and was reverted.
            LATER_HOP_FAILED: A later hop failed and was reverted; the hops before it stay.
            SoakFailedError: A release failed in its soak period; it was rolled back if that is
                configured and loses no record.
            UpdaterError: No change was begun; or a hop failed before its downtime and was reverted,
                or is committed and not completed.
        """
        with self._lock_and_open_journal("upgrade") as journal:
            lift_ended_fences(self._site, journal)
            require_idle_site(self._site, journal)
            zone = self._site.config.service.get_timezone()
            require_no_hold(journal, self._site.clock.now(), zone)
            offers = self._site.release_source.refresh().offers
            path = choose_upgrade_path(self._site, offers, journal, target, retry=retry)
            outcomes: list[ChangeOutcome] = []
            hops = path.hops if isinstance(path, UpgradePath) else ()
            approval_facts = NO_FACTS
            if check_consent is not None and isinstance(path, UpgradePath):
                approval_facts = check_consent(journal, path)
            path_versions = tuple(hop.version for hop in hops)
            for offer in hops:
                require_no_hold(journal, self._site.clock.now(), zone)
                change = self._new_change(
                    ChangeKind.UPGRADE, require_current_version(self._site), offer.release_version
                )
                facts = dataclasses.replace(
                    approval_facts, path_versions=path_versions, start_before=start_before
                )
                approval_facts = NO_FACTS
                predicted = find_forecast(journal, change.from_version, change.to_version)
                journal.begin_change(change, facts)
                record_forecast(journal, change, predicted)
                try:
                    self._run_change(journal, change.id, lambda r, c: r.run_change(c))
                except ChangeFailedError as error:
                    if outcomes:
                        raise _make_later_hop_error(
                            error, outcomes[-1].change.to_version
                        ) from error
                    raise
                record_actual_downtime(journal, change.id)
                outcomes.append(read_outcome(journal, change.id))
            return OperationResult(tuple(outcomes), path)

    def plan_rollback(self, *, accept_loss: int | None = None) -> RollbackPlan:
        """Plan a rollback. Changes nothing.

        Raises:
            NOTHING_TO_ROLL_BACK: If no earlier release is installed.
            RECORDS_WOULD_BE_LOST, NEW_ROWS_WOULD_BE_LOST: If the rollback loses more records than
                were accepted.
            SiteBusyError, OPEN_CHANGE: If another change must be completed first.
        """
        with self.read_journal() as journal:
            change = journal.find_open_change()
            if change is not None and not can_be_superseded(journal, change):
                require_no_unfinished_change(journal)
            return self._plan_rollback(journal, accept_loss)

    def rollback(
        self,
        *,
        accept_loss: int | None = None,
        expected_upgrade: str | None = None,
        check_consent: Callable[[Journal, RollbackPlan], ChangeFacts] | None = None,
    ) -> OperationResult:
        """Roll back to the previous release, without data loss where the release supports it.

        Args:
            accept_loss: The number of records that the operator agreed to lose.
            expected_upgrade: The upgrade that the operator saw in the rollback plan; by default the
                last one.
            check_consent: Raises if the plan is not approved; its facts are stored with the change.

        Raises:
            NOTHING_TO_ROLL_BACK: If no earlier release is installed.
            ROLLBACK_PLAN_CHANGED: If the rollback would undo another upgrade than the expected one.
            RECORDS_WOULD_BE_LOST, NEW_ROWS_WOULD_BE_LOST: If it loses more records than were
                accepted.
            ChangeFailedError: The rollback failed and was reverted; the newer release runs.
        """
        with self._lock_and_open_journal("rollback") as journal:
            lift_ended_fences(self._site, journal)
            change = journal.find_open_change()
            if change is not None and not can_be_superseded(journal, change):
                require_no_open_change(journal)
            require_consistent_site(self._site, journal, change)
            plan = self._plan_rollback(journal, accept_loss)
            if expected_upgrade not in (None, plan.undoes):
                raise UpdaterError(ROLLBACK_PLAN_CHANGED, version=plan.target, current=plan.origin)
            approval_facts = NO_FACTS if check_consent is None else check_consent(journal, plan)
            outcome = self._run_rollback(
                journal,
                plan,
                superseded=change.id if change else None,
                approval_facts=approval_facts,
            )
            return OperationResult((outcome,))

    def resume(
        self, *, by_operator: bool, at_boot: bool = False, last_running_boot: str | None = None
    ) -> OperationResult:
        """Bring the site to one whole version after an interruption at any instant.

        While the machine starts and no change is open, the databases are not queried, so that a
        slow database server does not delay the start of the application. If a change is open, every
        resume without an operator (also at boot) waits for the database server.

        Args:
            by_operator: Whether an operator gave the command; then the number of attempts is
                unlimited.
            at_boot: Whether the system starts the application after the agent; then the agent
                neither starts nor watches it.
            last_running_boot: Boot id under which the service last saw the application running.

        Raises:
            InterventionRequiredError: If the facts contradict each other or recovery failed too
                often.
            REVERT_FAILED: If the revert failed again.
        """
        from ncen_updater.agent.engine.rehearsal.rehearser import remove_interrupted_rehearsals

        with self._lock_and_open_journal("resume") as journal:
            change = journal.find_open_change()
            if at_boot and change is None:
                return OperationResult(decision=decide_recovery(ObservedState(None)))
            if change is not None and not by_operator:
                require_databases = functools.partial(
                    self._site.database_engine.require_live, require_open=False
                )
                self._make_runner(journal).retry_while_unreachable(require_databases)
            lift_ended_fences(self._site, journal)
            decision = decide_recovery(observe_site(self._site, change, by_operator=by_operator))
            if decision.action is RecoveryAction.NOTHING:
                require_consistent_site(self._site, journal, None)
                remove_interrupted_rehearsals(self._site, journal)
                try:
                    # The rollback comes first: the release that it replaces may be unable to start.
                    result = self._run_pending_rollback(
                        journal, decision, by_operator=by_operator, at_boot=at_boot
                    )
                except InterventionRequiredError:
                    self._start_if_expected(journal, last_running_boot)
                    raise
                started = self._start_if_expected(journal, last_running_boot)
                return dataclasses.replace(result, application_started=started)
            if decision.action is RecoveryAction.STOP or change is None:
                raise self._mark_stuck(journal, change, decision)
            self._make_runner(journal).record_recovery(change.id)
            if decision.action is RecoveryAction.FINISH and not change.is_open_after_commit:
                # The databases record the commit, the journal did not.
                journal.commit_change(change.id)
            pending = OperationResult()
            try:
                if decision.action is RecoveryAction.REVERT:
                    self._make_runner(journal, at_boot=at_boot).revert(change.id)
                elif at_boot:
                    self._make_runner(journal, at_boot=True).end_downtime_only(change.id)
                else:
                    self._start_for_soak(journal, change, last_running_boot)
                    self._run_change(journal, change.id, lambda r, c: r.finish(c))
            except BaseException as error:
                self._make_runner(journal).count_failed_recovery(change.id, error)
                raise
            if decision.action is RecoveryAction.REVERT:
                pending = self._run_pending_rollback(
                    journal, decision, by_operator=by_operator, at_boot=at_boot
                )
            return OperationResult(
                (read_outcome(journal, change.id), *pending.outcomes), decision=decision
            )

    def _start_if_expected(self, journal: Journal, last_running_boot: str | None) -> bool:
        """Start the application if it should be running and nothing else starts it."""
        from ncen_updater.agent.engine.steps.start_verdict import require_healthy

        application = self._site.application
        expected = should_start(
            application.observe_state(), last_running_boot, self._site.clock.boot_id()
        )
        current = self._site.slots.read_current()
        if not expected or current is None:
            return False
        self._progress.report(LazyText(N_("starting the application")))
        application.start()
        require_healthy(self._site, self._site.slots.read_document(current), strict=False)
        application.start_deferred_parts()
        journal.record_event(APPLICATION_STARTED, version=str(current))
        return True

    def _start_for_soak(
        self, journal: Journal, change: Change, last_running_boot: str | None
    ) -> None:
        """Start the application for its soak period if it should run; the soak then judges it.

        Before the downtime has ended, the steps start the application.
        """
        if change.get_step_state(StepName.MAINTENANCE_OFF) is not StepState.DONE:
            return
        try:
            self._start_if_expected(journal, last_running_boot)
        except (ApplicationUnhealthyError, ApplicationError) as error:
            logger.warning("the application is not healthy; monitoring it: %s", error)

    @contextlib.contextmanager
    def read_journal(self) -> Iterator[Journal]:
        """Open the journal read-only."""
        with Journal.open(self._site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            yield journal

    @contextlib.contextmanager
    def lock_site(self, operation: str) -> Iterator[Journal]:
        """Hold the lock, whether or not a change is open; the caller checks the state of the site.

        Raises:
            SiteBusyError: If another process holds the lock.
        """
        with self._lock_and_open_journal(operation) as journal:
            yield journal

    @contextlib.contextmanager
    def lock_idle_site(self, operation: str) -> Iterator[Journal]:
        """Hold the lock while no change is open, for work that is not a change of the site.

        Raises:
            SiteBusyError: If another process holds the lock.
            OPEN_CHANGE: If a change is open.
            InterventionRequiredError: If journal and site contradict each other.
        """
        with self._lock_and_open_journal(operation) as journal:
            lift_ended_fences(self._site, journal)
            require_idle_site(self._site, journal)
            yield journal

    # ---- helpers -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lock_and_open_journal(self, operation: str) -> Iterator[Journal]:
        with (
            hold_change_lock(self._site.state_directory / CHANGE_LOCK_FILE, operation),
            hold_application_lock(self._site.config.application.maintenance_file, operation),
            Journal.open(
                self._site.state_directory / JOURNAL_FILE, now=self._site.clock.now
            ) as journal,
        ):
            record_elapsed_time(journal, self._site.clock)
            yield journal

    def _make_runner(self, journal: Journal, *, at_boot: bool = False) -> ChangeRunner:
        from ncen_updater.agent.engine.change_runner import ChangeRunner, ignore_checkpoint

        return ChangeRunner(
            self._site,
            journal,
            self._progress,
            interruption=self._interruption,
            checkpoint=self._checkpoint or ignore_checkpoint,
            at_boot=at_boot,
        )

    def _new_change(
        self,
        kind: ChangeKind,
        origin: Version,
        target: Version,
        mode: DatabaseMode = DatabaseMode.MIGRATE,
        source: str | None = None,
    ) -> Change:
        marker: DatabaseMarker | None = self._site.database_engine.read_marker()
        return Change(
            id=self._new_id(),
            kind=kind,
            mode=mode,
            state=ChangeState.RUNNING,
            product=self._site.config.site.product,
            from_version=str(origin),
            to_version=str(target),
            generation=(marker.generation if marker else 0) + 1,
            created_at=self._site.clock.now(),
            restore_source=source,
        )

    def _plan_rollback(self, journal: Journal, accept_loss: int | None) -> RollbackPlan:
        plan = plan_rollback(self._site, journal, require_current_version(self._site))
        if plan is None:
            raise UpdaterError(NOTHING_TO_ROLL_BACK)
        enough = accept_loss is not None and accept_loss >= plan.lost_total
        if not enough and (plan.loses_values or plan.mode is DatabaseMode.RESTORE):
            raise self._make_loss_error(journal, plan)
        return dataclasses.replace(plan, accepted_loss=accept_loss or 0)

    def _make_loss_error(self, journal: Journal, plan: RollbackPlan) -> UpdaterError:
        needed = self._site.config.service.required_approvals
        approved = find_rollback_to_approve(journal, str(plan.origin), needed).accepted_loss
        values: dict[str, Any] = {
            "summary": plan.summary,
            "current": plan.origin,
            "count": plan.lost_total,
            "command": choose_acceptance_command(needed, approved, plan.lost_total),
            "lost": plan.lost,
        }
        if plan.loses_values:
            return UpdaterError(
                NEW_ROWS_WOULD_BE_LOST,
                objects=plan.full_loss_text,
                days=plan.retention_days_text,
                **values,
            )
        return UpdaterError(
            RECORDS_WOULD_BE_LOST,
            version=plan.target,
            tables=plan.full_loss_text,
            reason=plan.reason,
            **values,
        )

    def _run_pending_rollback(
        self, journal: Journal, decision: RecoveryDecision, *, by_operator: bool, at_boot: bool
    ) -> OperationResult:
        """Run the rollback of a release that failed in its soak period, if it was interrupted.

        Not while the machine starts: there the application has to start first, and the system
        starts it only after the agent.
        """
        pending = find_pending_rollback(journal)
        if pending is None or at_boot or not (by_operator or pending.is_automatic):
            return OperationResult(decision=decision)
        plan = plan_rollback(self._site, journal, require_current_version(self._site))
        if plan is None or not plan.is_lossless:
            template = N_(
                "release {version} failed in the soak period, and a rollback would lose records"
            )
            raise InterventionRequiredError(
                reason=LazyText(template, {"version": pending.change.to_version})
            )
        if find_pending_rollback(journal) is None:
            return OperationResult(decision=decision)  # Confirmed while the rollback was planned.
        outcome = self._run_rollback(
            journal, plan, superseded=None, failed_soak_upgrade=pending.change.id
        )
        return OperationResult(
            (outcome,),
            decision=RecoveryDecision(RecoveryAction.REVERT, "pending", PENDING_ROLLBACK_REASON),
        )

    def _run_rollback(
        self,
        journal: Journal,
        plan: RollbackPlan,
        superseded: str | None,
        failed_soak_upgrade: str | None = None,
        approval_facts: ChangeFacts = NO_FACTS,
    ) -> ChangeOutcome:
        if superseded is not None:
            # The contract program may have been interrupted: record the schemas that it left.
            record_live_schemas(self._site, journal, journal.read_change(superseded))
        change = self._new_change(
            ChangeKind.ROLLBACK, plan.origin, plan.target, plan.mode, plan.source
        )
        facts = dataclasses.replace(
            inherit_facts(journal, superseded),
            accepted_loss=plan.accepted_loss,
            undone_upgrade=plan.undoes,
            unchanged_databases=plan.unchanged_databases or None,
            no_copy=plan.no_copy or None,
            failed_soak_upgrade=failed_soak_upgrade,
            binding=approval_facts.binding,
        )
        journal.begin_change(change, facts, superseded_change=superseded)
        self._run_change(journal, change.id, lambda r, c: r.run_change(c))
        return read_outcome(journal, change.id)

    def _run_change(
        self, journal: Journal, change_id: str, work: Callable[[ChangeRunner, str], None]
    ) -> None:
        try:
            work(self._make_runner(journal), change_id)
        except SoakFailedError as error:
            self._handle_failed_soak(journal, journal.read_change(change_id), error)
            raise

    def _handle_failed_soak(self, journal: Journal, change: Change, error: SoakFailedError) -> None:
        """Mark the release bad; roll back automatically only if the rollback loses no record."""
        if change.kind is not ChangeKind.UPGRADE:
            journal.store_facts(change.id, ChangeFacts(needs_operator=True))
            return
        SiteHistory(journal).mark_bad(change.product, change.to_version, error.code, change.id)
        plan = plan_rollback(self._site, journal, require_current_version(self._site))
        is_lossless = plan is not None and plan.is_lossless
        if journal.read_facts(change.id).confirmed_by is not None:
            return  # Confirmed while the rollback was planned.
        if self._site.config.soak.on_failure == "rollback" and plan is not None and is_lossless:
            outcome = self._run_rollback(
                journal, plan, superseded=change.id, failed_soak_upgrade=change.id
            )
            error.values["rolled_back_to"] = outcome.change.to_version
        else:
            journal.store_facts(change.id, ChangeFacts(needs_operator=True))

    def _mark_stuck(
        self, journal: Journal, change: Change | None, decision: RecoveryDecision
    ) -> InterventionRequiredError:
        if change is not None and change.state is not ChangeState.STUCK:
            journal.set_change_state(change.id, ChangeState.STUCK, reason=str(decision.reason))
        return InterventionRequiredError(reason=decision.reason)


def lift_ended_fences(site: Site, journal: Journal) -> None:
    """Lift the fences of changes that have ended.

    Raises:
        DatabaseError: If no change is open, but a live database is missing or refuses sessions.
    """
    ended = {change.id: change for change in journal.list_changes() if not change.state.is_open}
    for change_id in ended.keys() & site.database_engine.read_evidence(None).fenced_by:
        site.database_engine.unfence(make_change_ref(ended[change_id]))
        journal.record_event("fence-lifted", change_id)
    if journal.find_open_change() is None:
        site.database_engine.require_live()


def require_idle_site(site: Site, journal: Journal) -> None:
    """Refuse if a change is open, or if site and journal contradict each other.

    Raises:
        OPEN_CHANGE: If a change is open.
        InterventionRequiredError: If journal and site contradict each other.
    """
    require_no_open_change(journal)
    require_consistent_site(site, journal, None)


def require_consistent_site(site: Site, journal: Journal, change: Change | None) -> None:
    """Refuse if site and journal contradict each other, or if the open change is not committed.

    If some databases have lost their marker, it is restored from the others.

    Raises:
        InterventionRequiredError: If they contradict each other.
    """
    decision = decide_recovery(observe_site(site, change, by_operator=True))
    if decision.action is not (RecoveryAction.NOTHING if change is None else RecoveryAction.FINISH):
        raise InterventionRequiredError(reason=decision.reason)
    repaired = site.database_engine.repair_marker()
    if repaired:
        journal.record_event(
            "marker-repaired", change.id if change else None, databases=list(repaired)
        )
    reason = find_contradiction(site, journal)
    if reason is not None:
        raise InterventionRequiredError(reason=reason)
