"""Wait until the application is healthy; clock and waiting are passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ncen_updater.agent.application.base import Health

__all__ = ["Waited", "wait_until_healthy"]

NEEDED = 2
INTERVAL_S = 0.5
# Between the first looks: officers wait for each of them. From then on a tenth of the time so far,
# so that a look adds no more than that to any start.
FIRST_S = 0.05
SHARE = 0.1
# From a good look to the one that proves it.
AGAIN_S = 0.1


@dataclass(frozen=True)
class Waited:
    """What came of waiting. Truthy when the application became healthy.

    Attributes:
        health: The last look.
        healthy: Whether enough looks in a row were good.
        seconds: From the first look's begin to the last look's end.
        looks: Number of looks.
    """

    health: Health
    healthy: bool
    seconds: float
    looks: int

    def __bool__(self) -> bool:
        return self.healthy


def wait_until_healthy(
    look: Callable[[], Health],
    *,
    timeout_s: float,
    clock: Callable[[], float],
    wait: Callable[[float], object],
    needed: int = NEEDED,
    interval_s: float = INTERVAL_S,
    first_s: float = FIRST_S,
    hopeless: Callable[[Health], bool] = lambda _health: False,
) -> Waited:
    """Look again and again until enough looks in a row were good, or time is up.

    The first good look may be the last breath of an application that is about to fall over; hence
    more than one is needed. The looks are close to each other at first, since officers wait; who
    falls over later is seen by the soak. At least one look is made, however short the time.

    Args:
        look: Makes one look.
        timeout_s: Seconds after which no further look is begun.
        clock: Monotonic seconds.
        wait: Waits so many seconds.
        needed: Good looks in a row.
        interval_s: Longest time between two looks, seconds.
        first_s: Shortest.
        hopeless: Asked after a bad look whether waiting longer makes no sense.
    """
    begin = clock()
    good = looks = 0
    while True:
        health = look()
        looks += 1
        good = good + 1 if health else 0
        seconds = clock() - begin
        pause = max(first_s, AGAIN_S if health else min(seconds * SHARE, interval_s))
        over = good >= needed or seconds + pause > timeout_s
        if over or (not health and hopeless(health)):
            return Waited(health, good >= needed, seconds, looks)
        wait(pause)
