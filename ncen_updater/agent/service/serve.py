"""Process of the service: runs the loop, and wakes it for signals, jobs and journal changes."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.event_names import AGENT_CONFIRMED, JOURNAL_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.policy.automation import ActionFailure, ServiceAction, ServiceDecision
from ncen_updater.agent.policy.restart_policy import ProcessState
from ncen_updater.agent.policy.windows import compute_next_check
from ncen_updater.agent.reports.status import read_mtime_ns, read_status
from ncen_updater.agent.self_update.agent_directory import choose_action_handler
from ncen_updater.agent.self_update.trial import AgentTrial
from ncen_updater.agent.service.api.server import start_api
from ncen_updater.agent.service.apply_runner import ApplyRunner
from ncen_updater.agent.service.inspections import InspectionQueue
from ncen_updater.agent.service.loop import (
    STATUS_PARTS,
    CheckScheduler,
    ServiceLoop,
    save_service_state,
)
from ncen_updater.agent.service.snapshot import ServiceEvent, SnapshotStore
from ncen_updater.agent.service.systemd_notify import SystemdNotifier
from ncen_updater.agent.storage.agent_selection import AgentSelectionFile
from ncen_updater.agent.storage.journal.jobs import JournalJobRecorder
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import (
    SERVICE_STATE_PATH,
    ServiceState,
    ServiceStateFile,
)
from ncen_updater.common.cli.program import TerminationHandler
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import RUNNER_UNIT_MISMATCH

logger = logging.getLogger(__name__)

MAX_SLEEP_S = 20.0
#: Difference between wall clock and monotonic clock in one sleep that counts as a clock change.
CLOCK_JUMP_S = 5.0
#: Environment variable by which the packaged unit states that worker units run the commands.
RUNNER_VARIABLE = "NCEN_RUNNER"

#: Commands that need the databases without other sessions.
EXCLUSIVE_COMMANDS = frozenset({"upgrade", "rollback", "resume"})
#: Minimum pause between two actions, so that an error cannot cause a busy loop.
MIN_PAUSE_S = 0.5
#: Retry interval after an operating system error, such as a full disk.
RETRY_S = 60

Listener = Callable[[ServiceEvent], None]


def _now() -> datetime:
    return datetime.now(UTC)


def create_check_scheduler(config: AgentConfig) -> CheckScheduler:
    """Return a function that schedules the checks of a site's feed.

    A failed check is repeated with increasing delays, so that a feed that is down for half a day
    does not receive requests from every site every ten minutes. Each site also has its own offset
    within the interval, which spreads the load of thousands of sites.
    """

    def schedule(now: datetime, failure: ActionFailure | None) -> datetime:
        interval = timedelta(hours=config.service.check_interval_hours)
        regular = compute_next_check(now, now, interval, config.site.id)
        return (
            min(regular, failure.compute_retry_at(ServiceAction.CHECK_FEED)) if failure else regular
        )

    return schedule


def delay_missed_check(
    service_state: ServiceState, config: AgentConfig, now: datetime
) -> ServiceState:
    """Return the state with a missed check delayed by an offset of the site. Pure.

    Many machines may be switched on at the same time in the morning or after a power failure.
    """
    if service_state.next_check is None or service_state.next_check > now:
        return service_state
    interval = timedelta(hours=config.service.check_interval_hours)
    return replace(
        service_state, next_check=compute_next_check(now, None, interval, config.site.id)
    )


def run_service(
    config_path: Path,
    *,
    listeners: tuple[Listener, ...] = (),
    in_force: Path | None = None,
) -> None:
    """Run the service until a signal stops it.

    Args:
        config_path: The configuration file; read again on SIGHUP.
        listeners: Receive the service's events; an exception of a listener is only logged.
        in_force: Configuration to start with; the last valid one if that file is invalid.

    Raises:
        UpdaterError: If the configuration is invalid, another service is running, or this agent
            could not confirm itself.
    """
    usable = in_force or config_path
    config = load_config(usable, check_disk=in_force is None)
    if config.service.runner == "process" and os.environ.get(RUNNER_VARIABLE) == "systemd":
        raise ConfigError(RUNNER_UNIT_MISMATCH, path=config_path)
    state = config.paths.resolve(config.paths.state)
    notifier = SystemdNotifier()
    essential_settings = replace(load_essential_settings(usable), config_path=config_path)
    waker = WakeupPipe(notifier.ping_watchdog, lambda: read_mtime_ns(state / JOURNAL_FILE))
    snapshots = SnapshotStore(config.service, _now)
    uses_units = config.service.runner == "systemd"
    socket = config.paths.resolve(config.service.apply_socket) if uses_units else None
    renew = config.paths.resolve(config.service.renew_socket) if uses_units else None
    runner = ApplyRunner(
        config_path, socket, notifier.ping_watchdog, lambda: waker.is_stopping, snapshots, renew
    )
    jobs = JournalJobRecorder(state / JOURNAL_FILE)

    def publish(event: ServiceEvent) -> None:
        for listener in (snapshots.handle_event, *listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed", extra={"happening": event.kind})

    with (
        hold_change_lock(state / SERVICE_LOCK_FILE, "service"),
        waker.handle_signals(),
    ):
        trial = _create_agent_trial(config, runner, notifier.ping_watchdog)
        state_file = ServiceStateFile(state / SERVICE_STATE_PATH)
        # Stored, so that a service that restarts repeatedly still checks eventually.
        save_service_state(state_file, delay_missed_check(state_file.load(), config, _now()))
        service = ServiceLoop(
            config.service,
            read_status=lambda: read_status(essential_settings, _now(), STATUS_PARTS),
            state_store=state_file,
            job_recorder=jobs,
            runner=runner,
            schedule_check=create_check_scheduler(config),
            now=_now,
            publish=publish,
            is_on_trial=lambda: trial.on_trial,
            probe_running=lambda: _probe_running(config_path),
            get_boot_id=SystemClock().boot_id,
            find_due_receipt=lambda: _find_due_receipt(state / JOURNAL_FILE),
        )
        _end_interrupted_jobs(jobs)
        inspections = InspectionQueue(
            runner, _now, _create_blocking_check(snapshots, state / JOURNAL_FILE)
        )
        stop_api = start_api(
            config_path, config, snapshots=snapshots, state_file=state_file, wake=waker.wake,
            now=_now, inspections=inspections, essential_settings=essential_settings,
        )  # fmt: skip
        try:
            notifier.notify_ready()
            publish(ServiceEvent("started", {}))
            _run_loop(service, waker, notifier, trial, snapshots, jobs, config_path)
        finally:
            notifier.notify_stopping()
            stop_api()
            waker.close()


def _create_blocking_check(snapshots: SnapshotStore, journal_path: Path) -> Callable[[], bool]:
    """Return a check of whether an operation is running that inspections would disturb.

    Such operations are commands of the service and changes of any process, during which the
    databases accept no other sessions; not a soak period.
    """
    seen_mtime, change_open, soaking = -1, False, False

    def is_blocked() -> bool:
        nonlocal seen_mtime, change_open, soaking
        running = snapshots.get_latest().running
        exclusive = running is not None and running.command[0] in EXCLUSIVE_COMMANDS
        exclusive = exclusive and running is not None and "--dry-run" not in running.command
        mtime = read_mtime_ns(journal_path)
        if mtime != seen_mtime:
            try:
                with Journal.open(journal_path, read_only=True) as journal:
                    change = journal.find_open_change()
            except UpdaterError:  # the inspection itself reports the error
                return exclusive
            change_open = change is not None and change.state is not ChangeState.STUCK
            soaking = change is not None and change.is_soaking
            seen_mtime = mtime
        return (exclusive or change_open) and not soaking

    return is_blocked


def _find_due_receipt(journal: Path) -> datetime | None:
    """Return when a receipt is due to be sent; None if none is, or if the journal is unreadable."""
    from ncen_updater.agent.reports.receipt import find_due_receipt

    try:
        with Journal.open(journal, read_only=True) as opened:
            due = find_due_receipt(opened)
    except (KeyError, ValueError, UpdaterError) as error:
        logger.debug("cannot determine whether a receipt is due: %s", error)
        return None
    return due[0] if due is not None else None


def _probe_running(config_path: Path) -> ProcessState | None:
    """Return whether the application is running; None if this process cannot tell."""
    from ncen_updater.agent.engine.site_factory import make_application

    try:
        config = load_config(config_path)
        current = config.paths.resolve(config.paths.current)
        return make_application(config.application, current).observe_state()
    except (OSError, UpdaterError) as error:
        logger.debug("cannot determine whether the application runs: %s", error)
        return None


def _end_interrupted_jobs(recorder: JournalJobRecorder) -> None:
    try:
        recorder.end_interrupted()
    except UpdaterError as error:
        logger.warning("interrupted jobs stay unfinished for now: %s", error)


def _create_agent_trial(
    config: AgentConfig, runner: ApplyRunner, send_heartbeat: Callable[[], None]
) -> AgentTrial:
    socket = config.paths.resolve(config.service.renew_socket)
    directory = config.paths.resolve(config.paths.agent_slots)
    journal_path = config.paths.resolve(config.paths.state) / JOURNAL_FILE
    agent = version("ncen-updater")

    def record_confirmation() -> None:
        with Journal.open(journal_path) as journal:
            journal.record_event(AGENT_CONFIRMED, version=agent)

    return AgentTrial(
        AgentSelectionFile(directory),
        agent,
        config.service.confirm_agent_s,
        check_reachability=runner.check_reachability,
        record_confirmation=record_confirmation,
        run_action=choose_action_handler(directory, socket, agent, _now, send_heartbeat),
        monotonic=time.monotonic,
    )


def _run_loop(
    service: ServiceLoop,
    waker: WakeupPipe,
    notifier: SystemdNotifier,
    trial: AgentTrial,
    snapshots: SnapshotStore,
    recorder: JournalJobRecorder,
    config_path: Path,
) -> None:
    has_cycled = False
    while not waker.is_stopping:
        if waker.consume_reload():
            notifier.notify_reloading()
            _reload_config(service, snapshots, config_path)
            notifier.notify_ready()
        notifier.ping_watchdog()
        journal_mtime = waker.read_journal_mtime()
        decision = _run_step(service, recorder)
        notifier.notify_status(decision.reason.render())
        waits = decision.action is ServiceAction.WAIT and decision.until is not None
        left = (decision.until - _now()).total_seconds() if waits and decision.until else 0.0
        verdict = trial.run_after_step()
        if verdict.should_exit:
            return
        if verdict.retry_after_s is not None:
            left = min(left, verdict.retry_after_s)
        has_cycled = True
        waker.sleep(max(left, MIN_PAUSE_S), journal_mtime if waits else None)
    if has_cycled:
        trial.uncount_start()


def _run_step(service: ServiceLoop, recorder: JournalJobRecorder) -> ServiceDecision:
    """Perform one action, or wait after an error: a full disk must not end the service.

    An interrupted action is in the journal, and the next step resumes it.
    """
    if recorder.interrupted:
        _end_interrupted_jobs(recorder)
    try:
        return service.run_once()
    except (OSError, UpdaterError) as error:
        logger.error("the service continues in %s s: %s", RETRY_S, error)
        recorder.interrupted = True
        reason = LazyText(N_("service failed: {error}"), {"error": str(error)})
        return ServiceDecision(ServiceAction.WAIT, reason, _now() + timedelta(seconds=RETRY_S))


def _reload_config(service: ServiceLoop, snapshots: SnapshotStore, config_path: Path) -> None:
    """Continue with the new configuration, or with the old one if the new one is invalid."""
    try:
        settings = load_config(config_path).service
        service.reload(settings)
        snapshots.update_settings(settings)
    except UpdaterError as error:
        logger.error("keeping the old configuration: %s", error)
    else:
        logger.info("configuration reloaded")


class WakeupPipe:
    """Interruptible sleep of the service.

    Args:
        send_heartbeat: Called before each slice of sleep; sends a heartbeat to the watchdog.
        read_mtime: Returns the journal's modification time; a change ends the sleep.
        max_sleep_s: Length of a slice, in seconds.
        wall: The wall clock, in seconds.
    """

    def __init__(
        self,
        send_heartbeat: Callable[[], None],
        read_mtime: Callable[[], int],
        max_sleep_s: float = MAX_SLEEP_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._send_heartbeat, self._read_mtime, self._max_sleep_s = (
            send_heartbeat,
            read_mtime,
            max_sleep_s,
        )
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = self._reload = False

    @property
    def is_stopping(self) -> bool:
        """Return whether the service is stopping."""
        return self._stop

    def stop(self) -> None:
        """Request the stop of the service."""
        self._stop = True
        self.wake()

    def wake(self) -> None:
        """End a sleep; safe in signal handlers and from any thread."""
        # If the pipe is full, the sleeper is already being woken.
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"x")

    def consume_reload(self) -> bool:
        """Return whether a reload was requested, and clear the request."""
        requested, self._reload = self._reload, False
        return requested

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT as a stop, and SIGHUP as a reload.

        A SIGTERM received earlier by :class:`TerminationHandler` counts as a stop as well.
        """

        def on_signal(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP:
                self._reload = True
            else:
                self._stop = True
            self.wake()

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in numbers}
        earlier = before[signal.SIGTERM]
        if isinstance(earlier, TerminationHandler) and earlier.received_signal is signal.SIGTERM:
            self.stop()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def read_journal_mtime(self) -> int:
        """Return the journal's modification time for :meth:`sleep`; call before reading the status.

        Otherwise a change between reading the status and sleeping would be missed.
        """
        return self._read_mtime()

    def sleep(self, seconds: float, seen_mtime: int | None = None) -> None:
        """Sleep until the time has passed, :meth:`wake` is called, or the journal changes.

        A clock change or a suspend of the machine ends the sleep within one slice, since the
        awaited time may have come.

        Args:
            seconds: Maximum duration.
            seen_mtime: Modification time when the status was read; by default the current one.
        """
        started = time.monotonic()
        until, clock_offset = started + seconds, self._wall() - started
        seen = self._read_mtime() if seen_mtime is None else seen_mtime
        while not (self._stop or self._reload):
            self._send_heartbeat()
            now = time.monotonic()
            left, jumped = until - now, abs(self._wall() - now - clock_offset) > CLOCK_JUMP_S
            if left <= 0 or jumped or self._read_mtime() != seen:
                return
            if select.select([self._reader], [], [], min(left, self._max_sleep_s))[0]:
                self._drain()
                return

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reader)
        os.close(self._writer)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
