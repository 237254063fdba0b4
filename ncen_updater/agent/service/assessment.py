"""Assessment of the next upgrade and what it waits for, in a separate process.

It reads the last verified metadata, the slots, the journal and the live databases; it does not use
the network, and writes only the dossiers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.approvals.approval_status import ApprovalStatus, read_approval_status
from ncen_updater.agent.engine.approvals.approved_release import find_approved_release, find_path_to
from ncen_updater.agent.engine.pending_rollback import find_rolled_back_releases
from ncen_updater.agent.engine.prune import compute_next_prune
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import sum_predicted_range
from ncen_updater.agent.engine.rehearsal.rehearsal_store import (
    RehearsalState,
    RehearsalStore,
    serialize_rehearsal,
)
from ncen_updater.agent.engine.steps.outage import measure_database_space
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.automation import (
    AutomationInputs,
    AutomationMode,
    RehearsalStatus,
    ServiceAction,
    compute_retry_at,
)
from ncen_updater.agent.policy.upgrade_start import (
    mark_superseded,
    predict_start,
    predict_start_if_approved,
)
from ncen_updater.agent.policy.windows import compute_check_due
from ncen_updater.agent.reports.status import SiteStatus, require_part
from ncen_updater.agent.service.site_report import build_open_change
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord, SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, WithheldRelease
from ncen_updater.feed.errors import TrustError

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.feed.upgrade_path import OfferRejection, UpgradePath
    from ncen_updater.formats.release_document import Offer

logger = logging.getLogger(__name__)

#: Number of other releases that are assessed.
MAX_ALTERNATIVES = 3


def assess_upgrade(site: Site, offered_agent: str | None = None) -> Assessment:
    """Assess the next upgrade of a site.

    Args:
        site: The site.
        offered_agent: Available version of the agent, if any.

    Raises:
        UpdaterError: If data of the site cannot be read.
    """
    current = site.slots.read_current()
    try:
        view = site.release_source.load_last_view()
    except TrustError as error:
        # Nothing is installed from such metadata, but previous databases are still pruned, freeing
        # space.
        logger.warning("the offered releases cannot be verified: %s", error)
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
        disks = tuple(map(str, measure_database_space(site)))
        base = Assessment(
            event, str(current), agent_version=offered_agent, prune_at=prune_at, disks=disks
        )
        if view is None:
            return base
        newest, withheld = _choose_path(site, current, view.offers, frozenset(map(Version, bad)))
        approved = find_approved_release(site, journal, view.offers)
        path = approved.path or newest
        assessment = base if path is None else _assess_path(site, journal, base, path, bad)
        others = tuple(
            _assess_path(site, journal, Assessment(event, str(current)), other, bad)
            for other in _find_rehearsed_paths(
                site, journal, current, view.offers, assessment.target
            )
        )
    return replace(
        assessment,
        newest=newest.target.version if newest else None,
        alternatives=others,
        approved=approved.available,
        unavailable=approved.unavailable,
        withheld=withheld,
    )


def _assess_path(
    site: Site,
    journal: Journal,
    base: Assessment,
    path: UpgradePath,
    bad: Mapping[str, FailedReleaseRecord],
) -> Assessment:
    """Assess the upgrade to the end of a path."""
    failures = [bad[hop.version] for hop in path.hops if hop.version in bad]
    retry_times = [compute_retry_at(row.failures, row.last_at) for row in failures]
    plan, approval_status = _build_plan_status(site, journal, path)
    rolled_back = find_rolled_back_releases(journal) & {hop.version for hop in path.hops}
    return replace(
        base,
        target=path.target.version,
        before_target=tuple(hop.version for hop in path.hops[:-1]),
        slot_built=approval_status is not None,
        rehearsal_status=approval_status.rehearsal_status
        if approval_status
        else RehearsalStatus.MISSING,
        plan=plan,
        binding=approval_status.basis.compute_binding()
        if approval_status and approval_status.basis
        else "",
        basis=approval_status.basis.to_json()
        if approval_status and approval_status.basis
        else None,
        retry_at=max(retry_times, default=None),
        void_reasons=tuple(void.text for void in approval_status.void_reasons)
        if approval_status
        else (),
        was_rolled_back=bool(rolled_back),
    )


def _find_rehearsed_paths(
    site: Site, journal: Journal, current: Version, offers: tuple[Offer, ...], target: str | None
) -> Iterator[UpgradePath]:
    """Yield paths to other releases that were rehearsed here, the last rehearsed first."""
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
    """Return the path, avoiding releases marked bad if possible, and the withheld releases."""
    from ncen_updater.feed.upgrade_path import UpgradePath, choose_path

    withheld: tuple[WithheldRelease, ...] = ()
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
        withheld = list_withheld_releases(path.rejected)
        if isinstance(path, UpgradePath):
            return path, withheld
    return None, withheld


def list_withheld_releases(rejected: Iterable[OfferRejection]) -> tuple[WithheldRelease, ...]:
    """Return the releases that the Secretariat withholds, so that viewers see them as well."""
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
    """Return the digest of the plan and its approval status; None while a slot is not built."""
    from ncen_updater.agent.engine.plan import make_plan
    from ncen_updater.common.progress import SilentProgress

    current = site.slots.read_current()
    if current is None or not all(is_slot_built(site, hop) for hop in path.hops):
        return "", None
    plan = make_plan(site, current, path, SilentProgress())
    return plan.digest, read_approval_status(site, journal, plan.digest, path.target.version)


def is_slot_built(site: Site, hop: Offer) -> bool:
    """Return whether the slot of an offer is built, so that planning needs no network."""
    if hop.release_version not in site.slots.list_versions():
        return False
    return site.slots.read_document(hop.release_version).archive.sha256 == hop.archive.sha256


def assess_site(path: Path) -> dict[str, object]:
    """Assess the site of a configuration file and update its dossiers.

    Raises:
        UpdaterError: If data of the site cannot be read.
    """
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.engine.site_factory import build_site
    from ncen_updater.agent.reports.dossier.page import refresh_dossiers
    from ncen_updater.agent.self_update.agent_update import find_offered_agent

    site = build_site(load_config(path), path)
    assessment = assess_upgrade(site, find_offered_agent(site, path))
    refresh_dossiers(site, assessment.target, assessment.binding)
    return assessment.to_json()


def build_decision_inputs(
    status: SiteStatus, service_state: ServiceState, settings: ServiceSettings, now: datetime
) -> AutomationInputs:
    """Return the service's decision inputs, except the lock holder and the trial of an agent.

    Args:
        status: The parts ``journal`` and ``rehearsals`` of the site.
        service_state: The service's state with the last assessment.
        settings: The table ``[service]``.
        now: The current time.

    Raises:
        UpdaterError: If a part could not be read.
    """
    journal = require_part(status.journal)
    assessment = service_state.assessment or Assessment(last_event=0)
    if ServiceAction.ASSESS in service_state.failures:
        assessment = Assessment(
            last_event=0
        )  # do not start anything based on an outdated assessment
    change, schedule = journal.open_change, journal.find_schedule(assessment.binding)
    hold = journal.longest_hold
    return AutomationInputs(
        now=now,
        mode=AutomationMode(settings.mode),
        zone=settings.get_timezone(),
        next_check=compute_check_due(
            now,
            service_state.next_check,
            None
            if ServiceAction.CHECK_FEED in service_state.failures
            else service_state.checked_at,
            timedelta(hours=settings.check_interval_hours),
            status.paths.site_id,
            release_pending=assessment.target is not None,
        ),
        upgrade_windows=tuple(item.to_window() for item in settings.windows),
        download_windows=tuple(item.to_window() for item in settings.download_windows),
        open_change=status.is_work_unfinished,
        stuck=change is not None and change.state is ChangeState.STUCK,
        job_waiting=journal.waiting_job is not None,
        rollback_requested=journal.rollback_job is not None,
        hold_reason=hold.reason if hold else None,
        hold_until=hold.until if hold else None,
        rollback_pending=journal.pending_rollback is not None
        and journal.pending_rollback.is_automatic,
        was_rolled_back=assessment.was_rolled_back,
        agent_offered=assessment.agent_version if settings.self_update else None,
        target=assessment.target,
        retry_at=assessment.retry_at,
        slot_built=assessment.slot_built,
        rehearsal_status=assessment.rehearsal_status
        if settings.rehearse
        else RehearsalStatus.NOT_REQUIRED,
        missing_approvals=journal.count_approvals(
            assessment.binding, settings.required_approvals
        ).missing,
        not_before=schedule.not_before if schedule else None,
        prune_at=assessment.prune_at,
        failures=service_state.failures,
    )


#: Parts of the status that :func:`build_next_upgrade` needs.
NEXT_UPGRADE_PARTS = frozenset({"journal", "soak_s", "rehearsals", "service_state"})


def build_next_upgrade(
    status: SiteStatus,
    settings: ServiceSettings,
    uid: int,
    *,
    release: Assessment | None = None,
    service_running: bool = True,
) -> dict[str, object]:
    """Return the next upgrade and the reason why it waits. Pure.

    Args:
        status: The parts :data:`NEXT_UPGRADE_PARTS` of the site.
        settings: The table ``[service]``.
        uid: UID of the caller.
        release: Assessment of the given release; by default that of the next one.
        service_running: Whether the service runs; nothing starts automatically without it.

    Raises:
        UpdaterError: If a part could not be read.
    """
    latest, journal = status.next_upgrade, require_part(status.journal)
    assessment = release or latest or Assessment(last_event=0)
    status = replace(
        status, service_state=replace(require_part(status.service_state), assessment=assessment)
    )
    facts = build_decision_inputs(status, require_part(status.service_state), settings, status.now)
    approved = latest.approved if latest else ()
    count = journal.count_approvals(assessment.binding, settings.required_approvals)
    start = mark_superseded(
        predict_start(facts, service_running=service_running), assessment.target, approved
    )
    start_if_approved = predict_start_if_approved(
        facts, start, counts=count.would_count(uid), serves=service_running
    )
    schedule = journal.find_schedule(assessment.binding) if assessment.binding else None
    rehearsal = status.rehearsal
    downtime = sum_predicted_range(rehearsal)
    return {
        "current": assessment.current,
        "target": assessment.target,
        "hops": list(assessment.hops),
        "rehearsal_status": assessment.rehearsal_status.value if latest else None,
        "plan": assessment.plan or str((assessment.basis or {}).get("plan", "")) or None,
        "binding": assessment.binding or None,
        "retry_at": assessment.retry_at,
        "void_reasons": list(assessment.void_reasons),
        "approvals": [{"actor": a.actor, "uid": a.uid, "at": a.at} for a in count.approvals],
        "required_approvals": count.needed,
        "missing": count.missing,
        "scheduled": schedule and {"not_before": schedule.not_before, "actor": schedule.actor},
        "rehearsal": rehearsal and serialize_rehearsal(rehearsal),
        "downtime_s": downtime
        and {"low": downtime.low, "likely": downtime.likely, "high": downtime.high},
        "starts_at": start.to_json(),
        "starts_at_if_approved": start_if_approved.to_json(),
        "newest": latest.newest if latest and latest.newest != assessment.target else None,
        "also_approved": [version for version in approved if version != assessment.target],
        "approved_but_unavailable": list(latest.unavailable if latest else ()),
        "consumed_approvals": list(journal.consumed_approvals),
        "open_change": build_open_change(status),
    }
