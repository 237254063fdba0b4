"""Next upgrade with its approvals and start time, for commands and the local API."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import sum_predicted_range
from ncen_updater.agent.engine.rehearsal.rehearsal_store import serialize_rehearsal
from ncen_updater.agent.policy.upgrade_start import (
    mark_superseded,
    predict_start,
    predict_start_if_approved,
)
from ncen_updater.agent.reports.status import SiteStatus, require_part
from ncen_updater.agent.service.assessment import build_decision_inputs
from ncen_updater.agent.service.site_report import build_open_change
from ncen_updater.agent.storage.service_state import Assessment

#: Parts of the status that :func:`build_next_upgrade` needs.
NEXT_UPGRADE_PARTS = frozenset({"journal", "soak_s", "rehearsals", "service_state"})


def build_next_upgrade(
    status: SiteStatus,
    settings: ServiceSettings,
    uid: int,
    *,
    release: Assessment | None = None,
    not_before: datetime | None = None,
    service_running: bool = True,
) -> dict[str, object]:
    """Return the next upgrade and what it waits for. Pure.

    Args:
        status: The parts :data:`NEXT_UPGRADE_PARTS` of the site.
        settings: The table ``[service]``.
        uid: UID of the requesting user.
        release: A requested release; by default the next one.
        not_before: A start time that is not scheduled yet.
        service_running: Whether the service runs; nothing starts automatically without it.

    Raises:
        UpdaterError: If a part could not be read.
    """
    known, journal = status.next_upgrade, require_part(status.journal)
    found = release or known or Assessment(last_event=0)
    status = replace(
        status, service_state=replace(require_part(status.service_state), assessment=found)
    )
    facts = build_decision_inputs(status, require_part(status.service_state), settings, status.now)
    if not_before is not None:
        facts = replace(facts, not_before=not_before)
    approved = known.approved if known else ()
    people = journal.count_approvals(found.binding, settings.required_approvals)
    start = mark_superseded(
        predict_start(facts, service_running=service_running), found.target, approved
    )
    start_if_approved = predict_start_if_approved(
        facts, start, counts=people.would_count(uid), serves=service_running
    )
    schedule = journal.find_schedule(found.binding) if found.binding else None
    rehearsal = status.rehearsal
    downtime = sum_predicted_range(rehearsal)
    return {
        "current": found.current,
        "target": found.target,
        "hops": list(found.hops),
        "rehearsal_status": found.rehearsal_status.value if known else None,
        "plan": found.plan or str((found.basis or {}).get("plan", "")) or None,
        "binding": found.binding or None,
        "retry_at": found.retry_at,
        "void_reasons": list(found.void_reasons),
        "approvals": [{"actor": a.actor, "uid": a.uid, "at": a.at} for a in people.approvals],
        "required_approvals": people.needed,
        "missing": people.missing,
        "scheduled": schedule and {"not_before": schedule.not_before, "actor": schedule.actor},
        "rehearsal": rehearsal and serialize_rehearsal(rehearsal),
        "downtime_s": downtime and {"low": downtime[0], "high": downtime[1]},
        "starts_at": start.to_json(),
        "starts_at_if_approved": start_if_approved.to_json(),
        "newest": known.newest if known and known.newest != found.target else None,
        "also_approved": [version for version in approved if version != found.target],
        "approved_but_unavailable": list(known.unavailable if known else ()),
        "consumed_approvals": list(journal.consumed_approvals),
        "open_change": build_open_change(status),
    }
