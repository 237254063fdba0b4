"""Whether a closed database was opened by anybody: the version of its entry in the catalogue.

Who opens a database, renames it or grants a right on it writes its row of ``pg_database`` anew, and
the row's ``xmin`` is then another one, also where everything is put back afterwards. So the version
is written down in the transaction that closes the database, every act of our own that alters the
row renews it, and the cut-over compares. Neither a VACUUM nor the server's own book-keeping (which
writes the row in place) changes it; a GRANT, a new limit and the like do, and are not told apart
from an opening: then the change goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ncen_updater.agent.databases.base import ChangeRef
from ncen_updater.agent.databases.postgresql.connection import Connection, Server, rows, run

_TABLE = (
    "CREATE TABLE IF NOT EXISTS public.versions ("
    " database text PRIMARY KEY, change text NOT NULL, version text NOT NULL)"
)
# Stays, whatever becomes of the entry: that it was opened once is enough.
OPENED = "opened"


def expected(connection: Connection, databases: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return change and version by physical name, for those of which it is known."""
    if rows(connection, "SELECT to_regclass('public.versions') IS NULL")[0][0]:
        return {}
    found = rows(
        connection,
        "SELECT database, change, version FROM public.versions WHERE database = ANY(%s)",
        [list(databases)],
    )
    return {database: (change, version) for database, change, version in found}


def expect(connection: Connection, change: ChangeRef, databases: Iterable[str]) -> None:
    """Write down what the entries are now, as this transaction sees them."""
    run(connection, _TABLE)
    for database, version in _entries(connection, databases).items():
        run(
            connection,
            "INSERT INTO public.versions VALUES (%s, %s, %s) ON CONFLICT (database)"
            " DO UPDATE SET change = excluded.change, version = excluded.version",
            [database, change.id, version],
        )


def forget(connection: Connection, databases: Iterable[str]) -> None:
    """Say no more of these databases."""
    known = expected(connection, databases)
    if known:
        run(connection, "DELETE FROM public.versions WHERE database = ANY(%s)", [list(known)])


def opened(server: Server, connection: Connection, databases: Iterable[str]) -> tuple[str, ...]:
    """Return those whose entry somebody else has written since it was expected.

    Call it after this transaction altered the entries and before :func:`renew`: what is altered
    cannot be altered by anybody else, so another session sees exactly what was replaced.

    Args:
        server: Where the other session is opened.
        connection: In the transaction of the control database.
        databases: Physical names.
    """
    known = expected(connection, databases)
    if not known:
        return ()
    with server.facts() as outside:
        return _differing(known, _entries(outside, known))


def altered(connection: Connection, databases: Iterable[str]) -> tuple[str, ...]:
    """Return those whose entry somebody else has written; for a look outside of any act."""
    known = expected(connection, databases)
    return _differing(known, _entries(connection, known))


def renew(connection: Connection, databases: Iterable[str], was_opened: Iterable[str]) -> None:
    """Expect the entries as this transaction leaves them, but never again what was opened."""
    spoilt = set(was_opened)
    known = expected(connection, databases)
    for database, version in _entries(connection, known).items():
        run(
            connection,
            "UPDATE public.versions SET version = %s WHERE database = %s",
            [OPENED if database in spoilt else version, database],
        )


def own_act(
    server: Server, connection: Connection, database: str, statements: Iterable[str]
) -> None:
    """Alter the entry of one database, in one transaction with what is expected of it."""
    with connection.transaction():
        for statement in statements:
            run(connection, statement)
        renew(connection, [database], opened(server, connection, [database]))


def mark_opened(connection: Connection, databases: Iterable[str]) -> None:
    """Write that somebody was inside."""
    known = expected(connection, databases)
    if known:
        run(
            connection,
            "UPDATE public.versions SET version = %s WHERE database = ANY(%s)",
            [OPENED, list(known)],
        )


def _differing(known: Mapping[str, tuple[str, str]], entries: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name, (_, one) in known.items() if entries.get(name) != one))


def _entries(connection: Connection, databases: Iterable[str]) -> Mapping[str, str]:
    found = rows(
        connection,
        "SELECT datname, oid::text || '/' || xmin::text FROM pg_database WHERE datname = ANY(%s)",
        [list(databases)],
    )
    return dict(found)
