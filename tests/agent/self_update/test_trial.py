"""Tests of when a new agent confirms itself or gives up, and when a service makes way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.model.errors import JournalUnwritableError
from ncen_updater.agent.self_update.agent_directory import DirectoryAction, create_action_handler
from ncen_updater.agent.self_update.trial import AgentTrial, TrialVerdict, decide_duty
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    TrialState,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import AGENT_NOT_CONFIRMED, SEQUENCE_UNWRITABLE
from tests.support.errors import refused

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TRYING = AgentSelection("2.0", "1.0", TrialState.ON_TRIAL, 1)


@pytest.mark.parametrize(
    ("found", "version", "duty"),
    [
        (None, "2.0", None),
        (TRYING, "2.0", DirectoryAction.CONFIRM),
        (TRYING, "1.0", DirectoryAction.REVERT),
        (TRYING, "0.5", None),
        (replace(TRYING, state=TrialState.CONFIRMED), "2.0", DirectoryAction.RESET_ATTEMPTS),
        (replace(TRYING, state=TrialState.CONFIRMED, attempts=0), "2.0", None),
        (replace(TRYING, state=TrialState.CONFIRMED), "1.0", None),
    ],
)
def test_duty_of_an_agent_is_decided(
    found: AgentSelection | None, version: str, duty: DirectoryAction | None
) -> None:
    assert decide_duty(found, version) is duty


class Trial:
    def __init__(self, directory: Path, found: AgentSelection | None, version: str = "2.0") -> None:
        self.file, self.version = AgentSelectionFile(directory), version
        if found is not None:
            self.file.update(lambda _: found)
        self.time = 1000.0
        self.reached = True
        self.journal_full = self.answer_lost = False
        self.said: list[str] = []
        self.probation = AgentTrial(
            self.file,
            version,
            60.0,
            check_reachability=self._reach,
            record_confirmation=self._confirmed,
            run_action=self._do,
            monotonic=lambda: self.time,
        )

    def _do(self, action: DirectoryAction) -> None:
        if action is DirectoryAction.CLEAN_UP:
            self.said.append("after")
        else:
            create_action_handler(self.file.directory, self.version, lambda: NOW, lambda: None)(
                action
            )
        if self.answer_lost:
            raise UpdaterError(SEQUENCE_UNWRITABLE, path=self.file.directory, reason="timeout")

    def _reach(self) -> bool:
        self.said.append("reach")
        return self.reached

    def _confirmed(self) -> None:
        if self.journal_full:
            raise JournalUnwritableError(path="j", reason="full")
        self.said.append("confirmed")

    def step(self, seconds: float = 0.0) -> TrialVerdict:
        self.time += seconds
        return self.probation.run_after_step()

    @property
    def state(self) -> TrialState:
        found = self.file.load()
        assert found is not None
        return found.state


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path, TRYING)


def test_new_agent_confirms_itself_after_its_minute(trial: Trial) -> None:
    assert trial.probation.on_trial
    assert trial.step(10) == TrialVerdict(retry_after_s=50.0)
    assert trial.said == []
    assert trial.step(50) == TrialVerdict(retry_after_s=0.0)
    assert trial.said == ["reach", "confirmed", "after"]
    assert trial.state is TrialState.CONFIRMED
    assert not trial.probation.on_trial


def test_agent_that_reaches_nothing_gives_up(trial: Trial) -> None:
    trial.reached = False
    assert trial.step(60) == TrialVerdict(retry_after_s=60.0)
    assert trial.step(539.9) == TrialVerdict(retry_after_s=60.0)
    with refused(AGENT_NOT_CONFIRMED):
        trial.step(0.1)
    assert trial.state is TrialState.ON_TRIAL


def test_agent_that_reaches_the_site_late_is_confirmed(trial: Trial) -> None:
    trial.reached = False
    trial.step(60)
    trial.reached = True
    trial.step(60)
    assert trial.state is TrialState.CONFIRMED


def test_unwritable_journal_prevents_confirmation(trial: Trial) -> None:
    trial.journal_full = True
    assert trial.step(60).retry_after_s == 60.0
    assert trial.state is TrialState.ON_TRIAL


def test_unwritable_selection_prevents_confirmation(trial: Trial) -> None:
    partial_taken = trial.file.path
    content = partial_taken.read_bytes()
    lock = trial.file.directory / "sequence.lock"
    lock.unlink()
    lock.mkdir()
    assert trial.step(60).retry_after_s == 60.0
    assert trial.probation.on_trial
    assert partial_taken.read_bytes() == content
    assert trial.step(60).retry_after_s == 60.0
    assert trial.said.count("confirmed") == 1  # the journal takes it once
    lock.rmdir()
    # The journal is not written now: nothing else ends the sleep of a service where orders wait.
    assert trial.step(60).retry_after_s == 0.0
    assert trial.state is TrialState.CONFIRMED


def test_agent_that_filled_the_disk_gives_up(trial: Trial) -> None:
    lock = trial.file.directory / "sequence.lock"
    lock.unlink()
    lock.mkdir()
    trial.step(60)
    with refused(AGENT_NOT_CONFIRMED):
        trial.step(540)
    assert trial.state is TrialState.ON_TRIAL


@pytest.mark.parametrize("state", TrialState)
def test_termination_is_not_held_against_the_agent(tmp_path: Path, state: TrialState) -> None:
    trial = Trial(tmp_path, replace(TRYING, state=state, attempts=2))
    trial.probation.uncount_start()
    assert trial.file.load() == replace(TRYING, state=state, attempts=1)


def test_agent_outside_a_slot_selects_none(tmp_path: Path) -> None:
    trial = Trial(tmp_path, None)
    trial.probation.uncount_start()
    assert trial.file.load() is None


def test_confirmed_agent_resets_its_starts(
    tmp_path: Path,
) -> None:
    trial = Trial(tmp_path, replace(TRYING, state=TrialState.CONFIRMED, attempts=3))
    assert not trial.probation.on_trial
    assert trial.step(60) == TrialVerdict(retry_after_s=540.0)
    trial.step(540)
    found = trial.file.load()
    assert found is not None
    assert found.attempts == 0
    assert trial.said == []


def test_service_exits_for_a_newly_selected_agent(tmp_path: Path) -> None:
    trial = Trial(tmp_path, AgentSelection("2.0"))
    assert trial.step(1) == TrialVerdict()
    trial.file.update(lambda _: AgentSelection("3.0", "2.0", TrialState.ON_TRIAL))
    assert trial.step(1) == TrialVerdict(should_exit=True)


def test_previous_agent_stays_where_the_new_one_was_not_started(tmp_path: Path) -> None:
    trial = Trial(tmp_path, TRYING, version="1.0")
    assert not trial.probation.on_trial
    assert trial.step(0) == TrialVerdict()
    found = trial.file.load()
    assert found is not None
    assert (found.current, found.state, found.failed["2.0"].failures) == (
        "1.0",
        TrialState.CONFIRMED,
        1,
    )


def test_agent_without_slots_has_no_duty(tmp_path: Path) -> None:
    trial = Trial(tmp_path, None)
    assert trial.step(10_000) == TrialVerdict()
    assert list(tmp_path.iterdir()) == []


def test_confirmed_agent_ends_its_trial_although_the_answer_was_lost(trial: Trial) -> None:
    trial.answer_lost = True
    assert trial.step(60).retry_after_s == 60.0
    assert trial.state is TrialState.CONFIRMED
    trial.answer_lost = False
    assert trial.step(60) == TrialVerdict(retry_after_s=0.0)
    assert not trial.probation.on_trial
    assert trial.said == ["reach", "confirmed", "after"]


def test_agent_on_trial_gives_up_if_the_selection_is_damaged(trial: Trial) -> None:
    trial.file.path.write_text("{")
    assert trial.step(60) == TrialVerdict(retry_after_s=60.0)
    with refused(AGENT_NOT_CONFIRMED):
        trial.step(540)


def test_selection_damaged_later_does_not_end_the_service(tmp_path: Path) -> None:
    trial = Trial(tmp_path, AgentSelection("2.0"))
    trial.file.path.write_text("{")
    assert trial.step(6000) == TrialVerdict()
