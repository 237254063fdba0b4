"""What the service decides by: for it, and for whoever asks what it will do.

Pure: the site, what is known and the settings in, facts out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.policy.automation import (
    AutomationInputs,
    AutomationMode,
    RehearsalStatus,
    ServiceAction,
)
from ncen_updater.agent.policy.feed_schedule import compute_check_due
from ncen_updater.agent.reports.status import SiteStatus, require_part
from ncen_updater.agent.storage.service_state import Assessment, ServiceState

#: Parts of a site that :func:`build_decision_inputs` needs.
DECISION_INPUT_PARTS = frozenset({"journal", "rehearsals"})


def build_decision_inputs(
    status: SiteStatus, service_state: ServiceState, settings: ServiceSettings, now: datetime
) -> AutomationInputs:
    """Return what the service decides by; who is at work and trials of agents are its own to add.

    Args:
        status: The parts :data:`DECISION_INPUT_PARTS` of the site.
        service_state: What is known of what is next.
        settings: The table ``[service]``.
        now: The time.

    Raises:
        UpdaterError: If a part could not be read.
    """
    journal = require_part(status.journal)
    found = service_state.assessment or Assessment(last_event=0)
    if ServiceAction.ASSESS in service_state.failures:
        found = Assessment(last_event=0)  # nothing is begun by what was known before
    change, chosen = journal.open_change, journal.find_schedule(found.binding)
    return AutomationInputs(
        now=now,
        mode=AutomationMode(settings.mode),
        zone=settings.get_timezone(),
        next_check=compute_check_due(
            now,
            service_state.next_check,
            None
            if ServiceAction.CHECK_FEED in service_state.failures
            else service_state.checked_at,
            timedelta(hours=settings.check_interval_hours),
            status.paths.site_id,
            release_pending=found.target is not None,
        ),
        upgrade_windows=tuple(item.to_window() for item in settings.windows),
        download_windows=tuple(item.to_window() for item in settings.download_windows),
        open_change=status.is_work_unfinished,
        stuck=change is not None and change.state is ChangeState.STUCK,
        job_waiting=journal.waiting_job is not None,
        rollback_requested=journal.rollback_job is not None,
        hold_reason=journal.holds[0].reason if journal.holds else None,
        hold_until=journal.hold_until,
        rollback_pending=journal.pending_rollback is not None
        and journal.pending_rollback.is_automatic,
        was_rolled_back=found.was_rolled_back,
        agent_offered=found.agent_version if settings.self_update else None,
        target=found.target,
        retry_at=found.retry_at,
        slot_built=found.slot_built,
        rehearsal_status=found.rehearsal_status
        if settings.rehearse
        else RehearsalStatus.NOT_REQUIRED,
        missing_approvals=journal.count_approvals(
            found.binding, settings.required_approvals
        ).missing,
        not_before=chosen.not_before if chosen else None,
        prune_at=found.prune_at,
        failures=service_state.failures,
    )
