"""Our own sessions as the application's role in live databases that are closed.

They count there what was written since the cut-over, before a change goes back. A session that is
not the agent's role's is a stranger's, and what it wrote is set aside if the change goes back.
Sessions that log in as the application's role look like the application's own, so each of them is
written down: by its process and the moment at which that began, which no session can choose, as it
can its name. A dead agent's session, with which the server still is at work, is known by that as
well.
"""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.agent.databases.postgresql.connection import FALLBACKS, Connection, rows, run
from ncen_updater.agent.databases.postgresql.versions import mark_opened

_TABLE = (
    "CREATE TABLE IF NOT EXISTS public.visits ("
    " process integer, started timestamptz, database text NOT NULL,"
    " PRIMARY KEY (process, started))"
)
_NOTE = (
    "INSERT INTO public.visits SELECT pid, backend_start, datname FROM pg_stat_activity"
    " WHERE pid = %s AND backend_start IS NOT NULL ON CONFLICT DO NOTHING"
)
_STRANGERS = (
    "SELECT DISTINCT datname FROM pg_stat_activity a WHERE datname = ANY(%s)"
    " AND pid <> pg_backend_pid() AND usename <> current_user"
)
_NOT_OURS = (
    " AND NOT EXISTS (SELECT FROM public.visits v"
    " WHERE v.process = a.pid AND v.started = a.backend_start)"
)


def prepare_visits(connection: Connection) -> None:
    """Make room for them.

    Args:
        connection: In a transaction of the control database: there one agent writes at a time.
    """
    run(connection, _TABLE)


def note_visit(connection: Connection, process: int) -> None:
    """Write down one of our own sessions; with the server's end it is over anyway.

    Args:
        connection: A session in the control database.
        process: The session's process in the server.
    """
    if not _is_there(connection):
        return
    with connection.transaction():
        run(connection, "SET LOCAL synchronous_commit = off")
        run(connection, _NOTE, [process])


def mark_strangers(connection: Connection, databases: Sequence[str]) -> None:
    """Write of closed databases in which somebody else is that they were opened."""
    known = _is_there(connection)
    found = rows(connection, _STRANGERS + (_NOT_OURS if known else ""), [list(databases)])
    mark_opened(connection, [name for (name,) in found])


def forget_visits(connection: Connection, databases: Sequence[str]) -> None:
    """Say no more of who was in these databases: their sessions are over."""
    if _is_there(connection):
        run(connection, "DELETE FROM public.visits WHERE database = ANY(%s)", [list(databases)])


def _is_there(connection: Connection) -> bool:
    if connection.info.dbname in FALLBACKS:  # not ours, and what is in it may be anybody's
        return False
    return not rows(connection, "SELECT to_regclass('public.visits') IS NULL")[0][0]
