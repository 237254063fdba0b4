"""What hangs on a database but outside it, so that a copy does not have it.

A template copy loses the owner, the grants (PUBLIC gets CONNECT back: a hole), the settings of
ALTER DATABASE and ALTER ROLE IN DATABASE, and the template flag. They are read from the old one,
written to the new one, read again and compared, all in the transaction of the cut-over. The
connection limit and the comment are the cut-over's own business.
"""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.postgresql.connection import Connection, rows, run
from ncen_updater.agent.databases.postgresql.quoting import identifier, setting_value
from ncen_updater.common.messages import ATTRIBUTES_DIFFER


@dataclass(frozen=True, order=True)
class Grant:
    """One privilege; an empty grantee is PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, order=True)
class Setting:
    """One setting of a database, or of a role in it where ``role`` is not empty."""

    role: str
    name: str
    value: str


@dataclass(frozen=True)
class Attributes:
    """All of it; grants and settings in their order in the catalogue."""

    owner: str
    template: bool
    grants: tuple[Grant, ...]
    settings: tuple[Setting, ...]


def read_attributes(connection: Connection, database: str) -> Attributes:
    """Read the attributes of one database; default privileges are spelt out."""
    # One question, since the cut-over asks it several times with everybody waiting.
    owner, template, grants, settings = rows(
        connection,
        "SELECT pg_get_userbyid(d.datdba), d.datistemplate,"
        " (SELECT json_agg(json_build_array(grantee, privilege, grantable) ORDER BY n) FROM (SELECT"
        "   CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END AS grantee, min(n)"
        "   AS n, a.privilege_type AS privilege, bool_or(a.is_grantable) AS grantable"
        "   FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) WITH ORDINALITY"
        "   a(grantor, grantee, privilege_type, is_grantable, n) GROUP BY 1, 3) g),"
        " (SELECT json_agg(json_build_array(CASE WHEN setrole = 0 THEN ''"
        "   ELSE pg_get_userbyid(setrole) END, c) ORDER BY setrole, n) FROM pg_db_role_setting,"
        "   unnest(setconfig) WITH ORDINALITY u(c, n) WHERE setdatabase = d.oid)"
        " FROM pg_database d WHERE d.datname = %s",
        [database],
    )[0]
    return Attributes(
        owner,
        template,
        tuple(Grant(*grant) for grant in grants or ()),
        tuple(Setting(role, *config.split("=", 1)) for role, config in settings or ()),
    )


def statements(target: str, wanted: Attributes, present: Attributes) -> list[str]:
    """Return what makes ``present`` of a database ``wanted``."""
    name = identifier(target)
    result: list[str] = []
    if present.owner != wanted.owner:
        result.append(f"ALTER DATABASE {name} OWNER TO {identifier(wanted.owner)}")
    if present.template != wanted.template:
        flag = "true" if wanted.template else "false"
        result.append(f"ALTER DATABASE {name} IS_TEMPLATE {flag}")
    for grantee in sorted({g.grantee for g in (*present.grants, *wanted.grants)}):
        result.append(f"REVOKE ALL ON DATABASE {name} FROM {_grantee(grantee)}")
    for grant in wanted.grants:
        option = " WITH GRANT OPTION" if grant.grantable and grant.grantee != wanted.owner else ""
        result.append(
            f"GRANT {grant.privilege} ON DATABASE {name} TO {_grantee(grant.grantee)}{option}"
        )
    unwanted = {(s.role, s.name) for s in present.settings}
    unwanted -= {(s.role, s.name) for s in wanted.settings}
    for role, setting in sorted(unwanted):
        result.append(f"{_holder(role, name)} RESET {_setting(setting)}")
    for item in wanted.settings:
        if item not in present.settings:
            value = setting_value(item.name, item.value)
            result.append(f"{_holder(item.role, name)} SET {_setting(item.name)} TO {value}")
    return result


def carry_over(connection: Connection, wanted: Attributes, target: str) -> None:
    """Give a database the attributes and look whether it has them.

    Raises:
        AttributesDiffer: If it does not; the transaction must not be committed.
    """
    present = read_attributes(connection, target)
    if _meaning(present) != _meaning(wanted):
        for statement in statements(target, wanted, present):
            run(connection, statement)
        present = read_attributes(connection, target)
    if _meaning(present) != _meaning(wanted):
        raise DatabaseError(
            ATTRIBUTES_DIFFER, database=target, detail=f"wanted {wanted}, got {present}"
        )


def _meaning(attributes: Attributes) -> tuple[object, ...]:
    """Return all but the order, which is not kept where several grantors took turns."""
    return attributes.owner, attributes.template, {*attributes.grants}, {*attributes.settings}


def _grantee(name: str) -> str:
    return identifier(name) if name else "PUBLIC"


def _holder(role: str, database: str) -> str:
    if role:
        return f"ALTER ROLE {identifier(role)} IN DATABASE {database}"
    return f"ALTER DATABASE {database}"


def _setting(name: str) -> str:
    return ".".join(identifier(part) for part in name.split("."))
