"""Selection of an upgrade path from the signed metadata, the installed release and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.model.errors import InterventionRequiredError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import FEED_NEVER_READ
from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath, choose_path

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.formats.release_document import Offer


def require_current_version(site: Site) -> Version:
    """Return the installed release.

    Raises:
        InterventionRequiredError: If no release is installed.
    """
    version = site.slots.read_current()
    if version is None:
        raise InterventionRequiredError(reason=LazyText(N_("no release is installed")))
    return version


def find_upgrade_path(
    site: Site, target: Version | None = None, *, retry: bool = False
) -> UpgradePath | NoUpgradePath:
    """Refresh the feed's metadata and choose an upgrade path. Changes nothing else at the site.

    Args:
        site: The site.
        target: The release that the operator named; the newest by default.
        retry: Whether releases that are marked bad are allowed.

    Raises:
        UpdaterError: If trust or network fails, or no path can be chosen.
    """
    view = site.release_source.refresh()
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        return choose_upgrade_path(site, view.offers, journal, target, retry=retry)


def find_cached_path(
    site: Site, journal: Journal, target: Version | None = None, *, retry: bool = False
) -> UpgradePath | NoUpgradePath:
    """Choose a path from the last verified metadata, without the network.

    Raises:
        FEED_NEVER_READ: If no metadata was ever verified, so the offered releases are unknown.
    """
    view = site.release_source.load_last_view()
    if view is None:
        raise UpdaterError(FEED_NEVER_READ)
    return choose_upgrade_path(site, view.offers, journal, target, retry=retry)


def choose_upgrade_path(
    site: Site,
    offers: tuple[Offer, ...],
    journal: Journal,
    target: Version | None,
    *,
    retry: bool,
) -> UpgradePath | NoUpgradePath:
    """Choose a path from the installed release.

    Args:
        site: The site.
        offers: The releases in the signed metadata.
        journal: Holds the releases that are marked bad.
        target: The release that the operator named; the newest by default.
        retry: Whether releases that are marked bad are allowed.
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
