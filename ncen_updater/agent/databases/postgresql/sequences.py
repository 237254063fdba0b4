"""Sequences that must give no number twice, in copies and in the agent's own ledger.

The server writes a sequence ahead of its use, 32 values at a time, and keeps in the sequence how
many are left of them. A copy by WAL_LOG takes that count over without what was written ahead: after
a crash its sequences would give values once more that are in the tables already. One that is set to
the value that it has is written anew. Those of other roles are theirs to set.
"""

from __future__ import annotations

import logging

from ncen_updater.agent.databases.postgresql.connection import Connection, rows, run
from ncen_updater.agent.databases.postgresql.dialect import PostgresDialect

logger = logging.getLogger(__name__)

_ANCHOR = """
SELECT setval(found.oid::regclass, found.last, true)
FROM (SELECT own.seqrelid AS oid, pg_sequence_last_value(own.seqrelid) AS last
      FROM (SELECT seqrelid FROM pg_sequence
            WHERE has_sequence_privilege(seqrelid, 'SELECT')
              AND has_sequence_privilege(seqrelid, 'UPDATE') OFFSET 0) AS own
      OFFSET 0) AS found
WHERE found.last IS NOT NULL
"""
_MEND = """
SELECT setval(found.numbers, found.newest, true)
FROM (SELECT pg_get_serial_sequence('ncen_updater.ledger', 'seq')::regclass AS numbers,
             max(seq) AS newest FROM ncen_updater.ledger OFFSET 0) AS found
WHERE found.newest > coalesce(pg_sequence_last_value(found.numbers), 0)
"""


def anchor(connection: Connection) -> None:
    """Write every sequence anew, with the value that it has.

    Args:
        connection: In the copy, as the application's role, in autocommit mode.
    """
    run(connection, _ANCHOR)


def mend_ledger(connection: Connection) -> None:
    """Let the ledger's numbers go on after its newest row.

    They may be behind where the server was killed after a change whose copy was not anchored, by an
    agent from before that was known: every later migration would fail on a number that is taken.

    Args:
        connection: In the database, as the application's role, in autocommit mode.
    """
    if rows(connection, PostgresDialect.tables.exists) and rows(connection, _MEND):
        logger.warning("the numbers of the ledger were behind its rows; they were set")
