"""Tests of ``doctor`` on a console with password login."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

from ncen_updater.agent.reports.diagnostics.doctor import check_password_login

ME = pwd.getpwuid(os.getuid()).pw_name


def test_password_login_findings_are_reported(tmp_path: Path) -> None:
    place, rules = tmp_path / "login.sock", tmp_path / "rules"

    def find_codes(console: str = ME) -> list[str]:
        return [finding.code for finding in check_password_login(place, rules, console)]

    assert find_codes() == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0o600)
        excess = [code for code in find_codes() if code == "NU-6136"]  # extra groups of this user
        assert find_codes() == ["NU-6135", *excess]
        rules.touch()
        assert find_codes() == excess
        place.chmod(0o660)
        assert find_codes() == ["NU-6136"]
        place.chmod(0o600)
        assert find_codes("nobody-at-all") == ["NU-6136"]
