"""Tests of database addresses, as each reader parses them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from ncen_updater.agent.adapters.databases.migrations.migrator import build_database_variables
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    NO_HOST,
    Server,
    ServerTimeouts,
)
from ncen_updater.agent.config.engines import PostgresSettings

Read = dict[str, str]


def _read_authority(url: str) -> Read:
    """Read it as TypeORM, JDBC, Rails and Django by dj-database-url do; none knows a socket."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "localhost",
        "port": str(parts.port or 5432),
        "dbname": unquote(parts.path[1:]),
        "user": unquote(parts.username or ""),
    }


def _read_query_first(url: str) -> Read:
    """Read it as node-postgres 8, Knex 3, Sequelize 6, Prisma and SQLAlchemy 2 do."""
    return {**_read_authority(url), **dict(parse_qsl(urlsplit(url).query))}


READERS: dict[str, Callable[[str], Read]] = {
    "libpq": lambda url: {k: str(v) for k, v in conninfo_to_dict(url).items()},
    "query first": _read_query_first,
    "authority": _read_authority,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("host", ["/run/pg", "@pg", "127.0.0.1", "db.example", "::1", "a,b"])
@pytest.mark.parametrize("as_owner", [True, False])
def test_address_readers_agree_on_the_server(host: str, reader: str, as_owner: bool) -> None:
    settings = PostgresSettings(host=host, port=5499, user="agent", owner="register")
    server = Server(settings, ServerTimeouts())
    parts = server.build_address("db_x é", as_owner=as_owner)
    read = READERS[reader](parts["URL"])
    can_say_it = reader != "authority" or host not in ("/run/pg", "@pg", "a,b")
    assert read["host"] == (host if can_say_it else NO_HOST)
    assert (read["port"], read["dbname"]) == ("5499", "db_x é")
    assert read["user"] == ("register" if as_owner else "agent")
    role = "" if as_owner else "-c role=register"
    if reader != "authority":
        assert read.get("options", "") == role
    assert build_database_variables("case-files", parts) == {
        "NCEN_DB_CASE_FILES_URL": parts["URL"],
        "NCEN_DB_CASE_FILES_HOST": host,
        "NCEN_DB_CASE_FILES_PORT": "5499",
        "NCEN_DB_CASE_FILES_NAME": "db_x é",
        "NCEN_DB_CASE_FILES_USER": "register" if as_owner else "agent",
        "NCEN_DB_CASE_FILES_OPTIONS": role,
    }
