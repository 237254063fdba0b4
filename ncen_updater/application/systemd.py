"""The application as a systemd unit."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ncen_updater.application.control import ControlledApplication, ending
from ncen_updater.application.door import DoorNote
from ncen_updater.application.errors import CommandFailed, StateUnknown
from ncen_updater.config.model import ApplicationSettings

__all__ = ["SystemdApplication"]

ORDER_TIMEOUT_S = 30.0
STOPPED = frozenset({"inactive", "failed"})
RUNS = frozenset({"active", "reloading", "activating", "deactivating", "refreshing", "maintenance"})


class SystemdApplication(ControlledApplication):
    """Start, stop and state by ``systemctl``.

    Args:
        settings: The table ``[application]``.
        current: The link to the slot in use.
        door_note: Asked why the door is closed.
        environment: What ``systemctl`` inherits.
        clock: Monotonic seconds.
        wait: Waits so many seconds.
        systemctl: The program.
    """

    def __init__(
        self,
        settings: ApplicationSettings,
        current: Path,
        *,
        door_note: Callable[[], DoorNote] = DoorNote,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
        systemctl: str = "systemctl",
    ) -> None:
        super().__init__(
            settings,
            current,
            door_note=door_note,
            environment=environment,
            clock=clock,
            wait=wait,
        )
        self._systemctl = systemctl

    def running(self) -> bool:
        """Whether the unit has processes, or is on its way up or down.

        Raises:
            StateUnknown: If systemd does not know the unit or gives no clear answer.
        """
        return self._state() in RUNS

    def _state(self) -> str:
        argv = self._argv("show", "--property=LoadState,ActiveState")
        ended = self._run("look at", argv, ORDER_TIMEOUT_S)
        facts = dict(line.split("=", 1) for line in ended.output.splitlines() if "=" in line)
        state = facts.get("ActiveState", "")
        if ended.status != 0:
            reason = ending(ended, ORDER_TIMEOUT_S)
        elif facts.get("LoadState") == "not-found":
            reason = f"systemd does not know the unit {self._settings.unit}"
        elif state not in RUNS | STOPPED:
            reason = f"its state is '{state}'"
        else:
            return state
        raise StateUnknown(reason=reason, command=shlex.join(argv), detail=ended.output or None)

    def _order_stop(self, timeout_s: float) -> str:
        ended = self._run("stop", self._argv("stop"), timeout_s)
        if ended.status == 0:
            return ""
        return f"{ending(ended, timeout_s)} {ended.output}".strip()

    def _order_start(self, timeout_s: float) -> None:
        # A unit that failed too often is refused for a while; this start is not one of those.
        if self._state() == "failed":
            self._order("start", self._argv("reset-failed"))
        # Whether it came up is for the health to say, with its own deadline.
        self._order("start", self._argv("start", "--no-block"))

    def _order(self, action: str, argv: Sequence[str]) -> None:
        ended = self._run(action, argv, ORDER_TIMEOUT_S)
        if ended.status != 0:
            raise CommandFailed(
                action=action,
                reason=ending(ended, ORDER_TIMEOUT_S),
                command=shlex.join(argv),
                detail=ended.output or None,
            )

    def _argv(self, verb: str, *options: str) -> tuple[str, ...]:
        return (self._systemctl, verb, *options, "--", self._settings.unit or "")
