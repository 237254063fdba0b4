"""What is shared: seen before it leaves, raised by an approver, lowered at once."""

from __future__ import annotations

import html

import pytest

from ncen_updater.agent.reports.receipt import read_receipt_state
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.console.pages.sharing import LEVELS, build_levels
from tests.agent.service.api.conftest import APPROVER, FOUND, OPERATOR, READER, Counter
from tests.console.support import Answer, Guest, Place
from tests.console.test_app import as_user


def level_of(counter: Counter) -> str:
    with Journal.open(counter.site.journal, read_only=True) as journal:
        return read_receipt_state(journal).level.value


def offers(page: Answer) -> list[str]:
    return [hidden["level"] for address, hidden in page.forms() if address == "/sharing"]


@pytest.fixture
def approver(place: Place, monkeypatch: pytest.MonkeyPatch) -> Guest:
    as_user(monkeypatch, APPROVER)
    return place.enter()


def share(guest: Guest, level: str, **more: str) -> Answer:
    page = guest.settled("/sharing")
    hidden = next(h for a, h in page.forms() if a == "/sharing" and h["level"] == level)
    sent = guest.post("/sharing", {**hidden, **more})
    return guest.get(sent.headers["location"]) if sent.status == 303 else sent


def test_everything_to_be_sent_is_shown(guest: Guest) -> None:
    page = html.unescape(guest.settled("/sharing").text)
    for row in FOUND["receipt"]["levels"]:  # type: ignore[attr-defined]
        assert row["statement"] in page
        for sentence in row["sentences"]:
            assert sentence in page


def test_level_is_raised_with_consent_and_lowered_at_once(
    counter: Counter, approver: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = approver.settled("/sharing")
    assert offers(first) == ["version", "outcome", "figures"]
    assert "Receipts are off." in first.text and "Nobody is told" in first.text
    assert share(approver, "outcome").status == 409
    assert level_of(counter) == "none"
    looked = {"level": "outcome", "state": "The service sends the next one."}
    monkeypatch.setitem(FOUND, "receipt", {**FOUND["receipt"], **looked})
    assert share(approver, "outcome", agreed="yes").status == 200
    assert level_of(counter) == "outcome"
    shown = approver.settled("/sharing")
    assert offers(shown) == ["none", "version", "figures"]
    assert looked["state"] in shown.text and "Receipts are off." not in shown.text
    assert "Stop sharing" in shown.text
    # A sentence about another level than the one in force is not shown.
    assert looked["state"] not in share(approver, "none").text
    assert level_of(counter) == "none"
    with Journal.open(counter.site.journal, read_only=True) as journal:
        levels = [
            event["level"] for event in journal.list_events() if event.kind == "receipt-level"
        ]
    assert levels == ["outcome", "none"]


def test_outdated_form_does_not_raise_the_level(counter: Counter, approver: Guest) -> None:
    share(approver, "figures", agreed="yes")
    page = approver.settled("/sharing")
    lower = next(h for a, h in page.forms() if a == "/sharing" and h["level"] == "outcome")
    share(approver, "none")
    assert approver.post("/sharing", lower).status == 409
    assert level_of(counter) == "none"


@pytest.mark.parametrize("user", [READER, OPERATOR])
def test_viewer_cannot_change_the_level(
    counter: Counter, place: Place, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    as_user(monkeypatch, user)
    page = place.enter().settled("/sharing")
    assert offers(page) == []
    assert "NU-9314" in page.text and "ke-national" in page.text
    refused = counter.ask("PUT", "/v1/receipts", {"level": "version"}, user)
    assert (refused.status, refused.code) == (403, "NU-9314")
    assert level_of(counter) == "none"


def test_receipt_level_is_set_through_the_api(counter: Counter) -> None:
    assert counter.ask("GET", "/v1/receipts", user=READER).document == {
        "level": "none", "written": 0,
    }  # fmt: skip
    for _ in range(2):
        given = counter.ask("PUT", "/v1/receipts", {"level": "figures"}, APPROVER)
        assert given.document["level"] == "figures"
    with Journal.open(counter.site.journal, read_only=True) as journal:
        (event,) = [event for event in journal.list_events() if event.kind == "receipt-level"]
    assert event["by"] == APPROVER
    for wrong in ({"level": "all"}, {"level": "none", "more": 1}, {}):
        assert counter.ask("PUT", "/v1/receipts", wrong, APPROVER).status == 400


def test_unusable_levels_are_not_offered() -> None:
    assert [one.action for one in build_levels("version", None)] == [
        "lower", "", "raise", "raise",
    ]  # fmt: skip
    assert all(one.added is None for one in build_levels("none", None))
    assert next(iter(LEVELS)) == "none"
