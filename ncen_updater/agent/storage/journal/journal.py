"""Journal: intents and results of every change, and the facts it recorded, in one SQLite file.

Rules:

* An intent is on the disk before its effect begins; a step is done only after its check succeeded.
* Every record is written in one transaction with its event.
* Events are chained by hash. A broken chain, like any other damage, makes the journal unreadable,
  which stops all automatic work. Only :meth:`JournalFile.create` creates a journal.

``journal_file.py`` handles the file itself.
``status`` imports this module: no third-party imports.
"""

from __future__ import annotations

import json
import sqlite3

from ncen_updater.agent.model.change import Change, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import JournalUnwritableError
from ncen_updater.agent.storage.journal.journal_file import FIRST_HASH, JournalFile
from ncen_updater.agent.storage.journal.rows import (
    ChainHead,
    JournalEvent,
    build_change,
    guard_reads,
    parse_stored_value,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import OPEN_CHANGE


class Journal(JournalFile):
    """An open journal. Use :meth:`create` once for each site, and :meth:`open` afterwards."""

    def _validate(self, *, full: bool) -> None:
        super()._validate(full=full)
        for row in self.query("SELECT id FROM changes WHERE state NOT IN ('finished', 'reverted')"):
            self.read_change(row["id"])

    # ---- writing -------------------------------------------------------------------------------

    def begin_change(
        self, change: Change, facts: ChangeFacts = NO_FACTS, *, superseded_change: str | None = None
    ) -> None:
        """Open a change, in one transaction with the end of the change that it supersedes.

        Args:
            change: The new change; its state is set to running.
            facts: Facts known from the start.
            superseded_change: Id of a committed change that ends with this one, stuck or not.

        Raises:
            OPEN_CHANGE: If another change is open.
        """
        try:
            with self.transaction() as connection:
                if superseded_change is not None:
                    connection.execute(
                        "UPDATE changes SET state = ?, ended_at = ? WHERE id = ? AND EXISTS ("
                        "SELECT 1 FROM steps WHERE change = changes.id AND name = ? AND state = ?)",
                        (
                            ChangeState.FINISHED, self._now().isoformat(), superseded_change,
                            StepName.COMMIT, StepState.DONE,
                        ),
                    )  # fmt: skip
                    self.append_event("change-finished", superseded_change, superseded_by=change.id)
                connection.execute(
                    "INSERT INTO changes (id, kind, mode, state, product, from_version, to_version,"
                    " generation, source, created_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (
                        change.id, change.kind, change.mode, ChangeState.RUNNING, change.product,
                        change.from_version, change.to_version, change.generation,
                        change.restore_source, change.created_at.isoformat(),
                    ),
                )  # fmt: skip
                self._store_facts(change.id, facts)
                self.append_event(
                    "change-started", change.id, action=change.kind, mode=change.mode,
                    from_version=change.from_version, to_version=change.to_version,
                )  # fmt: skip
        except sqlite3.IntegrityError as error:
            other = self.find_open_change()
            if other is None:
                raise JournalUnwritableError(path=self.path, reason=str(error)) from error
            raise UpdaterError(
                OPEN_CHANGE, change=other.id, kind=other.kind, version=other.to_version
            ) from error

    def record_step(
        self,
        change: str,
        name: StepName,
        state: StepState,
        facts: ChangeFacts = NO_FACTS,
        *,
        following: StepName | None = None,
        following_facts: ChangeFacts = NO_FACTS,
    ) -> None:
        """Record the state of a step, with its facts.

        Args:
            change: Id of the change.
            name: The step.
            state: Its state.
            facts: Its facts.
            following: The next step, whose intent is recorded in the same transaction.
            following_facts: Facts of that intent.
        """
        with self.transaction():
            self._store_facts(change, facts)
            self._store_facts(change, following_facts)
            self._write_step(change, name, state)
            if following is not None:
                self._write_step(change, following, StepState.INTENDED)

    def _write_step(self, change: str, step: StepName, state: StepState) -> None:
        at = self._now().isoformat()
        ended = at if state in (StepState.DONE, StepState.UNDONE) else None
        self._connection.execute(
            "INSERT INTO steps (change, name, state, started_at, ended_at)"
            " VALUES (?,?,?,?,?) ON CONFLICT (change, name) DO UPDATE SET"
            " state = excluded.state, ended_at = excluded.ended_at, started_at ="
            " CASE excluded.state WHEN 'intended' THEN excluded.started_at"
            " ELSE started_at END",
            (change, step, state, at, ended),
        )
        self.append_event(f"step-{state}", change, step=step)

    def set_change_state(
        self, change: str, state: ChangeState, *, error_code: str | None = None, **data: object
    ) -> None:
        """Record the state of a change; finished and reverted also get a time."""
        ended = None if state.is_open else self._now().isoformat()
        with self.transaction() as connection:
            connection.execute(
                "UPDATE changes SET state = ?, ended_at = ?,"
                " error_code = COALESCE(?, error_code) WHERE id = ?",
                (state, ended, error_code, change),
            )
            self.append_event(f"change-{state}", change, error_code=error_code, **data)

    def commit_change(self, change: str, *, following: StepName | None = None) -> None:
        """Record the commit, with state and step in one transaction. It is never reverted.

        Args:
            change: Id of the change.
            following: As for :meth:`record_step`; also records the end of this step.
        """
        at = self._now().isoformat()
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?) ON CONFLICT (change, name)"
                " DO UPDATE SET state = excluded.state, ended_at = excluded.ended_at",
                (change, StepName.COMMIT, StepState.DONE, at, at),
            )
            connection.execute(
                "UPDATE changes SET state = ? WHERE id = ?", (ChangeState.COMMITTED, change)
            )
            facts = self.read_facts(change)
            # Without copies there are no previous databases.
            if facts.snapshots or not facts.no_copy:
                connection.execute(
                    "INSERT INTO previous_sets (change, since) VALUES (?, ?)"
                    " ON CONFLICT (change) DO NOTHING",
                    (change, at),
                )
            self.append_event("committed", change)
            if following is not None:
                self.record_step(change, StepName.COMMIT, StepState.DONE, following=following)

    def count_failed_recovery(self, change: str, code: str) -> int:
        """Count a recovery that failed by an error of its own, and return the new number.

        An interrupted recovery is not counted: it did not fail.
        """
        with self.transaction() as connection:
            connection.execute("UPDATE changes SET attempts = attempts + 1 WHERE id = ?", (change,))
            self.append_event("recovery-failed", change, code=code)
        return self.read_change(change).failed_recoveries

    def store_facts(self, change: str, facts: ChangeFacts) -> None:
        """Add facts to those of a change."""
        with self.transaction():
            self._store_facts(change, facts)

    def _store_facts(self, change: str, facts: ChangeFacts) -> None:
        self._connection.executemany(
            "INSERT INTO facts VALUES (?, ?, ?)"
            " ON CONFLICT (change, name) DO UPDATE SET value = excluded.value",
            [
                (change, name, json.dumps(value, sort_keys=True))
                for name, value in facts.to_json().items()
            ],
        )

    # ---- reading -------------------------------------------------------------------------------

    def read_facts(self, change: str) -> ChangeFacts:
        """Return all facts of a change.

        Raises:
            JournalUnreadableError: If a fact has the wrong type.
        """
        with guard_reads(self.path):
            rows = self._connection.execute(
                "SELECT name, value FROM facts WHERE change = ?", (change,)
            )
            return ChangeFacts.from_json(
                {row["name"]: parse_stored_value(row["value"]) for row in rows}
            )

    def find_open_change(self) -> Change | None:
        """Return the open change; None if there is none."""
        with guard_reads(self.path):
            row = self._connection.execute(
                "SELECT id FROM changes WHERE state NOT IN ('finished', 'reverted')"
            ).fetchone()
            return self.read_change(row["id"]) if row else None

    def read_change(self, change_id: str) -> Change:
        """Return one change with its steps.

        Raises:
            KeyError: If there is no change with this id.
            JournalUnreadableError: If a state or a time of it is invalid.
        """
        with guard_reads(self.path):
            row = self._connection.execute(
                "SELECT * FROM changes WHERE id = ?", (change_id,)
            ).fetchone()
            if row is not None:
                steps = self._connection.execute(
                    "SELECT * FROM steps WHERE change = ?", (change_id,)
                )
                return build_change(row, steps)
        raise KeyError(change_id)

    def list_changes(self, limit: int = 1000) -> tuple[Change, ...]:
        """Return changes in reverse order of their start, whatever the clock showed."""
        with guard_reads(self.path):
            rows = self._connection.execute(
                "SELECT id FROM changes ORDER BY rowid DESC LIMIT ?", (limit,)
            ).fetchall()
            return tuple(self.read_change(row["id"]) for row in rows)

    def read_last_event_number(self) -> int:
        """Return the number of the newest event; 0 if there is none."""
        with guard_reads(self.path):
            row = self._connection.execute("SELECT MAX(number) AS last FROM events").fetchone()
            return int(row["last"] or 0)

    def read_head(self) -> ChainHead:
        """Return the chain head: number and hash of the newest event, to be noted elsewhere."""
        with guard_reads(self.path):
            row = self._connection.execute(
                "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1"
            ).fetchone()
            return ChainHead(row["number"], row["hash"]) if row else ChainHead(0, FIRST_HASH)

    def read_event_hash(self, number: int) -> str | None:
        """Return the hash of an event; None if there is no event with this number."""
        with guard_reads(self.path):
            row = self._connection.execute(
                "SELECT hash FROM events WHERE number = ?", (number,)
            ).fetchone()
            return str(row["hash"]) if row else None

    def list_events(
        self, after: int = 0, change: str | None = None, limit: int = -1
    ) -> tuple[JournalEvent, ...]:
        """Return the events after a number, oldest first; all of them without a limit."""
        with guard_reads(self.path):
            rows = self._connection.execute(
                "SELECT * FROM events WHERE number > ? AND (? IS NULL OR change = ?)"
                " ORDER BY number LIMIT ?",
                (after, change, change, limit),
            )
            return tuple(JournalEvent(row) for row in rows)
