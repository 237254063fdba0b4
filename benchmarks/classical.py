"""Upgrade by hand: stop, dump, migrate with psql, switch the link, start; restore to roll back."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from demo.databases import PostgresPlace
from demo.embedded_postgres import PostgresBinaries
from demo.site import DemoSite

PARALLEL = "-j2"
HEALTHY_WITHIN_S = 60.0


@dataclass(frozen=True)
class UpgradeByHand:
    """Upgrades with the server's own programs; dumps and restores as a superuser.

    Dumps and replaced databases are not deleted: on ext4, deleted files slow down the creation of
    others for minutes, which would be counted against the next upgrade.

    Attributes:
        release: Tree of the new version, laid out beforehand.
        scripts: Migrations in order, by logical database.
        dumps: Directory of the dumps, on the same disk as the databases.
    """

    site: DemoSite
    place: PostgresPlace
    binaries: PostgresBinaries
    release: Path
    scripts: Mapping[str, tuple[Path, ...]]
    dumps: Path
    _turns: Iterator[int] = field(default_factory=count)

    def upgrade(self) -> tuple[Path, Path]:
        """Upgrade; return the previous target of ``current``, and the dumps."""
        self.site.stop_app()
        dumps = self.dumps / f"bad{next(self._turns)}"
        dumps.mkdir(parents=True)
        for physical in self.place.names.values():
            self._run("pg_dump", "-Fd", PARALLEL, "-Z0", "-f", str(dumps / physical), physical)
        for name, scripts in self.scripts.items():
            files = [word for script in scripts for word in ("-f", str(script))]
            role = f"SET ROLE {self.place.owner}"
            self._run("psql", "-qX1", "-v", "ON_ERROR_STOP=1", "-d", self.place.names[name],
                      "-c", role, *files)  # fmt: skip
            self._run("psql", "-qX", "-d", self.place.names[name], "-c", "ANALYZE")
        before = self.site.current.readlink()
        self._switch(self.release)
        self.restart()
        return before, dumps

    def roll_back(self, before: Path, dumps: Path) -> None:
        """Replace each database by its restored dump; newer records are lost."""
        self.site.stop_app()
        for physical in self.place.names.values():
            restored = f"{physical}_new"
            self._execute("CREATE DATABASE {a} OWNER {b} TEMPLATE template0",
                          a=restored, b=self.place.owner)  # fmt: skip
            self._run("pg_restore", PARALLEL, "-d", restored, str(dumps / physical))
            self._execute(
                "ALTER DATABASE {a} RENAME TO {b}", a=physical, b=f"{physical}_{dumps.name}"
            )
            self._execute("ALTER DATABASE {a} RENAME TO {b}", a=restored, b=physical)
            self._run("psql", "-qX", "-d", physical, "-c", "ANALYZE")
        self._switch(before)
        self.restart()

    def restart(self) -> None:
        """Restart the application until it is healthy: the minimum downtime of any upgrade."""
        self.site.stop_app()
        self.site.start_app()
        end = time.monotonic() + HEALTHY_WITHIN_S
        while not _is_healthy(self.site):
            if time.monotonic() > end:
                raise SystemExit("the application does not become healthy")
            time.sleep(0.02)

    def _switch(self, tree: Path) -> None:
        link = self.site.current.with_name("current.new")
        link.symlink_to(tree)
        link.replace(self.site.current)

    def _run(self, name: str, *arguments: str) -> None:
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

    def _execute(self, statement: str, **names: str) -> None:
        quoted = {key: sql.Identifier(name) for key, name in names.items()}
        conninfo = self.place.conninfo("postgres", self.place.superuser)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(**quoted))


def _is_healthy(site: DemoSite) -> bool:
    try:
        with urllib.request.urlopen(f"{site.app_url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
