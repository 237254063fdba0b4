"""Determine whether users can work, from maintenance page, processes and health check. Pure.

What was not checked, or gave no clear answer, is reported as unknown. The rules, in order:

* The maintenance page is on: users see it, whatever the application does.
* The application is healthy: users can work, whatever state its unit has.
* No process runs and nothing answers: it is not running.
* It answers with an error, or runs without answering: it is unhealthy. An application whose
  databases are on a full disk is unhealthy, too.
* No check was possible: unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.policy.restart_policy import ProcessState, was_stopped_on_request
from ncen_updater.common.i18n import LazyText, join_texts
from ncen_updater.common.json_records import JsonRecord


class AvailabilityState(StrEnum):
    """Whether users can work, and if not, why."""

    AVAILABLE = "available"
    MAINTENANCE = "maintenance"
    NOT_RUNNING = "not-running"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class HealthAnswer(StrEnum):
    """Result of one health request."""

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
    """The result of a health request; ``detail`` is the version, the status or the reason."""

    answer: HealthAnswer
    detail: LazyText | str = ""


@dataclass(frozen=True)
class MaintenanceProbe:
    """State of the maintenance page, and since when it is on, if known."""

    on: bool
    since: datetime | None = None


@dataclass(frozen=True)
class Availability(JsonRecord):
    """Whether users can work.

    Attributes:
        state: The state.
        since: Since when the maintenance page is on, or the application runs or does not; None if
            unknown.
        process_runs: Whether the part with the health endpoint runs; None if unknown.
        answer: Result of the health request.
        detail: The reported version, the status, or the reason for no answer.
        missing_parts: Further parts that do not run although they should.
        unknown_because: Why a check was not possible; empty if all were.
        stopped_on_request: Whether someone stopped or disabled the stopped application; None if
            unknown.
    """

    state: AvailabilityState
    since: datetime | None = None
    process_runs: bool | None = None
    answer: HealthAnswer = HealthAnswer.NOT_ASKED
    detail: LazyText | str = ""
    missing_parts: tuple[str, ...] = field(default_factory=tuple)
    unknown_because: LazyText | str = ""
    stopped_on_request: bool | None = None


#: Answers that only a running application gives.
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
    """Determine whether users can work. Pure.

    Args:
        maintenance: The maintenance page, or why it could not be checked.
        process: The part with the health endpoint, or why it could not be checked.
        health: Result of the health request.
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
    """Join reasons to one text, without duplicates; empty if there are none."""
    unique = {str(one): one for one in reasons}
    return join_texts(unique.values()) if unique else ""


def apply_full_disk(availability: Availability, full_path: Path | None) -> Availability:
    """Return an available application as unhealthy if a disk of its databases is full. Pure.

    Args:
        availability: The availability without this rule.
        full_path: Path of a full disk of the databases, if any.
    """
    if full_path is None or availability.state is not AvailabilityState.AVAILABLE:
        return availability
    state, answer = AvailabilityState.UNHEALTHY, HealthAnswer.DISK_FULL
    return replace(availability, state=state, answer=answer, detail=str(full_path))


def _was_stopped_on_request(process: ProcessState | LazyText) -> bool | None:
    """Return whether someone stopped the application; None if the system cannot tell."""
    if isinstance(process, LazyText) or process.runs or process.enabled is None:
        return None
    return not process.enabled or was_stopped_on_request([process])
