"""The tables of the journal and the chain of its events.

The file carries an application id and a schema number of its own; a newer agent may only add
columns with defaults and tables, so that the previous agent can still read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

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
-- One change at a time, held by the file itself and not only by the lock.
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
    by TEXT NOT NULL,
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
-- What people said yes to. 'basis' is the document whose digest is 'binding'.
CREATE TABLE approvals (
    id INTEGER PRIMARY KEY,
    binding TEXT NOT NULL CHECK (length(binding) = 64),
    to_version TEXT NOT NULL,
    basis TEXT NOT NULL,
    who TEXT NOT NULL,
    uid INTEGER NOT NULL,
    at TEXT NOT NULL,
    withdrawn_at TEXT,
    withdrawn_by TEXT
) STRICT;
-- When an approved upgrade may begin, where a person chose the time.
CREATE TABLE schedules (
    id INTEGER PRIMARY KEY,
    binding TEXT NOT NULL CHECK (length(binding) = 64),
    to_version TEXT NOT NULL,
    not_before TEXT NOT NULL,
    who TEXT NOT NULL,
    uid INTEGER NOT NULL,
    at TEXT NOT NULL,
    cancelled_at TEXT,
    cancelled_by TEXT
) STRICT;
-- The stop that a rehearsal predicted for a change, and the one that it had.
CREATE TABLE predictions (
    change TEXT PRIMARY KEY REFERENCES changes (id),
    rehearsal TEXT NOT NULL,
    low_s REAL NOT NULL,
    likely_s REAL NOT NULL,
    high_s REAL NOT NULL,
    actual_s REAL
) STRICT;
-- What somebody asked the service to do; the service does it, not the request.
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    who TEXT NOT NULL,
    uid INTEGER NOT NULL,
    at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    result TEXT
) STRICT;
-- How much time has passed here, counted without trust in the wall clock.
CREATE TABLE elapsed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot TEXT NOT NULL,
    monotonic_s REAL NOT NULL,
    wall TEXT NOT NULL,
    total_s REAL NOT NULL
) STRICT;
-- How much had passed when a set of previous databases was first seen to be kept.
CREATE TABLE kept_since (
    change TEXT PRIMARY KEY REFERENCES previous_sets (change),
    total_s REAL NOT NULL
) STRICT;
"""


def compute_chain_hash(
    previous: str, number: int, at: str, change: str | None, kind: str, data: Mapping[str, object]
) -> str:
    """Return the hash of an event: SHA-256 over the hash before it and the event's own fields."""
    own = json.dumps([number, at, change, kind, data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{own}".encode()).hexdigest()
