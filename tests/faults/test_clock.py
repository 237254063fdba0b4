"""The wall clock is set while a change is under way: nothing that is needed is thrown away."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.adapters.databases.base import DatabaseRole
from ncen_updater.agent.engine.change_outcome import read_outcome
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import ChangeState, StepName, StepPhase
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.progress import SilentProgress
from tests.faults.full import prepared
from tests.faults.trial import NEW, OLD, Trial
from tests.support.rotation import in_turns
from tests.support.sites import site_in_process


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with prepared("sqlite") as made:
        yield made


@in_turns("step", "days")
@pytest.mark.parametrize(
    ("step", "days"), [(StepName.COPY, -400), (StepName.COPY, 400), (StepName.PRUNE, 400)]
)
def test_clock_change_during_a_change_is_harmless(trial: Trial, step: StepName, days: int) -> None:
    trial.reset()
    jump = timedelta()

    def checkpoint(at: StepName, phase: StepPhase) -> None:
        nonlocal jump
        if (at, phase) == (step, StepPhase.BEFORE_EFFECT):
            jump = timedelta(days=days)

    clock = SystemClock(now=lambda: datetime.now(UTC) + jump)
    site = dataclasses.replace(site_in_process(trial.demo), clock=clock)
    Operations(site, SilentProgress(), checkpoint=checkpoint).upgrade()
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        outcome = read_outcome(journal, journal.list_changes(1)[0].id)
    assert outcome.change.state is ChangeState.FINISHED
    assert outcome.downtime_s is not None and 0 < outcome.downtime_s < 3600
    kept = {(change, role) for change, role, _name in site.database_engine.list_leftovers()}
    assert kept == {(outcome.change.id, DatabaseRole.PREVIOUS)}
    assert trial.settle()[0] == NEW
    # The clock is right again, and the rollback is open.
    Operations(site_in_process(trial.demo), SilentProgress()).rollback()
    assert trial.settle()[0] == OLD


def test_clock_set_back_between_two_changes_blocks_no_third(trial: Trial) -> None:
    trial.reset()
    plain = site_in_process(trial.demo)
    Operations(plain, SilentProgress()).upgrade()
    earlier = SystemClock(now=lambda: datetime.now(UTC) - timedelta(days=400))
    Operations(dataclasses.replace(plain, clock=earlier), SilentProgress()).rollback()
    assert trial.settle()[0] == OLD
    Operations(plain, SilentProgress()).upgrade()
    assert trial.settle()[0] == NEW
