"""Decide whether to start an application that should run and that nothing else will start. Pure.

systemd gives an application up for good if the databases were not ready when it started. On the
other hand, an application that an operator stopped must stay stopped. So:

* An application that runs, is starting or stopping, or is disabled is left alone.
* One that failed, or that is enabled and was not started since boot, is started.
* One that was stopped on request since boot is left alone: an operator or their job stopped it.
* An application behind commands cannot report this. For it the service remembers the boot in which
  it was last seen running (:func:`update_last_running_boot`). If that was an earlier boot, and it
  was not seen stopped then, the application is started. If it was seen stopped while the machine
  was up, someone stopped it, and it stays stopped, also after reboots. Only a stop between the last
  check and the end of that boot is mistaken for a power cut; the application is then started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ProcessState:
    """Observed state of the application's part with the health endpoint.

    Attributes:
        runs: Whether it runs, or is starting or stopping.
        failed: Whether it failed.
        enabled: Whether the system starts it at boot; None if unknown.
        started_since_boot: Whether it was started since boot; None if unknown.
        since: Since when it runs or does not.
        exited_on_its_own: Whether its program exited without a stop by the system, successfully or
            not: an operator may have ended it in another way.
    """

    runs: bool
    failed: bool = False
    enabled: bool | None = None
    started_since_boot: bool | None = None
    since: datetime | None = None
    exited_on_its_own: bool = False


def was_stopped_on_request(parts: Iterable[ProcessState]) -> bool:
    """Return whether a part of an application was stopped on request and none failed. Pure.

    Only a service manager can distinguish a requested stop from a failure; commands cannot.
    """
    stopped = [part for part in parts if not part.runs]
    return bool(stopped) and not any(
        p.failed or p.exited_on_its_own or not p.started_since_boot for p in stopped
    )


def update_last_running_boot(
    state: ProcessState, last_running_boot: str | None, boot: str
) -> str | None:
    """Return the boot id in which it was last seen running, after one more check. Pure."""
    if state.runs:
        return boot
    return None if last_running_boot == boot else last_running_boot


def should_start(state: ProcessState, last_running_boot: str | None, boot: str) -> bool:
    """Return whether to start the application, while no change is open. Pure.

    Args:
        state: The observed state.
        last_running_boot: Boot id in which it was last seen running; None if never.
        boot: The present boot id.
    """
    if state.runs:
        return False
    if state.enabled is None:
        return last_running_boot not in (None, boot)
    return state.enabled and (state.failed or state.started_since_boot is False)
