"""Decide the service's next automatic action, with its reason. Pure: facts in, one action out.

The rules, in the order of the code below:

0. Nothing starts while another process works on the site.
1. A stuck change waits for an operator and their jobs; nothing else starts.
2. An open change is completed at once, at any hour, because only that lets users work again. In a
   soak period, a requested rollback comes first. If no change is open, an application that stopped
   unexpectedly is started.
3. A new agent that has not confirmed itself starts nothing else. A confirmed one completes a
   pending rollback of a failed release at once; while its retry is delayed, the other rules apply.
4. A queued job comes before automatic actions.
5. The feed is checked when a check is due, even while upgrades are on hold.
6. Items past their retention are pruned, which also frees space. Then the agent updates itself,
   before it changes the application.
7. A hold, the mode ``notify``, and a recent failure of the release at this site end the list.
8. A release is downloaded and rehearsed in advance, in the download windows.
9. After approval, at the scheduled time and in a maintenance window, it is installed. A release
   that an operator rolled back always needs a new approval. Downtime never starts at a time that
   no operator configured or scheduled: without windows the upgrade waits for a scheduled time, or
   for the command ``upgrade``.

Failed automatic actions are retried after growing delays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum

from ncen_updater.agent.policy.operation_labels import label_operation
from ncen_updater.agent.policy.windows import WeeklyWindow, find_next_opening
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.json_records import JsonRecord

#: Delays before the second, third... attempt of a failed action; the last one repeats.
RETRY_DELAYS = (
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
)
#: The same for resuming a change: there may be downtime meanwhile, and a database server that
#: starts slowly after a power cut must not prolong it for hours.
RESUME_DELAYS = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=20),
    timedelta(hours=1),
)
#: The same for starting the application: the cause may end at any minute.
START_DELAYS = (timedelta(seconds=15), timedelta(minutes=1), timedelta(minutes=5))
#: Delays before automatic retries of a release that failed at this site; the last one repeats.
BAD_RELEASE_DELAYS = (
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=7),
)
#: How often the service checks whether the application runs, if it can know that it should.
APPLICATION_CHECK_INTERVAL = timedelta(minutes=5)
#: Maximum sleep of the service, even if nothing is scheduled.
MAX_SLEEP = timedelta(hours=24)
#: Interval of checks whether another process still works on the site.
BUSY_POLL_INTERVAL = timedelta(seconds=15)
JOB_WAITING_TEXT = N_("starting the queued job")


class AutomationMode(StrEnum):
    """Mode of the service: what it may do automatically."""

    NOTIFY = "notify"
    APPROVE = "approve"
    AUTOMATIC = "automatic"


class ServiceAction(StrEnum):
    """Possible next actions."""

    WAIT = "wait"
    RESUME = "resume"
    START_APPLICATION = "start"
    RUN_JOB = "job"
    CHECK_FEED = "check"
    SELF_UPDATE = "self-update"
    PREPARE = "prepare"
    REHEARSE = "rehearse"
    UPGRADE = "upgrade"
    PRUNE = "prune"
    ASSESS = "assess"
    SEND_RECEIPT = "receipt"


class RehearsalStatus(StrEnum):
    """Status of the rehearsal of the offered release."""

    MISSING = "missing"
    PASSED = "passed"
    FAILED = "failed"
    OUTDATED = "outdated"
    NOT_REQUIRED = "not-required"


@dataclass(frozen=True)
class ActionFailure(JsonRecord):
    """Consecutive failures of an automatic action; ``code`` is that of the last error."""

    at: datetime
    failures: int
    code: str = ""

    def compute_retry_at(self, action: ServiceAction) -> datetime:
        """Return when the action may be retried automatically."""
        delays = SHORTER_DELAYS.get(action, RETRY_DELAYS)
        return self.at + delays[min(max(self.failures, 1), len(delays)) - 1]

    def is_backing_off(self, now: datetime, action: ServiceAction) -> bool:
        """Return whether it is too early for a retry.

        A failure time in the future means that the clock was set back since; it causes no delay.
        """
        return self.at <= now < self.compute_retry_at(action)


#: Delays of actions that are retried sooner; assessing the next upgrade costs little.
SHORTER_DELAYS = {
    ServiceAction.RESUME: RESUME_DELAYS,
    ServiceAction.START_APPLICATION: START_DELAYS,
    ServiceAction.ASSESS: START_DELAYS,
}


@dataclass(frozen=True)
class AutomationInputs:
    """All inputs of the decision.

    Attributes:
        now: The time, UTC.
        mode: Mode of the service.
        zone: Time zone of the windows.
        upgrade_windows: Maintenance windows in which the downtime may start; without any, upgrades
            start only at a scheduled time.
        download_windows: Windows for downloads and rehearsals; without any, at any time.
        next_check: When the next feed check is due.
        open_change: Whether a change is open.
        stuck: Whether the open change waits for an operator.
        busy: Whether another process works on the site now, such as an operator's command.
        application_down: Whether the application is stopped although it should run; None if that
            is unknown or was not checked.
        agent_unconfirmed: Whether this agent is new and has not confirmed itself.
        job_waiting: Whether a job is queued.
        rollback_requested: Whether a queued job rolls back the release in its soak period.
        hold_reason: Reason of a hold in force.
        hold_until: When the holds in force end; None if one of them has no end.
        rollback_pending: Whether a failed release still has to be rolled back.
        was_rolled_back: Whether an operator rolled back a release on the path to the target.
        agent_offered: Version of a newer offered agent that is not marked bad.
        target: The next release.
        retry_at: Earliest automatic retry of the target, if it failed at this site.
        slot_built: Whether its slot exists.
        rehearsal_status: Status of its rehearsal.
        missing_approvals: Number of missing approvals.
        not_before: The scheduled time.
        prune_at: When the next item passes its retention.
        failures: The last failure of each action whose last attempt failed.
    """

    now: datetime
    mode: AutomationMode
    zone: tzinfo
    next_check: datetime
    upgrade_windows: tuple[WeeklyWindow, ...] = ()
    download_windows: tuple[WeeklyWindow, ...] = ()
    open_change: bool = False
    stuck: bool = False
    busy: bool = False
    application_down: bool | None = None
    agent_unconfirmed: bool = False
    job_waiting: bool = False
    rollback_requested: bool = False
    hold_reason: str | None = None
    hold_until: datetime | None = None
    rollback_pending: bool = False
    was_rolled_back: bool = False
    agent_offered: str | None = None
    target: str | None = None
    retry_at: datetime | None = None
    slot_built: bool = False
    rehearsal_status: RehearsalStatus = RehearsalStatus.MISSING
    missing_approvals: int = 0
    not_before: datetime | None = None
    prune_at: datetime | None = None
    failures: Mapping[ServiceAction, ActionFailure] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceDecision:
    """The next action.

    Attributes:
        action: The action.
        reason: The reason, for display.
        until: For a wait, when to decide again at the latest; for an upgrade, the end of the
            window in which the downtime must start.
    """

    action: ServiceAction
    reason: LazyText
    until: datetime | None = None


def decide_next_action(inputs: AutomationInputs) -> ServiceDecision:
    """Return the service's next action."""
    if inputs.busy:
        return ServiceDecision(
            ServiceAction.WAIT,
            LazyText(N_("another operation is in progress")),
            inputs.now + BUSY_POLL_INTERVAL,
        )
    if inputs.stuck:
        if inputs.job_waiting:
            return ServiceDecision(ServiceAction.RUN_JOB, LazyText(JOB_WAITING_TEXT))
        return _make_wait(inputs, None, LazyText(N_("manual intervention required")))
    if inputs.open_change and inputs.rollback_requested:
        text = N_("rollback requested: soak period ended")
        return ServiceDecision(ServiceAction.RUN_JOB, LazyText(text))
    if inputs.open_change:
        return _act_or_back_off(inputs, ServiceAction.RESUME, N_("a change is not finished"))
    if inputs.application_down:
        text = N_("the application stopped unexpectedly")
        return _prefer(
            inputs,
            _act_or_back_off(inputs, ServiceAction.START_APPLICATION, text),
            _decide_without_change,
        )
    return _decide_without_change(inputs)


def _prefer(
    inputs: AutomationInputs,
    preferred: ServiceDecision,
    others: Callable[[AutomationInputs], ServiceDecision],
) -> ServiceDecision:
    """Return an action; while it has to wait, the action of the following rules."""
    if preferred.action is not ServiceAction.WAIT:
        return preferred
    other = others(inputs)
    if other.action is ServiceAction.WAIT and preferred.until and other.until:
        return replace(other, until=min(preferred.until, other.until))
    return other


def _decide_without_change(inputs: AutomationInputs) -> ServiceDecision:
    """Apply rules 3 to 9."""
    if inputs.agent_unconfirmed:
        text = N_("new version of ncen-updater: waiting for its confirmation")
        return ServiceDecision(ServiceAction.WAIT, LazyText(text), inputs.now + MAX_SLEEP)
    if inputs.rollback_pending:
        decision = _act_or_back_off(
            inputs, ServiceAction.RESUME, N_("rollback of a failed release is pending")
        )
        return _prefer(inputs, decision, _decide_idle)
    return _decide_idle(inputs)


def _decide_idle(inputs: AutomationInputs) -> ServiceDecision:
    """Apply rules 4 to 9."""
    if inputs.job_waiting:
        return ServiceDecision(ServiceAction.RUN_JOB, LazyText(JOB_WAITING_TEXT))
    if inputs.now >= inputs.next_check:
        return ServiceDecision(ServiceAction.CHECK_FEED, LazyText(N_("feed check due")))
    prune_at = _compute_prune_at(inputs)
    if prune_at is not None and inputs.now >= prune_at:
        return ServiceDecision(ServiceAction.PRUNE, LazyText(N_("pruning due")))
    if inputs.agent_offered is not None:
        decision = _act_in_window(
            inputs,
            ServiceAction.SELF_UPDATE,
            N_("ncen-updater {version} is available"),
            inputs.agent_offered,
        )
        return _prefer(inputs, decision, _decide_release)
    return _decide_release(inputs)


class WaitReason(StrEnum):
    """Reasons for which the start time of an upgrade is not known."""

    HOLD = "hold"
    NOTHING_ON_OFFER = "nothing-on-offer"
    NOTIFY_ONLY = "notify-only"
    NOT_PREPARED = "not-prepared"
    NOT_REHEARSED = "not-rehearsed"
    REHEARSAL_FAILED = "rehearsal-failed"
    APPROVAL = "approval"
    NOT_SCHEDULED = "not-scheduled"
    NO_WINDOW = "no-window"
    SERVICE_NOT_RUNNING = "service-not-running"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"  # the next upgrade could not be determined


@dataclass(frozen=True)
class UpgradeObstacle:
    """The first obstacle to an upgrade.

    Attributes:
        text: Description for display.
        until: When it ends, or is checked again, without any action.
        wait_reason: The reason, unless the upgrade can start at ``until``.
    """

    text: LazyText
    until: datetime | None = None
    wait_reason: WaitReason | None = None


def _make_permanent_obstacle(
    wait_reason: WaitReason, template: str, **values: object
) -> UpgradeObstacle:
    return UpgradeObstacle(LazyText(template, values), None, wait_reason)


def _make_temporary_obstacle(until: datetime, template: str, **values: object) -> UpgradeObstacle:
    return UpgradeObstacle(LazyText(template, values), until)


def find_obstacle(inputs: AutomationInputs) -> UpgradeObstacle | None:
    """Return the first obstacle to upgrading to the offered release now: rules 7 to 9. Pure.

    The obstacles are checked in order, and the first one is returned. Actions that the service
    takes first on its own, such as a feed check, are not obstacles.
    """
    if inputs.hold_reason is not None:
        template = N_("upgrades on hold: {reason}")
        if inputs.hold_until is not None:
            return _make_temporary_obstacle(inputs.hold_until, template, reason=inputs.hold_reason)
        return _make_permanent_obstacle(WaitReason.HOLD, template, reason=inputs.hold_reason)
    failure = inputs.failures.get(ServiceAction.ASSESS)
    if failure is not None:
        # The retry time may pass between the assessment and this decision.
        soonest = inputs.now + timedelta(seconds=1)
        checked_at = max(failure.compute_retry_at(ServiceAction.ASSESS), soonest)
        template = N_("next upgrade could not be determined; retry at {at}")
        text = LazyText(template, {"at": _format_local(inputs, checked_at)})
        return UpgradeObstacle(text, checked_at, WaitReason.UNKNOWN)
    target = inputs.target
    if target is None:
        return _make_permanent_obstacle(
            WaitReason.NOTHING_ON_OFFER, N_("no release available for this site")
        )
    if inputs.mode is AutomationMode.NOTIFY:
        template = N_("{version} is available; the mode of this site is notify")
        return _make_permanent_obstacle(WaitReason.NOTIFY_ONLY, template, version=target)
    retry_at = inputs.retry_at
    # A later time means that the clock was set back since the failure; it causes no delay.
    if retry_at is not None and inputs.now < retry_at <= inputs.now + BAD_RELEASE_DELAYS[-1]:
        template = N_("{version} failed on this site; next retry at {at}")
        return _make_temporary_obstacle(
            retry_at, template, version=target, at=_format_local(inputs, retry_at)
        )
    if not inputs.slot_built:
        return _make_permanent_obstacle(
            WaitReason.NOT_PREPARED, N_("{version} is not downloaded"), version=target
        )
    if inputs.rehearsal_status in (RehearsalStatus.MISSING, RehearsalStatus.OUTDATED):
        template = N_("{version} is not rehearsed")
        return _make_permanent_obstacle(WaitReason.NOT_REHEARSED, template, version=target)
    if inputs.rehearsal_status is RehearsalStatus.FAILED:
        template = N_("rehearsal of {version} failed; run: ncen-updater history")
        return _make_permanent_obstacle(WaitReason.REHEARSAL_FAILED, template, version=target)
    return (
        _find_approval_obstacle(inputs, target)
        or _find_time_obstacle(inputs, target)
        or _find_backoff(inputs, ServiceAction.UPGRADE)
    )


def _find_approval_obstacle(inputs: AutomationInputs, target: str) -> UpgradeObstacle | None:
    required = inputs.was_rolled_back or inputs.mode is AutomationMode.APPROVE
    if not (required and inputs.missing_approvals):
        return None
    template = N_("next upgrade: {version}, waiting for approval: {count} missing")
    return _make_permanent_obstacle(
        WaitReason.APPROVAL, template, version=target, count=inputs.missing_approvals
    )


def _find_time_obstacle(inputs: AutomationInputs, target: str) -> UpgradeObstacle | None:
    if inputs.not_before is not None and inputs.now < inputs.not_before:
        values = {"version": target, "at": _format_local(inputs, inputs.not_before)}
        later = (
            find_next_opening(inputs.upgrade_windows, inputs.not_before, inputs.zone)
            if inputs.upgrade_windows
            else None
        )
        if later is not None and not later.contains(inputs.not_before):
            template = N_(
                "upgrade to {version} scheduled for {at}, outside the maintenance windows;"
                " next window: {window}"
            )
            values["window"] = _format_local(inputs, later.start)
            return _make_temporary_obstacle(inputs.not_before, template, **values)
        template = N_("upgrade to {version} scheduled for {at}")
        return _make_temporary_obstacle(inputs.not_before, template, **values)
    if not inputs.upgrade_windows:
        if inputs.not_before is not None:
            return None
        template = N_("{version} is ready; run ncen-updater upgrade or ncen-updater schedule TIME")
        return _make_permanent_obstacle(WaitReason.NOT_SCHEDULED, template, version=target)
    opening = find_next_opening(inputs.upgrade_windows, inputs.now, inputs.zone)
    if opening is None:
        return _make_permanent_obstacle(WaitReason.NO_WINDOW, N_("no maintenance window opens"))
    if opening.contains(inputs.now):
        return None
    template = N_("next upgrade: {version}, starts at {at}")
    return _make_temporary_obstacle(
        opening.start, template, version=target, at=_format_local(inputs, opening.start)
    )


def _find_backoff(inputs: AutomationInputs, action: ServiceAction) -> UpgradeObstacle | None:
    failure = inputs.failures.get(action)
    if failure is None or not failure.is_backing_off(inputs.now, action):
        return None
    retry_at = failure.compute_retry_at(action)
    template = N_("failed: {what}; retry at {at}")
    return _make_temporary_obstacle(
        retry_at, template, what=label_operation(action), at=_format_local(inputs, retry_at)
    )


#: Actions of the service that remove an obstacle.
_REMEDIES: Mapping[WaitReason | None, ServiceAction] = {
    WaitReason.NOT_PREPARED: ServiceAction.PREPARE,
    WaitReason.NOT_REHEARSED: ServiceAction.REHEARSE,
}


def _decide_release(inputs: AutomationInputs) -> ServiceDecision:
    """Apply rules 7 to 9."""
    obstacle = find_obstacle(inputs)
    if obstacle is not None:
        action = _REMEDIES.get(obstacle.wait_reason)
        if action is not None and inputs.target is not None:
            return _act_in_window(inputs, action, obstacle.text.template, inputs.target)
        return _make_wait(inputs, obstacle.until, obstacle.text)
    opening = (
        find_next_opening(inputs.upgrade_windows, inputs.now, inputs.zone)
        if inputs.upgrade_windows
        else None
    )
    text = LazyText(N_("{version} is ready"), {"version": inputs.target})
    return ServiceDecision(ServiceAction.UPGRADE, text, opening.end if opening else None)


def _act_in_window(
    inputs: AutomationInputs, action: ServiceAction, template: str, version: str
) -> ServiceDecision:
    if inputs.download_windows:
        opening = find_next_opening(inputs.download_windows, inputs.now, inputs.zone)
        if opening is None or not opening.contains(inputs.now):
            waiting = N_("{version} waits for a download window")
            until = opening.start if opening else None
            return _make_wait(inputs, until, LazyText(waiting, {"version": version}))
    return _act_or_back_off(inputs, action, template, version=version)


def _act_or_back_off(
    inputs: AutomationInputs, action: ServiceAction, template: str, **values: object
) -> ServiceDecision:
    backoff = _find_backoff(inputs, action)
    return (
        _make_wait(inputs, backoff.until, backoff.text)
        if backoff
        else ServiceDecision(action, LazyText(template, values))
    )


def _compute_prune_at(inputs: AutomationInputs) -> datetime | None:
    """Return when to prune; a failed pruning does not delay other actions."""
    failure = inputs.failures.get(ServiceAction.PRUNE)
    if (
        inputs.prune_at is None
        or failure is None
        or not failure.is_backing_off(inputs.now, ServiceAction.PRUNE)
    ):
        return inputs.prune_at
    return max(inputs.prune_at, failure.compute_retry_at(ServiceAction.PRUNE))


def _format_local(inputs: AutomationInputs, moment: datetime) -> LocalizedFigure:
    """Format a time in the site's time zone."""
    return format_scheduled_time(moment, inputs.zone)


def _make_wait(
    inputs: AutomationInputs, until: datetime | None, reason: LazyText
) -> ServiceDecision:
    """Wait until a time, but at most until the next feed check, and never very long."""
    ends = [inputs.now + MAX_SLEEP]
    if not (inputs.stuck or inputs.open_change):
        ends.append(inputs.next_check)
        prune_at = _compute_prune_at(inputs)
        if prune_at is not None:
            ends.append(prune_at)
    if until is not None:
        ends.append(until)
    if inputs.application_down is not None:
        ends.append(inputs.now + APPLICATION_CHECK_INTERVAL)
    return ServiceDecision(ServiceAction.WAIT, reason, min(ends))


def compute_retry_at(times: int, last_at: datetime) -> datetime:
    """Return when a release that failed may be retried automatically.

    Args:
        times: How often the release failed, from 1.
        last_at: When it failed last.
    """
    return last_at + BAD_RELEASE_DELAYS[min(times, len(BAD_RELEASE_DELAYS)) - 1]
