"""The application of the site: its parts, health and maintenance page; base of both adapters."""

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

from ncen_updater.agent.adapters.application.health import HealthProber
from ncen_updater.agent.adapters.application.health_request import describe_status
from ncen_updater.agent.adapters.application.health_result import (
    HealthExpectation,
    HealthResult,
    ProbeResult,
)
from ncen_updater.agent.adapters.application.maintenance import MaintenanceFile, MaintenanceNote
from ncen_updater.agent.adapters.application.process import (
    CommandResult,
    build_minimal_environment,
    run_command,
)
from ncen_updater.agent.config.agent_config import ApplicationSettings, ControlSettings
from ncen_updater.agent.model.errors import ApplicationError, CommandError, StopError
from ncen_updater.agent.policy.restart_policy import ProcessState, was_stopped_on_request
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import PART_STOP_FAILED

logger = logging.getLogger(__name__)

# Users wait meanwhile.
POLL_S = 0.02


class Application(abc.ABC):
    """The application of the site. Every operation is idempotent and raises if it fails.

    The *maintenance page* locks users out. The web server in front shows it while a file exists, so
    it survives crashes and restarts. The application also knows the file's path: while the file
    exists, it must not send mail or run jobs.

    Args:
        settings: The table ``[application]``.
        current: The link to the slot in use; commands get it as ``NCEN_CURRENT``.
        make_note: Called whenever the maintenance page is switched on; returns the reason.
        environment: Environment of the commands; a minimal one by default.
        clock: Monotonic seconds.
        wait: Waits for a number of seconds.
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
        self._maintenance_file = MaintenanceFile(settings.maintenance_file, make_note)
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
        """Return one part; called after the environment is set."""

    def describe_outage(self) -> LazyText | None:
        """Describe why it does not run, as far as known; None if it runs or is about to start."""
        return None if self.is_running() else LazyText(N_("not running"))

    def find_outside_installations(self) -> Mapping[str, str]:
        """Return the directory, by unit, of an application that does not start from ``current``."""
        return {}

    def is_running(self) -> bool:
        """Tell whether any process of any part runs."""
        return any(part.is_running() for part in self._parts)

    def observe_state(self) -> ProcessState:
        """Return the state of the main part, whose health is checked, and why it does not run.

        Raises:
            STATE_UNKNOWN: If the state cannot be determined.
        """
        return self._parts[0].observe_state()

    def was_stopped_on_request(self) -> bool:
        """Tell whether somebody else stopped a part on purpose; False if unknown.

        Raises:
            STATE_UNKNOWN: If the system does not answer.
        """
        return was_stopped_on_request(part.observe_state() for part in self._parts)

    def find_missing_parts(self, *, include_deferred: bool) -> tuple[str, ...]:
        """Return the names of further parts that do not run as they should.

        Args:
            include_deferred: Whether the deferred parts should run, too.
        """
        return tuple(
            part.name
            for part in self._parts
            if part.name
            and (include_deferred or not part.start_after_maintenance)
            and not part.is_stable(since_last_check=include_deferred)
        )

    def stop(self) -> None:
        """Stop every part, the last one first; return when no process or queued start is left.

        Raises:
            ApplicationError: If it does not stop in time.
        """
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
            logger.warning("the application stopped, but its stop command failed: %s", problem)

    def start(self) -> None:
        """Start the release of ``current``; return once this is requested, before it is healthy.

        Running parts and deferred parts are left alone.
        """
        self._start(start_after_maintenance=False)

    def start_deferred_parts(self) -> None:
        """Start the deferred parts, which wait until users have access, unless they run."""
        self._start(start_after_maintenance=True)

    def _start(self, *, start_after_maintenance: bool) -> None:
        for part in self._parts:
            if part.start_after_maintenance is start_after_maintenance and not part.is_running():
                logger.info("starting %s", part.what)
                part.request_start(self._settings.health_timeout_s)

    def enable_maintenance(self) -> None:
        """Show the maintenance page to users."""
        self._maintenance_file.write()

    def check_maintenance_page(self, *, rolling_back: bool) -> LazyText | None:
        """Return why the web server in front does not show the maintenance page; None if it does.

        Called only while the maintenance page is on.

        Args:
            rolling_back: Whether an unreachable web server is accepted, because it locks users out
                as well.
        """
        return check_maintenance_page(
            self._settings, self._clock, self._wait, rolling_back=rolling_back
        )

    def check_health_token(self) -> ApplicationError | None:
        """Return why the health token cannot be used; None if it can, or there is none."""
        try:
            self._prober.load_credentials()
        except ApplicationError as error:
            return error
        return None

    def _run_version_command(self, argv: Sequence[str], timeout_s: float) -> CommandResult:
        return run_command(argv, self._environment, timeout_s)

    def disable_maintenance(self) -> None:
        """Remove the maintenance page."""
        self._maintenance_file.remove()

    def is_in_maintenance(self) -> bool:
        """Tell whether the maintenance page is on."""
        return self._maintenance_file.exists()

    def read_maintenance_change(self) -> str:
        """Return the id of the change that switched maintenance on.

        Empty if maintenance is off, or an operator switched it on.
        """
        return self._maintenance_file.read_change()

    def check_health(
        self, expectation: HealthExpectation, *, include_deferred: bool = False
    ) -> HealthResult:
        """Check the health once, uncached, from outside, with a deadline for each request.

        Args:
            expectation: The expected report.
            include_deferred: Whether the deferred parts should run, too.
        """
        health = self._prober.check_health(expectation)
        # Checking a part runs a command, so parts are checked only if all requests succeeded.
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
    """Describe how a command ended."""
    if ended.status is None:
        template = N_("killed, since it did not end within {seconds} s")
        return LazyText(template, {"seconds": f"{timeout_s:g}"})
    if ended.status < 0:
        return LazyText(N_("killed by signal {signal}"), {"signal": -ended.status})
    return LazyText(N_("exit code {status}"), {"status": ended.status})


def describe_failed_stop(ended: CommandResult, timeout_s: float) -> LazyText | None:
    """Describe a failed stop command, with its output; None if it succeeded."""
    if ended.status == 0:
        return None
    values = {"name": describe_exit(ended, timeout_s), "text": ended.output}
    return LazyText(N_("{name}: {text}") if ended.output else "{name}", values)


def check_maintenance_page(
    settings: ApplicationSettings,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
    *,
    rolling_back: bool = False,
) -> LazyText | None:
    """Query the web server until it shows the maintenance page, or the time-out.

    A web server may cache for a moment which files exist. One that does not answer locks users out.
    Before an upgrade its URL may be wrong, so that is an error; it never blocks a rollback.

    Returns:
        The problem of its last answer; None if it shows the page, or no URL is configured.

    Raises:
        HEALTH_SETTINGS_WRONG: The URL cannot be used.
    """
    if settings.public_url is None:
        return None
    parts = urlsplit(settings.public_url)
    base = f"{parts.scheme}://{parts.netloc}"
    # The headers for the application are not sent to the web server in front.
    changes = {"health_url": base, "health_headers": None, "health_token_file": None}
    prober = HealthProber(settings.model_copy(update=changes))
    deadline = clock() + settings.probe_timeout_s
    while True:
        answer = prober.request_status(parts.path or "/")
        if answer == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        if clock() >= deadline:
            if isinstance(answer, int):
                return describe_status(answer)
            if rolling_back:
                logger.warning("the web server in front does not answer: %s", answer)
                return None
            return answer
        wait(POLL_S)


class ApplicationPart(abc.ABC):
    """Part of the application that is started and stopped as a unit.

    Args:
        name: Name in messages; empty for the main part, whose health is checked.
        start_after_maintenance: Whether it is deferred until users have access.
        what: Its name in the system, for the log.
    """

    def __init__(
        self, name: str = "", *, start_after_maintenance: bool = False, what: str = ""
    ) -> None:
        self.name, self.what = name, what or name or "the application"
        self.start_after_maintenance = start_after_maintenance

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Tell whether any of its processes runs.

        Raises:
            STATE_UNKNOWN: If this cannot be determined.
        """

    def is_at_rest(self) -> bool:
        """Tell whether no process runs and no start is queued."""
        return not self.is_running()

    def is_stable(self, *, since_last_check: bool = False) -> bool:
        """Tell whether it has run without interruption since the start or the first check.

        An adapter that knows no interruptions tells whether it runs.

        Args:
            since_last_check: Consider only the time since the last check.
        """
        return self.is_running()

    def observe_state(self) -> ProcessState:
        """Return its state, with the reason known to the system why it does not run."""
        return ProcessState(self.is_running())

    @abc.abstractmethod
    def request_stop(self, timeout_s: float) -> LazyText | None:
        """Request the stop; return the problem of the request, None if there is none."""

    @abc.abstractmethod
    def request_start(self, timeout_s: float) -> None:
        """Request the start.

        Raises:
            CommandError: If the request failed.
        """
