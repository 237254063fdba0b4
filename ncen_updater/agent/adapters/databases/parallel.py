"""Acts on several databases at once, each in a thread of its own.

A signal is raised in the main thread only, which here does nothing but wait. Whatever ends the
waiting, an interruption or the first failure of an act, the other acts are ended from outside, and
nothing is raised before all of them are over.

Python notes a signal where the kernel delivers it and raises it where the main thread next runs. A
signal that comes just before the main thread begins to wait, or that the kernel gives to another
thread, does not end that wait. So no wait here is without an end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

# How soon a signal is obeyed that did not end the wait, where nothing beats more often.
POLL_S = 0.5
# How soon an act that began a new statement while the others were ended is ended as well.
CANCEL_RETRY_S = 0.1

Key = TypeVar("Key")
Value = TypeVar("Value")


def _do_nothing() -> None:
    """Let the other acts come to their end."""


def run_in_parallel(
    tasks: Mapping[Key, Callable[[], Value]],
    *,
    cancel: Callable[[], object] = _do_nothing,
    heartbeat: Callable[[], object] = _do_nothing,
    heartbeat_s: float = POLL_S,
) -> dict[Key, Value]:
    """Run all acts at once and return their results, in the order of the acts.

    Args:
        tasks: By name.
        cancel: Ends what the acts are doing, so that they fail; called again until they have.
        heartbeat: Called while they run, in this thread.
        heartbeat_s: Seconds between two beats, and until a signal is obeyed at the latest.

    Raises:
        BaseException: Of the act that failed first, or what ended the waiting; once all are over.
    """
    results: dict[Key, Value] = {}
    failed: list[BaseException] = []
    running: set[Key] = set()
    closed, over, one_ended = threading.Event(), threading.Event(), threading.Event()

    def run(name: Key, act: Callable[[], Value]) -> None:
        # In this order: either the end is seen here, or this act is seen there and ended.
        running.add(name)
        try:
            if not closed.is_set():
                results[name] = act()
        except BaseException as error:  # noqa: BLE001 - raised below, in the waiting thread
            failed.append(error)
        running.discard(name)
        if failed or len(results) == len(tasks):
            over.set()
        one_ended.set()

    threads = [
        threading.Thread(target=run, args=item, name=f"side by side: {item[0]}", daemon=True)
        for item in tasks.items()
    ]
    raised: BaseException | None = None
    try:
        for thread in threads:
            thread.start()
        while threads:
            heartbeat()
            if over.wait(heartbeat_s):
                break
    except BaseException as error:  # noqa: BLE001 - raised below, once all acts are over
        raised = error
    else:
        raised = failed[0] if failed else None
    while True:
        try:
            closed.set()
            one_ended.clear()
            if not running:
                _join(threads)
                break
            try:
                cancel()
            finally:
                one_ended.wait(CANCEL_RETRY_S)
        except BaseException as error:  # noqa: BLE001 - a signal, say: the acts are not over yet
            raised = raised or error
    if raised:
        raise raised
    return {name: results[name] for name in tasks}


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread.is_alive():
            thread.join()
