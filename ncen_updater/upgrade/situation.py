"""Looks at a site and says what recovery must know. Reads only."""

from __future__ import annotations

from packaging.version import Version

from ncen_updater.databases.base import ChangeRef, Strategy
from ncen_updater.upgrade.context import Site, reference
from ncen_updater.upgrade.model import Change, StepName, StepState
from ncen_updater.upgrade.recovery import Situation, SlotSeen

__all__ = ["look"]

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
    )
