"""A real console before a real service: login, refused requests, repeated forms."""

from __future__ import annotations

import base64
import hashlib
import re
import socket as sockets
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.model.change import Actor, ChangeState, StepName, StepState
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.service.api import server
from ncen_updater.agent.service.apply_runner import WorkerResult
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.jobs import JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common import http_server
from ncen_updater.console import sessions
from ncen_updater.console.service_client import ServiceClient
from ncen_updater.console.sessions import KEY_LIFETIME_S, FormOutcome, LoginKeys
from ncen_updater.console.web_request import COOKIE_PREFIX
from tests.agent.cli.site import CHANGE
from tests.agent.service.api.conftest import (
    APPROVER,
    BASIS,
    BINDING,
    NEXT,
    NOBODY,
    NOW,
    OTHER,
    READER,
    SETTINGS,
    Counter,
    uid_of,
)
from tests.agent.service.api.serving import answering
from tests.console.support import Answer, Guest, Place, served_console
from tests.support.forks import DEADLINE_S

PAGES = (
    "/", "/hold", "/upgrade", "/approve", "/live", "/history", "/rollback-plan", "/audit-log",
    "/settings", "/help",
)  # fmt: skip
HOSTILE = "</p><script>alert(1)</script>\u202egpj.exe\x1b[2J{{ 7 * 7 }}"


def holds(counter: Counter) -> list[str]:
    with Journal.open(counter.site.journal, read_only=True) as journal:
        return [hold.reason for hold in SiteHistory(journal).list_active_holds(NOW)]


# ---- coming in -----------------------------------------------------------------------------------


def test_login_link_is_valid_once(place: Place) -> None:
    key = place.keys.issue_key()
    assert Guest(place.port).ask("HEAD", f"/enter?key={key}").status == 404, "used up nothing"
    first, again = (Guest(place.port).get(f"/enter?key={key}") for _ in range(2))
    assert first.status == 200
    assert re.fullmatch(
        re.escape(COOKIE_PREFIX)
        + r"[0-9a-f]{8}=[\w-]{43}; Path=/; Secure; HttpOnly; SameSite=Strict",
        first.headers["set-cookie"],
    )
    assert (again.status, "NU-9701" in again.text) == (403, True)
    assert "set-cookie" not in again.headers


def test_expired_invalid_or_posted_login_link_is_refused(place: Place) -> None:
    guest = Guest(place.port)
    assert guest.get("/enter").status == 403
    assert guest.get("/enter?key=x").status == 403
    key = place.keys.issue_key()
    assert guest.post(f"/enter?key={key}", {}).status == 403
    assert guest.get(f"/enter?key={key}").status == 200, "a POST does not use it up"


def test_login_link_expires(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    with served_console(socket) as place:
        monkeypatch.setattr(place.keys, "_clock", lambda: now[0])
        key = place.keys.issue_key()
        now[0] = KEY_LIFETIME_S
        assert Guest(place.port).get(f"/enter?key={key}").status == 403
    assert LoginKeys().consume_key(key) is False


@pytest.mark.parametrize("path", [*PAGES, "/dossier", "/jobs/1", "/nothing"])
def test_nothing_is_shown_without_a_session(place: Place, path: str) -> None:
    found = Guest(place.port, f"{COOKIE_PREFIX}00000000=x").get(path)
    assert (found.status, "NU-9702" in found.text) == (401, True)
    assert "mu-port-louis" not in found.text and "3.2.4" not in found.text


def test_cookie_of_another_console_is_invalid(socket: Path, guest: Guest) -> None:
    with served_console(socket) as other:
        assert Guest(other.port, guest.cookie).get("/").status == 401
    assert guest.get("/").status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "", "127.0.0.1.evil:1", "localhost:{port}", "[::1]:{port}"],
)
def test_foreign_host_name_is_refused(guest: Guest, host: str) -> None:
    assert guest.get("/", Host=host.format(port=guest.port)).status in (400, 403)


# ---- headers of every answer ---------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/console.css", "/live.js", "/nothing", "/enter?key=x"])
def test_every_answer_has_security_headers(guest: Guest, path: str) -> None:
    found = guest.get(path)
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    for part in ("frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"):
        assert part in policy
    assert "unsafe" not in policy and "http" not in policy
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["referrer-policy"] == "no-referrer"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["x-frame-options"] == "DENY"
    assert len(found.text) < 150_000


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_page_is_complete_and_self_contained(place: Place, path: str, language: str) -> None:
    found = place.enter(language).settled(path)
    assert found.status == 200, found.text
    assert f'<html lang="{language}" dir="ltr">' in found.text
    assert len(re.findall("<h1", found.text)) == 1
    assert 'href="#main"' in found.text and '<main id="main"' in found.text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", found.text)
    assert not re.search(r"<script(?! src=\"/live\.js)|\son\w+=|style=", found.text)
    assert not re.search(r"\{\w+\}", found.text), "a place without its value"


# ---- forms ---------------------------------------------------------------------------------------


def test_form_is_accepted_once(counter: Counter, guest: Guest) -> None:
    page = guest.get("/hold")
    fields = {**page.form("/hold"), "reason": "customs fair"}
    first, again = guest.post("/hold", fields), guest.post("/hold", fields)
    assert (first.status, again.status) == (303, 303)
    assert first.headers["location"] == again.headers["location"]
    assert holds(counter) == ["customs fair"]
    shown = guest.get(first.headers["location"])
    assert "Upgrades are on hold." in shown.text and "customs fair" in shown.text


def test_repeated_click_waits_for_the_first(
    counter: Counter, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the result of the first, and not before."""
    counter.know(replace(NEXT, slot_built=False, binding=""))
    begun, gate = threading.Event(), threading.Event()

    class Slow(ServiceClient):
        def call(self, method: str, path: str, *more: Any) -> Any:
            if path == "/v1/jobs":
                begun.set()
                assert gate.wait(DEADLINE_S)
            return super().call(method, path, *more)

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            gate.set()  # the second waits: now the first may go on
            return super().wait(timeout)

    monkeypatch.setattr(sessions, "FormOutcome", lambda: FormOutcome(ended=Ended()))
    with served_console(socket, Slow(socket)) as place:
        guest = place.enter()
        fields = guest.settled("/upgrade").form("/job")
        found: list[str] = []
        first = threading.Thread(
            target=lambda: found.append(guest.post("/job", fields).headers["location"])
        )
        first.start()
        assert begun.wait(DEADLINE_S)
        second = guest.post("/job", fields).headers["location"]
        gate.set()
        first.join()
    assert found == [second] and second.startswith("/jobs/1?")
    assert len(counter.rows()["jobs"]) == 1


def count_unholds(counter: Counter) -> int:
    with Journal.open(counter.site.journal, read_only=True) as journal:
        return sum(event.kind == "unheld" for event in journal.list_events())


def test_hold_is_removed_once_per_click(counter: Counter, guest: Guest) -> None:
    """A repeated click does not remove a hold that was set meanwhile."""
    for reason in ("customs fair", "audit"):
        guest.submit(guest.get("/hold"), "/hold", reason=reason)
    fields = guest.get("/").form("/unhold")
    first = guest.post("/unhold", fields)
    assert first.status == 303
    assert (holds(counter), count_unholds(counter)) == ([], 1)
    shown = guest.get(first.headers["location"])
    assert "All holds removed." in shown.text and "customs fair" not in shown.text
    guest.submit(guest.get("/hold"), "/hold", reason="closing of the year")
    assert guest.post("/unhold", fields).headers["location"] == first.headers["location"]
    assert (holds(counter), count_unholds(counter)) == (["closing of the year"], 1)


def test_viewer_cannot_remove_a_hold(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.submit(guest.get("/hold"), "/hold", reason="customs fair")
    kept = guest.get("/").form("/unhold")
    as_user(monkeypatch, READER)
    page = guest.get("/")
    assert "/unhold" not in dict(page.forms()) and "NU-9314" in page.text
    refused = guest.post("/unhold", kept)
    assert (refused.status, "NU-9314" in refused.text) == (403, True)
    assert holds(counter) == ["customs fair"]


def test_upgrade_without_approvals_cannot_be_started(guest: Guest) -> None:
    page = guest.settled("/upgrade")
    assert "/schedule" in dict(page.forms()) and "/job" not in dict(page.forms())


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        (replace(NEXT, slot_built=False, binding=""), []),
        (replace(NEXT, rehearsal_status=RehearsalStatus.MISSING, binding=""), ["plan"]),
        (NEXT, ["dossier", "plan"]),
    ],
)
def test_missing_predictions_are_no_error(
    counter: Counter, guest: Guest, known: Assessment, asked: list[str]
) -> None:
    counter.know(known)
    guest.settled("/upgrade")
    assert sorted(words[0] for words in counter.inspector.asked) == asked


@pytest.mark.parametrize("known", [replace(NEXT, slot_built=False, binding=""), NEXT])
def test_job_for_a_failed_release_is_a_retry(
    counter: Counter, guest: Guest, known: Assessment
) -> None:
    with Journal.open(counter.site.journal) as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6008", None)
        for uid in (1, 2):
            actor = Actor(str(uid), uid)
            ApprovalStore(journal).add(BINDING, "3.3.0", BASIS, actor, 2)
    counter.know(known)
    page = guest.settled("/upgrade")
    assert page.form("/job")["retry"] == "yes"
    # Seen: "To retry it, it must be approved. Approved."
    assert ("3.3.0 failed at this site." in page.text) is (not known.binding)


def test_result_of_a_job_is_awaited(counter: Counter, guest: Guest) -> None:
    """Seen: "Download it first", just after the download."""
    counter.know(replace(NEXT, slot_built=False, binding=""))
    guest.submit(guest.get("/upgrade"), "/job")
    with Journal.open(counter.site.journal) as journal:
        JobQueue(journal).mark_started(1)
        JobQueue(journal).mark_ended(1, {"exit_code": 0, "document": {}})
        newest = journal.list_events()[-1].number
    page = guest.get("/upgrade")
    assert (page.state, "/job" in dict(page.forms())) == ("loading", False)
    counter.know(replace(NEXT, rehearsal_status=RehearsalStatus.MISSING, binding="",
                         last_event=newest))  # fmt: skip
    assert guest.settled("/upgrade").form("/job")["kind"] == "rehearse"


def test_repeated_job_clicks_queue_one_job(counter: Counter, guest: Guest) -> None:
    counter.know(replace(NEXT, slot_built=False, binding=""))
    fields = guest.settled("/upgrade").form("/job")
    assert fields["kind"] == "prepare"
    start, found = threading.Barrier(6), []

    def click() -> None:
        start.wait()
        found.append(guest.post("/job", fields).headers["location"].partition("?")[0])

    fingers = [threading.Thread(target=click) for _ in range(6)]
    for finger in fingers:
        finger.start()
    for finger in fingers:
        finger.join()
    assert len(set(found)) == 1 and found[0].startswith("/jobs/")
    assert len(counter.rows()["jobs"]) == 1
    assert label(guest.get(found[0])) == "Queued"


def _foreign(page: Answer) -> dict[str, tuple[dict[str, str], dict[str, str | None]]]:
    good = {**page.form("/hold"), "reason": "x"}
    return {
        "no token": ({"reason": "x"}, {}),
        "a token of another form": ({**good, "token": page.form("/language")["token"]}, {}),
        "an invented token": ({**good, "token": "a.b"}, {}),
        "another place": (good, {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}),
        "another port": (good, {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site"}),
        "from nowhere": (good, {"Origin": None, "Sec_Fetch_Site": None}),
        "no form": (good, {"Content_Type": "text/plain"}),
        "JSON": (good, {"Content_Type": "application/json"}),
        "no session": (good, {"Cookie": None}),
        "empty": ({**good, "reason": " "}, {}),
        "no time": ({**good, "until": "tomorrow"}, {}),
        "a time that has passed": ({**good, "until": "2020-01-01T00:00"}, {}),
        "what cannot be shown": ({**good, "reason": "a\u202eb"}, {}),
        "too long": ({**good, "reason": "x" * 501}, {}),
    }


FOREIGN = tuple(
    _foreign(Answer(200, {}, '<form method="post" action="/hold"></form>'
                    '<form method="post" action="/language"><input type="hidden" name="token"'
                    ' value="x"></form>'))
)  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_requests_change_nothing(counter: Counter, guest: Guest, name: str) -> None:
    fields, headers = _foreign(guest.get("/hold"))[name]
    before = counter.rows()
    found = guest.post("/hold", fields, **headers)
    assert found.status in (400, 401, 403, 409)
    assert re.search(r"NU-\d{4}", found.text)
    assert counter.rows() == before


def test_form_of_another_browser_is_refused(counter: Counter, place: Place) -> None:
    one, other = place.enter(), place.enter()
    fields = {**one.get("/hold").form("/hold"), "reason": "x"}
    assert "NU-9704" in other.post("/hold", fields).text
    assert holds(counter) == []


def test_refused_form_stays_refused(counter: Counter, guest: Guest) -> None:
    """A resubmitted form gets the same answer, and nothing is done."""
    fields = {**guest.get("/hold").form("/hold"), "reason": "x" * 501}
    first, again = guest.post("/hold", fields), guest.post("/hold", fields)
    assert (first.status, again.status) == (400, 400)
    assert first.state == again.state == "refused"
    assert guest.post("/hold", {**fields, "reason": "short"}).status == 400
    assert holds(counter) == []


def test_oversized_form_is_refused(guest: Guest) -> None:
    big = {**guest.get("/hold").form("/hold"), "reason": "x" * 70_000}
    try:
        found = guest.post("/hold", big)
    except OSError:
        return  # closed before it was sent
    assert found.status in (400, 413)


@pytest.mark.parametrize("length", ["+0", "0_0", "-0"])
def test_non_decimal_content_length_is_refused(guest: Guest, length: str) -> None:
    """A reverse proxy may parse it differently."""
    assert guest.get("/settings", Content_Length=length).status == 400


def test_slow_client_does_not_block_others(
    place: Place, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEADER_TIMEOUT_S", 0.2)
    slow = [sockets.create_connection(("127.0.0.1", place.port), DEADLINE_S) for _ in range(40)]
    for line in slow:
        line.sendall(b"GET / HTTP/1.1\r\n")
    assert guest.get("/").status == 200
    for line in slow:
        line.close()


def test_unsupported_methods_and_addresses_are_refused(guest: Guest) -> None:
    assert guest.ask("DELETE", "/").status == 404
    assert guest.get("/jobs/0").status == 404
    assert guest.get("/unhold").status == 404
    assert guest.get("/history/../../etc/passwd").status == 404
    assert guest.get("/templates/status.html").status == 404
    assert guest.get("/jobs/7").status == 404, "the service knows none"
    assert guest.ask("HEAD", "/").text == ""
    icon = guest.get("/favicon.ico")
    assert (icon.status, "content-length" in icon.headers) == (204, False)


# ---- what is shown -------------------------------------------------------------------------------


def test_hostile_text_is_escaped(counter: Counter, guest: Guest) -> None:
    with Journal.open(counter.site.journal) as journal:
        SiteHistory(journal).add_hold(HOSTILE, "<b>eve</b>\u202e", None)
    found = guest.get("/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found.text and "{{ 7 * 7 }}" in found.text
    assert "<script>" not in found.text and "<b>eve" not in found.text
    assert not set("\u202e\x1b") & set(found.text)


def test_request_address_is_escaped(guest: Guest) -> None:
    found = guest.get("/%3Cscript%3Ealert(1)%3C/script%3E")
    assert found.status == 404
    assert "<script>" not in found.text
    found = guest.get("/help?code=%22%3E%3Cscript%3E")
    assert "<script>" not in found.text and "Unknown error code:" in found.text


def test_times_are_in_the_site_timezone(counter: Counter) -> None:
    """Seen behind a password: the zone of the machine, beside a terminal that had the site's."""
    settings = SETTINGS.model_copy(update={"timezone": "Indian/Mauritius"})
    counter.snapshots = SnapshotStore(settings, lambda: NOW)
    with answering(counter) as path, served_console(path) as place:
        assert "2026-11-24 10:00:00 +04" in place.enter().get("/").text


def test_language_is_selectable(guest: Guest) -> None:
    page = guest.get("/")
    assert '<html lang="en"' in page.text
    found = guest.submit(page, "/language", language="fr")
    assert '<html lang="fr"' in found.text and "Prochaine action" in found.text
    for back in ("//evil.example", "//evil", "//3232235777", "///evil", "javascript:x"):
        form = {**page.form("/language"), "language": "fr", "back": back}
        away = guest.post("/language", form)
        assert away.headers["location"].startswith("/?done="), back
        page = guest.get("/")


def test_code_is_explained(guest: Guest) -> None:
    found = guest.get("/help?code=9314")
    assert "NU-9314" in found.text


@pytest.mark.parametrize("language", ["en", "fr"])
def test_explanations_have_no_unfilled_placeholder(guest: Guest, language: str) -> None:
    """Seen: "The {kind} to {version} failed in the step '{step}'", and "{cause_remedy}"."""
    guest.submit(guest.get("/"), "/language", language=language)
    for code in ("6011", "6012", "6018", "6026"):
        found = guest.get(f"/help?code={code}")
        told = found.text[found.text.index(f"NU-{code}") :]
        assert "{" not in told and "…" in told
    assert "history" in guest.get("/help?code=6011").text


# ---- deciding ------------------------------------------------------------------------------------


def test_approval_without_a_shown_dossier_is_impossible(counter: Counter, guest: Guest) -> None:
    """The dossier could not be generated: its digest is shown, and there is no button."""
    found = guest.settled("/approve")
    assert found.heading == "Approve upgrade to ncen 3.3.0?"
    assert "abababab abababab" in found.text, "in groups, to compare"
    assert "/approve" not in [address for address, _ in found.forms()]
    assert counter.rows()["approvals"] == []


def test_nothing_is_decided_during_the_soak(counter: Counter, guest: Guest) -> None:
    counter.site.open_change(StepName.MAINTENANCE_ON, StepName.MAINTENANCE_OFF)
    with Journal.open(counter.site.journal) as journal:
        journal.commit_change(CHANGE.id)
    found = guest.settled("/approve")
    assert found.heading == "No upgrade to approve"
    assert "Soak period: 3.3.0" in found.text, "its planned end has passed"
    assert "/approve" not in [address for address, _ in found.forms()]
    assert "Downtime:" not in guest.settled("/live").text, "that of the upgrade, in an outage"
    # Seen: "Upgrade to 3.3.0: waiting for approval", of the release that is watched.
    updates = guest.settled("/upgrade")
    assert updates.heading == "Soak period: 3.3.0"
    assert "Waiting for approval" not in updates.text and "Upgrade path" not in updates.text


# ---- a service that is away ----------------------------------------------------------------------


def test_service_that_never_answered_is_reported(tmp_path: Path) -> None:
    with served_console(tmp_path / "api.sock") as place:
        guest = place.enter()
        for path in PAGES:
            found = guest.get(path)
            assert (found.status, found.state) == (503, "broken")
            assert "No response from the service since this console started." in found.text


def test_service_that_stops_midway_is_reported_with_the_last_known_state(counter: Counter) -> None:
    """The last known state is shown with its age; a form says that its result is unknown."""
    from tests.agent.service.api.serving import answering

    with answering(counter) as path:
        stack = served_console(path)
        place = stack.__enter__()
        guest = place.enter()
        assert guest.get("/").status == 200
        page = guest.get("/hold")
    try:
        found = guest.get("/")
        assert (found.status, found.state) == (503, "broken")
        assert re.search(r"Last known state \((&lt; )?\d+\.\d s ago", found.text)
        fields = {**page.form("/hold"), "reason": "x"}
        sent = guest.post("/hold", fields)
        assert (sent.status, "NU-9304" in sent.text) == (503, True)
        assert "Unknown whether" in sent.text
        with answering(counter):
            assert guest.get("/").status == 200
            assert guest.post("/hold", fields).status == 503, "said once, carried out once"
            assert holds(counter) == []
    finally:
        stack.__exit__(None, None, None)


def test_live_page_is_unchanged_until_an_event(counter: Counter, guest: Guest) -> None:
    def seen() -> str:
        found = re.search(r'data-seen="([0-9-]+)"', guest.get("/live").text)
        assert found is not None
        return found[1]

    while (empty := guest.get(f"/live?seen={seen()}")).text:
        pass  # the service has just reported its activity
    assert empty.status == 200
    number = seen()
    counter.site.open_change()
    while not (found := guest.get(f"/live?seen={number}")).text:
        pass
    assert found.heading == "Upgrading to 3.3.0"


def label(page: Answer) -> str:
    """Return the state of the subject of a page."""
    found = re.search(r'<p class="label [a-z]+">(.*?)</p>', page.text)
    assert found is not None
    return found[1]


def test_job_page_never_shows_the_change_of_another_job(counter: Counter, guest: Guest) -> None:
    """Its page shows it from the click on, also to other users and after a reload."""
    assert counter.ask("POST", "/v1/jobs", {"kind": "upgrade"}).status == 202
    assert (label(guest.get("/live")), label(guest.get("/jobs/1"))) == ("Queued", "Queued")
    with Journal.open(counter.site.journal) as journal:
        JobQueue(journal).mark_started(1)
    counter.site.open_change(StepName.FETCH)
    assert guest.get("/jobs/1").heading == "Upgrading to 3.3.0"
    assert counter.ask("POST", "/v1/jobs", {"kind": "resume"}).status == 202
    assert label(guest.get("/jobs/2")) == "Queued", "it waits for the other"
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
        JobQueue(journal).mark_ended(1, {"exit_code": 1, "document": {}})
    assert guest.get("/jobs/1").heading.startswith("Upgrade to 3.3.0 failed")
    for found in (guest.get("/live"), guest.get("/jobs/2")):
        assert (label(found), CHANGE.id in found.text) == ("Queued", False)
        assert 'class="steps"' not in found.text


def test_title_shows_the_progress(counter: Counter, guest: Guest) -> None:
    def title(path: str) -> str:
        return guest.get(path).text.partition("<title>")[2].partition("</title>")[0]

    assert title("/live") == "Idle: No operation in progress · ke-1"
    counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        journal.record_step(CHANGE.id, StepName.COPY, StepState.INTENDED)
    assert title("/live") == "copying the databases · ke-1"
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    assert title("/live").startswith("Upgrade to 3.3.0 failed")


def test_failed_step_shows_cause_remedy_code_and_report(counter: Counter, guest: Guest) -> None:
    counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        journal.record_step(CHANGE.id, StepName.COPY, StepState.INTENDED)
        journal.append_event(
            "step-failed", CHANGE.id, step="copy", code="NU-3110", error="No room."
        )
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    for path, link in (("/live", f'href="/history/{CHANGE.id}"'), (f"/history/{CHANGE.id}", "")):
        step = (
            guest.get(path)
            .text.partition('<li class="failed" id="failed">')[2]
            .partition("</li>")[0]
        )
        assert "copying the databases" in step and "No room." in step
        assert 'href="/help?code=NU-3110#codes"' in step and link in step


def test_report_of_an_open_change_does_not_reload(counter: Counter, guest: Guest) -> None:
    """A reload moves the focus and the place of a reader; the activity page is for progress."""
    counter.site.open_change(StepName.FETCH)
    assert "refresh" not in guest.get(f"/history/{CHANGE.id}").headers


def test_prediction_is_renewed_after_a_change(counter: Counter, guest: Guest) -> None:
    def count_inspections() -> int:
        assert guest.settled("/upgrade").state == "ready"
        return len(counter.inspector.asked)

    first = count_inspections()
    assert count_inspections() == first, "nothing happened"
    counter.site.open_change(StepName.FETCH)
    with Journal.open(
        counter.site.journal, now=lambda: datetime.now(UTC) + timedelta(seconds=1)
    ) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    assert count_inspections() > first


def as_user(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    """Fake the kernel's peer credentials: the service sees this user as caller."""
    uid = uid_of(user)
    monkeypatch.setattr(server, "get_peer_uid", lambda _: uid)


def has_dossier(counter: Counter, binding: str = BINDING) -> None:
    """Let the dossier with this binding be found."""
    style = "p { color: red }"
    page = f"<!DOCTYPE html><html><head><style>{style}</style></head><body><p>x</p></body></html>"
    document: dict[str, object] = {
        "version": "3.3.0",
        "binding": binding,
        "html": page,
        "downtime_s": None,
        "keeps_records": True,
        "lost_objects": [],
    }
    counter.inspector.found = WorkerResult(0, document)


def test_concurrent_approvals_of_one_user_count_once(
    counter: Counter, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, APPROVER)
    has_dossier(counter)
    guests = [place.enter(), place.enter("fr")]
    fields = [guest.settled("/approve").form("/approve") for guest in guests]
    start, found = threading.Barrier(2), []

    def approve(guest: Guest, form: dict[str, str]) -> None:
        start.wait()
        found.append(guest.post("/approve", form).status)

    sides = [threading.Thread(target=approve, args=one) for one in zip(guests, fields, strict=True)]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert found == [303, 303]
    assert len(counter.rows()["approvals"]) == 1
    seen = guests[0].settled("/approve")
    assert "Already approved by you." in seen.text and APPROVER in seen.text
    assert "/approve" not in [address for address, _ in seen.forms()]
    after = guests[0].submit(seen, "/withdraw")
    assert "Approval withdrawn." in after.text


def test_only_the_shown_dossier_is_approvable(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new rehearsal voids the shown dossier: no button, and an old form is refused."""
    as_user(monkeypatch, APPROVER)
    has_dossier(counter)
    old = guest.settled("/approve").form("/approve")
    assert old["binding"] == BINDING
    counter.know(replace(NEXT, binding=OTHER))
    seen = guest.settled("/approve")
    assert "/approve" not in [address for address, _ in seen.forms()]
    assert "Outdated: the upgrade plan changed." in seen.text
    refused = guest.post("/approve", old)
    assert (refused.status, "NU-9315" in refused.text) == (409, True)
    assert counter.rows()["approvals"] == []


def test_rejection_is_a_hold_with_its_reason(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, APPROVER)
    has_dossier(counter)
    page = guest.settled("/approve")
    assert guest.post("/reject", page.form("/reject")).status == 409, "without a reason"
    assert holds(counter) == []
    after = guest.submit(guest.settled("/approve"), "/reject", reason="the fair")
    assert "Rejected. Upgrades are on hold." in after.text
    assert "3.3.0 rejected: the fair" in after.text
    assert len(holds(counter)) == 1 and counter.rows()["approvals"] == []


def test_dossier_has_only_its_own_styles(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, APPROVER)
    has_dossier(counter)
    page = guest.settled("/approve")
    assert '<iframe src="/dossier" sandbox="allow-same-origin"' in page.text
    found = guest.get("/dossier")
    digest = base64.b64encode(hashlib.sha256(b"p { color: red }").digest()).decode()
    policy = found.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "frame-ancestors 'self'" in policy and "script-src" not in policy
    assert found.headers["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.parametrize(("path", "form"), [("/hold", "/hold"), ("/approve", "/approve")])
def test_missing_permission_names_its_holders_instead_of_a_button(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch, path: str, form: str
) -> None:
    as_user(monkeypatch, READER)
    has_dossier(counter)
    found = guest.settled(path)
    assert "NU-9314" in found.text and 'class="who-may"' in found.text
    assert form not in [address for address, _ in found.forms()]


def test_service_enforces_permissions_against_forged_forms(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved or forged form of a user without permission is refused by the service."""
    page = guest.get("/hold")
    as_user(monkeypatch, READER)
    found = guest.post("/hold", {**page.form("/hold"), "reason": "x"})
    assert (found.status, "NU-9314" in found.text) == (403, True)
    assert holds(counter) == []


def test_user_without_a_role_sees_nothing(
    counter: Counter, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    del counter
    as_user(monkeypatch, NOBODY)
    for path in PAGES:
        found = guest.get(path)
        assert (found.status, found.state, "NU-9314" in found.text) == (403, "refused", True)
        assert "3.2.4" not in found.text


def test_rollback_requires_the_shown_loss(counter: Counter, guest: Guest) -> None:
    """The loss is counted; another number, or none, starts nothing."""
    counter.site.open_change(StepName.FETCH)
    with Journal.open(counter.site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    counter.inspector.found = WorkerResult(
        0,
        {
            "from": "3.3.0", "to": "3.2.4", "mode": "restore", "lost": {"seizures.cases": 1234},
            "lost_total": 1234, "reason": None, "undoes": "abcdefgh", "binding": BINDING,
            "in_soak": False, "approvals": [], "missing": 0, "round_trip": None, "lines": ["so"],
        },
    )  # fmt: skip
    page = guest.settled("/rollback-plan")
    fields = page.form("/rollback")
    assert fields["lost"] == "1234" and "1234" in page.text
    for typed in ("", "1233", "12345", "yes"):
        fields = guest.settled("/rollback-plan").form("/rollback")
        found = guest.post("/rollback", {**fields, "typed": typed})
        assert (found.status, "NU-9709" in found.text) == (409, True)
    assert counter.rows()["jobs"] == []
