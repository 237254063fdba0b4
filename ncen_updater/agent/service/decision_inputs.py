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
from ncen_updater.agent.policy.schedule import compute_check_due
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
    found = service_state.assessment or Assessment(event=0)
    if ServiceAction.ASSESS in service_state.failures:
        found = Assessment(event=0)  # nothing is begun by what was known before
    change, chosen = journal.change, journal.find_schedule(found.binding)
    return AutomationInputs(
        now=now,
        mode=AutomationMode(settings.mode),
        zone=settings.get_timezone(),
        next_check=compute_check_due(
            now,
            service_state.next_check,
            None if ServiceAction.CHECK in service_state.failures else service_state.checked_at,
            timedelta(hours=settings.check_hours),
            status.places.site,
            release_pending=found.target is not None,
        ),
        windows=tuple(item.to_window() for item in settings.windows),
        fetch_windows=tuple(item.to_window() for item in settings.fetch_windows),
        open_change=status.is_work_unfinished,
        stuck=change is not None and change.state is ChangeState.STUCK,
        ordered=journal.order is not None,
        back=journal.back is not None,
        held=journal.holds[0].reason if journal.holds else None,
        held_until=journal.held_until,
        owed=journal.owed is not None and journal.owed.is_automatic,
        left=found.left,
        agent=found.agent if settings.self_update else None,
        target=found.target,
        bad_until=found.bad_until,
        prepared=found.prepared,
        rehearsed=found.rehearsed if settings.rehearse else RehearsalStatus.NOT_WANTED,
        missing_approvals=journal.count_approvals(found.binding, settings.approvals).missing,
        not_before=chosen.not_before if chosen else None,
        collect_at=found.collect_at,
        failures=service_state.failures,
    )
