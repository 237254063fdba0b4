"""Tests of deadlines: called when expired, not when cancelled, by one thread for all."""

from __future__ import annotations

import threading

from ncen_updater.common.http_server import DeadlineTimer
from tests.support.forks import DEADLINE_S


def test_expired_deadline_is_called_in_order() -> None:
    called: list[str] = []
    over = threading.Event()
    deadlines = DeadlineTimer()
    before = threading.active_count()
    try:
        deadlines.schedule(3600, lambda: called.append("much later"))
        taken_back = deadlines.schedule(0.05, lambda: called.append("reverted"))
        deadlines.schedule(0.1, over.set)
        deadlines.schedule(0.0, lambda: called.append("The upgrade starts immediately."))
        taken_back()
        taken_back()
        assert over.wait(DEADLINE_S)
        assert called == ["The upgrade starts immediately."]
        assert threading.active_count() == before + 1
    finally:
        deadlines.close()
    assert threading.active_count() == before


def test_nothing_is_called_after_the_end() -> None:
    deadlines = DeadlineTimer()
    called = threading.Event()
    deadlines.schedule(0.0, lambda: None)
    deadlines.close()
    deadlines.schedule(0.0, called.set)()
    assert not called.is_set()
