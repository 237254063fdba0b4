"""Tests of ``doctor`` on a console with password login."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from ncen_updater.agent.reports.diagnostics.doctor import PasswordLoginSetup, check_password_login

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        (PasswordLoginSetup(on=False, rules=False), []),
        (PasswordLoginSetup(on=True), []),
        (PasswordLoginSetup(on=True, rules=False), ["NU-6135"]),
        (PasswordLoginSetup(on=True, open_to_others=True), ["NU-6136"]),
        (PasswordLoginSetup(on=True, groups=("ncen-approver",)), ["NU-6136"]),
        (PasswordLoginSetup(on=True, rules=False, groups=("x",)), ["NU-6135", "NU-6136"]),
    ],
)
def test_password_login_findings_are_reported(parts: PasswordLoginSetup, codes: list[str]) -> None:
    assert [finding.code for finding in check_password_login(parts)] == codes


def test_password_login_setup_is_detected(tmp_path: Path) -> None:
    place, rules = tmp_path / "login.sock", tmp_path / "rules"
    assert PasswordLoginSetup.detect(place, rules, ME) == PasswordLoginSetup(on=False)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0o600)
        rules.touch()
        found = PasswordLoginSetup.detect(place, rules, ME)
        assert (found.on, found.rules, found.open_to_others) == (True, True, False)
        place.chmod(0o660)
        assert PasswordLoginSetup.detect(place, rules, ME).open_to_others
        place.chmod(0o600)
        assert PasswordLoginSetup.detect(place, rules, "nobody-at-all").open_to_others
        rules.unlink()
        assert not PasswordLoginSetup.detect(place, rules, ME).rules
