"""Runner of the service's work: a process for each command, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.service.errors import BadRequestError
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INSPECTION_FAILED
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.common.workers import (
    INHERITED_VARIABLES,
    Worker,
    WorkerError,
    WorkerLimits,
    WorkerTimeoutError,
    call_worker,
)

logger = logging.getLogger(__name__)

#: Shell for "cannot be run"; no command of ours ends with it.
EXIT_CANNOT_RUN = 126
#: What writes to the agent's own code, for which there is a unit of its own.
RENEWING = frozenset({"self-update"})
APPLY_WORKER_MODULE = "ncen_updater.agent.cli.worker"
#: Work on the site may last for hours, and gives signs of life all the time. A unit that gives none
#: is ended by systemd before that (WatchdogSec=).
APPLY_WORKER_LIMITS = WorkerLimits(silence_timeout_s=600, max_line_bytes=100_000_000)
#: What stands around what an inspection found, and so many lines of progress, in bytes; what is
#: not English takes up to three times as many on the way, where only ASCII crosses.
ENVELOPE_BYTES, PROGRESS_BYTES, ASCII_EXPANSION = 100_000, 10_000_000, 3
#: So much longer than the inspection's own limit is waited for its end.
GRACE_S = 15.0
#: What work on the site gets of the environment beside that: what the commands of the application
#: and its migrators inherit in turn, the way to the journal of systemd, and libpq's own names for
#: what the configuration has no setting for.
WORK_VARIABLES = (
    *INHERITED_VARIABLES,
    "JOURNAL_STREAM", "LC_MESSAGES", "LOGNAME", "NCEN_LANG", "TMPDIR", "USER", "XDG_RUNTIME_DIR",
    "PGPASSFILE", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLKEY",
    "PGSSLMAXPROTOCOLVERSION", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLNEGOTIATION",
    "PGSSLROOTCERT", "PGSSLSNI",
)  # fmt: skip


@dataclass(frozen=True)
class WorkerResult:
    """What a command came to.

    Attributes:
        exit_code: Its exit code; 128 plus the number of the signal that ended it.
        document: What it wrote with ``--json``; empty where that could not be read.
    """

    exit_code: int
    document: Mapping[str, object]

    @property
    def error_code(self) -> str | None:
        """Return the stable code of its error, if it ended with one."""
        error = self.document.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) else None


class ApplyRunner:
    """Lets :mod:`~ncen_updater.agent.cli.worker` do each command.

    It is a child, or one that systemd starts with rights of its own. It goes on when the service
    dies: what it leaves is brought to its end by the next ``resume``. When the service is stopped
    it is asked to end too, and reverts where that costs nothing.

    Args:
        config: The configuration file.
        socket: Where systemd waits; None for a child.
        send_heartbeat: Called about once a second while the work goes on.
        is_stopping: Whether the service is to end.
        observer: Told of commands and of their progress.
        renew: Where systemd waits for what writes the agent's own code; as ``socket`` by default.
    """

    def __init__(
        self,
        config: Path,
        socket: Path | None,
        send_heartbeat: Callable[[], None],
        is_stopping: Callable[[], bool],
        observer: SnapshotStore,
        renew: Path | None = None,
    ) -> None:
        self._config, self._socket = config.absolute(), socket
        self._alive, self._asked, self._watcher = send_heartbeat, is_stopping, observer
        self._renew = renew or socket

    def run(self, command: Sequence[str]) -> WorkerResult:
        """Run a command; what it says of its work goes to the watcher."""
        self._watcher.record_start(command)
        try:
            return self._run_worker(command)
        finally:
            self._watcher.record_end()

    def assess(self) -> WorkerResult:
        """Run what assesses."""
        return self._run_worker(["assess"])

    def inspect(
        self,
        command: Sequence[str],
        on_progress: Callable[[ProgressUpdate], None],
        should_stop: Callable[[], bool],
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> WorkerResult:
        """Run a command that only reads.

        It may go on beside :meth:`run`, of which the watcher is told and of this not. It ends with
        this process.

        Args:
            command: The command.
            on_progress: Called with progress.
            should_stop: Asked about once a second whether it is to end.
            timeout_s: After which it is ended.
            max_bytes: Bytes that it may find.

        Raises:
            TimeoutError: If its time was over.
            OverflowError: If it found more than that.
            UpdaterError: If it came to no result.
        """
        line = ASCII_EXPANSION * max_bytes + ENVELOPE_BYTES
        limits = WorkerLimits(
            total_timeout_s=timeout_s + GRACE_S,
            max_line_bytes=line,
            max_stream_bytes=line + PROGRESS_BYTES,
        )
        worker = self._create_worker(command, limits, bound_to_parent=True)
        order = {"command": list(command), "inspect": {"seconds": timeout_s, "most": max_bytes}}
        try:
            result = call_worker(worker, order, _ProgressForwarder(on_progress), ending=should_stop)
        except WorkerTimeoutError as error:
            raise TimeoutError from error
        except WorkerError as error:
            raise UpdaterError(INSPECTION_FAILED, reason=str(error.detail)[-500:]) from error
        code, document = result.get("exit_code"), result.get("document")
        if result.get("overdue"):
            raise TimeoutError
        if result.get("too_large"):
            raise OverflowError
        if type(code) is int and isinstance(document, dict):
            return WorkerResult(code, document)
        raise UpdaterError(INSPECTION_FAILED, reason="no result")

    def check_reachability(self) -> bool:
        """Tell whether journal, lists and databases are in reach of who works on the site."""
        return self._run_worker(["in-reach"]).exit_code == 0

    def report(self, text: LazyText, done: int | None = None, total: int | None = None) -> None:
        """Pass progress on to the watcher."""
        _ProgressForwarder(self._watcher.record_progress).report(text, done, total)

    def _run_worker(self, command: Sequence[str]) -> WorkerResult:
        worker = self._create_worker(command, APPLY_WORKER_LIMITS, bound_to_parent=False)
        try:
            result = call_worker(worker, {"command": list(command)}, self, ending=self._should_stop)
        except (WorkerError, UpdaterError) as error:
            return self._log_failure(error)
        code, document = result.get("exit_code"), result.get("document")
        if type(code) is int and isinstance(document, dict):
            return WorkerResult(code, document)
        return self._log_failure(WorkerError("no result"))

    def _create_worker(
        self, command: Sequence[str], limits: WorkerLimits, *, bound_to_parent: bool
    ) -> Worker:
        return Worker(
            APPLY_WORKER_MODULE,
            # The words are for people who look at the processes; the order has them, too.
            (str(self._config), *command),
            self._renew if command[0] in RENEWING else self._socket,
            limits,
            expected_errors=(BadRequestError,),
            ends_with_caller=bound_to_parent,
            inherited_variables=WORK_VARIABLES,
            stderr=True,
        )

    def _should_stop(self) -> bool:
        self._alive()
        return self._asked()

    def _log_failure(self, error: WorkerError | UpdaterError) -> WorkerResult:
        status = error.status if isinstance(error, WorkerError) else None
        unit = f" ({self._socket}; see 'systemctl status ncen-updater-apply.socket')"
        logger.error(
            "what works on the site ended without a result%s: %s",
            unit if self._socket else "", error,
        )  # fmt: skip
        return WorkerResult(EXIT_CANNOT_RUN if not status else abs(status) + 128 * (status < 0), {})


class _ProgressForwarder:
    """Passes progress on as it crosses."""

    def __init__(self, on_progress: Callable[[ProgressUpdate], None]) -> None:
        self._on_progress = on_progress

    def report(self, text: LazyText, done: int | None = None, total: int | None = None) -> None:
        values = {name: str(value) for name, value in text.values.items()}
        self._on_progress(ProgressUpdate(text.template, values, done, total))
