"""Sample values in a candidate, and samples of rows; see :mod:`..round_trip`."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from ncen_updater.agent.adapters.databases.migrations.ledger import AGENT_SCHEMA, PARKED_SCHEMA
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    execute,
    fetch_rows,
    quote_identifier,
)
from ncen_updater.agent.adapters.databases.postgresql.inspection import begin_read_only
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

# Only columns that the application itself may read and write, since users enter nothing elsewhere.
_COLUMNS = """
SELECT n.nspname, c.relname, c.relkind = 'p', a.attname, format_type(a.atttypid, a.atttypmod),
  format_type(a.atttypid, -1), b.typname, e.typname,
  CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
  a.attgenerated <> '' OR a.attidentity = 'a', coalesce(k.place, 0), a.attnotnull,
  a.atthasdef OR a.attidentity <> '',
  (SELECT array_agg(enumlabel::text ORDER BY enumsortorder DESC) FROM pg_enum
    WHERE enumtypid = b.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
  LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
  LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
  LEFT JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY AS k(attnum, place)
    ON k.attnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT c.relforcerowsecurity
  AND n.nspname NOT IN ('information_schema', %s, %s) AND n.nspname NOT LIKE 'pg\\_%%'
  AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE')
ORDER BY 1, 2, a.attnum
"""
_TEXT_TYPES = frozenset({"text", "varchar", "bpchar", "citext", "name"})
_TEST_VALUES: Mapping[str, Sequence[str]] = {
    "bool": ("true", "false"),
    "date": ("1987-03-14",),
    "timestamp": ("1987-03-14 05:06:07.891234", "1987-03-14 00:00:00"),
    "timestamptz": ("1987-03-14 05:06:07.891234+00", "1987-03-14 00:00:00+00"),
    "time": ("05:06:07.891234", "05:06:00"),
    "timetz": ("05:06:07.891234+00", "05:06:00+00"),
    "interval": ("3 days 04:05:06.789", "1 day"),
    "float4": ("12345.678", "0.5"),
    "float8": ("12345.678901", "0.5"),
    "money": ("1234.56",),
    "inet": ("192.0.2.14",),
    "cidr": ("192.0.2.0/24",),
    "macaddr": ("08:00:2b:01:02:03",),
    "xml": ("<ncen/>",),
    "bit": (),
}
_INTEGER_BASES: Mapping[str, int] = {
    "int2": 31_000, "int4": 1_987_000_000, "int8": 9_870_000_000_000,
}  # fmt: skip
#: Errors of server or session, not of a table's constraint.
_NOT_A_REJECTION = (psycopg.OperationalError, psycopg.errors.SystemError)


def _quote_for_parameters(name: str) -> str:
    """Quote a name for a statement with parameters."""
    return quote_identifier(name).replace("%", "%%")


@dataclass(frozen=True)
class _ServerColumn:
    """One column in the catalogue.

    Attributes:
        name: Name of the column.
        type: Its full type.
        kind: Its type without length.
        base: Name of the type in the catalogue; of a domain, that of its base type.
        element: Type of the elements of an array.
        modifier: Length, precision and scale; -1 if there are none.
        computed: Whether the database computes it.
        key_position: Position in the primary key, from 1; else 0.
        required: Whether it is NOT NULL.
        has_default: Whether a new row need not name it.
        labels: Labels of an enumeration.
    """

    name: str
    type: str
    kind: str
    base: str
    element: str | None
    modifier: int
    computed: bool
    key_position: int
    required: bool
    has_default: bool
    labels: Sequence[str] | None

    def list_values(self, seed: str, row: int, before: str | None) -> tuple[str, ...]:
        """Return possible sample values, the preferred one first; empty for an unknown type."""
        if self.labels:
            return tuple(self.labels)
        if self.base in _TEXT_TYPES:
            width = self.modifier - 4 if self.modifier > 4 else None
            return (*make_similar_texts(before, row), *make_test_texts(seed, self.name, row, width))
        if self.base in _INTEGER_BASES:
            return (str(_INTEGER_BASES[self.base] + row), str(170 + row), str(17 + row), "1", "0")
        if self.base == "numeric":
            return self._make_decimals(row)
        if self.base == "uuid":
            return (hashlib.md5(f"{seed} {row}".encode(), usedforsecurity=False).hexdigest(),)
        if self.base == "bytea":
            return ("\\x" + f"ncen {seed} {row}".encode().hex(),)
        if self.base in ("json", "jsonb"):
            return (f'{{"ncen": "{seed} {row}"}}', f'["{seed} {row}"]')
        if self.element in _TEXT_TYPES:
            return (f"{{ncen {seed} {row}}}",)
        if self.element in _INTEGER_BASES or self.element == "numeric":
            return (f"{{17,{row}}}",)
        return tuple(_TEST_VALUES.get(self.base, ()))

    def _make_decimals(self, row: int) -> tuple[str, ...]:
        precision, scale = 18, 6
        if self.modifier >= 4:
            precision, scale = ((self.modifier - 4) >> 16) & 0xFFFF, (self.modifier - 4) & 0x7FF
        whole = max(0, precision - scale)
        part = "." + "7654321987654321"[:scale] if 0 < scale <= precision else ""
        long = (str(987_650 + row)[-whole:] if whole else "0") + part
        short = ("1" if whole else "0") + part
        return tuple(dict.fromkeys((long, short, "1", "0")))


@dataclass(frozen=True)
class _ServerTable:
    schema: str
    name: str
    parent: bool
    columns: Sequence[_ServerColumn]

    @property
    def label(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    @property
    def quoted_name(self) -> str:
        name = f"{_quote_for_parameters(self.schema)}.{_quote_for_parameters(self.name)}"
        return name if self.parent else f"ONLY {name}"

    @property
    def key(self) -> tuple[_ServerColumn, ...]:
        return tuple(
            sorted((c for c in self.columns if c.key_position), key=lambda c: c.key_position)
        )

    def make_sample(self, found: Mapping[RowKey, Mapping[str, str | None]]) -> TableSample:
        return TableSample(
            tuple(c.name for c in self.key), {c.name: c.type for c in self.columns}, found
        )


def _list_tables(connection: Connection) -> list[_ServerTable]:
    columns_by_table: dict[tuple[str, str, bool], list[_ServerColumn]] = {}
    for schema, name, parent, *column in fetch_rows(
        connection, _COLUMNS, [AGENT_SCHEMA, PARKED_SCHEMA]
    ):
        columns_by_table.setdefault((schema, name, parent), []).append(_ServerColumn(*column))
    return [_ServerTable(*table_key, columns) for table_key, columns in columns_by_table.items()]


def read_sample(connection: Connection, keys: RowKeys | None = None) -> DatabaseSample:
    """Read a few rows of every table: the first ones, or those with given keys.

    Args:
        connection: A session in the database as the application's role.
        keys: Keys by table; tables without an entry are not read.
    """
    found = {}
    for table in _list_tables(connection):
        read: Mapping[RowKey, Mapping[str, str | None]] = {}
        wanted = None if keys is None else keys.get(table.label, ())
        if table.key and (wanted is None or wanted):
            read = _read_rows(connection, table, wanted)
        found[table.label] = table.make_sample(read)
    return found


def _read_rows(
    connection: Connection, table: _ServerTable, wanted: Collection[RowKey] | None
) -> dict[RowKey, dict[str, str | None]]:
    key = table.key
    listed = ", ".join(f"t.{_quote_for_parameters(c.name)}::text" for c in (*key, *table.columns))
    digests = ", ".join(f"md5(t.{_quote_for_parameters(c.name)}::text)" for c in table.columns)
    sql = f"SELECT {listed}, {digests} FROM {table.quoted_name} AS t"  # noqa: S608 - quoted
    parameters: list[object] = []
    if wanted is None:
        columns = ", ".join(f"t.{_quote_for_parameters(c.name)}" for c in key)
        sql += f" ORDER BY {columns} LIMIT {MAX_ROWS}"
    else:
        if any(len(one) != len(key) for one in wanted):
            return {}
        sql += _build_key_join(key, [])
        parameters = [[one[place] for one in wanted] for place in range(len(key))]
    begin_read_only(connection)
    try:
        found = fetch_rows(connection, sql, parameters)
    except psycopg.DataError:
        return {}  # the key's type has changed: no row is found by the old key
    finally:
        connection.rollback()
    first, second = len(key), len(key) + len(table.columns)
    return {
        tuple(row[:first]): {
            column.name: None if text is None else shorten_value(text, digest)
            for column, text, digest in zip(
                table.columns, row[first:second], row[second:], strict=True
            )
        }
        for row in found
    }


def _build_key_join(key: Sequence[_ServerColumn], more: Sequence[str]) -> str:
    """Build the join of rows with given keys: one array for each key column, and further ones."""
    names = [*(f"k{number}" for number in range(len(key))), *more]
    arrays = ", ".join("%s::text[]" for _ in names)
    same = " AND ".join(
        f"t.{_quote_for_parameters(c.name)} = w.k{number}::{c.kind}" for number, c in enumerate(key)
    )
    return f", unnest({arrays}) AS w({', '.join(names)}) WHERE {same}"


def write_sample_values(
    connection: Connection, seed: str, minimal_columns: Mapping[str, Collection[str]]
) -> dict[str, dict[str, Counter[UntestedReason]]]:
    """Write sample values into a few rows of every table, and one row into an empty one.

    Args:
        connection: A session in the candidate as the application's role, in autocommit mode.
        seed: Seed of the values; another seed gives other values.
        minimal_columns: Columns, by table, that get the smallest possible value.

    Returns:
        Number of rows without a sample value and the reason, by table and column.
    """
    deadline = time.monotonic() + MAX_WRITE_SECONDS
    refusals: dict[str, dict[str, Counter[UntestedReason]]] = {}
    for table in _list_tables(connection):
        refusals[table.label] = found = {c.name: Counter[UntestedReason]() for c in table.columns}
        if not table.key:
            continue
        rows = _read_rows(connection, table, None)
        with connection.transaction():
            execute(connection, "SET CONSTRAINTS ALL IMMEDIATE")
            if not rows:
                if not _try_statement(connection, *_build_insert(table, seed)):
                    found.update(
                        {c.name: Counter({UntestedReason.EMPTY: 1}) for c in table.columns}
                    )
                continue
            for column in (c for c in table.columns if not c.key_position):
                reason = UntestedReason.TIME if time.monotonic() > deadline else None
                if column.computed:
                    reason = UntestedReason.COMPUTED
                elif not column.list_values(seed, 0, None):
                    reason = UntestedReason.TYPE
                if reason is not None:
                    found[column.name][reason] += len(rows)
                    continue
                minimal = column.name in minimal_columns.get(table.label, ())
                rejections = _fill_column(connection, table, column, rows, seed, minimal=minimal)
                if rejections:
                    found[column.name][UntestedReason.REFUSED] += rejections
    return refusals


def _fill_column(
    connection: Connection,
    table: _ServerTable,
    column: _ServerColumn,
    rows: Mapping[RowKey, Mapping[str, str | None]],
    seed: str,
    *,
    minimal: bool,
) -> int:
    """Write values into one column; return the number of rows that rejected all of them."""
    candidates = {
        key: [
            value
            for value in column.list_values(seed, number, row[column.name])
            if value != row[column.name]
        ]
        for number, (key, row) in enumerate(rows.items())
    }
    if minimal:
        candidates = {key: values[-1:] for key, values in candidates.items()}
    name = _quote_for_parameters(column.name)
    sql = (
        f"UPDATE {table.quoted_name} AS t SET {name} = w.v::{column.kind}"  # noqa: S608
        " FROM (SELECT 1) AS one" + _build_key_join(table.key, ["v"])
    )

    def update_rows(values: Mapping[RowKey, str]) -> bool:
        keys = [[one[place] for one in values] for place in range(len(table.key))]
        return _try_statement(connection, sql, [*keys, list(values.values())])

    if update_rows({key: values[0] for key, values in candidates.items() if values}):
        return 0
    # A constraint rejected at least one value, so try each row separately.
    return sum(
        not any(update_rows({key: value}) for value in values) for key, values in candidates.items()
    )


def _try_statement(connection: Connection, sql: str, parameters: Sequence[object]) -> bool:
    """Run a statement; roll it back and return False if it is rejected."""
    try:
        with connection.transaction():
            execute(connection, sql, parameters)
    except psycopg.errors.QueryCanceled:
        return False  # for example a trigger that waits
    except _NOT_A_REJECTION:
        raise
    except psycopg.Error:
        if connection.closed:
            raise
        return False
    return True


def _build_insert(table: _ServerTable, seed: str) -> tuple[str, list[object]]:
    """Build the INSERT of one row: every column that is not filled automatically gets a value."""
    chosen = list(_choose_insert_values(table, seed))
    listed = ", ".join(_quote_for_parameters(column.name) for column, _ in chosen)
    values = ", ".join(f"%s::text::{column.kind}" for column, _ in chosen)
    name = table.quoted_name.removeprefix("ONLY ")
    sql = f"INSERT INTO {name} ({listed}) VALUES ({values})"  # noqa: S608 - quoted
    return (sql if chosen else f"INSERT INTO {name} DEFAULT VALUES"), [v for _, v in chosen]


def _choose_insert_values(table: _ServerTable, seed: str) -> Iterator[tuple[_ServerColumn, str]]:
    for column in table.columns:
        if column.computed or (column.key_position and column.has_default):
            continue
        values = column.list_values(seed, 0, None)
        if values:
            yield column, values[0]
