"""The shape of a database as digests, from the catalogue, free of column order and object ids.

The agent's own schemas and objects of extensions do not count. NOT NULL counts as a property of its
column, not as the constraint that PostgreSQL 18 makes of it, whose name depends on history.

Beside the digest of the whole there is one of each kind. Which kind a thing is of says whether it
can run anything that the server did not come with: an expression is harmless if it calls nothing
but immutable functions of the server's own, and depends on nothing that somebody made but tables,
columns and enumerations. An operator class is a superuser's work, and so harmless as well.
"""

# ruff: noqa: S608 - the queries are put together from constants

from __future__ import annotations

from ncen_updater.agent.databases.migrations.ledger import KEPT_SCHEMA, OWN_SCHEMA
from ncen_updater.agent.databases.postgresql.connection import Connection, rows, run
from ncen_updater.agent.databases.schema import BESIDE, Schema, SchemaKind, make_schema

#: Objects with lower numbers came with the server.
FIRST_MADE = 16384
_NO_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass"
    " AND e.objid = {oid} AND e.deptype = 'e')"
)
_USER = "n.nspname NOT IN ('information_schema', %s, %s) AND n.nspname NOT LIKE 'pg\\_%%'"
_RELATION = _NO_EXTENSION.format(catalogue="pg_class", oid="c.oid")


def _calls(tree: str) -> str:
    """Whether an expression calls anything but immutable functions; the server's own or not."""
    return (
        f"EXISTS (SELECT FROM regexp_matches({tree}::text,"
        " ':(opfuncid|funcid|opno) ([0-9]+)', 'g') m LEFT JOIN pg_proc f ON f.oid ="
        " CASE m[1] WHEN 'opno' THEN (SELECT o.oprcode FROM pg_operator o WHERE o.oid = m[2]::oid)"
        " ELSE m[2]::oid END WHERE (m[1] = 'opno' OR m[2] <> '0')"
        " AND f.provolatile IS DISTINCT FROM 'i')"
    )


def _depends(catalogue: str, oid: str) -> str:
    """Whether a thing depends on what somebody made that may call functions."""
    return (
        f"EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalogue}'::regclass"
        f" AND x.objid = {oid} AND x.refclassid NOT IN ('pg_class'::regclass,"
        " 'pg_constraint'::regclass, 'pg_opclass'::regclass, 'pg_collation'::regclass)"
        " AND NOT (x.refclassid = 'pg_type'::regclass AND EXISTS"
        " (SELECT FROM pg_type y WHERE y.oid = x.refobjid AND y.typtype = 'e')))"
    )


# Each row ends with the kind of the thing; what stands before it is in the digest of the whole.
_QUERIES = (
    # relations, with the text of views and the rules of partitions
    "SELECT 'relation', n.nspname, c.relname, c.relkind::text, c.relpersistence::text,"
    " CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,"
    " pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid), c.relrowsecurity::text,"
    " CASE WHEN c.relkind IN ('v', 'm') THEN 'views' WHEN c.relkind = 'f' THEN 'outside-tables'"
    " WHEN c.relrowsecurity THEN 'policies' WHEN EXISTS (SELECT FROM pg_partitioned_table q"
    " WHERE q.partrelid = c.oid AND q.partexprs IS NOT NULL) THEN 'computed-columns'"
    " ELSE 'tables' END"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USER} AND {_RELATION}",
    "SELECT 'column', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),"
    " a.attnotnull::text, a.attidentity::text, a.attgenerated::text,"
    " pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text,"
    " CASE WHEN c.relkind IN ('v', 'm') THEN 'views' WHEN c.relkind = 'f' THEN 'outside-tables'"
    " WHEN c.relkind = 'c' THEN 'types' WHEN d.adbin IS NOT NULL AND"
    f" ({_calls('d.adbin')} OR {_depends('pg_attrdef', 'd.oid')}) THEN 'computed-columns'"
    " ELSE 'columns' END"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"
    f" AND {_USER} AND {_RELATION}",
    "SELECT 'constraint', n.nspname, k.conrelid::regclass::text, k.contypid::regtype::text,"
    " k.conname, pg_get_constraintdef(k.oid),"
    " CASE WHEN k.conrelid = 0 THEN 'types' WHEN k.contype NOT IN ('p', 'u', 'f', 'x', 'c')"
    f" OR (k.conbin IS NOT NULL AND {_calls('k.conbin')})"
    f" OR {_depends('pg_constraint', 'k.oid')} THEN 'calling-constraints' ELSE 'constraints' END"
    " FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace"
    f" WHERE k.contype <> 'n' AND {_USER}",
    "SELECT 'index', n.nspname, c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid::text,"
    f" CASE WHEN (i.indexprs IS NOT NULL AND {_calls('i.indexprs')})"
    f" OR (i.indpred IS NOT NULL AND {_calls('i.indpred')})"
    f" OR {_depends('pg_class', 'i.indexrelid')} THEN 'calling-indexes' ELSE 'indexes' END"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER} AND {_RELATION}",
    "SELECT 'sequence', n.nspname, c.relname, s.seqtypid::regtype::text, s.seqstart::text,"
    " s.seqincrement::text, s.seqmax::text, s.seqmin::text, s.seqcycle::text,"
    " 'sequences'"
    " FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER} AND {_RELATION}",
    "SELECT 'trigger', n.nspname, c.relname, t.tgenabled::text,"
    " pg_get_triggerdef(t.oid), 'triggers'"
    " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND {_USER}",
    "SELECT 'function', n.nspname, pg_get_functiondef(p.oid), 'functions'"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    f" WHERE p.prokind IN ('f', 'p', 'w') AND {_USER} AND "
    + _NO_EXTENSION.format(catalogue="pg_proc", oid="p.oid"),
    "SELECT 'type', n.nspname, t.typname, t.typtype::text, format_type(t.typbasetype, t.typtypmod),"
    " t.typdefault, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)"
    " FROM pg_enum e WHERE e.enumtypid = t.oid), 'types'"
    " FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
    f" WHERE t.typtype IN ('e', 'd', 'r') AND {_USER} AND "
    + _NO_EXTENSION.format(catalogue="pg_type", oid="t.oid"),
    "SELECT 'policy', n.nspname, c.relname, p.polname, p.polcmd::text, p.polpermissive::text,"
    " pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),"
    " 'policies'"
    " FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_USER}",
    "SELECT 'extension', e.extname, 'extensions' FROM pg_extension e"
    " WHERE %s::text IS NOT NULL AND %s::text IS NOT NULL",
    # not in the fingerprint of the whole
    "SELECT 'rule', n.nspname, c.relname, r.ev_enabled::text, pg_get_ruledef(r.oid), 'rules'"
    " FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE r.rulename <> '_RETURN' AND {_USER} AND {_RELATION}",
    # An extension's own functions belong to a superuser; others were put there to be passed over.
    "SELECT 'member', n.nspname, pg_get_functiondef(p.oid), 'member-functions'"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " JOIN pg_roles o ON o.oid = p.proowner"
    f" WHERE p.prokind IN ('f', 'p', 'w') AND {_USER} AND NOT o.rolsuper AND NOT "
    + _NO_EXTENSION.format(catalogue="pg_proc", oid="p.oid"),
    "SELECT 'cast', k.castsource::regtype::text, k.casttarget::regtype::text,"
    " CASE WHEN k.castfunc <> 0 THEN k.castfunc::regprocedure::text END, k.castcontext::text,"
    " k.castmethod::text, 'casts' FROM pg_cast k"
    f" WHERE k.oid >= {FIRST_MADE} AND %s::text IS NOT NULL AND %s::text IS NOT NULL AND "
    + _NO_EXTENSION.format(catalogue="pg_cast", oid="k.oid"),
)


def look_at_schema(connection: Connection) -> Schema:
    """Return what the schema is made of.

    Args:
        connection: A session in the database; a read-only transaction is begun.
    """
    run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    # The same for whoever asks: a candidate is asked as the application's role.
    run(connection, "SET LOCAL ROLE NONE")
    # So that every name in a definition is written in full.
    run(connection, "SET LOCAL search_path = pg_catalog")
    things: list[tuple[SchemaKind, str]] = []
    for query in _QUERIES:
        for *fields, kind in rows(connection, query, [OWN_SCHEMA, KEPT_SCHEMA]):
            line = "\x1f".join("\\N" if field is None else str(field) for field in fields)
            things.append((SchemaKind(str(kind)), line))
    return make_schema(things, (line for kind, line in things if kind not in BESIDE))
