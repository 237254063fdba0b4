"""Planner statistics of the live databases, updated while users work.

A template copy contains the statistics of its source, so only changes need new ones: tables with
rows written since they were last analyzed, and tables with a column without statistics, because a
migration created it or a backup was restored. The server counts written rows from zero in a copy,
and loses its counters in a crash: if it was started after the last cut-over, every table is
analyzed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import psycopg

from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.adapters.databases.migrations.ledger import AGENT_SCHEMA, PARKED_SCHEMA
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    Server,
    execute,
    fetch_rows,
    quote_identifier,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    CutOverEvent,
    read_last_event_time,
)
from ncen_updater.agent.adapters.databases.postgresql.sessions import DatabaseSessions
from ncen_updater.common.error_sanitizer import sanitize_error

logger = logging.getLogger(__name__)

# Only an owner may analyze a table, and an empty one has no statistics.
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
    sessions: DatabaseSessions,
    names: Mapping[str, str],
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, tuple[str, ...]]:
    """Analyze changed tables, one after the other, and return them by logical name.

    A table that cannot be analyzed now is left to autovacuum.

    Args:
        server: The server.
        sessions: Opens the databases.
        names: Logical to physical names of the live databases.
        limit_s: Time limit in seconds; no table is begun after it, and none takes longer.
        clock: Monotonic seconds.

    Raises:
        DatabaseError: If a database cannot be entered, or the session was terminated.
    """
    deadline = clock() + limit_s
    analyzed: dict[str, tuple[str, ...]] = {}
    everything = _was_restarted(server)
    with sessions.active.track():
        for name in names:
            with sessions.open_session_block(LiveDatabase(name)) as connection:
                execute(connection, "SET search_path = pg_catalog, pg_temp")
                found = _find_changed_tables(connection, everything=everything)
                tables = [t for t in found if _analyze_table(connection, t, deadline - clock())]
                if tables:
                    analyzed[name] = tuple(f"{schema}.{table}" for schema, table in tables)
    return analyzed


def _was_restarted(server: Server) -> bool:
    """Tell whether the server was started after the last cut-over, or this is unknown."""
    with server.open_control_session() as connection:
        last = read_last_event_time(connection, (CutOverEvent.CUT_OVER, CutOverEvent.REVERTED))
        return last is None or bool(
            fetch_rows(connection, "SELECT pg_postmaster_start_time() > %s", [last])[0][0]
        )


def _find_changed_tables(connection: Connection, *, everything: bool) -> list[tuple[str, str]]:
    values = {"own": AGENT_SCHEMA, "kept": PARKED_SCHEMA, "all": everything}
    found = connection.execute(_CHANGED.encode(), values).fetchall()
    return [(schema, table) for schema, table, _, _ in found]


def _analyze_table(connection: Connection, table: tuple[str, str], left_s: float) -> bool:
    if left_s <= 0:
        return False
    try:
        execute(connection, f"SET statement_timeout = {max(1, int(left_s * 1000))}")
        execute(connection, f"ANALYZE {quote_identifier(table[0])}.{quote_identifier(table[1])}")
    except psycopg.Error as error:
        if connection.closed:
            raise
        logger.warning("%s.%s was not analyzed: %s", *table, sanitize_error(error))
        return False
    return True
