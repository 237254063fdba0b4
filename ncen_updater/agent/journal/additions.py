"""Tables that came after the first form of the journal.

The number of the form stays: a previous agent, to which a site may return, reads such a journal as
before and leaves these tables alone. So additions are tables of their own, never columns that an
older agent would have to fill. They are made whenever a journal is opened for writing, in one
transaction; whoever only reads must take a missing table for an empty one.
"""

from __future__ import annotations

import sqlite3

__all__ = ["ADDITIONS", "add_missing", "has_table"]

#: Name of a table to what makes it.
ADDITIONS = {
    # A trial of a release on copies of the databases, while officers work.
    "rehearsals": """CREATE TABLE rehearsals (
        id TEXT PRIMARY KEY CHECK (length(id) = 8),
        from_version TEXT NOT NULL,
        to_version TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'passed', 'failed')),
        started_at TEXT NOT NULL,
        ended_at TEXT,
        error_code TEXT,
        basis TEXT,
        report TEXT
    ) STRICT""",
    # What people said yes to. 'basis' is the document whose digest is 'binding'.
    "approvals": """CREATE TABLE approvals (
        id INTEGER PRIMARY KEY,
        binding TEXT NOT NULL CHECK (length(binding) = 64),
        to_version TEXT NOT NULL,
        basis TEXT NOT NULL,
        who TEXT NOT NULL,
        uid INTEGER NOT NULL,
        at TEXT NOT NULL,
        withdrawn_at TEXT,
        withdrawn_by TEXT
    ) STRICT""",
    # When an approved upgrade may begin, where a person chose the time.
    "schedules": """CREATE TABLE schedules (
        id INTEGER PRIMARY KEY,
        binding TEXT NOT NULL CHECK (length(binding) = 64),
        to_version TEXT NOT NULL,
        not_before TEXT NOT NULL,
        who TEXT NOT NULL,
        uid INTEGER NOT NULL,
        at TEXT NOT NULL,
        cancelled_at TEXT,
        cancelled_by TEXT
    ) STRICT""",
    # The stop that a rehearsal predicted for a change, and the one that it had.
    "predictions": """CREATE TABLE predictions (
        change TEXT PRIMARY KEY REFERENCES changes (id),
        rehearsal TEXT NOT NULL,
        low_s REAL NOT NULL,
        likely_s REAL NOT NULL,
        high_s REAL NOT NULL,
        real_s REAL
    ) STRICT""",
    # What somebody asked the service to do; the service does it, not the request.
    "orders": """CREATE TABLE orders (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        data TEXT NOT NULL,
        who TEXT NOT NULL,
        uid INTEGER NOT NULL,
        at TEXT NOT NULL,
        taken_at TEXT,
        ended_at TEXT,
        result TEXT
    ) STRICT""",
    # How much time has passed here, counted without trust in the wall clock.
    "elapsed": """CREATE TABLE elapsed (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        boot TEXT NOT NULL,
        monotonic_s REAL NOT NULL,
        wall TEXT NOT NULL,
        total_s REAL NOT NULL
    ) STRICT""",
    # How much had passed when a set of previous databases was first seen to be kept.
    "kept_since": """CREATE TABLE kept_since (
        change TEXT PRIMARY KEY REFERENCES previous_sets (change),
        total_s REAL NOT NULL
    ) STRICT""",
}


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a table is there."""
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(sql, (name,)).fetchone() is not None


def add_missing(connection: sqlite3.Connection) -> None:
    """Make the tables that an older journal does not have; does nothing where all are there."""
    missing = [name for name in ADDITIONS if not has_table(connection, name)]
    if not missing:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for name in missing:
            if not has_table(connection, name):  # another process may have been first
                connection.execute(ADDITIONS[name])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
