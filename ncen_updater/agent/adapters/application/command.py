"""Application controlled by three commands of the site: start, stop, status."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from ncen_updater.agent.adapters.application.base import (
    Application,
    ApplicationPart,
    describe_exit,
    describe_failed_stop,
    run_checked,
)
from ncen_updater.agent.adapters.application.process import (
    CommandResult,
    run_command,
    run_supervised,
)
from ncen_updater.agent.config.agent_config import ControlSettings
from ncen_updater.agent.model.errors import ApplicationError, CommandError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    APPLICATION_COMMAND_RUNNING,
    MAINTENANCE_FILE_STUCK,
    STATE_UNKNOWN,
)
from ncen_updater.common.supervised_process import AllowedLeftovers, try_lock

EXIT_RUNNING = 0
EXIT_STOPPED = 3  # as for init scripts: "program is not running"
STATUS_TIMEOUT_S = 30.0
COMMAND_LOCK_TIMEOUT_S = 30.0
POLL_S = 0.05

CommandLock = Callable[[], contextlib.AbstractContextManager[int]]


class CommandApplication(Application):
    """Application with commands for start, stop and status; contract in ``ApplicationSettings``."""

    def _make_part(
        self, settings: ControlSettings, name: str, *, start_after_maintenance: bool
    ) -> ApplicationPart:
        return _CommandPart(
            name, start_after_maintenance, settings, self._environment, self._hold_command_lock
        )

    def stop(self) -> None:
        """Stop every part."""
        # Wait for a start command that a killed agent left running.
        with self._hold_command_lock():
            pass
        super().stop()

    @contextlib.contextmanager
    def _hold_command_lock(self) -> Iterator[int]:
        """Hold the lock for start and stop commands; a command's supervisor holds it while it runs.

        The lock is on a separate file next to the maintenance file. A lock on the directory would
        not work: the agent holds that of its state directory for a whole change, and the
        maintenance file may be there; and one directory may hold the files of two applications.

        Raises:
            MAINTENANCE_FILE_STUCK: If no file can be written there, so that the maintenance page
                cannot be shown either.
            APPLICATION_COMMAND_RUNNING: If an earlier command does not end in time.
        """
        maintenance_file = self._settings.maintenance_file
        path = maintenance_file.with_name(f"{maintenance_file.name}.command-lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except (FileNotFoundError, NotADirectoryError):
            yield -1  # the maintenance file cannot be written either, so no change gets this far
            return
        except OSError as error:
            raise ApplicationError(MAINTENANCE_FILE_STUCK, path=path, detail=str(error)) from error
        try:
            deadline = self._clock() + COMMAND_LOCK_TIMEOUT_S
            while not try_lock(descriptor):
                if self._clock() >= deadline:
                    raise ApplicationError(
                        APPLICATION_COMMAND_RUNNING, seconds=f"{COMMAND_LOCK_TIMEOUT_S:g}"
                    )
                self._wait(POLL_S)
            yield descriptor
        finally:
            os.close(descriptor)


class _CommandPart(ApplicationPart):
    def __init__(
        self,
        name: str,
        start_after_maintenance: bool,
        settings: ControlSettings,
        environment: Mapping[str, str],
        hold_lock: CommandLock,
    ) -> None:
        super().__init__(name, start_after_maintenance=start_after_maintenance)
        self._start: Sequence[str] = settings.start or ()
        self._stop: Sequence[str] = settings.stop or ()
        self._status: Sequence[str] = settings.status or ()
        self._environment = environment
        self._hold_lock = hold_lock

    def is_running(self) -> bool:
        """Tell whether any of its processes runs.

        Raises:
            STATE_UNKNOWN: If the status command gives another answer.
        """
        run = partial(run_command, self._status, self._environment, STATUS_TIMEOUT_S)
        ended = run_checked(self._status, run)
        if ended.status not in (EXIT_RUNNING, EXIT_STOPPED):
            reason = describe_exit(ended, STATUS_TIMEOUT_S)
            command = shlex.join(self._status)
            raise ApplicationError(
                STATE_UNKNOWN, reason=reason, command=command, detail=ended.output or None
            )
        return ended.status == EXIT_RUNNING

    def request_stop(self, timeout_s: float) -> LazyText | None:
        """Run the stop command."""
        ended = self._run_command(self._stop, timeout_s, AllowedLeftovers.ANYTHING)
        return describe_failed_stop(ended, timeout_s)

    def request_start(self, timeout_s: float) -> None:
        """Run the start command; if it fails, no process of it is left."""
        ended = self._run_command(self._start, timeout_s, AllowedLeftovers.DAEMONS)
        if ended.status != 0:
            raise CommandError(
                reason=describe_exit(ended, timeout_s),
                command=shlex.join(self._start),
                detail=ended.output or None,
            )

    def _run_command(
        self, argv: Sequence[str], timeout_s: float, leftovers: AllowedLeftovers
    ) -> CommandResult:
        with self._hold_lock() as lock_fd:
            run = partial(
                run_supervised,
                argv,
                self._environment,
                timeout_s,
                leftovers=leftovers,
                lock_fd=lock_fd,
            )
            return run_checked(argv, run)
