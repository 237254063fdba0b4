"""Calls of ``systemctl``, repeated while the service manager re-executes; states of units.

An update of the systemd package re-executes the manager (``systemctl daemon-reexec``). Every call
fails meanwhile, which says nothing about any unit. All calls here may be repeated: queries, and
idempotent commands.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ncen_updater.agent.adapters.application.process import CommandResult, run_command
from ncen_updater.agent.policy.restart_policy import ProcessState

#: Messages about the connection to the manager; none of them is about a unit.
CONNECTION_ERROR = re.compile(
    "Failed to connect to|not connected|Connection (re|is closed|terminated)|disconnected"
)
RETRY_FOR_S, RETRY_INTERVAL_S = 10.0, 0.2
STOPPED = frozenset({"inactive", "failed"})
ACTIVE_STATES = frozenset(
    {"active", "reloading", "activating", "deactivating", "refreshing", "maintenance"}
)
#: Unit file states in which the system starts a unit at boot.
ENABLED_STATES = frozenset(
    {"enabled", "enabled-runtime", "static", "linked", "indirect", "alias", "generated"}
)
TIMES = ("StateChange", "InactiveExit", "ActiveEnter", "ActiveExit", "ExecMainExit")
UNIT_PROPERTIES = ",".join(f"{name}TimestampMonotonic" for name in TIMES) + (
    ",Id,LoadState,ActiveState,Job,NRestarts,UnitFileState,Result,ExecMainStatus,Requires,BindsTo"
)
#: Exit statuses of programs, such as Java runtimes, that were stopped by SIGINT or SIGTERM; systemd
#: calls the unit failed unless its SuccessExitStatus= lists them.
STOP_EXIT_STATUSES = frozenset({"130", "143"})


def is_manager_away(ended: CommandResult) -> bool:
    """Tell whether a call did not reach the service manager. Pure."""
    return bool(ended.status) and CONNECTION_ERROR.search(ended.output) is not None


def run_systemctl(
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> CommandResult:
    """Run ``systemctl``, or another program; retry for ten seconds if the manager is not reached.

    Args:
        argv: ``systemctl`` and its arguments.
        environment: All variables.
        timeout_s: Time limit in seconds, including the retries.
        clock: Monotonic seconds.
        wait: Waits for a number of seconds.

    Raises:
        OSError: If it cannot be started.
    """
    deadline = clock() + min(RETRY_FOR_S, timeout_s)
    remaining_s = timeout_s
    while True:
        started = clock()
        result = run_command(argv, environment, remaining_s)
        remaining_s -= clock() - started + RETRY_INTERVAL_S
        if not is_manager_away(result) or clock() + RETRY_INTERVAL_S > deadline or remaining_s <= 0:
            return result
        wait(RETRY_INTERVAL_S)


def build_process_state(facts: Mapping[str, str]) -> ProcessState:
    """Return the state of a unit from its properties.

    A unit whose start failed was never active. A unit that is stopped leaves its active state
    before its process ends; if the unit ends on its own, the process ends first. An active unit
    without a process (RemainAfterExit=) had none when it became active.
    """
    times = (int(facts.get(f"{name}TimestampMonotonic") or 0) for name in TIMES)
    changed, began, entered, deactivated, exited = times
    state, result = facts["ActiveState"], facts.get("Result")
    was_stopped = result == "exit-code" and facts.get("ExecMainStatus") in STOP_EXIT_STATUSES
    stop_timed_out = result == "timeout" and entered >= began
    return ProcessState(
        state in ACTIVE_STATES,
        failed=state == "failed" and not (was_stopped or stop_timed_out),
        enabled=facts.get("UnitFileState", "") in ENABLED_STATES,
        started_since_boot=entered > 0,
        since=_to_wall_time(changed) if changed else None,
        exited_on_its_own=entered < exited < deactivated,
    )


def _to_wall_time(monotonic_us: int) -> datetime:
    """Return the wall-clock time of an instant that systemd gives as time since boot."""
    ago = time.clock_gettime(time.CLOCK_MONOTONIC) - monotonic_us / 1e6
    return (datetime.now(UTC) - timedelta(seconds=max(0.0, ago))).replace(microsecond=0)
