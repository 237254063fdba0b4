"""Tests of the wait for a start: an application that always fails in the same way is given up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from ncen_updater.agent.adapters.application.health_result import HealthResult, ProbeResult
from ncen_updater.agent.adapters.application.health_watch import (
    SAME_CHECKS,
    HealthWaitResult,
    SameAnswer,
    count_same_answer,
    is_failing_permanently,
    wait_until_healthy,
)
from ncen_updater.common.i18n import LazyText


def answered(status: int | None, problem: str = "") -> HealthResult:
    problem = problem or f"HTTP status {status}"
    return HealthResult(
        (ProbeResult("health", LazyText(problem)),), answered=status is not None, status=status
    )


WELL = HealthResult((ProbeResult("health"),), status=200)
REFUSED = replace(answered(500, "refused"), credentials_refused=True)
DOWN = answered(None, "no response: Connection refused")


def waited_for(
    answers: Iterable[HealthResult], timeout_s: float, *, patient: bool = False
) -> HealthWaitResult:
    """Wait for an application that gives these answers, one each half second by our clock."""
    now, given = [0.0], iter(answers)

    def wait(_seconds: float) -> None:
        now[0] += 0.5

    return wait_until_healthy(
        lambda: next(given), timeout_s=timeout_s, clock=lambda: now[0], wait=wait, patient=patient
    )


def forever(*answers: HealthResult) -> Iterator[HealthResult]:
    return itertools.cycle(answers)


@pytest.mark.parametrize(
    ("answers", "timeout_s", "ends_after_s"),
    [
        (lambda: forever(answered(500)), 120, 20),
        (lambda: forever(answered(500)), 400, 40),  # who may take long is given more
        (lambda: forever(answered(501)), 120, 20),
        # From when on it is the same: an application that comes up and then fails.
        (lambda: itertools.chain([DOWN] * 60, forever(answered(500))), 120, 50),
        (lambda: itertools.chain([answered(503)] * 60, forever(answered(500))), 120, 50),
        (lambda: itertools.chain([answered(500, "a")] * 30, forever(answered(500, "b"))), 120, 35),
        # On its way, or hidden behind what stands before it: waited for to the end.
        (lambda: forever(DOWN), 120, 120),
        (lambda: forever(answered(503)), 120, 120),
        (lambda: forever(answered(502)), 120, 120),
        (lambda: forever(answered(504)), 120, 120),
        (lambda: forever(answered(404)), 120, 120),  # not deployed yet
        (lambda: forever(answered(500, "a"), answered(500, "b")), 120, 120),
        (lambda: forever(answered(500), DOWN), 120, 120),
        (lambda: forever(*[answered(500)] * 30, WELL), 120, 120),
        (lambda: forever(REFUSED), 120, 120),  # the site's token says nothing of the release
        (lambda: forever(answered(200, "'version' is 3.2.4")), 120, 120),
    ],
)
def test_repeated_identical_failure_ends_the_wait(
    answers: object, timeout_s: float, ends_after_s: float
) -> None:
    assert callable(answers)
    waited = waited_for(answers(), timeout_s)
    assert not waited
    assert ends_after_s - 1 <= waited.seconds <= ends_after_s + 0.5
    assert (waited.same is not None) is (ends_after_s < timeout_s)


def test_slow_application_is_waited_for() -> None:
    """It fails for as long as a start may fail, then works."""
    waited = waited_for(itertools.chain([answered(500)] * 39, forever(WELL)), 120)
    assert waited and waited.same is None


def test_rollback_waits_for_the_whole_timeout() -> None:
    """The previous release is the last one there is: nothing else could be started."""
    waited = waited_for(forever(answered(500)), 120, patient=True)
    assert not waited and waited.seconds > 119 and waited.same is None


def test_few_slow_answers_do_not_end_the_wait() -> None:
    same: SameAnswer | None = None
    for look in range(SAME_CHECKS):
        assert not is_failing_permanently(same, 60.0 * look, 120)
        same = count_same_answer(same, answered(500), 60.0 * look)
    assert is_failing_permanently(same, 60.0 * SAME_CHECKS, 120)
