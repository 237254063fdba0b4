"""Duration of each part of a change, read from the events of the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.storage.journal.rows import JournalEvent


@dataclass
class Timeline:
    """Seconds of each step on the way there and during the rollback.

    What lies between two steps (deciding, writing the journal) belongs to the later one, so that
    the steps add up to the whole.

    Attributes:
        there: By step, from the end of the step before to its own end.
        back: Likewise for its undo.
    """

    there: dict[str, float] = field(default_factory=dict)
    back: dict[str, float] = field(default_factory=dict)

    def sum(self, names: Iterable[StepName]) -> float:
        """Seconds of some steps on the way there."""
        return sum(self.there.get(name, 0.0) for name in names)

    def sum_back(self, names: Iterable[StepName]) -> float:
        """Seconds of some steps during the rollback."""
        return sum(self.back.get(name, 0.0) for name in names)


def timeline(events: Sequence[JournalEvent], change: str) -> Timeline:
    """Read the time line of one change."""
    result = Timeline()
    before: datetime | None = None
    for event in events:
        if event.change != change:
            continue
        ended = event.kind in (
            "committed",
            f"step-{StepState.DONE}",
            f"step-{StepState.UNDONE}",
            "step-failed",
        )
        name = str(event.data.get("step", StepName.COMMIT))
        if ended and before is not None:
            seconds = (event.at - before).total_seconds()
            part = result.back if event.kind == f"step-{StepState.UNDONE}" else result.there
            part[name] = part.get(name, 0.0) + seconds
        if ended or before is None:
            before = event.at
    return result
