"""Update of the agent: download it, build its slot, select it; then the service restarts into it.

The update holds the change lock and never runs while a change is open, since the agent that
completes a change must not be replaced meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.change_guards import require_no_open_change
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.event_names import AGENT_SELECTED, CHANGE_LOCK_FILE, JOURNAL_FILE
from ncen_updater.agent.self_update.slots import AgentSlots
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
    begin_trial,
    forget_failure,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import AGENT_NOT_FROM_SLOT, AGENT_ON_TRIAL
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.feed.upgrade_path import UpgradePath, choose_path
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.release_document import Offer
from ncen_updater.formats.target_names import AGENT_PRODUCT

if TYPE_CHECKING:
    from ncen_updater.agent.config.agent_config import SiteSettings


logger = logging.getLogger(__name__)


def check_site(site: Site) -> None:
    """Check that the agent can read its site: journal, metadata, databases, and disk space.

    A new agent runs this while on trial. It changes nothing and does not use the network.

    Raises:
        UpdaterError: If one of them cannot be read, or a disk of the agent is full.
    """
    paths = site.config.paths
    for directory in (site.state_directory, paths.resolve(paths.agent_slots)):
        if directory.is_dir():
            # Require only the reserve that is always kept free: an agent that fills the disk must
            # not use the last blocks to confirm itself.
            require_space(directory, 0)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        journal.list_changes()
        journal.find_open_change()
        SiteHistory(journal).list_bad_releases()
    site.release_source.load_last_view()
    site.slots.read_current()
    site.database_engine.describe_databases()


def run_self_check(path: Path) -> dict[str, object]:
    """Check the site of a configuration file.

    Raises:
        UpdaterError: As :func:`check_site`.
    """
    check_site(build_site(load_config(path), path))
    return {}


@dataclass(frozen=True)
class AgentUpdateResult:
    """Result of an update of the agent.

    Attributes:
        origin: Version selected before.
        version: Version selected; None if none was on offer.
    """

    origin: str
    version: str | None = None


def get_agent_directory(site: Site) -> Path:
    """Return the directory of the agent's slots."""
    return site.config.paths.resolve(site.config.paths.agent_slots)


def create_agent_source(site: Site, config_path: Path) -> TufReleaseSource:
    """Return the source of the agent's own releases."""
    return WorkerReleaseSource(site.config, config_path, AGENT_PRODUCT)


def refresh_agent_metadata(site: Site, config_path: Path) -> UpdaterError | None:
    """Download and verify the metadata of the agent's releases; return the error, if any.

    An error, or a feed without agents, does not affect the releases of the application. An agent
    that does not run from a slot requests nothing.
    """
    try:
        if AgentSelectionFile(get_agent_directory(site)).load() is not None:
            create_agent_source(site, config_path).refresh()
    except UpdaterError as error:
        logger.warning("the agent metadata could not be read: %s", error)
        return error
    return None


def find_offered_agent(site: Site, config_path: Path) -> str | None:
    """Return the next agent version according to the stored metadata; None without one.

    Also None if this agent does not run from a selected slot, if an agent is on trial, if the
    metadata cannot be read, and, at an offline site, if no bundle contained the release.
    """
    try:
        selection = AgentSelectionFile(get_agent_directory(site)).load()
        if selection is None or selection.state is TrialState.ON_TRIAL:
            return None
        source = create_agent_source(site, config_path)
        view = source.load_last_view()
        if view is None or selection.current != str(site.agent_version):
            return None
        offer = choose_next_agent(
            selection, view.offers, site.config.site, source.get_reference_time()
        )
        if (
            offer is not None
            and site.config.feed.offline
            and source.find_downloaded_release(offer) is None
        ):
            offer = None  # no bundle contained it
    except UpdaterError as error:
        logger.warning("cannot look for a new agent: %s", error)
        return None
    return offer.version if offer else None


def update_agent(
    site: Site,
    source: TufReleaseSource,
    slots: AgentSlots,
    progress: ProgressListener,
    *,
    actor: str,
    target: Version | None = None,
    retry: bool = False,
) -> AgentUpdateResult:
    """Download the next agent, build its slot and select it.

    Args:
        site: The site.
        source: Source of the agent's own releases.
        slots: Slots of the agent.
        progress: Receives the progress.
        actor: User who requested the update.
        target: Version requested by a user; by default the newest.
        retry: Whether to retry agents that failed at this site.

    Raises:
        AGENT_NOT_FROM_SLOT: If this agent does not run from a slot.
        AGENT_ON_TRIAL: If the current agent has not confirmed itself.
        SiteBusyError, OPEN_CHANGE: If the application is being changed.
        UpdaterError: If the update fails; the selected agent is unchanged.
    """
    file = AgentSelectionFile(slots.directory)
    selection = _require_confirmed_agent(file, str(site.agent_version))
    source.refresh()
    view = source.load_last_view()
    offers = view.offers if view else ()
    settings = site.config.site
    offer = choose_next_agent(
        selection, offers, settings, source.get_reference_time(), target=target, retry=retry
    )
    if offer is None:
        return AgentUpdateResult(selection.current, None)
    with _lock_without_open_change(site) as journal:
        # Another update may have run before this one acquired the lock.
        selection = _require_confirmed_agent(file, str(site.agent_version))
        check_site(site)
        _remove_failed_slots(slots, selection, offer.version)
        _build_slot(slots, source, offer, selection, progress)

        def select(before: AgentSelection | None) -> AgentSelection:
            return begin_trial(forget_failure(before or selection, offer.version), offer.version)

        journal.record_event(
            AGENT_SELECTED, by=actor, version=offer.version, origin=selection.current
        )
        file.update(select)
    source.discard_release(offer)
    return AgentUpdateResult(selection.current, offer.version)


def _require_confirmed_agent(file: AgentSelectionFile, version: str) -> AgentSelection:
    selection = file.load()
    if selection is None:
        raise UpdaterError(AGENT_NOT_FROM_SLOT, path=file.directory)
    if selection.state is TrialState.ON_TRIAL:
        raise UpdaterError(AGENT_ON_TRIAL, version=selection.current)
    if selection.current != version:
        raise UpdaterError(AGENT_NOT_FROM_SLOT, path=file.directory)
    return selection


@contextlib.contextmanager
def _lock_without_open_change(site: Site) -> Iterator[Journal]:
    with (
        hold_change_lock(site.state_directory / CHANGE_LOCK_FILE, "self-update"),
        Journal.open(site.state_directory / JOURNAL_FILE, now=site.clock.now) as journal,
    ):
        require_no_open_change(journal)
        yield journal


def _remove_failed_slots(slots: AgentSlots, selection: AgentSelection, wanted: str) -> None:
    """Remove the slots of failed agents, which are never selected again."""
    needed = {selection.current, selection.previous, wanted}
    for version in slots.list_versions():
        if version in selection.failed and version not in needed:
            slots.remove(version)


def _build_slot(
    slots: AgentSlots,
    source: TufReleaseSource,
    offer: Offer,
    selection: AgentSelection,
    progress: ProgressListener,
) -> None:
    release = source.download_release(offer, progress)
    in_use = {selection.current, selection.previous or ""}
    progress.report(LazyText(N_("unpacking ncen-updater {version}"), {"version": offer.version}))

    def fill(directory: Path) -> None:
        unpack_archive(release.archive, release.tree, directory, progress)

    slots.build(offer.version, offer.archive.sha256, fill, progress, in_use=in_use)


def choose_next_agent(
    selection: AgentSelection,
    offers: Iterable[Offer],
    site: SiteSettings,
    now: datetime,
    *,
    target: Version | None = None,
    retry: bool = False,
) -> Offer | None:
    """Return the first hop of the path to the newest agent; None without one.

    Countries, channel, waves, halts, withdrawals and required releases apply as for releases of the
    application.

    Args:
        selection: The selected and failed agents of this site.
        offers: Offers in the verified metadata.
        site: Settings of the site.
        now: Reference time for dates in the metadata (UTC).
        target: Version requested by a user.
        retry: Whether to include agents that failed at this site.

    Raises:
        UpgradePathError: If the requested version may not be installed.
    """
    current = Version(selection.current)
    path = choose_path(
        current,
        offers,
        site=site.id,
        country=site.country,
        channel=site.channel,
        agent=current,
        now=now,
        bad=_list_failed_versions(selection),
        allow_bad=retry,
        target=target,
    )
    return path.hops[0] if isinstance(path, UpgradePath) else None


def _list_failed_versions(selection: AgentSelection) -> frozenset[Version]:
    versions = set()
    for name in selection.failed:
        try:
            versions.add(Version(name))
        except InvalidVersion:  # no offer can have this version
            continue
    return frozenset(versions)
