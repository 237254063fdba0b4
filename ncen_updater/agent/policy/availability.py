"""Rule for whether users can work, from maintenance page, processes and health address. Pure.

Nothing is guessed: what was not asked, or gave no clear answer, is said to be unknown.

* The maintenance page is on: users see it, whatever runs behind it.
* The application is healthy: users can work, whatever state its unit has.
* None of its processes runs, and nothing answers: it is not running.
* It answers with an error, or runs and does not answer: it runs, and does not work. A healthy
  application whose databases are on a full disk does not work either.
* Nothing could be queried: unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.policy.restart_policy import ProcessState, stopped_in_order
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.json_records import JsonRecord


class AvailabilityState(StrEnum):
    """What users meet."""

    AVAILABLE = "available"
    MAINTENANCE = "maintenance"
    NOT_RUNNING = "not-running"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class HealthAnswer(StrEnum):
    """What came of one request to the health address."""

    HEALTHY = "healthy"
    OTHER_VERSION = "other-version"
    CANNOT_WRITE = "cannot-write"
    HTTP_ERROR = "http-error"
    UNREADABLE = "unreadable"
    DISK_FULL = "disk-full"
    NO_ANSWER = "no-answer"
    NOT_ASKED = "not-asked"


@dataclass(frozen=True)
class HealthProbe:
    """What the health address answered; ``detail`` is the version, the status, or why not."""

    answer: HealthAnswer
    detail: LazyText | str = ""


@dataclass(frozen=True)
class MaintenanceProbe:
    """State of the maintenance page, and since when it is on, where that is known."""

    on: bool
    since: datetime | None = None


@dataclass(frozen=True)
class Availability(JsonRecord):
    """Whether users can work.

    Attributes:
        state: What they meet.
        since: Since when the maintenance page is on, the application runs or does not; None where
            nobody knows that.
        process_runs: Whether the part that is asked for its health runs; None where that was not
            found out.
        answer: What the health address answered.
        detail: The version that it said, its status, or why it did not answer.
        missing_parts: Further parts that do not run although they should.
        unknown_because: Why something could not be found out; empty where all was.
        stopped_on_request: Whether somebody stopped or disabled what does not run; None where that
            is not known.
    """

    state: AvailabilityState
    since: datetime | None = None
    process_runs: bool | None = None
    answer: HealthAnswer = HealthAnswer.NOT_ASKED
    detail: LazyText | str = ""
    missing_parts: tuple[str, ...] = field(default_factory=tuple)
    unknown_because: LazyText | str = ""
    stopped_on_request: bool | None = None


#: Answers of an application that is there.
ANSWERS_FROM_APPLICATION = frozenset(HealthAnswer) - {
    HealthAnswer.NO_ANSWER,
    HealthAnswer.NOT_ASKED,
}


def judge_availability(
    maintenance: MaintenanceProbe | LazyText,
    process: ProcessState | LazyText,
    health: HealthProbe,
    missing: tuple[str, ...] = (),
) -> Availability:
    """Say whether users can work. Pure.

    Args:
        maintenance: The maintenance page, or why it could not be seen.
        process: The part that is asked for its health, or why it could not be seen.
        health: What its address answered.
        missing: Further parts that do not run.
    """
    runs = process.runs if isinstance(process, ProcessState) else None
    since = process.since if isinstance(process, ProcessState) else None
    reasons: list[LazyText | str] = [
        one for one in (maintenance, process) if isinstance(one, LazyText)
    ]
    if health.answer is HealthAnswer.NOT_ASKED:
        reasons.append(health.detail)
    state = AvailabilityState.UNKNOWN
    if isinstance(maintenance, MaintenanceProbe):
        if maintenance.on:
            state, since = AvailabilityState.MAINTENANCE, maintenance.since
        elif health.answer in (HealthAnswer.HEALTHY, HealthAnswer.OTHER_VERSION):
            state, since = AvailabilityState.AVAILABLE, since if runs else None
        elif runs is False and health.answer not in ANSWERS_FROM_APPLICATION:
            state = AvailabilityState.NOT_RUNNING
        elif health.answer in ANSWERS_FROM_APPLICATION or (
            runs and health.answer is HealthAnswer.NO_ANSWER
        ):
            state, since = AvailabilityState.UNHEALTHY, None
        elif health.answer is HealthAnswer.NO_ANSWER:
            reasons.append(health.detail)
    if state is AvailabilityState.UNKNOWN:
        since = None
    return Availability(
        state, since, runs, health.answer, health.detail, missing,
        _join_reasons(reasons), _was_stopped_on_request(process),
    )  # fmt: skip


def _join_reasons(reasons: Sequence[LazyText | str]) -> LazyText | str:
    """Return several reasons as one text, each once; empty where there is none."""
    once = {str(one): one for one in reasons}
    return join_texts(once.values()) if once else ""


def on_full_disk(seen: Availability, place: Path | None) -> Availability:
    """Return it for a site where the databases have no room: what answers well saves nothing. Pure.

    Args:
        seen: What was seen.
        place: A full disk of the databases, if there is one.
    """
    if place is None or seen.state is not AvailabilityState.AVAILABLE:
        return seen
    state, answer = AvailabilityState.UNHEALTHY, HealthAnswer.DISK_FULL
    return replace(seen, state=state, answer=answer, detail=str(place))


def _was_stopped_on_request(seen: ProcessState | LazyText) -> bool | None:
    """Tell whether somebody stopped it, as far as the system tells."""
    if isinstance(seen, LazyText) or seen.runs or seen.enabled is None:
        return None
    return not seen.enabled or stopped_in_order([seen])
