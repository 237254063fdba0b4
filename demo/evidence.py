"""State of a stand-in site, read directly and not through the agent's code.

The tests judge the agent by it: digests of all tables, and the versions reported by the code, each
database and the running application. While the databases are fenced, reading them raises the
driver's own error.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.databases import DATABASES, PostgresPlace, SiteDatabases, SqlitePlace

REPORT_TIMEOUT_S = 10.0
TABLES_POSTGRES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'ncen_updater') ORDER BY 1, 2"""
TABLES_SQLITE = """
SELECT name FROM sqlite_master WHERE type = 'table'
AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'ncen\\_updater\\_%' ESCAPE '\\'"""


@dataclass(frozen=True)
class SiteVersion:
    """Version of each part of the site.

    Attributes:
        code: Version of the slot to which ``current`` points.
        schemas: Version of each database, by logical name.
        reported: Version reported by the running application; None if it does not respond.
        schema: Release whose schema the code uses.
    """

    code: str
    schemas: Mapping[str, str]
    reported: str | None
    schema: str

    @property
    def whole(self) -> str | None:
        """Return the version if all parts have the same one, else None."""
        runs = self.reported in (None, self.code)
        return self.code if runs and {*self.schemas.values()} == {self.schema} else None


def site_version(place: SiteDatabases, current: Path, port: int) -> SiteVersion:
    """Read the versions of code, databases and application independently."""
    release = json.loads((current / "app" / "release.json").read_text("utf-8"))
    schemas = {
        name: str(select(place, name, "SELECT release FROM ncen_release")[0][0])
        for name in DATABASES
    }
    version = str(release["version"])
    return SiteVersion(version, schemas, _reported(port), str(release.get("schema", version)))


def database_digests(place: SiteDatabases) -> dict[str, str]:
    """Compute the digest of each table as ``database.table``, without the agent's own tables.

    Returns:
        ``<rows>:<digest>``; independent of the order of rows.
    """
    found = {}
    for name in DATABASES:
        if isinstance(place, PostgresPlace):
            for schema, table in select(place, name, TABLES_POSTGRES):
                # The names come from the catalogue of a site created by the tests.
                query = f'SELECT md5(t::text) FROM "{schema}"."{table}" t'  # noqa: S608
                prefix = "" if schema == "public" else f"{schema}."
                found[f"{name}.{prefix}{table}"] = _digest(select(place, name, query))
        else:
            for (table,) in select(place, name, TABLES_SQLITE):
                query = f'SELECT * FROM "{table}"'  # noqa: S608
                found[f"{name}.{table}"] = _digest(select(place, name, query))
    return found


def case_references(place: SiteDatabases) -> dict[str, set[str]]:
    """Return case references by database: of the cases, and of links in the other databases."""
    return {
        "seizures": {str(r[0]) for r in select(place, "seizures", "SELECT case_ref FROM cases")},
        "suspects": {
            str(r[0]) for r in select(place, "suspects", "SELECT case_ref FROM case_links")
        },
        "companies": {
            str(r[0]) for r in select(place, "companies", "SELECT case_ref FROM case_links")
        },
    }


def parked_rows(place: SiteDatabases) -> dict[str, int]:
    """Count rows parked by a rollback, by ``database.table``; tables without any are omitted."""
    found = {}
    for name, digest in database_digests(place).items():
        database, _, table = name.partition(".")
        rows = int(digest.partition(":")[0])
        for prefix in ("ncen_kept.", "ncen_kept__"):
            if table.startswith(prefix) and rows:
                found[f"{database}.{table.removeprefix(prefix)}"] = rows
    return found


def _digest(rows: list[tuple[object, ...]]) -> str:
    digest = hashlib.sha256()
    for line in sorted(repr(row) for row in rows):
        digest.update(line.encode() + b"\n")
    return f"{len(rows)}:{digest.hexdigest()}"


def select(place: SiteDatabases, name: str, query: str) -> list[tuple[object, ...]]:
    """Read rows of a live database by its logical name; the query is trusted."""
    if isinstance(place, SqlitePlace):
        return _read(place.address(name), query)
    import psycopg

    with psycopg.connect(place.conninfo(place.names[name], place.superuser)) as session:
        return session.execute(query.encode()).fetchall()


def _read(path: object, query: str) -> list[tuple[object, ...]]:
    for mode in ("ro", "rw"):
        address = f"file:{path}?mode={mode}"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                # A killed writer left its journal: roll it back by opening the file for writing.
                if mode == "rw" or error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                    raise
    raise LookupError(path)


def _reported(port: int) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REPORT_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return str(json.loads(connection.getresponse().read())["version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        # The application does not run or is not an nCEN.
        return None
    finally:
        connection.close()
