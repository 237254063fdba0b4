"""The application behind three commands of the site: start, stop, status."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ncen_updater.application.control import ControlledApplication, ending
from ncen_updater.application.errors import CommandFailed, StateUnknown

__all__ = ["CommandApplication"]

RUNS = 0
STOPPED = 3  # as for init scripts: "program is not running"
STATUS_TIMEOUT_S = 30.0


class CommandApplication(ControlledApplication):
    """Start, stop and status by commands; see ``ApplicationSettings`` for what they promise."""

    def running(self) -> bool:
        """Whether any process of it runs.

        Raises:
            StateUnknown: If the command says neither.
        """
        argv = self._settings.status or ()
        ended = self._run("look at", argv, STATUS_TIMEOUT_S)
        if ended.status not in (RUNS, STOPPED):
            reason = ending(ended, STATUS_TIMEOUT_S)
            raise StateUnknown(reason=reason, command=shlex.join(argv), detail=ended.output or None)
        return ended.status == RUNS

    def _order_stop(self, timeout_s: float) -> str:
        argv: Sequence[str] = self._settings.stop or ()
        ended = self._run("stop", argv, timeout_s)
        if ended.status == 0:
            return ""
        return f"{ending(ended, timeout_s)} {ended.output}".strip()

    def _order_start(self, timeout_s: float) -> None:
        argv = self._settings.start or ()
        ended = self._run("start", argv, timeout_s)
        if ended.status != 0:
            raise CommandFailed(
                action="start",
                reason=ending(ended, timeout_s),
                command=shlex.join(argv),
                detail=ended.output or None,
            )
