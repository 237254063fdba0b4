"""Connect grants: revoked at the cut-over, restored at the commit.

The new release must start and pass its health check, so the databases are open, but only to the
application's roles and the agent. The revoked grants are stored in the control database, and
restored in the transaction that writes the commit; a revert deletes them.

Limits: superusers and members of the agent's own role can still connect, and the owner may grant
itself CONNECT again. A grant by a role other than the owner is restored with the owner as grantor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, replace

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseGrant,
    apply_all_attributes,
    read_all_attributes,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    execute,
    execute_all,
    fetch_rows,
    has_tables,
    quote_identifier,
)


def restrict_connect(
    connection: Connection, change: ChangeRef, databases: Iterable[str], roles: Iterable[str]
) -> None:
    """Revoke CONNECT from everybody except the agent and the given roles that have it.

    Args:
        connection: In the transaction of the cut-over.
        change: The change.
        databases: Physical names of the new live databases.
        roles: Roles as which the application logs in.
    """
    names = sorted(databases)
    able = fetch_rows(
        connection,
        "SELECT datname, rolname FROM pg_roles, unnest(%s::text[]) AS datname"
        " WHERE rolname = current_user OR rolname = ANY(%s)"
        " AND has_database_privilege(oid, datname, 'CONNECT') ORDER BY 1, 2",
        [names, list(roles)],
    )
    found = read_all_attributes(connection, names)
    stored = [json.dumps([astuple(grant) for grant in found[name].grants]) for name in names]
    # An existing row is older than this transaction and holds the original grants.
    execute(
        connection,
        "INSERT INTO public.revoked SELECT name, %s, grants::jsonb"
        " FROM unnest(%s::text[], %s::text[]) AS given(name, grants)"
        " ON CONFLICT (database) DO NOTHING",
        [change.id, names, stored],
    )
    statements: list[str] = []
    for name in names:
        right = f"CONNECT ON DATABASE {quote_identifier(name)}"
        grantees = sorted({g.grantee for g in found[name].grants if g.privilege == "CONNECT"})
        whom = [quote_identifier(grantee) if grantee else "PUBLIC" for grantee in grantees]
        statements += (f"REVOKE {right} FROM {grantee} CASCADE" for grantee in whom)
        statements += (
            f"GRANT {right} TO {quote_identifier(role)}" for one, role in able if one == name
        )
    execute_all(connection, statements)


def is_connect_revoked(connection: Connection, database: str) -> bool:
    """Tell whether a change has revoked the connect grants of a database."""
    if not has_tables(connection, "revoked"):
        return False
    return bool(
        fetch_rows(connection, "SELECT 1 FROM public.revoked WHERE database = %s", [database])
    )


def take_saved_grants(
    connection: Connection, databases: Iterable[str]
) -> dict[str, tuple[DatabaseGrant, ...]]:
    """Return and delete the stored connect grants of databases; those without any are left out.

    Grants of roles that no longer exist are left out.
    """
    if not has_tables(connection, "revoked"):
        return {}
    retained = fetch_rows(
        connection,
        "DELETE FROM public.revoked WHERE database = ANY(%s) RETURNING database, grants",
        [list(databases)],
    )
    if not retained:
        return {}
    roles = {name for (name,) in fetch_rows(connection, "SELECT rolname FROM pg_roles")}
    return {
        database: tuple(
            grant
            for grant in (DatabaseGrant(*item) for item in grants)
            if not grant.grantee or grant.grantee in roles
        )
        for database, grants in sorted(retained)
    }


def restore_connect(connection: Connection, databases: Iterable[str]) -> None:
    """Restore the stored connect grants, and verify them.

    Raises:
        ATTRIBUTES_DIFFER: If they differ; the transaction must not be committed.
    """
    grants = take_saved_grants(connection, databases)
    if grants:
        present = read_all_attributes(connection, grants)
        wanted = {name: replace(present[name], grants=grants[name]) for name in grants}
        apply_all_attributes(connection, wanted, present)
