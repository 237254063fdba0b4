"""Tests of the output of ``rollback`` before its prompt, where approvals are missing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.cli.upgrade import _show_rollback_plan
from ncen_updater.agent.reports.command_results import CommandResult
from ncen_updater.common.messages import ROLLBACK_NEEDS_APPROVAL
from tests.support.errors import refused

WAITS = "People who have to approve going back yet: 1 (who has: bo)."


class Shown:
    """Keeps what a person sees."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add_line(self, line: object) -> None:
        self.lines.append(str(line))


def prompt_lines(missing: int, given: int, *, emergency: bool) -> list[str]:
    approvals = [{"actor": "bo", "at": "2026-11-27T05:56:00+00:00"}] * given
    document: dict[str, Any] = {
        "to": "3.2.4", "lost_total": 0, "missing": missing, "approvals": approvals,
        "how": ["It keeps every record."],
    }  # fmt: skip
    shown = Shown()
    answer = CommandResult(document, ["It keeps every record.", WAITS])
    _show_rollback_plan(cast("AgentSession", shown), answer, emergency=emergency)
    return shown.lines


def test_emergency_rollback_needs_no_other_approval() -> None:
    """Seen: who goes back in an emergency was told to let others approve, and nothing besides."""
    said = prompt_lines(1, 1, emergency=True)
    assert WAITS not in said
    assert "Emergency rollback; missing approvals: 1." in said[-1]


@pytest.mark.parametrize(("missing", "given"), [(1, 1), (2, 0)])
def test_refused_rollback_does_not_prompt(missing: int, given: int) -> None:
    with refused(ROLLBACK_NEEDS_APPROVAL) as found:
        prompt_lines(missing, given, emergency=False)
    assert found.value.values["missing"] == missing
    assert found.value.values["needed"] == 2


@pytest.mark.parametrize(("missing", "given"), [(0, 2), (1, 0), (0, 0)])
def test_plan_before_the_prompt_lists_no_commands(missing: int, given: int) -> None:
    """What is to be typed, the prompt does."""
    assert prompt_lines(missing, given, emergency=False) == ["It keeps every record."]
