"""Take over a site whose release was installed by hand: once, before the first upgrade."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.loader import load_migrations
from ncen_updater.agent.engine.change_guards import require_no_open_change
from ncen_updater.agent.engine.installed_release import (
    InstalledRelease,
    find_mismatch,
    inspect_installed,
)
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.observed_state import ADOPTED
from ncen_updater.agent.engine.schema_fingerprints import read_schemas
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE, RESTORED_ADOPTED
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    ALREADY_ADOPTED,
    CURRENT_LINK_MISMATCH,
    DATABASES_ALREADY_MANAGED,
    JOURNAL_EXISTS,
    RELEASE_NOT_ON_OFFER,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.release_source import DownloadedRelease
from ncen_updater.formats.archive import unpack_selected_files
from ncen_updater.formats.release_document import Offer

ADOPTION_ID = "adopted2"  # a legal id that is never given to a change

#: Events after which an adoption stands: people relied on it.
EVENTS_AFTER_ADOPTION = frozenset({RESTORED_ADOPTED, "rehearsal-begun", "approved"})


@dataclass(frozen=True)
class AdoptionPlan:
    """What an adoption would do, and what speaks for it.

    Attributes:
        version: The release, as it spells itself.
        release_files: Its document, tree and archive.
        slot: Where its slot is or would be.
        slot_exists: Whether a directory stands there that would be compared and taken.
        sets_current: Whether ``current`` would be set.
        installed: What application and databases say.
        corrects: The release that the site was taken over with by mistake.
        findings: What the databases say of roles and logins; none of it refuses the adoption.
    """

    version: Version
    release_files: DownloadedRelease
    slot: Path
    slot_exists: bool
    sets_current: bool
    installed: InstalledRelease
    corrects: Version | None = None
    findings: tuple[Finding, ...] = ()


def inspect_adoption(site: Site, version: Version, progress: ProgressListener) -> AdoptionPlan:
    """Say what an adoption would do, and ask application and databases. The site is not changed.

    Raises:
        JOURNAL_EXISTS: If the site was taken over with this release before.
        ALREADY_ADOPTED: If it was with another one, and more has happened since.
        OPEN_CHANGE: If a change is not finished.
        DATABASES_ALREADY_MANAGED: If an agent changed the databases, and its journal is lost.
        CURRENT_LINK_MISMATCH: If ``current`` leads to another release.
        RELEASE_NOT_ON_OFFER: If the feed does not name this release.
        UpdaterError: If something cannot be looked at, or the databases would not let the
            application in again.
    """
    corrects = _find_correctable_adoption(site, version)
    for sign in _find_agent_traces(site):
        raise UpdaterError(
            DATABASES_ALREADY_MANAGED, path=site.state_directory / JOURNAL_FILE, sign=sign
        )
    offer = _find_offer(site, version)
    own = offer.release_version
    current = site.slots.read_current()
    if current not in (None, own, corrects):
        raise UpdaterError(
            CURRENT_LINK_MISMATCH, link=site.slots.current_link, current=current, version=own
        )
    fetched = site.release_source.download_release(offer, progress)
    slot = site.slots.get_slot_directory(own)
    document = fetched.document
    with tempfile.TemporaryDirectory(prefix=".looking-", dir=site.state_directory) as place:
        unpack_selected_files(fetched.archive, fetched.tree, document.migrations, Path(place))
        migrations = load_migrations(
            document.manifest, Path(place), site.database_engine.engine_name, document.migrations
        )
        progress.report(LazyText(N_("querying the application and the databases")))
        findings = site.database_engine.find_exposures()
        installed = inspect_installed(site, own, document.manifest, migrations, ADOPTION_ID)
    slot_exists = slot.is_dir() and own not in site.slots.list_versions()
    return AdoptionPlan(
        own, fetched, slot, slot_exists, current != own, installed, corrects, findings
    )


def require_matching_release(adoption: AdoptionPlan, *, confirmed_by_operator: bool) -> None:
    """Refuse where application or databases say that another release is installed.

    Args:
        adoption: As :func:`inspect_adoption` gave it.
        confirmed_by_operator: Whether a person says which release it is, where the application does
            not.

    Raises:
        ADOPT_VERSION_MISMATCH: The application is of another release.
        ADOPT_DATABASE_MISMATCH: A database is.
        VERSION_NOT_REPORTED: The application does not say, and no person does.
    """
    error = find_mismatch(adoption.installed, adoption.version, vouched=confirmed_by_operator)
    if error is not None:
        raise error


def adopt_site(
    site: Site, version: Version, progress: ProgressListener, *, vouched: bool = False
) -> AdoptionPlan:
    """Build the slot of the release that runs, write the ledgers, and make the journal.

    The release is fetched from the feed and verified like any other. A directory that stands where
    its slot belongs is compared with the signed tree and made the slot; otherwise the slot is
    built. The journal is made last: until then the adoption can be repeated. Afterwards it can be
    corrected while nothing else has happened; that is written down beside the mistake.

    Args:
        site: The site.
        version: The release that a person named.
        progress: Told what is done.
        vouched: Whether a person says so where the application does not say what it is.

    Raises:
        UpdaterError: As :func:`inspect_adoption` and :func:`require_matching_release`, or because
            what is installed is not what was signed.
    """
    with hold_change_lock(site.state_directory / CHANGE_LOCK_FILE, "adopt"):
        found = inspect_adoption(site, version, progress)
        require_matching_release(found, confirmed_by_operator=vouched)
        own, fetched = found.version, found.release_files
        if found.slot_exists:
            site.slots.adopt_directory(own, fetched.document, fetched.tree)
        else:
            site.slots.build_slot(fetched.document, fetched.tree, fetched.archive, progress)
        if found.sets_current:
            site.slots.switch_current(own)
        reference = ChangeRef(ADOPTION_ID, 0, str(own))
        migrations = site.load_migrations(own)
        site.database_engine.adopt_databases()
        if migrations.migrator is None or found.corrects is not None:
            site.database_engine.baseline_ledger(reference, migrations)
        schemas = read_schemas(site.database_engine, LiveDatabase)
        facts: dict[str, object] = {
            "release": str(own),
            "fingerprints": dict(schemas.fingerprints),
            "schema_kinds": dict(schemas.kinds),
            "generation": 0,
            "application": found.installed.application.version or None,
            "vouched": vouched and not found.installed.application.version,
        }
        path = site.state_directory / JOURNAL_FILE
        if found.corrects is None:
            Journal.create(path, now=site.clock.now, first_event=(ADOPTED, facts)).close()
        else:
            with Journal.open(path, now=site.clock.now) as journal:
                journal.record_event(ADOPTED, None, **facts, corrects=str(found.corrects))
    return found


def _find_correctable_adoption(site: Site, version: Version) -> Version | None:
    """Return the release of an adoption that may be corrected; None where there was none."""
    path = site.state_directory / JOURNAL_FILE
    if not (path.exists() or path.is_symlink()):
        return None
    with Journal.open(path, read_only=True) as journal:
        require_no_open_change(journal)
        events = journal.list_events()
        adopted = [event for event in events if event.kind == ADOPTED]
        untouched = not journal.list_changes(1) and not any(
            e.kind in EVENTS_AFTER_ADOPTION for e in events
        )
    if not adopted:
        raise UpdaterError(JOURNAL_EXISTS, path=path)
    before = Version(str(adopted[-1].data["release"]))
    if before == version:
        raise UpdaterError(JOURNAL_EXISTS, path=path)
    if not untouched:
        raise UpdaterError(ALREADY_ADOPTED, current=before)
    return before


def _find_agent_traces(site: Site) -> Iterator[LazyText]:
    """Yield by what the databases show that an agent has changed them."""
    marker = site.database_engine.read_marker()
    if marker is not None:
        values = {"change": marker.change, "release": marker.release}
        yield LazyText(N_("databases marked as {release} by change {change}"), values)
    changes = sorted({change for change, _, _ in site.database_engine.list_leftovers()})
    if changes:
        words = N_("copies of earlier changes found ({changes})")
        yield LazyText(words, {"changes": ", ".join(changes)})
    if site.database_engine.read_evidence(None).fenced:
        yield LazyText(N_("databases closed by a change"))


def _find_offer(site: Site, version: Version) -> Offer:
    for offer in site.release_source.refresh().offers:
        if offer.release_version == version:
            return offer
    raise UpdaterError(RELEASE_NOT_ON_OFFER, version=version)
