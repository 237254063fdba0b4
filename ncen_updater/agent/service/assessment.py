"""What stands between a site and its next release: looked at by a process of its own.

Reads the last verified list, the slots, the journal and the live databases; talks to no network,
and changes nothing but the dossiers that are kept of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval_status import ApprovalStatus, read_approval_status
from ncen_updater.agent.engine.approvals.approved_release import find_approved_release, find_path_to
from ncen_updater.agent.engine.pending_rollback import find_rolled_back_releases
from ncen_updater.agent.engine.prune import compute_next_prune
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.steps.outage import room_of_databases
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.policy.bad_releases import compute_retry_at
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord, SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, WithheldRelease
from ncen_updater.feed.errors import TrustError

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.feed.upgrade_path import OfferRejection, UpgradePath
    from ncen_updater.formats.release_document import Offer

logger = logging.getLogger(__name__)

#: So many further releases are looked at.
MAX_ALTERNATIVES = 3


def assess_upgrade(site: Site, offered_agent: str | None = None) -> Assessment:
    """Find out what is next for a site.

    Args:
        site: The site.
        offered_agent: The agent that is on offer, if any.

    Raises:
        UpdaterError: If something cannot be read.
    """
    current = site.slots.read_current()
    try:
        view = site.release_source.load_last_view()
    except TrustError as error:
        # Nothing is installed by it; but what is kept too long is dropped, which may make room.
        logger.warning("what is on offer cannot be proved: %s", error)
        view = None
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        event = journal.read_last_event_number()
        bad = {
            record.version: record
            for record in SiteHistory(journal).list_bad_releases()
            if record.product == site.config.site.product
        }
        if current is None:
            return Assessment(event, agent_version=offered_agent)
        prune_at = compute_next_prune(journal, site.clock, site.config.retention.previous_days)
        disks = tuple(map(str, room_of_databases(site)))
        here = Assessment(
            event, str(current), agent_version=offered_agent, prune_at=prune_at, disks=disks
        )
        if view is None:
            return here
        newest, revoked = _choose_path(site, current, view.offers, frozenset(map(Version, bad)))
        chosen = find_approved_release(site, journal, view.offers)
        path = chosen.path or newest
        found = here if path is None else _assess_path(site, journal, here, path, bad)
        others = tuple(
            _assess_path(site, journal, Assessment(event, str(current)), other, bad)
            for other in _find_rehearsed_paths(site, journal, current, view.offers, found.target)
        )
    return replace(
        found,
        newest=newest.target.version if newest else None,
        alternatives=others,
        approved=chosen.available,
        unavailable=chosen.unavailable,
        withheld=revoked,
    )


def _assess_path(
    site: Site,
    journal: Journal,
    here: Assessment,
    path: UpgradePath,
    bad: Mapping[str, FailedReleaseRecord],
) -> Assessment:
    """Return what stands between the site and the end of a path."""
    worst = [bad[hop.version] for hop in path.hops if hop.version in bad]
    again = [compute_retry_at(row.failures, row.last_at) for row in worst]
    plan, standing = _build_plan_status(site, journal, path)
    left = find_rolled_back_releases(journal) & {hop.version for hop in path.hops}
    return replace(
        here,
        target=path.target.version,
        slot_built=standing is not None,
        rehearsal_status=standing.rehearsal_status if standing else RehearsalStatus.MISSING,
        plan=plan,
        binding=standing.basis.compute_binding() if standing and standing.basis else "",
        basis=standing.basis.to_json() if standing and standing.basis else None,
        retry_at=max(again, default=None),
        void_reasons=tuple(void.text for void in standing.void_reasons) if standing else (),
        was_rolled_back=bool(left),
    )


def _find_rehearsed_paths(
    site: Site, journal: Journal, current: Version, offers: tuple[Offer, ...], target: str | None
) -> Iterator[UpgradePath]:
    """Paths to other releases that were rehearsed here, those that were last first."""
    known = {target}
    for record in RehearsalStore(journal).list_newest():
        passed = record.state is RehearsalState.PASSED and record.from_version == str(current)
        if not passed or record.to_version in known or Version(record.to_version) <= current:
            continue
        if len(known) > MAX_ALTERNATIVES:
            return
        known.add(record.to_version)
        path = find_path_to(site, journal, offers, Version(record.to_version))
        if path is not None:
            yield path


def _choose_path(
    site: Site, current: Version, offers: tuple[Offer, ...], bad: frozenset[Version]
) -> tuple[UpgradePath | None, tuple[WithheldRelease, ...]]:
    """Return the path that the service takes, around what failed here, and what cannot be taken."""
    from ncen_updater.feed.upgrade_path import UpgradePath, choose_path

    revoked: tuple[WithheldRelease, ...] = ()
    for allow_bad in (False, True):
        path = choose_path(
            current,
            offers,
            site=site.config.site.id,
            country=site.config.site.country,
            channel=site.config.site.channel,
            agent=site.agent_version,
            now=site.release_source.get_reference_time(),
            bad=bad,
            allow_bad=allow_bad,
        )
        revoked = list_withheld_releases(path.rejected)
        if isinstance(path, UpgradePath):
            return path, revoked
    return None, revoked


def list_withheld_releases(rejected: Iterable[OfferRejection]) -> tuple[WithheldRelease, ...]:
    """Return what the Secretariat keeps back: who may only look learns it from here."""
    from ncen_updater.feed.upgrade_path import RejectionReason

    reported = {RejectionReason.HALTED, RejectionReason.WITHDRAWN, RejectionReason.WAVE_NOT_OPEN}
    return tuple(
        WithheldRelease(one.offer.version, one.reason.value, why.reason if why else "", one.opens)
        for one in rejected
        if one.reason in reported
        for why in [one.offer.withdrawn or one.offer.halted]
    )


def _build_plan_status(
    site: Site, journal: Journal, path: UpgradePath
) -> tuple[str, ApprovalStatus | None]:
    """Return the digest of the plan, and where it stands.

    None while a slot of it is still to be built.
    """
    from ncen_updater.agent.engine.plan import make_plan
    from ncen_updater.common.progress import SilentProgress

    current = site.slots.read_current()
    if current is None or not all(is_slot_built(site, hop) for hop in path.hops):
        return "", None
    plan = make_plan(site, current, path, SilentProgress())
    return plan.digest, read_approval_status(site, journal, plan.digest, path.target.version)


def is_slot_built(site: Site, hop: Offer) -> bool:
    """Whether the slot of an offer stands, so that a plan of it needs no network."""
    if hop.release_version not in site.slots.list_versions():
        return False
    return site.slots.read_document(hop.release_version).archive.sha256 == hop.archive.sha256


def assess_site(path: Path) -> dict[str, object]:
    """Assess the site of a configuration file, and renew its dossiers.

    Raises:
        UpdaterError: If something cannot be read.
    """
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.engine.site_factory import build_site
    from ncen_updater.agent.reports.dossier.store import refresh_dossiers
    from ncen_updater.agent.self_update.agent_update import find_offered_agent

    site = build_site(load_config(path), path)
    found = assess_upgrade(site, find_offered_agent(site, path))
    refresh_dossiers(site, found.target, found.binding)
    return found.to_json()
