"""Tests of the agent selection and its transitions; the failsafe reads the same file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent import failsafe
from ncen_updater.agent.model.errors import SelectionDamagedError
from ncen_updater.agent.storage import agent_selection
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    FailedAgent,
    TrialState,
)
from ncen_updater.common.messages import SEQUENCE_UNWRITABLE
from tests.support.errors import refused

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((a|b|rc)[0-9])?", fullmatch=True)
#: No agent writes a time at an end of the calendar.
TIMES = st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
SEQUENCES = st.builds(
    AgentSelection,
    VERSIONS,
    st.none() | VERSIONS,
    st.sampled_from(TrialState),
    st.integers(0, 1000),
    st.dictionaries(
        VERSIONS,
        st.builds(
            FailedAgent,
            st.integers(1, 99),
            TIMES,
        ),
        max_size=5,
    ),
    st.none() | st.uuids().map(str),
)
TRYING = AgentSelection("2.0", "1.0", TrialState.ON_TRIAL, 1)


@given(SEQUENCES)
def test_failsafe_reads_the_same_selection(found: AgentSelection) -> None:
    assert AgentSelection.from_json(found.to_json()) == found


@given(SEQUENCES)
def test_agent_and_failsafe_share_the_selection_file(
    tmp_path_factory: pytest.TempPathFactory, found: AgentSelection
) -> None:
    directory = tmp_path_factory.getbasetemp() / "both"
    directory.mkdir(exist_ok=True)
    file = AgentSelectionFile(directory)
    file.update(lambda _: found)
    theirs = failsafe.read_selection(directory)
    assert theirs is not None
    assert (theirs.current, theirs.previous) == (found.current, found.previous)
    assert (theirs.state, theirs.attempts) == (found.state.value, found.attempts)
    failsafe.write_selection(directory, theirs)
    assert file.load() == found


def test_selection_is_readable_by_everyone_whatever_the_umask(tmp_path: Path) -> None:
    """The units that write it create private files.

    Seen: after a return to an older agent, the feed reader refused its configuration, because it
    could not see that the unknown settings were those of a newer agent.
    """
    file = AgentSelectionFile(tmp_path)
    before = os.umask(0o077)
    try:
        file.update(lambda _: TRYING)
        assert file.path.stat().st_mode & 0o777 == 0o644
        failsafe.write_selection(tmp_path, failsafe.SlotSelection("1.0"))
    finally:
        os.umask(before)
    assert file.path.stat().st_mode & 0o777 == 0o644


#: As agents wrote it so far, and as the failsafe writes it, byte for byte.
WRITTEN = b"""{
 "attempts": 2,
 "boot": null,
 "current": "2.0",
 "failed": {
  "1.9": {
   "at": "2026-11-24T12:00:00+00:00",
   "failures": 3
  }
 },
 "previous": "1.0",
 "schema": 1,
 "state": "on-trial"
}"""


def test_selection_file_format_is_stable(tmp_path: Path) -> None:
    file = AgentSelectionFile(tmp_path)
    file.path.write_bytes(WRITTEN)
    found = file.load()
    assert found == AgentSelection(
        "2.0", "1.0", TrialState.ON_TRIAL, 2, {"1.9": FailedAgent(3, NOW)}
    )
    file.path.unlink()
    file.update(
        lambda _: AgentSelection("2.0", "1.0", TrialState.ON_TRIAL, 2, {"1.9": FailedAgent(3, NOW)})
    )
    assert file.path.read_bytes() == WRITTEN


@dataclass(frozen=True)
class Row:
    name: str
    before: AgentSelection
    after: AgentSelection
    change: str


ROWS = (
    Row(
        "the chosen one confirms",
        TRYING,
        replace(TRYING, state=TrialState.CONFIRMED, attempts=0),
        "2.0",
    ),
    Row("another one does not", TRYING, TRYING, "1.0"),
    Row("unknown agent", TRYING, TRYING, "3.0"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_confirmation_changes_the_selection(row: Row) -> None:
    assert agent_selection.confirm_agent(row.before, row.change) == row.after


def test_trial_keeps_the_previous_agent_and_bad_versions() -> None:
    before = AgentSelection("1.0", "0.9", TrialState.CONFIRMED, 3, {"1.5": FailedAgent(1, NOW)})
    begun = agent_selection.begin_trial(before, "2.0")
    assert begun == AgentSelection(
        "2.0", "1.0", TrialState.ON_TRIAL, 0, {"1.5": FailedAgent(1, NOW)}
    )


def test_unconfirmed_agent_is_not_a_fallback() -> None:
    assert agent_selection.begin_trial(TRYING, "3.0") == AgentSelection(
        "3.0", "1.0", TrialState.ON_TRIAL
    )
    lone = AgentSelection("2.0", None, TrialState.ON_TRIAL)
    assert agent_selection.begin_trial(lone, "3.0") == AgentSelection(
        "3.0", "2.0", TrialState.ON_TRIAL
    )


def test_one_start_is_uncounted() -> None:
    begun = AgentSelection("2.0", "1.0", TrialState.ON_TRIAL, 2)
    assert agent_selection.uncount_start(begun, "2.0") == replace(begun, attempts=1)
    assert agent_selection.uncount_start(replace(begun, attempts=0), "2.0").attempts == 0
    assert agent_selection.uncount_start(begun, "1.0") == begun


def test_attempts_are_reset_only_for_a_confirmed_agent() -> None:
    good = AgentSelection("1.0", None, TrialState.CONFIRMED, 3)
    assert agent_selection.reset_attempts(good, "1.0").attempts == 0
    assert agent_selection.reset_attempts(good, "0.9") == good
    assert agent_selection.reset_attempts(TRYING, "2.0") == TRYING


def test_previous_agent_records_its_return() -> None:
    back = agent_selection.revert_to_previous(
        replace(TRYING, failed={"2.0": FailedAgent(1, NOW)}), "1.0", NOW
    )
    assert back == AgentSelection(
        "1.0", None, TrialState.CONFIRMED, 0, {"2.0": FailedAgent(2, NOW)}
    )
    assert agent_selection.revert_to_previous(TRYING, "2.0", NOW) == TRYING
    assert agent_selection.revert_to_previous(
        AgentSelection("2.0", "1.0"), "1.0", NOW
    ) == AgentSelection("2.0", "1.0")


def test_manual_installation_selects_the_agent() -> None:
    assert agent_selection.select_installed(None, "1.0") == AgentSelection("1.0")
    bad = replace(AgentSelection("1.0"), failed={"2.0": FailedAgent(1, NOW)})
    assert agent_selection.select_installed(bad, "1.0") == bad
    assert agent_selection.select_installed(bad, "2.0") == AgentSelection(
        "2.0", "1.0", TrialState.ON_TRIAL
    )


def test_link_is_repaired_although_the_file_is_right(tmp_path: Path) -> None:
    file = AgentSelectionFile(tmp_path)
    file.update(lambda _: AgentSelection("1.0"))
    (tmp_path / "current").unlink()
    file.update(lambda before: before or AgentSelection("0.1"))
    assert (tmp_path / "current").readlink() == Path("1.0")


def test_selection_file_is_replaced_and_not_rewritten(tmp_path: Path) -> None:
    file = AgentSelectionFile(tmp_path)
    file.update(lambda _: AgentSelection("1.0"))
    with file.path.open("rb") as before:
        file.update(lambda _: AgentSelection("2.0"))
        assert json.load(before)["current"] == "1.0"


def test_missing_and_damaged_selections_are_distinguished(tmp_path: Path) -> None:
    file = AgentSelectionFile(tmp_path)
    assert file.load() is None
    file.path.write_text('{"current": "../x"}')
    with pytest.raises(SelectionDamagedError):
        file.load()
    with pytest.raises(SelectionDamagedError):
        file.update(lambda _: AgentSelection("1.0"))
    assert file.path.read_text() == '{"current": "../x"}'


@pytest.mark.parametrize("part", ["current", "previous", "state", "attempts", "failed"])
def test_missing_fields_have_no_default(part: str, tmp_path: Path) -> None:
    """The failsafe takes such a file as damaged; an agent that did not would confirm itself."""
    whole = AgentSelection(
        "2.0", "1.0", TrialState.ON_TRIAL, 3, {"1.5": FailedAgent(1, NOW)}
    ).to_json()
    del whole[part]
    file = AgentSelectionFile(tmp_path)
    file.path.write_text(json.dumps(whole))
    with pytest.raises(SelectionDamagedError):
        file.load()
    assert failsafe.read_selection(tmp_path) is None


def test_unwritable_directory_is_reported(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with refused(SEQUENCE_UNWRITABLE):
        AgentSelectionFile(blocked / "agent").update(lambda _: AgentSelection("1.0"))
    assert list(tmp_path.iterdir()) == [blocked]
