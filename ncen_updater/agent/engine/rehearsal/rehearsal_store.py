"""Rehearsals of releases on copies, as stored in the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import (
    guard_reads,
    parse_optional_time,
    parse_stored_value,
)
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import parse_stored_time

if TYPE_CHECKING:
    from ncen_updater.agent.engine.rehearsal.report import (
        RehearsalCopyPlans,
        RehearsalFailure,
        RehearsalReport,
    )
    from ncen_updater.common.json_records import JsonRecord

_Stored = TypeVar("_Stored", bound="JsonRecord")


class RehearsalState(StrEnum):
    """State of a rehearsal."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class RehearsalRecord:
    """One rehearsal.

    Attributes:
        basis: The facts on which it was made, as a serialized :class:`.ApprovalBasis`.
        stored_result: Its result as stored in the journal; approvals bind to this form.
        journal_path: Path of the journal, for errors.
    """

    id: str
    from_version: str
    to_version: str
    state: RehearsalState
    started_at: datetime
    ended_at: datetime | None = None
    error_code: str | None = None
    basis: Mapping[str, object] | None = None
    stored_result: Mapping[str, object] | None = None
    journal_path: Path = Path()

    @cached_property
    def report(self) -> RehearsalReport | None:
        """Return the report of a passed rehearsal; None for any other.

        Raises:
            JournalUnreadableError: If the stored report is invalid.
        """
        from ncen_updater.agent.engine.rehearsal.report import RehearsalReport

        return self._read_result(RehearsalState.PASSED, RehearsalReport)

    @cached_property
    def failure(self) -> RehearsalFailure | None:
        """Return the failure of a failed rehearsal; None for any other, and for an interrupted one.

        Raises:
            JournalUnreadableError: If the stored failure is invalid.
        """
        from ncen_updater.agent.engine.rehearsal.report import RehearsalFailure

        return self._read_result(RehearsalState.FAILED, RehearsalFailure)

    @cached_property
    def copies(self) -> RehearsalCopyPlans | None:
        """Return the copy plans of a running or interrupted rehearsal; None for any other.

        Raises:
            JournalUnreadableError: If the stored plans are invalid.
        """
        from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans

        return self._read_result(RehearsalState.RUNNING, RehearsalCopyPlans)

    def _read_result(self, state: RehearsalState, kind: type[_Stored]) -> _Stored | None:
        if self.state is not state or self.stored_result is None:
            return None
        with guard_reads(self.journal_path):
            return kind.from_json(self.stored_result)

    @property
    def identity(self) -> str:
        """Return the identity of this rehearsal and its report, for a binding."""
        content = json.dumps(self.stored_result, sort_keys=True, separators=(",", ":")).encode()
        return f"{self.id}:{hashlib.sha256(content).hexdigest()}"


def serialize_rehearsal(record: RehearsalRecord) -> dict[str, object]:
    """Return a rehearsal for JSON."""
    return {
        "id": record.id,
        "from": record.from_version,
        "to": record.to_version,
        "state": record.state.value,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "error_code": record.error_code,
        "report": record.stored_result,
    }


class RehearsalStore:
    """Store of rehearsals in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def record_start(
        self, rehearsal_id: str, from_version: str, to_version: str, copies: RehearsalCopyPlans
    ) -> None:
        """Record the start of a rehearsal, before its first copy.

        Args:
            rehearsal_id: Its id.
            from_version: The installed release.
            to_version: The rehearsed release.
            copies: Plans of the copies, to remove them after a crash.
        """
        with self._journal.transaction() as connection:
            connection.execute(
                "INSERT INTO rehearsals (id, from_version, to_version, state, started_at, report)"
                " VALUES (?,?,?,?,?,?)",
                (
                    rehearsal_id,
                    from_version,
                    to_version,
                    RehearsalState.RUNNING,
                    self._journal.read_time().isoformat(),
                    json.dumps(copies.to_json(), sort_keys=True),
                ),
            )
            self._journal.append_event(
                "rehearsal-started", None, rehearsal=rehearsal_id, from_version=from_version,
                to_version=to_version,
            )  # fmt: skip

    def record_end(
        self,
        rehearsal_id: str,
        state: RehearsalState,
        *,
        basis: Mapping[str, object] | None = None,
        result: RehearsalReport | RehearsalFailure | None = None,
        error_code: str | None = None,
        error: LazyText | None = None,
    ) -> None:
        """Record the result of a rehearsal, after its last copy is removed.

        ``error`` is a sanitized message, shown by ``history``.
        """
        with self._journal.transaction() as connection:
            connection.execute(
                "UPDATE rehearsals SET state = ?, ended_at = ?, error_code = ?, basis = ?,"
                " report = ? WHERE id = ?",
                (
                    state, self._journal.read_time().isoformat(), error_code,
                    json.dumps(basis, sort_keys=True) if basis is not None else None,
                    json.dumps(result.to_json(), sort_keys=True) if result is not None else None,
                    rehearsal_id,
                ),
            )  # fmt: skip
            failure = {} if error is None else {"error": error}
            self._journal.append_event(
                f"rehearsal-{state}", None, rehearsal=rehearsal_id, error_code=error_code, **failure
            )

    def list_newest(self, limit: int = 100) -> tuple[RehearsalRecord, ...]:
        """Return rehearsals, the last started first, whatever the clock showed."""
        with guard_reads(self._journal.path):
            rows = self._journal.query(
                f"SELECT * FROM rehearsals ORDER BY rowid DESC LIMIT {int(limit)}"  # noqa: S608
            )
            return tuple(
                RehearsalRecord(
                    row["id"], row["from_version"], row["to_version"],
                    RehearsalState(row["state"]), parse_stored_time(row["started_at"]),
                    parse_optional_time(row["ended_at"]), row["error_code"],
                    parse_stored_value(row["basis"]) if row["basis"] else None,
                    parse_stored_value(row["report"]) if row["report"] else None,
                    self._journal.path,
                )
                for row in rows
            )  # fmt: skip

    def find_last(self, from_version: str, to_version: str) -> RehearsalRecord | None:
        """Return the newest rehearsal between two versions; None if there is none."""
        versions = (from_version, to_version)
        return next(
            (r for r in self.list_newest() if (r.from_version, r.to_version) == versions), None
        )

    def list_interrupted(self) -> tuple[RehearsalRecord, ...]:
        """Return rehearsals that never ended; their copies must be removed."""
        return tuple(r for r in self.list_newest() if r.state is RehearsalState.RUNNING)
