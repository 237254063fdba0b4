"""Tests of pages from documents alone: one sentence, the next action, times and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.console.inspection_poller import InspectionState
from ncen_updater.console.pages.history import build_downtime_bars
from ncen_updater.console.pages.live import build_live_view
from ncen_updater.console.pages.status import build_headline, find_next_action, list_pending
from ncen_updater.console.pages.support import group_by_table
from ncen_updater.console.pages.upgrade import as_of, build_scale, format_downtime, format_start

NOW = datetime(2026, 11, 24, 6, 0, 30, tzinfo=UTC)


def status(**more: Any) -> dict[str, Any]:
    journal = {
        "lock_holder": None, "open_change": None, "pending_rollback": None, "holds": [],
        **more.pop("journal", {}),
    }  # fmt: skip
    service = {"reason": None, "running": None, "failures": [], **more.pop("service", {})}
    return {
        "product": "ncen", "running": {"version": "3.2.4", "availability": {"state": "available"}},
        "journal": journal, "feed": {"stale": False}, "service": service, **more,
    }  # fmt: skip


def next_upgrade(**more: Any) -> dict[str, Any]:
    return {
        "target": "3.3.0", "hops": ["3.3.0"], "rehearsal_status": "passed", "binding": "ab",
        "missing": 1,
        "approvals": [],
        **more,
    }  # fmt: skip


def change(**more: Any) -> dict[str, Any]:
    return {"kind": "upgrade", "to": "3.3.0", "state": "running", "step": "copy", **more}


@pytest.mark.parametrize(
    ("running", "journal", "words", "tone"),
    [
        ({"version": "3.2.4", "availability": {"state": "available"}}, {},
         "Running: ncen 3.2.4", "good"),
        ({"version": "3.2.4", "availability": {"state": "maintenance"}}, {"open_change": change()},
         "Upgrading to ncen 3.3.0", "wait"),
        ({"version": "3.3.0", "availability": {"state": "maintenance"}},
         {"open_change": change(kind="rollback", to="3.2.4")},
         "Rolling back to ncen 3.2.4", "wait"),
        ({"version": "3.2.4", "availability": {"state": "maintenance"}}, {},
         "Maintenance page shown", "wait"),
        ({"version": "3.2.4", "availability": {"state": "not-running"}}, {},
         "Stopped: users cannot work", "bad"),
        ({"version": "3.2.4", "availability": {"state": "some-day-else"}}, {},
         "Status unknown", "wait"),
        ({"version": None, "availability": None}, {}, "Not adopted: no release of ncen installed",
         "wait"),
        ({"error": {}}, {}, "Status unknown", "bad"),
    ],
)  # fmt: skip
def test_the_one_sentence(
    running: dict[str, Any], journal: dict[str, Any], words: str, tone: str
) -> None:
    text, found = build_headline(status(running=running, journal=journal))
    assert (text.render(), found) == (words, tone)


HELD = {"reason": "fair", "actor": "bo", "since": "2026-11-24T06:00:00+00:00"}
DEEDS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, tuple[str, str, str]]] = {
    "the journal is broken": ({"journal": {"error": {}}}, None, ("look", "/help", "")),
    "cut off": ({"journal": {"open_change": change()}}, None, ("order", "", "resume")),
    "running": (
        {"journal": {"open_change": change(), "lock_holder": "x"}}, None, ("look", "/live", "")
    ),
    "stuck, though at work": (
        {"journal": {"open_change": change(state="stuck"), "lock_holder": "x"}}, None,
        ("order", "", "resume"),
    ),
    "watched": (
        {"journal": {"open_change": change(state="committed", step="soak")}}, None,
        ("look", "/live", ""),
    ),
    "cut off after the commit": (
        {"journal": {"open_change": change(state="committed", step="maintenance-off")}}, None,
        ("order", "", "resume"),
    ),
    "the service works": ({"service": {"running": {}}}, next_upgrade(), ("look", "/live", "")),
    "owed": (
        {"journal": {"pending_rollback": {"version": "3.3.0"}}}, None, ("order", "", "resume"),
    ),
    "held": ({"journal": {"holds": [HELD]}}, next_upgrade(), ("unhold", "", "")),
    "to rehearse": ({}, next_upgrade(rehearsal_status=None), ("look", "/upgrade", "")),
    "void": ({}, next_upgrade(binding=None), ("look", "/upgrade", "")),
    "to decide": ({}, next_upgrade(), ("look", "/approve", "")),
    "decided": ({}, next_upgrade(missing=0), ("look", "/upgrade", "")),
    "an old list": ({"feed": {"stale": True}}, next_upgrade(target=None), ("order", "", "check")),
    "no list": ({"feed": None}, next_upgrade(target=None), ("order", "", "check")),
    "nothing": ({}, next_upgrade(target=None), ("", "", "")),
}  # fmt: skip


@pytest.mark.parametrize("name", DEEDS)
def test_the_next_thing_to_do(name: str) -> None:
    more, comes, wanted = DEEDS[name]
    found = find_next_action(status(**more), comes)
    assert (found.action, found.link, found.job_kind) == wanted
    assert found.role == ("operate" if found.action in ("order", "unhold") else "read")


def test_the_next_action_names_the_required_release_first() -> None:
    found = find_next_action(status(), next_upgrade(hops=["3.3.10", "3.4.0"], missing=0))
    assert found.reason.render() == "Approved: 3.3.10, then 3.4.0"


def test_what_waits_for_whom() -> None:
    seen = status(journal={"holds": [HELD]}, service={"reason": "it is on hold"})
    comes = next_upgrade(approvals=[{"actor": "amina"}])
    assert [text.render() for text in list_pending(seen, comes)] == [
        "Upgrades on hold since 2026-11-24 06:00:00 UTC by bo: fair",
        "3.3.0 approved by amina",
        "Waiting for approval of 3.3.0: 1 missing",
        "It is on hold.",
    ]


def test_while_a_release_is_watched_nobody_is_asked_to_approve_it() -> None:
    watched = change(state="committed", soak_ends_at="2026-11-24T20:40:00+00:00")
    seen = status(journal={"open_change": watched})
    zone = ZoneInfo("Indian/Mauritius")
    assert [text.render() for text in list_pending(seen, next_upgrade(), zone)] == [
        "Soak period of 3.3.0 until 2026-11-25 00:40:00 +04"
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"missing": 1}, "Rollback needs 1 more approval"),
        ({"accept_loss": 1}, "Rollback approved with a data loss of at most 1 record"),
        ({}, "Rollback approved without data loss"),
    ],
)
def test_who_has_said_yes_to_going_back_is_said(more: dict[str, int], words: str) -> None:
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


def report(state: str = "running", **more: Any) -> dict[str, Any]:
    def step(name: str, state: str, seconds: float | None) -> dict[str, Any]:
        at = "2026-11-24T06:00:00+00:00"
        return {"name": name, "state": state, "started_at": at, "seconds": seconds}

    return {
        "id": "abcdefgh", "from": "3.2.4", "to": "3.3.0", "state": state, "downtime_s": None,
        "ended_at": None, "predicted_downtime_s": {"low": 20.0, "high": 90.0},
        "steps": [step("fetch", "done", 4.2), step("maintenance-on", "done", 0.1),
                  step("copy", "intended", None), step("later-word", "other-word", None)],
        **more,
    }  # fmt: skip


IDLE = {"running": None, "reason": None}
BUSY = {
    "running": {
        "words": ["upgrade"],
        "progress": {"tell": "copying {database} (bytes)", "values": {"database": "seizures"},
                     "done": 1_500_000, "total": 3_000_000},
    },
    "reason": None,
}  # fmt: skip


def test_a_change_that_goes_on() -> None:
    view = build_live_view(report(), None, BUSY, NOW, "en")
    assert view.headline == "In progress: change to 3.3.0"
    assert view.progress == "copying seizures, 1.5 MB of 3.0 MB"
    assert view.downtime == "30 s"
    assert view.predicted == "predicted: 20 s to 1 min 30 s"
    assert view.spoken == "copying the databases: running"
    assert [(s.name, s.style, s.took) for s in view.steps] == [
        ("downloading and verifying the release", "done", "4.2 s"),
        ("showing the maintenance page", "done", "0.1 s"),
        ("copying the databases", "now", "30 s"),
        ("later-word", "", ""),
    ]
    assert view.busy and not view.can_end_soak


def test_the_way_back_downloads_nothing() -> None:
    view = build_live_view(report(kind="rollback"), None, BUSY, NOW, "en")
    assert view.steps[0].name == "verifying the release"


def test_who_are_in_again_were_out() -> None:
    """Also while the release is watched; the time stands still then."""
    steps = [*report()["steps"], {"name": "maintenance-off", "state": "done", "seconds": 0.2,
                                  "started_at": "2026-11-24T06:00:25+00:00"}]  # fmt: skip
    view = build_live_view(report("committed", downtime_s=25.0, steps=steps), None, IDLE, NOW, "en")
    assert view.downtime == "25 s"


def test_in_another_language() -> None:
    view = build_live_view(report(), None, BUSY, NOW, "fr")
    assert view.headline == "En cours\xa0: changement vers 3.3.0"
    assert view.steps[2].name == "copie des bases de données"


@pytest.mark.parametrize(
    ("shown", "moment", "headline_", "clock", "busy"),
    [
        (None, IDLE, "No operation in progress", "", False),
        (None, {"running": {"command": ["rehearse"]}}, "Operation in progress; users can work", "",
         True),
        (report("finished", ended_at="2026-11-24T06:01:00+00:00", downtime_s=25.0), IDLE,
         "Completed: change to 3.3.0", "25 s", False),
        (report("reverted", ended_at="2026-11-24T06:01:00+00:00"), IDLE,
         "Reverted: change to 3.3.0", "", False),
        (report("stuck"), IDLE, "Manual intervention required: change to 3.3.0", "30 s",
         True),
        (report("finished", ended_at="2026-11-24T06:01:00+00:00"), {"running": {"command": ["x"]}},
         "Operation in progress; users can work", "", True),
    ],
)  # fmt: skip
def test_what_is_so(
    shown: dict[str, Any] | None, moment: dict[str, Any], headline_: str, clock: str, busy: bool
) -> None:
    view = build_live_view(shown, None, moment, NOW, "en")
    assert (view.headline, view.downtime, view.busy) == (headline_, clock, busy)


BEFORE, AT, AFTER = (f"2026-11-24T05:0{minute}:00+00:00" for minute in (0, 1, 2))


def order(at: str, **more: Any) -> dict[str, Any]:
    return {
        "id": 7, "kind": "upgrade", "actor": "amina", "at": at, "started_at": None,
        "ended_at": None, "result": None, **more,
    }  # fmt: skip


FAULT = {"code": "NU-6106", "title": "Not ready.", "remedy": "Mend it.", "state": "-"}
ENDED = report("reverted", ended_at=AT)
TAKEN = {"started_at": AFTER}
FAILED = {**TAKEN, "ended_at": AFTER, "result": {"document": {"error": FAULT}}}
ORDERED: dict[str, tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any], str, bool]] = {
    "the first": (None, order(AFTER), IDLE, "Queued", True),
    "it waits": (ENDED, order(AFTER), IDLE, "Queued", True),
    "it was taken": (ENDED, order(AFTER, **TAKEN), BUSY, "Running", True),
    "its change has begun": (
        report(), order(BEFORE, **TAKEN), BUSY, "In progress: change to 3.3.0", False,
    ),
    "its change has ended": (
        ENDED, order(BEFORE, **TAKEN), IDLE,
        "Reverted: change to 3.3.0", False,
    ),
    "it came to no change": (
        ENDED, order(AFTER, **FAILED), IDLE, "Failed", True,
    ),
    "another change goes on": (
        report(), order(AFTER), BUSY, "In progress: change to 3.3.0", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERED)
def test_order_is_shown_until_its_change_begins(name: str) -> None:
    """Seen: the failure of before as the answer to an order that had just been given."""
    shown, given, moment, words, about = ORDERED[name]
    view = build_live_view(shown, given, moment, NOW, "en")
    assert (view.headline, view.order) == (words, about)
    assert bool(view.steps) is bool(view.change) is not about
    assert (view.problem == FAULT) is (name == "it came to no change")


def test_failed_step_is_marked_with_its_cause_and_remedy() -> None:
    steps = [{**step, "state": "undone", "seconds": None} for step in report()["steps"]]
    failure = {"step": "copy", "code": "NU-3110", "error": "NU-3110: No room.\nmore"}
    shown = report("reverted", ended_at=AT, steps=steps, failure=failure, error_code="NU-3110")
    view = build_live_view(shown, None, IDLE, NOW, "en")
    assert [step.style for step in view.steps] == ["undone", "undone", "failed", "undone"]
    assert view.problem is not None and view.change == "abcdefgh"
    assert (view.problem["code"], view.problem["title"]) == ("NU-3110", "No room.")
    assert view.problem["remedy"].endswith(".")
    done = build_live_view({**shown, "state": "finished"}, None, IDLE, NOW, "en")
    assert done.problem is None and "failed" not in [step.style for step in done.steps]


@pytest.mark.parametrize(
    ("ended", "stale"), [(BEFORE, False), (AFTER, True), (None, False), ("none", False)]
)
def test_prediction_is_old_once_a_change_has_ended(ended: str | None, stale: bool) -> None:
    """Also where people may decide on it still: an upgrade and a way back leave the binding."""
    last = {"last_change": None if ended == "none" else {"ended_at": ended}}
    seen = InspectionState("m", NOW, ended_at=datetime.fromisoformat(AT))
    assert as_of(seen, status(journal=last)).stale is stale
    assert not as_of(InspectionState("m", NOW), status(journal=last)).stale, "it is being looked at"


def test_a_figure_or_none() -> None:
    assert format_downtime(None).render() == "unknown (no rehearsal yet)"
    assert build_scale(None) is None and build_scale({"low": 0, "likely": 0, "high": 0}) is None
    stop = {"low": 0.5, "likely": 30.0, "high": 60.0}
    assert format_downtime(stop).render() == "about 30 s (at most 1 min 00 s)"
    assert build_scale(stop) is not None and build_scale(stop).mark == 50.0  # type: ignore[union-attr]
    assert build_downtime_bars([]) == ()
    without = build_downtime_bars([report(downtime_s=10.0, predicted_downtime_s=None)])
    assert [(s.left, s.right, s.mark) for s in without] == [(None, None, 100.0)]
    drawn = build_downtime_bars([report(downtime_s=45.0), report(downtime_s=0.0)])
    assert [(s.left, s.right, s.mark) for s in drawn] == [(22.22, 100.0, 0.0), (22.22, 100.0, 50.0)]


@pytest.mark.parametrize(
    ("begins", "words"),
    [
        (None, "The start time is unknown."),
        ({"kind": "now", "at": None, "wait_reason": None}, "The upgrade starts immediately."),
        ({"kind": "at", "at": "2026-11-24T06:00:00+00:00", "wait_reason": None},
         "The upgrade starts at 2026-11-24 06:00:00 UTC."),
        ({"kind": "not-automatic", "at": None, "wait_reason": "approval"},
         "The upgrade waits for approval."),
        ({"kind": "not-automatic", "at": None, "wait_reason": "a-word-of-tomorrow"},
         "The upgrade does not start automatically."),
    ],
)  # fmt: skip
def test_when_it_begins(begins: dict[str, Any] | None, words: str) -> None:
    assert format_start(begins).render() == words


def test_no_secret_is_shown() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for name, value, hidden in [
            ("url", "https://x", True), ("environment", None, True), ("on", True, False),
            ("hours", [1, 2], False), ("empty", None, False),
        ]:  # fmt: skip
            yield {"table": "t", "name": name, "value": value, "explicit": True, "redacted": hidden}

    assert [(name, text.render()) for name, text, _ in group_by_table(rows())["t"]] == [
        ("url", "https://x (partly hidden)"), ("environment", "hidden"),
        ("on", "yes"), ("hours", "1, 2"), ("empty", "-"),
    ]  # fmt: skip
