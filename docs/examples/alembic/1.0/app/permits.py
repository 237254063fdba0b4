"""Code that the three programs share: the database, and how each of them is run."""

import os
import signal
import threading

import sqlalchemy as sa

VERSION = "1.0"
ended = threading.Event()
engine = sa.create_engine(os.environ["PERMITS_DB"], pool_pre_ping=True)

ISSUE = """
UPDATE permits SET issued = issued + 1 WHERE id = (
    SELECT id FROM permits WHERE issued = 0 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1
) RETURNING id
"""


def asked(sql, **values):
    """Run one statement in a transaction of its own; return its rows."""
    with engine.begin() as connection:
        result = connection.execute(sa.text(sql), values)
        return [dict(row._mapping) for row in result] if result.returns_rows else []


def over_and_over(act, pause_s):
    """Call it until the program is told to end; without a pause while there is something to do."""
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.is_set():
        if not act():
            ended.wait(pause_s)
