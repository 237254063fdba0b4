"""Preconditions of an operation, and the path from the installed release.

Checks and refuses; changes nothing but a partly lost marker in the databases, which it repairs.
"""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.agent.engine.change_guards import require_no_open_change
from ncen_updater.agent.engine.observed_state import find_contradiction, observe_site
from ncen_updater.agent.engine.recovery import RecoveryAction, decide_recovery
from ncen_updater.agent.engine.site import Site, make_change_ref
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.errors import InterventionRequiredError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath, choose_path
from ncen_updater.formats.release_document import Offer


def lift_ended_fences(site: Site, journal: Journal) -> None:
    """Lift the fence of a change that is over.

    Raises:
        DatabaseError: If, with no change open, a live database is missing or refuses sessions.
    """
    over = {change.id: change for change in journal.list_changes() if not change.state.is_open}
    for change_id in over.keys() & site.database_engine.read_evidence(None).fenced_by:
        site.database_engine.unfence(make_change_ref(over[change_id]))
        journal.record_event("fence-lifted", change_id)
    if journal.find_open_change() is None:
        site.database_engine.require_live()


def require_idle_site(site: Site, journal: Journal) -> None:
    """Refuse where a change is open, or reality is not what the journal says.

    Raises:
        OPEN_CHANGE: If a change has not come to its end.
        InterventionRequiredError: If journal and site contradict each other.
    """
    require_no_open_change(journal)
    require_consistent_site(site, journal, None)


def require_consistent_site(site: Site, journal: Journal, change: Change | None) -> None:
    """Refuse where reality is not what the journal says: nothing open, or one committed.

    A word of the databases that was lost and that the others make up for is written again.

    Raises:
        InterventionRequiredError: If so.
    """
    decision = decide_recovery(observe_site(site, change, by_operator=True))
    if decision.action is not (RecoveryAction.NOTHING if change is None else RecoveryAction.FINISH):
        raise InterventionRequiredError(reason=decision.reason)
    healed = site.database_engine.repair_marker()
    if healed:
        journal.record_event("marker-healed", change.id if change else None, databases=list(healed))
    reason = find_contradiction(site, journal)
    if reason is not None:
        raise InterventionRequiredError(reason=reason)


def require_current_version(site: Site) -> Version:
    """Return the release in use.

    Raises:
        InterventionRequiredError: If none was ever chosen.
    """
    version = site.slots.read_current()
    if version is None:
        raise InterventionRequiredError(reason="no release is installed")
    return version


def choose_upgrade_path(
    site: Site,
    offers: tuple[Offer, ...],
    journal: Journal,
    target: Version | None,
    *,
    retry: bool,
) -> UpgradePath | NoUpgradePath:
    """Choose a path from the release in use.

    Args:
        site: Where.
        offers: What is on the signed list.
        journal: Remembers bad releases.
        target: The release that a person named; the newest by default.
        retry: Whether releases that failed here may be tried again.
    """
    settings = site.config.site
    bad = [Version(row.version) for row in SiteHistory(journal).list_bad_releases()]
    return choose_path(
        require_current_version(site),
        offers,
        site=settings.id,
        country=settings.country,
        channel=settings.channel,
        agent=site.agent_version,
        now=site.release_source.get_reference_time(),
        bad=bad,
        allow_bad=retry,
        target=target,
    )
