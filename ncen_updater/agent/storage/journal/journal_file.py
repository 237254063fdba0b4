"""File of the journal: tables, creation, checks at opening, hash chain of events, disk reserve.

The rollback-journal mode with ``synchronous=EXTRA`` also flushes the directory, and lets ``status``
read as a user without write permission (https://www.sqlite.org/pragma.html#pragma_synchronous).
``status`` imports this module: no third-party imports.

The file carries its own application id and schema number. A newer agent may only add tables, and
columns with defaults, so that the previous agent can still read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from ncen_updater.agent.model.errors import (
    JournalMissingError,
    JournalPermissionError,
    JournalUnreadableError,
    JournalUnwritableError,
)
from ncen_updater.agent.storage.journal.rows import guard_reads, parse_stored_value
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.disk_space import is_disk_full
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import encode_text
from ncen_updater.common.messages import JOURNAL_EXISTS, JOURNAL_INTERRUPTED, JOURNAL_NO_ROOM

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x6E43454E  # "nCEN"
SCHEMA_VERSION = 1
FIRST_HASH = "0" * 64

SCHEMA = """
CREATE TABLE changes (
    id TEXT PRIMARY KEY CHECK (length(id) = 8),
    kind TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    product TEXT NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    generation INTEGER NOT NULL,
    source TEXT,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    error_code TEXT,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
-- At most one open change, guaranteed by the file itself and not only by the lock.
CREATE UNIQUE INDEX one_open_change ON changes ((1)) WHERE state NOT IN ('finished', 'reverted');
CREATE TABLE steps (
    change TEXT NOT NULL REFERENCES changes (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    PRIMARY KEY (change, name)
) STRICT;
CREATE TABLE facts (
    change TEXT NOT NULL REFERENCES changes (id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (change, name)
) STRICT;
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    change TEXT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE TABLE bad_releases (
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    code TEXT NOT NULL,
    times INTEGER NOT NULL,
    last_at TEXT NOT NULL,
    PRIMARY KEY (product, version)
) STRICT;
CREATE TABLE holds (
    id INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    since TEXT NOT NULL,
    until TEXT,
    lifted_at TEXT,
    lifted_by TEXT
) STRICT;
CREATE TABLE previous_sets (
    change TEXT PRIMARY KEY REFERENCES changes (id),
    since TEXT NOT NULL,
    dropped_at TEXT
) STRICT;
-- A rehearsal of a release on copies of the databases, while users work.
CREATE TABLE rehearsals (
    id TEXT PRIMARY KEY CHECK (length(id) = 8),
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'passed', 'failed')),
    started_at TEXT NOT NULL,
    ended_at TEXT,
    error_code TEXT,
    basis TEXT,
    report TEXT
) STRICT;
-- Approvals. 'basis' is the document whose digest is 'binding'.
CREATE TABLE approvals (
    id INTEGER PRIMARY KEY,
    binding TEXT NOT NULL CHECK (length(binding) = 64),
    to_version TEXT NOT NULL,
    basis TEXT NOT NULL,
    actor TEXT NOT NULL,
    uid INTEGER NOT NULL,
    at TEXT NOT NULL,
    withdrawn_at TEXT,
    withdrawn_by TEXT
) STRICT;
-- Start times that operators chose for approved upgrades.
CREATE TABLE schedules (
    id INTEGER PRIMARY KEY,
    binding TEXT NOT NULL CHECK (length(binding) = 64),
    to_version TEXT NOT NULL,
    not_before TEXT NOT NULL,
    actor TEXT NOT NULL,
    uid INTEGER NOT NULL,
    at TEXT NOT NULL,
    cancelled_at TEXT,
    cancelled_by TEXT
) STRICT;
-- Predicted and actual downtime of a change.
CREATE TABLE predictions (
    change TEXT PRIMARY KEY REFERENCES changes (id),
    rehearsal TEXT NOT NULL,
    low_s REAL NOT NULL,
    likely_s REAL NOT NULL,
    high_s REAL NOT NULL,
    actual_s REAL
) STRICT;
-- Jobs of the service.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    actor TEXT NOT NULL,
    uid INTEGER NOT NULL,
    at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    result TEXT
) STRICT;
-- Elapsed time of the site, counted without relying on the wall clock.
CREATE TABLE elapsed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot TEXT NOT NULL,
    monotonic_s REAL NOT NULL,
    wall TEXT NOT NULL,
    total_s REAL NOT NULL
) STRICT;
-- Elapsed time at the start of the retention of a set of previous databases.
CREATE TABLE retained_since (
    change TEXT PRIMARY KEY REFERENCES previous_sets (change),
    total_s REAL NOT NULL
) STRICT;
"""
#: Fields of an event that the system log gets after its kind, with their format: identifiers, names
#: and figures, no text written by people, nothing from the databases.
LOGGED_FIELDS: Final = {
    "action": "{}", "step": "{}", "version": "{}", "from_version": "from {}", "to_version": "to {}",
    "by": "by {}", "job": "(job {})", "rehearsal": "(rehearsal {})", "change": "(change {})",
    "not_before": "not before {}", "until": "until {}", "exit_code": "exit code {}", "code": "{}",
}  # fmt: skip
# Wait for a reader (a backup, a database browser) instead of reporting a broken disk.
BUSY_TIMEOUT_S = 60.0
# A change whose journal cannot be written must stop, since no effect may exist without a record. So
# a reserve file is written before a change begins, and deleted when the disk is full: its space is
# enough for the records of a revert many times over.
RESERVE_BYTES = 2 << 20  # a revert writes about fifty records of at most a few pages each

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class JournalFile:
    """File of the journal: created once, then opened and checked, with its chain of events.

    Args:
        path: The file.
        connection: An open connection with the right pragmas.
        now: Returns the time of records.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self.path = path
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._now = now
        self._events: list[tuple[str, dict[str, object], str]] = []
        self._writing = False

    # ---- opening -------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        now: Callable[[], datetime] = _utc_now,
        first_event: tuple[str, Mapping[str, object]] | None = None,
    ) -> Self:
        """Create the journal of a site that never had one.

        Args:
            path: The file.
            now: Returns the time of records.
            first_event: Kind and data of the first event, written before the file gets its name.

        Raises:
            JOURNAL_EXISTS: If a file exists already, whatever its content.
        """
        if path.exists() or path.is_symlink():  # also refuse a link to an absent disk
            raise UpdaterError(JOURNAL_EXISTS, path=path)
        durable.make_directory(path.parent, 0o750)
        temporary = path.with_name(f".{path.name}{durable.PARTIAL_PREFIX}new")
        temporary.unlink(missing_ok=True)
        # SQLite gives its companion files the mode of this file; others may traverse the directory.
        temporary.touch(0o640)
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.executescript(
                f"PRAGMA synchronous=EXTRA; PRAGMA application_id={APPLICATION_ID};"
                f"PRAGMA user_version={SCHEMA_VERSION}; BEGIN; {SCHEMA} COMMIT;"
            )
            if first_event is not None:
                kind, data = first_event
                cls(temporary, connection, now).record_event(kind, None, **data)
        durable.rename_entry(temporary, path)
        return cls.open(path, now=now)

    @classmethod
    def open(
        cls, path: Path, *, read_only: bool = False, now: Callable[[], datetime] = _utc_now
    ) -> Self:
        """Open the journal and check its integrity.

        Args:
            path: The file.
            read_only: For commands that only read; skips the check of the full chain.
            now: Returns the time of records.

        Raises:
            JournalMissingError: If there is none.
            JournalPermissionError: If this user may not read it.
            JOURNAL_INTERRUPTED: If a write was interrupted and this user may not roll it back.
            JournalUnreadableError: If it is damaged, altered, or of another schema.
        """
        try:
            path.lstat()
            plain = path.is_file()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise JournalMissingError(path=path) from error
        except PermissionError as error:  # the user may not enter the directory
            raise JournalPermissionError(path=path) from error
        except OSError as error:
            raise JournalUnreadableError(path=path, reason=str(error)) from error
        if not plain:
            raise JournalUnreadableError(path=path, reason="not a regular file")
        if not os.access(path, os.R_OK, effective_ids=True):
            raise JournalPermissionError(path=path)
        try:
            connection = _connect(path, "ro" if read_only else "rw")
            try:
                if read_only:
                    _roll_back_hot_journal(path, connection)
                connection.execute("PRAGMA synchronous=EXTRA")
                connection.execute("PRAGMA foreign_keys=ON")
                journal = cls(path, connection, now)
                journal._validate(full=not read_only)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, ValueError, LookupError, TypeError, RecursionError) as error:
            raise JournalUnreadableError(path=path, reason=str(error)) from error
        return journal

    def _validate(self, *, full: bool) -> None:
        execute = self._connection.execute
        if execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise JournalUnreadableError(path=self.path, reason="not a journal of ncen-updater")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise JournalUnreadableError(
                path=self.path,
                reason=LazyText("unknown version {version}", {"version": version}),
            )
        if execute("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
            raise JournalUnreadableError(path=self.path, reason="it contains triggers or views")
        if not execute("SELECT 1 FROM sqlite_master WHERE name = 'one_open_change'").fetchone():
            raise JournalUnreadableError(
                path=self.path, reason="its index against concurrent changes is missing"
            )
        if execute("PRAGMA journal_mode").fetchone()[0] != "delete":
            raise JournalUnreadableError(path=self.path, reason="its records are in another file")
        if full:
            result = execute("PRAGMA integrity_check(1)").fetchone()[0]
            if result != "ok":
                raise JournalUnreadableError(path=self.path, reason=result)
            self.verify_chain()

    def verify_chain(self) -> int:
        """Verify the chain of all events; return the number of events.

        Raises:
            JournalUnreadableError: At the first event that does not match.
        """
        previous = FIRST_HASH
        count = 0
        for row in self._connection.execute("SELECT * FROM events ORDER BY number"):
            count += 1
            data = parse_stored_value(row["data"])
            expected = compute_chain_hash(
                previous, count, row["at"], row["change"], row["kind"], data
            )
            if row["number"] != count or row["hash"] != expected:
                raise JournalUnreadableError(
                    path=self.path, reason=LazyText("event {number} was altered", {"number": count})
                )
            previous = row["hash"]
        return count

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
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
        """Open a transaction, committed if the block ends without an error.

        Inside another one, its records belong to that.

        Raises:
            JournalUnwritableError: If the file cannot be written.
        """
        if self._writing:
            yield self._connection
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._writing = True
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._events.clear()
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._writing = False
            self._log_events()
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise make_unwritable_error(self.path, error) from error

    def append_event(self, kind: str, change: str | None, **data: object) -> None:
        """Append one event to the chain, inside an open transaction."""
        row = self._connection.execute(
            "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1"
        ).fetchone()
        number, previous = (row["number"] + 1, row["hash"]) if row else (1, FIRST_HASH)
        at = self._now().isoformat()
        encoded = json.dumps(data, sort_keys=True, default=encode_text)
        data = json.loads(encoded)
        event_hash = compute_chain_hash(previous, number, at, change, kind, data)
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (number, at, change, kind, encoded, event_hash),
        )
        code = data.get("code") or data.get("error_code")
        fields = {"event": number, "change": change, "step": data.get("step"), "code": code}
        logged = {k: v for k, v in fields.items() if v is not None}
        text = " ".join([kind, *_format_logged_fields({**data, "change": change, "code": code})])
        self._events.append((text, logged, event_hash))

    def _log_events(self) -> None:
        events, self._events = self._events, []
        for text, fields, event_hash in events:
            logger.info("%s", text, extra={**fields, "head": f"{fields['event']}:{event_hash}"})

    def record_event(self, kind: str, change: str | None = None, **data: object) -> None:
        """Append an event in its own transaction."""
        with self.transaction():
            self.append_event(kind, change, **data)

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read a consistent state within the block, whatever is written meanwhile."""
        with guard_reads(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def read_time(self) -> datetime:
        """Return the current time for a record."""
        return self._now()

    def query(self, sql: str) -> list[sqlite3.Row]:
        """Return the rows of a query without parameters.

        For readers of the journal's tables in the agent's own modules.

        Raises:
            JournalUnreadableError: If they cannot be read.
        """
        with guard_reads(self.path):
            return self._connection.execute(sql).fetchall()


def _format_logged_fields(data: Mapping[str, object]) -> Iterator[str]:
    """Yield the fields of an event in their format for the system log."""
    for name, template in LOGGED_FIELDS.items():
        if data.get(name) is not None:
            yield template.format(data[name])
    if data.get("needed"):
        yield f"({data['count']} of {data['needed']})"


def make_unwritable_error(path: Path, error: Exception) -> JournalUnwritableError:
    """Return the error of a journal that cannot be written; a full disk has its own message."""
    message = JOURNAL_NO_ROOM if is_disk_full(error) else None
    return JournalUnwritableError(message, path=path, reason=str(error))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)


def _roll_back_hot_journal(path: Path, reading: sqlite3.Connection) -> None:
    """Roll back a write that a power cut interrupted, as the next writer would do.

    A read-only connection cannot do so, and would report a good journal as damaged.

    Raises:
        JOURNAL_INTERRUPTED: If this user may not write the journal.
    """
    try:
        reading.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        try:
            with contextlib.closing(_connect(path, "rw")) as writing:
                writing.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as second:
            raise JournalPermissionError(
                JOURNAL_INTERRUPTED, path=path, detail=str(second)
            ) from second


# ---- disk space reserve of the journal -----------------------------------------------------------


def get_reserve_path(journal: Path) -> Path:
    """Return the path of a journal's reserve."""
    return journal.with_name(f"{journal.name}.reserve")


def create_reserve(journal: Path) -> None:
    """Write the reserve if it does not exist, atomically and flushed.

    Raises:
        OSError: If there is no space for it.
    """
    path = get_reserve_path(journal)
    if path.is_file() and path.stat().st_size == RESERVE_BYTES:
        return
    with durable.open_for_replace(path, 0o640) as stream:
        # Random data, so that no file system compresses it.
        stream.write(os.urandom(RESERVE_BYTES))


def release_reserve(journal: Path) -> bool:
    """Delete the reserve; return whether there was one, so that its space is free now."""
    path = get_reserve_path(journal)
    try:
        path.unlink()
    except OSError as error:
        logger.warning("cannot release the journal's reserve file: %s", error)
        return False
    durable.fsync_directory(path.parent)
    logger.warning("the disk is full; released the journal's reserve file")
    return True


def retry_with_reserve(journal: Path, action: Callable[[], T]) -> T:
    """Run an action that writes records; if a record fails, release the reserve and run it again.

    Args:
        journal: The journal.
        action: The action; it must be repeatable.

    Raises:
        JournalUnwritableError: If the space is still not enough.
    """
    try:
        return action()
    except JournalUnwritableError:
        if not release_reserve(journal):
            raise
        return action()


def compute_chain_hash(
    previous: str, number: int, at: str, change: str | None, kind: str, data: Mapping[str, object]
) -> str:
    """Return the hash of an event: SHA-256 of the previous hash and the event's own fields."""
    content = json.dumps([number, at, change, kind, data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{content}".encode()).hexdigest()
