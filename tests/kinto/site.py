"""A Kinto site for the tests: three databases, the overlay, the commands, a client of the API."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from demo.embedded_postgres import EmbeddedPostgres
from demo.ports import find_free_ports
from tests.support.forks import DEADLINE_S

OWNER = "kinto"
AGENT = "ncen_updater"
CONTROL_DATABASE = "ncen_updater"
DATABASES = {name: f"kinto_{name}" for name in ("storage", "permission", "cache")}
# Filled once; sites are copied from them.
FILLED = {name: f"filled_{name}" for name in DATABASES}
CONTROL = Path(__file__).parent / "control.py"
HEALTHY_S = 60.0
RECORDS = [{"number": number, "note": "50 % élan", "list": [1, None]} for number in range(20)]


def url(server: EmbeddedPostgres, database: str) -> str:
    """Address of a database as the application opens it."""
    return f"postgresql://{OWNER}@/{database}?host={quote(str(server.host), '')}&port={server.port}"


def _make_roles(connection: psycopg.Connection[Any]) -> None:
    """The application's role and the agent's, which is no superuser."""
    for role, options in ((OWNER, "LOGIN"), (AGENT, "LOGIN CREATEDB")):
        found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
        if found.fetchone() is None:
            statement = sql.SQL("CREATE ROLE {} " + options)
            connection.execute(statement.format(sql.Identifier(role)))
    statement = sql.SQL("GRANT {}, pg_signal_backend, pg_read_all_stats TO {}")
    connection.execute(statement.format(sql.Identifier(OWNER), sql.Identifier(AGENT)))


@dataclass(frozen=True)
class KintoSite:
    """One site below ``home``; the tests move ``current``."""

    server: EmbeddedPostgres
    home: Path
    port: int

    @classmethod
    def make(cls, server: EmbeddedPostgres, home: Path, *, filled: bool = False) -> KintoSite:
        """Make the roles, three databases and the overlay.

        Args:
            server: Where the databases are.
            home: Made; must not exist.
            filled: Copy the databases that :meth:`keep_as_filled` kept, instead of empty ones.
        """
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            _make_roles(connection)
            for name, database in DATABASES.items():
                places = {
                    "database": sql.Identifier(database),
                    "owner": sql.Identifier(OWNER),
                    "template": sql.Identifier(FILLED[name] if filled else "template1"),
                }
                for statement in (
                    "CREATE DATABASE {database} OWNER {owner} TEMPLATE {template}",
                    # Kinto warns of every other time zone; a copy must carry the setting over.
                    "ALTER DATABASE {database} SET timezone = 'UTC'",
                ):
                    connection.execute(sql.SQL(statement).format(**places))
        (port,) = find_free_ports(1)
        home.mkdir(parents=True)
        site = cls(server, home, port)
        lines = ["[server:main]", "host = 127.0.0.1", f"port = {port}", "", "[app:main]"]
        lines += [f"kinto.{name}_url = {url(server, db)}" for name, db in DATABASES.items()]
        lines += ["kinto.userid_hmac_secret = the-secret-of-this-site"]
        site.overlay.write_text("\n".join(lines) + "\n", "utf-8")
        site.overlay.chmod(0o600)
        return site

    @property
    def overlay(self) -> Path:
        """What the country owns."""
        return self.home / "overlay.ini"

    @property
    def current(self) -> Path:
        """The link to the release in use."""
        return self.home / "current"

    def drop(self) -> None:
        """Stop everything and drop the databases, also those that an agent made."""
        self.control("stop")
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            found = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'kinto\\_%%' OR datname = %s",
                (CONTROL_DATABASE,),
            )
            for (name,) in found.fetchall():
                statement = sql.SQL("DROP DATABASE {} WITH (FORCE)")
                connection.execute(statement.format(sql.Identifier(name)))

    def keep_as_filled(self) -> None:
        """Keep the databases of this stopped site for others to be copied from."""
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            for name, database in DATABASES.items():
                statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                places = (sql.Identifier(database), sql.Identifier(FILLED[name]))
                connection.execute(statement.format(*places))

    def dumps(self) -> dict[str, str]:
        """The whole content of each database as text: schema and rows, without the agent's."""
        return {name: self._dump(database) for name, database in DATABASES.items()}

    def _dump(self, database: str) -> str:
        program = self.server.binaries.program("pg_dump")
        argv = [program, "-h", str(self.server.host), "-p", str(self.server.port)]
        argv += ["-U", self.server.user, "--exclude-schema=ncen_*", database]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        # Newer programs write a random word into these two lines.
        lines = ended.stdout.splitlines()
        return "\n".join(
            line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict "))
        )

    def command(self, word: str) -> list[str]:
        """The command line for the agent's configuration."""
        return [sys.executable, str(CONTROL), "--home", str(self.home), word]

    def control(self, word: str) -> int:
        """Run start, stop or status."""
        return subprocess.run(self.command(word), check=False, timeout=DEADLINE_S).returncode

    def migrate(
        self, release: Path, databases: Mapping[str, str], *, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the release's own migrator on these databases, as the agent does."""
        environment = {
            f"NCEN_DB_{name.upper()}_URL": url(self.server, database)
            for name, database in databases.items()
        }
        return subprocess.run(
            [str(release / "bin/release.py"), "migrate"],
            env={"PATH": "/usr/bin:/bin", **environment, **(more or {})},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str | None = "officer",
        timeout: float = 10.0,
    ) -> tuple[int, dict[str, object]]:
        """One request to the REST API; status and JSON."""
        headers = {"Content-Type": "application/json"}
        if user is not None:
            headers["Authorization"] = (
                "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()
            )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")

    def wait_listening(self) -> None:
        """Wait until the port accepts connections, whether or not it answers."""
        deadline = time.monotonic() + HEALTHY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # between two looks
            else:
                return

    def wait_healthy(self) -> dict[str, object]:
        """Wait until the heartbeat is good; the front page's fields."""
        deadline = time.monotonic() + HEALTHY_S
        while True:
            try:
                status, beat = self.request("GET", "/__heartbeat__", user=None)
                if status == 200 and all(beat.values()):
                    return self.request("GET", "/", user=None)[1]
                reason = f"{status} {beat}"
            except OSError as error:
                reason = str(error)
            if time.monotonic() > deadline:
                log = (self.home / "run/log").read_text("utf-8", "replace")[-3000:]
                raise AssertionError(f"not healthy: {reason}\n{log}")
            time.sleep(0.05)  # between two looks

    def fill(self, records: Sequence[Mapping[str, object]]) -> None:
        """An account, a bucket, a collection and these records, through the API."""
        account = {"data": {"password": "secret"}}
        assert self.request("PUT", "/accounts/officer", account, user=None)[0] == 201
        assert self.request("PUT", "/buckets/cites")[0] == 201
        assert self.request("PUT", "/buckets/cites/collections/seizures")[0] == 201
        self.enter(records)

    def enter(self, records: Sequence[Mapping[str, object]]) -> None:
        """Enter records, through the API."""
        for record in records:
            path = "/buckets/cites/collections/seizures/records"
            assert self.request("POST", path, {"data": record})[0] == 201

    def ids(self) -> list[str]:
        """Keys of all objects in the live database, whatever they are."""
        with psycopg.connect(self.server.conninfo(DATABASES["storage"])) as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM objects")]

    def records(self) -> list[dict[str, object]]:
        """All records, through the API."""
        status, answer = self.request(
            "GET", "/buckets/cites/collections/seizures/records?_sort=number"
        )
        assert status == 200, answer
        data = answer["data"]
        assert isinstance(data, list)
        return data
