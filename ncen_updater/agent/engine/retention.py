"""Dropping what an upgrade kept, once its days are over: in a change's last step, or without one.

Previous databases are marked as gone before the first of them is dropped: a way back must never
lean on a set of which a part is missing. What a crash leaves between the two is found by its name
and dropped by the next collection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from packaging.version import Version

from ncen_updater.agent.engine import site_files
from ncen_updater.agent.engine.aside import note_kept
from ncen_updater.agent.engine.elapsed import kept_for
from ncen_updater.agent.engine.full_words import forget_old, forgotten_at
from ncen_updater.agent.engine.last_upgrade import last_upgrade
from ncen_updater.agent.engine.site import Clock, Site
from ncen_updater.agent.policy.collection import (
    KeepRule,
    NamedByJournal,
    PreviousDatabases,
    Retention,
    what_to_collect,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress
from ncen_updater.feed.errors import TrustError

logger = logging.getLogger(__name__)

BEGUN, ENDED = "collect-begun", "collect-ended"


def may_go(
    site: Site, journal: Journal, *, came_from: Version | None, named: NamedByJournal
) -> Retention:
    """Decide by the site's rule what of the slots and previous databases goes. Reads only.

    Args:
        site: The site.
        journal: Its journal.
        came_from: The slot that was in use before.
        named: What is still needed.
    """
    keep, now = site.config.keep, site.clock.now()
    ages = kept_for(journal, site.clock)
    releases = {change.id: Version(change.from_version) for change in journal.changes()}
    return what_to_collect(
        slots=site.slots.versions(),
        current=site.slots.current(),
        came_from=came_from,
        previous=[
            PreviousDatabases(kept.change, now - ages[kept.change], releases.get(kept.change))
            for kept in SiteHistory(journal).previous_sets()
            if kept.dropped_at is None
        ],
        named=named,
        keep=KeepRule(keep.previous_days, keep.slots),
        now=now,
    )


def collectable(site: Site, journal: Journal) -> Retention:
    """What may go while no change is open. Reads only.

    What was built ahead for a release on offer stays, and so does the slot that the site came from.
    Where it is not known or cannot be proved what is on offer, as on a full disk, every newer slot
    stays: the rest may be what makes room again.

    Raises:
        UpdaterError: If the databases cannot be looked at.
    """
    current = site.slots.current()
    if current is None:
        return Retention()
    upgrade = last_upgrade(journal.changes(), current)
    came_from = Version(upgrade.from_version) if upgrade else None
    try:
        view = site.source.last_view()
    except TrustError as error:
        logger.warning("what is on offer cannot be proved: %s", error)
        view = None
    if view is None:
        ahead = set(site.slots.versions())
    else:
        ahead = {offer.release_version for offer in view.offers}
    needed = {version for version in ahead if version > current}
    decided = may_go(
        site,
        journal,
        came_from=came_from,
        named=NamedByJournal(slots=frozenset(needed | ({came_from} if came_from else set()))),
    )
    return Retention(
        decided.slots, tuple(sorted({*decided.changes, *interrupted_sets(site, journal)}))
    )


def interrupted_sets(site: Site, journal: Journal) -> set[str]:
    """Changes of which a part of the databases is there that are marked as gone. Reads only.

    In whatever role: a SQLite set that is half removed looks like one that was never finished.
    """
    gone = _marked(SiteHistory(journal))
    databases = {change for change, _, _ in site.engine.leftovers() if change in gone}
    return databases | site_files.still_kept(journal, gone)


def drop_sets(site: Site, journal: Journal, changes: Iterable[str], progress: Progress) -> None:
    """Drop what was live before these changes, each set marked as gone before its first database.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        changes: Which; those that a crash left half dropped as well.
        progress: Told what is being done.
    """
    memory = SiteHistory(journal)
    gone = _marked(memory)
    for change in changes:
        progress.tell(Text(N_("dropping the databases from before change {change}"),
                           {"change": change}))  # fmt: skip
        if change not in gone:
            memory.previous_dropped(change)
        site_files.drop(journal, change)
        site.engine.drop_previous(change)
        note_kept(site, journal, change)


def _marked(memory: SiteHistory) -> set[str]:
    return {kept.change for kept in memory.previous_sets() if kept.dropped_at is not None}


def collect(site: Site, journal: Journal, what: Retention, progress: Progress) -> None:
    """Drop what may go, one thing after the other; may be repeated after a crash at any instant.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        what: What :func:`collectable` said.
        progress: Told what is being done.

    Raises:
        UpdaterError: If something cannot be dropped; the rest goes at the next collection.
    """
    forget_old(journal.path.parent, site.clock.now().timestamp())
    if not what:
        if _torn(journal):
            journal.note(ENDED, changes=[], slots=[])  # it had dropped its last before it died
        return
    names = [str(version) for version in what.slots]
    journal.note(BEGUN, changes=list(what.changes), slots=names)
    drop_sets(site, journal, what.changes, progress)
    for version in what.slots:
        progress.tell(Text(N_("removing the slot of {version}"), {"version": version}))
        site.slots.remove(version)
    if site.overlay is not None:
        site.overlay.collect()
    journal.note(ENDED, changes=list(what.changes), slots=names)


def due_at(journal: Journal, clock: Clock, previous_days: float) -> datetime | None:
    """When the next collection is due; None where nothing is kept.

    Looks at the journal, and at the dates of what was said in full, beside it.

    A collection that was torn is due at once.
    """
    if _torn(journal):
        return clock.now()
    ages = kept_for(journal, clock)
    kept = [
        ages[item.change] for item in SiteHistory(journal).previous_sets() if not item.dropped_at
    ]
    sets = clock.now() + timedelta(days=previous_days) - max(kept) if kept else None
    return min((at for at in (sets, forgotten_at(journal.path.parent)) if at), default=None)


def _torn(journal: Journal) -> bool:
    last = journal.rows(
        f"SELECT kind FROM events WHERE kind IN ('{BEGUN}', '{ENDED}')"  # noqa: S608 - ours
        " ORDER BY number DESC LIMIT 1"
    )
    return bool(last) and last[0]["kind"] == BEGUN
