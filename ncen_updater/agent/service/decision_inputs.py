"""What the service decides by: for it, and for whoever asks what it will do.

Pure: the site, what is known and the settings in, facts out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.policy.automation import Action, Automation, Inputs, Rehearsed
from ncen_updater.agent.policy.schedule import check_due
from ncen_updater.agent.reports.status import SiteStatus, need
from ncen_updater.agent.storage.service_state import Assessment, ServiceState

#: Parts of a site that :func:`inputs_for` needs.
INPUTS = frozenset({"journal", "rehearsals"})


def inputs_for(
    status: SiteStatus, service_state: ServiceState, settings: ServiceSettings, now: datetime
) -> Inputs:
    """Return what the service decides by; who is at work and trials of agents are its own to add.

    Args:
        status: The parts :data:`INPUTS` of the site.
        service_state: What is known of what is next.
        settings: The table ``[service]``.
        now: The time.

    Raises:
        UpdaterError: If a part could not be read.
    """
    journal = need(status.journal)
    found = service_state.assessment or Assessment(event=0)
    if Action.ASSESS in service_state.failures:
        found = Assessment(event=0)  # nothing is begun by what was known before
    change, chosen = journal.change, journal.scheduled(found.binding)
    return Inputs(
        now=now,
        mode=Automation(settings.mode),
        zone=settings.zone(),
        next_check=check_due(
            now,
            service_state.next_check,
            None if Action.CHECK in service_state.failures else service_state.checked_at,
            timedelta(hours=settings.check_hours),
            status.places.site,
            closely=found.target is not None,
        ),
        windows=tuple(item.window() for item in settings.windows),
        fetch_windows=tuple(item.window() for item in settings.fetch_windows),
        open_change=status.unfinished,
        stuck=change is not None and change.state is ChangeState.STUCK,
        ordered=journal.order is not None,
        back=journal.back is not None,
        held=journal.holds[0].reason if journal.holds else None,
        held_until=journal.held_until,
        owed=journal.owed is not None and journal.owed.by_itself,
        left=found.left,
        agent=found.agent if settings.self_update else None,
        target=found.target,
        bad_until=found.bad_until,
        prepared=found.prepared,
        rehearsed=found.rehearsed if settings.rehearse else Rehearsed.NOT_WANTED,
        missing_approvals=journal.people(found.binding, settings.approvals).missing,
        not_before=chosen.not_before if chosen else None,
        collect_at=found.collect_at,
        failures=service_state.failures,
    )
