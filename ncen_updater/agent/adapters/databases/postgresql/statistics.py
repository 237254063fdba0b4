"""What the planner knows of the live databases, brought up to date while officers work.

A template copy brings the statistics of its source along, so only what changed since needs new
ones: tables with rows that were written since they were last analyzed, and tables with a column of
which nothing is known, since a migration made it or a backup was restored. The server counts
written rows anew in a copy, and forgets its counts in a crash: where it began after the last
cut-over, every table is taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import psycopg

from ncen_updater.agent.adapters.databases.base import Live
from ncen_updater.agent.adapters.databases.migrations.ledger import KEPT_SCHEMA, OWN_SCHEMA
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    identifier,
    rows,
    run,
)
from ncen_updater.agent.adapters.databases.postgresql.control import SwapEvent, read_last
from ncen_updater.agent.adapters.databases.postgresql.sessions import Sessions
from ncen_updater.common.database_words import said

logger = logging.getLogger(__name__)

# Nobody but an owner may analyze a table, and the statistics of an empty one say nothing.
_CHANGED = """
WITH own AS (
  SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples,
    coalesce(pg_stat_get_mod_since_analyze(c.oid), 0) AS written,
    c.relkind <> 'p' AND (c.relpages > 0 OR c.reltuples < 0) AND EXISTS (
      SELECT FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attgenerated IN ('', 's') AND coalesce(a.attstattarget, -1) <> 0
        AND NOT EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = n.nspname
                        AND s.tablename = c.relname AND s.attname = a.attname)) AS unknown
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('information_schema', %(own)s, %(kept)s)
    AND n.nspname NOT LIKE 'pg\\_%%' AND pg_has_role(c.relowner, 'USAGE')),
changed AS (SELECT * FROM own WHERE relkind <> 'p' AND (%(all)s OR written > 0 OR unknown))
SELECT nspname, relname, 0 AS rank, written FROM changed
UNION ALL
SELECT nspname, relname, 1, 0 FROM own WHERE relkind = 'p' AND (%(all)s OR reltuples < 0 OR EXISTS (
  SELECT FROM changed, pg_partition_ancestors(changed.oid) AS above WHERE above = own.oid))
ORDER BY rank, written DESC, nspname, relname
"""


def refresh_statistics(
    server: Server,
    sessions: Sessions,
    names: Mapping[str, str],
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, tuple[str, ...]]:
    """Analyze what changed, one table after the other, and return the tables by logical name.

    A table that cannot be analyzed now is left to the server's own upkeep.

    Args:
        server: The server.
        sessions: Opens them, and ends them where asked.
        names: Logical to physical names of the live databases.
        limit_s: No table is begun after this, and none takes longer.
        clock: Monotonic seconds.

    Raises:
        DatabaseError: If a database cannot be entered, or the session was ended.
    """
    until = clock() + limit_s
    done: dict[str, tuple[str, ...]] = {}
    everything = _restarted(server)
    with sessions.at_work.begun():
        for name in names:
            with sessions.session(Live(name)) as connection:
                run(connection, "SET search_path = pg_catalog, pg_temp")
                found = _changed(connection, everything=everything)
                tables = [t for t in found if _analyzed(connection, t, until - clock())]
                if tables:
                    done[name] = tuple(f"{schema}.{table}" for schema, table in tables)
    return done


def _restarted(server: Server) -> bool:
    """Whether the server began after the last cut-over; also where it cannot be told."""
    with server.facts() as connection:
        last = read_last(connection, (SwapEvent.OVER, SwapEvent.BACK))
        return last is None or bool(
            rows(connection, "SELECT pg_postmaster_start_time() > %s", [last])[0][0]
        )


def _changed(connection: Connection, *, everything: bool) -> list[tuple[str, str]]:
    values = {"own": OWN_SCHEMA, "kept": KEPT_SCHEMA, "all": everything}
    found = connection.execute(_CHANGED.encode(), values).fetchall()
    return [(schema, table) for schema, table, _, _ in found]


def _analyzed(connection: Connection, table: tuple[str, str], left_s: float) -> bool:
    if left_s <= 0:
        return False
    try:
        run(connection, f"SET statement_timeout = {max(1, int(left_s * 1000))}")
        run(connection, f"ANALYZE {identifier(table[0])}.{identifier(table[1])}")
    except psycopg.Error as error:
        if connection.closed:
            raise
        logger.warning("%s.%s was not analyzed: %s", *table, said(error))
        return False
    return True
