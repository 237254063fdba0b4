"""Looks at a site and says what recovery must know. Reads only."""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.databases.base import ChangeRef, Strategy
from ncen_updater.i18n import N_, Text
from ncen_updater.upgrade.context import Site, reference
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.model import Change, StepName, StepState
from ncen_updater.upgrade.recovery import Situation, SlotSeen

__all__ = ["ADOPTED", "contradiction", "last_committed", "look"]

ADOPTED = "adopted"

NO_CHANGE = "idle2222"  # a legal id that is never given


def _slot_seen(current: Version | None, change: Change) -> SlotSeen:
    if current == Version(change.from_version):
        return SlotSeen.OLD
    return SlotSeen.NEW if current == Version(change.to_version) else SlotSeen.OTHER


def look(site: Site, change: Change | None, *, by_person: bool) -> Situation:
    """Collect the facts of the open change, or of a site at rest.

    Raises:
        UpdaterError: If a fact cannot be had; nothing may be decided without it.
    """
    if change is None:
        idle = ChangeRef(NO_CHANGE, 0, Strategy(site.config.databases.strategy), "0")
        evidence = site.engine.evidence(idle)
        return Situation(None, fenced=evidence.fenced, missing=bool(evidence.missing))
    evidence = site.engine.evidence(reference(change))
    return Situation(
        state=change.state,
        committed=change.step_state(StepName.COMMIT) is StepState.DONE,
        fence=change.step_state(StepName.FENCE),
        cut_over=change.step_state(StepName.CUT_OVER),
        switch=change.step_state(StepName.SWITCH),
        swapped=evidence.swapped,
        fenced=evidence.fenced,
        missing=bool(evidence.missing),
        slot=_slot_seen(site.slots.current(), change),
        attempts=change.attempts,
        by_person=by_person,
        recorded=evidence.committed,
        later=evidence.later,
    )


def last_committed(journal: Journal) -> Change | None:
    """The change that brought what runs now; None on a site that was only adopted."""
    for change in journal.changes():
        if change.step_state(StepName.COMMIT) is StepState.DONE:
            return change
    return None


def contradiction(site: Site, journal: Journal) -> Text | None:
    """Say what code, databases and journal of a whole site disagree about; None if nothing.

    A journal from a backup is a good journal of another time: only the databases know.

    Raises:
        UpdaterError: If a fact cannot be had.
    """
    marker = site.engine.marker()
    current = site.slots.current()
    if marker is not None and current != Version(marker.release):
        return Text(
            N_("the code is of release {code}, the databases are of release {databases}"),
            {"code": current or "-", "databases": marker.release},
        )
    change = last_committed(journal)
    known = change.generation if change else _adopted_generation(journal)
    found = marker.generation if marker else 0
    if found > known:
        return Text(
            N_("the databases know of a later change than the journal, which is an old one")
        )
    if found < known:
        return Text(N_("the journal knows of a later change than the databases"))
    return None


def _adopted_generation(journal: Journal) -> int:
    adopted = [event for event in journal.events() if event.kind == ADOPTED]
    generation = adopted[-1].data.get("generation") if adopted else None
    return generation if isinstance(generation, int) else 0
