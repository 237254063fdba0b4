"""Decision to start an application that should run and that nobody else will start. Pure.

systemd gives an application up for good if the databases were not ready at its start; and a person
who stopped it on purpose wants it stopped. So:

* an application that runs, is starting or stopping, or is disabled is left alone;
* one that ended by itself, or is enabled and was not started since the machine booted, is started;
* one that was stopped by request since the boot is left alone: a person did that, or a job of
  theirs;
* where the system cannot tell that (an application behind commands), the service's own memory does:
  it ran at the last look of an earlier start of the machine, and was not seen since. Seen stopped
  while the machine was up, it was stopped by somebody, and stays so over any number of starts
  (:func:`update_last_running_boot`). A stop between the last look and the end of the machine is the
  one that cannot be told from a power cut: then it is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RestartDecision(StrEnum):
    """What becomes of an application that was looked at."""

    NONE_NEEDED = "runs"
    START = "start"
    LEAVE_STOPPED = "leave"


@dataclass(frozen=True)
class ProcessState:
    """One look at the part of the application that is asked for its health.

    Attributes:
        runs: Whether it runs, or is starting or stopping.
        failed: Whether it ended by itself.
        enabled: Whether the system starts it with the machine; None where that is not known.
        started_since_boot: Whether it was started since the machine was; None where that is not
            known.
        since: Since when it runs, or does not.
        by_itself: Whether its program ended without being told to by the system, well or not: a
            person may have told it another way.
    """

    runs: bool
    failed: bool = False
    enabled: bool | None = None
    started_since_boot: bool | None = None
    since: datetime | None = None
    by_itself: bool = False


def stopped_in_order(parts: Iterable[ProcessState]) -> bool:
    """Tell whether a part of an application was stopped on purpose and none failed. Pure.

    Only a system that tells an orderly stop from an end by itself can say so: commands cannot.
    """
    down = [part for part in parts if not part.runs]
    return bool(down) and not any(p.failed or p.by_itself or not p.started_since_boot for p in down)


def update_last_running_boot(
    state: ProcessState, last_running_boot: str | None, boot: str
) -> str | None:
    """In which start of the machine it was last seen running, after one more look. Pure."""
    if state.runs:
        return boot
    return None if last_running_boot == boot else last_running_boot


def decide_restart(
    state: ProcessState, last_running_boot: str | None, boot: str
) -> RestartDecision:
    """Say what becomes of it, while no change is open. Pure.

    Args:
        state: The look.
        last_running_boot: In which start of the machine it was last seen running; None where never.
        boot: Which start of the machine this is.
    """
    if state.runs:
        return RestartDecision.NONE_NEEDED
    if state.enabled is None:
        cut_off = last_running_boot is not None and last_running_boot != boot
        return RestartDecision.START if cut_off else RestartDecision.LEAVE_STOPPED
    if not state.enabled:
        return RestartDecision.LEAVE_STOPPED
    return (
        RestartDecision.START
        if state.failed or state.started_since_boot is False
        else RestartDecision.LEAVE_STOPPED
    )
