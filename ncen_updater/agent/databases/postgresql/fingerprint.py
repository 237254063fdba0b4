"""The shape of a database as one digest, from the catalogue, free of column order and object ids.

The agent's own schemas and objects of extensions do not count. NOT NULL counts as a property of its
column, not as the constraint that PostgreSQL 18 makes of it, whose name depends on history.
"""

# ruff: noqa: S608 - the queries are put together from constants

from __future__ import annotations

import hashlib

from ncen_updater.agent.databases.migrations.ledger import KEPT_SCHEMA, OWN_SCHEMA
from ncen_updater.agent.databases.postgresql.connection import Connection, rows, run

__all__ = ["fingerprint"]

_NO_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass"
    " AND e.objid = {oid} AND e.deptype = 'e')"
)
_USER = "n.nspname NOT IN ('information_schema', %s, %s) AND n.nspname NOT LIKE 'pg\\_%%'"
_RELATION = _NO_EXTENSION.format(catalogue="pg_class", oid="c.oid")

_QUERIES = (
    # relations, with the text of views and the rules of partitions
    "SELECT 'relation', n.nspname, c.relname, c.relkind::text, c.relpersistence::text,"
    " CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,"
    " pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid), c.relrowsecurity::text"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USER} AND {_RELATION}",
    "SELECT 'column', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),"
    " a.attnotnull::text, a.attidentity::text, a.attgenerated::text,"
    " pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"
    f" AND {_USER} AND {_RELATION}",
    "SELECT 'constraint', n.nspname, k.conrelid::regclass::text, k.contypid::regtype::text,"
    " k.conname, pg_get_constraintdef(k.oid)"
    " FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace"
    f" WHERE k.contype <> 'n' AND {_USER}",
    "SELECT 'index', n.nspname, c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid::text"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER} AND {_RELATION}",
    "SELECT 'sequence', n.nspname, c.relname, s.seqtypid::regtype::text, s.seqstart::text,"
    " s.seqincrement::text, s.seqmax::text, s.seqmin::text, s.seqcycle::text"
    " FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER} AND {_RELATION}",
    "SELECT 'trigger', n.nspname, c.relname, t.tgenabled::text,"
    " pg_get_triggerdef(t.oid)"
    " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND {_USER}",
    "SELECT 'function', n.nspname, pg_get_functiondef(p.oid)"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    f" WHERE p.prokind IN ('f', 'p', 'w') AND {_USER} AND "
    + _NO_EXTENSION.format(catalogue="pg_proc", oid="p.oid"),
    "SELECT 'type', n.nspname, t.typname, t.typtype::text, format_type(t.typbasetype, t.typtypmod),"
    " t.typdefault, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)"
    " FROM pg_enum e WHERE e.enumtypid = t.oid)"
    " FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
    f" WHERE t.typtype IN ('e', 'd', 'r') AND {_USER} AND "
    + _NO_EXTENSION.format(catalogue="pg_type", oid="t.oid"),
    "SELECT 'policy', n.nspname, c.relname, p.polname, p.polcmd::text, p.polpermissive::text,"
    " pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)"
    " FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER}",
    "SELECT 'extension', e.extname FROM pg_extension e"
    " WHERE %s::text IS NOT NULL AND %s::text IS NOT NULL",
)


def fingerprint(connection: Connection) -> str:
    """Return the SHA-256 of the schema's description, hexadecimal.

    Args:
        connection: A session in the database; a read-only transaction is begun.
    """
    run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    # The same for whoever asks: a candidate is asked as the application's role.
    run(connection, "SET LOCAL ROLE NONE")
    # So that every name in a definition is written in full.
    run(connection, "SET LOCAL search_path = pg_catalog")
    lines: list[str] = []
    for query in _QUERIES:
        for row in rows(connection, query, [OWN_SCHEMA, KEPT_SCHEMA]):
            lines.append("\x1f".join("\\N" if field is None else str(field) for field in row))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
