"""The classical way: dump with the application stopped; on failure restore and swap."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from demo.databases import PostgresPlace
from demo.embedded_postgres import PostgresBinaries

JOBS = "-j2"


@dataclass(frozen=True)
class Classical:
    """Does it with the server's own programs, as a superuser.

    Attributes:
        directory: Of the dumps; on the same disk as the databases.
    """

    place: PostgresPlace
    binaries: PostgresBinaries
    directory: Path

    def dump(self) -> float:
        """Dump every database, uncompressed and two tables at a time; return the seconds."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        return _timed(self._dump, self.place.names.values())

    def restore(self) -> float:
        """Restore every dump into a new database and put it in place; return the seconds."""
        return _timed(self._restore, self.place.names.values())

    def clean(self) -> None:
        """Put the originals back and drop what was restored: the next turn begins alike."""
        with self._superuser() as connection:
            for physical in self.place.names.values():
                _run(connection, "DROP DATABASE {a} WITH (FORCE)", a=physical)
                _run(
                    connection, "ALTER DATABASE {a} RENAME TO {b}", a=f"{physical}_bad", b=physical
                )
        shutil.rmtree(self.directory, ignore_errors=True)

    def _dump(self, physical: str) -> None:
        self._program("pg_dump", "-Fd", JOBS, "-Z0", "-f", str(self.directory / physical), physical)

    def _restore(self, physical: str) -> None:
        fresh = f"{physical}_new"
        with self._superuser() as connection:
            _run(
                connection,
                "CREATE DATABASE {a} OWNER {b} TEMPLATE template0",
                a=fresh,
                b=self.place.owner,
            )
        self._program("pg_restore", JOBS, "-d", fresh, str(self.directory / physical))
        with self._superuser() as connection:
            _run(connection, "ALTER DATABASE {a} RENAME TO {b}", a=physical, b=f"{physical}_bad")
            _run(connection, "ALTER DATABASE {a} RENAME TO {b}", a=fresh, b=physical)

    def _program(self, name: str, *arguments: str) -> None:
        place = self.place
        ended = subprocess.run(
            [self.binaries.program(name), "-h", place.host, "-p", str(place.port),
             "-U", place.superuser, *arguments],
            check=False,
            capture_output=True,
            text=True,
        )  # fmt: skip
        if ended.returncode != 0:
            raise SystemExit(f"{name}: {ended.stderr}")

    def _superuser(self) -> psycopg.Connection[tuple[object, ...]]:
        conninfo = self.place.conninfo("postgres", self.place.superuser)
        return psycopg.connect(conninfo, autocommit=True)


def _run(connection: psycopg.Connection[tuple[object, ...]], statement: str, **names: str) -> None:
    quoted = {key: sql.Identifier(name) for key, name in names.items()}
    connection.execute(sql.SQL(statement).format(**quoted))


def _timed(work: Callable[[str], None], databases: Iterable[str]) -> float:
    begin = time.monotonic()
    for physical in databases:
        work(physical)
    return time.monotonic() - begin
