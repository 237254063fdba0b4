"""What systemd says of a unit, as ``systemctl show`` prints it. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ncen_updater.agent.policy.restart_policy import ProcessState

STOPPED = frozenset({"inactive", "failed"})
ACTIVE_STATES = frozenset(
    {"active", "reloading", "activating", "deactivating", "refreshing", "maintenance"}
)
#: How the file of a unit looks that the system starts with the machine.
ENABLED_STATES = frozenset(
    {"enabled", "enabled-runtime", "static", "linked", "indirect", "alias", "generated"}
)
TIMES = ("StateChange", "InactiveExit", "ActiveEnter", "ActiveExit", "ExecMainExit")
UNIT_PROPERTIES = ",".join(f"{name}TimestampMonotonic" for name in TIMES) + (
    ",Id,LoadState,ActiveState,Job,NRestarts,UnitFileState,Result,ExecMainStatus,Requires,BindsTo"
)
#: Statuses with which programs end that were told to, SIGINT and SIGTERM, though systemd then calls
#: the unit failed unless its SuccessExitStatus= has them; runtimes of Java end so.
STOP_EXIT_STATUSES = frozenset({"130", "143"})


def seen_of(facts: Mapping[str, str]) -> ProcessState:
    """Say what the properties tell. A unit whose start was given up was never active.

    What is told to end leaves its active state first; what ends by itself is dead before that. What
    is active without a program (RemainAfterExit=) was that when it became so.
    """
    times = (int(facts.get(f"{name}TimestampMonotonic") or 0) for name in TIMES)
    changed, began, entered, left, dead = times
    state, result = facts["ActiveState"], facts.get("Result")
    asked = result == "exit-code" and facts.get("ExecMainStatus") in STOP_EXIT_STATUSES
    too_slow_to_end = result == "timeout" and entered >= began
    return ProcessState(
        state in ACTIVE_STATES,
        failed=state == "failed" and not (asked or too_slow_to_end),
        enabled=facts.get("UnitFileState", "") in ENABLED_STATES,
        started_since_boot=entered > 0,
        since=_to_wall_time(changed) if changed else None,
        by_itself=entered < dead < left,
    )


def _to_wall_time(monotonic_us: int) -> datetime:
    """Return the time of day of an instant that systemd gives since the start of the machine."""
    ago = time.clock_gettime(time.CLOCK_MONOTONIC) - monotonic_us / 1e6
    return (datetime.now(UTC) - timedelta(seconds=max(0.0, ago))).replace(microsecond=0)
