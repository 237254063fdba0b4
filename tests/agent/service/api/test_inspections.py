"""Tests of requested inspections and refusals: nothing is changed, whatever is asked."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.service.api_client import SiteServiceClient
from ncen_updater.agent.service.apply_runner import WorkerResult
from ncen_updater.agent.service.inspections import InspectionKind
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.unix_http import connect_unix_socket
from tests.agent.cli.site import CHANGE
from tests.agent.service.api.conftest import (
    APPROVER,
    NEXT,
    NOBODY,
    OPERATOR,
    READER,
    Counter,
)
from tests.agent.service.api.serving import answering
from tests.support.api_conformance import inspected
from tests.support.forks import DEADLINE_S

EVERYBODY, OPERATORS = (READER, OPERATOR, APPROVER, 0), (OPERATOR, 0)
#: Everything new that can be asked: who may, and what a success or a typed refusal of the site is.
WHO_MAY: list[tuple[str, str, object, tuple[str | int, ...], tuple[int, ...]]] = [
    ("GET", "/v1/notes", None, EVERYBODY, (409,)),
    ("GET", "/v1/agent", None, EVERYBODY, (200,)),
    *(
        ("POST", "/v1/inspections", {"kind": kind.value},
         OPERATORS if kind is InspectionKind.SUPPORT_BUNDLE else EVERYBODY, (202,))
        for kind in InspectionKind
    ),
    ("POST", "/v1/jobs", {"kind": "self-update"}, OPERATORS, (202, 409)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "who", "statuses"), WHO_MAY, ids=lambda value: str(value)[:40]
)
def test_inspection_permissions_are_enforced(
    counter: Counter,
    method: str,
    path: str,
    body: object,
    who: tuple[str | int, ...],
    statuses: tuple[int, ...],
) -> None:
    counter.know(NEXT)
    counter.inspector.found = None
    before = counter.rows()
    for user in (READER, OPERATOR, APPROVER, NOBODY, 987_654_321):
        answer = counter.ask(method, path, body, user)
        if user not in who:
            assert (answer.status, answer.code) == (403, "NU-9314"), user
            assert b"3.2.4" not in answer.content
        else:
            assert answer.status in statuses, (user, answer.content)
    if path != "/v1/jobs":
        assert (counter.rows(), counter.woken) == (before, []), "who looks leaves no trace"


def test_support_bundle_is_readable_only_by_users_who_may_create_it(counter: Counter) -> None:
    number = counter.ask("POST", "/v1/inspections", {"kind": "support-bundle"}, OPERATOR).document[
        "id"
    ]
    address = f"/v1/inspections/{number}?wait=30"
    for user in (READER, APPROVER):
        answer = counter.ask("GET", address, user=user)
        assert (answer.status, answer.code) == (403, "NU-9314")
        assert b"AAAA" not in answer.content
    found = counter.ask("GET", address, user=OPERATOR).document
    assert found["result"]["document"]["archive"] == "AAAA"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/notes?version=../../etc", None, 400, "NU-9312"),
        ("GET", "/v1/notes?version=--output", None, 400, "NU-9312"),
        ("GET", "/v1/notes?version=" + "1" * 51, None, 400, "NU-9312"),
        ("GET", "/v1/notes?version=", None, 400, "NU-9312"),
        ("GET", "/v1/notes?version=1&version=2", None, 400, "NU-9312"),
        ("GET", "/v1/notes?retry=true", None, 400, "NU-9312"),
        ("GET", "/v1/notes?config=/tmp/x", None, 400, "NU-9312"),
        ("GET", "/v1/notes", b"{}", 400, "NU-9312"),
        ("GET", "/v1/notes?version=..%2f..%2fx", None, 400, "NU-9312"),
        ("GET", "/v1/notes?version=9.9.9", None, 409, "NU-9323"),
        ("PUT", "/v1/notes", None, 405, "NU-9311"),
        ("POST", "/v1/notes", None, 405, "NU-9311"),
        ("GET", "/v1/inspections", None, 405, "NU-9311"),
        ("GET", "/v1/inspections/1", None, 404, "NU-9310"),
        ("GET", "/v1/inspections/0", None, 404, "NU-9310"),
        ("GET", "/v1/inspections/1?wait=31", None, 400, "NU-9312"),
        ("GET", "/v1/inspections/1?wait=-1", None, 400, "NU-9312"),
        ("GET", "/v1/inspections/1?wait=1e9", None, 400, "NU-9312"),
        ("GET", "/v1/inspections/99999999999999999999", None, 404, "NU-9310"),
        ("DELETE", "/v1/inspections/1", None, 405, "NU-9311"),
        ("POST", "/v1/inspections", None, 400, "NU-9312"),
        ("POST", "/v1/inspections", b"[" * 60_000, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "shell"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "upgrade"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "plan", "config": "/x"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "plan", "version": "--sql"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "plan", "version": "/etc/passwd"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "plan", "version": 3}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "plan", "chain_heads": ["1:" + "a" * 16]}, 400,
         "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "dossier", "retry": True}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "findings", "version": "3.3.0"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "audit-log", "chain_heads": ["1:" + "a" * 16] * 21},
         400,
         "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "audit-log", "chain_heads": ["x"]}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "audit-log", "chain_heads": "1:" + "a" * 16}, 400,
         "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "rollback-plan", "accept_loss": -1}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "rollback-plan", "accept_loss": True}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "support-bundle", "show": ["../x"]}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "support-bundle", "show": ["/etc/shadow"]}, 400,
         "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "support-bundle", "leave_out": ["--output"]}, 400,
         "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "support-bundle", "unchecked": True}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "support-bundle", "output": "/x"}, 400, "NU-9312"),
        ("POST", "/v1/inspections", {"kind": "plan", "language": "xx"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "self-update", "version": "--from"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "self-update", "change_kind": "rollback"}, 400, "NU-9312"),
        ("POST", "/v1/jobs", {"kind": "self-update", "undoes": "abcdefgh"}, 400, "NU-9312"),
    ],
)  # fmt: skip
def test_refused_inspection_is_not_started(
    counter: Counter, method: str, path: str, body: object, status: int, code: str
) -> None:
    counter.know(NEXT)
    before = counter.rows()
    answer = counter.ask(method, path, body)
    assert (answer.status, answer.code) == (status, code), answer.content
    assert (counter.inspector.asked, counter.woken) == ([], [])
    assert counter.rows() == before


# ---- while something goes on ---------------------------------------------------------------------


def test_open_change_is_reported_at_once(counter: Counter) -> None:
    counter.site.open_change()
    counter.inspector.door.clear()  # whoever began would wait
    for kind in InspectionKind:
        answer = counter.ask("POST", "/v1/inspections", {"kind": kind.value}, OPERATOR)
        if kind is InspectionKind.AUDIT_LOG:
            assert answer.status == 202
            continue
        assert (answer.status, answer.code) == (409, "NU-6005"), answer.content
        assert CHANGE.id in answer.document["error"]["title"]
    counter.inspector.door.set()


def test_stuck_change_permits_findings(counter: Counter) -> None:
    counter.site.open_change()
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.STUCK)
    assert counter.ask("POST", "/v1/inspections", {"kind": "findings"}, READER).status == 202


def test_inspection_is_awaited_by_its_number(counter: Counter) -> None:
    counter.inspector.door.clear()
    number = counter.ask("POST", "/v1/inspections", {"kind": "findings"}, READER).document["id"]
    seen = counter.ask("GET", f"/v1/inspections/{number}", user=APPROVER).document
    assert (seen["actor"], seen["result"], seen["ended_at"]) == (READER, None, None)
    counter.inspector.door.set()
    found = counter.ask("GET", f"/v1/inspections/{number}?wait=30", user=APPROVER).document
    assert found["result"]["document"]["healthy"] is True


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (TimeoutError(), "NU-9326"),
        (OverflowError(), "NU-9327"),
        (WorkerResult(137, {}), "NU-9328"),
        (WorkerResult(3, {"error": {"code": "NU-9323", "title": "w", "remedy": "r"}}), "NU-9323"),
    ],
)
def test_failed_inspection_is_a_typed_error(
    counter: Counter, found: WorkerResult | Exception, code: str
) -> None:
    counter.inspector.found = found
    number = counter.ask("POST", "/v1/inspections", {"kind": "plan"}, READER).document["id"]
    result = counter.ask("GET", f"/v1/inspections/{number}?wait=30").document["result"]
    assert result["document"]["error"]["code"] == code


def test_concurrent_requests_share_one_inspection(counter: Counter) -> None:
    """Over the socket: they all get the one that is under way."""
    counter.inspector.door.clear()
    numbers: list[int] = []

    def ask(client: SiteServiceClient) -> None:
        numbers.append(client.call("POST", "/v1/inspections", {"kind": "findings"})["id"])

    with answering(counter) as path:
        people = [
            threading.Thread(target=ask, args=(SiteServiceClient(path, "en"),)) for _ in range(12)
        ]
        for person in people:
            person.start()
        for person in people:
            person.join()
        counter.inspector.door.set()
        client = SiteServiceClient(path, "en")
        assert client.get(f"/v1/inspections/{numbers[0]}?wait=30")["result"]["exit_code"] == 0
    assert len(numbers) == 12 and len(set(numbers)) == 1
    assert counter.inspector.asked == [("doctor",)]


def test_waiting_for_an_inspection_does_not_delay_jobs(counter: Counter) -> None:
    """An upgrade can be started, approved and followed during inspections."""
    counter.know(NEXT)
    counter.inspector.door.clear()
    with answering(counter) as path:
        codes: list[str] = []

        def wait_for_it(client: SiteServiceClient) -> None:
            answer = inspected(client, "findings", patience_s=0)
            codes.append(answer["result"]["document"]["error"]["code"])

        waiting = [
            threading.Thread(target=wait_for_it, args=(SiteServiceClient(path, "en"),))
            for _ in range(6)
        ]
        for person in waiting:
            person.start()
        client = SiteServiceClient(path, "en")
        given = client.call("POST", "/v1/jobs", {"kind": "upgrade"})
        assert (given["kind"], counter.woken) == ("upgrade", [1])
        counter.in_the_way = True  # the service begins it
        for person in waiting:
            person.join(DEADLINE_S)
    assert codes == ["NU-9325"] * 6


def test_slow_reader_does_not_delay_others(counter: Counter) -> None:
    large = {"available": False, "hops": [], "rejected": [], "sql": "-- x\n" * 1_000_000}
    counter.inspector.found = WorkerResult(0, large)
    with answering(counter) as path:
        slow, client = [], SiteServiceClient(path, "en")
        number = inspected(client, "plan")["id"]
        for _ in range(4):
            one = connect_unix_socket(path, 60)
            one.sendall(b"GET /v1/inspections/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            assert one.recv(100).startswith(b"HTTP/1.1 200 ")
            slow.append(one)
        assert client.get("/v1/status")["site"] == "ke-1"
        result = client.get(f"/v1/inspections/{number}")["result"]
        assert len(result["document"]["sql"]) == 5_000_000
        for one in slow:
            one.close()


def test_bundle_with_a_database_value_is_withheld(counter: Counter) -> None:
    """That the process gives none is held elsewhere; here, that it stays so."""
    leaking: dict[str, Any] = {
        "parts": {}, "shown": {}, "leaks": [{"part": "log.txt", "column": "cases: a.b"}],
        "not_compared_with": {}, "archive": None, "lines": [],
    }  # fmt: skip
    counter.inspector.found = WorkerResult(3, leaking)
    number = counter.ask("POST", "/v1/inspections", {"kind": "support-bundle"}).document["id"]
    result = counter.ask("GET", f"/v1/inspections/{number}?wait=30").document["result"]
    assert (result["exit_code"], result["document"]["archive"]) == (3, None)


def test_agent_update_is_queued_as_a_job(counter: Counter) -> None:
    given = counter.ask(
        "POST", "/v1/jobs", {"kind": "self-update", "version": "0.2"}, OPERATOR
    ).document
    assert (given["kind"], given["data"], given["actor"]) == (
        "self-update", {"version": "0.2"}, OPERATOR,
    )  # fmt: skip
    twice = counter.ask("POST", "/v1/jobs", {"kind": "self-update"}, OPERATOR)
    assert (twice.status, twice.code) == (409, "NU-9318")
    assert counter.ask("POST", "/v1/jobs", {"kind": "check"}, OPERATOR).status == 202
    with Journal.open(counter.site.journal) as journal:
        kinds = [order.kind for order in JobQueue(journal).list_unfinished()]
    assert kinds == [JobKind.SELF_UPDATE, JobKind.CHECK]


def test_no_inspection_starts_after_shutdown(counter: Counter) -> None:
    counter.inspections.close()
    answer = counter.ask("POST", "/v1/inspections", {"kind": "audit-log"}, READER)
    assert (answer.status, answer.code) == (409, "NU-9325")
    assert counter.inspector.asked == []
