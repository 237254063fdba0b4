"""The journal: what was intended, what was done, and what it found, in one SQLite file.

Rules:

* An intent is on the disk before its effect begins; a step is done only when its check held.
* Every record and the event that tells of it are one transaction.
* Events are chained by hash; a chain that does not close, like any other damage, makes the journal
  unreadable, which stops all automatic work. A journal is made by :meth:`Journal.create` alone.

The rollback-journal mode with ``synchronous=EXTRA`` also flushes the directory, and lets ``status``
read as a user who may not write (https://www.sqlite.org/pragma.html#pragma_synchronous).
Standard library only: this module is on the path of ``status``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol

from ncen_updater import durable
from ncen_updater.upgrade.errors import (
    JournalExists,
    JournalMissing,
    JournalUnreadable,
    JournalUnwritable,
    OpenChange,
)
from ncen_updater.upgrade.journal_additions import add_missing, has_table
from ncen_updater.upgrade.journal_rows import Event, change_from_rows, reading
from ncen_updater.upgrade.journal_schema import (
    APPLICATION_ID,
    FIRST_HASH,
    SCHEMA,
    SCHEMA_VERSION,
    chain_hash,
)
from ncen_updater.upgrade.model import (
    Change,
    ChangeState,
    StepName,
    StepState,
)

__all__ = ["Journal", "Now"]

# A reader (a backup, a person with a database browser) must not look like a broken disk.
BUSY_S = 60.0


class Now(Protocol):
    """Gives the time, UTC."""

    def __call__(self) -> datetime:
        """Return now."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """An open journal. Use :meth:`create` once a site, :meth:`open` ever after.

    Args:
        path: The file.
        connection: An open connection with the right pragmas.
        now: Gives the time of records.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, now: Now = _utc_now) -> None:
        self.path = path
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._now = now

    # ---- opening -------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        now: Now = _utc_now,
        first: tuple[str, Mapping[str, object]] | None = None,
    ) -> Journal:
        """Make the journal of a site that never had one.

        Args:
            path: The file.
            now: Gives the time of records.
            first: Kind and data of the first event, there from the very beginning of the file.

        Raises:
            JournalExists: If there is a file already, whatever it holds.
        """
        if path.exists() or path.is_symlink():  # also one that leads to a disk that is away
            raise JournalExists(path=path)
        durable.make_directory(path.parent, 0o750)
        temporary = path.with_name(f".{path.name}{durable.PARTIAL}new")
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary, isolation_level=None)
        connection.executescript(
            f"PRAGMA synchronous=EXTRA; PRAGMA application_id={APPLICATION_ID};"
            f"PRAGMA user_version={SCHEMA_VERSION}; BEGIN; {SCHEMA} COMMIT;"
        )
        if first is not None:
            kind, data = first
            cls(temporary, connection, now).note(kind, None, **data)
        connection.close()
        durable.rename(temporary, path)
        return cls.open(path, now=now)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, now: Now = _utc_now) -> Journal:
        """Open the journal and check that it can be trusted.

        Args:
            path: The file.
            read_only: For commands that only look; skips the full chain.
            now: Gives the time of records.

        Raises:
            JournalMissing: If there is none.
            JournalUnreadable: If it is damaged, altered, or of a newer form.
            JournalUnwritable: If it is of an older form and takes no table.
        """
        if not os.path.lexists(path):
            raise JournalMissing(path=path)
        if not path.is_file():
            raise JournalUnreadable(path=path, reason="it is not a plain file")
        uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}"
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)
            try:
                connection.execute("PRAGMA synchronous=EXTRA")
                connection.execute("PRAGMA foreign_keys=ON")
                journal = cls(path, connection, now)
                journal._inspect(full=not read_only)
                if not read_only:
                    journal._add_missing()
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, ValueError, LookupError, TypeError, RecursionError) as error:
            raise JournalUnreadable(path=path, reason=str(error)) from error
        return journal

    def _inspect(self, *, full: bool) -> None:
        one = self._connection.execute
        if one("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise JournalUnreadable(path=self.path, reason="it is not a journal of this program")
        version = one("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise JournalUnreadable(path=self.path, reason=f"it has the unknown form {version}")
        if one("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
            raise JournalUnreadable(path=self.path, reason="it holds triggers or views")
        if not one("SELECT 1 FROM sqlite_master WHERE name = 'one_open_change'").fetchone():
            raise JournalUnreadable(path=self.path, reason="its guard against two changes is gone")
        if one("PRAGMA journal_mode").fetchone()[0] != "delete":
            raise JournalUnreadable(path=self.path, reason="it keeps its records in another file")
        if full:
            result = one("PRAGMA integrity_check(1)").fetchone()[0]
            if result != "ok":
                raise JournalUnreadable(path=self.path, reason=result)
            self.verify_chain()
        for row in one("SELECT id FROM changes WHERE state NOT IN ('finished', 'undone')"):
            self.change(row["id"])

    def _add_missing(self) -> None:
        try:
            add_missing(self._connection)
        except sqlite3.Error as error:
            raise JournalUnwritable(path=self.path, reason=str(error)) from error

    def verify_chain(self) -> int:
        """Check the chain of all events and return their number.

        Raises:
            JournalUnreadable: At the first event that does not fit.
        """
        previous = FIRST_HASH
        count = 0
        for row in self._connection.execute("SELECT * FROM events ORDER BY number"):
            count += 1
            data = json.loads(row["data"])
            expected = chain_hash(previous, count, row["at"], row["change"], row["kind"], data)
            if row["number"] != count or row["hash"] != expected:
                raise JournalUnreadable(path=self.path, reason=f"event {count} was altered")
            previous = row["hash"]
        return count

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    # ---- writing -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction of this room's own; commits when the block ends well.

        Raises:
            JournalUnwritable: If the file takes no record.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise JournalUnwritable(path=self.path, reason=str(error)) from error

    def event(self, kind: str, change: str | None, **data: object) -> None:
        """Chain one event to the last, inside an open transaction."""
        row = self._connection.execute(
            "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1"
        ).fetchone()
        number, previous = (row["number"] + 1, row["hash"]) if row else (1, FIRST_HASH)
        at = self._now().isoformat()
        encoded = json.dumps(data, sort_keys=True)
        data = json.loads(encoded)
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (
                number,
                at,
                change,
                kind,
                encoded,
                chain_hash(previous, number, at, change, kind, data),
            ),
        )

    def note(self, kind: str, change: str | None = None, **data: object) -> None:
        """Write an event that changes nothing else."""
        with self.transaction():
            self.event(kind, change, **data)

    def begin(
        self, change: Change, facts: Mapping[str, object], *, closes: str | None = None
    ) -> None:
        """Open a change, in one transaction with the end of the one that it takes over from.

        Args:
            change: The new change; its state is taken as running.
            facts: What is known from the start.
            closes: Id of a committed change that ends with this one, stuck or not.

        Raises:
            OpenChange: If another one is open.
        """
        try:
            with self.transaction() as connection:
                if closes is not None:
                    connection.execute(
                        "UPDATE changes SET state = ?, ended_at = ? WHERE id = ? AND EXISTS ("
                        "SELECT 1 FROM steps WHERE change = changes.id AND name = ? AND state = ?)",
                        (
                            ChangeState.FINISHED, self._now().isoformat(), closes,
                            StepName.COMMIT, StepState.DONE,
                        ),
                    )  # fmt: skip
                    self.event("change-finished", closes, taken_over_by=change.id)
                connection.execute(
                    "INSERT INTO changes (id, kind, mode, state, product, from_version, to_version,"
                    " strategy, generation, source, created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        change.id, change.kind, change.mode, ChangeState.RUNNING, change.product,
                        change.from_version, change.to_version, change.strategy, change.generation,
                        change.source, change.created_at.isoformat(),
                    ),
                )  # fmt: skip
                self._facts(change.id, facts)
                self.event(
                    "begun", change.id, what=change.kind, mode=change.mode,
                    from_version=change.from_version, to_version=change.to_version,
                )  # fmt: skip
        except sqlite3.IntegrityError as error:
            other = self.open_change()
            if other is None:
                raise JournalUnwritable(path=self.path, reason=str(error)) from error
            raise OpenChange(change=other.id, kind=other.kind, version=other.to_version) from error

    def step(
        self,
        change: str,
        name: StepName,
        state: StepState,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Record the state of a step, with the facts that belong to it."""
        at = self._now().isoformat()
        ended = at if state in (StepState.DONE, StepState.UNDONE) else None
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO steps (change, name, state, started_at, ended_at) VALUES (?,?,?,?,?)"
                " ON CONFLICT (change, name) DO UPDATE SET state = excluded.state,"
                " ended_at = excluded.ended_at, started_at = CASE excluded.state"
                " WHEN 'intended' THEN excluded.started_at ELSE started_at END",
                (change, name, state, at, ended),
            )
            self._facts(change, facts or {})
            self.event(f"step-{state}", change, step=name)

    def state(
        self, change: str, state: ChangeState, *, error_code: str | None = None, **data: object
    ) -> None:
        """Record the state of a change; an end gets its time."""
        ended = None if state.open else self._now().isoformat()
        with self.transaction() as connection:
            connection.execute(
                "UPDATE changes SET state = ?, ended_at = ?,"
                " error_code = COALESCE(?, error_code) WHERE id = ?",
                (state, ended, error_code, change),
            )
            self.event(f"change-{state}", change, error_code=error_code, **data)

    def commit(self, change: str) -> None:
        """Write the commit: from here on only forward. State and step in one transaction."""
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
            connection.execute(
                "INSERT INTO previous_sets (change, since) VALUES (?, ?)"
                " ON CONFLICT (change) DO NOTHING",
                (change, at),
            )
            self.event("committed", change)

    def attempt(self, change: str) -> int:
        """Count one more recovery of a change and return the number."""
        with self.transaction() as connection:
            connection.execute("UPDATE changes SET attempts = attempts + 1 WHERE id = ?", (change,))
            self.event("recovery", change)
        return self.change(change).attempts

    def fact(self, change: str, name: str, value: object) -> None:
        """Keep one fact of a change."""
        with self.transaction():
            self._facts(change, {name: value})

    def _facts(self, change: str, facts: Mapping[str, object]) -> None:
        self._connection.executemany(
            "INSERT INTO facts VALUES (?, ?, ?)"
            " ON CONFLICT (change, name) DO UPDATE SET value = excluded.value",
            [(change, name, json.dumps(value, sort_keys=True)) for name, value in facts.items()],
        )

    def now(self) -> datetime:
        """The time that records get."""
        return self._now()

    # ---- reading -------------------------------------------------------------------------------

    def rows(self, sql: str) -> list[sqlite3.Row]:
        """Rows of one query without parameters, for this room's own readers."""
        return self._connection.execute(sql).fetchall()

    def has_table(self, name: str) -> bool:
        """Whether a table that came later is there; an older journal may lack it."""
        return has_table(self._connection, name)

    def facts(self, change: str) -> dict[str, object]:
        """All facts of a change."""
        with reading(self.path):
            rows = self._connection.execute(
                "SELECT name, value FROM facts WHERE change = ?", (change,)
            )
            return {row["name"]: json.loads(row["value"]) for row in rows}

    def open_change(self) -> Change | None:
        """The change that has not come to its end, if there is one."""
        with reading(self.path):
            row = self._connection.execute(
                "SELECT id FROM changes WHERE state NOT IN ('finished', 'undone')"
            ).fetchone()
            return self.change(row["id"]) if row else None

    def change(self, change_id: str) -> Change:
        """One change with its steps.

        Raises:
            KeyError: If there is none of this id.
        """
        row = self._connection.execute(
            "SELECT * FROM changes WHERE id = ?", (change_id,)
        ).fetchone()
        if row is None:
            raise KeyError(change_id)
        steps = self._connection.execute("SELECT * FROM steps WHERE change = ?", (change_id,))
        return change_from_rows(row, steps)

    def changes(self, limit: int = 1000) -> tuple[Change, ...]:
        """Changes, newest first."""
        with reading(self.path):
            rows = self._connection.execute(
                "SELECT id FROM changes ORDER BY created_at DESC, rowid DESC LIMIT ?", (limit,)
            ).fetchall()
            return tuple(self.change(row["id"]) for row in rows)

    def last_event(self) -> int:
        """Number of the newest event; 0 where there is none."""
        with reading(self.path):
            row = self._connection.execute("SELECT MAX(number) AS last FROM events").fetchone()
            return int(row["last"] or 0)

    def events(self, after: int = 0, change: str | None = None) -> tuple[Event, ...]:
        """Events, oldest first, after a number."""
        with reading(self.path):
            rows = self._connection.execute(
                "SELECT * FROM events WHERE number > ? AND (? IS NULL OR change = ?)"
                " ORDER BY number",
                (after, change, change),
            )
            return tuple(Event(row) for row in rows)
