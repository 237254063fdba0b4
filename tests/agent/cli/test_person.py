"""Who gives an order, where somebody became root."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.cli.person import person
from ncen_updater.agent.model.person import Person

SUDO = {"SUDO_UID": "1001", "SUDO_USER": "amina"}


@pytest.mark.parametrize(
    ("uid", "environment", "login", "who"),
    [
        (0, {}, None, Person("root", 0)),
        (0, SUDO, None, Person("amina", 1001)),
        (0, SUDO, "4294967295", Person("amina", 1001)),
        (0, SUDO, "1001", Person("amina", 1001)),
        # What the kernel knows of the session counts, not what root writes into its environment.
        (0, SUDO, "4000000001", Person("uid 4000000001", 4000000001)),
        (0, {"SUDO_UID": "-1"}, "x", Person("root", 0)),
        (0, {"SUDO_UID": "4294967295"}, None, Person("root", 0)),
        (4000000001, SUDO, "1001", Person("uid 4000000001", 4000000001)),
    ],
)
def test_person(
    tmp_path: Path, uid: int, environment: dict[str, str], login: str | None, who: Person
) -> None:
    place = tmp_path / "loginuid"
    if login is not None:
        place.write_text(login)
    assert person(uid, environment, place) == who
