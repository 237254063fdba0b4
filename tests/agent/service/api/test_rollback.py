"""Tests of rollback through the service: permissions, approvals, and emergencies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.version import Version

from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.approvals.rollback_approvals import (
    RollbackConsent,
    RollbackRequest,
    approve_rollback,
    find_rollback_to_approve,
    read_rollback_request,
    require_loss_accepted,
    require_rollback_consent,
)
from ncen_updater.agent.engine.rollback_plan import RollbackPlan
from ncen_updater.agent.model.change import Actor, ChangeState, DatabaseMode, StepName, StepState
from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.reports.command_results import format_rollback_plan
from ncen_updater.agent.service.api.app import ApiApplication
from ncen_updater.agent.service.loop import build_job_command
from ncen_updater.agent.service.notifications.conditions import collect_notifications
from ncen_updater.agent.service.notifications.notification import MANDATORY_KINDS
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.jobs import JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import (
    DATA_LOSS_ABOVE_APPROVAL,
    EMERGENCY_WITHOUT_REASON,
    ROLLBACK_NEEDS_APPROVAL,
)
from tests.agent.cli.site import CHANGE
from tests.agent.service.api.conftest import (
    APPROVER,
    NEXT,
    NOW,
    OPERATOR,
    READER,
    SETTINGS,
    Counter,
)
from tests.support.errors import refused

ROLLBACK: dict[str, Any] = {"kind": "rollback"}
SOMEBODY = Actor("amina", 1001)


@pytest.fixture
def upgraded(counter: Counter) -> Counter:
    """A site that was upgraded from 3.2.4 to 3.3.0; the release is not watched any more."""
    counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        journal.record_step(CHANGE.id, StepName.COMMIT, StepState.INTENDED)
        journal.record_step(CHANGE.id, StepName.COMMIT, StepState.DONE)
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
    counter.know(replace(NEXT, current="3.3.0", target=None, binding="", basis=None))
    return counter


def _binding(counter: Counter, needed: int = 2) -> str:
    with Journal.open(counter.site.journal, read_only=True) as journal:
        return find_rollback_to_approve(journal, "3.3.0", needed).binding


def _one_is_enough(counter: Counter) -> None:
    snapshots = SnapshotStore(SETTINGS.model_copy(update={"required_approvals": 1}), lambda: NOW)
    counter.context = replace(counter.context, snapshots=snapshots)
    counter.application = ApiApplication(counter.context, lambda environ: environ["uid"])


def test_default_groups_differ() -> None:
    service = ServiceSettings()
    assert len({service.viewer_group, service.operator_group, service.approver_group}) == 3


def test_viewer_cannot_roll_back(upgraded: Counter) -> None:
    before = upgraded.rows()
    for form in (ROLLBACK, {**ROLLBACK, "emergency_reason": "now"}):
        assert upgraded.ask("POST", "/v1/jobs", form, READER).status == 403
    assert upgraded.rows() == before


def test_operator_cannot_roll_back_without_approvals(upgraded: Counter) -> None:
    before = upgraded.rows()
    answer = upgraded.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR)
    assert (answer.status, answer.code) == (409, "NU-6056")
    assert answer.document["error"]["values"]["missing"] == 2
    _one_is_enough(upgraded)
    answer = upgraded.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR)
    assert (answer.status, answer.code) == (409, "NU-6056")
    assert upgraded.rows() == before
    assert upgraded.ask("POST", "/v1/jobs", ROLLBACK).status == 202, "root may approve, too"


def test_operator_may_roll_back_during_the_soak(counter: Counter) -> None:
    """An operator ends the soak by a job; requester and permission are recorded."""
    counter.site.open_change(StepName.FETCH)
    counter.know(replace(NEXT, current="3.2.4", target=None, binding="", basis=None))
    refused_now = counter.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR)
    assert (refused_now.status, refused_now.code) == (409, "NU-6005"), "officers are out"
    with Journal.open(counter.site.journal) as journal:
        for name in (StepName.COMMIT, StepName.MAINTENANCE_OFF):
            journal.record_step(CHANGE.id, name, StepState.INTENDED)
            journal.commit_change(CHANGE.id)
            journal.record_step(CHANGE.id, name, StepState.DONE)
    for form in ({"kind": "upgrade"}, {"kind": "rehearse"}):
        assert counter.ask("POST", "/v1/jobs", form, OPERATOR).code == "NU-6005", form
    assert counter.ask("POST", "/v1/jobs", ROLLBACK, READER).status == 403
    way = counter.ask("POST", "/v1/inspections", {"kind": "rollback-plan"}, READER)
    assert way.status == 202, way.content
    given = counter.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR)
    assert given.status == 202, given.content
    with Journal.open(counter.site.journal) as journal:
        asked = read_rollback_request(journal, given.document["id"])
        verdict = require_rollback_consent(
            journal, find_rollback_to_approve(journal, "3.3.0", 2), asked
        )
        assert verdict.consent is RollbackConsent.NOT_REQUIRED


def test_two_approvers_approve_a_rollback(upgraded: Counter) -> None:
    yes = {"binding": _binding(upgraded), "change_kind": "rollback"}
    wrong = {**yes, "binding": "00" * 32}
    assert upgraded.ask("POST", "/v1/approvals", wrong, APPROVER).code == "NU-9315"
    assert upgraded.ask("POST", "/v1/approvals", yes, OPERATOR).status == 403
    assert upgraded.ask("POST", "/v1/approvals", yes).code == "NU-6029", "root is nobody"
    assert upgraded.ask("POST", "/v1/approvals", yes, APPROVER).status == 201
    assert upgraded.ask("POST", "/v1/approvals", yes, APPROVER).status == 200
    answer = upgraded.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR)
    assert answer.document["error"]["values"] == {
        "version": "3.2.4", "missing": 1, "needed": 2, "who": APPROVER, "loss": "",
    }  # fmt: skip
    _one_is_enough(upgraded)
    assert upgraded.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR).status == 202


def test_accepted_loss_must_match_all_approvals(upgraded: Counter) -> None:
    yes = {"binding": _binding(upgraded), "change_kind": "rollback"}
    order = {**ROLLBACK, "accept_loss": 5}
    upgrade = {**yes, "change_kind": "upgrade", "accept_loss": 5}
    assert upgraded.ask("POST", "/v1/approvals", upgrade, APPROVER).code == "NU-9312"
    # Seen in an emergency: the group of those who approve was named, who may not go back either.
    for form in (order, {**order, "emergency_reason": "officers lose cases"}):
        alone = upgraded.ask("POST", "/v1/jobs", form, OPERATOR)
        assert alone.code == "NU-6070"
        assert "run: ncen-updater approve --rollback --accept-loss 5" in str(
            alone.document["error"]["remedy"]
        )
    _one_is_enough(upgraded)
    refusal = upgraded.ask("POST", "/v1/jobs", order, OPERATOR)
    assert (refusal.status, refusal.code) == (403, "NU-9335")
    assert "run: ncen-updater rollback --accept-loss 5" in refusal.document["error"]["remedy"]
    # A group that people know, and no name of a right of ours, in English in every language.
    assert "Ask a member of '" in refusal.document["error"]["remedy"]
    assert upgraded.ask("POST", "/v1/approvals", yes, APPROVER).status == 201
    answer = upgraded.ask("POST", "/v1/jobs", order, OPERATOR)
    assert answer.code == "NU-6070", "of none"
    assert answer.document["error"]["values"] == {
        "version": "3.2.4", "who": APPROVER, "agreed": 0, "count": 5,
    }  # fmt: skip
    for number, status in ((5, 201), (5, 200), (4, 201)):
        given = upgraded.ask("POST", "/v1/approvals", {**yes, "accept_loss": number}, APPROVER)
        assert given.status == status, number
    assert upgraded.ask("POST", "/v1/jobs", order, OPERATOR).code == "NU-6070", "of four"
    assert upgraded.ask("POST", "/v1/jobs", {**order, "accept_loss": 4}, OPERATOR).status == 202


def test_smallest_accepted_loss_of_all_approvals_applies(upgraded: Counter) -> None:
    with Journal.open(upgraded.site.journal) as journal:
        for who, uid, number in (("anna", 2001, 7), ("jean", 2002, 3)):
            found = find_rollback_to_approve(journal, "3.3.0", 2)
            assert found.accepted_loss == 0
            assert approve_rollback(journal, found, Actor(who, uid), accept_loss=number)
        assert find_rollback_to_approve(journal, "3.3.0", 2).accepted_loss == 3


def test_lower_accepted_loss_after_the_job_is_respected(upgraded: Counter) -> None:
    _one_is_enough(upgraded)
    yes = {"binding": _binding(upgraded), "change_kind": "rollback"}
    upgraded.ask("POST", "/v1/approvals", {**yes, "accept_loss": 5}, APPROVER)
    order = {**ROLLBACK, "accept_loss": 5}
    number = upgraded.ask("POST", "/v1/jobs", order, OPERATOR).document["id"]
    with Journal.open(upgraded.site.journal) as journal:
        asked = read_rollback_request(journal, number)
        assert require_rollback_consent(
            journal, find_rollback_to_approve(journal, "3.3.0", 1), asked
        )
        found = find_rollback_to_approve(journal, "3.3.0", 1)
        assert approve_rollback(journal, found, Actor(APPROVER, found.count.approvals[0].uid),
                            accept_loss=4)  # fmt: skip
        with refused(DATA_LOSS_ABOVE_APPROVAL) as caught:  # no approval is required any more
            require_rollback_consent(journal, find_rollback_to_approve(journal, "3.3.0", 1), asked)
        assert (caught.value.values["agreed"], caught.value.values["count"]) == (4, 5)
        with refused(ROLLBACK_NEEDS_APPROVAL) as missing:
            require_rollback_consent(journal, find_rollback_to_approve(journal, "3.3.0", 2), asked)
        assert missing.value.values["missing"] == 1
        assert "ncen-updater approve --rollback --accept-loss 5" in str(missing.value.remedy_text)


def test_approvals_are_checked_again_at_the_start_of_a_rollback(upgraded: Counter) -> None:
    """By the job's requester, not the service user; a withdrawn approval is missed."""
    _one_is_enough(upgraded)
    yes = {"binding": _binding(upgraded), "change_kind": "rollback"}
    upgraded.ask("POST", "/v1/approvals", yes, APPROVER)
    number = upgraded.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR).document["id"]
    with Journal.open(upgraded.site.journal) as journal:
        order = JobQueue(journal).find(number)
        assert order is not None
        assert build_job_command(order) == ("rollback", "--yes", "--job", str(number))
        asked = read_rollback_request(journal, number)
        assert (asked.actor.name, asked.may_approve) == (OPERATOR, False)
        found = find_rollback_to_approve(journal, "3.3.0", 1)
        assert require_rollback_consent(journal, found, asked).consent is RollbackConsent.APPROVED
    address = "/v1/approvals?change_kind=rollback"
    assert upgraded.ask("DELETE", address, user=APPROVER).document["withdrawn"] == 1
    with Journal.open(upgraded.site.journal) as journal, refused(ROLLBACK_NEEDS_APPROVAL):
        require_rollback_consent(journal, find_rollback_to_approve(journal, "3.3.0", 1), asked)


def test_emergency_rollback_is_recorded_and_notified_at_once(upgraded: Counter) -> None:
    form = {**ROLLBACK, "emergency_reason": "officers lose cases"}
    number = upgraded.ask("POST", "/v1/jobs", form, OPERATOR).document["id"]
    with Journal.open(upgraded.site.journal) as journal:
        before = journal.read_last_event_number()
        asked = read_rollback_request(journal, number)
        verdict = require_rollback_consent(
            journal, find_rollback_to_approve(journal, "3.3.0", 2), asked
        )
        assert verdict.consent is RollbackConsent.EMERGENCY
        event = list(journal.list_events(before))[-1]
        assert (event.kind, event.get("reason")) == ("emergency-rollback", "officers lose cases")
        assert event.get("by") == OPERATOR
        told = collect_notifications(journal, before, journal.read_last_event_number())
    assert [(news.kind, news.values) for news in told] == [
        (NotificationKind.EMERGENCY_ROLLBACK, {"from": "3.3.0", "version": "3.2.4", "by": OPERATOR})
    ]
    assert NotificationKind.EMERGENCY_ROLLBACK in MANDATORY_KINDS
    assert [news.is_critical for news in told] == [True]


def test_rollback_without_a_previous_release_is_refused(counter: Counter) -> None:
    yes = {"binding": "00" * 32, "change_kind": "rollback"}
    counter.know(NEXT)
    answer = counter.ask("POST", "/v1/approvals", yes, APPROVER)
    assert (answer.status, answer.code) == (409, "NU-9315")


def test_emergency_rollback_needs_a_reason(upgraded: Counter) -> None:
    for text in ("", " ", "\x1b[2J"):
        answer = upgraded.ask("POST", "/v1/jobs", {**ROLLBACK, "emergency_reason": text}, OPERATOR)
        assert answer.status == 400, text
    assert (
        upgraded.ask("POST", "/v1/jobs", {"kind": "check", "emergency_reason": "x"}).status == 400
    )
    with Journal.open(upgraded.site.journal) as journal, refused(EMERGENCY_WITHOUT_REASON):
        require_rollback_consent(
            journal,
            find_rollback_to_approve(journal, "3.3.0", 2),
            RollbackRequest(SOMEBODY, True, " "),
        )


def test_rollback_during_the_soak_needs_no_approvals(upgraded: Counter) -> None:
    with Journal.open(upgraded.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.STUCK)
        found = find_rollback_to_approve(journal, "3.3.0", 2)
        assert found.to_json()["missing"] == 0
        assert (
            require_rollback_consent(journal, found, RollbackRequest(SOMEBODY, False)).consent
            is RollbackConsent.NOT_REQUIRED
        )
    assert upgraded.ask("POST", "/v1/jobs", ROLLBACK, OPERATOR).status == 202


def test_unneeded_rollback_approval_is_not_requested(upgraded: Counter) -> None:
    """Seen: 'approve --rollback' asked for a yes that was refused then (NU-6005)."""
    way = RollbackPlan(
        Version("3.3.0"), Version("3.2.4"), DatabaseMode.MIGRATE, lost={"cases": {"cases": 4}}
    )
    with Journal.open(upgraded.site.journal) as journal:
        before = format_rollback_plan(way, find_rollback_to_approve(journal, "3.3.0", 2), "en")
        assert "Missing approvals: 2" in str(before.lines[-1])
        # Seen: "approve --rollback", which is refused where something is lost (NU-6050).
        assert "approved by" not in str(before.lines[-1])
        assert "ncen-updater approve --rollback --accept-loss 4" in str(before.lines[-1])
        with refused(DATA_LOSS_ABOVE_APPROVAL) as nobody:  # seen in an emergency: "(-)"
            require_loss_accepted(find_rollback_to_approve(journal, "3.3.0", 2), 4)
        assert str(nobody.value.state).endswith("Approved by: nobody.")
        journal.set_change_state(CHANGE.id, ChangeState.COMMITTED)
        watched = format_rollback_plan(way, find_rollback_to_approve(journal, "3.3.0", 2), "en")
    assert watched.document["in_soak"] is True
    assert "No approval required" in str(watched.lines[-2])
    for found in (before, watched):  # seen in the console: the command, beside its button
        assert not [line for line in found.document["how"] if "ncen-updater" in str(line)]
    assert "ncen-updater rollback --accept-loss 4" in str(watched.lines[-1])


def test_rollback_approval_is_not_an_upgrade_approval(upgraded: Counter) -> None:
    from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore

    yes = {"binding": _binding(upgraded), "change_kind": "rollback"}
    upgraded.ask("POST", "/v1/approvals", yes, APPROVER)
    with Journal.open(upgraded.site.journal) as journal:
        store = ApprovalStore(journal)
        assert store.read_last_basis("3.2.4") is None
        assert store.consume("bbbbbbbb", "00" * 32) == 0
        assert store.consume("bbbbbbbb", yes["binding"]) == 1
        assert not store.list_active()
