"""Tests of ``systemctl`` while the service manager restarts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.adapters.application.process import CommandResult
from ncen_updater.agent.adapters.application.systemctl import is_manager_away, run_systemctl

#: As systemd 252 and 257 say it, and what is none of it.
SAID = [
    (1, "Failed to connect to bus: Connection refused", True),
    (1, "Failed to connect to system scope bus via local transport: No such file", True),
    (1, "Failed to get properties: Transport endpoint is not connected", True),
    (1, "Failed to start ncen.service: Connection reset by peer", True),
    (1, "Failed to start ncen.service: Remote peer disconnected", True),
    (1, "Message recipient disconnected from message bus without replying", True),
    (0, "ActiveState=active", False),
    (0, "Warning: Connection refused", False),
    (4, "Unit ncen.service could not be found.", False),
    (1, "Job for ncen.service failed because a timeout was exceeded.", False),
    (None, "", False),
]


@pytest.mark.parametrize(("status", "said", "away"), SAID)
def test_unreachable_manager_is_distinguished_from_a_failed_unit(
    status: int | None, said: str, away: bool
) -> None:
    assert is_manager_away(CommandResult(status, said)) is away


@pytest.mark.parametrize(("failing", "status"), [(3, 0), (1000, 1)])
def test_command_is_repeated_while_the_manager_restarts(
    tmp_path: Path, failing: int, status: int
) -> None:
    count, program = tmp_path / "count", tmp_path / "systemctl"
    program.write_text(
        f"#!/bin/sh\necho x >> {count}\n[ $(wc -l < {count}) -gt {failing} ] && exit 0\n"
        "echo 'Failed to connect to bus: Connection refused'; exit 1\n"
    )
    program.chmod(0o755)
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += max(1.0, seconds)

    ended = run_systemctl([str(program), "start", "x"], {}, 30, clock=lambda: now[0], wait=wait)
    assert ended.status == status
    assert len(count.read_text().split()) == (4 if status == 0 else 11)
