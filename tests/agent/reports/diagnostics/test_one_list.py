"""Tests that ``upgrade`` refuses exactly what ``doctor`` and ``verify`` report as blocking."""

from __future__ import annotations

import re
from pathlib import Path

from ncen_updater.agent.engine.site_preflight import list_checks
from ncen_updater.agent.engine.steps.preflight import LASTING
from ncen_updater.agent.reports import diagnostics

#: Each code that a diagnosis gives as critical itself, and what refuses an upgrade for it.
REFUSED_BY = {
    "NU-6101": "running_version: no release is in use",
    "NU-6102": "require_whole: journal and site contradict each other",
    "NU-6103": "require_no_change: a change is open",
    "NU-6104": "check_current_slot",
    "NU-6108": "nothing: it answers a person who typed what they had kept",
    "NU-6109": "nothing: it answers a person who typed what they had kept",
    "NU-6110": "nothing: evidence of tampering, for people to judge",
    "NU-6127": "check_disk_space",
    "NU-6128": "check_health",
    "NU-6129": "the service: it never begins",
    "NU-6131": "nothing: evidence that somebody wrote there, for people to judge",
}


def critical_codes() -> set[str]:
    """Codes of findings that the modules of the diagnosis make critical."""
    found: set[str] = set()
    for path in Path(diagnostics.__path__[0]).glob("*.py"):
        text = path.read_text()
        found |= set(re.findall(r'_build_difference_finding\(\s*"(NU-\d+)"', text))
        found |= set(re.findall(r'Finding\(\s*"(NU-\d+)",\s*Severity\.CRITICAL', text))
        found |= set(re.findall(r'Finding\(\s*"(NU-\d+)",\s*severity', text))
    return found


def test_each_block_of_a_diagnosis_says_what_refuses_the_upgrade() -> None:
    assert critical_codes() == set(REFUSED_BY)


def test_what_bars_a_rehearsal_or_an_approval_is_a_check_of_the_upgrade() -> None:
    documented = " ".join(check.__doc__ or "" for check in list_checks())
    assert LASTING and all(code in documented for code in LASTING)
