"""Figures of a finished change: for people, for ``--json`` and for the next forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ncen_updater.agent.model.change import Change, StepName, StepState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.storage.journal.journal import Journal


@dataclass(frozen=True)
class ChangeOutcome:
    """One change and its figures.

    Attributes:
        change: The change.
        downtime_s: Downtime in seconds; None if there was none, or it is unknown.
        step_s: Duration of each completed step, in seconds.
        facts: Facts recorded by the steps.
    """

    change: Change
    downtime_s: float | None
    step_s: Mapping[str, float]
    facts: ChangeFacts


def measure_downtime(change: Change, facts: ChangeFacts) -> float | None:
    """Return the seconds from the maintenance page's appearance until its removal.

    The recorded measurement is used if the machine was not restarted in between; otherwise the
    times of the records. None if there was no downtime or it has not ended, or if the clock was set
    back.

    Args:
        change: The change.
        facts: Facts recorded by its steps.
    """
    if facts.downtime_s is not None:
        return float(facts.downtime_s)
    page_on = change.steps.get(StepName.MAINTENANCE_ON)
    if page_on is None:
        return None
    page_off = change.steps.get(StepName.MAINTENANCE_OFF)
    ended_at = (
        page_on.ended_at if page_on.state is StepState.UNDONE else page_off and page_off.ended_at
    )
    return measure_seconds(page_on.started_at, ended_at) if ended_at else None


def measure_seconds(start: datetime, end: datetime) -> float | None:
    """Return the seconds from one record to a later one; None if the clock was set back."""
    seconds = (end - start).total_seconds()
    return seconds if seconds >= 0 else None


def serialize_change(change: Change, facts: ChangeFacts = NO_FACTS) -> dict[str, object]:
    """Return a change and some of its facts for ``--json``."""
    return {
        "id": change.id,
        "kind": change.kind.value,
        "mode": change.mode.value,
        "state": change.state.value,
        "product": change.product,
        "from": change.from_version,
        "to": change.to_version,
        "created_at": change.created_at,
        "ended_at": change.ended_at,
        "downtime_s": measure_downtime(change, facts),
        "error_code": change.error_code,
        "attempts": change.failed_recoveries,
        "expand_started": facts.expand_started is not None,
        "contract_abandoned": bool(facts.contract_abandoned),
        "ended_sessions": list(facts.ended_sessions or ()),
        "replaced": list(facts.replaced or ()),
    }


def read_outcome(journal: Journal, change_id: str) -> ChangeOutcome:
    """Return a change with its figures, read from the journal."""
    change = journal.read_change(change_id)
    facts = journal.read_facts(change_id)
    return ChangeOutcome(
        change=change,
        downtime_s=measure_downtime(change, facts),
        step_s={
            name.value: round(seconds, 3)
            for name, record in change.steps.items()
            if record.ended_at is not None
            and record.state is StepState.DONE
            and (seconds := measure_seconds(record.started_at, record.ended_at)) is not None
        },
        facts=facts,
    )
