"""Operations for an operator: upgrade, roll back, resume, confirm. One change at a time.

Each function of :class:`Operations` takes the lock, opens the journal, compares the site with the
journal, and only then begins.

Checks and refuses; changes nothing but a partly lost marker in the databases, which it repairs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import DatabaseMarker
from ncen_updater.agent.engine import change_guards as soaking
from ncen_updater.agent.engine.change_guards import (
    require_no_hold,
    require_no_open_change,
    require_no_unfinished_change,
)
from ncen_updater.agent.engine.change_outcome import ChangeOutcome, read_outcome
from ncen_updater.agent.engine.change_runner import ChangeRunner, Checkpoint, ignore_checkpoint
from ncen_updater.agent.engine.elapsed_time import record_elapsed_time
from ncen_updater.agent.engine.expand_contract import record_live_schemas
from ncen_updater.agent.engine.lock import hold_application_lock, hold_change_lock
from ncen_updater.agent.engine.observed_state import find_contradiction, observe_site
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
from ncen_updater.agent.engine.steps.start_verdict import require_healthy
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
    JournalPermissionError,
    JournalUnwritableError,
    SoakFailedError,
)
from ncen_updater.agent.model.event_names import APPLICATION_STARTED, CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.policy.restart_policy import RestartDecision, decide_restart
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    FEED_NEVER_READ,
    LATER_HOP_FAILED,
    NEW_ROWS_WOULD_BE_LOST,
    NOTHING_TO_ROLL_BACK,
    RECORDS_WOULD_BE_LOST,
    ROLLBACK_PLAN_CHANGED,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath, choose_path
from ncen_updater.formats.release_document import Offer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OperationResult:
    """What an operation came to.

    Attributes:
        outcomes: One a change, in order.
        path: The path that was chosen, for an upgrade.
        decision: What recovery decided, for a resume.
        application_started: Whether a resume started an application that ought to run.
    """

    outcomes: tuple[ChangeOutcome, ...] = ()
    path: UpgradePath | NoUpgradePath | None = None
    decision: RecoveryDecision | None = None
    application_started: bool = False


def _make_later_hop_error(failed: ChangeFailedError, stays: str) -> ChangeFailedError:
    """Say of a change further on the path that the hops before it stay."""
    values: dict[str, Any] = {**failed.values, "stays": stays}
    return ChangeFailedError(LATER_HOP_FAILED, detail=failed.detail, **values)


class Operations:
    """The operations on one site.

    Args:
        site: What is acted on.
        progress: Told what is being done.
        interruption: Where signals may end a step.
        checkpoint: For trials, see :mod:`ncen_updater.agent.engine.change_runner`.
        new_id: Gives ids of changes.
    """

    def __init__(
        self,
        site: Site,
        progress: ProgressListener,
        *,
        interruption: SignalHandler | None = None,
        checkpoint: Checkpoint = ignore_checkpoint,
        new_id: Callable[[], str] = new_change_id,
    ) -> None:
        self._site = site
        self._progress = progress
        self._interruption = interruption or SignalHandler()
        self._checkpoint = checkpoint
        self._new_id = new_id

    # ---- the operations ------------------------------------------------------------------------

    def find_upgrade_path(
        self, target: Version | None = None, *, retry: bool = False
    ) -> UpgradePath | NoUpgradePath:
        """Refresh the list and choose a path. Changes nothing at the site.

        Raises:
            UpdaterError: Of the trust, network or path family.
        """
        view = self._site.release_source.refresh()
        with Journal.open(self._site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            return choose_upgrade_path(self._site, view.offers, journal, target, retry=retry)

    def upgrade(
        self,
        target: Version | None = None,
        *,
        retry: bool = False,
        start_before: datetime | None = None,
        check_consent: Callable[[Journal, UpgradePath], ChangeFacts] | None = None,
    ) -> OperationResult:
        """Walk the path to a release, one change a hop.

        Args:
            target: The release that a person named; the newest by default.
            retry: Try releases again that failed here.
            start_before: When the window closes in which users may be kept out.
            check_consent: Asked once, under the lock and before the first hop; raises to refuse,
                and returns what the first change has to know of the agreement.

        Raises:
            HELD: An operator's hold is in force; asked again before each hop.
            ChangeFailedError: The first hop failed and was undone.
            LATER_HOP_FAILED: A later one did; the hops before it stay.
            SoakFailedError: A hop turned bad after its commit and, if so configured, was rolled
                back.
            UpdaterError: Nothing was begun.
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
            agreed = NO_FACTS
            if check_consent is not None and isinstance(path, UpgradePath):
                agreed = check_consent(journal, path)
            walked = tuple(hop.version for hop in hops)
            for offer in hops:
                require_no_hold(journal, self._site.clock.now(), zone)
                change = self._new_change(
                    ChangeKind.UPGRADE, require_current_version(self._site), offer.release_version
                )
                facts = dataclasses.replace(agreed, path_versions=walked, start_before=start_before)
                agreed = NO_FACTS
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

    def record_elapsed_time(self) -> None:
        """Record the time that has passed, for retention; see :mod:`.elapsed_time`.

        Nothing comes of it where this user may not write the journal.
        """
        try:
            with Journal.open(self._site.state_directory / JOURNAL_FILE) as journal:
                record_elapsed_time(journal, self._site.clock)
        except (JournalPermissionError, JournalUnwritableError) as error:
            logger.info("the time that has passed was not counted: %s", error)

    def plan_rollback(self, *, accept_loss: int | None = None) -> RollbackPlan:
        """Say how a rollback would go. Changes nothing.

        Raises:
            NOTHING_TO_ROLL_BACK: If there is no earlier release here.
            RECORDS_WOULD_BE_LOST: If it loses records and the loss was not accepted.
            SiteBusyError, OPEN_CHANGE: If a change comes first.
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
        agree: Callable[[Journal, RollbackPlan], ChangeFacts] | None = None,
    ) -> OperationResult:
        """Go back to the release before, keeping every record where the release can.

        Args:
            accept_loss: The number of records that a person agreed to lose.
            expected_upgrade: The upgrade whose rollback a person saw; by default whatever came
                last.
            agree: Refuses what people have not agreed to; its facts go with the change.

        Raises:
            NOTHING_TO_ROLL_BACK: If there is no earlier release here.
            ROLLBACK_PLAN_CHANGED: If another upgrade would be undone than the one that was seen.
            RECORDS_WOULD_BE_LOST: If it loses records and that many were not accepted.
            ChangeFailedError: The rollback failed and was undone; the newer release runs.
        """
        with self._lock_and_open_journal("rollback") as journal:
            lift_ended_fences(self._site, journal)
            change = journal.find_open_change()
            if change is not None and not can_be_superseded(journal, change):
                require_no_open_change(journal)
            require_consistent_site(self._site, journal, change)
            way = self._plan_rollback(journal, accept_loss)
            if expected_upgrade not in (None, way.undoes):
                raise UpdaterError(ROLLBACK_PLAN_CHANGED, version=way.target, current=way.origin)
            agreed = NO_FACTS if agree is None else agree(journal, way)
            outcome = self._run_rollback(
                journal, way, closes=change.id if change else None, agreed=agreed
            )
            return OperationResult((outcome,))

    def resume(
        self, *, by_operator: bool, at_boot: bool = False, last_running_boot: str | None = None
    ) -> OperationResult:
        """Bring the site to one whole version after whatever happened.

        At the start of the machine nothing is asked of the databases where no change is open: the
        application is not kept off for a server that is late. Where one is open, the server is
        waited for, as by every resume that no person typed.

        Args:
            by_operator: Whether a person ordered it; they may try as often as they wish.
            at_boot: Whether the system starts the application after us: then we neither start it
                nor watch it.
            last_running_boot: In which start of the machine the service saw the application run
                last.

        Raises:
            InterventionRequiredError: If the facts contradict each other or recovery failed too
                often.
            REVERT_FAILED: If the revert failed once more.
        """
        from ncen_updater.agent.engine.rehearsal.rehearser import remove_interrupted_rehearsals

        with self._lock_and_open_journal("resume") as journal:
            change = journal.find_open_change()
            if at_boot and change is None:
                return OperationResult(decision=decide_recovery(ObservedState(None)))
            if change is not None and not by_operator:
                there = functools.partial(self._site.database_engine.require_live, opened=False)
                self._make_runner(journal).when_there(there)
            lift_ended_fences(self._site, journal)
            decision = decide_recovery(observe_site(self._site, change, by_operator=by_operator))
            if decision.action is RecoveryAction.NOTHING:
                require_consistent_site(self._site, journal, None)
                remove_interrupted_rehearsals(self._site, journal)
                try:
                    # First: a release that is to be taken back may be one that does not start.
                    found = self._run_pending_rollback(
                        journal, decision, by_operator=by_operator, at_boot=at_boot
                    )
                except InterventionRequiredError:
                    self._start_if_expected(journal, last_running_boot)
                    raise
                started = self._start_if_expected(journal, last_running_boot)
                return dataclasses.replace(found, application_started=started)
            if decision.action is RecoveryAction.STOP or change is None:
                raise self._mark_stuck(journal, change, decision)
            self._make_runner(journal).record_recovery(change.id)
            if decision.action is RecoveryAction.FINISH and not change.is_open_after_commit:
                journal.commit_change(change.id)  # the databases remember it, the journal did not
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
        """Start the application where it ought to run and nobody comes to start it."""
        application = self._site.application
        verdict = decide_restart(
            application.observe_state(), last_running_boot, self._site.clock.boot_id()
        )
        current = self._site.slots.read_current()
        if verdict is not RestartDecision.START or current is None:
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
        """Start what ought to run for its soak, which judges a release that does not start.

        Before users are let in that is for the steps to do.
        """
        if change.get_step_state(StepName.MAINTENANCE_OFF) is not StepState.DONE:
            return
        try:
            self._start_if_expected(journal, last_running_boot)
        except (ApplicationUnhealthyError, ApplicationError) as error:
            logger.warning("the application is not well, and is watched all the same: %s", error)

    def confirm(self, actor: str) -> Change:
        """End the soak of the release in use; the process that watches sees it, or a resume does.

        Raises:
            NOTHING_TO_CONFIRM: If no change is committed and open.
        """
        with Journal.open(self._site.state_directory / JOURNAL_FILE) as journal:
            return soaking.confirm_release(journal, actor)

    @contextlib.contextmanager
    def read_journal(self) -> Iterator[Journal]:
        """Open the journal to look into it."""
        with Journal.open(self._site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            yield journal

    @contextlib.contextmanager
    def lock_site(self, what: str) -> Iterator[Journal]:
        """Hold the lock, whatever is open, for what looks itself at how the site stands.

        Raises:
            SiteBusyError: If somebody else holds it.
        """
        with self._lock_and_open_journal(what) as journal:
            yield journal

    @contextlib.contextmanager
    def lock_idle_site(self, what: str) -> Iterator[Journal]:
        """Hold the lock while nothing is open, for work that is no change of the site.

        Raises:
            SiteBusyError, OPEN_CHANGE, InterventionRequiredError: If that is not so.
        """
        with self._lock_and_open_journal(what) as journal:
            lift_ended_fences(self._site, journal)
            require_idle_site(self._site, journal)
            yield journal

    def find_cached_path(
        self, journal: Journal, target: Version | None = None, *, retry: bool = False
    ) -> UpgradePath | NoUpgradePath:
        """Choose a path from the last verified list, without the network.

        Raises:
            FEED_NEVER_READ: If there is none yet; that says nothing of what is on offer.
        """
        view = self._site.release_source.load_last_view()
        if view is None:
            raise UpdaterError(FEED_NEVER_READ)
        return choose_upgrade_path(self._site, view.offers, journal, target, retry=retry)

    # ---- parts ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lock_and_open_journal(self, what: str) -> Iterator[Journal]:
        with (
            hold_change_lock(self._site.state_directory / CHANGE_LOCK_FILE, what),
            hold_application_lock(self._site.config.application.maintenance_file, what),
            Journal.open(
                self._site.state_directory / JOURNAL_FILE, now=self._site.clock.now
            ) as journal,
        ):
            record_elapsed_time(journal, self._site.clock)
            yield journal

    def _make_runner(self, journal: Journal, *, at_boot: bool = False) -> ChangeRunner:
        return ChangeRunner(
            self._site,
            journal,
            self._progress,
            interruption=self._interruption,
            checkpoint=self._checkpoint,
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
        way = plan_rollback(self._site, journal, require_current_version(self._site))
        if way is None:
            raise UpdaterError(NOTHING_TO_ROLL_BACK)
        enough = accept_loss is not None and accept_loss >= way.lost_total
        if way.loses_values and not enough:
            raise UpdaterError(
                NEW_ROWS_WOULD_BE_LOST,
                way=way.summary,
                current=way.origin,
                count=way.lost_total,
                objects=way.full_loss_text,
                days=way.retention_days_text,
                lost=way.lost,
            )
        if way.mode is DatabaseMode.RESTORE and not enough:
            raise UpdaterError(
                RECORDS_WOULD_BE_LOST,
                way=way.summary,
                version=way.target,
                current=way.origin,
                count=way.lost_total,
                tables=way.full_loss_text,
                reason=way.reason,
                lost=way.lost,
            )
        return dataclasses.replace(way, accepted_loss=accept_loss or 0)

    def _run_pending_rollback(
        self, journal: Journal, decision: RecoveryDecision, *, by_operator: bool, at_boot: bool
    ) -> OperationResult:
        """Go back from a release that turned bad, where the rollback for that was interrupted.

        Not while the machine starts: the application has to run, and the system starts it after us.
        """
        pending = find_pending_rollback(journal)
        if pending is None or at_boot or not (by_operator or pending.is_automatic):
            return OperationResult(decision=decision)
        way = plan_rollback(self._site, journal, require_current_version(self._site))
        if way is None or not way.is_lossless:
            words = N_(
                "release {version} failed in the soak period, and a rollback would lose records"
            )
            raise InterventionRequiredError(
                reason=LazyText(words, {"version": pending.change.to_version})
            )
        if find_pending_rollback(journal) is None:
            return OperationResult(decision=decision)  # confirmed while the rollback was looked for
        outcome = self._run_rollback(
            journal, way, closes=None, failed_soak_upgrade=pending.change.id
        )
        return OperationResult(
            (outcome,),
            decision=RecoveryDecision(RecoveryAction.REVERT, "pending", PENDING_ROLLBACK_REASON),
        )

    def _run_rollback(
        self,
        journal: Journal,
        plan: RollbackPlan,
        closes: str | None,
        failed_soak_upgrade: str | None = None,
        agreed: ChangeFacts = NO_FACTS,
    ) -> ChangeOutcome:
        if closes is not None:
            # What was to bring its migrations to their end may have been cut off in the middle.
            record_live_schemas(self._site, journal, journal.read_change(closes))
        change = self._new_change(
            ChangeKind.ROLLBACK, plan.origin, plan.target, plan.mode, plan.source
        )
        facts = dataclasses.replace(
            inherit_facts(journal, closes),
            accepted_loss=plan.accepted_loss,
            undone_upgrade=plan.undoes,
            code_only=plan.code_only or None,
            no_copy=plan.no_copy or None,
            failed_soak_upgrade=failed_soak_upgrade,
            binding=agreed.binding,
        )
        journal.begin_change(change, facts, superseded_change=closes)
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
        """Remember the release, and go back by itself only where that keeps every record."""
        if change.kind is not ChangeKind.UPGRADE:
            journal.store_facts(change.id, ChangeFacts(needs_operator=True))
            return
        SiteHistory(journal).mark_bad(change.product, change.to_version, error.code, change.id)
        way = plan_rollback(self._site, journal, require_current_version(self._site))
        keeps_all = way is not None and way.is_lossless
        if journal.read_facts(change.id).confirmed_by is not None:
            return  # while the rollback was looked for
        if self._site.config.soak.on_failure == "rollback" and way is not None and keeps_all:
            outcome = self._run_rollback(
                journal, way, closes=change.id, failed_soak_upgrade=change.id
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
    """Lift the fence of a change that is over.

    Raises:
        DatabaseError: If, with no change open, a live database is missing or refuses sessions.
    """
    over = {change.id: change for change in journal.list_changes() if not change.state.is_open}
    for change_id in over.keys() & site.database_engine.read_evidence(None).fenced_by:
        site.database_engine.unfence(make_change_ref(over[change_id]))
        journal.record_event("fence-lifted", change_id)
    if journal.find_open_change() is None:
        site.database_engine.require_live()


def require_idle_site(site: Site, journal: Journal) -> None:
    """Refuse where a change is open, or reality is not what the journal says.

    Raises:
        OPEN_CHANGE: If a change has not come to its end.
        InterventionRequiredError: If journal and site contradict each other.
    """
    require_no_open_change(journal)
    require_consistent_site(site, journal, None)


def require_consistent_site(site: Site, journal: Journal, change: Change | None) -> None:
    """Refuse where reality is not what the journal says: nothing open, or one committed.

    A word of the databases that was lost and that the others make up for is written again.

    Raises:
        InterventionRequiredError: If so.
    """
    decision = decide_recovery(observe_site(site, change, by_operator=True))
    if decision.action is not (RecoveryAction.NOTHING if change is None else RecoveryAction.FINISH):
        raise InterventionRequiredError(reason=decision.reason)
    healed = site.database_engine.repair_marker()
    if healed:
        journal.record_event(
            "marker-repaired", change.id if change else None, databases=list(healed)
        )
    reason = find_contradiction(site, journal)
    if reason is not None:
        raise InterventionRequiredError(reason=reason)


def require_current_version(site: Site) -> Version:
    """Return the release in use.

    Raises:
        InterventionRequiredError: If none was ever chosen.
    """
    version = site.slots.read_current()
    if version is None:
        raise InterventionRequiredError(reason="no release is installed")
    return version


def choose_upgrade_path(
    site: Site,
    offers: tuple[Offer, ...],
    journal: Journal,
    target: Version | None,
    *,
    retry: bool,
) -> UpgradePath | NoUpgradePath:
    """Choose a path from the release in use.

    Args:
        site: Where.
        offers: What is on the signed list.
        journal: Remembers bad releases.
        target: The release that a person named; the newest by default.
        retry: Whether releases that failed here may be tried again.
    """
    settings = site.config.site
    bad = [Version(row.version) for row in SiteHistory(journal).list_bad_releases()]
    return choose_path(
        require_current_version(site),
        offers,
        site=settings.id,
        country=settings.country,
        channel=settings.channel,
        agent=site.agent_version,
        now=site.release_source.get_reference_time(),
        bad=bad,
        allow_bad=retry,
        target=target,
    )
