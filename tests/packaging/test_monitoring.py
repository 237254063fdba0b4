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


#: Present with ``[notify]`` alone, as both pages say.
ONLY_WITH_NOTIFY = {
    f"notifications_{name}{label}"
    for name in ("failures", "waiting")
    for label in ("", "{channel}")
}


def needed_series() -> set[str]:
    """Every metric of a rule or a panel, and beside it each label that this reads."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    uses = [
        (target["expr"], target["legendFormat"])
        for panel in panels
        for target in panel.get("targets", ())
    ]
    uses += [
        (rule, rule)
        for rule in re.sub(r"(?m)^ *#.*$", "", RULES.read_text("utf-8")).split("alert:")
    ]
    found = set()
    for expression, text in uses:
        shown = re.findall(r"\$labels\.(\w+)|\{\{(\w+)\}\}", text)
        for name, matchers in re.findall(rf"\b{PREFIX}(\w+)(?:\{{([^}}]*)\}})?", expression):
            labels = {one or other for one, other in shown}
            labels.update(re.findall(r"(\w+)[=!]", matchers))
            found |= {name, *(f"{name}{{{label}}}" for label in labels - {"instance"})}
    return found


def find_missing_series(metrics: str) -> set[str]:
    """What rules and panels need, and a file of metrics does not have."""
    found = set()
    for name, labels in re.findall(rf"(?m)^{PREFIX}(\w+)(?:\{{(.*)\}})? ", metrics):
        found |= {name, *(f"{name}{{{label}}}" for label in re.findall(r'(\w+)="', labels))}
    return needed_series() - found


def test_needed_series_are_found() -> None:
    needed = needed_series()
    assert {"info", "change_state{state}", "disk_free_ratio{content}"} <= needed
    assert "journal_readable{state}" not in needed
    text = f'# HELP {PREFIX}info x\n{PREFIX}info 1.0\n{PREFIX}change_state{{state="none"}} 1.0\n'
    assert needed - find_missing_series(text) == {"info", "change_state", "change_state{state}"}


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
