"""Find new events, store them in the outbox, and send them, in a thread of the service.

Each round reads the journal and the site, writes notifications into the outbox, and sends due
messages in a worker process. A failure is logged and retried; it does not affect the service loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.model.event_names import JOURNAL_FILE, NotificationKind
from ncen_updater.agent.policy.availability import Availability
from ncen_updater.agent.reports.status import (
    PARTS_WITHOUT_DATABASES,
    FileCache,
    JournalSnapshot,
    SiteStatus,
    get_part_or_none,
    read_mtime_ns,
    read_status,
)
from ncen_updater.agent.service.availability_cache import create_availability_cache
from ncen_updater.agent.service.notifications.conditions import (
    MIN_OUTAGE,
    AlertSettings,
    collect_notifications,
    detect_new_conditions,
    is_unplanned_outage,
)
from ncen_updater.agent.service.notifications.metrics import collect_metrics, write_metrics
from ncen_updater.agent.service.notifications.notification import MANDATORY_KINDS, Notification
from ncen_updater.agent.service.notifications.outbox import (
    DeliveryChannel,
    MessageLimits,
    Outbox,
    OutboxFile,
    SendLater,
    SendNow,
    decide_sending,
)
from ncen_updater.agent.service.notifications.send_worker import NotificationError
from ncen_updater.agent.service.snapshot import ServiceEvent
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTIFICATION_REFUSED, NOTIFY_ERROR, RECEIPT_NOT_DELIVERED
from ncen_updater.common.workers import (
    INHERITED_VARIABLES,
    Worker,
    WorkerError,
    WorkerLimits,
    WorkerTimeoutError,
    call_worker,
)

logger = logging.getLogger(__name__)

#: Total time limit: a server that sends single bytes slowly never exceeds its own read timeouts.
SEND_TIMEOUT_S = 180.0
RECEIPT_ERROR_CODES = range(9801, 9820)

#: Sends a request; returns the error code, or None on success.
Sender = Callable[[Mapping[str, object]], str | None]


def find_send_socket(config: AgentConfig) -> Path | None:
    """Return the socket of the sending unit, so that the service itself has no network access."""
    by_unit = config.service.runner == "systemd"
    return config.paths.resolve(config.service.send_socket) if by_unit else None


def create_sender(
    config_path: Path, socket: Path | None, limit_s: float = SEND_TIMEOUT_S
) -> Sender:
    """Return a function that sends one message in a worker process.

    Args:
        config_path: The configuration file; the worker reads it again.
        socket: Socket of the worker unit; None for a child process.
        limit_s: Time limit in seconds, after which the message counts as not delivered.
    """
    worker = _create_worker(config_path, socket, limit_s)
    return lambda request: _send(worker, request)


def _create_worker(
    config_path: Path, socket: Path | None, limit_s: float = SEND_TIMEOUT_S
) -> Worker:
    return Worker(
        "ncen_updater.agent.service.notifications.send_worker",
        (str(config_path.absolute()),),
        socket,
        WorkerLimits(total_timeout_s=limit_s, max_line_bytes=100_000, max_stream_bytes=100_000),
        expected_errors=(NotificationError, ConfigError, RECEIPT_ERROR_CODES),
        inherited_variables=(*INHERITED_VARIABLES, "CREDENTIALS_DIRECTORY"),
        stderr=False,  # a traceback would contain the message
    )


def send_receipt(config_path: Path, config: AgentConfig, address: str, content: bytes) -> None:
    """Send a receipt through the worker process, which has network access.

    Args:
        config_path: The configuration file.
        config: The configuration.
        address: Address from the signed root metadata.
        content: The receipt.

    Raises:
        UpdaterError: If it was not delivered.
    """
    request = {"channel": "receipt", "address": address, "content": content.decode()}
    try:
        call_worker(_create_worker(config_path, find_send_socket(config)), request)
    except WorkerError as error:
        reason = str(error.detail)[:200]
        raise UpdaterError(RECEIPT_NOT_DELIVERED, address=address, reason=reason) from error


def _send(worker: Worker, request: Mapping[str, object]) -> str | None:
    why: object = ""
    code = NOTIFY_ERROR.code
    try:
        answer = call_worker(worker, request)
        if answer.get("sent") is True:
            if answer.get("refused"):
                fields = {"code": NOTIFICATION_REFUSED.code}
                logger.warning("some addresses of a message were refused", extra=fields)
            return None
    except UpdaterError as error:
        code, why = error.code, error.title_text
    except WorkerError as error:
        late = "not in time: " if isinstance(error, WorkerTimeoutError) else ""
        hint = "; see 'systemctl status ncen-updater-send.socket'" if worker.socket else ""
        why = f"{late}{str(error.detail)[:300]}{hint}"
    logger.warning("a message was not delivered: %s", why, extra={"code": code})
    return code


#: Path below the state directory.
OUTBOX_PATH = "service/outbox.json"
#: Maximum time between two rounds: conditions such as a full disk cause no wake-up.
MAX_INTERVAL = timedelta(minutes=5)


class Notifier:
    """Notifier of one site.

    Args:
        config_path: The configuration file; read again after it changes.
        config: The current configuration.
        send: Sends one message.
        now: The wall clock.
        on_status: Called with each status of the site, for metrics.
        create_availability_reader: Creates a reader of the availability; by default this process
            probes it.
    """

    def __init__(
        self,
        config_path: Path,
        config: AgentConfig,
        *,
        send: Sender,
        now: Callable[[], datetime],
        on_status: Callable[[AgentConfig, SiteStatus, Outbox], None] = lambda *_: None,
        create_availability_reader: Callable[[Path, AgentConfig], Callable[[], Availability]]
        | None = None,
    ) -> None:
        self._path = config_path
        self._send, self._now, self._on_status = send, now, on_status
        self._create_availability_reader = create_availability_reader
        self._down_since: datetime | None = None
        self._apply_config(config, read_mtime_ns(config_path))

    def _apply_config(self, config: AgentConfig, mtime: int) -> None:
        self._config, self._config_mtime = config, mtime
        self._settings = load_essential_settings(self._path)
        self._journal = self._settings.state / JOURNAL_FILE
        self._file = OutboxFile(self._settings.state / OUTBOX_PATH)
        self._cache: FileCache = {}
        create = self._create_availability_reader
        self._read_availability = create(self._path, config) if create else None

    def _reload_config(self) -> None:
        """Apply a changed configuration; keep the old one if the new one is invalid."""
        mtime = read_mtime_ns(self._path)
        if mtime == self._config_mtime:
            return
        try:
            self._apply_config(load_config(self._path), mtime)
        except UpdaterError as error:
            logger.warning("keeping the old settings: %s", error, extra={"code": error.code})
            self._config_mtime = mtime

    def run_round(self) -> datetime:
        """Read, store and send; return the time of the next round, unless it is woken earlier."""
        self._reload_config()
        status = read_status(
            self._settings,
            self._now(),
            PARTS_WITHOUT_DATABASES,
            config=self._config,
            cache=self._cache,
            probe=self._read_availability,
        )
        down = is_unplanned_outage(status)
        if down is not None:
            self._down_since = (self._down_since or status.now) if down else None
        outbox = self._collect_notifications(status)
        journal = get_part_or_none(status.journal)
        for name in outbox.channels:
            outbox = self._deliver(outbox, name, journal.head if journal else "")
        self._on_status(self._config, status, outbox)
        return self._compute_next_round(outbox, self._now())

    # ---- collecting ------------------------------------------------------------------------------

    def _collect_notifications(self, status: SiteStatus) -> Outbox:
        before, journal = self._file.load(), get_part_or_none(status.journal)
        notify = self._config.notify
        channels = [name for name in ("mail", "webhook") if getattr(notify, name) is not None]
        # In the first round, past events are not reported.
        outbox = before or Outbox(last_event=journal.last_event if journal else 0)
        last_event, events = self._collect_from_journal(outbox.last_event, journal)
        limits = AlertSettings(notify, self._config.service, self._config.soak)
        conditions, reported = detect_new_conditions(
            status, limits, outbox.reported, self._down_since
        )
        disabled = frozenset(notify.disabled_kinds)
        if NotificationKind.APPLICATION_DOWN in disabled:
            disabled |= {NotificationKind.APPLICATION_UP}
        disabled -= MANDATORY_KINDS
        new = [item for item in (*events, *conditions) if item.kind not in disabled]
        outbox = outbox.with_notifications(last_event, reported, new, channels)
        outbox = outbox.without_expired(status.now)
        if outbox != before:
            self._file.save(outbox)
        return outbox

    def _collect_from_journal(
        self, after: int, seen: JournalSnapshot | None
    ) -> tuple[int, tuple[Notification, ...]]:
        """Return the notifications of events after a number, up to the time of the snapshot.

        Returns:
            The number of the last event read, and the notifications. Events that cannot be read
            now are read in a later round.
        """
        if seen is None:
            return after, ()
        try:
            with Journal.open(self._journal, read_only=True) as journal:
                # A restored journal with fewer events yields nothing: its events are old.
                return seen.last_event, collect_notifications(journal, after, seen.last_event)
        except UpdaterError as error:
            logger.warning("cannot read the journal: %s", error, extra={"code": error.code})
            return after, ()

    # ---- sending ---------------------------------------------------------------------------------

    def _find_next_delivery(
        self, outbox: Outbox, channel: DeliveryChannel, now: datetime
    ) -> SendNow | SendLater | None:
        retry_at = channel.compute_retry_time()
        if retry_at is not None and min(retry_at, now + timedelta(hours=1)) > now:
            return SendLater(min(retry_at, now + timedelta(hours=1)))
        if channel.message is not None:
            return SendNow(channel.message.notification_ids)
        notify = self._config.notify
        waiting = [
            item for item in map(outbox.notifications.get, channel.pending) if item is not None
        ]
        limits = MessageLimits(notify.max_per_hour, timedelta(seconds=notify.batch_s))
        return decide_sending(waiting, channel.sent_at, now, limits)

    def _deliver(self, outbox: Outbox, name: str, chain_head: str) -> Outbox:
        now = self._now()
        due = self._find_next_delivery(outbox, outbox.channels[name], now)
        if not isinstance(due, SendNow):
            return outbox
        if outbox.channels[name].message is None:
            outbox = outbox.start_delivery(name, due.ids)
            self._file.save(outbox)
        channel = outbox.channels[name]
        assert channel.message is not None  # noqa: S101 - started above
        code = self._send(
            {
                "channel": name,
                "id": channel.message.id,
                "dropped": channel.dropped,
                "chain_head": chain_head,
                "notifications": [
                    outbox.notifications[number].to_json()
                    for number in channel.message.notification_ids
                ],
            }
        )
        at = self._now()
        outbox = outbox.mark_sent(name, at) if code is None else outbox.mark_failed(name, at)
        self._file.save(outbox)
        return outbox

    def _compute_next_round(self, outbox: Outbox, now: datetime) -> datetime:
        ends = [now + MAX_INTERVAL]
        if (
            self._down_since is not None
            and NotificationKind.APPLICATION_DOWN not in outbox.reported
        ):
            ends.append(max(now, self._down_since + MIN_OUTAGE))
        for channel in outbox.channels.values():
            due = self._find_next_delivery(outbox, channel, now)
            if isinstance(due, SendLater):
                ends.append(due.until)
            elif isinstance(due, SendNow):
                ends.append(now)
        return min(ends)


#: Interval for checking the journal's file; minimum pause between two rounds.
POLL_INTERVAL_S, MIN_PAUSE_S = 10.0, 0.5


#: How long the service waits for the thread when it stops.
JOIN_TIMEOUT_S = 3.0


def _now() -> datetime:
    return datetime.now(UTC)


class NotifierThread:
    """Thread that runs the notifier of one site while the service runs.

    Args:
        config_path: The configuration file.
    """

    def __init__(self, config_path: Path) -> None:
        self._path = config_path
        self._woken = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._runs: Counter[tuple[str, int]] = Counter()
        self._status_read_at: datetime | None = None
        self._agent = version("ncen-updater")

    def handle_event(self, event: ServiceEvent) -> None:
        """Receive an event of the service; start the thread at the first one. Never blocks."""
        self._status_read_at = _now()
        if self._thread is None:
            self._start()
        if event.kind in ("done", "failed"):
            action, code = event.values.get("action"), event.values.get("exit_code")
            if isinstance(action, str) and isinstance(code, int):
                self._runs[(action, code)] += 1
        self._woken.set()

    def stop(self) -> None:
        """Stop the thread; a message that is being sent is sent again after the next start."""
        self._ending = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT_S)

    def _start(self) -> None:
        config = load_config(self._path)
        state = config.paths.resolve(config.paths.state)
        notifier = Notifier(
            self._path,
            config,
            send=create_sender(self._path, find_send_socket(config)),
            now=_now,
            on_status=self._write_metrics,
            create_availability_reader=create_availability_cache,
        )
        self._thread = threading.Thread(
            target=self._run,
            args=(notifier, state / JOURNAL_FILE),
            name="notifications",
            daemon=True,
        )
        self._thread.start()

    def _run(self, notifier: Notifier, journal: Path) -> None:
        while not self._ending:
            self._woken.clear()
            seen = read_mtime_ns(journal)
            try:
                until = notifier.run_round()
            except Exception:
                logger.exception("a round of notifications failed; retrying")
                until = None
            self._sleep(journal, seen, until)

    def _sleep(self, journal: Path, seen: int, until: datetime | None) -> None:
        """Sleep until the given time, an event of the service, or a change of the journal."""
        slept = 0.0
        while not self._ending:
            left = (until - _now()).total_seconds() if until else 300.0 - slept
            pause = max(MIN_PAUSE_S, min(left, POLL_INTERVAL_S))
            woken = self._woken.wait(pause)
            slept += pause
            if woken and not self._ending:
                # Let a command finish a burst of writes, so that one round reports them.
                time.sleep(MIN_PAUSE_S)
            if woken or left <= pause or read_mtime_ns(journal) != seen:
                return

    def _write_metrics(self, config: AgentConfig, site: SiteStatus, outbox: Outbox) -> None:
        path = config.metrics.file
        if path is None:
            return
        samples = collect_metrics(
            config, site, outbox, agent_version=self._agent, runs=dict(self._runs),
            status_read_at=self._status_read_at,
        )  # fmt: skip
        try:
            write_metrics(path, samples)
        except OSError as error:
            logger.warning("cannot write metrics: %s", error)
