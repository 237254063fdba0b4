"""Inspections: readings of the site that a process of its own makes, beside the service's work.

The basis of decisions (the plan with its SQL, the dossier, the rollback) and the answers about the
site (findings, verification) need the databases, which neither people nor the service can reach. So
a child reads them, as a command of the agent that changes nothing, while the loop goes on: an
approved upgrade never waits for an inspection. One inspection runs at a time, and beside it one
that reads every file of every slot, since that takes long. The queue is short: root is first, then
the user with the fewest inspections. Each has limits of time and size, and is stopped as soon as an
operation with downtime begins. A request for the running inspection joins it. Results are never
stored on disk, and are discarded after some minutes.
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

#: Bytes of what an inspection may find.
MAX_RESULT_BYTES = 8_000_000
#: So many may be open at a time, and so many of one person; root may have as many besides.
MAX_PENDING, MAX_PENDING_PER_USER = 6, 2
#: What was found is kept for so long and so much of it, for who comes to fetch it.
MAX_RETAINED, MAX_RETAINED_BYTES, RETENTION_S = 12, 16_000_000, 600.0


class InspectionKind(StrEnum):
    """What can be looked at."""

    PLAN = "plan"
    DOSSIER = "dossier"
    ROLLBACK_PLAN = "rollback-plan"
    FINDINGS = "findings"
    VERIFY = "verify"
    AUDIT_LOG = "audit-log"
    SUPPORT_BUNDLE = "support-bundle"
    RECEIPTS = "receipts"


#: Kinds that read neither databases nor slots: they stand in nobody's way, whatever goes on.
ALWAYS_ALLOWED_KINDS = frozenset({InspectionKind.AUDIT_LOG})
#: Kinds for which nobody waits who wants another one.
LONG_RUNNING_KINDS = frozenset({InspectionKind.VERIFY})
#: Seconds after which one is ended. To verify is to read every file of every slot.
TIMEOUTS_S: Mapping[InspectionKind, float] = {
    InspectionKind.PLAN: 180,
    InspectionKind.DOSSIER: 180,
    InspectionKind.ROLLBACK_PLAN: 300,
    InspectionKind.FINDINGS: 180,
    InspectionKind.VERIFY: 1800,
    InspectionKind.AUDIT_LOG: 120,
    InspectionKind.SUPPORT_BUNDLE: 300,
    InspectionKind.RECEIPTS: 60,
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
    """What is to be looked at; equal orders are one inspection.

    Attributes:
        kind: What.
        version: Of a plan or a dossier: which release; the one that comes next if left out.
        retry: Of a plan: whether releases are taken that failed here.
        chain_heads: Of a proof or a verification: events that somebody kept, as NUMBER:HASH.
        accept_loss: Of the rollback: so many records may be lost.
        leave_out: Of a support bundle: parts that are not wanted.
        show: Of a support bundle: parts whose text is wanted.
        language: Of sentences in what is found.
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
    """Return the command that looks; pure. None of its words is a place on the disk."""
    value = ("--lang", request.language) if request.language in list_languages()[1:] else ()
    named = (request.version,) if request.version else ()
    heads = tuple(word for head in request.chain_heads for word in ("--head", head))
    match request.kind:
        case InspectionKind.PLAN:
            again = ("--retry",) if request.retry else ()
            return ("plan", *named, "--prepared", *again, *value)
        case InspectionKind.DOSSIER:
            return ("dossier", *named, "--prepared", *value)
        case InspectionKind.ROLLBACK_PLAN:
            loss = request.accept_loss
            accepted = ("--accept-loss", str(loss)) if loss is not None else ()
            return ("rollback", "--dry-run", *accepted, *value)
        case InspectionKind.FINDINGS:
            return ("doctor", *value)
        case InspectionKind.VERIFY:
            return ("verify", *heads, *value)
        case InspectionKind.AUDIT_LOG:
            return ("verify", "--journal", *heads, *value)
        case InspectionKind.SUPPORT_BUNDLE:
            left = tuple(word for part in request.leave_out for word in ("--leave-out", part))
            shown = tuple(word for part in request.show for word in ("--show", part))
            return ("support-bundle", "--in-document", *left, *shown, *value)
        case InspectionKind.RECEIPTS:
            return ("receipt", "--all-levels", *value)


@dataclass
class Inspection:
    """One inspection, from the order to what was found.

    Attributes:
        number: Counts from the start of the service.
        person: Who asked first.
        requested_at: When it was asked for.
        ended_at: When it had ended.
        progress: What it said last of its work.
        exit_code: What the command came to.
        error: Why there is no document, where there is none.
        content: The document as JSON, made once for all who fetch it.
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
        """Return what was found."""
        found = json.loads(self.content) if self.content else None
        return found if isinstance(found, dict) else None


class InspectionQueue:
    """Makes inspections one after the other, in a thread of its own that ends when none waits.

    Those that take long have another one.

    Args:
        inspector: Who looks.
        now: The wall clock.
        is_blocked: Whether work goes on that no inspection may stand in the way of.
        exempt_uids: Numbers of users that may have as many as there are.
        monotonic: The clock of what is kept.
    """

    def __init__(
        self,
        inspector: ApplyRunner,
        now: Callable[[], datetime],
        is_blocked: Callable[[], bool],
        exempt_uids: frozenset[int] = frozenset({0}),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspector, self._now, self._in_the_way = inspector, now, is_blocked
        self._free, self._clock = exempt_uids, monotonic
        self._known: dict[int, Inspection] = {}
        self._changed = threading.Condition()
        self._workers: dict[bool, threading.Thread] = {}
        self._next, self._closed = 1, False

    def submit(self, request: InspectionForm, actor: Actor) -> Inspection:
        """Begin one, or return the one that is under way.

        Raises:
            RequestRefusedError: If too many are open, or too many of this person.
        """
        with self._changed:
            self._evict_expired()
            opened = self._list_pending()
            for known in opened:
                if known.request == request:
                    return known
            own = sum(known.actor.uid == actor.uid for known in opened)
            others = sum(known.actor.uid not in self._free for known in opened)
            if actor.uid in self._free:
                full = len(opened) - others >= MAX_PENDING
            else:
                full = others >= MAX_PENDING or own >= MAX_PENDING_PER_USER
            if full:
                raise RequestRefusedError(TOO_MANY_INSPECTIONS, count=len(opened))
            if self._closed:
                raise RequestRefusedError(INSPECTION_PREEMPTED)
            made = Inspection(self._next, request, actor, self._now())
            self._known[made.number] = made
            self._next += 1
            logger.debug("inspection %s: %s, for %s", made.number, request.kind, actor.name)
            long = request.kind in LONG_RUNNING_KINDS
            if long not in self._workers:
                worker = threading.Thread(
                    target=self._run_worker, args=(long,), name="inspections", daemon=True
                )
                self._workers[long] = worker
                worker.start()
            return made

    def find(self, number: int) -> Inspection | None:
        """Return one by its number; None where there was none, or it is forgotten."""
        with self._changed:
            self._evict_expired()
            return self._known.get(number)

    def wait(self, inspection: Inspection, seconds: float) -> None:
        """Wait until it has ended, or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: inspection.ended_at is not None, seconds)

    def close(self) -> None:
        """End what is under way, and take no more."""
        with self._changed:
            self._closed = True
            workers = tuple(self._workers.values())
            self._changed.notify_all()
        for worker in workers:
            worker.join()

    # ---- the thread ----------------------------------------------------------------------------

    def _list_pending(self) -> list[Inspection]:
        return [known for known in self._known.values() if known.ended_at is None]

    def _run_worker(self, long: bool) -> None:
        while True:
            with self._changed:
                waiting = [
                    known
                    for known in self._list_pending()
                    if (known.request.kind in LONG_RUNNING_KINDS) is long
                ]
                if not waiting:
                    del self._workers[long]
                    return
                here = min(waiting, key=self._compute_priority)
            self._run_inspection(here)

    def _compute_priority(self, inspection: Inspection) -> tuple[bool, int, int]:
        """Compute its turn: root's first, then those of who had least, then by their numbers."""
        uid = inspection.actor.uid
        had = sum(
            known.actor.uid == uid for known in self._known.values() if known.ended_at is not None
        )
        return uid not in self._free, had, inspection.number

    def _run_inspection(self, here: Inspection) -> None:
        gave_way = False

        def ending() -> bool:
            nonlocal gave_way
            stands = here.request.kind not in ALWAYS_ALLOWED_KINDS and self._in_the_way()
            gave_way = gave_way or self._closed or stands
            return gave_way

        finished, error, content = None, None, b""
        try:
            if not ending():
                finished = self._inspector.inspect(
                    build_inspection_command(here.request),
                    lambda reported: setattr(here, "progress", reported),
                    ending,
                    timeout_s=TIMEOUTS_S[here.request.kind],
                    max_bytes=MAX_RESULT_BYTES,
                )
                content = _serialize_document(here.request.kind, finished)
        except TimeoutError:
            error = UpdaterError(INSPECTION_OVERDUE, seconds=int(TIMEOUTS_S[here.request.kind]))
        except OverflowError:
            error = UpdaterError(INSPECTION_TOO_LARGE, limit_bytes=MAX_RESULT_BYTES)
        except UpdaterError as failed:
            error = failed
        except Exception as failed:
            logger.exception("inspection %s", here.number)
            error = UpdaterError(INSPECTION_FAILED, reason=type(failed).__name__)
        if gave_way:
            error, content = UpdaterError(INSPECTION_PREEMPTED), b""
        with self._changed:
            here.error, here.content = error, content
            here.exit_code = finished.exit_code if finished and error is None else None
            here.ended_monotonic, here.ended_at = self._clock(), self._now()
            self._changed.notify_all()

    def _evict_expired(self) -> None:
        """Forget what was found too long ago, or would fill memory together with what is newer."""
        ended = [known for known in self._known.values() if known.ended_at is not None]
        size = 0
        for place, known in enumerate(reversed(ended)):
            size += len(known.content)
            old = self._clock() - known.ended_monotonic > RETENTION_S
            if old or place >= MAX_RETAINED or (place and size > MAX_RETAINED_BYTES):
                del self._known[known.number]


def _serialize_document(kind: InspectionKind, finished: WorkerResult) -> bytes:
    """Return the document as JSON.

    Raises:
        UpdaterError: If the command left none.
    """
    if not finished.document:
        raise UpdaterError(
            INSPECTION_FAILED,
            reason=LazyText("exit code {exit_code}", {"exit_code": finished.exit_code}),
        )
    document = dict(finished.document)
    if kind is InspectionKind.DOSSIER:
        document.pop("lines", None)  # the page itself, which the document has
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
