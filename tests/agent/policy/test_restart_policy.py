"""Tests of starting a stopped application: what was stopped on purpose stays stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ncen_updater.agent.policy.restart_policy import (
    ProcessState,
    should_start,
    update_last_running_boot,
    was_stopped_on_request,
)

DOWN = ProcessState(runs=False)
UNIT = ProcessState(runs=False, enabled=True, started_since_boot=False)
NOW, BEFORE = "this-boot", "boot-before"


@pytest.mark.parametrize(
    ("name", "seen", "last_running_boot", "verdict"),
    [
        ("it runs", ProcessState(runs=True), None, False),
        (
            "a unit that is on its way",
            ProcessState(True, enabled=True),
            BEFORE,
            False,
        ),
        ("a dependency failed when the machine started", UNIT, None, True),
        ("the same, and it ran before", UNIT, BEFORE, True),
        (
            "stopped by request",
            ProcessState(runs=False, enabled=True, started_since_boot=True),
            NOW,
            False,
        ),
        (
            "unexpected exit",
            ProcessState(runs=False, failed=True, enabled=True, started_since_boot=True),
            NOW,
            True,
        ),
        (
            "disabled",
            ProcessState(runs=False, enabled=False, started_since_boot=False),
            BEFORE,
            False,
        ),
        (
            "disabled, and it failed",
            ProcessState(runs=False, failed=True, enabled=False, started_since_boot=True),
            BEFORE,
            False,
        ),
        ("commands: cut off with the machine", DOWN, BEFORE, True),
        ("commands: stopped since the machine started", DOWN, NOW, False),
        ("commands: never seen running", DOWN, None, False),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_restart_is_decided(
    name: str, seen: ProcessState, last_running_boot: str | None, verdict: bool
) -> None:
    assert should_start(seen, last_running_boot, NOW) is verdict, name


UP = ProcessState(runs=True)


@pytest.mark.parametrize(
    ("name", "looks", "verdict"),
    [
        ("the power goes", [(UP, BEFORE), (DOWN, NOW)], True),
        ("stopped manually", [(UP, NOW), (DOWN, NOW)], False),
        (
            "stopped, then a new start",
            [(UP, BEFORE), (DOWN, BEFORE), (DOWN, NOW)],
            False,
        ),
        (
            "stopped, then two new starts",
            [(UP, BEFORE), (DOWN, BEFORE), (DOWN, "between"), (DOWN, NOW)],
            False,
        ),
        (
            "stopped, started, and the power goes",
            [(UP, BEFORE), (DOWN, BEFORE), (UP, BEFORE), (DOWN, NOW)],
            True,
        ),
        (
            "cut off, and the databases are late over two starts",
            [(UP, BEFORE), (DOWN, "between"), (DOWN, NOW)],
            True,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_restart_decision_converges_over_several_checks(
    name: str, looks: list[tuple[ProcessState, str]], verdict: bool
) -> None:
    last_running_boot, came = None, None
    for seen, boot in looks:
        last_running_boot = update_last_running_boot(seen, last_running_boot, boot)
        came = should_start(seen, last_running_boot, boot)
    assert came is verdict, name


STOPPED = ProcessState(runs=False, started_since_boot=True)


@pytest.mark.parametrize(
    ("name", "parts", "verdict"),
    [
        ("all parts run", [UP, UP], False),
        ("no parts", [], False),
        ("one part stopped", [UP, STOPPED], True),
        ("all parts stopped", [STOPPED, STOPPED], True),
        ("one stopped, one failed", [STOPPED, replace(STOPPED, failed=True)], False),
        ("the program ended on its own", [replace(STOPPED, exited_on_its_own=True)], False),
        ("not started since boot", [replace(STOPPED, started_since_boot=False)], False),
        ("nobody can tell whether it was started", [DOWN], False),
        ("a failure before the present start", [replace(UP, failed=True), STOPPED], True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_requested_stop_is_distinguished_from_a_failure(
    name: str, parts: list[ProcessState], verdict: bool
) -> None:
    assert was_stopped_on_request(parts) is verdict, name
