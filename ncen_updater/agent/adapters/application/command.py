"""The application behind three commands of the site: start, stop, status."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from ncen_updater.agent.adapters.application.control import ControlledApplication, attempt, ending
from ncen_updater.agent.adapters.application.parts import ApplicationPart
from ncen_updater.agent.adapters.application.process import Ended, order, run
from ncen_updater.agent.config.model import ControlSettings
from ncen_updater.agent.model.errors import ApplicationError, CommandFailed
from ncen_updater.common.messages import DOOR_STUCK, ORDER_UNDER_WAY, STATE_UNKNOWN
from ncen_updater.common.supervised import LeftBehind, taken

RUNS = 0
STOPPED = 3  # as for init scripts: "program is not running"
STATUS_TIMEOUT_S = 30.0
OTHERS_TIMEOUT_S = 30.0
LOOK_S = 0.05

Alone = Callable[[], contextlib.AbstractContextManager[int]]


class CommandApplication(ControlledApplication):
    """Start, stop and status by commands; see ``ApplicationSettings`` for what they promise."""

    def _part(self, settings: ControlSettings, name: str, *, after_open: bool) -> ApplicationPart:
        return _CommandPart(name, after_open, settings, self._environment, self._alone)

    def stop(self) -> None:
        """Stop every part."""
        # An agent that was killed while it started something: not before that start has ended, too.
        with self._alone():
            pass
        super().stop()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """Hold the only right to order; what supervises a command holds it as long as that runs.

        The lock is on a file of its own beside that of the door. The directory would not do: the
        agent holds that of its state for a whole change, and the door may lie there; and the doors
        of two applications may lie in one.

        Raises:
            DoorStuck: If nothing can be written there, so that the door cannot be closed either.
            OrderUnderWay: If somebody else's order does not come to its end.
        """
        door = self._settings.door_file
        path = door.with_name(f"{door.name}.order")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except (FileNotFoundError, NotADirectoryError):
            yield -1  # then the door cannot be closed either, and no change gets this far
            return
        except OSError as error:
            raise ApplicationError(DOOR_STUCK, path=path, detail=str(error)) from error
        try:
            deadline = self._clock() + OTHERS_TIMEOUT_S
            while not taken(descriptor):
                if self._clock() >= deadline:
                    raise ApplicationError(ORDER_UNDER_WAY, seconds=f"{OTHERS_TIMEOUT_S:g}")
                self._wait(LOOK_S)
            yield descriptor
        finally:
            os.close(descriptor)


class _CommandPart(ApplicationPart):
    def __init__(
        self,
        name: str,
        after_open: bool,
        settings: ControlSettings,
        environment: Mapping[str, str],
        alone: Alone,
    ) -> None:
        super().__init__(name, after_open=after_open)
        self._start: Sequence[str] = settings.start or ()
        self._stop: Sequence[str] = settings.stop or ()
        self._status: Sequence[str] = settings.status or ()
        self._environment = environment
        self._alone = alone

    def running(self) -> bool:
        """Whether any process of it runs.

        Raises:
            StateUnknown: If the command says neither.
        """
        look = partial(run, self._status, self._environment, STATUS_TIMEOUT_S)
        ended = attempt("look at", self._status, look)
        if ended.status not in (RUNS, STOPPED):
            reason = ending(ended, STATUS_TIMEOUT_S)
            command = shlex.join(self._status)
            raise ApplicationError(
                STATE_UNKNOWN, reason=reason, command=command, detail=ended.output or None
            )
        return ended.status == RUNS

    def order_stop(self, timeout_s: float) -> str:
        """Order the stop."""
        ended = self._order("stop", self._stop, timeout_s, LeftBehind.ANYTHING)
        if ended.status == 0:
            return ""
        return f"{ending(ended, timeout_s)} {ended.output}".strip()

    def order_start(self, timeout_s: float) -> None:
        """Order the start; of one that fails nothing is left."""
        ended = self._order("start", self._start, timeout_s, LeftBehind.DAEMONS)
        if ended.status != 0:
            raise CommandFailed(
                action="start",
                reason=ending(ended, timeout_s),
                command=shlex.join(self._start),
                detail=ended.output or None,
            )

    def _order(self, action: str, argv: Sequence[str], timeout_s: float, left: LeftBehind) -> Ended:
        with self._alone() as kept:
            give = partial(order, argv, self._environment, timeout_s, left=left, kept=kept)
            return attempt(action, argv, give)
