"""How often one user may change something."""

from __future__ import annotations

import itertools

import pytest

from ncen_updater.agent.service.api import app
from ncen_updater.agent.service.api.app import AT_ONCE, EVERY_S, ActLimits
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.service.api.conftest import OPERATOR, READER, Counter


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_many_at_once_and_then_slowly() -> None:
    clock = Clock()
    limits = ActLimits({0}, clock)
    assert [limits.take(7) for _ in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]
    assert limits.take(8), "another user is not held up"
    assert all(limits.take(0) for _ in range(10 * AT_ONCE))
    clock.now += EVERY_S
    assert [limits.take(7), limits.take(7)] == [True, False]
    clock.now += AT_ONCE * EVERY_S
    assert all(limits.take(7) for _ in range(AT_ONCE))


def test_who_is_refused_does_not_wait_longer_for_it() -> None:
    clock = Clock()
    limits = ActLimits((), clock)
    for _ in range(AT_ONCE):
        limits.take(7)
    for _ in range(100):
        limits.take(7)
    clock.now += EVERY_S
    assert limits.take(7)


def test_nothing_is_remembered_for_ever() -> None:
    clock = Clock()
    limits = ActLimits((), clock)
    for uid in range(100):
        limits.take(uid)
    clock.now += EVERY_S
    limits.take(5)
    assert len(limits._spent) == 1


def test_an_operator_does_not_fill_the_journal(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop of holds and ends of holds could fill the journal."""
    monkeypatch.setattr(app, "AT_ONCE", 4)
    said = [counter.ask("DELETE", "/v1/holds", user=OPERATOR) for _ in range(6)]
    assert [one.status for one in said] == [200] * 4 + [429] * 2
    assert said[-1].code == "NU-9332"
    assert "Retry-After" in said[-1].headers
    with Journal.open(counter.site.journal, read_only=True) as journal:
        assert journal.last_event() <= 4
    assert counter.ask("GET", "/v1/status", user=OPERATOR).status == 200, "who may look still may"
    assert counter.ask("DELETE", "/v1/holds", user=READER).status == 403


def test_looking_is_not_counted(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "AT_ONCE", 0)
    for address in itertools.repeat("/v1/holds", 5):
        assert counter.ask("GET", address, user=OPERATOR).status == 200
    looked = counter.ask("POST", "/v1/inspections", {"kind": "proof"}, OPERATOR)
    assert looked.status == 202
