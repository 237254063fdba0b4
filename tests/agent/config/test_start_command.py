"""Tests of the start command, as status, resume and doctor show it."""

from __future__ import annotations

import pytest

from ncen_updater.agent.config.raw_config import format_start_command


@pytest.mark.parametrize(
    ("unit", "start", "environment", "shown"),
    [
        ("ncen.service", None, {"A": "1"}, "systemctl start ncen.service"),
        (None, ["/bin/my app", "start"], {}, "'/bin/my app' start"),
        (None, ["/bin/app"], {"KEY": "secret", "B": "2"}, "env KEY=… B=… /bin/app"),
        (None, None, None, None),
    ],
)
def test_start_command_hides_variable_values(
    unit: object, start: object, environment: object, shown: str | None
) -> None:
    assert format_start_command(unit, start, environment) == shown
