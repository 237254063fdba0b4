"""Prune previous and quarantined databases and old releases past their retention.

A set of previous databases is recorded as dropped before its first database is dropped, since a
rollback must never use an incomplete set. The next run finds the remainder of an interrupted drop
by its name and drops it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from packaging.version import Version

from ncen_updater.agent.engine import file_snapshots as site_files
from ncen_updater.agent.engine.change_guards import find_last_upgrade
from ncen_updater.agent.engine.elapsed_time import read_retention_ages
from ncen_updater.agent.engine.raw_errors import find_next_expiry, prune_raw_errors
from ncen_updater.agent.engine.site import Site, SystemClock
from ncen_updater.agent.policy.retention import (
    PreviousDatabases,
    ProtectedItems,
    PrunableItems,
    RetentionRule,
    select_prunable,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.errors import TrustError

logger = logging.getLogger(__name__)

DATABASES_QUARANTINED, QUARANTINE_DROPPED = "databases-retained", "retained-databases-removed"
PRUNE_STARTED, PRUNE_FINISHED = "prune-started", "prune-finished"


def apply_retention(
    site: Site, journal: Journal, *, origin: Version | None, protected: ProtectedItems
) -> PrunableItems:
    """Apply the retention rule of the site to slots and previous databases. Reads only.

    Args:
        site: The site.
        journal: Its journal.
        origin: The previously installed version, whose slot is retained first.
        protected: Items that are still needed.
    """
    retention, now = site.config.retention, site.clock.now()
    ages = read_retention_ages(journal, site.clock)
    releases = {change.id: Version(change.from_version) for change in journal.list_changes()}
    return select_prunable(
        slots=site.slots.list_versions(),
        current=site.slots.read_current(),
        previous_slot=origin,
        previous=[
            PreviousDatabases(
                previous.change, now - ages[previous.change], releases.get(previous.change)
            )
            for previous in SiteHistory(journal).list_previous_databases()
            if previous.dropped_at is None
        ],
        protected=protected,
        rule=RetentionRule(retention.previous_days, retention.slots),
        now=now,
    )


def find_prunable(site: Site, journal: Journal) -> PrunableItems:
    """Find everything that can be pruned while no change is open. Reads only.

    The slot of the previous version and slots built in advance for offered releases are retained.
    If the offered releases are unknown or cannot be verified (for example on a full disk), every
    newer slot is retained, and the rest may still free space.

    Raises:
        UpdaterError: If the databases cannot be inspected.
    """
    current = site.slots.read_current()
    if current is None:
        return PrunableItems()
    upgrade = find_last_upgrade(journal.list_changes(), current)
    origin = Version(upgrade.from_version) if upgrade else None
    try:
        view = site.release_source.load_last_view()
    except TrustError as error:
        logger.warning("the offered releases cannot be verified: %s", error)
        view = None
    if view is None:
        offered = set(site.slots.list_versions())
    else:
        offered = {offer.release_version for offer in view.offers}
    needed = {version for version in offered if version > current}
    prunable = apply_retention(
        site,
        journal,
        origin=origin,
        protected=ProtectedItems(slots=frozenset(needed | ({origin} if origin else set()))),
    )
    return PrunableItems(
        prunable.slots, tuple(sorted({*prunable.changes, *find_interrupted_drops(site, journal)}))
    )


def find_interrupted_drops(site: Site, journal: Journal) -> set[str]:
    """Find changes whose databases are recorded as dropped but partly exist. Reads only.

    Databases of every role count: a half-removed SQLite set looks like an incomplete candidate.
    """
    dropped = _list_dropped_changes(SiteHistory(journal))
    databases = {
        change for change, _, _ in site.database_engine.list_leftovers() if change in dropped
    }
    return databases | site_files.find_remaining_snapshots(journal, dropped)


def drop_previous_databases(
    site: Site, journal: Journal, changes: Iterable[str], progress: ProgressListener
) -> None:
    """Drop the previous databases of these changes; each set is recorded as dropped before that.

    Args:
        site: The site.
        journal: The journal, open for writing, under the lock of changes.
        changes: Their ids; also those whose drop was interrupted.
        progress: Receives progress reports.
    """
    history = SiteHistory(journal)
    dropped = _list_dropped_changes(history)
    for change in changes:
        progress.report(LazyText(N_("removing the previous databases of change {change}"),
                           {"change": change}))  # fmt: skip
        if change not in dropped:
            history.mark_previous_dropped(change)
        site_files.prune_snapshots(journal, change)
        site.database_engine.drop_previous(change)
        record_quarantined(site, journal, change)


def _list_dropped_changes(history: SiteHistory) -> set[str]:
    return {
        previous.change
        for previous in history.list_previous_databases()
        if previous.dropped_at is not None
    }


def prune(site: Site, journal: Journal, items: PrunableItems, progress: ProgressListener) -> None:
    """Drop everything prunable, one item after the other; can be repeated after a crash.

    Args:
        site: The site.
        journal: The journal, open for writing, under the lock of changes.
        items: Result of :func:`find_prunable`.
        progress: Receives progress reports.

    Raises:
        UpdaterError: If an item cannot be dropped; the next run drops the rest.
    """
    prune_raw_errors(journal.path.parent, site.clock.now().timestamp())
    if not items:
        if _was_interrupted(journal):
            # The interrupted run had dropped its last item.
            journal.record_event(PRUNE_FINISHED, changes=[], slots=[])
        return
    names = [str(version) for version in items.slots]
    journal.record_event(PRUNE_STARTED, changes=list(items.changes), slots=names)
    drop_previous_databases(site, journal, items.changes, progress)
    for version in items.slots:
        progress.report(LazyText(N_("removing release {version}"), {"version": version}))
        site.slots.remove_slot(version)
    if site.overlay is not None:
        site.overlay.prune()
    journal.record_event(PRUNE_FINISHED, changes=list(items.changes), slots=names)


def compute_next_prune(
    journal: Journal, clock: SystemClock, previous_days: float
) -> datetime | None:
    """Compute when the next prune is due; None if nothing will expire.

    Considers the previous databases in the journal and the raw errors beside it. An interrupted
    prune is due at once.
    """
    if _was_interrupted(journal):
        return clock.now()
    ages = read_retention_ages(journal, clock)
    previous = [
        ages[item.change]
        for item in SiteHistory(journal).list_previous_databases()
        if not item.dropped_at
    ]
    databases_due = (
        clock.now() + timedelta(days=previous_days) - max(previous) if previous else None
    )
    return min(
        (at for at in (databases_due, find_next_expiry(journal.path.parent)) if at), default=None
    )


def _was_interrupted(journal: Journal) -> bool:
    last = journal.query(
        f"SELECT kind FROM events WHERE kind IN ('{PRUNE_STARTED}', '{PRUNE_FINISHED}')"  # noqa: S608 - ours
        " ORDER BY number DESC LIMIT 1"
    )
    return bool(last) and last[0]["kind"] == PRUNE_STARTED


def record_quarantined(site: Site, journal: Journal, change_id: str) -> None:
    """Record databases put in quarantine by a revert; can be repeated after a crash."""
    reported = _read_quarantine_paths(journal, change_id)
    for finding in site.database_engine.list_quarantined():
        path = finding.figures.get("path")
        if finding.figures.get("change") == change_id and path not in reported:
            journal.record_event(DATABASES_QUARANTINED, change_id, path=path)


def add_quarantine_remedy(journal: Journal, change_id: str, remedy: LazyText) -> LazyText:
    """Return the remedy, preceded by the paths of databases that a revert put in quarantine."""
    paths = _read_quarantine_paths(journal, change_id)
    if not paths:
        return remedy
    return LazyText(
        N_("Databases with unmerged records retained: {paths}. {remedy}"),
        {"paths": ", ".join(paths), "remedy": remedy},
    )


def drop_quarantined(
    site: Site, journal: Journal, change_id: str, progress: ProgressListener
) -> tuple[str, ...]:
    """Drop the databases that a revert of a change put in quarantine; return their paths.

    Args:
        site: The site.
        journal: The journal, open for writing, under the lock of changes.
        change_id: The change.
        progress: Receives progress reports.
    """
    paths = list_quarantined(site, change_id)
    for path in paths:
        progress.report(LazyText(N_("removing {path}"), {"path": path}))
    # Even if none is listed: an interrupted drop may have left a part of one.
    site.database_engine.drop_quarantined(change_id)
    for path in paths:
        journal.record_event(QUARANTINE_DROPPED, change_id, path=path)
    return paths


def list_quarantined(site: Site, change_id: str) -> tuple[str, ...]:
    """List the databases that a revert of a change put in quarantine. Reads only."""
    return tuple(
        str(finding.figures["path"])
        for finding in site.database_engine.list_quarantined()
        if finding.figures.get("change") == change_id
    )


def _read_quarantine_paths(journal: Journal, change_id: str) -> list[str]:
    return [
        str(event.get("path"))
        for event in journal.list_events(change=change_id)
        if event.kind == DATABASES_QUARANTINED
    ]
