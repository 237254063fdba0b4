"""Parallel tasks on several databases, each in a thread of its own.

A signal raises only in the main thread, which here does nothing but wait. If a signal or the first
failure of a task ends the wait, the other tasks are cancelled, and the error is raised when all of
them have ended.

Python records a signal where the kernel delivers it, and raises when the main thread runs next. A
signal that arrives just before the main thread begins to wait, or in another thread, does not end
that wait. So every wait here has a time-out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

# Longest delay of a signal that did not end the wait.
POLL_S = 0.5
# Interval at which tasks are cancelled again, since one may have begun a new statement.
CANCEL_RETRY_S = 0.1

Key = TypeVar("Key")
Value = TypeVar("Value")


def _do_nothing() -> None:
    """Do nothing."""


def run_in_parallel(
    tasks: Mapping[Key, Callable[[], Value]],
    *,
    cancel: Callable[[], object] = _do_nothing,
    heartbeat: Callable[[], object] = _do_nothing,
    heartbeat_s: float = POLL_S,
) -> dict[Key, Value]:
    """Run all tasks in parallel and return their results, in the order of the tasks.

    Args:
        tasks: Tasks by name.
        cancel: Cancels the running tasks, so that they fail; called again until they have ended.
        heartbeat: Called in this thread while they run.
        heartbeat_s: Seconds between two calls, and longest delay of a signal.

    Raises:
        BaseException: The error of the task that failed first, or the one that ended the wait;
            raised when all tasks have ended.
    """
    results: dict[Key, Value] = {}
    failed: list[BaseException] = []
    running: set[Key] = set()
    closed, over, one_ended = threading.Event(), threading.Event(), threading.Event()

    def run(name: Key, task: Callable[[], Value]) -> None:
        # Either this task sees that the wait has ended, or the main thread sees it and cancels it.
        running.add(name)
        try:
            if not closed.is_set():
                results[name] = task()
        except BaseException as error:  # noqa: BLE001 - raised below, in the waiting thread
            failed.append(error)
        running.discard(name)
        # The last one to end, since a task that is still leaving would be cancelled.
        if failed or (len(results) == len(tasks) and not running):
            over.set()
        one_ended.set()

    threads = [
        threading.Thread(target=run, args=item, name=f"database task: {item[0]}", daemon=True)
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
    except BaseException as error:  # noqa: BLE001 - raised below, when all tasks have ended
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
        except BaseException as error:  # noqa: BLE001 - such as a signal: the tasks have not ended
            raised = raised or error
    if raised:
        raise raised
    return {name: results[name] for name in tasks}


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread.is_alive():
            thread.join()
