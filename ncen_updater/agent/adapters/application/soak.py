"""Watch the application after the commit: a pure verdict, and a thin loop around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.agent.adapters.application.base import HealthResult


class SoakVerdict(StrEnum):
    """What is known so far."""

    CONTINUE = "watch-on"
    PASSED = "good"
    FAILED = "bad"


@dataclass(frozen=True)
class SoakState:
    """Looks so far.

    Attributes:
        looks: All of them.
        bad: The bad ones.
        consecutive_failures: The bad ones since the last good one.
        unknown: Whether the last one says nothing, since something else than the release is away.
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
