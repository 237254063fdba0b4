"""Watch the application after the commit: a pure verdict, and a thin loop around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from ncen_updater.agent.adapters.application.base import HealthResult
from ncen_updater.common.i18n import LazyText


class SoakVerdict(StrEnum):
    """What is known so far."""

    CONTINUE = "watch-on"
    PASSED = "good"
    FAILED = "bad"


@dataclass(frozen=True)
class SoakState:
    """Looks so far.

    Attributes:
        checks: All of them.
        failures: The bad ones.
        consecutive_failures: The bad ones since the last good one.
        inconclusive: Whether the last one says nothing, since something else than the release is
            away.
    """

    checks: int = 0
    failures: int = 0
    consecutive_failures: int = 0
    inconclusive: bool = False


@dataclass(frozen=True)
class SoakResult:
    """How a soak ended. Truthy when the release proved good.

    Attributes:
        last: The last look; None where the soak had no time.
    """

    verdict: SoakVerdict
    state: SoakState
    last_health: HealthResult | None
    seconds: float

    def __bool__(self) -> bool:
        return self.verdict is SoakVerdict.PASSED


def count_check(state: SoakState, *, healthy: bool, unknown: bool = False) -> SoakState:
    """Count one look; one that says nothing is not counted, and ends a bad row."""
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
    """Say what the looks so far mean.

    A soak does not end well in the middle of a bad row: it is watched until the row ends or is long
    enough to count as bad; nor on a look that says nothing.

    Args:
        state: The looks so far.
        elapsed_s: Seconds since the soak began, those before a restart of the agent included.
        seconds: Length of the soak.
        max_failures: So many bad looks in a row count as bad.
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
    """Watch until the verdict is known.

    Args:
        check: Makes one look.
        seconds: Length of the soak; 0 is over at once.
        interval_s: Seconds between two looks.
        max_failures: So many bad looks in a row count as bad.
        clock: Monotonic seconds.
        wait: Waits so many seconds.
        elapsed_s: Seconds of this soak that passed before the agent was restarted.
        is_inconclusive: Asked after a bad look: whether it says nothing about the release. Time
            that passes so does not count.
        is_confirmed: Whether a person has confirmed the release meanwhile, which ends the soak
            well.
    """
    begin = clock() - elapsed_s
    state, last = SoakState(), None
    while True:
        elapsed = clock() - begin
        verdict = judge_soak(state, elapsed_s=elapsed, seconds=seconds, max_failures=max_failures)
        if is_confirmed():
            verdict = SoakVerdict.PASSED
        if verdict is not SoakVerdict.CONTINUE:
            return SoakResult(verdict, state, last, elapsed)
        begun = clock()
        last = check()
        state = count_check(state, healthy=bool(last), unknown=not last and is_inconclusive())
        if state.inconclusive:
            wait(interval_s)
            begin += clock() - begun
        elif state.consecutive_failures < max_failures:
            remaining = seconds - (clock() - begin)
            wait(min(interval_s, remaining) if remaining > 0 else interval_s)


CONSECUTIVE_CHECKS = 2


MAX_INTERVAL_S = 0.5


# Between the first looks: users wait for each of them. From then on a tenth of the time so far,
# so that a look adds no more than that to any start.
MIN_INTERVAL_S = 0.05


INTERVAL_SHARE = 0.1


# From a good look to the one that proves it.
CONFIRM_INTERVAL_S = 0.1


# A release that fails in the same way from its first answer on: so many looks, over so many seconds
# and such a share of the time that this application may take.
SAME_LOOKS, SAME_S, SAME_SHARE = 10, 20.0, 0.1


# What is on its way, or what stands before it, says so by these.
COMING = frozenset({502, 503, 504})


@dataclass(frozen=True)
class SameAnswer:
    """One failing answer that is given again and again: what it is, how often, and since when."""

    problems: tuple[LazyText, ...]
    since: float
    looks: int = 1


def after_look(same: SameAnswer | None, health: HealthResult, at: float) -> SameAnswer | None:
    """Say which failing answer is given again and again, after one more look. Pure.

    No answer, one that says that the application is on its way, and another one than before begin
    again; so does a refusal, which says nothing of the release.
    """
    status = health.status or 0
    if health or health.credentials_refused or status < 500 or status in COMING:
        return None
    if same is None or same.problems != health.problems:
        return SameAnswer(health.problems, at)
    return replace(same, looks=same.looks + 1)


def fails_for_good(same: SameAnswer | None, at: float, timeout_s: float) -> bool:
    """Tell whether waiting longer changes nothing. Pure."""
    if same is None or same.looks < SAME_LOOKS:
        return False
    return at - same.since >= max(SAME_S, SAME_SHARE * timeout_s)


@dataclass(frozen=True)
class HealthWaitResult:
    """What came of waiting. Truthy when the application became healthy.

    Attributes:
        health: The last look.
        healthy: Whether enough looks in a row were good.
        seconds: From the first look's begin to the last look's end.
        checks: Number of looks.
        same: The failing answer that ended the wait early, if one did.
    """

    health: HealthResult
    healthy: bool
    seconds: float
    checks: int
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
    """Look again and again until enough looks in a row were good, or time is up.

    The first good look may be the last breath of an application that is about to fall over; hence
    more than one is needed. The looks are close to each other at first, since users wait; who
    falls over later is seen by the soak. At least one look is made, however short the time.

    Args:
        check: Makes one look.
        timeout_s: Seconds after which no further look is begun.
        clock: Monotonic seconds.
        wait: Waits so many seconds.
        interval_s: Longest time between two looks, seconds.
        first_s: Shortest.
        is_hopeless: Asked after a bad look whether waiting longer makes no sense.
        patient: Whether an answer that fails in the same way each time is waited for to the end.
    """
    begin = clock()
    good = looks = 0
    same: SameAnswer | None = None
    while True:
        health = check()
        looks += 1
        good = good + 1 if health else 0
        seconds = clock() - begin
        same = after_look(same, health, begin + seconds)
        if not patient and fails_for_good(same, begin + seconds, timeout_s):
            return HealthWaitResult(health, False, seconds, looks, same)
        pause = max(
            first_s, CONFIRM_INTERVAL_S if health else min(seconds * INTERVAL_SHARE, interval_s)
        )
        over = good >= CONSECUTIVE_CHECKS or seconds + pause > timeout_s
        if over or (not health and is_hopeless(health)):
            return HealthWaitResult(health, good >= CONSECUTIVE_CHECKS, seconds, looks)
        wait(pause)
