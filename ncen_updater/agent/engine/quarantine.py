"""Databases that were kept when a change went back, for what somebody may have written to them."""

from __future__ import annotations

from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener

DATABASES_QUARANTINED, QUARANTINE_DROPPED = "databases-kept", "databases-kept-dropped"


def record_quarantined(site: Site, journal: Journal, change_id: str) -> None:
    """Let the history tell what a rollback kept; again after a crash, but not twice."""
    reported = _read_quarantine_paths(journal, change_id)
    for finding in site.database_engine.list_quarantined():
        path = finding.figures.get("path")
        if finding.figures.get("change") == change_id and path not in reported:
            journal.record_event(DATABASES_QUARANTINED, change_id, path=path)


def add_quarantine_remedy(journal: Journal, change_id: str, remedy: LazyText) -> LazyText:
    """Return what to do, and before it what was kept of a change that went back."""
    places = _read_quarantine_paths(journal, change_id)
    if not places:
        return remedy
    return LazyText(
        N_("Databases with unmerged records retained: {places}. {remedy}"),
        {"places": ", ".join(places), "remedy": remedy},
    )


def drop_quarantined(
    site: Site, journal: Journal, change_id: str, progress: ProgressListener
) -> tuple[str, ...]:
    """Drop for good what a rollback kept of a change; return where it was.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        change_id: The change.
        progress: Told what is being done.
    """
    places = list_quarantined(site, change_id)
    for path in places:
        progress.report(LazyText(N_("removing {path}"), {"path": path}))
    # Also where none is left by its name: a drop that was interrupted may have left a part of it.
    site.database_engine.drop_quarantined(change_id)
    for path in places:
        journal.record_event(QUARANTINE_DROPPED, change_id, path=path)
    return places


def list_quarantined(site: Site, change_id: str) -> tuple[str, ...]:
    """Where is what a rollback kept of a change. Reads only."""
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
