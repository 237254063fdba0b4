"""Next upgrade and its approvals as one document, for commands and the local interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.engine.rehearsal.downtime_forecasts import sum_predicted_range
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalRecord, serialize_rehearsal
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    NOT_REHEARSED,
    OPEN_CHANGE,
    REHEARSAL_OUTDATED,
    SOAK_NOT_FINISHED,
)

if TYPE_CHECKING:
    from ncen_updater.agent.engine.approvals.approval import ApprovalCount
    from ncen_updater.agent.engine.approvals.approval_store import ScheduleRecord
    from ncen_updater.agent.policy.automation import RehearsalStatus


def build_next_upgrade(
    *,
    current: str | None,
    target: str | None,
    rehearsal_status: RehearsalStatus | None,
    plan: str,
    binding: str,
    retry_at: datetime | None,
    voids: Sequence[LazyText | str],
    approvals: ApprovalCount,
    schedule: ScheduleRecord | None,
    rehearsal: RehearsalRecord | None,
    starts_at: Mapping[str, object],
    starts_at_if_approved: Mapping[str, object],
    newest: str | None,
    approved: Sequence[str],
    unavailable: Sequence[str],
    consumed: Sequence[str],
    open_change: Mapping[str, object] | None,
) -> dict[str, object]:
    """Return what comes next, and what it waits for; pure.

    Args:
        current: The release in use.
        target: The release that comes next.
        rehearsal_status: What is known of its rehearsal.
        plan: Digest of its plan; empty where none was made.
        binding: What approvals carry; empty where nothing can be approved.
        retry_at: Until when it is not tried by itself.
        voids: Why an earlier approval no longer holds.
        approvals: Who approved the binding.
        schedule: The time that somebody chose for it.
        rehearsal: The last rehearsal of it.
        starts_at: When it begins, if nobody does anything any more.
        starts_at_if_approved: When it would, once who asks has approved, too.
        newest: The newest release for this site, where that is another one.
        approved: Other releases that enough people approved; what comes first is first.
        unavailable: Releases that enough people approved, and that can no longer be taken.
        consumed: Who approved the last change, which was undone, and has to approve again.
        open_change: The change that has not come to its end: nothing can be approved beside it.
    """
    stop = sum_predicted_range(rehearsal)
    return {
        "current": current,
        "target": target,
        "rehearsal_status": rehearsal_status and rehearsal_status.value,
        "plan": plan or None,
        "binding": binding or None,
        "retry_at": retry_at,
        "void_reasons": list(voids),
        "approvals": [{"actor": a.actor, "uid": a.uid, "at": a.at} for a in approvals.approvals],
        "required_approvals": approvals.needed,
        "missing": approvals.missing,
        "scheduled": schedule and {"not_before": schedule.not_before, "actor": schedule.actor},
        "rehearsal": rehearsal and serialize_rehearsal(rehearsal),
        "downtime_s": stop and {"low": stop[0], "high": stop[1]},
        "begins": starts_at,
        "begins_after_yes": starts_at_if_approved,
        "newest": newest,
        "also_approved": list(approved),
        "approved_but_unavailable": list(unavailable),
        "consumed_approvals": list(consumed),
        "open_change": open_change,
    }


def list_other_approved(target: str | None, approved: Sequence[str]) -> tuple[str, ...]:
    """Return the approved releases other than the one that is looked at. Pure."""
    return tuple(version for version in approved if version != target)


def require_no_pending_change(
    change: Mapping[str, Any] | None, zone: tzinfo | None, *, state: LazyText | None = None
) -> None:
    """Refuse while a change is open: what it comes to is to be seen before a yes. Pure.

    Args:
        change: The open change, as :func:`.report.open_change` has it in JSON; None without.
        zone: Zone of the site.
        state: What is known of the site then.

    Raises:
        SOAK_NOT_FINISHED: If its release is watched.
        OPEN_CHANGE: If there is more to do.
    """
    if change is None:
        return
    until = change["soak_ends_at"]
    if until is None:
        raise UpdaterError(
            OPEN_CHANGE, change=change["id"], kind=change["kind"], version=change["to"], state=state
        )
    at = format_time(datetime.fromisoformat(str(until)), zone)
    raise UpdaterError(SOAK_NOT_FINISHED, version=change["to"], until=at, state=state)


def require_approvable(next_upgrade: Mapping[str, Any]) -> None:
    """Refuse where nothing can be approved by what was seen. Pure.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is nothing that holds.
    """
    if next_upgrade["binding"] is not None:
        return
    if next_upgrade["void_reasons"]:
        raise _make_outdated_error(next_upgrade)
    raise UpdaterError(NOT_REHEARSED, version=next_upgrade["target"], state=NOTHING_CHANGED)


def _make_outdated_error(next_upgrade: Mapping[str, Any]) -> UpdaterError:
    reasons = join_texts(next_upgrade["void_reasons"])
    return UpdaterError(
        REHEARSAL_OUTDATED, version=next_upgrade["target"], reasons=reasons, state=NOTHING_CHANGED
    )


def require_approvals(next_upgrade: Mapping[str, Any]) -> None:
    """Refuse where what was seen is not approved by as many as have to. Pure.

    Raises:
        NOT_REHEARSED, REHEARSAL_OUTDATED: If there is nothing that could be, or what people
            approved
            is not what would be done now.
        APPROVAL_MISSING: If it is not.
    """
    require_approvable(next_upgrade)
    if next_upgrade["missing"] and next_upgrade["void_reasons"]:
        raise _make_outdated_error(next_upgrade)
    if next_upgrade["missing"]:
        raise UpdaterError(
            APPROVAL_MISSING, version=next_upgrade["target"], missing=next_upgrade["missing"],
            needed=next_upgrade["required_approvals"], state=NOTHING_CHANGED,
        )  # fmt: skip
