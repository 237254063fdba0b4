"""Tests of a rollback without a down migration: exactly the accepted loss, and it is reported."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

import pytest

from demo.site import DemoSite, digests, version_of
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    approve_rollback,
    find_rollback_to_approve,
)
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.change import Actor, StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import RECORDS_WOULD_BE_LOST
from ncen_updater.common.progress import SilentProgress
from tests.support.errors import has_message, refused
from tests.support.sites import running_site, site_in_process

OLD, ONE_WAY = "3.2.4", "3.3.9"


@pytest.fixture
def demo() -> Iterator[DemoSite]:
    with running_site(OLD, ONE_WAY) as site:
        yield site


def operations(
    demo: DemoSite, checkpoint: Callable[[StepName, StepPhase], None] | None = None
) -> Operations:
    site = site_in_process(demo)
    return Operations(site, SilentProgress(), checkpoint=checkpoint or (lambda _step, _phase: None))


def enter_person(demo: DemoSite, number: int) -> None:
    with sqlite3.connect(demo.databases.address("suspects")) as connection:
        connection.execute(
            "INSERT INTO persons (person_ref, family_name, workflow_state) VALUES (?, ?, 'new')",
            (f"LATER-{number}", "entered later"),
        )
    connection.close()


def change_document(demo: DemoSite) -> None:
    with sqlite3.connect(demo.databases.address("suspects")) as connection:
        changed = connection.execute(
            "UPDATE identity_documents SET number = 'changed later'"
            " WHERE id = (SELECT min(id) FROM identity_documents)"
        )
        assert changed.rowcount == 1
    connection.close()


def test_loss_is_counted_confirmed_and_accepted(demo: DemoSite) -> None:
    before = digests(demo)
    operations(demo).upgrade()
    enter_person(demo, 1)
    enter_person(demo, 2)
    change_document(demo)
    with refused(RECORDS_WOULD_BE_LOST) as caught:
        operations(demo).rollback()
    assert caught.value.values["count"] == 3
    assert "suspects.identity_documents 1, suspects.persons 2" in str(caught.value)
    with refused(RECORDS_WOULD_BE_LOST):
        operations(demo).rollback(accept_loss=2)
    assert version_of(demo).whole == ONE_WAY
    operations(demo).rollback(accept_loss=3)
    assert version_of(demo).whole == OLD
    assert digests(demo) == before


def test_two_approvers_are_asked_for_a_loss_until_they_accept_it(demo: DemoSite) -> None:
    """Seen: "To accept the data loss, run: ncen-updater rollback --accept-loss 1", refused."""
    operations(demo).upgrade()
    demo.configure({"service": {"required_approvals": 2}})
    enter_person(demo, 1)

    def ask() -> str:
        with refused(RECORDS_WOULD_BE_LOST) as caught:
            operations(demo).rollback()
        return str(caught.value.remedy_text)

    first = ask()
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        for actor in (Actor("amina", 1001), Actor("bo", 1002)):
            rollback = find_rollback_to_approve(journal, ONE_WAY, 2)
            approve_rollback(journal, rollback, actor, accept_loss=1)
    assert "approve --rollback --accept-loss 1" in first
    assert "ncen-updater rollback --accept-loss 1" in ask()


def test_loss_above_the_accepted_number_reverts(demo: DemoSite) -> None:
    operations(demo).upgrade()
    enter_person(demo, 1)

    def one_more(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.MAINTENANCE_ON, StepPhase.BEFORE_EFFECT):
            enter_person(demo, 2)

    with pytest.raises(ChangeFailedError) as caught:
        operations(demo, one_more).rollback(accept_loss=1)
    cause = caught.value.__cause__
    assert isinstance(cause, UpdaterError)
    assert has_message(cause, RECORDS_WOULD_BE_LOST)
    assert cause.values["count"] == 2
    assert version_of(demo).whole == ONE_WAY
    assert version_of(demo).reported == ONE_WAY
    operations(demo).rollback(accept_loss=5)
    assert version_of(demo).whole == OLD
