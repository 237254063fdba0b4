"""Databases that were kept when a change went back, for what somebody may have written to them."""

from __future__ import annotations

from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress

KEPT, DROPPED = "databases-kept", "databases-kept-dropped"


def note_kept(site: Site, journal: Journal, change_id: str) -> None:
    """Let the history tell what going back kept; again after a crash, but not twice."""
    told = _places(journal, change_id)
    for finding in site.engine.set_aside():
        path = finding.figures.get("path")
        if finding.figures.get("change") == change_id and path not in told:
            journal.note(KEPT, change_id, path=path)


def kept_remedy(journal: Journal, change_id: str, remedy: Text) -> Text:
    """Return what to do, and before it what was kept of a change that went back."""
    places = _places(journal, change_id)
    if not places:
        return remedy
    return Text(
        N_(
            "Records may have been entered into what was live until then, so it is kept:"
            " {places}. 'ncen-updater doctor' says how to look at it. {remedy}"
        ),
        {"places": ", ".join(places), "remedy": remedy},
    )


def drop_kept(site: Site, journal: Journal, change_id: str, progress: Progress) -> tuple[str, ...]:
    """Drop for good what going back kept of a change; return where it was.

    Args:
        site: The site.
        journal: Open for writing, under the lock of changes.
        change_id: The change.
        progress: Told what is being done.
    """
    places = kept_places(site, change_id)
    for path in places:
        progress.tell(Text(N_("dropping {path}"), {"path": path}))
    # Also where none is left by its name: a drop that was torn may have left a part of it.
    site.engine.drop_set_aside(change_id)
    for path in places:
        journal.note(DROPPED, change_id, path=path)
    return places


def kept_places(site: Site, change_id: str) -> tuple[str, ...]:
    """Where is what going back kept of a change. Reads only."""
    return tuple(
        str(finding.figures["path"])
        for finding in site.engine.set_aside()
        if finding.figures.get("change") == change_id
    )


def _places(journal: Journal, change_id: str) -> list[str]:
    return [
        str(event.get("path")) for event in journal.events(change=change_id) if event.kind == KEPT
    ]
