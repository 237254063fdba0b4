"""Inspections: read-only commands in a separate process, concurrent with the service loop.

The data for decisions (the plan with its SQL, the dossier, the rollback plan) and reports on the
site (findings, verification) require the databases, to which neither users nor the service have
access. So a worker process reads them with a command of the agent that changes nothing, while the
service loop continues: an approved upgrade never waits for an inspection. One inspection runs at a
time, and in addition one verification, since that reads every file of every slot. The queue is
short: root comes first, then the user with the fewest inspections. Each inspection has limits of
time and size, and is stopped when an operation with downtime starts. A request equal to a pending
inspection joins it. Results are never stored on disk and are discarded after some minutes.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.service.api.forms import (
    CHAIN_HEAD_PATTERN,
    ApiForm,
    Language,
    RecordCount,
    ReleaseVersion,
)
from ncen_updater.agent.service.apply_runner import ApplyRunner, WorkerResult
from ncen_updater.agent.service.errors import RequestRefusedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, LazyText, list_languages
from ncen_updater.common.messages import (
    INSPECTION_FAILED,
    INSPECTION_OVERDUE,
    INSPECTION_PREEMPTED,
    INSPECTION_TOO_LARGE,
    TOO_MANY_INSPECTIONS,
)
from ncen_updater.common.progress import ProgressUpdate

logger = logging.getLogger(__name__)

#: Size limit of a result in bytes.
MAX_RESULT_BYTES = 8_000_000
#: Limits of pending inspections: in total and per user; root has a separate total.
MAX_PENDING, MAX_PENDING_PER_USER = 6, 2
#: Limits for retained results: number, bytes, and seconds.
MAX_RETAINED, MAX_RETAINED_BYTES, RETENTION_S = 12, 16_000_000, 600.0


class InspectionKind(StrEnum):
    """Kind of an inspection."""

    PLAN = "plan"
    DOSSIER = "dossier"
    ROLLBACK_PLAN = "rollback-plan"
    FINDINGS = "findings"
    VERIFY = "verify"
    AUDIT_LOG = "audit-log"
    SUPPORT_BUNDLE = "support-bundle"
    RECEIPTS = "receipts"


@dataclass(frozen=True)
class InspectionRule:
    """How a kind of inspection runs.

    Attributes:
        command: Its command; the release and the options follow.
        timeout_s: Time limit in seconds. A verification reads every file of every slot.
        fields: Fields that it accepts in addition to the language.
        is_always_allowed: Whether it may run during any operation, since it reads neither databases
            nor slots.
        is_long: Whether it runs in a thread of its own, so that others do not wait for it.
    """

    command: tuple[str, ...]
    timeout_s: float
    fields: frozenset[str] = frozenset()
    is_always_allowed: bool = False
    is_long: bool = False


RULES: Mapping[InspectionKind, InspectionRule] = {
    InspectionKind.PLAN: InspectionRule(
        ("plan", "--prepared"), 180, frozenset({"version", "retry"})
    ),
    InspectionKind.DOSSIER: InspectionRule(("dossier", "--prepared"), 180, frozenset({"version"})),
    InspectionKind.ROLLBACK_PLAN: InspectionRule(
        ("rollback", "--dry-run"), 300, frozenset({"accept_loss"})
    ),
    InspectionKind.FINDINGS: InspectionRule(("doctor",), 180),
    InspectionKind.VERIFY: InspectionRule(
        ("verify",), 1800, frozenset({"chain_heads"}), is_long=True
    ),
    InspectionKind.AUDIT_LOG: InspectionRule(
        ("verify", "--journal"), 120, frozenset({"chain_heads"}), is_always_allowed=True
    ),
    InspectionKind.SUPPORT_BUNDLE: InspectionRule(
        ("support-bundle", "--in-document"), 300, frozenset({"leave_out", "show"})
    ),
    InspectionKind.RECEIPTS: InspectionRule(("receipt", "--all-levels"), 60),
}


_ChainHeads = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=CHAIN_HEAD_PATTERN)], ...],
    Field(max_length=20, strict=False),
]
_BundleParts = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}\.(json|txt)$")], ...],
    Field(max_length=20, strict=False),
]


class InspectionForm(ApiForm):
    """Parameters of an inspection; equal requests share one inspection.

    Attributes:
        kind: The kind.
        version: For a plan or dossier: the release; by default the next one.
        retry: For a plan: whether to include releases that failed at this site.
        chain_heads: For a verification: events that a user has recorded elsewhere.
        accept_loss: For a rollback plan: number of records that may be lost.
        leave_out: For a support bundle: parts to omit.
        show: For a support bundle: parts whose text is returned.
        language: Language of texts in the result.
    """

    kind: Annotated[InspectionKind, Field(strict=False)]
    version: ReleaseVersion | None = None
    retry: bool = False
    chain_heads: _ChainHeads = ()
    accept_loss: RecordCount | None = None
    leave_out: _BundleParts = ()
    show: _BundleParts = ()
    language: Language = DEFAULT_LANGUAGE


def build_inspection_command(request: InspectionForm) -> tuple[str, ...]:
    """Return the command of an inspection, which contains no file paths. Pure."""
    command = list(RULES[request.kind].command)
    if request.version:
        command.append(request.version)
    if request.retry:
        command.append("--retry")
    if request.accept_loss is not None:
        command += ["--accept-loss", str(request.accept_loss)]
    for option, values in (
        ("--head", request.chain_heads),
        ("--leave-out", request.leave_out),
        ("--show", request.show),
    ):
        command += [word for value in values for word in (option, value)]
    if request.language in list_languages()[1:]:
        command += ["--lang", request.language]
    return tuple(command)


@dataclass
class Inspection:
    """One inspection, from its request to its result.

    Attributes:
        number: Number since the start of the service.
        request: Its parameters.
        actor: The user who requested it first.
        requested_at: Time of the request.
        ended_at: Time of the end.
        progress: The last progress message.
        exit_code: Exit status of the command.
        error: Why there is no document.
        content: The document as JSON, serialized once for all clients.
        ended_monotonic: Time of the end on the monotonic clock.
    """

    number: int
    request: InspectionForm
    actor: Actor
    requested_at: datetime
    ended_at: datetime | None = None
    progress: ProgressUpdate | None = None
    exit_code: int | None = None
    error: UpdaterError | None = None
    content: bytes = b""
    ended_monotonic: float = field(default=0.0, repr=False)

    @property
    def document(self) -> Mapping[str, object] | None:
        """Return the result."""
        found = json.loads(self.content) if self.content else None
        return found if isinstance(found, dict) else None


class InspectionQueue:
    """Runs inspections one after the other, in a thread that ends when the queue is empty.

    Long-running kinds have a second thread.

    Args:
        inspector: Runs the commands.
        now: The wall clock.
        is_blocked: Returns whether an operation is running that must not be disturbed.
        exempt_uids: UIDs without a limit per user.
        monotonic: A monotonic clock for the retention of results.
    """

    def __init__(
        self,
        inspector: ApplyRunner,
        now: Callable[[], datetime],
        is_blocked: Callable[[], bool],
        exempt_uids: frozenset[int] = frozenset({0}),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspector, self._now, self._is_blocked = inspector, now, is_blocked
        self._exempt_uids, self._clock = exempt_uids, monotonic
        self._inspections: dict[int, Inspection] = {}
        self._changed = threading.Condition()
        self._workers: dict[bool, threading.Thread] = {}
        self._next_number, self._closed = 1, False

    def submit(self, request: InspectionForm, actor: Actor) -> Inspection:
        """Queue an inspection, or return the pending one with the same parameters.

        Raises:
            RequestRefusedError: If too many inspections are pending, in total or of this user.
        """
        with self._changed:
            self._evict_expired()
            pending = self._list_pending()
            for known in pending:
                if known.request == request:
                    return known
            own = sum(known.actor.uid == actor.uid for known in pending)
            others = sum(known.actor.uid not in self._exempt_uids for known in pending)
            if actor.uid in self._exempt_uids:
                full = len(pending) - others >= MAX_PENDING
            else:
                full = others >= MAX_PENDING or own >= MAX_PENDING_PER_USER
            if full:
                raise RequestRefusedError(TOO_MANY_INSPECTIONS, count=len(pending))
            if self._closed:
                raise RequestRefusedError(INSPECTION_PREEMPTED)
            inspection = Inspection(self._next_number, request, actor, self._now())
            self._inspections[inspection.number] = inspection
            self._next_number += 1
            logger.debug("inspection %s: %s, for %s", inspection.number, request.kind, actor.name)
            long = RULES[request.kind].is_long
            if long not in self._workers:
                worker = threading.Thread(
                    target=self._run_worker, args=(long,), name="inspections", daemon=True
                )
                self._workers[long] = worker
                worker.start()
            return inspection

    def find(self, number: int) -> Inspection | None:
        """Return an inspection by its number; None if it is unknown or no longer retained."""
        with self._changed:
            self._evict_expired()
            return self._inspections.get(number)

    def wait(self, inspection: Inspection, seconds: float) -> None:
        """Wait until an inspection has ended or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: inspection.ended_at is not None, seconds)

    def close(self) -> None:
        """Stop running inspections and refuse new ones."""
        with self._changed:
            self._closed = True
            workers = tuple(self._workers.values())
            self._changed.notify_all()
        for worker in workers:
            worker.join()

    # ---- worker threads ------------------------------------------------------------------------

    def _list_pending(self) -> list[Inspection]:
        return [known for known in self._inspections.values() if known.ended_at is None]

    def _run_worker(self, long: bool) -> None:
        while True:
            with self._changed:
                pending = [
                    known
                    for known in self._list_pending()
                    if RULES[known.request.kind].is_long is long
                ]
                if not pending:
                    del self._workers[long]
                    return
                inspection = min(pending, key=self._compute_priority)
            self._run_inspection(inspection)

    def _compute_priority(self, inspection: Inspection) -> tuple[bool, int, int]:
        """Return the sort key: root first, then users with fewest inspections, then by number."""
        uid = inspection.actor.uid
        ended = sum(
            known.actor.uid == uid
            for known in self._inspections.values()
            if known.ended_at is not None
        )
        return uid not in self._exempt_uids, ended, inspection.number

    def _run_inspection(self, inspection: Inspection) -> None:
        preempted, rule = False, RULES[inspection.request.kind]

        def should_stop() -> bool:
            nonlocal preempted
            blocked = not rule.is_always_allowed and self._is_blocked()
            preempted = preempted or self._closed or blocked
            return preempted

        result, error, content = None, None, b""
        try:
            if not should_stop():
                result = self._inspector.inspect(
                    build_inspection_command(inspection.request),
                    lambda reported: setattr(inspection, "progress", reported),
                    should_stop,
                    timeout_s=rule.timeout_s,
                    max_bytes=MAX_RESULT_BYTES,
                )
                content = _serialize_document(inspection.request.kind, result)
        except TimeoutError:
            error = UpdaterError(INSPECTION_OVERDUE, seconds=int(rule.timeout_s))
        except OverflowError:
            error = UpdaterError(INSPECTION_TOO_LARGE, limit_bytes=MAX_RESULT_BYTES)
        except UpdaterError as failed:
            error = failed
        except Exception as failed:
            logger.exception("inspection %s", inspection.number)
            error = UpdaterError(INSPECTION_FAILED, reason=type(failed).__name__)
        if preempted:
            error, content = UpdaterError(INSPECTION_PREEMPTED), b""
        with self._changed:
            inspection.error, inspection.content = error, content
            inspection.exit_code = result.exit_code if result and error is None else None
            inspection.ended_monotonic, inspection.ended_at = self._clock(), self._now()
            self._changed.notify_all()

    def _evict_expired(self) -> None:
        """Discard results that are too old, too many or too large in total."""
        ended = [known for known in self._inspections.values() if known.ended_at is not None]
        size = 0
        for index, known in enumerate(reversed(ended)):
            size += len(known.content)
            old = self._clock() - known.ended_monotonic > RETENTION_S
            if old or index >= MAX_RETAINED or (index and size > MAX_RETAINED_BYTES):
                del self._inspections[known.number]


def _serialize_document(kind: InspectionKind, result: WorkerResult) -> bytes:
    """Return the document as JSON.

    Raises:
        UpdaterError: If the command returned none.
    """
    if not result.document:
        raise UpdaterError(
            INSPECTION_FAILED,
            reason=LazyText("exit code {status}", {"status": result.exit_code}),
        )
    document = dict(result.document)
    if kind is InspectionKind.DOSSIER:
        document.pop("lines", None)  # the same text as in the HTML page of the document
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
