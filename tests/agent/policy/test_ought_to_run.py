"""Whether an application that does not run is started: what was stopped on purpose never is."""

from __future__ import annotations

import pytest

from ncen_updater.agent.policy.ought_to_run import (
    RunningSeen,
    RunVerdict,
    ought_to_run,
    ran_in_after,
)

DOWN = RunningSeen(runs=False)
UNIT = RunningSeen(runs=False, enabled=True, started=False)
NOW, BEFORE = "this-boot", "boot-before"


@pytest.mark.parametrize(
    ("name", "seen", "ran_in", "verdict"),
    [
        ("it runs", RunningSeen(runs=True), None, RunVerdict.RUNS),
        ("a unit that is on its way", RunningSeen(True, enabled=True), BEFORE, RunVerdict.RUNS),
        ("a dependency failed when the machine started", UNIT, None, RunVerdict.START),
        ("the same, and it ran before", UNIT, BEFORE, RunVerdict.START),
        (
            "stopped by request",
            RunningSeen(runs=False, enabled=True, started=True),
            NOW,
            RunVerdict.LEAVE,
        ),
        (
            "it ended by itself",
            RunningSeen(runs=False, failed=True, enabled=True, started=True),
            NOW,
            RunVerdict.START,
        ),
        (
            "disabled",
            RunningSeen(runs=False, enabled=False, started=False),
            BEFORE,
            RunVerdict.LEAVE,
        ),
        (
            "disabled, and it failed",
            RunningSeen(runs=False, failed=True, enabled=False, started=True),
            BEFORE,
            RunVerdict.LEAVE,
        ),
        ("commands: cut off with the machine", DOWN, BEFORE, RunVerdict.START),
        ("commands: stopped since the machine started", DOWN, NOW, RunVerdict.LEAVE),
        ("commands: never seen running", DOWN, None, RunVerdict.LEAVE),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_what_becomes_of_it(
    name: str, seen: RunningSeen, ran_in: str | None, verdict: RunVerdict
) -> None:
    assert ought_to_run(seen, ran_in, NOW) is verdict, name


UP = RunningSeen(runs=True)


@pytest.mark.parametrize(
    ("name", "looks", "verdict"),
    [
        ("the power goes", [(UP, BEFORE), (DOWN, NOW)], RunVerdict.START),
        ("stopped by somebody", [(UP, NOW), (DOWN, NOW)], RunVerdict.LEAVE),
        (
            "stopped, then a new start",
            [(UP, BEFORE), (DOWN, BEFORE), (DOWN, NOW)],
            RunVerdict.LEAVE,
        ),
        (
            "stopped, then two new starts",
            [(UP, BEFORE), (DOWN, BEFORE), (DOWN, "between"), (DOWN, NOW)],
            RunVerdict.LEAVE,
        ),
        (
            "stopped, started, and the power goes",
            [(UP, BEFORE), (DOWN, BEFORE), (UP, BEFORE), (DOWN, NOW)],
            RunVerdict.START,
        ),
        (
            "cut off, and the databases are late over two starts",
            [(UP, BEFORE), (DOWN, "between"), (DOWN, NOW)],
            RunVerdict.START,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_over_some_looks(
    name: str, looks: list[tuple[RunningSeen, str]], verdict: RunVerdict
) -> None:
    ran_in, came = None, None
    for seen, boot in looks:
        ran_in = ran_in_after(seen, ran_in, boot)
        came = ought_to_run(seen, ran_in, boot)
    assert came is verdict, name
