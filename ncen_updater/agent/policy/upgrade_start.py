"""Predict when the next upgrade starts automatically, for approve, schedule and status. Pure.

The service's own decision (:func:`.automation.find_obstacle`) is evaluated at each time at which an
obstacle ends, so that no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from ncen_updater.agent.policy.automation import AutomationInputs, WaitReason, find_obstacle
from ncen_updater.common.json_records import JsonRecord

#: What only an operator or the service can start; without the service only an operator.
SERVICE_REASONS = (WaitReason.NOT_SCHEDULED, WaitReason.NO_WINDOW)
#: Maximum number of obstacles followed, one after the other; beyond it the start is unknown.
MAX_OBSTACLES = 12


class StartKind(StrEnum):
    """Whether an upgrade starts now, at a known time, or neither."""

    NOW = "now"
    AT = "at"
    NOT_AUTOMATIC = "not-automatic"


@dataclass(frozen=True)
class UpgradeStart(JsonRecord):
    """Automatic start of an upgrade.

    Attributes:
        kind: Now, at a time, or not automatically.
        at: The time.
        wait_reason: What it waits for, if its start time is not known.
        missing_approvals: Number of missing approvals.
    """

    kind: StartKind
    at: datetime | None = None
    wait_reason: WaitReason | None = None
    missing_approvals: int = 0


def predict_start(inputs: AutomationInputs, *, service_running: bool = True) -> UpgradeStart:
    """Return when the service starts the upgrade if no operator acts. Pure.

    Args:
        inputs: Inputs of the service's decision.
        service_running: Whether the service runs; otherwise nothing starts automatically.
    """
    start = _follow_obstacles(inputs)
    is_blocked = start.kind is StartKind.NOT_AUTOMATIC and start.wait_reason not in SERVICE_REASONS
    if service_running or is_blocked:
        return start
    return UpgradeStart(StartKind.NOT_AUTOMATIC, None, WaitReason.SERVICE_NOT_RUNNING)


def _follow_obstacles(inputs: AutomationInputs) -> UpgradeStart:
    now = at = inputs.now
    for _ in range(MAX_OBSTACLES):
        obstacle = find_obstacle(inputs)
        if obstacle is None:
            return UpgradeStart(StartKind.NOW if at == now else StartKind.AT, at)
        if obstacle.wait_reason is not None or obstacle.until is None:
            return UpgradeStart(
                StartKind.NOT_AUTOMATIC, None, obstacle.wait_reason, inputs.missing_approvals
            )
        at = max(obstacle.until, at)
        # A hold is the first obstacle, so it has ended then.
        inputs = replace(inputs, now=at, hold_reason=None, hold_until=None)
    return UpgradeStart(StartKind.NOT_AUTOMATIC, None, WaitReason.UNKNOWN)


def mark_superseded(
    start: UpgradeStart, target: str | None, approved: Sequence[str]
) -> UpgradeStart:
    """Return when a release's upgrade starts if another approved one has precedence. Pure.

    Args:
        start: When it would start if it were the only one.
        target: The release.
        approved: Releases with enough approvals; the first has precedence.
    """
    if start.kind is StartKind.NOT_AUTOMATIC or not approved or approved[0] == target:
        return start
    return UpgradeStart(StartKind.NOT_AUTOMATIC, None, WaitReason.SUPERSEDED)


def predict_start_if_approved(
    facts: AutomationInputs, start: UpgradeStart, *, counts: bool, serves: bool = True
) -> UpgradeStart:
    """Return when the upgrade starts once this approver has approved. Pure.

    Args:
        facts: Inputs of the service's decision.
        start: When it starts without this approval.
        counts: Whether the approval is counted; a second one by the same person is not.
        serves: Whether the service runs.
    """
    if not counts:
        return start
    missing = max(0, facts.missing_approvals - 1)
    return predict_start(replace(facts, missing_approvals=missing), service_running=serves)
