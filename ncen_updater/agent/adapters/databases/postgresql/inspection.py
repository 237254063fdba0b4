"""Queries on one database: rows, digests of tables and schema, and the data loss of a rollback."""

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
# The named tables, and those whose rows are deleted or lose a value together with them: by their
# foreign keys, or all that refer to them (TRUNCATE ... CASCADE).
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
# A default that is a literal of a built-in type, with nothing to compute.
_VALUE = re.compile(
    r"(?:'(?:[^']|'')*'|\(?-?[\d.]+\)?|true|false)(?:::[a-z][\w ]*(?:\(\d+(?:,\d+)?\))?)?"
)

# Settings on which the text form of a row depends; a digest must not depend on them.
_TEXT_FORM = (
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL xmloption = 'content'",
    "SET LOCAL search_path = pg_catalog",
    # An error is better than rows that are silently hidden.
    "SET LOCAL row_security = off",
)
FETCH_ROWS = 5_000
# Half of the transaction ids; beyond that, older and newer cannot be told apart.
MAX_XID_AGE = 2**31 - 1


class TableShape(tuple[str, str, tuple[str, ...]]):
    """Schema, name and key columns of a table."""

    __slots__ = ()

    @property
    def label(self) -> str:
        """Return the name without the schema if that is ``public``."""
        return self[1] if self[0] == "public" else f"{self[0]}.{self[1]}"

    @property
    def quoted_name(self) -> str:
        """Return the quoted name."""
        return f"{quote_identifier(self[0])}.{quote_identifier(self[1])}"

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns of the primary key, sorted; empty if there is none."""
        return self[2]


def begin_read_only(connection: Connection) -> None:
    """Begin a read-only transaction with fixed settings for the text form of rows."""
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    execute(connection, "; ".join((begin, *_TEXT_FORM)))  # one message


def list_user_tables(connection: Connection) -> list[TableShape]:
    """Return every ordinary table and partition, except the agent's and those of parked rows."""
    found = fetch_rows(connection, _TABLES, [AGENT_SCHEMA, PARKED_SCHEMA])
    return [TableShape((schema, name, tuple(key))) for schema, name, key in found]


def compute_table_digest(connection: Connection, table: TableShape) -> TableDigest:
    """Count and digest one table in the server; the sum does not depend on the order of rows."""
    sql = (
        'SELECT count(*), coalesce(sum(hashtextextended(t::text COLLATE "C", 0)::numeric), 0)'
        f" FROM ONLY {table.quoted_name} AS t"
    )
    count, total = fetch_rows(connection, sql)[0]
    return TableDigest(int(count), f"{int(total):x}")


def run_release_queries(
    connection: Connection, database: str, queries: Sequence[str], timeout_s: float
) -> list[list[tuple[object, ...]]]:
    """Run SELECTs of a release in one read-only transaction, with a time-out for each.

    A setting that one of them changes, also in a function, does not reach the next.

    Raises:
        QUERY_FAILED: With the server's message.
    """
    limit = f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}"
    # psycopg reads no times in other styles; the order of day and month stays.
    styles = "SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'"
    execute(connection, f"BEGIN READ ONLY; {limit}; {styles}; SAVEPOINT query")
    # Prepared, so that the server accepts one statement only, and none can end the transaction.
    connection.prepare_threshold = 0
    results: list[list[tuple[object, ...]]] = []
    for sql in queries:
        if results:
            connection.execute(b"ROLLBACK TO query", prepare=False)
        try:
            cursor = connection.execute(sql.encode(), prepare=True)
            results.append([tuple(row) for row in cursor.fetchall()])
        except psycopg.Error as error:
            raise DatabaseError(
                QUERY_FAILED, database=database, sql=sql, detail=sanitize_error(error)
            ) from error
        except (ValueError, RecursionError) as error:  # JSON that Python cannot read
            raise DatabaseError(
                QUERY_FAILED, database=database, sql=sql, detail=type(error).__name__
            ) from error
    return results


def iter_keys(connection: Connection, table: TableShape) -> Iterator[bytes]:
    """Yield the keys of all rows in byte order, in small batches."""
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


def count_missing_keys(live: Iterator[bytes], previous: Iterator[bytes]) -> int:
    """Count the keys of the first iterator that the second lacks; both ascending."""
    lost = 0
    other: Any = next(previous, None)
    for key in live:
        while other is not None and other < key:
            other = next(previous, None)
        lost += other != key
    return lost


def count_newer_rows(
    live: Connection, since_transaction: int | None, deadline: float | None = None
) -> dict[str, int] | None:
    """Return the rows written after a transaction, by table; None if unknown.

    A row's xmin is the lower half of the id of the transaction that wrote it. The answer is unknown
    after a move to another server, or after two thousand million transactions. All rows of a table
    count if it was rewritten by other means than VACUUM FULL or CLUSTER.

    Args:
        live: A session in the live database, in the transaction of :func:`begin_read_only`.
        since_transaction: Id of the transaction.
        deadline: End of counting, by the monotonic clock; if reached, the answer is unknown.

    Raises:
        psycopg.errors.QueryCanceled: If the deadline was reached within a table.
        ROWS_UNREADABLE: If the application's role may not read a table.
    """
    newer = _build_newer_condition(live, since_transaction)
    if newer is None:
        return None
    counts: dict[str, int] = {}
    for table in list_user_tables(live):
        sql = f"SELECT count(*) FROM ONLY {table.quoted_name} WHERE {newer}"
        if deadline is not None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return None
            execute(live, f"SET LOCAL statement_timeout = {max(1, int(remaining_s * 1000))}")
        with _translate_permission_error(live, table):
            number = int(fetch_rows(live, sql)[0][0])
        if number:
            counts[table.label] = number
    return counts


def _build_newer_condition(live: Connection, moment: int | None) -> str | None:
    """Return the condition for rows written after a transaction; None if unknown."""
    if moment is None:
        return None
    now = int(
        fetch_rows(live, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0]
    )
    if not 0 < now - moment < MAX_XID_AGE:
        return None
    # 0 and less: rows frozen so long ago that their transaction ids wrapped around.
    return f"age(xmin) > 0 AND age(xmin) < age('{moment % 2**32}'::xid)"


def count_entered_rows(
    live: Connection, since_transaction: int | None, losses: Sequence[DataLoss]
) -> dict[str, int]:
    """Count the rows, by object, that have a value and were written after a transaction.

    Args:
        live: A session in the live database, in the transaction of :func:`begin_read_only`.
        since_transaction: Id of the transaction; if it is unknown or implausible, all rows count
            except in tables that the release fills.
        losses: The objects, by their current names.

    Raises:
        ROWS_UNREADABLE: If the application's role may not read a table.
    """
    newer = _build_newer_condition(live, since_transaction)
    found: dict[str, int] = {}
    for loss in losses:
        if loss.is_release_table and newer is None:
            continue
        numbers: dict[str, int] = {}
        for label, oid, table in _iter_affected_tables(live, loss):
            entered = _build_entered_condition(live, oid, loss.column)
            if entered is None:
                continue
            where = " AND ".join([newer or "true", *entered])
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
    """Yield label, object id and table of the existing tables of a loss.

    A table affected through a foreign key is reported by its own name. Objects that depend on a
    type, or on a role's ownership, are not determined: then every table may be affected.
    """
    schema, _, bare = loss.table.rpartition(".")
    if loss.kind in (LossKind.SCHEMA, LossKind.DEPENDENTS):
        for table in list_user_tables(live):
            if loss.kind is LossKind.DEPENDENTS or table[0].lower() == loss.table:
                yield table.label, 0, table
    elif loss.kind is LossKind.ROWS:
        parameters = [bare, schema, loss.cascades, AGENT_SCHEMA, PARKED_SCHEMA]
        for oid, table_schema, name, named in fetch_rows(live, _FOLLOWING, parameters):
            table = TableShape((table_schema, name, ()))
            yield loss.object_name if named else table.label, oid, table
    else:
        # A file may use the search path to find a table, so the name counts in every schema.
        for oid, *path in fetch_rows(live, _NAMED, [bare, schema, AGENT_SCHEMA, PARKED_SCHEMA]):
            yield loss.object_name, oid, TableShape((*path, ()))


def _build_entered_condition(live: Connection, table: int, column: str | None) -> list[str] | None:
    """Return the conditions for rows with an entered value; None if no user can enter one."""
    if column is None:
        return []
    for name, generated, default in fetch_rows(live, _COLUMNS, [table]):
        if name.lower() == column and not generated:
            quoted = quote_identifier(name)
            is_literal = default is not None and _VALUE.fullmatch(default)
            differs = [f"{quoted} IS DISTINCT FROM {default}"] if is_literal else []
            return [f"{quoted} IS NOT NULL", *differs]
    return None


def count_lost_rows(live: Connection, previous: Connection) -> dict[str, int]:
    """Return the number of rows of ``live`` that ``previous`` lacks, by table.

    Rows are compared by primary key; of a table without one, only their numbers. Tables without
    loss are left out.

    Args:
        live: A session in the live database, in the transaction of :func:`begin_read_only`.
        previous: The same in the previous database.

    Raises:
        ROWS_UNREADABLE: If the application's role may not read a table.
    """
    old = {table.label: table for table in list_user_tables(previous)}
    lost: dict[str, int] = {}
    for table in list_user_tables(live):
        other = old.get(table.label)
        with _translate_permission_error(live, table):
            if other is None:
                number = _count_rows(live, table)
            elif table.key and other.key == table.key:
                number = count_missing_keys(iter_keys(live, table), iter_keys(previous, other))
            else:
                number = max(0, _count_rows(live, table) - _count_rows(previous, other))
        if number:
            lost[table.label] = number
    return lost


@contextlib.contextmanager
def _translate_permission_error(connection: Connection, table: TableShape) -> Iterator[None]:
    """Translate a missing privilege or row-level security into an error that names the table.

    Raises:
        ROWS_UNREADABLE: With the server's message.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            ROWS_UNREADABLE,
            table=table.label,
            quoted_table=table.quoted_name,
            database=connection.info.dbname,
            role=connection.info.user,
            detail=sanitize_error(error),
        ) from error


def _count_rows(connection: Connection, table: TableShape) -> int:
    return int(fetch_rows(connection, f"SELECT count(*) FROM ONLY {table.quoted_name}")[0][0])


# ---- fingerprints of schemas ---------------------------------------------------------------------

# Digests of a database's schema from the catalogue, independent of column order and object ids.
# The agent's own schemas and objects of extensions do not count. NOT NULL counts as a property of
# its column, not as the constraint that PostgreSQL 18 makes of it, whose name depends on history.
# Besides the digest of the whole there is one for each kind. The kind shows whether an object can
# run code that does not belong to the server: an expression is harmless if it calls only immutable
# built-in functions, and depends on no user-defined objects except tables, columns and
# enumerations. Operator classes are created by superusers only, and so harmless as well.

#: Objects with lower ids belong to the server.
FIRST_USER_OID = 16384
_NO_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalogue}'::regclass"
    " AND e.objid = {oid} AND e.deptype = 'e')"
)
_USER = "n.nspname NOT IN ('information_schema', %s, %s) AND n.nspname NOT LIKE 'pg\\_%%'"
_RELATION = _NO_EXTENSION.format(catalogue="pg_class", oid="c.oid")


def _build_calls_condition(tree: str) -> str:
    """Return the condition that an expression calls more than immutable built-in functions."""
    return (
        f"EXISTS (SELECT FROM regexp_matches({tree}::text,"
        " ':(opfuncid|funcid|opno) ([0-9]+)', 'g') m LEFT JOIN pg_proc f ON f.oid ="
        " CASE m[1] WHEN 'opno' THEN (SELECT o.oprcode FROM pg_operator o WHERE o.oid = m[2]::oid)"
        " ELSE m[2]::oid END WHERE (m[1] = 'opno' OR m[2] <> '0')"
        " AND f.provolatile IS DISTINCT FROM 'i')"
    )


def _build_depends_condition(catalogue: str, oid: str) -> str:
    """Return the condition that an object depends on user-defined ones that may call functions."""
    return (
        f"EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalogue}'::regclass"
        f" AND x.objid = {oid} AND x.refclassid NOT IN ('pg_class'::regclass,"
        " 'pg_constraint'::regclass, 'pg_opclass'::regclass, 'pg_collation'::regclass)"
        " AND NOT (x.refclassid = 'pg_type'::regclass AND EXISTS"
        " (SELECT FROM pg_type y WHERE y.oid = x.refobjid AND y.typtype = 'e')))"
    )


# Each row ends with the kind of the object; the fields before it are part of the whole digest.
_QUERIES = (
    # Relations, with the text of views and the bounds of partitions.
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
    # Not in the fingerprint of the whole schema.
    "SELECT 'rule', n.nspname, c.relname, r.ev_enabled::text, pg_get_ruledef(r.oid), 'rules'"
    " FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE r.rulename <> '_RETURN' AND {_USER} AND {_RELATION}",
    # An extension's own functions belong to a superuser; others may have been added to evade
    # checks.
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


# One query for all: as JSON, since their columns differ and some have no name.
_SCHEMA_QUERY = " UNION ALL ".join(
    f"SELECT row_to_json(found)::text FROM ({query}) AS found" for query in _QUERIES
)


def _take_values(pairs: list[tuple[str, object]]) -> list[object]:
    return [value for _, value in pairs]


def read_schema(connection: Connection) -> SchemaDigest:
    """Return the digests of the schema.

    Args:
        connection: A session in the database; a read-only transaction is begun.
    """
    # As the session's own role, since a candidate's session has switched to the application's; and
    # with a search path with which every name in a definition is written in full.
    execute(
        connection,
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
        # To compile this query, where the server does that, takes longer than to run it.
        " SET LOCAL ROLE NONE; SET LOCAL search_path = pg_catalog; SET LOCAL jit = off",
    )
    objects: list[tuple[SchemaKind, str]] = []
    own_schemas = [AGENT_SCHEMA, PARKED_SCHEMA] * len(_QUERIES)
    for (row,) in fetch_rows(connection, _SCHEMA_QUERY, own_schemas):
        *fields, kind = json.loads(row, object_pairs_hook=_take_values)
        line = "\x1f".join("\\N" if field is None else str(field) for field in fields)
        objects.append((SchemaKind(str(kind)), line))
    return build_schema_digest(
        objects, (line for kind, line in objects if kind not in KINDS_OUTSIDE_FINGERPRINT)
    )
