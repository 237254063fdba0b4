"""Take over a site whose release was installed by hand: once, before the first upgrade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.databases.base import ChangeRef, Live, Strategy
from ncen_updater.agent.diagnostics.verify import ADOPTED
from ncen_updater.agent.engine.lock import change_lock
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL, LOCK
from ncen_updater.agent.site import Site
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import JOURNAL_EXISTS, RELEASE_NOT_ON_OFFER
from ncen_updater.common.progress import Progress
from ncen_updater.feed.release_source import FetchedRelease
from ncen_updater.formats.document import Offer

__all__ = ["ADOPTION_ID", "Adoption", "adopt", "look"]

ADOPTION_ID = "adopted2"  # a legal id that is never given to a change


@dataclass(frozen=True)
class Adoption:
    """What an adoption would do.

    Attributes:
        offer: The release on the signed list.
        slot: Where its slot is or would be.
        in_place: Whether a directory stands there that would be compared and taken.
        switches: Whether ``current`` would be set.
    """

    offer: Offer
    slot: Path
    in_place: bool
    switches: bool


def look(site: Site, version: Version) -> Adoption:
    """Say what an adoption would do. Reads the feed and changes nothing.

    Raises:
        JournalExists: If the site was taken over before.
        ReleaseNotOnOffer: If the feed does not name this release.
    """
    if (site.state / JOURNAL).exists():
        raise UpdaterError(JOURNAL_EXISTS, path=site.state / JOURNAL)
    offer = _offer(site, version)
    slot = site.slots.path(version)
    return Adoption(offer, slot, slot.is_dir(), site.slots.current() is None)


def adopt(site: Site, version: Version, progress: Progress) -> None:
    """Build the slot of the release that runs, write the ledgers, and make the journal.

    The release is fetched from the feed and verified like any other. A directory that stands where
    its slot belongs is compared with the signed tree and made the slot; otherwise the slot is
    built. The journal is made last: until then the adoption can be repeated.

    Raises:
        JournalExists: If the site was taken over before.
        ReleaseNotOnOffer: If the feed does not name this release.
        UpdaterError: If what is installed is not what was signed.
    """
    journal_path = site.state / JOURNAL
    if journal_path.exists():
        raise UpdaterError(JOURNAL_EXISTS, path=journal_path)
    with change_lock(site.state / LOCK, "adopt"):
        fetched = _fetch(site, version, progress)
        if site.slots.path(version).is_dir() and version not in site.slots.versions():
            site.slots.adopt(version, fetched.document, fetched.tree)
        else:
            site.slots.build(fetched.document, fetched.tree, fetched.archive, progress)
        if site.slots.current() is None:
            site.slots.switch(version)
        reference = ChangeRef(
            ADOPTION_ID, 0, Strategy(site.config.databases.strategy), str(version)
        )
        migrations = site.migrations(version)
        site.engine.adopt()
        if migrations.command is None:
            site.engine.baseline(reference, migrations)
        fingerprints = {name: site.engine.fingerprint(Live(name)) for name in site.engine.names}
        marker = site.engine.marker()  # there, where the journal of an upgraded site was lost
        facts = {
            "release": str(version),
            "fingerprints": fingerprints,
            "generation": marker.generation if marker else 0,
        }
        Journal.create(journal_path, now=site.clock.now, first=(ADOPTED, facts)).close()


def _fetch(site: Site, version: Version, progress: Progress) -> FetchedRelease:
    return site.source.fetch(_offer(site, version), progress)


def _offer(site: Site, version: Version) -> Offer:
    for offer in site.source.refresh().offers:
        if offer.release_version == version:
            return offer
    raise UpdaterError(RELEASE_NOT_ON_OFFER, version=version)
