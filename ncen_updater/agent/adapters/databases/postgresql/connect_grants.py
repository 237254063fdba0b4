"""Connect grants: revoked at the cut-over and restored at the commit.

The new release has to start and pass its health check, so the databases are open, but to the
application's roles and the agent alone. The revoked grants are stored beside them, and restored in
the transaction that writes the commit; a revert drops them with the set.

Limits: superusers and members of the agent's own role can still connect, and the owner may grant
itself CONNECT again. A grant by somebody else than the owner is restored with the owner as grantor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, replace

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseGrant,
    apply_attributes,
    read_attributes,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    execute,
    fetch_rows,
    quote_identifier,
)

_GRANTS = (
    "CREATE TABLE IF NOT EXISTS public.revoked ("
    " database text PRIMARY KEY, change text NOT NULL, grants jsonb NOT NULL)"
)


def restrict_connect(
    connection: Connection, change: ChangeRef, database: str, roles: Iterable[str]
) -> None:
    """Take CONNECT from everybody but the agent and those of some roles that have it.

    Args:
        connection: In the transaction of the cut-over.
        change: The change.
        database: Physical name of what is live from now on.
        roles: As which the application logs in.
    """
    able = fetch_rows(
        connection,
        "SELECT rolname FROM pg_roles WHERE rolname = current_user OR rolname = ANY(%s)"
        " AND has_database_privilege(oid, %s, 'CONNECT')",
        [list(roles), database],
    )
    execute(connection, _GRANTS)
    grants = read_attributes(connection, database).grants
    # What stands in the table is older than this act and is the true original.
    execute(
        connection,
        "INSERT INTO public.revoked VALUES (%s, %s, %s) ON CONFLICT (database) DO NOTHING",
        [database, change.id, json.dumps([astuple(grant) for grant in grants])],
    )
    name = quote_identifier(database)
    for grantee in sorted({g.grantee for g in grants if g.privilege == "CONNECT"}):
        whom = quote_identifier(grantee) if grantee else "PUBLIC"
        execute(connection, f"REVOKE CONNECT ON DATABASE {name} FROM {whom} CASCADE")
    for (role,) in sorted(able):
        execute(connection, f"GRANT CONNECT ON DATABASE {name} TO {quote_identifier(role)}")


def is_connect_revoked(connection: Connection, database: str) -> bool:
    """Whether a change has taken the rights to connect to a database."""
    if fetch_rows(connection, "SELECT to_regclass('public.revoked') IS NULL")[0][0]:
        return False
    return bool(
        fetch_rows(connection, "SELECT 1 FROM public.revoked WHERE database = %s", [database])
    )


def take_saved_grants(connection: Connection, database: str) -> tuple[DatabaseGrant, ...] | None:
    """Return what was granted before a barring and forget it; None where nothing was kept.

    A role that is not there any more has nothing to get back.
    """
    if fetch_rows(connection, "SELECT to_regclass('public.revoked') IS NULL")[0][0]:
        return None
    retained = fetch_rows(
        connection, "DELETE FROM public.revoked WHERE database = %s RETURNING grants", [database]
    )
    if not retained:
        return None
    roles = {name for (name,) in fetch_rows(connection, "SELECT rolname FROM pg_roles")}
    grants = (DatabaseGrant(*item) for item in retained[0][0])
    return tuple(grant for grant in grants if not grant.grantee or grant.grantee in roles)


def restore_connect(connection: Connection, databases: Iterable[str]) -> None:
    """Give back what was granted, and look whether it is there.

    Raises:
        ATTRIBUTES_DIFFER: If it is not; the transaction must not be committed.
    """
    for database in sorted(databases):
        grants = take_saved_grants(connection, database)
        if grants is not None:
            wanted = replace(read_attributes(connection, database), grants=grants)
            apply_attributes(connection, wanted, database)
