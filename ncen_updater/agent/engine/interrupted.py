"""Copies that were begun and never finished, from the journal: they may have left something."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.adapters.databases.base import CopyPlan
from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.storage.journal.journal import Journal

MAX_CHANGES = 20


def list_interrupted_copies(journal: Journal) -> Iterator[CopyPlan]:
    """Yield the plans of recent changes that are over and never finished their copy, newest first.

    Args:
        journal: Open for reading.
    """
    for change in journal.list_changes(MAX_CHANGES):
        plan = journal.read_facts(change.id).copy_plan
        if change.state.is_open or plan is None:
            continue
        done = any(
            event.kind == f"step-{StepState.DONE}" and event.get("step") == StepName.COPY
            for event in journal.list_events(change=change.id)
        )
        if not done:
            yield CopyPlan(plan)
