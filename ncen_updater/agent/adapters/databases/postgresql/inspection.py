"""Questions to one database: rows, digests of tables, and what a rollback would lose."""

# ruff: noqa: S608 - the queries are put together from constants

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from ncen_updater.agent.adapters.databases.base import TableDigest
from ncen_updater.agent.adapters.databases.migrations.ledger import AGENT_SCHEMA, PARKED_SCHEMA
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    execute,
    fetch_rows,
    quote_identifier,
)
from ncen_updater.agent.adapters.databases.schema import (
    KINDS_OUTSIDE_FINGERPRINT,
    SchemaDigest,
    SchemaKind,
    build_schema_digest,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.messages import QUERY_FAILED, ROWS_UNREADABLE
from ncen_updater.formats.data_loss import DataLoss, LossKind

_TABLES = """
SELECT n.nspname, c.relname,
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attname)
                 FROM pg_index i JOIN pg_attribute a
                   ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
                 WHERE i.indrelid = c.oid AND i.indisprimary), '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('information_schema', %s, %s)
  AND n.nspname NOT LIKE 'pg\\_%%'
ORDER BY 1, 2
"""

_NAMED = """
SELECT c.oid::bigint, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = %s AND %s IN (lower(n.nspname), '')
  AND n.nspname NOT IN ('information_schema', %s, %s) AND n.nspname NOT LIKE 'pg\\_%%'
ORDER BY 2, 3
"""
# The named tables, and those whose rows go, or lose a value, with rows of theirs: by what the keys
# say, or all that refer to them (TRUNCATE ... CASCADE).
_FOLLOWING = """
WITH RECURSIVE gone(oid, named) AS (
    SELECT c.oid, true
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = %s AND %s IN (lower(n.nspname), '')
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%'
  UNION
    SELECT k.conrelid, false
    FROM gone JOIN pg_constraint k ON k.confrelid = gone.oid AND k.contype = 'f'
    WHERE k.conparentid = 0 AND (%s OR k.confdeltype IN ('c', 'n', 'd'))
)
SELECT c.oid::bigint, n.nspname, c.relname, bool_or(gone.named)
FROM gone JOIN pg_class c ON c.oid = gone.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN (%s, %s)
GROUP BY 1, 2, 3 ORDER BY 2, 3
"""
_COLUMNS = """
SELECT a.attname, a.attgenerated <> '',
  CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN pg_get_expr(d.adbin, d.adrelid) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
"""
# A default that is a value, and nothing that has to be computed; of the server's own types alone.
_VALUE = re.compile(
    r"(?:'(?:[^']|'')*'|\(?-?[\d.]+\)?|true|false)(?:::[a-z][\w ]*(?:\(\d+(?:,\d+)?\))?)?"
)

# A row's text depends on these; a digest must not.
_TEXT_FORM = (
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL xmloption = 'content'",
    "SET LOCAL search_path = pg_catalog",
    # Rather an error than rows that are silently not seen.
    "SET LOCAL row_security = off",
)
FETCH_ROWS = 5_000
# Half the numbers of rows' transactions, from which on older and younger are mixed up.
MAX_XID_AGE = 2**31 - 1


class TableShape(tuple[str, str, tuple[str, ...]]):
    """Schema, name and key columns of a table."""

    __slots__ = ()

    @property
    def label(self) -> str:
        """Return the name as people write it: without the schema where it is ``public``."""
        return self[1] if self[0] == "public" else f"{self[0]}.{self[1]}"

    @property
    def quoted_name(self) -> str:
        """Return the name for SQL."""
        return f"{quote_identifier(self[0])}.{quote_identifier(self[1])}"

    @property
    def key(self) -> tuple[str, ...]:
        """Columns of the primary key, sorted; empty where there is none."""
        return self[2]


def begin_read_only(connection: Connection) -> None:
    """Begin a read-only transaction in which rows have one text form only."""
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    execute(connection, "; ".join((begin, *_TEXT_FORM)))  # one message


def list_user_tables(connection: Connection) -> list[TableShape]:
    """Return every ordinary table and partition, without the agent's own and parked ones."""
    found = fetch_rows(connection, _TABLES, [AGENT_SCHEMA, PARKED_SCHEMA])
    return [TableShape((schema, name, tuple(key))) for schema, name, key in found]


def compute_table_digest(connection: Connection, table: TableShape) -> TableDigest:
    """Count and digest one table inside the server; the sum does not depend on any order."""
    sql = (
        'SELECT count(*), coalesce(sum(hashtextextended(t::text COLLATE "C", 0)::numeric), 0)'
        f" FROM ONLY {table.quoted_name} AS t"
    )
    count, total = fetch_rows(connection, sql)[0]
    return TableDigest(int(count), f"{int(total):x}")


def run_release_query(connection: Connection, database: str, sql: str) -> list[tuple[object, ...]]:
    """Run one SELECT of a release in a read-only transaction.

    Raises:
        QUERY_FAILED: With the server's message.
    """
    execute(connection, "BEGIN READ ONLY")
    try:
        # Prepared: the server then takes one statement only, so that none can end the transaction.
        connection.prepare_threshold = 0
        cursor = connection.execute(sql.encode(), prepare=True)
        return [tuple(row) for row in cursor.fetchall()]
    except psycopg.Error as error:
        raise DatabaseError(
            QUERY_FAILED, database=database, sql=sql, detail=sanitize_error(error)
        ) from error


def iter_keys(connection: Connection, table: TableShape) -> Iterator[bytes]:
    """Yield the keys of all rows in the order of their bytes, few at a time."""
    columns = ", ".join(f"t.{quote_identifier(column)}" for column in table.key)
    sql = (
        f"SELECT convert_to(ROW({columns})::text, 'UTF8') AS k"
        f" FROM ONLY {table.quoted_name} AS t ORDER BY k"
    )
    with connection.cursor(name=f"keys_{abs(hash(table)):x}") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(sql.encode())
        for row in cursor:
            yield bytes(row[0])


def count_missing_keys(live: Iterator[bytes], retained: Iterator[bytes]) -> int:
    """Count what the first has and the second has not; both ascending."""
    lost = 0
    other: Any = next(retained, None)
    for key in live:
        while other is not None and other < key:
            other = next(retained, None)
        lost += other != key
    return lost


def count_newer_rows(
    live: Connection, since_transaction: int | None, deadline: float | None = None
) -> dict[str, int] | None:
    """Return by table how many rows were written after a transaction, or None if it cannot be told.

    A row's xmin is the low half of the number of the transaction that wrote it as it is. It cannot
    be told after a move to another server, or after two thousand million transactions. A table that
    was rewritten as a whole, other than by VACUUM FULL or CLUSTER, counts whole.

    Args:
        live: A session in the live database, in the transaction of :func:`begin_read_only`.
        since_transaction: Number of the transaction.
        deadline: Count until then only, by the monotonic clock; where that was not enough, it
            cannot be told.

    Raises:
        psycopg.errors.QueryCanceled: If the time was over in the middle of a table.
        ROWS_UNREADABLE: If the application's role may not read a table.
    """
    younger = _build_newer_condition(live, since_transaction)
    if younger is None:
        return None
    found: dict[str, int] = {}
    for table in list_user_tables(live):
        sql = f"SELECT count(*) FROM ONLY {table.quoted_name} WHERE {younger}"
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            execute(live, f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
        with _translate_permission_error(live, table):
            number = int(fetch_rows(live, sql)[0][0])
        if number:
            found[table.label] = number
    return found


def _build_newer_condition(live: Connection, moment: int | None) -> str | None:
    """Return what is true of rows written after a transaction; None if it is not known."""
    if moment is None:
        return None
    now = int(
        fetch_rows(live, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0]
    )
    if not 0 < now - moment < MAX_XID_AGE:
        return None
    # 0 and less: rows frozen so long ago that their number has come round again.
    return f"age(xmin) > 0 AND age(xmin) < age('{moment % 2**32}'::xid)"


def count_entered_rows(
    live: Connection, since_transaction: int | None, losses: Sequence[DataLoss]
) -> dict[str, int]:
    """Count by object the rows with something in it that was written after a transaction.

    Args:
        live: A session in the live database, in the transaction of :func:`begin_read_only`.
        since_transaction: Number of the transaction; where it is not known, or cannot be right, all
            rows count but those of tables that the release fills.
        losses: The objects, as they are called now.

    Raises:
        ROWS_UNREADABLE: If the application's role may not read a table.
    """
    younger = _build_newer_condition(live, since_transaction)
    found: dict[str, int] = {}
    for loss in losses:
        if loss.is_release_table and younger is None:
            continue
        numbers: dict[str, int] = {}
        for label, oid, table in _iter_affected_tables(live, loss):
            entered = _build_entered_condition(live, oid, loss.column)
            if entered is None:
                continue
            where = " AND ".join([younger or "true", *entered])
            with _translate_permission_error(live, table):
                sql = f"SELECT count(*) FROM {table.quoted_name} WHERE {where}"
                numbers[label] = numbers.get(label, 0) + int(fetch_rows(live, sql)[0][0])
        for label, number in numbers.items():
            if number:
                found[label] = max(found.get(label, 0), number)
    return found


def _iter_affected_tables(
    live: Connection, loss: DataLoss
) -> Iterator[tuple[str, int, TableShape]]:
    """Yield what is there of a loss: how it is called, its number, the table.

    What goes by a key is called by its own name. Of a type, or of all that a role owns, nobody
    counts what goes with it: then every table may be meant.
    """
    schema, _, bare = loss.table.rpartition(".")
    if loss.kind in (LossKind.SCHEMA, LossKind.DEPENDENTS):
        for table in list_user_tables(live):
            if loss.kind is LossKind.DEPENDENTS or table[0].lower() == loss.table:
                yield table.label, 0, table
    elif loss.kind is LossKind.ROWS:
        asked = [bare, schema, loss.cascades, AGENT_SCHEMA, PARKED_SCHEMA]
        for oid, inside, name, named in fetch_rows(live, _FOLLOWING, asked):
            table = TableShape((inside, name, ()))
            yield loss.object_name if named else table.label, oid, table
    else:
        # A file may name a table by its search path: then it counts in every schema.
        for oid, *path in fetch_rows(live, _NAMED, [bare, schema, AGENT_SCHEMA, PARKED_SCHEMA]):
            yield loss.object_name, oid, TableShape((*path, ()))


def _build_entered_condition(live: Connection, table: int, column: str | None) -> list[str] | None:
    """Return what is true of rows with something in a column; None if nobody can enter anything."""
    if column is None:
        return []
    for name, generated, default in fetch_rows(live, _COLUMNS, [table]):
        if name.lower() == column and not generated:
            quoted = quote_identifier(name)
            other = default is not None and _VALUE.fullmatch(default)
            unlike = [f"{quoted} IS DISTINCT FROM {default}"] if other else []
            return [f"{quoted} IS NOT NULL", *unlike]
    return None


def count_lost_rows(live: Connection, retained: Connection) -> dict[str, int]:
    """Return by table how many rows of ``live`` are not in ``retained``.

    Tables without loss left out.

    Args:
        live: A session in the live database, in the transaction of :func:`begin_read_only`.
        retained: The same in the kept database.

    Raises:
        ROWS_UNREADABLE: If the application's role may not read a table.
    """
    old = {table.label: table for table in list_user_tables(retained)}
    lost: dict[str, int] = {}
    for table in list_user_tables(live):
        other = old.get(table.label)
        with _translate_permission_error(live, table):
            if other is None:
                number = _count_rows(live, table)
            elif table.key and other.key == table.key:
                number = count_missing_keys(iter_keys(live, table), iter_keys(retained, other))
            else:
                number = max(0, _count_rows(live, table) - _count_rows(retained, other))
        if number:
            lost[table.label] = number
    return lost


@contextlib.contextmanager
def _translate_permission_error(connection: Connection, table: TableShape) -> Iterator[None]:
    """Say of which table the rows cannot be read, by right or by row security.

    Raises:
        ROWS_UNREADABLE: With the server's message.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            ROWS_UNREADABLE,
            table=table.label,
            database=connection.info.dbname,
            role=connection.info.user,
            detail=sanitize_error(error),
        ) from error


def _count_rows(connection: Connection, table: TableShape) -> int:
    return int(fetch_rows(connection, f"SELECT count(*) FROM ONLY {table.quoted_name}")[0][0])


# ---- fingerprints of schemas ---------------------------------------------------------------------

# The shape of a database as digests, from the catalogue, free of column order and object ids.
#
# The agent's own schemas and objects of extensions do not count. NOT NULL counts as a property of
# its column, not as the constraint that PostgreSQL 18 makes of it, whose name depends on history.
#
# Beside the digest of the whole there is one of each kind. Which kind a thing is of says whether it
# can run anything that the server did not come with: an expression is harmless if it calls nothing
# but immutable functions of the server's own, and depends on nothing that somebody made but tables,
# columns and enumerations. An operator class is a superuser's work, and so harmless as well.

#: Objects with lower numbers came with the server.
FIRST_USER_OID = 16384
_NO_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass"
    " AND e.objid = {oid} AND e.deptype = 'e')"
)
_USER = "n.nspname NOT IN ('information_schema', %s, %s) AND n.nspname NOT LIKE 'pg\\_%%'"
_RELATION = _NO_EXTENSION.format(catalogue="pg_class", oid="c.oid")


def _build_calls_condition(tree: str) -> str:
    """Build the condition: an expression calls more than immutable functions of the server."""
    return (
        f"EXISTS (SELECT FROM regexp_matches({tree}::text,"
        " ':(opfuncid|funcid|opno) ([0-9]+)', 'g') m LEFT JOIN pg_proc f ON f.oid ="
        " CASE m[1] WHEN 'opno' THEN (SELECT o.oprcode FROM pg_operator o WHERE o.oid = m[2]::oid)"
        " ELSE m[2]::oid END WHERE (m[1] = 'opno' OR m[2] <> '0')"
        " AND f.provolatile IS DISTINCT FROM 'i')"
    )


def _build_depends_condition(catalogue: str, oid: str) -> str:
    """Build the condition: a thing depends on what somebody made that may call functions."""
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
    f" ({_build_calls_condition('d.adbin')} OR {_build_depends_condition('pg_attrdef', 'd.oid')}) "
    "THEN 'computed-columns'"
    " ELSE 'columns' END"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"
    f" AND {_USER} AND {_RELATION}",
    "SELECT 'constraint', n.nspname, k.conrelid::regclass::text, k.contypid::regtype::text,"
    " k.conname, pg_get_constraintdef(k.oid),"
    " CASE WHEN k.conrelid = 0 THEN 'types' WHEN k.contype NOT IN ('p', 'u', 'f', 'x', 'c')"
    f" OR (k.conbin IS NOT NULL AND {_build_calls_condition('k.conbin')})"
    f" OR {_build_depends_condition('pg_constraint', 'k.oid')} THEN 'calling-constraints' ELSE "
    "'constraints' END"
    " FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace"
    f" WHERE k.contype <> 'n' AND {_USER}",
    "SELECT 'index', n.nspname, c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid::text,"
    f" CASE WHEN (i.indexprs IS NOT NULL AND {_build_calls_condition('i.indexprs')})"
    f" OR (i.indpred IS NOT NULL AND {_build_calls_condition('i.indpred')})"
    f" OR {_build_depends_condition('pg_class', 'i.indexrelid')} THEN 'calling-indexes' ELSE "
    "'indexes' END"
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
    f" WHERE k.oid >= {FIRST_USER_OID} AND %s::text IS NOT NULL AND %s::text IS NOT NULL AND "
    + _NO_EXTENSION.format(catalogue="pg_cast", oid="k.oid"),
)


# One question for all: what they give has columns of its own, some of them without a name.
_SCHEMA_QUERY = " UNION ALL ".join(
    f"SELECT row_to_json(found)::text FROM ({query}) AS found" for query in _QUERIES
)


def _take_values(pairs: list[tuple[str, object]]) -> list[object]:
    return [value for _, value in pairs]


def read_schema(connection: Connection) -> SchemaDigest:
    """Return what the schema is made of.

    Args:
        connection: A session in the database; a read-only transaction is begun.
    """
    # Of the session's own role, since a candidate is asked as the application's; and so that every
    # name in a definition is written in full.
    execute(
        connection,
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
        " SET LOCAL ROLE NONE; SET LOCAL search_path = pg_catalog",
    )
    things: list[tuple[SchemaKind, str]] = []
    own_schemas = [AGENT_SCHEMA, PARKED_SCHEMA] * len(_QUERIES)
    for (row,) in fetch_rows(connection, _SCHEMA_QUERY, own_schemas):
        *fields, kind = json.loads(row, object_pairs_hook=_take_values)
        line = "\x1f".join("\\N" if field is None else str(field) for field in fields)
        things.append((SchemaKind(str(kind)), line))
    return build_schema_digest(
        things, (line for kind, line in things if kind not in KINDS_OUTSIDE_FINGERPRINT)
    )
