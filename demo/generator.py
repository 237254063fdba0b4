"""Fill a stand-in site of release 3.2.4 with records, from a thousand to millions of cases."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.databases import DATABASES, PostgresPlace, SiteDatabases, SqlitePlace
from demo.records import COLUMNS, Row, TableRows, photo_content, rows

if TYPE_CHECKING:
    import psycopg

MAX_PHOTO_FILES = 200


@dataclass(frozen=True)
class Generated:
    """Number of written rows by ``database.table``."""

    rows: dict[str, int]

    @property
    def total(self) -> int:
        """Return the total number of rows."""
        return sum(self.rows.values())


def generate(
    target: SiteDatabases, seed: int, cases: int, *, photos: Path | None = None
) -> Generated:
    """Fill the databases of a site with the schema of 3.2.4.

    Args:
        target: The databases.
        seed: The same seed and number give the same records.
        cases: Number of cases; the total number of rows is about eight times as large.
        photos: Directory of the picture files; at most 200 are written.
    """
    counts: dict[str, int] = {}
    with _writer(target) as writer:
        for database, tables in rows(seed, cases):
            for table, content in tables.items():
                name = f"{database}.{table}"
                counts[name] = counts.get(name, 0) + len(content)
            writer.write(database, tables)
            if photos is not None and database == "seizures":
                _write_photos(photos, tables["photographs"])
        writer.finish()
    return Generated(counts)


def _write_photos(directory: Path, photographs: list[Row]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    room = MAX_PHOTO_FILES - sum(1 for _ in directory.iterdir())
    for row in photographs[: max(room, 0)]:
        name = str(row[2])
        (directory / name).write_bytes(photo_content(name))


@contextlib.contextmanager
def _writer(target: SiteDatabases) -> Iterator[_PostgresWriter | _SqliteWriter]:
    with contextlib.ExitStack() as stack:
        if isinstance(target, PostgresPlace):
            yield _PostgresWriter(target, stack)
        else:
            yield _SqliteWriter(target, stack)


class _PostgresWriter:
    """Writes with COPY, in one transaction per database."""

    def __init__(self, place: PostgresPlace, stack: contextlib.ExitStack) -> None:
        import psycopg

        self._open: dict[str, psycopg.Connection[Any]] = {
            name: stack.enter_context(psycopg.connect(place.address(name))) for name in DATABASES
        }

    def write(self, database: str, tables: TableRows) -> None:
        from psycopg import sql

        cursor = self._open[database].cursor()
        for table, content in tables.items():
            names = COLUMNS[database][table]
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
            )
            with cursor.copy(statement) as copy:
                for row in content:
                    copy.write_row(row)

    def finish(self) -> None:
        """Set the sequences past the generated ids, and commit."""
        from psycopg import sql

        for database, connection in self._open.items():
            for table, names in COLUMNS[database].items():
                if names[0] == "id":
                    connection.execute(
                        sql.SQL(
                            "SELECT setval(pg_get_serial_sequence({}, 'id'),"
                            " (SELECT coalesce(max(id), 0) + 1 FROM {}), false)"
                        ).format(sql.Literal(table), sql.Identifier(table))
                    )
            connection.commit()
            connection.autocommit = True
            connection.execute("ANALYZE")


class _SqliteWriter:
    """Writes with executemany, in one transaction per database."""

    def __init__(self, place: SqlitePlace, stack: contextlib.ExitStack) -> None:
        self._open: dict[str, sqlite3.Connection] = {}
        for name in DATABASES:
            connection = sqlite3.connect(f"file:{place.address(name)}?mode=rw", uri=True)
            self._open[name] = stack.enter_context(contextlib.closing(connection))

    def write(self, database: str, tables: TableRows) -> None:
        for table, content in tables.items():
            names = COLUMNS[database][table]
            self._open[database].executemany(
                f"INSERT INTO {table} ({', '.join(names)}) "  # noqa: S608 - names are ours
                f"VALUES ({', '.join('?' * len(names))})",
                ([_plain(value) for value in row] for row in content),
            )

    def finish(self) -> None:
        """Commit."""
        for connection in self._open.values():
            connection.commit()


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
