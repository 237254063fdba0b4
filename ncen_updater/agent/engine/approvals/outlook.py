"""What comes next and who said yes to it, as one document: for commands and the local interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.engine.rehearsal.stops import stop_range
from ncen_updater.agent.engine.rehearsal.store import RehearsalRecord, rehearsal_document
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text, joined
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    NOT_REHEARSED,
    OPEN_CHANGE,
    REHEARSAL_OUTDATED,
    WATCHED_FIRST,
)

if TYPE_CHECKING:
    from ncen_updater.agent.engine.approvals.model import ApprovalCount
    from ncen_updater.agent.engine.approvals.store import ScheduleRecord
    from ncen_updater.agent.policy.automation import Rehearsed


def outlook_document(
    *,
    current: str | None,
    target: str | None,
    rehearsed: Rehearsed | None,
    plan: str,
    binding: str,
    bad_until: datetime | None,
    voids: Sequence[Text | str],
    people: ApprovalCount,
    scheduled: ScheduleRecord | None,
    rehearsal: RehearsalRecord | None,
    begins: Mapping[str, object],
    begins_after_yes: Mapping[str, object],
    newest: str | None,
    approved: Sequence[str],
    gone: Sequence[str],
    used_up: Sequence[str],
    open_change: Mapping[str, object] | None,
) -> dict[str, object]:
    """Return what comes next, and what it waits for; pure.

    Args:
        current: The release in use.
        target: The release that comes next.
        rehearsed: What is known of its rehearsal.
        plan: Digest of its plan; empty where none was made.
        binding: What approvals carry; empty where nothing can be approved.
        bad_until: Until when it is not tried by itself.
        voids: Why an earlier approval no longer holds.
        people: Who approved the binding.
        scheduled: The time that somebody chose for it.
        rehearsal: The last rehearsal of it.
        begins: When it begins, if nobody does anything any more.
        begins_after_yes: When it would, once who asks has approved, too.
        newest: The newest release for this site, where that is another one.
        approved: Other releases that enough people approved; what comes first is first.
        gone: Releases that enough people approved, and that can no longer be taken.
        used_up: Who approved the last change, which was undone, and has to approve again.
        open_change: The change that has not come to its end: nothing can be approved beside it.
    """
    stop = stop_range(rehearsal)
    return {
        "current": current,
        "target": target,
        "rehearsed": rehearsed and rehearsed.value,
        "plan": plan or None,
        "binding": binding or None,
        "bad_until": bad_until,
        "voids": list(voids),
        "approvals": [{"who": a.who, "uid": a.uid, "at": a.at} for a in people.given],
        "needed": people.needed,
        "missing": people.missing,
        "scheduled": scheduled and {"not_before": scheduled.not_before, "who": scheduled.who},
        "rehearsal": rehearsal and rehearsal_document(rehearsal),
        "stop_s": stop and {"low": stop[0], "high": stop[1]},
        "begins": begins,
        "begins_after_yes": begins_after_yes,
        "newest": newest,
        "also_approved": list(approved),
        "approved_but_gone": list(gone),
        "approvals_used_up": list(used_up),
        "open_change": open_change,
    }


def approved_beside(target: str | None, approved: Sequence[str]) -> tuple[str, ...]:
    """Return the approved releases other than the one that is looked at. Pure."""
    return tuple(version for version in approved if version != target)


def require_settled(
    change: Mapping[str, Any] | None, zone: tzinfo | None, *, state: Text | None = None
) -> None:
    """Refuse while a change is open: what it comes to is to be seen before a yes. Pure.

    Args:
        change: The open change, as :func:`.report.open_change` has it in JSON; None without.
        zone: Zone of the site.
        state: What is known of the site then.

    Raises:
        WatchedFirst: If its release is watched.
        OpenChange: If there is more to do.
    """
    if change is None:
        return
    until = change["watched_until"]
    if until is None:
        raise UpdaterError(
            OPEN_CHANGE, change=change["id"], kind=change["kind"], version=change["to"], state=state
        )
    at = format_time(datetime.fromisoformat(str(until)), zone)
    raise UpdaterError(WATCHED_FIRST, version=change["to"], until=at, state=state)


def require_binding(seen: Mapping[str, Any]) -> None:
    """Refuse where nothing can be approved by what was seen. Pure.

    Raises:
        NotRehearsed, RehearsalOutdated: If there is nothing that holds.
    """
    if seen["binding"] is not None:
        return
    if seen["voids"]:
        raise _outdated(seen)
    raise UpdaterError(NOT_REHEARSED, version=seen["target"], state=NOTHING_CHANGED)


def _outdated(seen: Mapping[str, Any]) -> UpdaterError:
    reasons = joined(seen["voids"])
    return UpdaterError(
        REHEARSAL_OUTDATED, version=seen["target"], reasons=reasons, state=NOTHING_CHANGED
    )


def require_approvals(seen: Mapping[str, Any]) -> None:
    """Refuse where what was seen is not approved by as many as have to. Pure.

    Raises:
        NotRehearsed, RehearsalOutdated: If there is nothing that could be, or what people approved
            is not what would be done now.
        ApprovalMissing: If it is not.
    """
    require_binding(seen)
    if seen["missing"] and seen["voids"]:
        raise _outdated(seen)
    if seen["missing"]:
        raise UpdaterError(
            APPROVAL_MISSING, version=seen["target"], missing=seen["missing"],
            needed=seen["needed"], state=NOTHING_CHANGED,
        )  # fmt: skip
