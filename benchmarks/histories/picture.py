"""Contents of the databases of a stand-in site, read directly and not with the agent's code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.databases import DATABASES, PostgresPlace, SiteDatabases

if TYPE_CHECKING:
    import psycopg

#: Prefix of the keys of all foreign records.
MARK = "HX-"
#: Tables whose keys are compared, and the column with the number of the last edit.
KEYS: Mapping[str, tuple[str, str | None]] = {
    "seizures.cases": ("case_ref", "summary"),
    "seizures.cultural_objects": ("case_ref", None),
    "suspects.persons": ("person_ref", None),
    "companies.companies": ("company_ref", None),
}
WRITTEN = re.compile(rf"{MARK}|-\d{{4}}-[0-9A-F]{{10,13}}-[0-9A-Z]{{8}}")
PARKED = ("ncen_kept.", "ncen_kept__")
#: Tables whose rows name the release, or are the application's probe.
APART = ("ncen_release", "ncen_write_probe")
COLUMNS_SQL = """
SELECT table_schema, table_name, column_name, data_type, is_nullable
FROM information_schema.columns
WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'ncen_updater', 'ncen_kept')"""
INDEXES_SQL = """
SELECT schemaname, tablename, indexname FROM pg_indexes
WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'ncen_updater', 'ncen_kept')"""
TABLES_SQL = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'ncen_updater')"""
TABLES_SQLITE = """
SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
AND name NOT LIKE 'ncen\\_updater\\_%' ESCAPE '\\'"""


@contextlib.contextmanager
def superuser(place: PostgresPlace, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a superuser's session in autocommit mode."""
    import psycopg

    conninfo = f"{place.conninfo(database, place.superuser)} application_name=dba"
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as session:
        yield session


def picture(place: SiteDatabases) -> dict[str, frozenset[str]]:
    """Return structure and generated rows of the live databases, without rows entered later.

    Returns:
        Lines by ``database.table``: columns, indexes, and a digest of the rows that the generator
        or a
        release wrote.
    """
    found: dict[str, set[str]] = {}
    for name in DATABASES:
        lines = (
            _postgres(place, place.names[name])
            if isinstance(place, PostgresPlace)
            else _sqlite(Path(place.address(name)))
        )
        for table, line in lines:
            found.setdefault(f"{name}.{table}", set()).add(line)
    return {table: frozenset(lines) for table, lines in found.items()}


def find_differences(
    expected: Mapping[str, frozenset[str]], seen: Mapping[str, frozenset[str]]
) -> list[str]:
    """Return the names of the tables that differ. Pure."""
    found = []
    for table in sorted({*expected, *seen}):
        lines = expected.get(table, frozenset()) ^ seen.get(table, frozenset())
        if lines:
            found.append(f"{table} ({', '.join(sorted(lines)[:3])})")
    return found


def _postgres(place: PostgresPlace, physical: str) -> Iterator[tuple[str, str]]:
    with superuser(place, physical) as session:
        session.execute("SET timezone = 'UTC'")
        for schema, table, *words in session.execute(COLUMNS_SQL).fetchall():
            yield _table(schema, table), "column " + " ".join(words)
        for schema, table, index in session.execute(INDEXES_SQL).fetchall():
            yield _table(schema, table), f"index {index}"
        for schema, table in session.execute(TABLES_SQL).fetchall():
            if schema != "ncen_kept" and table not in APART:
                query = f'SELECT to_jsonb(t)::text FROM "{schema}"."{table}" t'
                rows = session.execute(query.encode()).fetchall()
                yield _table(schema, table), _digest([str(row[0]) for row in rows])


def _sqlite(path: Path) -> Iterator[tuple[str, str]]:
    with open_file(path) as session:
        for (table,) in session.execute(TABLES_SQLITE).fetchall():
            if table.startswith(PARKED):
                continue
            columns = session.execute(f'PRAGMA table_xinfo("{table}")').fetchall()
            for _, column, kind, needed, _, key, *_ in columns:
                yield table, f"column {column} {kind} {needed} {key}"
            for index in session.execute(f'PRAGMA index_list("{table}")').fetchall():
                yield table, f"index {index[1]}"
            if table in APART:
                continue
            names = [str(column[1]) for column in columns]
            rows = session.execute(f'SELECT * FROM "{table}"').fetchall()
            texts = [
                json.dumps(dict(zip(names, row, strict=True)), sort_keys=True, default=str)
                for row in rows
            ]
            yield table, _digest(texts)


def _table(schema: str, table: str) -> str:
    return table if schema == "public" else f"{schema}.{table}"


def _digest(rows: list[str]) -> str:
    ours = sorted(row for row in rows if not WRITTEN.search(row))
    return f"rows {len(ours)} {hashlib.sha256(chr(10).join(ours).encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def open_file(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """Open an SQLite file that must exist."""
    address = f"file:{path}?mode={mode}"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=5)) as session:
        yield session


def read_keys(place: SiteDatabases, database: str, where: str) -> dict[str, dict[str, int]]:
    """Return the keys in one database with the number of the last edit, parked rows included.

    Args:
        place: Databases of the site.
        database: Its logical name.
        where: Name in the server, or path of the file.
    """
    if isinstance(place, PostgresPlace):
        with superuser(place, where) as session:
            tables = {_table(*row) for row in session.execute(TABLES_SQL).fetchall()}
            return _keys(database, tables, lambda q: session.execute(q.encode()).fetchall())
    with open_file(Path(where)) as files:
        tables = {str(row[0]) for row in files.execute(TABLES_SQLITE).fetchall()}
        return _keys(database, tables, lambda q: files.execute(q).fetchall())


_Select = Callable[[str], Iterable[Sequence[object]]]


def _keys(database: str, tables: set[str], select: _Select) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, (key, edited) in KEYS.items():
        its, _, table = name.partition(".")
        if its != database:
            continue
        keys = found.setdefault(name, {})
        for place in (table, *(prefix + table for prefix in PARKED)):
            if place not in tables:
                continue
            rows = select(f"SELECT {key}, {edited or 'NULL'} FROM {place}")
            for row in rows:
                number = str(row[1] or "")
                keys[str(row[0])] = int(number) if number.isdigit() else 0
    return found
