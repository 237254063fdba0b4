"""The light look at the journal: holds that end, and a release that is to be taken back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.engine.errors import Interrupted
from ncen_updater.agent.engine.pending_rollback import (
    MOST_FAILURES,
    MOST_TRIES,
    left_behind,
)
from ncen_updater.agent.journal.change import Change, ChangeKind, ChangeState, Mode
from ncen_updater.agent.journal.facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.agent.service.look import Looker

NOW = datetime(2026, 11, 24, tzinfo=UTC)
UPGRADE = Change(
    id="aaaaaaaa", kind=ChangeKind.UPGRADE, mode=Mode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", strategy="copy", generation=1,
    created_at=NOW,
)  # fmt: skip
BACK = dataclasses.replace(
    UPGRADE, kind=ChangeKind.ROLLBACK, from_version="3.3.0", to_version="3.2.4"
)


#: Of a rollback that nobody ordered.
TORN = ChangeFacts(soak_of=UPGRADE.id)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.create(tmp_path / "journal.sqlite", now=lambda: NOW) as made:
        yield made


@pytest.fixture
def looker(tmp_path: Path) -> Looker:
    return Looker(tmp_path / "journal.sqlite", tmp_path / "lock", lambda: NOW)


def upgraded(journal: Journal, facts: ChangeFacts) -> None:
    journal.begin(UPGRADE, facts)
    journal.commit(UPGRADE.id)
    journal.state(UPGRADE.id, ChangeState.FINISHED)


def back(
    journal: Journal,
    number: int,
    state: ChangeState,
    code: str | None = None,
    facts: ChangeFacts = TORN,
) -> None:
    change = dataclasses.replace(BACK, id=f"bbbbbbb{'abcdefgh'[number]}")
    journal.begin(change, facts)
    if state is ChangeState.FINISHED:
        journal.commit(change.id)
    journal.state(change.id, state, error_code=code)


def test_the_end_of_holds_is_known_where_all_of_them_end(journal: Journal, looker: Looker) -> None:
    hours = [NOW + timedelta(hours=hour) for hour in (1, 3, 2)]
    for end in hours:
        SiteHistory(journal).hold("fair", "amina", end)
    assert looker.look("", 1).held_until == hours[1]
    SiteHistory(journal).hold("audit", "bo", None)
    assert looker.look("", 1).held_until is None


def test_a_rollback_is_owed_until_it_was_made_or_tried_too_often(
    journal: Journal, looker: Looker
) -> None:
    upgraded(journal, ChangeFacts(soak_failed="status 503"))
    assert not looker.look("", 1).owed, "none was begun: that is the site's own setting"
    for number in range(MOST_TRIES):
        back(journal, number, ChangeState.UNDONE)
        assert looker.look("", 1).owed is (number < MOST_TRIES - 1)
    back(journal, MOST_TRIES, ChangeState.FINISHED)
    assert not looker.look("", 1).owed
    assert left_behind(journal) == frozenset()


def test_one_that_fails_is_tried_once_more(journal: Journal, looker: Looker) -> None:
    upgraded(journal, ChangeFacts(soak_failed="status 503"))
    for number, owed in enumerate((True, False)):
        back(journal, number, ChangeState.UNDONE, "NU-6005")
        assert looker.look("", 1).owed is owed


def test_one_that_was_told_to_end_has_not_failed(journal: Journal, looker: Looker) -> None:
    upgraded(journal, ChangeFacts(soak_failed="status 503"))
    for number in range(MOST_FAILURES + 1):
        back(journal, number, ChangeState.UNDONE, Interrupted.code)
        assert looker.look("", 1).owed


def test_what_people_confirmed_or_did_is_not_owed(journal: Journal, looker: Looker) -> None:
    upgraded(journal, ChangeFacts(soak_failed="status 503", confirmed_by="amina"))
    back(journal, 0, ChangeState.UNDONE)
    assert not looker.look("", 1).owed
    back(journal, 1, ChangeState.FINISHED, facts=NO_FACTS)
    assert left_behind(journal) == {"3.3.0"}
