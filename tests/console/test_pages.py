"""Tests of pages from documents alone: one sentence, the next action, times and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.console.inspection_poller import InspectionState
from ncen_updater.console.pages.history import count_missing_approvals
from ncen_updater.console.pages.live import (
    build_live_view,
    choose_newest,
    describe_users,
    read_recent_status,
)
from ncen_updater.console.pages.status import build_headline, find_next_action, list_pending
from ncen_updater.console.pages.support import group_by_table
from ncen_updater.console.pages.upgrade import (
    format_downtime,
    is_older_than_last_change,
)

NOW = datetime(2026, 11, 24, 6, 0, 30, tzinfo=UTC)


def status(**more: Any) -> dict[str, Any]:
    journal = {
        "lock_holder": None, "open_change": None, "pending_rollback": None, "holds": [],
        "last_change": None, "bad_releases": [], **more.pop("journal", {}),
    }  # fmt: skip
    service = {"reason": None, "running": None, "failures": [], **more.pop("service", {})}
    return {
        "at": "2026-11-24T06:00:30+00:00",
        "product": "ncen", "running": {"version": "3.2.4", "availability": {"state": "available"}},
        "journal": journal, "feed": {"stale": False}, "service": service,
        "you": {"roles": ["approve", "read"]}, **more,
    }  # fmt: skip


def next_upgrade(**more: Any) -> dict[str, Any]:
    return {
        "target": "3.3.0", "hops": ["3.3.0"], "rehearsal_status": "passed", "binding": "ab",
        "missing": 1,
        "approvals": [],
        **more,
    }  # fmt: skip


def change(**more: Any) -> dict[str, Any]:
    return {
        "kind": "upgrade", "to": "3.3.0", "state": "running", "step": "copy",
        "next_version": None, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("running", "journal", "tone", "label", "words"),
    [
        ({"version": "3.2.4", "availability": {"state": "available"}}, {},
         "good", "Running", "ncen 3.2.4 is running; users can work"),
        ({"version": "3.2.4", "availability": {"state": "maintenance"}}, {"open_change": change()},
         "wait", "upgrading", "Upgrading to ncen 3.3.0; users cannot work"),
        ({"version": "3.3.0", "availability": {"state": "maintenance"}},
         {"open_change": change(kind="rollback", to="3.2.4")},
         "wait", "rolling back", "Rolling back to ncen 3.2.4; users cannot work"),
        ({"version": "3.2.4", "availability": {"state": "maintenance"}}, {},
         "wait", "Maintenance", "Maintenance page shown; users cannot work"),
        ({"version": "3.2.4", "availability": {"state": "not-running"}}, {},
         "bad", "Stopped", "ncen 3.2.4 is stopped; users cannot work"),
        ({"version": "3.2.4", "availability": {"state": "some-day-else"}}, {},
         "wait", "Unknown", "Unknown whether users can work"),
        ({"version": None, "availability": None}, {}, "wait", "Not adopted",
         "No release of ncen installed"),
        ({"error": {}}, {}, "bad", "Unknown", "Unknown whether users can work"),
    ],
)  # fmt: skip
def test_headline_has_a_tone_a_label_and_a_sentence(
    running: dict[str, Any], journal: dict[str, Any], tone: str, label: str, words: str
) -> None:
    found = build_headline(status(running=running, journal=journal))
    assert (*found[:2], found[2].render()) == (tone, label, words)


HELD = {"reason": "fair", "actor": "bo", "since": "2026-11-24T06:00:00+00:00"}
DEEDS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, tuple[str, str, str]]] = {
    "the journal is broken": ({"journal": {"error": {}}}, None, ("look", "/help", "")),
    "cut off": ({"journal": {"open_change": change()}}, None, ("job", "", "resume")),
    "running": (
        {"journal": {"open_change": change(), "lock_holder": "x"}}, None, ("look", "/live", "")
    ),
    "stuck, though at work": (
        {"journal": {"open_change": change(state="stuck"), "lock_holder": "x"}}, None,
        ("job", "", "resume"),
    ),
    "watched": (
        {"journal": {"open_change": change(state="committed", step="soak")}}, None,
        ("look", "/live", ""),
    ),
    "cut off after the commit": (
        {"journal": {"open_change": change(state="committed", step="maintenance-off")}}, None,
        ("job", "", "resume"),
    ),
    "the service works": (
        {"service": {"running": {"title": "check"}}}, next_upgrade(), ("look", "/live", ""),
    ),
    "pending rollback": (
        {"journal": {"pending_rollback": {"version": "3.3.0"}}}, None, ("job", "", "resume"),
    ),
    "held": ({"journal": {"holds": [HELD]}}, next_upgrade(), ("unhold", "", "")),
    "to rehearse": ({}, next_upgrade(rehearsal_status=None), ("look", "/upgrade", "")),
    "void": ({}, next_upgrade(binding=None), ("look", "/upgrade", "")),
    "to decide": ({}, next_upgrade(), ("look", "/approve", "")),
    "decided": ({}, next_upgrade(missing=0), ("look", "/upgrade", "")),
    "an old list": ({"feed": {"stale": True}}, next_upgrade(target=None), ("job", "", "check")),
    "no list": ({"feed": None}, next_upgrade(target=None), ("job", "", "check")),
    "nothing": ({}, next_upgrade(target=None), ("", "", "")),
}  # fmt: skip


@pytest.mark.parametrize("name", DEEDS)
def test_next_action_is_proposed(name: str) -> None:
    more, comes, wanted = DEEDS[name]
    found = find_next_action(status(**more), comes)
    assert (found.action, found.link, found.job_kind) == wanted
    assert found.role == ("operate" if found.action in ("job", "unhold") else "read")


def test_next_action_names_the_required_release_first() -> None:
    found = find_next_action(status(), next_upgrade(hops=["3.3.10", "3.4.0"], missing=0))
    assert found.reason.render() == "Approved: 3.3.10, then 3.4.0"


def test_pending_items_are_listed() -> None:
    seen = status(journal={"holds": [HELD]}, service={"reason": "it is on hold"})
    comes = next_upgrade(approvals=[{"actor": "amina"}])
    assert [text.render() for text in list_pending(seen, comes)] == [
        "Upgrades on hold since 2026-11-24 06:00:00 UTC by bo: fair",
        "Upgrade to 3.3.0 approved by amina",
        "Waiting for approval of 3.3.0: 1 missing",
    ], "what the service decided is of before"  # fmt: skip
    start = {"kind": "now", "at": None, "wait_reason": None}
    approved = [
        text.render() for text in list_pending(status(), next_upgrade(missing=0, starts_at=start))
    ]
    assert approved == ["The upgrade starts immediately."]
    assert [text.render() for text in list_pending(status(service={"reason": "idle"}), None)] == [
        "Idle."
    ]


def test_failed_release_is_not_simply_approvable() -> None:
    bad = status(journal={"bad_releases": [{"version": "3.3.0"}]})
    found = find_next_action(bad, next_upgrade())
    assert (found.link, found.role) == ("/history", "read")
    assert found.reason.render().startswith("3.3.0 failed at this site.")
    assert find_next_action(bad, next_upgrade(missing=0)).link == "/upgrade"


def test_approval_is_not_requested_during_the_soak() -> None:
    watched = change(state="committed", soak_ends_at="2026-11-24T20:40:00+00:00")
    seen = status(journal={"open_change": watched})
    zone = ZoneInfo("Indian/Mauritius")
    assert [text.render() for text in list_pending(seen, next_upgrade(), zone)] == [
        "Soak period of 3.3.0 until 2026-11-25 00:40:00 +04"
    ]
    watched["soak_ends_at"] = seen["at"]
    assert [text.render() for text in list_pending(seen, next_upgrade(), zone)] == [
        "Soak period: 3.3.0"
    ], "an outage pauses the timer"
    watched["next_version"] = "3.4.0"
    *_, follows = list_pending(seen, next_upgrade(), zone)
    assert follows.render() == "Then the upgrade to 3.4.0 begins, with a further downtime."


def test_release_that_was_rolled_back_automatically_is_named() -> None:
    """Seen: the status after such a rollback said that all is well, and nothing of 3.3.0."""
    last = change(kind="rollback", to="3.2.4", **{"from": "3.3.0"}, state="finished")
    bad = {"version": "3.3.0", "code": "NU-6009"}
    seen = status(journal={"last_change": last, "bad_releases": [bad]})
    assert [text.render() for text in list_pending(seen, None)] == [
        "3.3.0 failed at this site (NU-6009)"
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"missing": 1}, "Rollback needs 1 more approval"),
        ({"accept_loss": 1}, "Rollback approved with a data loss of at most 1 record"),
        ({}, "Rollback approved without data loss"),
    ],
)
def test_rollback_approvals_are_shown(more: dict[str, int], words: str) -> None:
    back = {
        "from": "3.3.0",
        "version": "3.2.4",
        "approvers": ["amina"],
        "missing": 0,
        "accept_loss": 0,
    }
    seen = status(journal={"rollback_approved": {**back, **more}})
    assert [text.render() for text in list_pending(seen, None)] == [
        "Rollback to 3.2.4 approved by amina", words,
    ]  # fmt: skip


SINCE = "2026-11-24T06:00:00+00:00"


def step(name: str, state: str, seconds: float | None) -> dict[str, Any]:
    return {"name": name, "state": state, "started_at": SINCE, "seconds": seconds}


def report(state: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "id": "abcdefgh", "from": "3.2.4", "to": "3.3.0", "state": state, "downtime_s": None,
        "ended_at": None, "predicted_downtime_s": {"low": 20.0, "likely": 30.0, "high": 90.0},
        "steps": [step("fetch", "done", 4.2), step("maintenance-on", "done", 0.1),
                  step("copy", "intended", None), step("later-word", "other-word", None)],
        **more,
    }  # fmt: skip


IDLE = {"running": None, "reason": None}
BUSY = {
    "running": {
        "command": ["upgrade"], "since": SINCE,
        "progress": {"template": "copying {database}", "values": {"database": "seizures"},
                     "amount": {"done": 1_500_000, "total": 3_000_000, "unit": "bytes"}},
    },
    "reason": None,
}  # fmt: skip


def test_running_change_is_shown() -> None:
    view = build_live_view(report(), None, BUSY, NOW, "en")
    assert (view.label, view.headline) == ("In progress", "Upgrading to 3.3.0")
    assert view.progress == "copying seizures, 1.5 MB of 3.0 MB"
    assert view.brief == "50 % copying the databases", "the title of the page"
    assert view.downtime == "30 s"
    assert view.predicted == "about 30 s (at most 1 min 30 s)"
    assert view.spoken == "copying the databases: running"
    assert [(s.name, s.style, s.took) for s in view.steps] == [
        ("downloading and verifying the release", "done", "4.2 s"),
        ("showing the maintenance page", "done", "0.1 s"),
        ("copying the databases", "now", "30 s"),
        ("later-word", "", ""),
    ]
    assert view.busy and not view.can_end_soak


def test_rollback_shows_no_download() -> None:
    view = build_live_view(report(kind="rollback"), None, BUSY, NOW, "en")
    assert view.headline == "Rolling back to 3.3.0"
    assert view.steps[0].name == "verifying the release"


OPENED = {**step("maintenance-off", "done", 0.2), "started_at": "2026-11-24T06:00:25+00:00"}


@pytest.mark.parametrize("kind", ["upgrade", "rollback"])
def test_soak_period_is_shown_only_after_the_downtime(kind: str) -> None:
    """Seen: "Soak period" above "Users cannot work", and a button that confirms the release."""
    committed = report("committed", kind=kind)
    view = build_live_view(committed, None, BUSY, NOW, "en")
    assert (view.label, view.can_end_soak) == ("In progress", False)
    assert view.headline == {
        "upgrade": "Upgrading to 3.3.0", "rollback": "Rolling back to 3.3.0",
    }[kind]  # fmt: skip
    steps = [*report()["steps"], OPENED]
    view = build_live_view({**committed, "steps": steps}, None, BUSY, NOW, "en")
    assert (view.label, view.can_end_soak) == ("soak period", True)


def test_downtime_stands_still_after_users_returned() -> None:
    """Also while the release is watched; the time stands still then."""
    steps = [*report()["steps"], OPENED]
    view = build_live_view(report("committed", downtime_s=25.0, steps=steps), None, IDLE, NOW, "en")
    assert view.downtime == "25 s"


@pytest.mark.parametrize(
    ("state", "shown", "words"),
    [
        ("available", report(steps=[step("fetch", "done", 1.0)]), ("good", "Users can work")),
        ("maintenance", report(), ("wait", "Users cannot work")),
        ("available", report(), ("good", "Users can work")),
        ("available", report(steps=[*report()["steps"], OPENED]), ("good", "Users can work again")),
        ("available", report("reverted", downtime_s=9.0, ended_at=SINCE),
         ("good", "Users can work again")),
        ("not-running", report("stuck", ended_at=SINCE), ("bad", "Users cannot work")),
        ("unhealthy", report("stuck"), ("bad", "The application is unhealthy")),
        ("some-day-else", None, ("bad", "Users cannot work")),
    ],
)  # fmt: skip
def test_availability_is_taken_from_the_application(
    state: str, shown: dict[str, Any] | None, words: tuple[str, str]
) -> None:
    """What the steps say is not enough: the service has seen the application."""
    view = build_live_view(shown, None, IDLE, NOW, "en")
    seen = status(running={"version": "3.2.4", "availability": {"state": state}})
    assert describe_users(seen, view) == words


@pytest.mark.parametrize(
    ("running", "words"),
    [({"error": {}}, "Unknown whether users can work"), ({"version": None}, "Not adopted")],
)
def test_unknown_availability_is_reported(running: dict[str, Any], words: str) -> None:
    view = build_live_view(None, None, IDLE, NOW, "en")
    assert describe_users(status(running=running), view) == ("wait", words)


@pytest.mark.parametrize(
    ("known_at", "asks"), [("05:59:59", True), ("06:00:00.9", True), ("06:00:01", False)]
)
def test_status_is_not_older_than_the_newest_event(known_at: str, asks: bool) -> None:
    """Seen: "users can work" for half a minute of a stop that began within the same second."""
    at = datetime.fromisoformat(f"2026-11-24T{known_at}+00:00")
    last = SimpleNamespace(at=at, status=status())
    asking: Any = SimpleNamespace(
        now=NOW - timedelta(seconds=28), get_status=lambda: "anew",
        service=SimpleNamespace(get_last_status=lambda: last),
    )  # fmt: skip
    found: object = read_recent_status(asking, report(events=[{"at": SINCE}]))
    assert (found == "anew") is asks


def test_live_view_is_translated() -> None:
    view = build_live_view(report(), None, BUSY, NOW, "fr")
    assert view.headline == "Mise à niveau vers 3.3.0"
    assert view.steps[2].name == "copie des bases de données"


@pytest.mark.parametrize(
    ("shown", "moment", "label", "headline_", "clock", "busy"),
    [
        (None, IDLE, "Idle", "No operation in progress", "", False),
        (None, {"running": {"command": ["rehearse"]}}, "In progress", "Operation in progress", "",
         True),
        (report("finished", ended_at="2026-11-24T06:01:00+00:00", downtime_s=25.0), IDLE,
         "Completed", "Upgraded to 3.3.0", "25 s", False),
        (report("reverted", ended_at="2026-11-24T06:01:00+00:00"), IDLE,
         "Failed", "Upgrade to 3.3.0 failed; 3.2.4 is back in use", "", False),
        (report("stuck"), IDLE, "Action required",
         "Manual intervention required: upgrade to 3.3.0", "30 s", True),
        (report("finished", ended_at="2026-11-24T06:01:00+00:00"), {"running": {"command": ["x"]}},
         "In progress", "Operation in progress", "", True),
    ],
)  # fmt: skip
def test_live_view_describes_the_state(
    shown: dict[str, Any] | None, moment: dict[str, Any], label: str, headline_: str, clock: str,
    busy: bool,
) -> None:  # fmt: skip
    view = build_live_view(shown, None, moment, NOW, "en")
    assert (view.label, view.headline, view.downtime, view.busy) == (label, headline_, clock, busy)


BEFORE, AT, AFTER = (f"2026-11-24T05:0{minute}:00+00:00" for minute in (0, 1, 2))


def job(at: str, **more: Any) -> dict[str, Any]:
    return {
        "id": 7, "kind": "upgrade", "data": {"version": "3.3.0"}, "actor": "amina", "at": at,
        "started_at": None, "ended_at": None, "change": None, "result": None, **more,
    }  # fmt: skip


FAULT = {"code": "NU-6106", "title": "Not ready.", "remedy": "Mend it.", "state": "-"}
ENDED = report("reverted", ended_at=AT)
TAKEN = {"started_at": AFTER}
FAILED = {**TAKEN, "ended_at": AFTER, "result": {"document": {"error": FAULT}}}
MINE = {**TAKEN, "change": "abcdefgh"}
NEWEST: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, tuple[bool, bool]]] = {
    "nothing": (None, None, (False, False)),
    "the first job": (None, job(AFTER), (False, True)),
    "it waits": (ENDED, job(AFTER), (False, True)),
    "it waits, and the clock was set back": (ENDED, job(BEFORE), (False, True)),
    "it was taken": (ENDED, job(AFTER, **TAKEN), (False, True)),
    "its change has begun": (report(), job(BEFORE, **MINE), (True, True)),
    "its change has ended": (ENDED, job(BEFORE, **MINE), (True, True)),
    "it came to no change": (ENDED, job(AFTER, **FAILED), (False, True)),
    "it came to no change before": (ENDED, job(BEFORE, **FAILED), (True, False)),
    "another change goes on": (report(), job(AFTER), (True, False)),
    "the service was killed, then a change by hand": (
        ENDED, job(BEFORE, started_at=BEFORE, change="other"), (True, False),
    ),
    "it came to a change before": (
        ENDED, job(AFTER, ended_at=AFTER, change="other"), (True, False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWEST)
def test_newest_item_is_a_job_until_its_change_starts(name: str) -> None:
    """Seen: the failure of before as the answer to an order that had just been given."""
    shown, given, wanted = NEWEST[name]
    found = choose_newest(shown, given)
    assert (found[0] is not None, found[1] is not None) == wanted


SAID = {"exit_code": 0, "document": {"lines": ["Nothing to do."]}}
JOBS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str, bool]]] = {
    "it waits": (job(AFTER), IDLE, ("Queued", "", True)),
    "another one runs": (job(AFTER), BUSY, ("Queued", "", True)),
    "the previous command runs": (
        job(AFTER, started_at="2026-11-24T07:00:00+00:00"), BUSY, ("In progress", "", True),
    ),
    "it runs": (
        job(AFTER, started_at=SINCE), BUSY,
        ("In progress", "copying seizures, 1.5 MB of 3.0 MB", True),
    ),
    "it failed": (job(AFTER, **FAILED), BUSY, ("Failed", "", False)),
    "the service was killed": (
        job(AFTER, **{**FAILED, "result": {"interrupted": True}}), IDLE, ("Interrupted", "", False),
    ),
    "it is done": (job(AFTER, **{**FAILED, "result": SAID}), IDLE, ("Completed", "", False)),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_job_page_shows_its_own_job(name: str) -> None:
    given, moment, wanted = JOBS[name]
    view = build_live_view(None, given, moment, NOW, "en")
    assert (view.label, view.progress, view.busy) == wanted
    assert view.headline == "Job 7: upgrade to 3.3.0"
    assert not view.steps and not view.change
    assert (view.problem == FAULT) is (name == "it failed")
    assert (view.lines == ("Nothing to do.",)) is (name == "it is done")


def test_rehearsal_report_leads_to_the_upgrade_page() -> None:
    """Its lines are in the language of who submitted it."""
    given = {**job(AFTER, **{**FAILED, "result": SAID}), "kind": "rehearse"}
    view = build_live_view(None, given, IDLE, NOW, "fr")
    assert (view.lines, view.headline) == ((), "Tâche 7 : essai de 3.3.0")


def test_interrupted_change_names_its_step() -> None:
    cut = {"step": "copy", "at": AT, "during": True, "resumed_at": AT}
    shown = report("reverted", ended_at=AT, interruption=cut)
    view = build_live_view(shown, None, IDLE, NOW, "en")
    assert (view.problem, view.lines) == (None, ("Interrupted during: copying the databases",))


def test_viewer_is_not_asked_to_approve() -> None:
    found = find_next_action(status(you={"roles": ["operate", "read"]}), next_upgrade())
    assert (found.link, found.button.template) == ("/approve", "Show the dossier")


def test_failed_step_shows_cause_and_remedy() -> None:
    steps = [{**one, "state": "undone"} for one in report()["steps"]]
    failure = {"step": "copy", "code": "NU-3110", "error": "No room.\nmore"}
    shown = report("reverted", ended_at=AT, steps=steps, failure=failure, error_code="NU-3110")
    view = build_live_view(shown, None, IDLE, NOW, "en")
    assert [one.style for one in view.steps] == ["undone", "undone", "failed", "undone"]
    assert view.failed_step == "copying the databases"
    assert view.problem is not None and view.change == "abcdefgh"
    assert (view.problem["code"], view.problem["title"]) == ("NU-3110", "No room.")
    assert view.problem["remedy"].endswith(".")
    done = build_live_view({**shown, "state": "finished"}, None, IDLE, NOW, "en")
    assert done.problem is None and not done.failed_step


@pytest.mark.parametrize(
    ("state", "label", "done"),
    [("running", "In progress", "rolling"), ("committed", "soak period", "rolled"),
     ("finished", "Failed", "rolled")],
)  # fmt: skip
def test_automatic_rollback_names_the_failed_release(state: str, label: str, done: str) -> None:
    """Seen: "Completed", "Rolled back to 3.2.4", and nowhere that 3.3.0 had failed, nor why."""
    reason = "no response: Connection refused"
    failed = report("finished", facts={"soak_error": reason})
    facts = {"failed_soak_upgrade": failed["id"]}
    steps = [*report()["steps"], OPENED]
    shown = report(state, kind="rollback", facts=facts, steps=steps, **{"from": "3.3.0"})
    view = build_live_view({**shown, "to": "3.2.4"}, None, BUSY, NOW, "en", failed)
    assert view.label == label
    assert view.headline == f"3.3.0 failed in its soak period; {done} back to 3.2.4"
    assert view.problem is not None
    assert (view.problem["code"], view.problem["title"]) == ("NU-6009", reason)
    assert not view.can_roll_back


def test_job_error_is_preferred_to_the_step_error() -> None:
    failure = {"step": "copy", "code": FAULT["code"], "error": "-"}
    shown = report("reverted", ended_at=AT, failure=failure)
    assert build_live_view(shown, job(BEFORE, **FAILED), IDLE, NOW, "en").problem == FAULT
    other = {**FAILED, "result": {"document": {"error": {**FAULT, "code": "NU-6012"}}}}
    found = build_live_view(shown, job(BEFORE, **other), IDLE, NOW, "en").problem
    assert found is not None and found["code"] == FAULT["code"]


@pytest.mark.parametrize(
    ("ended", "older"), [(BEFORE, False), (AFTER, True), (None, False), ("none", False)]
)
def test_prediction_is_outdated_after_a_change(ended: str | None, older: bool) -> None:
    """Also where a decision is still possible: upgrade and rollback keep the binding."""
    last = status(
        journal={"last_change": None if ended == "none" else {"ended_at": ended}},
    )
    seen = InspectionState("m", NOW, ended_at=datetime.fromisoformat(AT))
    assert is_older_than_last_change(seen, last) is older
    assert not is_older_than_last_change(InspectionState("m", NOW), last), "it is being looked at"


def test_missing_durations_are_omitted() -> None:
    assert format_downtime(None).render() == "unknown (no rehearsal yet)"
    stop = {"low": 0.5, "likely": 30.0, "high": 60.0}
    assert format_downtime(stop).render() == "about 30 s (at most 1 min 00 s)"


def test_configured_settings_are_separate_and_secrets_masked() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for name, value, hidden, explicit in [
            ("url", "https://x", True, True), ("environment", None, True, True),
            ("on", True, False, True), ("hours", [1, 2], False, False),
            ("empty", None, False, False),
        ]:  # fmt: skip
            yield {
                "table": "t", "name": name, "value": value, "explicit": explicit,
                "redacted": hidden,
            }  # fmt: skip

    chosen, defaults = (group_by_table(rows(), explicit=one)["t"] for one in (True, False))
    assert [(name, text.render()) for name, text in chosen] == [
        ("url", "https://x (partly hidden)"), ("environment", "hidden"), ("on", "yes"),
    ]  # fmt: skip
    assert [(name, text.render()) for name, text in defaults] == [("hours", "1, 2"), ("empty", "-")]


@pytest.mark.parametrize(
    ("missing", "approvals", "both", "needed"),
    [(1, 0, True, 0), (1, 0, False, 1), (2, 0, True, 2), (1, 1, True, 1), (0, 1, False, 0)],
)
def test_start_of_a_rollback_counts_as_the_only_approval(
    missing: int, approvals: int, both: bool, needed: int
) -> None:
    way = {"missing": missing, "approvals": [{"actor": "amina"}] * approvals}
    assert count_missing_approvals(way, both) == needed
