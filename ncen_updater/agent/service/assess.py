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

from ncen_updater.agent.engine.approvals.choosing import chosen_release, path_to
from ncen_updater.agent.engine.approvals.status import ApprovalStatus, standing_for
from ncen_updater.agent.engine.pending_rollback import left_behind
from ncen_updater.agent.engine.rehearsal.store import Rehearsals, RehearsalState
from ncen_updater.agent.engine.retention import due_at
from ncen_updater.agent.engine.steps.outage import room_of_databases
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.policy.automation import Rehearsed
from ncen_updater.agent.policy.bad_releases import next_attempt
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import BadReleaseRecord, SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, Barred
from ncen_updater.feed.errors import TrustError

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.feed.upgrade_path import Rejection, UpgradePath
    from ncen_updater.formats.document import Offer

logger = logging.getLogger(__name__)

#: So many further releases are looked at.
MOST_OTHERS = 3


def assess(site: Site, agent: str | None = None) -> Assessment:
    """Find out what is next for a site.

    Args:
        site: The site.
        agent: The agent that is on offer, if any.

    Raises:
        UpdaterError: If something cannot be read.
    """
    current = site.slots.current()
    try:
        view = site.source.last_view()
    except TrustError as error:
        # Nothing is installed by it; but what is kept too long is dropped, which may make room.
        logger.warning("what is on offer cannot be proved: %s", error)
        view = None
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        event = journal.last_event()
        bad = {
            record.version: record
            for record in SiteHistory(journal).bad_releases()
            if record.product == site.config.site.product
        }
        if current is None:
            return Assessment(event, agent=agent)
        collect_at = due_at(journal, site.clock, site.config.keep.previous_days)
        disks = tuple(map(str, room_of_databases(site)))
        here = Assessment(event, str(current), agent=agent, collect_at=collect_at, disks=disks)
        if view is None:
            return here
        newest, barred = _path(site, current, view.offers, frozenset(map(Version, bad)))
        chosen = chosen_release(site, journal, view.offers)
        path = chosen.path or newest
        found = here if path is None else _assessed(site, journal, here, path, bad)
        others = tuple(
            _assessed(site, journal, Assessment(event, str(current)), other, bad)
            for other in _rehearsed(site, journal, current, view.offers, found.target)
        )
    return replace(
        found,
        newest=newest.target.version if newest else None,
        others=others,
        approved=chosen.approved,
        gone=chosen.gone,
        barred=barred,
    )


def _assessed(
    site: Site,
    journal: Journal,
    here: Assessment,
    path: UpgradePath,
    bad: Mapping[str, BadReleaseRecord],
) -> Assessment:
    """What stands between the site and the end of a path."""
    worst = [bad[hop.version] for hop in path.hops if hop.version in bad]
    again = [next_attempt(row.times, row.last_at) for row in worst]
    plan, standing = _standing(site, journal, path)
    left = left_behind(journal) & {hop.version for hop in path.hops}
    return replace(
        here,
        target=path.target.version,
        prepared=standing is not None,
        rehearsed=standing.rehearsed if standing else Rehearsed.MISSING,
        plan=plan,
        binding=standing.basis.binding() if standing and standing.basis else "",
        basis=standing.basis.to_json() if standing and standing.basis else None,
        bad_until=max(again, default=None),
        voids=tuple(str(void.text) for void in standing.voids) if standing else (),
        left=bool(left),
    )


def _rehearsed(
    site: Site, journal: Journal, current: Version, offers: tuple[Offer, ...], target: str | None
) -> Iterator[UpgradePath]:
    """Paths to other releases that were rehearsed here, those that were last first."""
    known = {target}
    for record in Rehearsals(journal).all():
        passed = record.state is RehearsalState.PASSED and record.from_version == str(current)
        if not passed or record.to_version in known or Version(record.to_version) <= current:
            continue
        if len(known) > MOST_OTHERS:
            return
        known.add(record.to_version)
        path = path_to(site, journal, offers, Version(record.to_version))
        if path is not None:
            yield path


def _path(
    site: Site, current: Version, offers: tuple[Offer, ...], bad: frozenset[Version]
) -> tuple[UpgradePath | None, tuple[Barred, ...]]:
    """The path that the service takes, around what failed here, and what cannot be taken."""
    from ncen_updater.feed.upgrade_path import UpgradePath, choose_path

    barred: tuple[Barred, ...] = ()
    for allow_bad in (False, True):
        path = choose_path(
            current,
            offers,
            site=site.config.site.id,
            country=site.config.site.country,
            channel=site.config.site.channel,
            agent=site.agent_version,
            now=site.source.now(),
            bad=bad,
            allow_bad=allow_bad,
        )
        barred = kept_back(path.rejected)
        if isinstance(path, UpgradePath):
            return path, barred
    return None, barred


def kept_back(rejected: Iterable[Rejection]) -> tuple[Barred, ...]:
    """What the Secretariat keeps back: who may only look learns it from here."""
    from ncen_updater.feed.upgrade_path import RejectionReason

    told = {RejectionReason.HALTED, RejectionReason.WITHDRAWN, RejectionReason.WAVE}
    return tuple(
        Barred(one.offer.version, one.reason.value, why.reason if why else "", one.opens)
        for one in rejected
        if one.reason in told
        for why in [one.offer.withdrawn or one.offer.halted]
    )


def _standing(site: Site, journal: Journal, path: UpgradePath) -> tuple[str, ApprovalStatus | None]:
    """The digest of the plan, and where it stands; none while a slot of it is still to be built."""
    from ncen_updater.agent.engine.plan import make_plan
    from ncen_updater.common.progress import Silent

    current = site.slots.current()
    if current is None or not all(built(site, hop) for hop in path.hops):
        return "", None
    plan = make_plan(site, current, path, Silent())
    return plan.digest, standing_for(site, journal, plan.digest, path.target.version)


def built(site: Site, hop: Offer) -> bool:
    """Whether the slot of an offer stands, so that a plan of it needs no network."""
    if hop.release_version not in site.slots.versions():
        return False
    return site.slots.document(hop.release_version).archive.sha256 == hop.archive.sha256


def assess_site(path: Path) -> dict[str, object]:
    """Assess the site of a configuration file, and renew its dossiers.

    Raises:
        UpdaterError: If something cannot be read.
    """
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.engine.composition import build_site
    from ncen_updater.agent.reports.dossier.store import renew_dossiers
    from ncen_updater.agent.self_update.renewing import agent_on_offer

    site = build_site(load_config(path), path)
    found = assess(site, agent_on_offer(site, path))
    renew_dossiers(site, found.target, found.binding)
    return found.to_json()
