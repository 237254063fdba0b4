"""Tests of the caller's identity behind sudo."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.cli.common import identify_actor
from ncen_updater.agent.model.change import Actor

SUDO = {"SUDO_UID": "1001", "SUDO_USER": "amina"}


@pytest.mark.parametrize(
    ("uid", "environment", "login", "who"),
    [
        (0, {}, None, Actor("root", 0)),
        (0, SUDO, None, Actor("amina", 1001)),
        (0, SUDO, "4294967295", Actor("amina", 1001)),
        (0, SUDO, "1001", Actor("amina", 1001)),
        # What the kernel knows of the session counts, not what root writes into its environment.
        (0, SUDO, "4000000001", Actor("uid 4000000001", 4000000001)),
        (0, {"SUDO_UID": "-1"}, "x", Actor("root", 0)),
        (0, {"SUDO_UID": "4294967295"}, None, Actor("root", 0)),
        (4000000001, SUDO, "1001", Actor("uid 4000000001", 4000000001)),
    ],
)
def test_actor_is_identified_behind_sudo(
    tmp_path: Path, uid: int, environment: dict[str, str], login: str | None, who: Actor
) -> None:
    place = tmp_path / "loginuid"
    if login is not None:
        place.write_text(login)
    assert identify_actor(uid, environment, place) == who
