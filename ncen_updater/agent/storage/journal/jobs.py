"""Job queue of the service. A request only records a job; the service runs it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.event_names import RECOVERY_STARTED
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import (
    guard_reads,
    parse_optional_time,
    parse_stored_value,
)
from ncen_updater.common.json_records import parse_stored_time


class JobKind(StrEnum):
    """Kind of a job."""

    CHECK = "check"
    PREPARE = "prepare"
    REHEARSE = "rehearse"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    RESUME = "resume"
    SELF_UPDATE = "self-update"
    IMPORT = "import"


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        id: Its number.
        kind: Its kind.
        data: Details for JSON, such as ``version`` or ``accept_loss``.
        actor: The requesting person.
        requested_at: Time of the request.
        started_at: Time of its start; None if it waits.
        ended_at: Time of its end.
        result: Exit code and document of the command that ran it.
    """

    id: int
    kind: JobKind
    data: Mapping[str, object]
    actor: Actor
    requested_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    result: Mapping[str, object] | None = None


class JobQueue:
    """Queue of jobs in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def enqueue(
        self,
        kind: JobKind,
        data: Mapping[str, object],
        actor: Actor,
        check: Callable[[], None] = lambda: None,
    ) -> int:
        """Record a job and return its number.

        Args:
            kind: Its kind.
            data: Its details.
            actor: The requesting person.
            check: Raises to refuse; called inside the transaction.
        """
        at = self._journal.read_time().isoformat()
        with self._journal.transaction() as connection:
            check()
            number = connection.execute(
                "INSERT INTO jobs (kind, data, actor, uid, at) VALUES (?,?,?,?,?)",
                (kind, json.dumps(data, sort_keys=True), actor.name, actor.uid, at),
            ).lastrowid
            self._journal.append_event(
                "job-queued", None, job=number, action=kind, data=dict(data), by=actor.name,
                uid=actor.uid,
            )  # fmt: skip
        assert number is not None  # noqa: S101 - an INSERT has a row id
        return number

    def mark_started(self, number: int) -> None:
        """Mark a job as started."""
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET started_at = ? WHERE id = ?",
                (self._journal.read_time().isoformat(), number),
            )
            statement = "SELECT kind, actor FROM jobs WHERE id = ?"
            row = connection.execute(statement, (number,)).fetchone()
            self._journal.append_event(
                "job-started", None, job=number, action=row["kind"], by=row["actor"]
            )

    def mark_ended(self, number: int, result: Mapping[str, object]) -> None:
        """Mark a job as ended, with its result."""
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET ended_at = ?, result = ? WHERE id = ?",
                (self._journal.read_time().isoformat(), json.dumps(result, sort_keys=True), number),
            )
            self._journal.append_event(
                "job-ended", None, job=number, exit_code=result.get("exit_code")
            )

    def find_next(self) -> Job | None:
        """Return the oldest job that has not been started.

        A job that was started and has not ended was interrupted by a crash. A resume has completed
        or reverted its change, so it is not run again; :meth:`list_interrupted` returns it.
        """
        return next((job for job in self.list_unfinished() if job.started_at is None), None)

    def list_interrupted(self) -> tuple[Job, ...]:
        """Return jobs that were started and never ended."""
        return tuple(
            job
            for job in self.list_unfinished()
            if job.started_at is not None and job.ended_at is None
        )

    def find(self, number: int) -> Job | None:
        """Return one job; None if there is none with this number."""
        return next((job for job in self._select(f"id = {int(number)}") if job.id == number), None)

    def find_change(self, job: Job) -> str | None:
        """Return the id of the change that a job started or resumed last; None if there is none."""
        return next(reversed(self._list_changes(job)), None)

    def find_requester(self, change: str, first_event: int) -> str | None:
        """Return who requested the job that started a change; None if no job did.

        Args:
            change: The change.
            first_event: Number of its first event.
        """
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "SELECT json_extract(data, '$.job') AS job FROM events"  # noqa: S608 - ours
                f" WHERE kind = 'job-started' AND number < {first_event:d}"
                " ORDER BY number DESC LIMIT 1"
            )
        job = self.find(rows[0]["job"]) if rows else None
        return job.actor.name if job is not None and change in self._list_changes(job) else None

    def _list_changes(self, job: Job) -> tuple[str, ...]:
        """Return the changes that a job started or resumed, the last one at the end.

        Determined by the order of events, since the clock may have been set back. One job runs at a
        time, but the end of the job of a killed service is recorded later: what follows a recovery
        is not its work, nor is a change of another kind that is not an automatic rollback.
        """
        resumes, own = job.kind is JobKind.RESUME, f"json_extract(data, '$.job') = {job.id:d}"
        ends = "FALSE" if resumes else f"kind = '{RECOVERY_STARTED}'"
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                "WITH work AS (SELECT max(number) AS start FROM events"  # noqa: S608 - ours
                f" WHERE kind = 'job-started' AND {own})"
                " SELECT change, max(CASE kind WHEN 'change-started'"
                " THEN json_extract(data, '$.action') END) AS action,"
                " EXISTS (SELECT 1 FROM facts WHERE facts.change = events.change"
                " AND name = 'failed_soak_upgrade') AS automatic FROM events, work"
                " WHERE change IS NOT NULL AND number > start AND number < coalesce("
                "(SELECT min(number) FROM events WHERE number > start"
                f" AND (kind = 'job-ended' AND {own} OR {ends})), 1e18)"
                " GROUP BY change ORDER BY max(number)"
            )
        return tuple(
            str(row["change"])
            for row in rows
            if row["action"] == (None if resumes else job.kind)
            or (row["automatic"] and row["action"] is not None)
        )

    def list_newest(self, limit: int) -> tuple[Job, ...]:
        """Return jobs of any state, newest first."""
        return self._select(f"TRUE ORDER BY id DESC LIMIT {int(limit)}")

    def list_unfinished(self) -> tuple[Job, ...]:
        """Return jobs that wait or run, oldest first, at most 100."""
        return self._select("ended_at IS NULL ORDER BY id LIMIT 100")

    def _select(self, where: str) -> tuple[Job, ...]:
        with guard_reads(self._journal.path):
            rows = self._journal.query(f"SELECT * FROM jobs WHERE {where}")  # noqa: S608 - ours
            return tuple(_build_job(row) for row in rows)


class JournalJobRecorder:
    """Recorder of job states for the service; it opens the journal only for each record.

    Args:
        path: The journal.

    Attributes:
        interrupted: Whether there may be a started job without a recorded end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.interrupted = True

    def take(self, number: int) -> None:
        """See :meth:`JobQueue.mark_started`."""
        with Journal.open(self._path) as journal:
            JobQueue(journal).mark_started(number)

    def end(self, number: int, result: Mapping[str, object]) -> None:
        """See :meth:`JobQueue.mark_ended`."""
        with Journal.open(self._path) as journal:
            JobQueue(journal).mark_ended(number, result)

    def end_interrupted(self) -> None:
        """End the jobs that a killed service had started; their effects are in the journal."""
        with Journal.open(self._path) as journal:
            jobs = JobQueue(journal)
            for job in jobs.list_interrupted():
                jobs.mark_ended(job.id, {"exit_code": None, "interrupted": True})
        self.interrupted = False


def _build_job(row: sqlite3.Row) -> Job:
    return Job(
        row["id"], JobKind(row["kind"]), parse_stored_value(row["data"]),
        Actor(row["actor"], row["uid"]), parse_stored_time(row["at"]),
        parse_optional_time(row["started_at"]), parse_optional_time(row["ended_at"]),
        parse_stored_value(row["result"]) if row["result"] else None,
    )  # fmt: skip
