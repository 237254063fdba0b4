"""Tests of alert rules and dashboard against exported metrics; promtool checks the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.service.notifications.metrics import (
    CHANGE_STATES,
    METRIC_FAMILIES,
    PREFIX,
)

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "packaging/monitoring"
PAGES = [ROOT / "docs" / page for page in ("reference/monitoring.md", "fr/reference/monitoring.md")]
RULES, TESTS, DASHBOARD = (
    MONITORING / f"ncen-updater.{name}"
    for name in ("rules.yml", "rules.test.yml", "dashboard.json")
)
NAME = re.compile(rf"\b{PREFIX}(\w+)")
ROW = re.compile(rf"^\| `{PREFIX}(\w+)` \|[^|]*\| `state` ?: ([^|]*) \|", re.MULTILINE)
STATE = re.compile(rf'\b{PREFIX}(\w+)\{{state=~?"([^"]*)"')


@pytest.mark.parametrize("path", [RULES, TESTS, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_is_exported(path: Path) -> None:
    names = set(NAME.findall(path.read_text("utf-8")))
    assert len(names) > 8
    assert names - set(METRIC_FAMILIES) == set()


def test_every_state_is_exported() -> None:
    states = {
        "availability_state": {state.value for state in AvailabilityState},
        "change_state": set(CHANGE_STATES),
    }
    for page in PAGES:
        rows = dict(ROW.findall(page.read_text("utf-8")))
        assert {name: set(rows[name].split(", ")) for name in states} == states, page
    found = STATE.findall(RULES.read_text("utf-8") + TESTS.read_text("utf-8"))
    assert {name for name, _ in found} == set(states)
    for name, words in found:
        assert set(words.split("|")) <= states[name], name


def test_every_alert_is_tested() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")))
    assert set(re.findall(r'alertname="(\w+)"', TESTS.read_text("utf-8"))) == alerts


def test_dashboard_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (column, row)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("words", [("check", RULES.name), ("test", TESTS.name)])
def test_promtool_accepts_the_rules(words: tuple[str, str]) -> None:
    ended = subprocess.run(
        ["promtool", words[0], "rules", words[1]],
        cwd=MONITORING, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
