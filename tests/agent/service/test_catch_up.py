"""Tests of a check that was missed while the machine was off: soon, and spread over sites."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.policy.automation import ActionFailure
from ncen_updater.agent.service.serve import create_check_scheduler, delay_missed_check
from ncen_updater.agent.storage.service_state import ServiceState

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)


def site(name: str) -> AgentConfig:
    """Only what is looked at: how often, and who."""
    tables = {
        "service": SimpleNamespace(check_interval_hours=6.0),
        "site": SimpleNamespace(id=name),
    }
    return cast("AgentConfig", SimpleNamespace(**tables))


@pytest.mark.parametrize("at", [None, NOW + timedelta(minutes=1)])
def test_future_check_is_unchanged(at: datetime | None) -> None:
    service_state = ServiceState(next_check=at)
    assert delay_missed_check(service_state, site("dakar"), NOW) == service_state


def test_missed_checks_are_spread() -> None:
    missed = ServiceState(next_check=NOW - timedelta(hours=14))
    times = [delay_missed_check(missed, site(f"site-{n}"), NOW).next_check for n in range(500)]
    assert len(set(times)) == 500
    assert all(at and NOW <= at <= NOW + timedelta(minutes=18) for at in times)


def test_repeatedly_restarted_service_checks_eventually() -> None:
    service_state = delay_missed_check(
        ServiceState(next_check=NOW - timedelta(days=1)), site("dakar"), NOW
    )
    later = delay_missed_check(service_state, site("dakar"), NOW + timedelta(seconds=1))
    assert later.next_check == service_state.next_check


def test_unreachable_feed_is_checked_less_often() -> None:
    schedule = create_check_scheduler(site("dakar"))
    regular = schedule(NOW, None)
    waits = [schedule(NOW, ActionFailure(NOW, times)) - NOW for times in (1, 2, 3, 9)]
    assert waits == [timedelta(minutes=10), regular - NOW, regular - NOW, regular - NOW]
    assert timedelta(minutes=30) < regular - NOW < timedelta(hours=1)
