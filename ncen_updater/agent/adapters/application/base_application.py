"""Common base of both application adapters: maintenance page, health, environment and parts."""

from __future__ import annotations

import abc
import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from ncen_updater.agent.adapters.application.base import (
    Application,
    HealthExpectation,
    HealthResult,
    ProbeResult,
)
from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_request import describe_status
from ncen_updater.agent.adapters.application.maintenance import MaintenanceFile, MaintenanceNote
from ncen_updater.agent.adapters.application.process import (
    CommandResult,
    build_minimal_environment,
    run_command,
)
from ncen_updater.agent.config.agent_config import ApplicationSettings, ControlSettings
from ncen_updater.agent.model.errors import ApplicationError, CommandError, StopError
from ncen_updater.agent.policy.restart_policy import ProcessState, stopped_in_order
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import PART_STOP_FAILED

logger = logging.getLogger(__name__)

POLL_S = 0.05


class BaseApplication(Application):
    """An application that is controlled by commands.

    Args:
        settings: The table ``[application]``.
        current: The link to the slot in use; commands find it as ``NCEN_CURRENT``.
        make_note: Returns why the maintenance page is on, each time it is turned on.
        environment: What the commands inherit; the least of our own by default.
        clock: Monotonic seconds.
        wait: Waits so many seconds.
    """

    def __init__(
        self,
        settings: ApplicationSettings,
        current: Path,
        *,
        make_note: Callable[[], MaintenanceNote] = MaintenanceNote,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._settings = settings
        self._door = MaintenanceFile(settings.maintenance_file, make_note)
        self._prober = HealthProber(settings, run=self._run_version_command)
        self._clock = clock
        self._wait = wait
        self._environment = {
            **(build_minimal_environment() if environment is None else environment),
            **settings.environment,
            "NCEN_CURRENT": str(current),
            "NCEN_MAINTENANCE_FILE": str(settings.maintenance_file),
        }
        further = (
            self._make_part(p, p.name, start_after_maintenance=p.start_after_maintenance)
            for p in settings.parts
        )
        self._parts = (self._make_part(settings, "", start_after_maintenance=False), *further)

    @abc.abstractmethod
    def _make_part(
        self, settings: ControlSettings, name: str, *, start_after_maintenance: bool
    ) -> ApplicationPart:
        """Return one part; called once the environment is known."""

    def is_running(self) -> bool:
        """Tell whether any process of any part runs."""
        return any(part.is_running() for part in self._parts)

    def observe_state(self) -> ProcessState:
        """Look at the part that is asked for health."""
        return self._parts[0].observe_state()

    def stopped_in_order(self) -> bool:
        """Tell whether somebody stopped a part of it on purpose."""
        return stopped_in_order(part.observe_state() for part in self._parts)

    def find_missing_parts(self, *, include_deferred: bool) -> tuple[str, ...]:
        """Further parts that do not run as they should."""
        return tuple(
            part.name
            for part in self._parts
            if part.name
            and (include_deferred or not part.start_after_maintenance)
            and not part.is_stable(since_last_check=include_deferred)
        )

    def stop(self) -> None:
        """Stop every part, the last one first; returns when no process of them remains."""
        for part in reversed(self._parts):
            self._stop(part)

    def _stop(self, part: ApplicationPart) -> None:
        timeout = self._settings.stop_timeout_s
        deadline = self._clock() + timeout
        if part.is_at_rest():
            return
        logger.info("stopping %s", part.what)
        problem = part.request_stop(timeout)
        while part.is_running():
            if problem or self._clock() >= deadline:
                raise _make_stop_error(
                    part.name, timeout, problem, refused=self._clock() < deadline and bool(problem)
                )
            self._wait(POLL_S)
        if problem:
            logger.warning("the application stopped, but its command said: %s", problem)

    def start(self) -> None:
        """Start what ``current`` points at, unless it runs."""
        self._start(start_after_maintenance=False)

    def start_deferred_parts(self) -> None:
        """Start the parts that wait until users are in."""
        self._start(start_after_maintenance=True)

    def _start(self, *, start_after_maintenance: bool) -> None:
        for part in self._parts:
            if part.start_after_maintenance is start_after_maintenance and not part.is_running():
                logger.info("starting %s", part.what)
                part.request_start(self._settings.health_timeout_s)

    def enable_maintenance(self) -> None:
        """Keep users out and show them the maintenance page."""
        self._door.write()

    def check_maintenance_page(self, *, rolling_back: bool) -> LazyText | None:
        """Return why the web server in front lets users in all the same; None where it does not."""
        return check_maintenance_page(
            self._settings, self._clock, self._wait, rolling_back=rolling_back
        )

    def check_health_token(self) -> ApplicationError | None:
        """Return why the health token cannot be used; None where it can, or there is none."""
        try:
            self._prober.load_credentials()
        except ApplicationError as error:
            return error
        return None

    def _run_version_command(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        return run_command(argv, self._environment, timeout_s)

    def disable_maintenance(self) -> None:
        """Let users in."""
        self._door.remove()

    def is_in_maintenance(self) -> bool:
        """Tell whether users are kept out."""
        return self._door.exists()

    def read_maintenance_change(self) -> str:
        """Return the id of the change that switched maintenance on.

        Empty where maintenance is off, or an operator switched it on.
        """
        return self._door.read_change()

    def check_health(
        self, expectation: HealthExpectation, *, include_deferred: bool = False
    ) -> HealthResult:
        """Look once."""
        health = self._prober.check_health(expectation)
        # Each look at a part is a command: none as long as the answer is known.
        missing = self.find_missing_parts(include_deferred=include_deferred) if health else ()
        if not missing:
            return health
        results = tuple(ProbeResult(name, LazyText(N_("not running"))) for name in missing)
        return replace(health, results=(*health.results, *results), missing_parts=missing)


def _make_stop_error(
    name: str, seconds: float, problem: LazyText | None, *, refused: bool
) -> StopError:
    message = PART_STOP_FAILED if name else None
    return StopError(message, part=name, seconds=f"{seconds:g}", detail=problem, refused=refused)


def run_checked(argv: Sequence[str], run: Callable[[], CommandResult]) -> CommandResult:
    """Run a command.

    Raises:
        CommandError: If it could not be started.
    """
    try:
        return run()
    except OSError as error:
        raise CommandError(
            reason=LazyText(N_("cannot be started")),
            command=shlex.join(argv),
            detail=str(error),
        ) from error


def describe_exit(ended: CommandResult, timeout_s: float) -> LazyText:
    """Say how a command ended."""
    if ended.status is None:
        words = N_("killed, since it did not end within {seconds} s")
        return LazyText(words, {"seconds": f"{timeout_s:g}"})
    if ended.status < 0:
        return LazyText(N_("killed by signal {signal}"), {"signal": -ended.status})
    return LazyText(N_("exit status {status}"), {"status": ended.status})


def describe_failed_stop(ended: CommandResult, timeout_s: float) -> LazyText | None:
    """Say how the order to stop failed, with what it printed; None where it did not."""
    if ended.status == 0:
        return None
    values = {"name": describe_exit(ended, timeout_s), "text": ended.output}
    return LazyText(N_("{name}: {text}") if ended.output else "{name}", values)


POLL_S = 0.1


def check_maintenance_page(
    settings: ApplicationSettings,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
    *,
    rolling_back: bool = False,
) -> LazyText | None:
    """Ask the front until it shows the maintenance page; None where it does, or has no address.

    A front may remember for a moment which files there are. One that does not answer lets nobody
    in; before an upgrade its address may be a mistake, and it keeps nobody from rolling back.

    Returns:
        What it answered last.

    Raises:
        HEALTH_SETTINGS_WRONG: The address cannot be used.
    """
    if settings.public_url is None:
        return None
    parts = urlsplit(settings.public_url)
    base = f"{parts.scheme}://{parts.netloc}"
    # The headers for the application are not for the server in front of it.
    alone = {"health_url": base, "health_headers": None, "health_token_file": None}
    prober = HealthProber(settings.model_copy(update=alone))
    until = clock() + settings.probe_timeout_s
    while True:
        value = prober.request_status(parts.path or "/")
        if value == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        if clock() >= until:
            if isinstance(value, int):
                return describe_status(value)
            if rolling_back:
                logger.warning("the web server in front is away, and lets nobody in: %s", value)
                return None
            return value
        wait(POLL_S)


class ApplicationPart(abc.ABC):
    """What is started and stopped together.

    Args:
        name: For people; empty for the one that is asked for its health.
        start_after_maintenance: Whether it is started only once users are in.
        what: What the system calls it; for the log.
    """

    def __init__(
        self, name: str = "", *, start_after_maintenance: bool = False, what: str = ""
    ) -> None:
        self.name, self.what = name, what or name or "the application"
        self.start_after_maintenance = start_after_maintenance

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Tell whether any process of it runs.

        Raises:
            STATE_UNKNOWN: If that cannot be told.
        """

    def is_at_rest(self) -> bool:
        """Tell whether none runs, and none is about to by an order that was given."""
        return not self.is_running()

    def is_stable(self, *, since_last_check: bool = False) -> bool:
        """Tell whether it has run without an end since it was started or looked at first.

        Args:
            since_last_check: Since the last look will do.
        """
        return self.is_running()

    def observe_state(self) -> ProcessState:
        """Look once, with what the system knows of why it does not run."""
        return ProcessState(self.is_running())

    @abc.abstractmethod
    def request_stop(self, timeout_s: float) -> LazyText | None:
        """Order the stop; return what went wrong with the order, None if nothing did."""

    @abc.abstractmethod
    def request_start(self, timeout_s: float) -> None:
        """Order the start.

        Raises:
            CommandError: If the order failed.
        """
