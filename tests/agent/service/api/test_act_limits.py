"""Tests of the limit on changes by one user."""

from __future__ import annotations

import itertools

import pytest

from ncen_updater.agent.service.api import app
from ncen_updater.agent.service.api.app import BURST, REFILL_INTERVAL_S, RateLimiter
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.service.api.conftest import OPERATOR, READER, Counter


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_burst_is_allowed_then_limited() -> None:
    clock = Clock()
    limits = RateLimiter({0}, clock)
    assert [limits.try_acquire(7) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert limits.try_acquire(8), "another user is not held up"
    assert all(limits.try_acquire(0) for _ in range(10 * BURST))
    clock.now += REFILL_INTERVAL_S
    assert [limits.try_acquire(7), limits.try_acquire(7)] == [True, False]
    clock.now += BURST * REFILL_INTERVAL_S
    assert all(limits.try_acquire(7) for _ in range(BURST))


def test_refused_action_does_not_prolong_the_wait() -> None:
    clock = Clock()
    limits = RateLimiter((), clock)
    for _ in range(BURST):
        limits.try_acquire(7)
    for _ in range(100):
        limits.try_acquire(7)
    clock.now += REFILL_INTERVAL_S
    assert limits.try_acquire(7)


def test_idle_callers_are_forgotten() -> None:
    clock = Clock()
    limits = RateLimiter((), clock)
    for uid in range(100):
        limits.try_acquire(uid)
    clock.now += REFILL_INTERVAL_S
    limits.try_acquire(5)
    assert len(limits._spent) == 1


def test_action_limit_protects_the_journal(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop of holds and ends of holds could fill the journal."""
    monkeypatch.setattr(app, "BURST", 4)
    said = [counter.ask("DELETE", "/v1/holds", user=OPERATOR) for _ in range(6)]
    assert [one.status for one in said] == [200] * 4 + [429] * 2
    assert said[-1].code == "NU-9332"
    assert "Retry-After" in said[-1].headers
    with Journal.open(counter.site.journal, read_only=True) as journal:
        assert journal.read_last_event_number() <= 4
    assert counter.ask("GET", "/v1/status", user=OPERATOR).status == 200, "who may look still may"
    assert counter.ask("DELETE", "/v1/holds", user=READER).status == 403


def test_read_requests_are_not_limited(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BURST", 0)
    for address in itertools.repeat("/v1/jobs", 5):
        assert counter.ask("GET", address, user=OPERATOR).status == 200
    looked = counter.ask("POST", "/v1/inspections", {"kind": "audit-log"}, OPERATOR)
    assert looked.status == 202
