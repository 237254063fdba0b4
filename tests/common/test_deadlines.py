"""Ends of time: what is over is called, what was taken back is not, by one thread for all."""

from __future__ import annotations

import threading

from ncen_updater.common.deadlines import Deadlines
from tests.support.forks import DEADLINE_S


def test_what_is_over_is_called_in_its_turn() -> None:
    called: list[str] = []
    over = threading.Event()
    deadlines = Deadlines()
    before = threading.active_count()
    try:
        deadlines.after(3600, lambda: called.append("much later"))
        taken_back = deadlines.after(0.05, lambda: called.append("taken back"))
        deadlines.after(0.1, over.set)
        deadlines.after(0.0, lambda: called.append("at once"))
        taken_back()
        taken_back()
        assert over.wait(DEADLINE_S)
        assert called == ["at once"]
        assert threading.active_count() == before + 1
    finally:
        deadlines.close()
    assert threading.active_count() == before


def test_after_its_end_nothing_is_called() -> None:
    deadlines = Deadlines()
    called = threading.Event()
    deadlines.after(0.0, lambda: None)
    deadlines.close()
    deadlines.after(0.0, called.set)()
    assert not called.is_set()
