"""Acts side by side end together: by success, by the first failure, or by a signal."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from ncen_updater.agent.databases.side_by_side import side_by_side
from ncen_updater.agent.engine.interruption import Interruption
from ncen_updater.common.messages import INTERRUPTED
from tests.support.errors import refused


class Gate:
    """An act that runs until it is halted."""

    def __init__(self) -> None:
        self.entered, self.halted = threading.Event(), threading.Event()

    def act(self) -> str:
        self.entered.set()
        assert self.halted.wait(60)
        raise RuntimeError("halted")

    def halt(self) -> None:
        self.halted.set()


def test_results_come_in_the_order_of_the_acts() -> None:
    first = threading.Event()

    def one() -> int:
        assert first.wait(60)
        return 1

    def two() -> int:
        first.set()
        return 2

    assert list(side_by_side({"one": one, "two": two}).items()) == [("one", 1), ("two", 2)]
    assert side_by_side({}) == {}


def test_the_first_failure_ends_the_others_and_is_the_one_that_is_told() -> None:
    gate = Gate()

    def fail() -> str:
        assert gate.entered.wait(60)
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        side_by_side({"gate": gate.act, "fail": fail}, halt=gate.halt)
    assert gate.halted.is_set()


def test_a_signal_ends_all_and_is_raised_once_they_are_over() -> None:
    gate, interruption = Gate(), Interruption()

    def ask() -> None:
        assert gate.entered.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    with interruption.handled(), refused(INTERRUPTED), interruption.allowed():
        asking.start()
        side_by_side({"gate": gate.act}, halt=gate.halt)
    asking.join()
    assert gate.halted.is_set()
    assert not [t for t in threading.enumerate() if t.name.startswith("side by side")]


def test_it_beats_while_it_waits() -> None:
    beaten = threading.Event()
    assert side_by_side({"a": lambda: beaten.wait(60)}, beat=beaten.set, beat_s=0.01) == {"a": True}
