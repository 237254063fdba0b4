"""What systemd says of a unit, as ``systemctl show`` prints it. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ncen_updater.agent.policy.ought_to_run import RunningSeen

__all__ = ["PROPERTIES", "RUNS", "STOPPED", "seen_of"]

STOPPED = frozenset({"inactive", "failed"})
RUNS = frozenset({"active", "reloading", "activating", "deactivating", "refreshing", "maintenance"})
#: How the file of a unit looks that the system starts with the machine.
ENABLED = frozenset(
    {"enabled", "enabled-runtime", "static", "linked", "indirect", "alias", "generated"}
)
PROPERTIES = (
    "Id,LoadState,ActiveState,Job,NRestarts,UnitFileState,ActiveEnterTimestampMonotonic,"
    "StateChangeTimestampMonotonic,Result,ExecMainStatus,Requires,BindsTo"
)
#: Statuses with which programs end that were told to, SIGINT and SIGTERM, though systemd then calls
#: the unit failed unless its SuccessExitStatus= has them; runtimes of Java end so.
TOLD_TO_END = frozenset({"130", "143"})


def seen_of(facts: Mapping[str, str]) -> RunningSeen:
    """Say what the properties tell. A unit whose start was given up was never active."""
    changed, state = facts.get("StateChangeTimestampMonotonic", "0"), facts["ActiveState"]
    return RunningSeen(
        state in RUNS,
        failed=state == "failed" and not _told_to_end(facts),
        enabled=facts.get("UnitFileState", "") in ENABLED,
        started=facts.get("ActiveEnterTimestampMonotonic", "0") not in ("", "0"),
        since=_moment(changed) if changed.isdigit() and changed != "0" else None,
    )


def _told_to_end(facts: Mapping[str, str]) -> bool:
    """Whether a unit that failed was stopped by somebody: it ended as told, or was too slow to."""
    result = facts.get("Result", "")
    asked = result == "exit-code" and facts.get("ExecMainStatus", "") in TOLD_TO_END
    return asked or result == "timeout"


def _moment(monotonic_us: str) -> datetime:
    """Return the time of day of an instant that systemd gives since the start of the machine."""
    ago = time.clock_gettime(time.CLOCK_MONOTONIC) - int(monotonic_us) / 1e6
    return (datetime.now(UTC) - timedelta(seconds=max(0.0, ago))).replace(microsecond=0)
