"""Tests that an inspection is stored and shown as of one moment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.console.inspection_poller import InspectionPoller, InspectionState
from ncen_updater.console.service_client import ServiceClient, ServiceRefusedError
from tests.agent.service.api.conftest import Counter


def look(looking: InspectionPoller, mark: str = "m") -> InspectionState:
    return looking.inspect("findings", mark, {"language": "en"})


def test_page_is_consistent(counter: Counter, socket: Path) -> None:
    """What ends while a page is made changes nothing of it: loading, or there."""
    counter.inspector.door.clear()
    looking = InspectionPoller(ServiceClient(socket))
    before = look(looking)
    counter.inspector.door.set()
    while (after := look(looking)).is_loading:
        pass
    assert (before.is_loading, before.document) == (True, None)
    assert after.document is not None and after.error is None


def test_discarded_inspection_does_not_return(counter: Counter, socket: Path) -> None:
    """An older inspection says nothing about one started after it."""
    counter.inspector.door.clear()
    looking = InspectionPoller(ServiceClient(socket))
    first = look(looking)
    anew = looking.inspect("findings", "m", {"language": "en"}, refresh=True)
    counter.inspector.door.set()
    while (after := look(looking)).is_loading:
        pass
    assert first.serial != anew.serial == after.serial


def test_inspection_from_before_a_change_is_stale(socket: Path) -> None:
    looking = InspectionPoller(ServiceClient(socket))
    while look(looking).is_loading:
        pass
    assert not look(looking).stale
    assert look(looking, "another").stale


def test_inspection_waits_five_minutes_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own terminals may run the most inspections for a while."""
    waits: list[float] = []
    monkeypatch.setattr("ncen_updater.console.inspection_poller.time.sleep", waits.append)

    class Busy(ServiceClient):
        def call(self, method: str, path: str, language: str, body: Any = None) -> Any:
            raise ServiceRefusedError(429, {"code": "NU-9324"})

    poller = InspectionPoller(Busy(Path("/nonexistent")))
    found = look(poller)
    deadline = time.monotonic() + 10.0
    while found.is_loading and time.monotonic() < deadline:
        found = look(poller)
    assert found.error is not None and found.error["code"] == "NU-9324"
    assert sum(waits) == 300
