"""Who does the work of the service: a process for each command, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.service.errors import BadRequest
from ncen_updater.agent.service.snapshot import ServiceSnapshots
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.common.messages import INSPECTION_FAILED
from ncen_updater.common.progress import ProgressUpdate
from ncen_updater.common.workers import (
    KEPT_VARIABLES,
    Worker,
    WorkerFailed,
    WorkerLimits,
    WorkerOverdue,
    ask,
)

logger = logging.getLogger(__name__)

#: Shell for "cannot be run"; no command of ours ends with it.
AWAY = 126
#: What writes to the agent's own code, for which there is a unit of its own.
RENEWING = frozenset({"self-update"})
MODULE = "ncen_updater.agent.cli.worker"
#: Work on the site may last for hours, and gives signs of life all the time. A unit that gives none
#: is ended by systemd before that (WatchdogSec=).
LIMITS = WorkerLimits(silence_s=600, line=100_000_000)
#: What stands around what an inspection found, and so many lines of progress, in bytes; what is
#: not English takes up to three times as many on the way, where only ASCII crosses.
AROUND, TOLD, WIDER = 100_000, 10_000_000, 3
#: So much longer than the inspection's own limit is waited for its end.
LATER_S = 15.0
#: What work on the site gets of the environment beside that: what the commands of the application
#: and its migrators inherit in turn, the way to the journal of systemd, and libpq's own names for
#: what the configuration has no setting for.
WORK_VARIABLES = (
    *KEPT_VARIABLES,
    "JOURNAL_STREAM", "LC_MESSAGES", "LOGNAME", "NCEN_LANG", "TMPDIR", "USER", "XDG_RUNTIME_DIR",
    "PGPASSFILE", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLKEY",
    "PGSSLMAXPROTOCOLVERSION", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLNEGOTIATION",
    "PGSSLROOTCERT", "PGSSLSNI",
)  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """What a command came to.

    Attributes:
        exit_code: Its exit code; 128 plus the number of the signal that ended it.
        document: What it wrote with ``--json``; empty where that could not be read.
    """

    exit_code: int
    document: Mapping[str, object]

    @property
    def error_code(self) -> str | None:
        """The stable code of its error, if it ended with one."""
        error = self.document.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) else None


class WorkRunner:
    """Lets :mod:`~ncen_updater.agent.cli.worker` do each command.

    It is a child, or one that systemd starts with rights of its own. It goes on when the service
    dies: what it leaves is brought to its end by the next ``resume``. When the service is stopped
    it is asked to end too, and goes back where going back is free.

    Args:
        config: The configuration file.
        socket: Where systemd waits; None for a child.
        alive: Called about once a second while the work goes on.
        asked_to_stop: Whether the service is to end.
        watcher: Told of commands and of their progress.
        renew: Where systemd waits for what writes the agent's own code; as ``socket`` by default.
    """

    def __init__(
        self,
        config: Path,
        socket: Path | None,
        alive: Callable[[], None],
        asked_to_stop: Callable[[], bool],
        watcher: ServiceSnapshots,
        renew: Path | None = None,
    ) -> None:
        self._config, self._socket = config.absolute(), socket
        self._alive, self._asked, self._watcher = alive, asked_to_stop, watcher
        self._renew = renew or socket

    def run(self, words: Sequence[str]) -> Finished:
        """Run a command; what it says of its work goes to the watcher."""
        self._watcher.began(words)
        try:
            return self._ask(words)
        finally:
            self._watcher.ended()

    def assess(self) -> Finished:
        """Run what assesses."""
        return self._ask(["assess"])

    def inspect(
        self,
        words: Sequence[str],
        told: Callable[[ProgressUpdate], None],
        ending: Callable[[], bool],
        *,
        seconds: float,
        most: int,
    ) -> Finished:
        """Run a command that only reads.

        It may go on beside :meth:`run`, of which the watcher is told and of this not. It ends with
        this process.

        Args:
            words: The command.
            told: Called with progress.
            ending: Asked about once a second whether it is to end.
            seconds: After which it is ended.
            most: Bytes that it may find.

        Raises:
            TimeoutError: If its time was over.
            OverflowError: If it found more than that.
            UpdaterError: If it came to no result.
        """
        line = WIDER * most + AROUND
        limits = WorkerLimits(total_s=seconds + LATER_S, line=line, stream=line + TOLD)
        worker = self._worker(words, limits, bound=True)
        order = {"words": list(words), "inspect": {"seconds": seconds, "most": most}}
        try:
            result = ask(worker, order, _Teller(told), ending=ending)
        except WorkerOverdue as error:
            raise TimeoutError from error
        except WorkerFailed as error:
            raise UpdaterError(INSPECTION_FAILED, reason=str(error.detail)[-500:]) from error
        code, document = result.get("exit_code"), result.get("document")
        if result.get("overdue"):
            raise TimeoutError
        if result.get("too_large"):
            raise OverflowError
        if type(code) is int and isinstance(document, dict):
            return Finished(code, document)
        raise UpdaterError(INSPECTION_FAILED, reason="it said no result")

    def in_reach(self) -> bool:
        """Whether journal, lists and databases are in reach of who works on the site."""
        return self._ask(["in-reach"]).exit_code == 0

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        """Pass progress on to the watcher."""
        _Teller(self._watcher.told).tell(what, done, total)

    def _ask(self, words: Sequence[str]) -> Finished:
        worker = self._worker(words, LIMITS, bound=False)
        try:
            result = ask(worker, {"words": list(words)}, self, ending=self._ending)
        except (WorkerFailed, UpdaterError) as error:
            return self._failed(error)
        code, document = result.get("exit_code"), result.get("document")
        if type(code) is int and isinstance(document, dict):
            return Finished(code, document)
        return self._failed(WorkerFailed("it said no result"))

    def _worker(self, words: Sequence[str], limits: WorkerLimits, *, bound: bool) -> Worker:
        return Worker(
            MODULE,
            # The words are for people who look at the processes; the order has them, too.
            (str(self._config), *words),
            self._renew if words[0] in RENEWING else self._socket,
            limits,
            expects=(BadRequest,),
            bound=bound,
            keeps=WORK_VARIABLES,
            stderr=True,
        )

    def _ending(self) -> bool:
        self._alive()
        return self._asked()

    def _failed(self, error: WorkerFailed | UpdaterError) -> Finished:
        status = error.status if isinstance(error, WorkerFailed) else None
        unit = f" ({self._socket}; see 'systemctl status ncen-updater-apply.socket')"
        logger.error(
            "what works on the site ended without a result%s: %s",
            unit if self._socket else "", error,
        )  # fmt: skip
        return Finished(AWAY if not status else abs(status) + 128 * (status < 0), {})


class _Teller:
    """Passes progress on as it crosses."""

    def __init__(self, told: Callable[[ProgressUpdate], None]) -> None:
        self._told = told

    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        values = {name: str(value) for name, value in what.values.items()}
        self._told(ProgressUpdate(what.template, values, done, total))
