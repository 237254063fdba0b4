"""Tests of enabling and disabling units, with a fake systemctl that records its calls."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ncen_updater.agent.self_update import installation as installing
from ncen_updater.agent.self_update.installation import create_missing, list_missing
from ncen_updater.common.progress import SilentProgress

UNITS = Path(__file__).resolve().parents[3] / "packaging" / "systemd"
SYSTEMCTL = """#!/bin/sh
for unit; do :; done
case $1 in
  is-enabled) grep -qx "$unit" {list} ;;
  enable) echo "$unit" >> {list} ;;
  disable) grep -vx "$unit" {list} > {list}.new; mv {list}.new {list} ;;
esac
status=$?
[ "$1" = is-enabled ] || {{ echo "$@" >> {calls}; exit 0; }}
exit $status
"""
STARTED = {
    "ncen-updater-apply.socket",
    "ncen-updater-fetch.socket",
    "ncen-updater-renew.socket",
    "ncen-updater-resume.service",
    "ncen-updater-send.socket",
    "ncen-updater.service",
}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    made = tmp_path / "calls"
    (tmp_path / "list").touch()
    program.write_text(SYSTEMCTL.format(list=tmp_path / "list", calls=made))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(installing, "SYSTEMD_BOOTED_PATH", tmp_path)
    return made


def test_only_intended_units_are_enabled(calls: Path, tmp_path: Path) -> None:
    units = sorted(UNITS.iterdir())
    assert len(create_missing(installing.build_enable_parts(units), SilentProgress())) == len(
        STARTED
    )
    assert set((tmp_path / "list").read_text().split()) == STARTED
    assert "enable --now ncen-updater-apply.socket" in calls.read_text()
    assert "enable ncen-updater-resume.service" in calls.read_text()
    assert list_missing(installing.build_enable_parts(units)) == ()
    assert "login.socket" not in calls.read_text(), "a site switches that on itself"
    calls.unlink()
    (tmp_path / "list").write_text((tmp_path / "list").read_text() + "ncen-updater-login.socket\n")
    create_missing(installing.build_disable_parts(units), SilentProgress())
    assert (tmp_path / "list").read_text() == ""
    # Stopping it would stop the application.
    assert "disable ncen-updater-resume.service" in calls.read_text().splitlines()
    assert list_missing(installing.build_disable_parts(units)) == ()
