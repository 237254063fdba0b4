"""Predict when the next upgrade starts automatically, for approve, schedule and status. Pure.

The service's own decision (:func:`.automation.find_obstacle`) is evaluated at each time at which an
obstacle ends, so that no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from enum import StrEnum

from ncen_updater.agent.policy.automation import AutomationInputs, WaitReason, find_obstacle
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import JsonRecord

#: What only an operator or the service can start; without the service only an operator.
SERVICE_REASONS = (WaitReason.NOT_SCHEDULED, WaitReason.NO_WINDOW)
#: Maximum number of obstacles followed, one after the other; there are five kinds with an end.
MAX_OBSTACLES = 12
WEEKDAY_NAMES = (
    N_("Monday"), N_("Tuesday"), N_("Wednesday"), N_("Thursday"), N_("Friday"), N_("Saturday"),
    N_("Sunday"),
)  # fmt: skip


class StartKind(StrEnum):
    """Whether an upgrade starts now, later or not automatically."""

    NOW = "now"
    AT = "at"
    NOT_AUTOMATIC = "not-automatic"


@dataclass(frozen=True)
class UpgradeStart(JsonRecord):
    """Automatic start of an upgrade.

    Attributes:
        kind: Now, at a time, or not automatically.
        at: The time.
        wait_reason: What it waits for, if it does not start automatically.
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
    found = _follow_obstacles(inputs)
    is_blocked = found.kind is StartKind.NOT_AUTOMATIC and found.wait_reason not in SERVICE_REASONS
    if service_running or is_blocked:
        return found
    return UpgradeStart(StartKind.NOT_AUTOMATIC, None, WaitReason.SERVICE_NOT_RUNNING)


def _follow_obstacles(facts: AutomationInputs) -> UpgradeStart:
    now = at = facts.now
    for _ in range(MAX_OBSTACLES):
        found = find_obstacle(facts)
        if found is None:
            return UpgradeStart(StartKind.NOW if at == now else StartKind.AT, at)
        if found.until is None:
            return UpgradeStart(
                StartKind.NOT_AUTOMATIC, None, found.wait_reason, facts.missing_approvals
            )
        at = max(found.until, at)
        facts = replace(facts, now=at)
        if facts.hold_until is not None and facts.hold_until <= at:
            facts = replace(facts, hold_reason=None, hold_until=None)
    return UpgradeStart(StartKind.NOT_AUTOMATIC, None, WaitReason.NO_WINDOW)


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


_WAIT_TEXTS = {
    WaitReason.HOLD: N_("The upgrade waits for the end of the hold."),
    WaitReason.NOTHING_ON_OFFER: N_("No release available for this site."),
    WaitReason.APPROVAL: N_("The upgrade waits for approval: {count} missing."),
    WaitReason.NOT_PREPARED: N_("The upgrade waits for the download."),
    WaitReason.NOT_REHEARSED: N_("The upgrade waits for the rehearsal."),
    WaitReason.REHEARSAL_FAILED: N_(
        "The upgrade does not start automatically: the rehearsal failed."
    ),
    WaitReason.NO_WINDOW: N_(
        "The upgrade does not start automatically: no maintenance window opens."
    ),
    WaitReason.NOTIFY_ONLY: N_("The upgrade does not start automatically. An operator starts it."),
    WaitReason.SUPERSEDED: N_("The upgrade waits for another approved upgrade."),
    WaitReason.SERVICE_NOT_RUNNING: N_(
        "The upgrade does not start automatically: the service is stopped."
        " Run: ncen-updater upgrade"
    ),
}
_MANUAL_START_TEXT = N_(
    "The upgrade does not start automatically. Run ncen-updater upgrade or ncen-updater"
    " schedule TIME."
)


def describe_start(start: UpgradeStart, zone: tzinfo | None) -> LazyText:
    """Describe the start in one sentence.

    Args:
        start: When it starts.
        zone: Time zone of the site; that of the machine by default.
    """
    if start.kind is StartKind.NOW:
        return LazyText(N_("The upgrade starts immediately."))
    if start.at is not None:
        local = start.at.astimezone(zone)
        values = {
            "day": LazyText(WEEKDAY_NAMES[local.weekday()]),
            "at": format_scheduled_time(start.at, zone),
        }
        return LazyText(N_("The upgrade starts on {day} {at}."), values)
    words = (
        _WAIT_TEXTS.get(start.wait_reason, _MANUAL_START_TEXT)
        if start.wait_reason
        else _MANUAL_START_TEXT
    )
    return LazyText(words, {"count": start.missing_approvals})
