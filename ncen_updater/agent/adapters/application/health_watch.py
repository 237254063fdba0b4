"""Health checks over time, at the start and in the soak period: pure verdicts and thin loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from ncen_updater.agent.adapters.application.health_result import HealthResult
from ncen_updater.common.i18n import LazyText

#: Successful checks in a row after which the application counts as healthy.
CONSECUTIVE_CHECKS = 2
# Longest interval between two checks.
MAX_INTERVAL_S = 0.5
# Interval of the first checks, for which users wait, and before the check that confirms a success.
# Later the interval is a tenth of the elapsed time, so that a check adds no more than that to any
# start.
MIN_INTERVAL_S = 0.02
INTERVAL_SHARE = 0.1
# When a release that fails in the same way from its first answer on is given up: number of checks,
# seconds, and share of the start's time-out.
SAME_CHECKS, SAME_S, SAME_SHARE = 10, 20.0, 0.1
# HTTP statuses of an application that is still starting, or of the server in front of it.
STARTING_STATUSES = frozenset({502, 503, 504})


class SoakVerdict(StrEnum):
    """Verdict so far."""

    CONTINUE = "continue"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class SoakState:
    """Counts of the checks so far.

    Attributes:
        checks: All checks.
        failures: Failed checks.
        consecutive_failures: Failed checks since the last successful one.
        inconclusive: Whether the last one gives no verdict, because something other than the
            release is unavailable.
    """

    checks: int = 0
    failures: int = 0
    consecutive_failures: int = 0
    inconclusive: bool = False


@dataclass(frozen=True)
class SoakResult:
    """Result of a soak period. Truthy if the release passed.

    Attributes:
        verdict: The verdict.
        state: Counts of the checks.
        last_health: The last check; None if there was no time for one.
    """

    verdict: SoakVerdict
    state: SoakState
    last_health: HealthResult | None

    def __bool__(self) -> bool:
        return self.verdict is SoakVerdict.PASSED


def count_check(state: SoakState, *, healthy: bool, unknown: bool = False) -> SoakState:
    """Count one check; an inconclusive one is not counted, and ends a row of failures."""
    if unknown:
        return SoakState(state.checks, state.failures, inconclusive=True)
    return SoakState(
        checks=state.checks + 1,
        failures=state.failures + (not healthy),
        consecutive_failures=0 if healthy else state.consecutive_failures + 1,
    )


def judge_soak(
    state: SoakState, *, elapsed_s: float, seconds: float, max_failures: int
) -> SoakVerdict:
    """Return the verdict on the checks so far.

    A soak period is not passed within a row of failures: it continues until the row ends or is long
    enough to count as failed. Nor is it passed on an inconclusive check.

    Args:
        state: Counts of the checks so far.
        elapsed_s: Seconds since the soak period began, including those before a restart of the
            agent.
        seconds: Length of the soak period.
        max_failures: Number of failed checks in a row that counts as failed.
    """
    if state.consecutive_failures >= max_failures:
        return SoakVerdict.FAILED
    if elapsed_s >= seconds and state.consecutive_failures == 0 and not state.inconclusive:
        return SoakVerdict.PASSED
    return SoakVerdict.CONTINUE


def run_soak(
    check: Callable[[], HealthResult],
    *,
    seconds: float,
    interval_s: float,
    max_failures: int,
    clock: Callable[[], float],
    wait: Callable[[float], object],
    elapsed_s: float = 0.0,
    is_inconclusive: Callable[[], bool] = lambda: False,
    is_confirmed: Callable[[], bool] = lambda: False,
) -> SoakResult:
    """Check until the verdict is known.

    Args:
        check: Makes one check.
        seconds: Length of the soak period; 0 ends at once.
        interval_s: Seconds between two checks.
        max_failures: Number of failed checks in a row that counts as failed.
        clock: Monotonic seconds.
        wait: Waits for a number of seconds.
        elapsed_s: Seconds of this soak period before the agent was restarted.
        is_inconclusive: Called after a failed check; tells whether it gives no verdict on the
            release. Such time does not count.
        is_confirmed: Tells whether a person has confirmed the release, which ends the soak period
            as passed.
    """
    start = clock() - elapsed_s
    state, last = SoakState(), None
    while True:
        elapsed = clock() - start
        verdict = judge_soak(state, elapsed_s=elapsed, seconds=seconds, max_failures=max_failures)
        if is_confirmed():
            verdict = SoakVerdict.PASSED
        if verdict is not SoakVerdict.CONTINUE:
            return SoakResult(verdict, state, last)
        check_start = clock()
        last = check()
        state = count_check(state, healthy=bool(last), unknown=not last and is_inconclusive())
        if state.inconclusive:
            wait(interval_s)
            start += clock() - check_start
        elif state.consecutive_failures < max_failures:
            remaining = seconds - (clock() - start)
            wait(min(interval_s, remaining) if remaining > 0 else interval_s)


@dataclass(frozen=True)
class SameAnswer:
    """A failing answer that is repeated: its problems, its start, and the number of checks."""

    problems: tuple[LazyText, ...]
    since: float
    checks: int = 1


def count_same_answer(
    same: SameAnswer | None, health: HealthResult, at: float
) -> SameAnswer | None:
    """Return the repeated failing answer after one more check. Pure.

    The count starts again without an answer, with an answer that the application is starting, or
    with a different answer; also with refused credentials, which give no verdict on the release.
    """
    status = health.status or 0
    if health or health.credentials_refused or status < 500 or status in STARTING_STATUSES:
        return None
    if same is None or same.problems != health.problems:
        return SameAnswer(health.problems, at)
    return replace(same, checks=same.checks + 1)


def is_failing_permanently(same: SameAnswer | None, at: float, timeout_s: float) -> bool:
    """Tell whether waiting longer is useless. Pure."""
    if same is None or same.checks < SAME_CHECKS:
        return False
    return at - same.since >= max(SAME_S, SAME_SHARE * timeout_s)


@dataclass(frozen=True)
class HealthWaitResult:
    """Result of waiting. Truthy if the application became healthy.

    Attributes:
        health: The last check.
        healthy: Whether enough checks in a row succeeded.
        seconds: From the beginning of the first check to the end of the last.
        same: The failing answer that ended the wait early, if any.
    """

    health: HealthResult
    healthy: bool
    seconds: float
    same: SameAnswer | None = None

    def __bool__(self) -> bool:
        return self.healthy


def wait_until_healthy(
    check: Callable[[], HealthResult],
    *,
    timeout_s: float,
    clock: Callable[[], float],
    wait: Callable[[float], object],
    interval_s: float = MAX_INTERVAL_S,
    first_s: float = MIN_INTERVAL_S,
    is_hopeless: Callable[[HealthResult], bool] = lambda _health: False,
    patient: bool = True,
) -> HealthWaitResult:
    """Check repeatedly until enough checks in a row succeed, or the time is over.

    The first successful check may be the last answer of an application that is about to fail, so
    more than one is needed. The first checks follow each other closely, since users wait; a later
    failure is noticed in the soak period. At least one check is made, however short the time.

    Args:
        check: Makes one check.
        timeout_s: Seconds after which no further check is begun.
        clock: Monotonic seconds.
        wait: Waits for a number of seconds.
        interval_s: Longest interval between two checks, in seconds.
        first_s: Shortest interval.
        is_hopeless: Called after a failed check; tells whether waiting longer is useless.
        patient: Whether to wait until the end even if the application fails in the same way each
            time.
    """
    start = clock()
    good = 0
    same: SameAnswer | None = None
    while True:
        health = check()
        good = good + 1 if health else 0
        seconds = clock() - start
        same = count_same_answer(same, health, start + seconds)
        if not patient and is_failing_permanently(same, start + seconds, timeout_s):
            return HealthWaitResult(health, False, seconds, same)
        pause = first_s if health else max(first_s, min(seconds * INTERVAL_SHARE, interval_s))
        ended = good >= CONSECUTIVE_CHECKS or seconds + pause > timeout_s
        if ended or (not health and is_hopeless(health)):
            return HealthWaitResult(health, good >= CONSECUTIVE_CHECKS, seconds)
        wait(pause)
