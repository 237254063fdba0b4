"""Tests of statistics after a change: during the soak, never its failure, and ended with it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ncen_updater.agent.engine.site import Site, SystemClock
from ncen_updater.agent.engine.steps.soak_and_prune import STATISTICS_LIMIT_S, refresh_in_background
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount, SilentProgress

WATCHING = LazyText("soak period")


class Engine:
    """Does as requested, until it is halted."""

    def __init__(self, *, fails: bool = False, hangs: bool = False) -> None:
        self.fails, self.hangs = fails, hangs
        self.limits: list[float] = []
        self.began, self.halted = threading.Event(), threading.Event()

    def refresh_statistics(self, limit_s: float) -> dict[str, tuple[str, ...]]:
        self.limits.append(limit_s)
        self.began.set()
        if self.hangs:
            assert self.halted.wait(60)
        if self.fails or self.hangs:
            raise DatabaseError(database="x", detail="ended")
        return {"seizure": ("public.cases",)}

    def cancel_sessions(self) -> None:
        self.halted.set()


def site(engine: Engine) -> Site:
    return cast("Site", SimpleNamespace(database_engine=cast("Any", engine), clock=SystemClock()))


def test_analyzed_tables_are_reported() -> None:
    engine = Engine()
    with refresh_in_background(site(engine), SilentProgress(), WATCHING) as beside:
        pass
    assert beside.result["tables"] == {"seizure": ["public.cases"]}
    assert engine.limits == [STATISTICS_LIMIT_S]


@pytest.mark.parametrize("fails", [False, True])
def test_progress_keeps_naming_the_soak(fails: bool) -> None:
    """It is watched for an hour; what took a second of that is not what is done now."""

    class Told:
        def __init__(self) -> None:
            self.said: list[str] = []

        def report(self, text: LazyText, amount: Amount | None = None) -> None:
            self.said.append(str(text))

    told = Told()
    with refresh_in_background(site(Engine(fails=fails)), told, WATCHING):
        pass
    assert all(words.startswith("soak period") for words in told.said), told.said
    assert told.said[-1] == "soak period"


def test_failure_of_statistics_is_only_reported() -> None:
    with refresh_in_background(site(Engine(fails=True)), SilentProgress(), WATCHING) as beside:
        pass
    assert beside.result["failed"] == DatabaseError.message.code


def test_failed_soak_ends_the_statistics() -> None:
    engine = Engine(hangs=True)
    with (
        pytest.raises(ValueError, match="bad"),
        refresh_in_background(site(engine), SilentProgress(), WATCHING),
    ):
        assert engine.began.wait(60)
        raise ValueError("bad")
    assert engine.halted.is_set()
    assert not [t for t in threading.enumerate() if t.name == "statistics"]
