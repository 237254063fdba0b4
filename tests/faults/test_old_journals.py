"""A journal from a backup of an earlier instant: users worked since, and nothing is taken away.

The databases themselves know of the commit; the journal need not.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from demo.databases import PostgresPlace
from demo.site import digests, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.recovery import RecoveryAction
from ncen_updater.agent.model.change import StepName, StepPhase, StepState
from ncen_updater.agent.model.errors import InterventionRequiredError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.progress import SilentProgress
from tests.faults.full import prepared
from tests.faults.trial import NEW, OLD, Trial
from tests.support.rotation import either_engine, in_turns
from tests.support.sites import site_in_process

pytestmark = either_engine("module_trial")

At = tuple[StepName, StepPhase]
PERSON = (
    "INSERT INTO persons (person_ref, family_name, workflow_state) VALUES ('LATER', 'x', 'new')"
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def module_trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    with prepared(request.param) as trial:
        yield trial


@pytest.fixture
def trial(module_trial: Trial) -> Trial:
    module_trial.reset()
    return module_trial


def operations(
    trial: Trial, instant: At | None = None, act: Callable[[], object] = int
) -> Operations:
    def checkpoint(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == instant:
            act()

    return Operations(site_in_process(trial.demo), SilentProgress(), checkpoint=checkpoint)


def upgraded_with_a_journal_of(trial: Trial, instant: At) -> dict[str, str]:
    """Upgrade, let a user work, bring the journal of an instant back; return the digests."""
    journal, old = trial.demo.state / JOURNAL_FILE, trial.demo.root / "old-journal"
    operations(trial, instant, lambda: shutil.copy(journal, old)).upgrade()
    enter_person(trial)
    shutil.copy(old, journal)
    return digests(trial.demo)


def enter_person(trial: Trial) -> None:
    place = trial.demo.databases
    if isinstance(place, PostgresPlace):
        with psycopg.connect(place.conninfo(place.names["suspects"], place.owner)) as connection:
            connection.execute(PERSON)
    else:
        with closing(sqlite3.connect(place.address("suspects"))) as database, database:
            database.execute(PERSON)


@in_turns("instant")
@pytest.mark.parametrize(
    "instant",
    [
        (StepName.CUT_OVER, StepPhase.AFTER_EFFECT),
        (StepName.SWITCH, StepPhase.BEFORE_EFFECT),
        (StepName.HEALTH, StepPhase.AFTER_RECORD),
        (StepName.COMMIT, StepPhase.BEFORE_EFFECT),
        (StepName.COMMIT, StepPhase.AFTER_RECORD),
    ],
    ids=".".join,
)
def test_journal_from_after_the_cut_over_is_completed(trial: Trial, instant: At) -> None:
    entered = upgraded_with_a_journal_of(trial, instant)
    result = operations(trial).resume(by_operator=False)
    assert result.decision is not None
    assert result.decision.action is RecoveryAction.FINISH
    assert digests(trial.demo) == entered
    assert version_of(trial.demo).whole == NEW
    assert not trial.demo.maintenance_file.exists()
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        change, *_ = journal.list_changes()
        assert change.get_step_state(StepName.COMMIT) is StepState.DONE
        assert not change.state.is_open
    operations(trial).rollback()
    assert version_of(trial.demo).whole == OLD
    number, _, _ = entered["suspects.persons"].partition(":")
    assert digests(trial.demo)["suspects.persons"].startswith(f"{number}:")


def test_journal_from_before_the_cut_over_needs_an_operator(trial: Trial) -> None:
    entered = upgraded_with_a_journal_of(trial, (StepName.FENCE, StepPhase.AFTER_RECORD))
    for by_operator in (False, True):
        with pytest.raises(InterventionRequiredError):
            operations(trial).resume(by_operator=by_operator)
    assert digests(trial.demo) == entered
    assert version_of(trial.demo).whole == NEW


@pytest.mark.parametrize("whole", [False, True], ids=["journal", "journal and records"])
def test_journal_from_before_a_later_change_reverts_nothing(trial: Trial, whole: bool) -> None:
    """Cut over, rolled back, upgraded again: the old journal knows of the first only.

    A backup of the state has the records of SQLite's sets, too.
    """
    journal, old = trial.demo.state / JOURNAL_FILE, trial.demo.root / "old-journal"
    records, old_records = trial.demo.state / "databases", trial.demo.root / "old-records"
    instant = (StepName.COMMIT, StepPhase.BEFORE_EFFECT)

    def back_up() -> None:
        shutil.copy(journal, old)
        if records.is_dir():
            shutil.copytree(records, old_records, dirs_exist_ok=True)

    operations(trial, instant, back_up).upgrade()
    operations(trial).rollback()
    operations(trial).upgrade()
    enter_person(trial)
    entered = digests(trial.demo)
    shutil.copy(old, journal)
    if whole and old_records.is_dir():
        shutil.rmtree(records)
        shutil.copytree(old_records, records)
    for by_operator in (False, True):
        with pytest.raises(InterventionRequiredError, match="later change"):
            operations(trial).resume(by_operator=by_operator)
    assert digests(trial.demo) == entered
    assert version_of(trial.demo).whole == NEW
