"""Runner of the service's commands, each in a worker process."""

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
from ncen_updater.common.progress import Amount, ProgressUpdate
from ncen_updater.common.workers import (
    INHERITED_VARIABLES,
    Worker,
    WorkerError,
    WorkerLimits,
    WorkerTimeoutError,
    call_worker,
)

logger = logging.getLogger(__name__)

#: Exit status of a shell for a command that cannot be executed; no command of the agent uses it.
EXIT_CANNOT_RUN = 126
#: Commands that write to the agent's own directory, for which there is a separate unit.
RENEWING = frozenset({"self-update"})
APPLY_WORKER_MODULE = "ncen_updater.agent.cli.worker"
#: Changes may take hours but report progress all the time. systemd ends a silent unit earlier
#: (WatchdogSec=).
APPLY_WORKER_LIMITS = WorkerLimits(silence_timeout_s=600, max_line_bytes=100_000_000)
#: Bytes around the result of an inspection; bytes of progress messages. Non-ASCII text is escaped
#: for the transfer and takes up to three times its size.
ENVELOPE_BYTES, PROGRESS_BYTES, ASCII_EXPANSION = 100_000, 10_000_000, 3
#: Time added to the inspection's own limit before the worker is killed.
GRACE_S = 15.0
#: Environment variables of the worker in addition to the inherited ones: those that the
#: application's commands and migrators need, access to the systemd journal, and libpq variables for
#: which the configuration has no setting.
WORK_VARIABLES = (
    *INHERITED_VARIABLES,
    "JOURNAL_STREAM", "LC_MESSAGES", "LOGNAME", "NCEN_LANG", "TMPDIR", "USER", "XDG_RUNTIME_DIR",
    "PGPASSFILE", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLKEY",
    "PGSSLMAXPROTOCOLVERSION", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLNEGOTIATION",
    "PGSSLROOTCERT", "PGSSLSNI",
)  # fmt: skip


@dataclass(frozen=True)
class WorkerResult:
    """Result of a command.

    Attributes:
        exit_code: Its exit status; 128 plus the signal number if a signal ended it.
        document: Its ``--json`` output; empty if there was none or it was invalid.
    """

    exit_code: int
    document: Mapping[str, object]

    @property
    def error_code(self) -> str | None:
        """Return the code of the command's error, if any."""
        error = self.document.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) else None


class ApplyRunner:
    """Runs commands in :mod:`~ncen_updater.agent.cli.worker`.

    The worker is a child process, or a unit that systemd starts with its own privileges. It
    continues if the service crashes: the next ``resume`` completes an interrupted change. If the
    service is stopped, the worker receives a stop request as well, and reverts the change at steps
    where a revert is free (docs/explanation/crash-safety.md).

    Args:
        config: The configuration file.
        socket: Socket of the worker unit; None for a child process.
        send_heartbeat: Called about once a second during a command.
        is_stopping: Returns whether the service is stopping.
        observer: Receives commands and their progress.
        renew: Socket of the unit for commands that write to the agent's own directory; by default
            ``socket``.
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
        self._send_heartbeat, self._is_stopping, self._observer = (
            send_heartbeat,
            is_stopping,
            observer,
        )
        self._renew = renew or socket

    def run(self, command: Sequence[str]) -> WorkerResult:
        """Run a command; its progress goes to the observer."""
        self._observer.record_start(command)
        try:
            return self._run_worker(command)
        finally:
            self._observer.record_end()

    def assess(self) -> WorkerResult:
        """Run the assessment."""
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
        """Run a read-only command.

        It may run at the same time as :meth:`run`, and does not report to the observer. It ends
        with this process.

        Args:
            command: The command.
            on_progress: Called with the progress.
            should_stop: Called about once a second; returns whether to stop the command.
            timeout_s: Time limit in seconds.
            max_bytes: Size limit of the result in bytes.

        Raises:
            TimeoutError: If the command exceeded the time limit.
            OverflowError: If the result exceeded the size limit.
            UpdaterError: If there was no result.
        """
        max_line_bytes = ASCII_EXPANSION * max_bytes + ENVELOPE_BYTES
        limits = WorkerLimits(
            total_timeout_s=timeout_s + GRACE_S,
            max_line_bytes=max_line_bytes,
            max_stream_bytes=max_line_bytes + PROGRESS_BYTES,
        )
        worker = self._create_worker(command, limits, bound_to_parent=True)
        request = {
            "command": list(command),
            "inspect": {"timeout_s": timeout_s, "max_bytes": max_bytes},
        }
        forwarder = _ProgressForwarder(on_progress)
        try:
            result = call_worker(worker, request, forwarder, ending=should_stop)
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
        """Return whether the worker can read journal, metadata and databases."""
        return self._run_worker(["in-reach"]).exit_code == 0

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        """Forward progress to the observer."""
        _ProgressForwarder(self._observer.record_progress).report(text, amount)

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
            # The command is an argument only for process lists; the worker reads it from the
            # request.
            (str(self._config), *command),
            self._renew if command[0] in RENEWING else self._socket,
            limits,
            expected_errors=(BadRequestError,),
            ends_with_caller=bound_to_parent,
            inherited_variables=WORK_VARIABLES,
            stderr=True,
        )

    def _should_stop(self) -> bool:
        self._send_heartbeat()
        return self._is_stopping()

    def _log_failure(self, error: WorkerError | UpdaterError) -> WorkerResult:
        status = error.status if isinstance(error, WorkerError) else None
        unit = f" ({self._socket}; see 'systemctl status ncen-updater-apply.socket')"
        logger.error(
            "an operation exited without a result%s: %s",
            unit if self._socket else "", error,
        )  # fmt: skip
        if not status:
            return WorkerResult(EXIT_CANNOT_RUN, {})
        return WorkerResult(
            status if status > 0 else 128 - status, {}
        )  # as a shell reports signals


class _ProgressForwarder:
    """Forwards progress in its serialized form."""

    def __init__(self, on_progress: Callable[[ProgressUpdate], None]) -> None:
        self._on_progress = on_progress

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        values = {name: str(value) for name, value in text.values.items()}
        self._on_progress(ProgressUpdate(text.template, values, amount))
