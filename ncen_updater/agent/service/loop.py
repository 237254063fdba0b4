"""The service loop: read the status, decide, perform one action, repeat.

All state can be read again from disk, so that the service may be killed at any time. The loop
itself only starts worker processes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.policy.automation import (
    ActionFailure,
    AutomationInputs,
    ServiceAction,
    ServiceDecision,
    decide_next_action,
)
from ncen_updater.agent.policy.restart_policy import (
    ProcessState,
    should_start,
    update_last_running_boot,
)
from ncen_updater.agent.reports.status import SiteStatus, require_part
from ncen_updater.agent.service.apply_runner import ApplyRunner, WorkerResult
from ncen_updater.agent.service.assessment import build_decision_inputs
from ncen_updater.agent.service.errors import NOTHING_CHANGED
from ncen_updater.agent.service.snapshot import ServiceEvent
from ncen_updater.agent.storage.journal.jobs import Job, JobKind, JournalJobRecorder
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText, match_language
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.messages import JOB_EXPIRED, SOAK_ENDED_BY_ROLLBACK, ExitCode

logger = logging.getLogger(__name__)

#: Retry interval while the journal is unreadable, which needs manual intervention.
JOURNAL_RETRY_S = 600.0
#: Jobs that waited longer are not run: their requester no longer expects them to start, for example
#: on another day.
JOB_MAX_AGE = timedelta(hours=12)
#: Exit statuses with which an action is successful, if not only 0.
SUCCESS_EXIT_CODES: Mapping[ServiceAction, frozenset[int]] = {
    ServiceAction.PREPARE: frozenset({ExitCode.OK, ExitCode.BLOCKED}),
}


#: Parts of the status that the loop reads in each cycle.
STATUS_PARTS = frozenset({"lock_holder", "journal", "rehearsals"})
#: Returns the next check of the feed, from the current time and the failure of the last check.
CheckScheduler = Callable[[datetime, ActionFailure | None], datetime]


class ServiceLoop:
    """The service of one site.

    Args:
        settings: The table ``[service]``; replaced by :meth:`reload`.
        read_status: Reads the parts :data:`STATUS_PARTS` of the site.
        state_store: Stores the service's state.
        job_recorder: Records the start and end of jobs.
        runner: Runs commands.
        schedule_check: Schedules the checks of the feed.
        now: The wall clock.
        publish: Receives the service's events.
        is_on_trial: Returns whether this agent is on trial.
        probe_running: Returns whether the application is running; None if unknown.
        get_boot_id: Returns the boot ID of the machine.
        find_due_receipt: Returns when a receipt is due; None without one.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        read_status: Callable[[], SiteStatus],
        state_store: ServiceStateFile,
        job_recorder: JournalJobRecorder,
        runner: ApplyRunner,
        schedule_check: CheckScheduler,
        now: Callable[[], datetime],
        publish: Callable[[ServiceEvent], None],
        is_on_trial: Callable[[], bool] = lambda: False,
        probe_running: Callable[[], ProcessState | None] = lambda: None,
        get_boot_id: Callable[[], str] = lambda: "",
        find_due_receipt: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._find_due_receipt = find_due_receipt
        self._probe_running, self._get_boot_id = probe_running, get_boot_id
        self._settings, self._is_on_trial = settings, is_on_trial
        self._read, self._state_file, self._recorder = read_status, state_store, job_recorder
        self._runner, self._schedule_check, self._now, self._publish = (
            runner,
            schedule_check,
            now,
            publish,
        )
        self._service_state = state_store.load()
        self._last_announced: str | None = None

    def reload(self, settings: ServiceSettings) -> None:
        """Continue with other settings."""
        self._settings = settings
        self._save_state(_mark_assessment_outdated(self._service_state))

    @property
    def state(self) -> ServiceState:
        """Return the current state."""
        return self._service_state

    def run_once(self) -> ServiceDecision:
        """Read the status, decide, and perform the action; for a wait, only return the decision."""
        try:
            status = self._read_status()
        except UpdaterError as error:
            return self._handle_unreadable_journal(error)
        if not (
            status.is_work_unfinished
            or require_part(status.lock_holder)
            or self._is_assessment_current(status)
        ):
            status = self._refresh_assessment()
        decision = self._send_receipt_meanwhile(
            status, decide_next_action(self._collect_inputs(status))
        )
        self._announce_decision(decision)
        self._publish(
            ServiceEvent("status-read", {"action": decision.action.value, "at": status.now})
        )
        journal = require_part(status.journal)
        job = journal.rollback_job or journal.waiting_job
        if decision.action is ServiceAction.RUN_JOB and job is not None:
            self._run_job(job)
        elif decision.action is not ServiceAction.WAIT:
            self._run_decision(decision)
        return decision

    def _send_receipt_meanwhile(
        self, status: SiteStatus, decision: ServiceDecision
    ) -> ServiceDecision:
        """Replace a wait by sending a receipt that is due, or shorten the wait until it is due."""
        if decision.action is not ServiceAction.WAIT or require_part(status.lock_holder):
            return decision
        due, now = self._find_due_receipt(), self._now()
        failure = self._service_state.failures.get(ServiceAction.SEND_RECEIPT)
        if due is not None and failure is not None and failure.at <= now:
            due = max(due, failure.compute_retry_at(ServiceAction.SEND_RECEIPT))
        if due is None or (decision.until is not None and decision.until <= due and due > now):
            return decision
        if due > now:
            return replace(decision, until=due)
        return ServiceDecision(ServiceAction.SEND_RECEIPT, LazyText(N_("a receipt is due")))

    # ---- reading -------------------------------------------------------------------------------

    def _read_status(self) -> SiteStatus:
        """Return the status, or raise its first error: no decision is made on partial data."""
        status = self._read()
        for error in status.errors:
            raise error
        return status

    def _handle_unreadable_journal(self, error: UpdaterError) -> ServiceDecision:
        until = self._now() + timedelta(seconds=JOURNAL_RETRY_S)
        decision = ServiceDecision(
            ServiceAction.WAIT, LazyText("{error}", {"error": error.title_text}), until
        )
        if self._last_announced != error.code:
            self._last_announced = error.code
            self._publish(ServiceEvent("intervention-required", {"code": error.code}))
        return decision

    def _is_assessment_current(self, status: SiteStatus) -> bool:
        assessment = self._service_state.assessment
        failure = self._service_state.failures.get(ServiceAction.ASSESS)
        if failure is not None and failure.is_backing_off(self._now(), ServiceAction.ASSESS):
            return True
        return (
            assessment is not None
            and assessment.last_event == require_part(status.journal).last_event
        )

    def _refresh_assessment(self) -> SiteStatus:
        """Run the assessment; if it fails, keep the last result for display."""
        before = self._service_state.assessment
        result = self._runner.assess()
        try:
            assessment = Assessment.from_json(result.document)
        except ValueError as error:
            logger.warning("assessment failed (exit code %s)", result.exit_code)
            logger.debug("answer: %s", error)
            code = result.error_code or ""
            self._save_state(
                self._service_state.with_failure(ServiceAction.ASSESS, self._now(), code)
            )
            return self._read_status()
        service_state = replace(self._service_state, assessment=assessment)
        # No assessment is made while a change is open: an earlier failure to resume is settled.
        for action in (ServiceAction.ASSESS, ServiceAction.RESUME):
            service_state = service_state.without_failures(action)
        if before is None or before.target != assessment.target:
            for action in (ServiceAction.PREPARE, ServiceAction.REHEARSE, ServiceAction.UPGRADE):
                # The failures belong to another release.
                service_state = service_state.without_failures(action) if before else service_state
        self._save_state(service_state)
        return self._read_status()

    def _collect_inputs(self, status: SiteStatus) -> AutomationInputs:
        return replace(
            build_decision_inputs(status, self._service_state, self._settings, self._now()),
            busy=require_part(status.lock_holder) is not None,
            application_down=None
            if status.is_work_unfinished or require_part(status.lock_holder)
            else self._is_application_down(),
            agent_unconfirmed=self._is_on_trial(),
        )

    def _is_application_down(self) -> bool | None:
        """Return whether the application is stopped although it should run; None if unknown."""
        process_state = self._probe_running()
        if process_state is None:
            return None
        boot = self._get_boot_id()
        last_running_boot = update_last_running_boot(
            process_state, self._service_state.last_running_boot, boot
        )
        if last_running_boot != self._service_state.last_running_boot:
            self._save_state(replace(self._service_state, last_running_boot=last_running_boot))
        return should_start(process_state, self._service_state.last_running_boot, boot)

    # ---- acting --------------------------------------------------------------------------------

    def _run_decision(self, decision: ServiceDecision) -> None:
        result = self._runner.run(build_command(decision, self._service_state.assessment))
        succeeded = result.exit_code in SUCCESS_EXIT_CODES.get(
            decision.action, frozenset({ExitCode.OK})
        )
        self._record_result(
            decision.action, result, done=succeeded or _was_preempted_by_rollback(result)
        )

    def _run_job(self, job: Job) -> None:
        self._recorder.take(job.id)
        if self._now() - job.requested_at > JOB_MAX_AGE:
            error = UpdaterError(JOB_EXPIRED, job=job.id, hours=JOB_MAX_AGE // timedelta(hours=1))
            language = match_language(str(job.data.get("language"))) or DEFAULT_LANGUAGE
            document = {"error": error_to_json(error, [NOTHING_CHANGED], language)}
            worker_result = WorkerResult(error.exit_code, document)
        else:
            worker_result = self._runner.run(build_job_command(job))
        result = {"exit_code": worker_result.exit_code, "document": dict(worker_result.document)}
        self._recorder.end(job.id, result)
        action = ServiceAction.CHECK_FEED if job.kind is JobKind.CHECK else ServiceAction.RUN_JOB
        succeeded = worker_result.exit_code == ExitCode.OK or _was_preempted_by_rollback(
            worker_result
        )
        self._record_result(action, worker_result, done=succeeded)

    def _record_result(self, action: ServiceAction, finished: WorkerResult, *, done: bool) -> None:
        now = self._now()
        before = self._service_state
        service_state = (
            before.without_failures(action)
            if done
            else before.with_failure(action, now, finished.error_code or "")
        )
        if action is ServiceAction.CHECK_FEED:
            service_state = replace(
                service_state,
                checked_at=now if done else service_state.checked_at,
                next_check=self._schedule_check(
                    now, service_state.failures.get(ServiceAction.CHECK_FEED)
                ),
            )
        self._last_announced = None  # announce the next decision even if it is the same as before
        # The command may have changed anything, so the assessment is outdated.
        self._save_state(_mark_assessment_outdated(service_state))
        values: dict[str, object] = {"action": action.value, "exit_code": finished.exit_code}
        if not done:
            values["code"] = finished.error_code
        self._publish(ServiceEvent("done" if done else "failed", values))

    def _save_state(self, service_state: ServiceState) -> None:
        self._service_state = service_state
        save_service_state(self._state_file, service_state)

    def _announce_decision(self, decision: ServiceDecision) -> None:
        """Log and publish the decision, once until it changes."""
        reason = decision.reason.render()
        if reason != self._last_announced:
            self._last_announced = reason
            logger.info("%s: %s", decision.action, reason, extra={"action": decision.action.value})
            self._publish(
                ServiceEvent("next", {"action": decision.action.value, "reason": decision.reason})
            )


def save_service_state(file: ServiceStateFile, service_state: ServiceState) -> None:
    """Store the service's state; without disk space the service continues with it in memory."""
    try:
        file.save(service_state)
    except OSError as error:
        logger.warning("the service state was not written: %s", error)


def _was_preempted_by_rollback(finished: WorkerResult) -> bool:
    """Return whether a command ended a soak period for a requested rollback: not a failure."""
    return finished.error_code == SOAK_ENDED_BY_ROLLBACK.code


def _mark_assessment_outdated(service_state: ServiceState) -> ServiceState:
    """Return the state with an assessment that is repeated before the next decision."""
    before = service_state.assessment
    return replace(service_state, assessment=replace(before, last_event=-1) if before else None)


#: Command of each action that runs one, with the options that it always has.
_ACTION_COMMANDS: Mapping[ServiceAction, tuple[str, ...]] = {
    ServiceAction.RESUME: ("resume", "--unattended"),
    ServiceAction.START_APPLICATION: ("resume", "--unattended"),
    ServiceAction.CHECK_FEED: ("check",),
    ServiceAction.PRUNE: ("prune",),
    ServiceAction.SEND_RECEIPT: ("receipt", "--scheduled"),
    ServiceAction.SELF_UPDATE: ("self-update",),
    ServiceAction.PREPARE: ("plan",),
    ServiceAction.REHEARSE: ("rehearse",),
    ServiceAction.UPGRADE: ("upgrade",),
}


def build_command(decision: ServiceDecision, assessment: Assessment | None) -> tuple[str, ...]:
    """Return the command of a decision. Pure."""
    action = decision.action
    words = _ACTION_COMMANDS[action]
    if action in (ServiceAction.PREPARE, ServiceAction.REHEARSE, ServiceAction.UPGRADE):
        words += _build_version_argument(assessment.target if assessment else None)
        # The decision is made only after the retry time.
        words += ("--retry",) if assessment and assessment.retry_at else ()
    if action is ServiceAction.UPGRADE:
        words += ("--yes", "--scheduled")
        words += ("--start-before", decision.until.isoformat()) if decision.until else ()
    return words


def build_job_command(job: Job) -> tuple[str, ...]:
    """Return the command of a job. Pure."""
    data = job.data
    version, loss, undoes = data.get("version"), data.get("accept_loss"), data.get("undoes")
    words: tuple[str, ...] = ("plan" if job.kind is JobKind.PREPARE else job.kind.value,)
    words += _build_version_argument(version if isinstance(version, str) else None)
    words += ("--retry",) if data.get("retry") is True else ()
    if job.kind in (JobKind.UPGRADE, JobKind.ROLLBACK):
        words += ("--yes",)
    # A job of an approver counts as approval; a job of another user needs separate approvals.
    if job.kind is JobKind.UPGRADE and data.get("by_approver") is not True:
        words += ("--scheduled",)
    # These commands read what they need, such as the requester, from the job itself.
    if job.kind in (JobKind.ROLLBACK, JobKind.IMPORT):
        words += ("--job", str(job.id))
    words += ("--accept-loss", str(loss)) if type(loss) is int else ()
    words += ("--undoes", undoes) if isinstance(undoes, str) else ()
    words += ("--dry-run",) if data.get("dry_run") is True else ()
    language = match_language(str(data.get("language")))
    return words + (("--lang", language) if language and language != DEFAULT_LANGUAGE else ())


def _build_version_argument(version: str | None) -> tuple[str, ...]:
    return (version,) if version is not None else ()
