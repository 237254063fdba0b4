"""Tests of parallel operations: they end by success, by the first failure, or by a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

import pytest

from ncen_updater.agent.adapters.databases.parallel import run_in_parallel
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import INTERRUPTED
from tests.support.errors import has_message, refused
from tests.support.forks import DEADLINE_S


class Gate:
    """An act that runs until it is halted."""

    def __init__(self) -> None:
        self.entered, self.halted = threading.Event(), threading.Event()

    def act(self) -> str:
        self.entered.set()
        assert self.halted.wait(DEADLINE_S)
        raise RuntimeError("halted")

    def halt(self) -> None:
        self.halted.set()


def test_results_keep_the_order_of_the_operations() -> None:
    first = threading.Event()

    def one() -> int:
        assert first.wait(DEADLINE_S)
        return 1

    def two() -> int:
        first.set()
        return 2

    assert list(run_in_parallel({"one": one, "two": two}).items()) == [("one", 1), ("two", 2)]
    assert run_in_parallel({}) == {}


def test_first_failure_stops_the_others_and_is_reported() -> None:
    gate = Gate()

    def fail() -> str:
        assert gate.entered.wait(DEADLINE_S)
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        run_in_parallel({"gate": gate.act, "fail": fail}, cancel=gate.halt)
    assert gate.halted.is_set()


def test_signal_stops_all_and_is_raised_after_they_ended() -> None:
    gate, interruption = Gate(), SignalHandler()

    def ask() -> None:
        assert gate.entered.wait(DEADLINE_S)
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    with interruption.handle_signals(), refused(INTERRUPTED), interruption.allow_interruption():
        asking.start()
        run_in_parallel({"gate": gate.act}, cancel=gate.halt)
    asking.join()
    assert gate.halted.is_set()
    assert not [t for t in threading.enumerate() if t.name.startswith("database task")]


def waits(frame: FrameType) -> bool:
    """Whether ``run_in_parallel`` waits for its acts, innermost, in a thread."""
    names = []
    while frame.f_back is not None and frame.f_code is not run_in_parallel.__code__:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names == ["Condition.wait", "Event.wait"]


def test_signal_that_does_not_interrupt_the_wait_is_obeyed() -> None:
    """Seen under load: it came between the last look of the interpreter and the wait.

    Here the kernel gives it to another thread, which leaves the main thread as it was, too.
    """
    gate, interruption = Gate(), SignalHandler()
    main = threading.get_ident()

    def ask() -> None:
        assert gate.entered.wait(DEADLINE_S)
        while not waits(sys._current_frames()[main]):
            gate.halted.wait(0.01)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    with interruption.handle_signals(), refused(INTERRUPTED), interruption.allow_interruption():
        asking.start()
        run_in_parallel({"gate": gate.act}, cancel=gate.halt)
    asking.join()
    assert gate.halted.is_set()


@pytest.mark.parametrize("what", ["a signal", "a failure to halt"])
def test_exception_while_stopping_leaves_no_thread(what: str) -> None:
    gate, interruption = Gate(), SignalHandler()
    asked = []

    def fail() -> str:
        assert gate.entered.wait(DEADLINE_S)
        raise ValueError("the cause")

    def halt() -> None:
        asked.append(what)
        if len(asked) > 1:
            gate.halt()
        elif what == "a signal":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            raise RuntimeError("the server does not answer")

    with (
        interruption.handle_signals(),
        pytest.raises((ValueError, UpdaterError)) as raised,
        interruption.allow_interruption(),
    ):
        run_in_parallel({"gate": gate.act, "fail": fail}, cancel=halt)
    # An interruption is reported; what failed first is the cause.
    cause = raised.value.__cause__ if what == "a signal" else raised.value
    assert has_message(raised.value, INTERRUPTED) is (what == "a signal")
    assert str(cause) == "the cause"
    assert gate.halted.is_set()
    assert len(asked) == 2


def test_operation_of_a_late_thread_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal during a thread start leaves a thread that is not known to be alive."""
    late: list[threading.Thread] = []
    begun = threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "database task: late":
            late.append(thread)
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_in_parallel({"late": begun.set})
    start(late[0])
    late[0].join()
    assert not begun.is_set()


def test_waiting_reports_progress() -> None:
    beaten = threading.Event()
    assert run_in_parallel(
        {"a": lambda: beaten.wait(DEADLINE_S)}, heartbeat=beaten.set, heartbeat_s=0.01
    ) == {"a": True}


def test_operation_that_has_its_result_is_not_cancelled() -> None:
    leaving, cancelled = threading.Event(), threading.Event()

    class Name(str):
        """A name whose operation leaves after the other one has ended."""

        __slots__ = ("uses",)

        def __hash__(self) -> int:
            ours = threading.current_thread().name == "database task: slow"
            self.uses = getattr(self, "uses", 0) + ours
            if ours and self.uses == 3:  # added, with its result, and about to be removed
                leaving.set()
                for thread in threading.enumerate():
                    if thread.name == "database task: last":
                        thread.join(DEADLINE_S)
                cancelled.wait(0.2)
            return str.__hash__(self)

    def last() -> int:
        assert leaving.wait(DEADLINE_S)
        return 2

    slow = Name("slow")
    found = run_in_parallel({slow: lambda: 1, "last": last}, cancel=cancelled.set)
    assert found == {"slow": 1, "last": 2}
    assert leaving.is_set()
    assert not cancelled.is_set()
