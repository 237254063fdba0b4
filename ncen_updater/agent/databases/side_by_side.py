"""Acts on several databases at once, each in a thread of its own.

A signal is raised in the main thread only, which here does nothing but wait. Whatever ends the
waiting, an interruption or the first failure of an act, the other acts are ended from outside, and
nothing is raised before all of them are over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ["side_by_side"]

# How soon an act that began a new statement while the others were ended is ended as well.
AGAIN_S = 0.1

Key = TypeVar("Key")
Value = TypeVar("Value")


def _nothing() -> None:
    """Let the other acts come to their end."""


def side_by_side(
    acts: Mapping[Key, Callable[[], Value]],
    *,
    halt: Callable[[], object] = _nothing,
    beat: Callable[[], object] = _nothing,
    beat_s: float | None = None,
) -> dict[Key, Value]:
    """Run all acts at once and return their results, in the order of the acts.

    Args:
        acts: By name.
        halt: Ends what the acts are doing, so that they fail; called again until they have.
        beat: Called while they run, in this thread.
        beat_s: Seconds between two beats.

    Raises:
        BaseException: Of the act that failed first, or what ended the waiting; once all are over.
    """
    results: dict[Key, Value] = {}
    failed: list[BaseException] = []
    left = set(acts)
    over = threading.Event()

    def run(name: Key, act: Callable[[], Value]) -> None:
        try:
            results[name] = act()
        except BaseException as error:  # noqa: BLE001 - raised below, in the waiting thread
            failed.append(error)
        left.discard(name)
        if failed or not left:
            over.set()

    threads = [
        threading.Thread(target=run, args=item, name=f"side by side: {item[0]}", daemon=True)
        for item in acts.items()
    ]
    try:
        for thread in threads:
            thread.start()
        while threads:
            beat()
            if over.wait(beat_s):
                break
    finally:
        while alive := [thread for thread in threads if thread.is_alive()]:
            if left:
                halt()
            alive[0].join(AGAIN_S)
    if failed:
        raise failed[0]
    return {name: results[name] for name in acts}
