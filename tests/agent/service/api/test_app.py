"""Valid and invalid requests: a refusal changes nothing, and has a stable code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.model.change import Actor, ChangeKind, ChangeState, StepName
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import RECOVERY_STARTED
from ncen_updater.agent.policy.automation import ActionFailure, ServiceAction
from ncen_updater.agent.reports.status import read_status
from ncen_updater.agent.service.api import queries
from ncen_updater.agent.service.api.forms import MAX_BODY_BYTES
from ncen_updater.agent.service.snapshot import ServiceEvent
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue, JournalJobRecorder
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, WithheldRelease
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.feed_summary import FeedSummary, get_view_path
from tests.agent.cli.site import CHANGE
from tests.agent.service.api.conftest import (
    APPROVER,
    BASIS,
    BINDING,
    LATER,
    NEXT,
    NOBODY,
    NOW,
    OPERATOR,
    OTHER,
    READER,
    Counter,
    uid_of,
)

YES = {"binding": BINDING}
NO = {"binding": BINDING, "reason": "in a week"}
HOLD = {"reason": "customs fair"}
TIME = {"binding": BINDING, "not_before": LATER}


def test_viewers_see_the_site(counter: Counter) -> None:
    counter.know(NEXT)
    for user in (READER, OPERATOR, APPROVER):
        seen = counter.ask("GET", "/v1/status", user=user).document
        assert seen["running"]["version"] == "3.2.4"
        assert seen["you"]["name"] == user
        assert seen["service"]["mode"] == "approve"
        assert counter.ask("GET", "/v1/next-upgrade", user=user).document["binding"] == BINDING


def test_service_activity_and_site_state_are_of_one_moment(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: "nobody works on it" beside "going back", read seconds apart."""
    works: list[object] = []

    def read(*args: Any, **parts: Any) -> Any:
        works.append(counter.snapshots.get_latest().running)
        if len(works) == 1:
            counter.snapshots.record_start(["resume", "--unattended"])
        return read_status(*args, **parts)

    monkeypatch.setattr(queries, "read_status", read)
    seen = counter.ask("GET", "/v1/status", user=READER).document
    assert seen["service"]["running"]["command"] == ["resume", "--unattended"]
    assert [work is not None for work in works] == [False, True]


def test_finished_command_is_not_reported_as_running(counter: Counter) -> None:
    """Seen: "undone" beside "a change is not finished", until the service had looked."""
    why = LazyText("a change is not finished")
    counter.snapshots.handle_event(ServiceEvent("next", {"action": "resume", "reason": why}))
    counter.snapshots.record_start(["resume", "--unattended"])
    counter.snapshots.record_end()
    seen = counter.ask("GET", "/v1/status", user=READER).document["service"]
    assert (seen["running"], seen["action"], seen["reason"]) == (None, None, None)


def test_older_release_is_approved_by_version_or_binding(
    counter: Counter,
) -> None:
    counter.know(replace(NEXT, target="3.4.0", alternatives=(replace(NEXT, binding=OTHER),)))
    seen = counter.ask("GET", "/v1/next-upgrade?version=3.3", user=READER).document
    assert (seen["target"], seen["binding"], seen["missing"]) == ("3.3.0", OTHER, 2)
    assert counter.ask("GET", "/v1/next-upgrade").document["target"] == "3.4.0"
    assert counter.ask("GET", "/v1/next-upgrade?version=9.9").code == "NU-9317"
    assert counter.ask("GET", "/v1/next-upgrade?version=x").code == "NU-9312"
    # Seen: "Rehearse it first; then it can be approved", of one that was halted; "- comes next".
    kept = (WithheldRelease("9.9", "halted", "bad"), WithheldRelease("9.8", "withdrawn", "worse"))
    counter.know(replace(NEXT, target=None, withheld=kept))
    for version, code in (("9.9.0", "NU-2210"), ("9.8", "NU-2205"), ("9.7", "NU-9336")):
        assert counter.ask("GET", f"/v1/next-upgrade?version={version}").code == code
    counter.know(replace(NEXT, target="3.4.0", alternatives=(replace(NEXT, binding=OTHER),)))
    wrong = {"binding": BINDING, "version": "3.3.0"}
    assert counter.ask("POST", "/v1/approvals", wrong, APPROVER).code == "NU-9315"
    given = counter.ask("POST", "/v1/approvals", {"binding": OTHER}, APPROVER)
    assert (given.status, given.document["version"]) == (201, "3.3.0")
    timed = counter.ask("PUT", "/v1/schedule", {**TIME, "binding": OTHER}, OPERATOR)
    assert (timed.status, timed.document["version"]) == (200, "3.3.0")
    seen = counter.ask("GET", "/v1/next-upgrade?version=3.3.0", user=READER).document
    assert (seen["missing"], seen["scheduled"]["actor"]) == (1, OPERATOR)


def test_permissions_are_reported_in_advance(counter: Counter) -> None:
    """As in refusals, with the members who have it; root cannot approve where two must."""
    for user, role, status in (
        (READER, "operate", 403), (READER, "approve", 403), (OPERATOR, "operate", 200),
        (OPERATOR, "approve", 403), (APPROVER, "approve", 200), (APPROVER, "operate", 403),
        ("root", "operate", 200), ("root", "approve", 403),
    ):  # fmt: skip
        answer = counter.ask("GET", f"/v1/rights/{role}", user=user)
        assert answer.status == status, (user, role, answer.content)
        if user == "root" and status == 403:
            assert answer.code == "NU-6029"
        elif status == 403:
            values = answer.document["error"]["values"]
            assert values["group"] == {"operate": OPERATOR, "approve": APPROVER}[role]
            assert values["members"], "who is in it, or that nobody is"
    assert counter.ask("GET", "/v1/rights/read", user=NOBODY).status == 403


@pytest.mark.parametrize(
    "address", ["/v1/status", "/v1/next-upgrade", "/v1/events", "/v1/openapi.json"]
)
def test_user_in_no_group_sees_nothing(counter: Counter, address: str) -> None:
    for user in (NOBODY, 987_654_321):
        answer = counter.ask("GET", address, user=user)
        assert (answer.status, answer.code) == (403, "NU-9314")
        assert b"3.2.4" not in answer.content


@pytest.mark.parametrize(
    ("method", "path", "body", "user"),
    [
        ("POST", "/v1/approvals", YES, READER),
        ("POST", "/v1/approvals", YES, OPERATOR),
        ("DELETE", "/v1/approvals", None, OPERATOR),
        ("POST", "/v1/rejections", NO, OPERATOR),
        ("POST", "/v1/holds", HOLD, READER),
        ("POST", "/v1/holds", HOLD, APPROVER),
        ("DELETE", "/v1/holds", None, APPROVER),
        ("PUT", "/v1/schedule", TIME, APPROVER),
        ("DELETE", "/v1/schedule", None, READER),
        ("POST", "/v1/jobs", {"kind": "check"}, READER),
        ("POST", "/v1/jobs", {"kind": "upgrade"}, APPROVER),
        ("POST", "/v1/jobs", {"kind": "rollback", "accept_loss": 3}, OPERATOR),
        ("POST", "/v1/confirmation", None, READER),
    ],
)
def test_insufficient_role_is_refused(
    counter: Counter, method: str, path: str, body: object, user: str
) -> None:
    counter.know(NEXT)
    before = counter.rows()
    answer = counter.ask(method, path, body, user)
    loses = isinstance(body, dict) and "accept_loss" in body
    assert (answer.status, answer.code) == (403, "NU-9335" if loses else "NU-9314")
    assert counter.rows() == before
    assert not counter.woken


LONG = b'{"reason": "' + b"x" * MAX_BODY_BYTES + b'"}'


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/", None, 404, "NU-9310"),
        ("GET", "/v1/status/", None, 404, "NU-9310"),
        ("GET", "/v1/../v1/status", None, 404, "NU-9310"),
        ("GET", "/v1/history/../../etc", None, 404, "NU-9310"),
        ("GET", "/v1/history/zzzzzzzz", None, 404, "NU-9310"),
        ("GET", "/v1/jobs/1", None, 404, "NU-9310"),
        ("GET", "/v1/jobs/0", None, 404, "NU-9310"),
        ("GET", "/v1/jobs/99999999999999999999", None, 404, "NU-9310"),
        ("PATCH", "/v1/status", None, 405, "NU-9311"),
        ("POST", "/v1/status", None, 405, "NU-9311"),
        ("GET", "/v1/status?x=1", None, 400, "NU-9312"),
        ("GET", "/v1/history?limit=0", None, 400, "NU-9312"),
        ("GET", "/v1/history?limit=10001", None, 400, "NU-9312"),
        ("GET", "/v1/history?limit=-1", None, 400, "NU-9312"),
        ("GET", "/v1/history?limit=1&limit=2", None, 400, "NU-9312"),
        ("GET", "/v1/history?limit=%d9%a3", None, 400, "NU-9312"),
        ("GET", "/v1/history?limit", None, 400, "NU-9312"),
        ("GET", "/v1/events?after=x", None, 400, "NU-9312"),
        ("GET", "/v1/events?after=99999999999999999999", None, 400, "NU-9312"),
        ("GET", "/v1/status", b"{}", 400, "NU-9312"),
        ("POST", "/v1/holds", None, 400, "NU-9312"),
        ("POST", "/v1/holds", b"{", 400, "NU-9312"),
        ("POST", "/v1/holds", b"\xff\xfe", 400, "NU-9312"),
        ("POST", "/v1/holds", b"[" * 60_000, 400, "NU-9312"),
        ("POST", "/v1/holds", b'{"reason": NaN}', 400, "NU-9312"),
        ("POST", "/v1/holds", b'{"reason": "a", "reason": "b"}', 400, "NU-9312"),
        ("POST", "/v1/holds", LONG, 413, "NU-9313"),
        ("POST", "/v1/holds", [], 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": ""}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "   "}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": 3}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "\x1b[2J"}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "a\ud800"}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x" * 501}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x", "by": "root"}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x", "until": "2026-11-24T05:59:59Z"}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x", "until": "2099-01-01T00:00:00"}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x", "until": 4_000_000_000}, 400, "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x", "until": "9999-12-31T23:59:59-14:00"}, 400,
         "NU-9312"),
        ("POST", "/v1/holds", {"reason": "x", "until": "9999-12-31T23:59:59Z"}, 400, "NU-9312"),
        ("POST", "/v1/approvals", {"binding": "AB" * 32}, 400, "NU-9312"),
        ("POST", "/v1/approvals", {"binding": OTHER}, 409, "NU-9315"),
        ("POST", "/v1/approvals", {**YES, "version": "3.4.0"}, 409, "NU-9317"),
        ("POST", "/v1/approvals", {**YES, "uid": 0}, 400, "NU-9312"),
        ("DELETE", "/v1/approvals/x", None, 404, "NU-9310"),
        ("PUT", "/v1/schedule", {**TIME, "binding": OTHER}, 409, "NU-9315"),
        ("PUT", "/v1/schedule", {**TIME, "not_before": "2020-01-01T00:00:00Z"}, 400, "NU-9312"),
        ("PUT", "/v1/schedule", {**TIME, "not_before": "tomorrow"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "adopt"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "upgrade", "by_approver": True}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "upgrade", "version": "--yes"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "upgrade", "retry": "yes"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "upgrade", "accept_loss": 1}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "rollback", "accept_loss": -1}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "rollback", "version": "3.2.4"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "rollback", "undoes": "--yes"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "upgrade", "undoes": "abcdefgh"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "rollback", "change_kind": "rollback"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "prepare", "accept_loss": 1}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "check", "language": "de"}, 400, "NU-9312"),
        ("POST", "/v1/confirmation", None, 409, "NU-6016"),
        ("POST", "/v1/confirmation", {"by": "me"}, 400, "NU-9312"),
    ],
)  # fmt: skip
def test_refused_request_changes_nothing(
    counter: Counter, method: str, path: str, body: object, status: int, code: str
) -> None:
    counter.know(NEXT)
    before = counter.rows()
    answer = counter.ask(method, path, body)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"
    assert counter.rows() == before
    assert not counter.woken


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"CONTENT_TYPE": "text/plain"}, "NU-9312"),
        ({"CONTENT_TYPE": ""}, "NU-9312"),
        ({"CONTENT_LENGTH": "-1"}, "NU-9312"),
        ({"CONTENT_LENGTH": "9" * 30}, "NU-9312"),
        ({"CONTENT_LENGTH": "1000"}, "NU-9312"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "NU-9312"),
    ],
)
def test_inconsistent_bodies_are_refused(
    counter: Counter, environ: dict[str, Any], code: str
) -> None:
    before = counter.rows()
    assert counter.ask("POST", "/v1/holds", HOLD, 0, **environ).code == code
    assert counter.rows() == before


def test_unsupported_method_lists_the_supported_ones(counter: Counter) -> None:
    assert counter.ask("PATCH", "/v1/holds").headers["Allow"] == "POST, DELETE"


@pytest.mark.parametrize("meant", ["", "%2Fetc%2Fother%20site.toml", "agent.toml"])
def test_service_of_another_configuration_refuses(counter: Counter, meant: str) -> None:
    """Otherwise the service of another file would answer for a file with a mistake."""
    answer = counter.ask("GET", "/v1/status", HTTP_NCEN_CONFIGURATION=meant)
    assert (answer.status, answer.code) == (400, "NU-9338")
    mine = quote(str(counter.site.config))
    assert counter.ask("GET", "/v1/status", HTTP_NCEN_CONFIGURATION=mine).status == 200


def test_refusals_are_translated_to_french(counter: Counter) -> None:
    answer = counter.ask("GET", "/v1/nothing", HTTP_ACCEPT_LANGUAGE="de, fr-CH;q=0.8")
    assert answer.document["error"]["title"].startswith("Chemin d'API inconnu")


def test_service_activity_is_in_the_requested_language(counter: Counter) -> None:
    why = LazyText(N_("upgrades on hold: {reason}"), {"reason": "salon"})
    counter.snapshots.handle_event(ServiceEvent("next", {"action": "wait", "reason": why}))
    told = counter.ask("GET", "/v1/status", HTTP_ACCEPT_LANGUAGE="fr").document["service"]["reason"]
    assert told == why.render("fr") != why.render("en")


def test_two_approvers_approve_and_one_withdraws(counter: Counter) -> None:
    counter.know(NEXT)
    assert counter.ask("POST", "/v1/approvals", YES, APPROVER).status == 201
    again = counter.ask("POST", "/v1/approvals", {**YES, "version": "3.3"}, APPROVER)
    assert (again.status, again.document["added"]) == (200, False)
    next_upgrade = counter.ask("GET", "/v1/next-upgrade").document
    assert ([a["actor"] for a in next_upgrade["approvals"]], next_upgrade["missing"]) == (
        [APPROVER],
        1,
    )
    root = counter.ask("POST", "/v1/approvals", YES)
    assert (root.status, root.code) == (403, "NU-6029"), "it may be the same person again"
    with Journal.open(counter.site.journal) as journal:
        ApprovalStore(journal).add(BINDING, "3.3.0", BASIS, Actor("bo", 1002))
    assert counter.ask("GET", "/v1/next-upgrade").document["missing"] == 0
    withdrawn = counter.ask("DELETE", "/v1/approvals", user=APPROVER)
    assert withdrawn.document == {"withdrawn": 1}
    assert counter.ask("GET", "/v1/next-upgrade").document["missing"] == 1
    with Journal.open(counter.site.journal) as journal:
        assert ApprovalStore(journal).read_last_basis("3.3.0") == NEXT.basis
    assert len(counter.woken) == 3


def test_rejection_holds_upgrades_with_its_reason(counter: Counter) -> None:
    """Only the current dossier can be rejected; the caller's own approval is withdrawn."""
    counter.know(NEXT)
    assert counter.ask("POST", "/v1/approvals", YES, APPROVER).status == 201
    other = counter.ask("POST", "/v1/rejections", {**NO, "binding": OTHER}, APPROVER)
    assert (other.status, other.code) == (409, "NU-9315")
    assert counter.rows()["holds"] == []
    given = counter.ask("POST", "/v1/rejections", {**NO, "language": "fr"}, APPROVER)
    assert (given.status, given.document["withdrawn"]) == (201, 1)
    held = counter.ask("GET", "/v1/status").document["journal"]["holds"]
    assert [(one["actor"], one["reason"]) for one in held] == [(APPROVER, given.document["reason"])]
    assert "3.3.0" in held[0]["reason"] and "in a week" in held[0]["reason"]
    assert counter.ask("GET", "/v1/next-upgrade").document["approvals"] == []
    assert counter.ask("POST", "/v1/jobs", {"kind": "upgrade"}, OPERATOR).code == "NU-6020"
    counter.site.open_change()
    assert counter.ask("POST", "/v1/rejections", NO, APPROVER).code == "NU-6005"


def test_job_names_the_change_that_it_started(counter: Counter) -> None:
    """By the sequence of events, whatever the clock says; another change is not its own."""

    def start_job(kind: str) -> int:
        number = int(counter.ask("POST", "/v1/jobs", {"kind": kind}).document["id"])
        assert change_of(number) is None
        with Journal.open(counter.site.journal, now=lambda: NOW - timedelta(days=number)) as found:
            JobQueue(found).mark_started(number)
        assert change_of(number) is None
        return number

    def end(number: int) -> None:
        with Journal.open(counter.site.journal) as found:
            JobQueue(found).mark_ended(number, {"exit_code": 0})

    def change_of(number: int) -> object:
        return counter.ask("GET", f"/v1/jobs/{number}").document["change"]

    first = start_job("upgrade")
    counter.site.open_change(StepName.FETCH)
    assert change_of(first) == CHANGE.id
    end(first)
    again = start_job("resume")
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    assert change_of(again) == CHANGE.id, "what is resumed is its change"
    end(again)
    idle = start_job("upgrade")
    end(idle)
    assert [change_of(number) for number in (first, again, idle)] == [CHANGE.id, CHANGE.id, None]


@pytest.mark.parametrize("kind", ["upgrade", "resume"])
@pytest.mark.parametrize("soak", [False, True])
def test_rollback_by_hand_does_not_belong_to_the_job_of_a_killed_service(
    counter: Counter, kind: str, soak: bool
) -> None:
    """Seen: the rollback as the change of that job, and its requester in the history."""
    if kind == "resume":
        counter.site.open_change(StepName.FETCH)
    number = int(counter.ask("POST", "/v1/jobs", {"kind": kind}).document["id"])
    with Journal.open(counter.site.journal) as journal:
        JobQueue(journal).mark_started(number)
    if kind == "upgrade":
        counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        if not soak:  # the rollback ends a soak period itself
            journal.record_event(RECOVERY_STARTED, CHANGE.id)
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
        back = replace(
            CHANGE, id="bcdefghi", kind=ChangeKind.ROLLBACK, created_at=journal.read_time()
        )
        journal.begin_change(back)

    def change_of_job() -> object:
        return counter.ask("GET", f"/v1/jobs/{number}").document["change"]

    assert change_of_job() == CHANGE.id
    report = counter.ask("GET", f"/v1/history/{back.id}").document
    assert (report["requested_by"], report["kind"]) == (None, "rollback")
    first = counter.ask("GET", f"/v1/history/{CHANGE.id}").document["requested_by"]
    assert (first is not None) is (kind == "upgrade")
    JournalJobRecorder(counter.site.journal).end_interrupted()
    assert change_of_job() == CHANGE.id


def test_automatic_rollback_belongs_to_the_job_of_its_upgrade(counter: Counter) -> None:
    number = int(counter.ask("POST", "/v1/jobs", {"kind": "upgrade"}).document["id"])
    with Journal.open(counter.site.journal) as journal:
        JobQueue(journal).mark_started(number)
    counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
        back = replace(
            CHANGE, id="bcdefghi", kind=ChangeKind.ROLLBACK, created_at=journal.read_time()
        )
        journal.begin_change(back, ChangeFacts(failed_soak_upgrade=CHANGE.id))
    assert counter.ask("GET", f"/v1/jobs/{number}").document["change"] == back.id
    assert counter.ask("GET", f"/v1/history/{back.id}").document["requested_by"] is not None


def test_withdrawal_needs_no_offered_release(counter: Counter) -> None:
    with Journal.open(counter.site.journal) as journal:
        store, mine = ApprovalStore(journal), Actor(APPROVER, uid_of(APPROVER))
        for binding, version in ((BINDING, "3.3.0"), (OTHER, "3.3.1")):
            store.add(binding, version, BASIS, mine)
        store.add(BINDING, "3.3.0", BASIS, Actor("bo", 1002))
        back = {"rollback": "c1", "from": "3.2.4", "to": "3.2.3"}
        store.add("ef" * 32, "back to 3.2.3", back, mine)
    counter.know(Assessment(last_event=0, current="3.2.4"))

    def take(query: str) -> object:
        return counter.ask("DELETE", f"/v1/approvals{query}", user=APPROVER).document

    assert counter.ask("DELETE", "/v1/approvals", user=READER).status == 403
    assert take("?version=3.3.1.0") == {"withdrawn": 1}
    assert take("?version=3.3.1") == {"withdrawn": 0}
    assert take("") == {"withdrawn": 1}
    assert take("?change_kind=rollback") == {"withdrawn": 1}
    with Journal.open(counter.site.journal) as journal:
        assert [one.actor for one in ApprovalStore(journal).list_active()] == ["bo"]
    for query in ("?change_kind=others", "?change_kind=rollback&version=3.3.0", "?version=latest"):
        assert counter.ask("DELETE", f"/v1/approvals{query}", user=APPROVER).code == "NU-9312"


@pytest.mark.parametrize(
    ("known", "status", "code"),
    [
        (None, 409, "NU-9316"),
        (Assessment(last_event=0, current="3.2.4"), 409, "NU-6068"),
        (Assessment(last_event=0, current="3.2.4", target="3.3.0"), 409, "NU-6024"),
        (Assessment(last_event=-1, current="3.2.4", target="3.3.0"), 409, "NU-9316"),
    ],
)
def test_nothing_can_be_approved_without_an_offer(
    counter: Counter, known: Assessment | None, status: int, code: str
) -> None:
    counter.know(known)
    before = counter.rows()
    for method, path, body in (("POST", "/v1/approvals", YES), ("PUT", "/v1/schedule", TIME)):
        answer = counter.ask(method, path, body)
        assert (answer.status, answer.code) == (status, code)
    assert counter.rows() == before


def test_absence_of_an_offer_is_claimed_only_after_a_feed_check(counter: Counter) -> None:
    counter.know(Assessment(last_event=0, current="3.2.4"))
    path = get_view_path(load_essential_settings(counter.site.config).feed_state, "ncen")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": 1, **FeedSummary(NOW, NOW, 1, (), ()).to_json()}))
    assert counter.ask("POST", "/v1/approvals", YES).code == "NU-6027"


def test_requests_during_an_open_change_are_limited(counter: Counter) -> None:
    counter.know(NEXT)
    counter.site.open_change(StepName.FETCH)
    before = counter.rows()
    for method, path, body in (
        ("POST", "/v1/approvals", YES),
        ("PUT", "/v1/schedule", TIME),
        ("POST", "/v1/jobs", {"kind": "upgrade"}),
        ("POST", "/v1/jobs", {"kind": "rollback"}),
        ("POST", "/v1/jobs", {"kind": "rehearse"}),
    ):
        answer = counter.ask(method, path, body)
        assert (answer.status, answer.code) == (409, "NU-6005"), path
    assert counter.rows() == before
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.STUCK)
    assert counter.ask("POST", "/v1/jobs", {"kind": "resume"}).status == 202
    assert counter.ask("POST", "/v1/jobs", {"kind": "rollback"}).status == 202


def test_soak_is_confirmed(counter: Counter) -> None:
    counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        journal.commit_change(CHANGE.id)
    answer = counter.ask("POST", "/v1/confirmation", user=OPERATOR)
    assert answer.document["change"]["id"] == CHANGE.id
    with Journal.open(counter.site.journal) as journal:
        assert journal.read_facts(CHANGE.id).confirmed_by == OPERATOR


def test_holds_are_set_and_removed(counter: Counter) -> None:
    given = counter.ask("POST", "/v1/holds", {**HOLD, "until": LATER}, OPERATOR)
    assert (given.status, given.document["actor"]) == (201, OPERATOR)
    [held] = counter.ask("GET", "/v1/status").document["journal"]["holds"]
    assert held["reason"] == "customs fair"
    refused = counter.ask("POST", "/v1/jobs", {"kind": "upgrade"}, OPERATOR)
    assert (refused.status, refused.code) == (409, "NU-6020")
    assert counter.ask("DELETE", "/v1/holds", user=OPERATOR).document["lifted"] == 1
    assert counter.ask("DELETE", "/v1/holds", user=OPERATOR).document["lifted"] == 0
    with Journal.open(counter.site.journal) as journal:
        assert SiteHistory(journal).list_holds() == ()


def test_upgrade_is_scheduled(counter: Counter) -> None:
    counter.know(NEXT)
    assert counter.ask("PUT", "/v1/schedule", TIME, OPERATOR).status == 200
    chosen = counter.ask("GET", "/v1/next-upgrade").document["scheduled"]
    assert chosen == {"not_before": "2026-11-25T06:00:00Z", "actor": OPERATOR}
    assert counter.ask("DELETE", "/v1/schedule", user=OPERATOR).document == {"cancelled": 1}
    assert counter.ask("GET", "/v1/next-upgrade").document["scheduled"] is None


def test_next_upgrade_states_its_start_time(counter: Counter) -> None:
    def read_start(part: str, user: str = READER) -> tuple[str, str | None]:
        found = counter.ask("GET", "/v1/next-upgrade", user=user).document[part]
        return found["kind"], found["wait_reason"]

    counter.know(NEXT)
    counter.ask("POST", "/v1/approvals", YES, APPROVER)
    assert read_start("starts_at") == ("not-automatic", "approval")
    assert read_start("starts_at_if_approved") == ("not-automatic", "not-scheduled")
    assert read_start("starts_at_if_approved", APPROVER) == read_start("starts_at"), (
        "theirs is counted already"
    )
    with Journal.open(counter.site.journal) as journal:
        ApprovalStore(journal).add(BINDING, "3.3.0", BASIS, Actor("bo", 1002))
    assert read_start("starts_at") == ("not-automatic", "not-scheduled")
    chosen = {"binding": BINDING, "not_before": (NOW + timedelta(days=1)).isoformat()}
    assert counter.ask("PUT", "/v1/schedule", chosen, OPERATOR).status == 200
    assert read_start("starts_at") == ("at", None)
    assert counter.ask("DELETE", "/v1/schedule", user=OPERATOR).status == 200
    assert read_start("starts_at") == ("not-automatic", "not-scheduled"), "taken back is not begun"


def test_repeated_job_is_queued_once(counter: Counter) -> None:
    given = counter.ask("POST", "/v1/jobs", {"kind": "check", "language": "fr"}, OPERATOR)
    assert given.status == 202
    assert given.document["data"] == {"language": "fr"}
    before = counter.rows()
    again = counter.ask("POST", "/v1/jobs", {"kind": "check"})
    assert (again.status, again.code) == (409, "NU-9318")
    assert counter.rows() == before
    with Journal.open(counter.site.journal) as journal:
        order = JobQueue(journal).find_next()
        assert order is not None
        assert order.actor == Actor(OPERATOR, uid_of(OPERATOR))
        JobQueue(journal).mark_started(order.id)
    assert counter.ask("POST", "/v1/jobs", {"kind": "check"}).code == "NU-9318"
    with Journal.open(counter.site.journal) as journal:
        JobQueue(journal).mark_ended(order.id, {"exit_code": 0, "document": {"available": False}})
    one = counter.ask("GET", f"/v1/jobs/{order.id}").document
    assert one["result"]["exit_code"] == 0
    assert counter.ask("GET", "/v1/jobs").document["jobs"][0]["kind"] == "check"
    assert counter.ask("POST", "/v1/jobs", {"kind": "check"}).status == 202


def test_operator_without_approval_cannot_upgrade_alone(counter: Counter) -> None:
    counter.ask("POST", "/v1/jobs", {"kind": "upgrade"}, OPERATOR)
    with Journal.open(counter.site.journal) as journal:
        order = JobQueue(journal).find_next()
        assert order is not None
        assert "by_approver" not in order.data
        JobQueue(journal).mark_ended(order.id, {"exit_code": 4})
    counter.ask("POST", "/v1/jobs", {"kind": "upgrade"}, 0)
    with Journal.open(counter.site.journal) as journal:
        order = next(o for o in JobQueue(journal).list_unfinished() if o.kind is JobKind.UPGRADE)
        assert order.data["by_approver"] is True


def test_history_is_listed(counter: Counter) -> None:
    counter.site.open_change(StepName.FETCH)
    assert [c["id"] for c in counter.ask("GET", "/v1/history?limit=1").document["changes"]] == [
        CHANGE.id
    ]
    one = counter.ask("GET", f"/v1/history/{CHANGE.id}").document
    assert one["lines"][0].startswith(f"Change {CHANGE.id}: upgrade {CHANGE.from_version} -> ")
    assert one["steps"][0]["name"] == "fetch"


def test_unreadable_journal_is_reported(counter: Counter) -> None:
    counter.site.journal.write_bytes(b"no journal")
    assert counter.ask("GET", "/v1/history").status == 503
    part = counter.ask("GET", "/v1/status").document["journal"]
    assert part["error"]["code"] == "NU-6002"
    assert counter.ask("POST", "/v1/holds", HOLD).code == "NU-6002"


def test_internal_error_is_an_answer(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "read_status", lambda *_: 1 / 0)
    answer = counter.ask("GET", "/v1/next-upgrade")
    assert (answer.status, answer.code) == (500, "NU-1000")
    assert b"division" not in answer.content


def test_failures_are_reported(counter: Counter) -> None:
    failure = ActionFailure(NOW, 2)
    counter.keeper.save(
        ServiceState(
            NEXT, failures={ServiceAction.CHECK_FEED: failure, ServiceAction.RUN_JOB: failure}
        )
    )
    (told,) = counter.ask("GET", "/v1/status").document["service"]["failures"]
    assert told == {
        "action": "check", "title": "reading the metadata", "failures": 2,
        "at": "2026-11-24T06:00:00Z", "again_at": "2026-11-24T07:00:00Z", "code": "",
    }  # fmt: skip
