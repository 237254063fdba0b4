"""The only caller of ``systemctl``; it repeats a call while the service manager re-executes.

An update of the systemd package does that (``systemctl daemon-reexec``), and every call fails
meanwhile, which says nothing about any unit. All calls here may be repeated: queries, and
idempotent commands.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ncen_updater.agent.adapters.application.process import CommandResult, run_command
from ncen_updater.agent.policy.restart_policy import ProcessState

#: What it says of its connection; of a unit it says none of these.
AWAY = re.compile(
    "Failed to connect to|not connected|Connection (re|is closed|terminated)|disconnected"
)
PATIENCE_S, AGAIN_S = 10.0, 0.2


def is_manager_away(ended: CommandResult) -> bool:
    """Tell whether an answer is none of the service manager, which nobody reached. Pure."""
    return bool(ended.status) and AWAY.search(ended.output) is not None


def run_systemctl(
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> CommandResult:
    """Run it, or another program; again for ten seconds at most where the manager was not reached.

    Args:
        argv: ``systemctl`` and its arguments.
        environment: All variables.
        timeout_s: Seconds after which it is ended; the repeats are within them.
        clock: Monotonic seconds.
        wait: Waits so many seconds.

    Raises:
        OSError: If it cannot be started.
    """
    until = clock() + min(PATIENCE_S, timeout_s)
    left = timeout_s
    while True:
        began = clock()
        ended = run_command(argv, environment, left)
        left -= clock() - began + AGAIN_S
        if not is_manager_away(ended) or clock() + AGAIN_S > until or left <= 0:
            return ended
        wait(AGAIN_S)


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
