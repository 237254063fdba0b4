"""What has to hold at a site before an operation begins, and the path from where it stands.

Looks and refuses; nothing is changed but a marker of the databases that was lost in part.
"""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.agent.engine.permitted import require_no_change
from ncen_updater.agent.engine.recovery import RecoveryAction, decide
from ncen_updater.agent.engine.site import Site, reference
from ncen_updater.agent.engine.situation import contradiction, look
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.errors import NeedsPerson
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.feed.upgrade_path import NoPath, UpgradePath, choose_path
from ncen_updater.formats.document import Offer


def lift_ended_fences(site: Site, journal: Journal) -> None:
    """Lift the fence of a change that is over.

    Raises:
        DatabaseError: If, with no change open, a live database is missing or refuses sessions.
    """
    over = {change.id: change for change in journal.changes() if not change.state.open}
    for change_id in over.keys() & site.engine.evidence(None).fenced_by:
        site.engine.unfence(reference(over[change_id]))
        journal.note("fence-lifted", change_id)
    if journal.open_change() is None:
        site.engine.require_live()


def require_nothing_open(site: Site, journal: Journal) -> None:
    """Refuse where a change is open, or reality is not what the journal says.

    Raises:
        OpenChange: If a change has not come to its end.
        NeedsPerson: If journal and site contradict each other.
    """
    require_no_change(journal)
    require_whole(site, journal, None)


def require_whole(site: Site, journal: Journal, change: Change | None) -> None:
    """Refuse where reality is not what the journal says: nothing open, or one committed.

    A word of the databases that was lost and that the others make up for is written again.

    Raises:
        NeedsPerson: If so.
    """
    decision = decide(look(site, change, by_person=True))
    if decision.action is not (
        RecoveryAction.NOTHING if change is None else RecoveryAction.GO_FORWARD
    ):
        raise NeedsPerson(reason=decision.reason)
    healed = site.engine.heal_marker()
    if healed:
        journal.note("marker-healed", change.id if change else None, databases=list(healed))
    reason = contradiction(site, journal)
    if reason is not None:
        raise NeedsPerson(reason=reason)


def running_version(site: Site) -> Version:
    """Return the release in use.

    Raises:
        NeedsPerson: If none was ever chosen.
    """
    version = site.slots.current()
    if version is None:
        raise NeedsPerson(reason="no release was ever chosen here")
    return version


def choose(
    site: Site,
    offers: tuple[Offer, ...],
    journal: Journal,
    target: Version | None,
    *,
    retry: bool,
) -> UpgradePath | NoPath:
    """Choose a path from the release in use.

    Args:
        site: Where.
        offers: What is on the signed list.
        journal: Remembers bad releases.
        target: The release that a person named; the newest by default.
        retry: Whether releases that failed here may be tried again.
    """
    settings = site.config.site
    bad = [Version(row.version) for row in SiteHistory(journal).bad_releases()]
    return choose_path(
        running_version(site),
        offers,
        site=settings.id,
        country=settings.country,
        channel=settings.channel,
        agent=site.agent_version,
        now=site.source.now(),
        bad=bad,
        allow_bad=retry,
        target=target,
    )
