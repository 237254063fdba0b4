"""What came of a change, in figures: for people, for ``--json`` and for the next prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.model import Change, StepName, StepState

__all__ = ["Outcome", "outcome_of", "stop_seconds"]


@dataclass(frozen=True)
class Outcome:
    """One change and its figures.

    Attributes:
        stop_s: Seconds for which officers were kept out; None if they were not.
        step_s: Seconds of each step that ended.
        facts: What the steps kept.
    """

    change: Change
    stop_s: float | None
    step_s: Mapping[str, float]
    facts: Mapping[str, object]


def stop_seconds(change: Change) -> float | None:
    """Seconds from the closing of the door until it opened again, on either way."""
    close = change.steps.get(StepName.CLOSE)
    if close is None:
        return None
    opened = change.steps.get(StepName.OPEN)
    ended = close.ended_at if close.state is StepState.UNDONE else opened and opened.ended_at
    return (ended - close.started_at).total_seconds() if ended else None


def outcome_of(journal: Journal, change_id: str) -> Outcome:
    """Read a change with its figures from the journal."""
    change = journal.change(change_id)
    return Outcome(
        change=change,
        stop_s=stop_seconds(change),
        step_s={
            name.value: round((record.ended_at - record.started_at).total_seconds(), 3)
            for name, record in change.steps.items()
            if record.ended_at is not None and record.state is StepState.DONE
        },
        facts=journal.facts(change_id),
    )
