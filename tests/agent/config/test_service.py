"""Tests of the table [service]: hours, and mistakes in them."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow
from tests.agent.config.test_loader import GOOD, write


def test_default_mode_requires_approval(tmp_path: Path) -> None:
    service = load_config(write(tmp_path, GOOD)).service
    assert (service.mode, service.required_approvals, service.rehearse) == ("approve", 1, True)
    assert service.windows == ()
    assert service.get_timezone() is not None


def test_hours_are_read_as_text_and_as_times(tmp_path: Path) -> None:
    table = (
        '[service]\ntimezone = "Africa/Nairobi"\napi_socket = "s"\n'
        '[[service.windows]]\ndays = ["sat", "sun"]\nstart = "22:00"\nend = 04:30:00\n'
    )
    service = load_config(write(tmp_path, GOOD + table)).service
    assert [settings.to_window() for settings in service.windows] == [
        WeeklyWindow(frozenset({Weekday.SAT, Weekday.SUN}), time(22), time(4, 30))
    ]
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert noon.astimezone(service.get_timezone()).hour == 15
    assert service.api_socket == tmp_path / "s"


@pytest.mark.parametrize(
    ("table", "setting"),
    [
        ('timezone = "Africa/Nowhere"', "timezone"),
        ('timezone = "../../etc/passwd"', "timezone"),
        ("required_approvals = 3", "required_approvals"),
        ('mode = "yes"', "mode"),
        ("check_interval_hours = 0", "check_interval_hours"),
        ('viewer_group = "no spaces"', "viewer_group"),
        ('windows = [{start = "25:00", end = "04:00"}]', "windows"),
        ('windows = [{start = "22:00:05", end = "04:00"}]', "windows"),
        ('windows = [{start = "22:00+03:00", end = "04:00"}]', "windows"),
        ('windows = [{start = "22:00"}]', "windows"),
        ('windows = [{days = ["noday"], start = "22:00", end = "04:00"}]', "windows"),
        ('windows = [{days = [], start = "22:00", end = "04:00"}]', "windows"),
    ],
)
def test_each_service_mistake_is_named(tmp_path: Path, table: str, setting: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load_config(write(tmp_path, f"{GOOD}[service]\n{table}\n"))
    settings = [mistake.setting for mistake in caught.value.invalid_settings]
    assert settings
    assert all(name.startswith(f"service.{setting}") for name in settings)
