"""Queries on one database file: digests of tables and schema, and the data loss of a rollback."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from ncen_updater.agent.adapters.databases.base import TableDigest
from ncen_updater.agent.adapters.databases.migrations.ledger import AGENT_PREFIX, PARKED_PREFIX
from ncen_updater.agent.adapters.databases.schema import (
    SchemaDigest,
    SchemaKind,
    build_schema_digest,
)
from ncen_updater.formats.data_loss import DataLoss
from ncen_updater.formats.sql import list_lexemes

HIDDEN_VIRTUAL = 1  # table_xinfo: a hidden column of a virtual table


# A default that is a literal, with nothing to compute.
_VALUE = re.compile(r"'(?:[^']|'')*'|-?[\d.]+|(?i:true|false)")
_GENERATED = (2, 3)  # table_xinfo: generated column, virtual or stored
_NOW = ("CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME")
EXPRESSION_COLUMN = -2  # index_xinfo: an expression instead of a column
#: Collations of SQLite; every other one is code of the application.
BUILTIN_COLLATIONS = frozenset({"BINARY", "NOCASE", "RTRIM"})
#: Words before a parenthesis that do not call a function.
_NO_CALL = frozenset(
    {"(", ",", "AND", "BETWEEN", "CASE", "CHECK", "ELSE", "IN", "IS", "NOT", "OR", "THEN", "WHEN",
     "WHERE"}
)  # fmt: skip
_SIGNS = frozenset("=<>!+-*/%|&~")
#: Operators that the application implements as functions.
_CALLING = frozenset({"MATCH", "REGEXP"})
#: Kind and description of a schema object.
_SchemaItem = tuple[SchemaKind, list[object]]


class _TextBytes(bytes):
    """Text as the bytes in the file, distinct from a BLOB by its type; it may not be UTF-8."""


def quote_identifier(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def list_tables(database: sqlite3.Connection, schema: str = "main") -> tuple[str, ...]:
    """Return the names of the tables, sorted, without the agent's own ones."""
    rows = database.execute(
        f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table' "  # noqa: S608 - ours
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    return tuple(str(row[0]) for row in rows if not str(row[0]).startswith(AGENT_PREFIX))


def _read_columns(
    database: sqlite3.Connection, table: str, schema: str = "main"
) -> list[tuple[object, ...]]:
    """Return name, type, not null, default, position in the key, hidden; sorted by name."""
    rows = database.execute(f"PRAGMA {schema}.table_xinfo({quote_identifier(table)})").fetchall()
    return sorted(tuple(row[1:7]) for row in rows if row[6] != HIDDEN_VIRTUAL)


def _encode_cell(value: object) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, float):
        body, kind = value.hex().encode(), b"f"
    elif isinstance(value, int):
        body, kind = str(value).encode(), b"i"
    elif isinstance(value, bytes):
        body, kind = value, b"t" if isinstance(value, _TextBytes) else b"b"
    else:
        body, kind = str(value).encode(), b"?"
    return kind + str(len(body)).encode() + b":" + body


def compute_table_digests(database: sqlite3.Connection) -> dict[str, TableDigest]:
    """Digest every table, row by row, so that memory use does not grow with the table.

    The digests of the rows are added modulo 2^256: neither their order nor that of the columns
    counts, and a duplicate row counts twice.
    """
    found: dict[str, TableDigest] = {}
    database.execute("BEGIN")
    try:
        for table in list_tables(database):
            columns = [str(column[0]) for column in _read_columns(database, table)]
            database.text_factory = _TextBytes
            listed = ", ".join(quote_identifier(name) for name in columns)
            total = rows = 0
            for row in database.execute(f"SELECT {listed} FROM {quote_identifier(table)}"):  # noqa: S608
                digest = hashlib.sha256(b"".join(_encode_cell(value) for value in row)).digest()
                total = (total + int.from_bytes(digest)) % (1 << 256)
                rows += 1
            database.text_factory = str
            whole = json.dumps([columns, rows, f"{total:064x}"]).encode()
            found[table] = TableDigest(rows, hashlib.sha256(whole).hexdigest())
    finally:
        database.text_factory = str
        database.execute("ROLLBACK")
    return found


def _parse_clauses(sql: str) -> list[str]:
    """Return CHECK, COLLATE, generated columns and table options, which no PRAGMA returns."""
    words = list_lexemes(sql, "sqlite")
    if "(" not in words:
        return []
    found = []
    depth = 0
    for index, word in enumerate(words):
        if word in ("CHECK", "AS") and words[index + 1 : index + 2] == ["("]:
            found.append(f"{word} {_read_bracket(words, index + 1)}")
        elif word == "COLLATE" and depth:
            found.append(" ".join(words[index - 2 : index + 2]))
        elif word == "AUTOINCREMENT":
            found.append(word)
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0 and word == ")":
            found += [" ".join(words[index + 1 :])]
            break
    return sorted(found)


def _read_bracket(words: list[str], start: int) -> str:
    depth = 0
    for index in range(start, len(words)):
        depth += {"(": 1, ")": -1}.get(words[index], 0)
        if depth == 0:
            return " ".join(words[start : index + 1])
    return " ".join(words[start:])


def _iter_schema_parts(
    database: sqlite3.Connection,
) -> Iterator[tuple[list[object], list[_SchemaItem]]]:
    """Yield the parts of the schema's fingerprint, each with its objects by kind."""
    for table in list_tables(database):
        if table.startswith(PARKED_PREFIX):
            continue
        name = quote_identifier(table)
        row = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        sql = str(row[0] or "")
        columns, clauses = _read_columns(database, table), _parse_clauses(sql)
        part: list[object] = ["table", table, columns, clauses]
        yield part, list(_classify_table(table, sql, columns, clauses))
        keys = database.execute(f"PRAGMA foreign_key_list({name})").fetchall()
        part = ["keys", table, sorted([*map(str, row[2:8])] for row in keys)]
        yield part, [(SchemaKind.CONSTRAINTS, [*part])] if keys else []
        for row in database.execute(f"PRAGMA index_list({name})").fetchall():
            index, unique, origin, partial = row[1:5]
            found = database.execute(f"PRAGMA index_xinfo({quote_identifier(index)})").fetchall()
            keyed = [[str(c[2]), c[3], str(c[4])] for c in found if c[5]]
            found_sql = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,))
            text = found_sql.fetchone()
            where = _collapse_whitespace(str(text[0])) if partial and text and text[0] else ""
            shown = index if origin == "c" else ""
            part = ["index", table, shown, unique, origin, keyed, where]
            kind = SchemaKind.CONSTRAINTS if origin != "c" else SchemaKind.INDEXES
            computed = any(c[1] == EXPRESSION_COLUMN for c in found if c[5])
            collated = any(str(c[4]).upper() not in BUILTIN_COLLATIONS for c in found if c[5])
            if computed or collated or _calls_function(_parse_index_condition(where)):
                kind = SchemaKind.CALLING_INDEXES
            # Columns of an expression have no name, so the text is included to distinguish them.
            yield (
                part,
                [(kind, [*part, _collapse_whitespace(str(text[0])) if computed and text else ""])],
            )
    rows = database.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'trigger') ORDER BY name"
    ).fetchall()
    for row in rows:
        if not str(row[1]).startswith((AGENT_PREFIX, PARKED_PREFIX)):
            part = [row[0], row[1], _collapse_whitespace(str(row[2]))]
            kind = SchemaKind.VIEWS if row[0] == "view" else SchemaKind.TRIGGERS
            yield part, [(kind, part)]


def _classify_table(
    table: str, sql: str, columns: Sequence[tuple[object, ...]], clauses: Sequence[str]
) -> Iterator[_SchemaItem]:
    virtual = list_lexemes(sql, "sqlite")[1:2] == ["VIRTUAL"]
    table_kind = SchemaKind.EXTERNAL_TABLES if virtual else SchemaKind.TABLES
    options = []
    for clause in clauses:
        words = clause.split(" ")
        if words[0] == "CHECK":
            calls = _calls_function(words)
            kind = SchemaKind.CALLING_CONSTRAINTS if calls else SchemaKind.CONSTRAINTS
            yield kind, ["check", table, clause]
        elif words[0] == "AS":
            yield SchemaKind.COMPUTED_COLUMNS, ["computed", table, clause]
        elif "COLLATE" in words:
            own = words[-1].upper() not in BUILTIN_COLLATIONS
            kind = SchemaKind.COMPUTED_COLUMNS if own else SchemaKind.COLUMNS
            yield kind, ["collate", table, clause]
        else:
            options.append(clause)
    yield table_kind, ["table", table, options, _collapse_whitespace(sql) if virtual else ""]
    for column in columns:
        default, hidden = column[3], column[5]
        plain = default is None or _VALUE.fullmatch(str(default)) or default in _NOW
        computed = not plain or hidden in _GENERATED
        kind = SchemaKind.COMPUTED_COLUMNS if computed else SchemaKind.COLUMNS
        yield kind, ["column", table, *column]


def _parse_index_condition(index: str) -> list[str]:
    """Return the words of an index's condition; empty if it has none."""
    words = list_lexemes(index, "sqlite")
    return words[words.index("WHERE") :] if "WHERE" in words else []


def _calls_function(words: Sequence[str]) -> bool:
    """Tell whether an expression calls a function, which may be the application's; pure."""
    return any(
        word in _CALLING or (word == "(" and before not in _NO_CALL and before[-1:] not in _SIGNS)
        for before, word in itertools.pairwise(["(", *words])
    )


def _collapse_whitespace(sql: str) -> str:
    return " ".join(sql.split())


def read_schema(database: sqlite3.Connection) -> SchemaDigest:
    """Return the digests of the schema: tables, columns, keys, indexes, checks, views, triggers."""
    parts = list(_iter_schema_parts(database))
    return build_schema_digest(
        ((kind, json.dumps(item, default=str)) for _, items in parts for kind, item in items),
        (json.dumps(part, default=str) for part, _ in parts),
    )


def _read_primary_key(database: sqlite3.Connection, table: str, schema: str) -> list[str]:
    columns = [c for c in _read_columns(database, table, schema) if c[4]]
    return [str(c[0]) for c in sorted(columns, key=lambda c: int(str(c[4])))]


def _shared_columns(database: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that a table has in both ``main`` and ``previous``, key columns first."""
    common = {str(c[0]) for c in _read_columns(database, table, "previous")}
    key = _read_primary_key(database, table, "main")
    names = [str(c[0]) for c in _read_columns(database, table)]
    return [*key, *(name for name in names if name in common and name not in key)]


def count_lost_rows(database: sqlite3.Connection) -> dict[str, int]:
    """Count rows of ``main`` that are missing or different in the attached ``previous``, by table.

    Only columns that both have are compared, so that a row is found by its key although the release
    has other columns. For a table without a key, duplicates of existing rows are noticed by the
    number of rows.
    """
    found: dict[str, int] = {}
    older = set(list_tables(database, "previous"))
    for table in list_tables(database):
        if table.startswith(PARKED_PREFIX):
            continue
        name = quote_identifier(table)
        key = _read_primary_key(database, table, "main")
        total = f"SELECT count(*) FROM main.{name}"  # noqa: S608 - a quoted name
        if table not in older:
            lost = int(database.execute(total).fetchone()[0])
        elif key and key == _read_primary_key(database, table, "previous"):
            same = " AND ".join(
                f"k.{quote_identifier(c)} IS m.{quote_identifier(c)}"
                for c in _shared_columns(database, table)
            )
            absent = f"NOT EXISTS (SELECT 1 FROM previous.{name} AS k WHERE {same})"  # noqa: S608
            lost = int(database.execute(f"{total} AS m WHERE {absent}").fetchone()[0])
        else:
            total_before = f"SELECT count(*) FROM previous.{name}"  # noqa: S608 - a quoted name
            listed = (
                ", ".join(quote_identifier(c) for c in _shared_columns(database, table)) or "NULL"
            )
            other = (
                f"SELECT count(*) FROM (SELECT {listed} FROM main.{name}"  # noqa: S608 - quoted
                f" EXCEPT SELECT {listed} FROM previous.{name})"
            )
            now, before, changed = (
                int(database.execute(sql).fetchone()[0]) for sql in (total, total_before, other)
            )
            lost = max(now - before, changed)
        if lost:
            found[table] = lost
    return found


def count_entered_rows(database: sqlite3.Connection, losses: Sequence[DataLoss]) -> dict[str, int]:
    """Count the rows with an entered value, by object: a value other than the default, or a row.

    The time of a write is unknown, so tables that the release fills are left out.
    """
    tables = {table.lower(): table for table in list_tables(database)}
    found: dict[str, int] = {}
    for loss in losses:
        table = tables.get(loss.table)
        where = (
            _build_entered_condition(database, table, loss.column) if table is not None else None
        )
        if table is None or where is None or loss.is_release_table:
            continue
        number = _count_where(database, table, where)
        if number:
            found[loss.object_name] = number
    return found


def _build_entered_condition(
    database: sqlite3.Connection, table: str, column: str | None
) -> str | None:
    """Return the WHERE clause for rows with an entered value; None if no user can enter one."""
    if column is None:
        return ""
    for name, _, _, default, _, hidden in _read_columns(database, table):
        if str(name).lower() == column and hidden not in _GENERATED:
            where = f" WHERE {quote_identifier(str(name))} IS NOT NULL"
            if default is not None and _VALUE.fullmatch(str(default)):
                where += f" AND {quote_identifier(str(name))} IS NOT {default}"
            return where
    return None


def read_newest_rowids(database: sqlite3.Connection) -> dict[str, int]:
    """Return the highest row id of each table, to find newer rows later.

    For a table without row ids, return the number of rows. Only such tables are scanned.
    """
    found = {}
    for table in list_tables(database):
        sql = f"SELECT coalesce(max(_rowid_), 0) FROM main.{quote_identifier(table)}"  # noqa: S608 - quoted
        try:
            found[table] = int(database.execute(sql).fetchone()[0])
        except sqlite3.OperationalError:
            found[table] = _count_where(database, table)
    return found


def count_rows(database: sqlite3.Connection) -> dict[str, int]:
    """Count the rows of each table; needed where a new row may have a lower row id."""
    return {table: _count_where(database, table) for table in list_tables(database)}


def count_newer_rows(
    database: sqlite3.Connection,
    recorded: Mapping[str, int],
    counts: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Count newer rows by table, as a lower bound; changed rows are not noticed.

    Args:
        database: The database.
        recorded: Result of :func:`read_newest_rowids`.
        counts: Result of :func:`count_rows`, if it was recorded.
    """
    found: dict[str, int] = {}
    for table, now in read_newest_rowids(database).items():
        newest = recorded.get(table, 0)
        number = 0
        if now > newest:
            try:
                number = _count_where(database, table, f" WHERE _rowid_ > {newest}")
            except sqlite3.OperationalError:
                number = now - newest
        if counts:
            number = max(number, _count_where(database, table) - counts.get(table, 0))
        if number > 0:
            found[table] = number
    return found


def _count_where(database: sqlite3.Connection, table: str, where: str = "") -> int:
    sql = f"SELECT count(*) FROM main.{quote_identifier(table)}{where}"  # noqa: S608 - quoted, and ours
    return int(database.execute(sql).fetchone()[0])
