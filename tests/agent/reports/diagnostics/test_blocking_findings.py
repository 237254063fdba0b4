"""Tests that ``upgrade`` refuses exactly what ``doctor`` and ``verify`` report as blocking."""

from __future__ import annotations

import re
from pathlib import Path

from ncen_updater.agent import engine
from ncen_updater.agent.engine.site_preflight import list_checks
from ncen_updater.agent.engine.steps.preflight import LASTING_CODES
from ncen_updater.agent.reports import diagnostics

#: Each code that a diagnosis gives as critical itself, and what refuses an upgrade for it.
REFUSED_BY = {
    "NU-6101": "require_current_version: no release is in use",
    "NU-6102": "require_consistent_site: journal and site contradict each other",
    "NU-6103": "require_no_open_change: a change is open",
    "NU-6104": "check_current_slot",
    "NU-6108": "nothing: it answers a person who typed what they had kept",
    "NU-6109": "nothing: it answers a person who typed what they had kept",
    "NU-6110": "nothing: evidence of tampering, for people to judge",
    "NU-6127": "check_disk_space",
    "NU-6129": "nothing: the service never begins, and a person may",
    "NU-6131": "nothing: evidence that somebody wrote there, for people to judge",
    "make_unhealthy_finding": "nothing: NU-6310 warns there, an upgrade may be the remedy",
}


def critical_codes() -> set[str]:
    """Codes of findings that the modules of the diagnosis make critical."""
    found: set[str] = set()
    for path in Path(diagnostics.__path__[0]).glob("*.py"):
        text = path.read_text()
        found |= set(re.findall(r'_build_difference_finding\(\s*"(NU-\d+)"', text))
        found |= set(re.findall(r'[fF]inding\(\s*"(NU-\d+)",\s*Severity\.CRITICAL', text))
        found |= set(re.findall(r'[fF]inding\(\s*"(NU-\d+)",\s*severity', text))
        found |= set(re.findall(r"(\w+)\(\w+\),\s*severity=Severity\.CRITICAL", text))
    return found


def test_every_critical_finding_names_the_refusing_check() -> None:
    assert critical_codes() == set(REFUSED_BY)


def test_refusing_checks_exist() -> None:
    text = "".join(path.read_text() for path in Path(engine.__path__[0]).rglob("*.py"))
    named = {value.partition(":")[0] for value in REFUSED_BY.values()} - {"nothing"}
    assert named and {name for name in named if f"def {name}(" not in text} == set()


def test_rehearsal_and_approval_blockers_are_upgrade_checks() -> None:
    documented = " ".join(check.__doc__ or "" for check in list_checks())
    assert LASTING_CODES and all(code in documented for code in LASTING_CODES)
