"""Tests of the time by which the service notices that a file was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.reports.status import CLOCK_TICK_NS, read_mtime_ns


@pytest.mark.parametrize(
    ("age_ns", "waits"),
    [(0, True), (CLOCK_TICK_NS - 1, True), (CLOCK_TICK_NS, False), (-1, False)],
    ids=["just now", "within a tick", "earlier", "clock set back"],
)
def test_tick_of_a_new_time_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, waits: bool
) -> None:
    path, waited = tmp_path / "journal", list[float]()
    path.touch()
    written = path.stat().st_mtime_ns
    monkeypatch.setattr("time.time_ns", lambda: written + age_ns)
    monkeypatch.setattr("time.sleep", waited.append)
    assert read_mtime_ns(path) == written
    assert waited == ([CLOCK_TICK_NS / 1e9] if waits else [])


def test_missing_file_has_no_time(tmp_path: Path) -> None:
    assert read_mtime_ns(tmp_path / "journal") == 0
