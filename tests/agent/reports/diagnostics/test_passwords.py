"""What ``doctor`` says of the console behind a password."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from ncen_updater.agent.reports.diagnostics.doctor import PasswordParts, password_findings

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        (PasswordParts(on=False, rules=False), []),
        (PasswordParts(on=True), []),
        (PasswordParts(on=True, rules=False), ["NU-6135"]),
        (PasswordParts(on=True, open_to_others=True), ["NU-6136"]),
        (PasswordParts(on=True, groups=("ncen-approver",)), ["NU-6136"]),
        (PasswordParts(on=True, rules=False, groups=("x",)), ["NU-6135", "NU-6136"]),
    ],
)
def test_what_is_said(parts: PasswordParts, codes: list[str]) -> None:
    assert [finding.code for finding in password_findings(parts)] == codes


def test_what_is_seen(tmp_path: Path) -> None:
    place, rules = tmp_path / "login.sock", tmp_path / "rules"
    assert PasswordParts.here(place, rules, ME) == PasswordParts(on=False)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0o600)
        rules.touch()
        found = PasswordParts.here(place, rules, ME)
        assert (found.on, found.rules, found.open_to_others) == (True, True, False)
        place.chmod(0o660)
        assert PasswordParts.here(place, rules, ME).open_to_others
        place.chmod(0o600)
        assert PasswordParts.here(place, rules, "nobody-at-all").open_to_others
        rules.unlink()
        assert not PasswordParts.here(place, rules, ME).rules
