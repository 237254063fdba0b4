"""Who may connect between cut-over and commit.

The new release has to start and to be asked for its health, so the databases are open, but to the
application's roles and the agent alone. What was granted is kept beside it, and given back in the
transaction that writes the commit, or goes with the set where the change goes back.

What is left: superusers get in, and so do members of the agent's own role; the owner may grant
itself CONNECT again. Where somebody else than the owner had granted, the owner is the grantor
afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, replace

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    Grant,
    carry_over,
    read_attributes,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    identifier,
    rows,
    run,
)

_GRANTS = (
    "CREATE TABLE IF NOT EXISTS public.barred ("
    " database text PRIMARY KEY, change text NOT NULL, grants jsonb NOT NULL)"
)


def admit_only(
    connection: Connection, change: ChangeRef, database: str, roles: Iterable[str]
) -> None:
    """Take CONNECT from everybody but the agent and those of some roles that have it.

    Args:
        connection: In the transaction of the cut-over.
        change: The change.
        database: Physical name of what is live from now on.
        roles: As which the application logs in.
    """
    able = rows(
        connection,
        "SELECT rolname FROM pg_roles WHERE rolname = current_user OR rolname = ANY(%s)"
        " AND has_database_privilege(oid, %s, 'CONNECT')",
        [list(roles), database],
    )
    run(connection, _GRANTS)
    grants = read_attributes(connection, database).grants
    # What stands in the table is older than this act and is the true original.
    run(
        connection,
        "INSERT INTO public.barred VALUES (%s, %s, %s) ON CONFLICT (database) DO NOTHING",
        [database, change.id, json.dumps([astuple(grant) for grant in grants])],
    )
    name = identifier(database)
    for grantee in sorted({g.grantee for g in grants if g.privilege == "CONNECT"}):
        whom = identifier(grantee) if grantee else "PUBLIC"
        run(connection, f"REVOKE CONNECT ON DATABASE {name} FROM {whom} CASCADE")
    for (role,) in sorted(able):
        run(connection, f"GRANT CONNECT ON DATABASE {name} TO {identifier(role)}")


def is_barred(connection: Connection, database: str) -> bool:
    """Whether a change has taken the rights to connect to a database."""
    if rows(connection, "SELECT to_regclass('public.barred') IS NULL")[0][0]:
        return False
    return bool(rows(connection, "SELECT 1 FROM public.barred WHERE database = %s", [database]))


def take_grants(connection: Connection, database: str) -> tuple[Grant, ...] | None:
    """Return what was granted before a barring and forget it; None where nothing was kept.

    A role that is not there any more has nothing to get back.
    """
    if rows(connection, "SELECT to_regclass('public.barred') IS NULL")[0][0]:
        return None
    kept = rows(
        connection, "DELETE FROM public.barred WHERE database = %s RETURNING grants", [database]
    )
    if not kept:
        return None
    roles = {name for (name,) in rows(connection, "SELECT rolname FROM pg_roles")}
    grants = (Grant(*item) for item in kept[0][0])
    return tuple(grant for grant in grants if not grant.grantee or grant.grantee in roles)


def unbar(connection: Connection, databases: Iterable[str]) -> None:
    """Give back what was granted, and look whether it is there.

    Raises:
        AttributesDiffer: If it is not; the transaction must not be committed.
    """
    for database in sorted(databases):
        grants = take_grants(connection, database)
        if grants is not None:
            wanted = replace(read_attributes(connection, database), grants=grants)
            carry_over(connection, wanted, database)
