"""Sample values in a candidate, and samples of rows; see :mod:`..round_trip`.

The name of a column's type determines its values, as in SQLite. Values are read with ``quote``,
which is exact and distinguishes text from numbers.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ncen_updater.agent.adapters.databases.migrations.ledger import PARKED_PREFIX
from ncen_updater.agent.adapters.databases.round_trip import (
    MAX_ROWS,
    MAX_WRITE_SECONDS,
    DatabaseSample,
    RowKey,
    RowKeys,
    TableSample,
    UntestedReason,
    make_similar_texts,
    make_test_texts,
    shorten_value,
)
from ncen_updater.agent.adapters.databases.sqlite.inspection import (
    list_tables,
    quote_identifier,
)

_VIRTUAL = "SELECT 1 FROM sqlite_master WHERE name = ? AND sql LIKE 'CREATE VIRTUAL%'"
_SIZE = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


@dataclass(frozen=True)
class _Column:
    """One column in ``table_xinfo``; ``key_position`` is from 1, or 0."""

    name: str
    type: str
    computed: bool
    key_position: int
    has_default: bool

    def list_values(self, seed: str, row: int, before: str | None) -> tuple[str, ...]:
        """Return possible sample values as literals, the preferred one first."""
        kind = self.type.upper()
        sizes = _SIZE.search(kind)
        width = int(sizes[1]) if sizes else None
        if "BOOL" in kind:
            return ("1", "0")
        if "INT" in kind:
            return (str(1_987_000_000 + row), str(170 + row), str(17 + row), "1", "0")
        if "BLOB" in kind:
            return (f"X'{f'ncen {seed} {row}'.encode().hex()}'",)
        if any(word in kind for word in ("REAL", "FLOA", "DOUB")):
            return (f"{12_345 + row}.678", "0.5")
        if "NUM" in kind or "DEC" in kind:
            scale = int(sizes[2] or 0) if sizes else 4
            part = "." + "7654321"[: min(scale, 7)] if scale else ""
            return (f"{1_000 + row}{part}", f"1{part}", "1")
        if "TIME" in kind or "DATE" in kind:
            own = "1987-03-14 05:06:07" if "TIME" in kind else "1987-03-14"
            texts: Sequence[str] = (*make_similar_texts(_unquote_literal(before), row), own)
        elif "JSON" in kind:
            texts = (f'{{"ncen": "{seed} {row}"}}',)
        else:
            texts = (
                *make_similar_texts(_unquote_literal(before), row),
                *make_test_texts(seed, self.name, row, width),
            )
        return tuple("'" + text.replace("'", "''") + "'" for text in texts)


def _unquote_literal(literal: str | None) -> str | None:
    """Return the text of an SQL string literal; None for anything else."""
    whole = literal is not None and len(literal) > 1 and literal[0] == literal[-1] == "'"
    return literal[1:-1].replace("''", "'") if literal is not None and whole else None


@dataclass(frozen=True)
class _Table:
    name: str
    columns: Sequence[_Column]

    @property
    def key(self) -> tuple[_Column, ...]:
        return tuple(
            sorted((c for c in self.columns if c.key_position), key=lambda c: c.key_position)
        )

    def build_condition(self, key: RowKey) -> str:
        same = zip(self.key, key, strict=True)
        return " AND ".join(f"{quote_identifier(c.name)} IS {literal}" for c, literal in same)


def _list_tables(database: sqlite3.Connection) -> list[_Table]:
    found = []
    for name in list_tables(database):
        if name.startswith(PARKED_PREFIX) or database.execute(_VIRTUAL, (name,)).fetchone():
            continue
        info = database.execute(f"PRAGMA main.table_xinfo({quote_identifier(name)})").fetchall()
        columns = [
            _Column(str(column), str(kind), hidden > 1, place, default is not None)
            for _, column, kind, _, default, place, hidden in info
            if hidden != 1
        ]
        found.append(_Table(name, columns))
    return found


def read_sample(database: sqlite3.Connection, keys: RowKeys | None = None) -> DatabaseSample:
    """Read a few rows of every table: the first ones, or those with given keys.

    Args:
        database: The database, open for reading.
        keys: Keys by table; tables without an entry are not read.
    """
    found = {}
    for table in _list_tables(database):
        wanted = None if keys is None else keys.get(table.name, ())
        read: Mapping[RowKey, Mapping[str, str | None]] = {}
        if table.key and (wanted is None or wanted):
            read = _read_rows(database, table, wanted)
        types = {column.name: column.type for column in table.columns}
        found[table.name] = TableSample(tuple(c.name for c in table.key), types, read)
    return found


def _read_rows(
    database: sqlite3.Connection, table: _Table, wanted: Collection[RowKey] | None
) -> dict[RowKey, dict[str, str | None]]:
    key = table.key
    listed = ", ".join(f"quote({quote_identifier(c.name)})" for c in (*key, *table.columns))
    sql = f"SELECT {listed} FROM main.{quote_identifier(table.name)}"  # noqa: S608 - quoted
    database.text_factory = _decode_literal
    try:
        if wanted is None:
            sql += f" ORDER BY {', '.join(quote_identifier(c.name) for c in key)} LIMIT {MAX_ROWS}"
            found = database.execute(sql).fetchall()
        else:
            found = []
            for one in wanted:
                if len(one) == len(key):
                    condition = table.build_condition(one)
                    found += database.execute(f"{sql} WHERE {condition}").fetchall()
    finally:
        database.text_factory = str
    return {
        tuple(row[: len(key)]): {
            column.name: None if text == "NULL" else shorten_value(text, _digest(text))
            for column, text in zip(table.columns, row[len(key) :], strict=True)
        }
        for row in found
    }


def _decode_literal(literal: bytes) -> str:
    """Decode a literal; text that is not UTF-8, which SQLite stores too, becomes a cast."""
    try:
        return literal.decode()
    except UnicodeDecodeError:
        text = literal[1:-1].replace(b"''", b"'")
        return f"CAST(X'{text.hex()}' AS TEXT)"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_sample_values(
    database: sqlite3.Connection, seed: str, minimal_columns: Mapping[str, Collection[str]]
) -> dict[str, dict[str, Counter[UntestedReason]]]:
    """Write sample values into a few rows of every table, and one row into an empty one.

    Args:
        database: The database, open for writing.
        seed: Seed of the values; another seed gives other values.
        minimal_columns: Columns, by table, that get the smallest possible value.

    Returns:
        Number of rows without a sample value and the reason, by table and column.
    """
    deadline = time.monotonic() + MAX_WRITE_SECONDS
    refusals: dict[str, dict[str, Counter[UntestedReason]]] = {}
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA synchronous = OFF")  # the copy is not needed after a power cut
    # The time limit also ends a trigger that does not stop.
    database.set_progress_handler(lambda: int(time.monotonic() > deadline), 20_000)
    for table in _list_tables(database):
        refusals[table.name] = found = {c.name: Counter[UntestedReason]() for c in table.columns}
        if not table.key:
            continue
        if time.monotonic() > deadline:
            found.update({c.name: Counter({UntestedReason.TIME: 1}) for c in table.columns})
            continue
        rows = _read_rows(database, table, None)
        if not rows:
            if not _try_statement(database, _build_insert(table, seed)):
                found.update({c.name: Counter({UntestedReason.EMPTY: 1}) for c in table.columns})
        else:
            minimal = minimal_columns.get(table.name, ())
            for column in (c for c in table.columns if not c.key_position):
                found[column.name] += _fill_column(
                    database, table, column, rows, seed, minimal=column.name in minimal
                )
            if (
                any(UntestedReason.REFUSED in reasons for reasons in found.values())
                and time.monotonic() > deadline
            ):
                found.update(
                    {
                        c: Counter({UntestedReason.TIME: 1})
                        for c, reasons in found.items()
                        if reasons
                    }
                )
        _end_transaction(database)
    database.set_progress_handler(None, 0)
    return refusals


def _end_transaction(database: sqlite3.Connection) -> None:
    if database.in_transaction:
        try:
            database.execute("COMMIT")
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            # A deferred foreign key: the values of the table are rolled back
            database.execute("ROLLBACK")


def _fill_column(
    database: sqlite3.Connection,
    table: _Table,
    column: _Column,
    rows: Mapping[RowKey, Mapping[str, str | None]],
    seed: str,
    *,
    minimal: bool,
) -> Counter[UntestedReason]:
    """Write values into one column; return the number of rows that rejected all of them."""
    if column.computed:
        return Counter({UntestedReason.COMPUTED: len(rows)})
    rejections = sum(
        not _update_row(
            database,
            table,
            column,
            key,
            _list_test_values(column, seed, number, row, minimal=minimal),
        )
        for number, (key, row) in enumerate(rows.items())
    )
    return Counter({UntestedReason.REFUSED: rejections} if rejections else {})


def _list_test_values(
    column: _Column, seed: str, number: int, row: Mapping[str, str | None], *, minimal: bool
) -> Sequence[str]:
    before = row[column.name]
    values = [value for value in column.list_values(seed, number, before) if value != before]
    return values[-1:] if minimal else values


def _update_row(
    database: sqlite3.Connection,
    table: _Table,
    column: _Column,
    key: RowKey,
    values: Sequence[str],
) -> bool:
    target, name = quote_identifier(table.name), quote_identifier(column.name)
    where = table.build_condition(key)
    return any(
        _try_statement(
            database,
            f"UPDATE main.{target} SET {name} = {value} WHERE {where}",  # noqa: S608
        )
        for value in values
    )


def _try_statement(database: sqlite3.Connection, sql: str) -> bool:
    """Run a statement in a transaction that continues; return False if it is rejected.

    A trigger may end the transaction: then its values are missing in the sample.
    """
    if not database.in_transaction:
        database.execute("BEGIN IMMEDIATE")
    try:
        database.execute(sql)
    except (sqlite3.IntegrityError, sqlite3.DataError):
        return False
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_ERROR):
            return False  # the time limit, or a trigger that names a missing object
        raise
    return True


def _build_insert(table: _Table, seed: str) -> str:
    chosen = [
        (quote_identifier(column.name), column.list_values(seed, 0, None)[0])
        for column in table.columns
        if not column.computed and not (column.key_position and _is_generated(table, column))
    ]
    names, values = ", ".join(n for n, _ in chosen), ", ".join(v for _, v in chosen)
    name = f"main.{quote_identifier(table.name)}"
    if not chosen:
        return f"INSERT INTO {name} DEFAULT VALUES"
    return f"INSERT INTO {name} ({names}) VALUES ({values})"  # noqa: S608 - quoted


def _is_generated(table: _Table, column: _Column) -> bool:
    """Tell whether a key column is generated automatically or has a default."""
    return column.has_default or (len(table.key) == 1 and column.type.upper() == "INTEGER")
