"""What the shared catalogue says of the databases of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ncen_updater.agent.databases.errors import DatabaseUnreachable
from ncen_updater.agent.databases.postgresql.connection import Connection, rows
from ncen_updater.common.messages import SET_INCOMPLETE

INVALID_LIMIT = -2  # the server's mark on a database whose DROP was interrupted


@dataclass(frozen=True)
class DatabaseRow:
    """One row of pg_database.

    Attributes:
        allow: Whether sessions are allowed at all.
        limit: Connection limit, -1 for none.
        comment: As stored, with our marker.
    """

    oid: int
    name: str
    owner: str
    allow: bool
    limit: int
    template: bool
    comment: str | None
    public_closed: bool

    @property
    def valid(self) -> bool:
        """False where a DROP was interrupted."""
        return self.limit != INVALID_LIMIT


def require(found: Mapping[str, DatabaseRow], name: str) -> DatabaseRow:
    """Return the row of a database that has to be there.

    Raises:
        DatabaseUnreachable: It is not, or a DROP of it was interrupted: such a one can still be
            renamed, but never opened.
    """
    row = found.get(name)
    if row is None or not row.valid:
        raise DatabaseUnreachable(SET_INCOMPLETE, database=name)
    return row


def server_major(connection: Connection) -> int:
    """Return the major version of the server."""
    return connection.info.server_version // 10_000


def read_databases(connection: Connection) -> Mapping[str, DatabaseRow]:
    """Return all databases of the server by name."""
    found = rows(
        connection,
        "SELECT d.oid::int8, d.datname, pg_get_userbyid(d.datdba), d.datallowconn, d.datconnlimit,"
        " d.datistemplate, shobj_description(d.oid, 'pg_database'),"
        " d.datacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(d.datacl) a"
        " WHERE a.grantee = 0)"
        " FROM pg_database d",
    )
    return {row[1]: DatabaseRow(*row) for row in found}
