"""A site of an example, as it is before an agent comes: installed by hand, and at work."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from demo.embedded_postgres import EmbeddedPostgres
from demo.ports import find_free_ports
from demo.release_flow import publish_release
from ncen_updater.publisher.new.trial import create_feed, create_keys
from tests.examples.building import CONTAINER, Example
from tests.support.forks import DEADLINE_S, run_agent
from tests.support.podman import OVERRIDE, forget, podman_settings
from tests.support.postgres import FAST_SETTINGS, available, running
from tests.support.sites import serve

AGENT = "ncen_updater"
HOST = "127.0.0.1"
SHORTER = {"seconds = 5 ": "seconds = 0.2 ", "interval_s = 1\n": "interval_s = 0.1\n"}


@contextmanager
def at_loopback(settings: Sequence[str] = FAST_SETTINGS) -> Iterator[EmbeddedPostgres]:
    """Run the newest server that is here where a JDBC driver reaches it: it opens no socket.

    What differs between versions is tested with the databases.

    Args:
        settings: Of the server.
    """
    found = available()
    if not found:
        pytest.skip("no PostgreSQL server was found")
    (port,) = find_free_ports(1)
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(found[-1], Path(directory), settings, port=port) as server,
    ):
        yield server


class Desk:
    """One site in a directory of its own, with a database that may be lost.

    Args:
        example: What it runs.
        server: Where its database is; it listens at the loopback.
        root: Its directory; made.
        tools: A directory for ``PATH``, with the Python that releases are run by.
    """

    def __init__(self, example: Example, server: EmbeddedPostgres, root: Path, tools: Path) -> None:
        self.example, self.server, self.root = example, server, root
        self.port, self.feed_port = find_free_ports(2)
        self.config = root / "agent.toml"
        self.current = root / f"opt/{example.product}/current"
        self.trusted_root = root / "etc/ncen-updater/trust/root.json"
        self.environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "NCEN_CONFIG_FILE": str(self.config),
        }
        self._values = {
            "root": str(root), "control": str(root / "control"), "port": str(self.port),
            "feed_port": str(self.feed_port), "db_port": str(server.port),
        }  # fmt: skip

    def install(self, release: Path) -> None:
        """Install a release by hand and start it, as its own documents would say.

        Args:
            release: With its own migrator.
        """
        self.databases()
        for place in ("run", "var/lib/ncen-updater"):
            (self.root / place).mkdir(parents=True)
        self.trusted_root.parent.mkdir(parents=True)
        shutil.copy(self.example.control, self.root / "control")
        if (self.example.sources / "site").is_dir():
            shutil.copytree(self.example.sources / "site", self.root / "tomcat")
        text = (self.example.sources / "agent.toml").read_text("utf-8")
        for name, value in self._values.items():
            text = text.replace(f"{{{name}}}", value)
        # The programs of the server that runs here; on a site they are found by themselves.
        programs = f'bin_directory = "{self.server.binaries.directory}"\n'
        text = text.replace("[databases.postgresql]\n", f"[databases.postgresql]\n{programs}")
        if self.example is CONTAINER:
            text = self._as_podman_runs_here(text)
        for usual, shorter in SHORTER.items():
            assert usual in text
            text = text.replace(usual, shorter)
        self.config.write_text(text, "utf-8")
        self.config.chmod(0o600)
        self.migrate(release, self.example.product)
        self.control("start", release)

    def _as_podman_runs_here(self, text: str) -> str:
        """A line for each that starts containers, where this machine is not as others are."""
        settings = self.root / "containers.conf"
        settings.write_text(podman_settings(), "utf-8")
        line = f'{OVERRIDE} = "{settings}"\n'
        for table in ("[databases.migrator_environment]\n", "[application.environment]\n"):
            assert table in text
            text = text.replace(table, f"{table}{line}")
        return text

    def migrate(self, release: Path, database: str) -> None:
        """Run a release's migrator on a database."""
        name = f"NCEN_DB_{self.example.product.upper()}_URL"
        url = f"postgresql://{self.example.product}@/{database}?host={quote(HOST)}&port={self.server.port}"
        argv = tomllib.loads((release / "manifest.toml").read_text("utf-8"))["migrator"]["argv"]
        self.program(release, *argv, **{name: url})

    def program(self, release: Path, *words: str, **variables: str) -> None:
        """Run a program of a release with what the site gives its migrator."""
        settings = tomllib.loads(self.config.read_text("utf-8"))["databases"]
        given = settings.get("migrator_environment", {})
        subprocess.run(words, cwd=release, env={**self.environment, **given, **variables},
                       check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)  # fmt: skip

    def control(self, act: str, release: Path | None = None) -> None:
        """Start or stop every part of the application by hand."""
        for words in self._commands(act):
            assert self._ordered(words, release) == 0, words
        if act == "start":
            self._wait()

    def running(self) -> list[str]:
        """Programs of the application that run, by name."""
        return [words[1] for words in self._commands("status") if self._ordered(words) == 0]

    @property
    def parts(self) -> list[str]:
        """Programs of the application, by name."""
        return [words[1] for words in self._commands("status")]

    def _commands(self, act: str) -> list[list[str]]:
        application = tomllib.loads(self.config.read_text("utf-8"))["application"]
        return [part[act] for part in (application, *application.get("parts", ()))]

    def _ordered(self, words: list[str], release: Path | None = None) -> int:
        settings = tomllib.loads(self.config.read_text("utf-8"))["application"]["environment"]
        environment = {**self.environment, **settings, "NCEN_CURRENT": str(release or self.current)}
        return subprocess.run(words, env=environment, check=False, timeout=DEADLINE_S).returncode

    # ---- the agent -----------------------------------------------------------------------------

    @contextmanager
    def followed(self, releases: Sequence[Path], directory: Path) -> Iterator[None]:
        """A feed with releases where the site looks for it, and its trusted root at the site.

        Args:
            releases: In their order.
            directory: For keys and feed.
        """

        def now() -> datetime:
            return datetime.now(UTC)

        keys, feed = create_keys(directory / "keys", "a long pass phrase"), directory / "feed"
        create_feed(feed, keys, now, products=(self.example.product,))
        publish_release(feed, releases, keys, now)
        shutil.copyfile(feed / "metadata/1.root.json", self.trusted_root)
        with serve(feed, self.feed_port):
            yield

    def agent(self, *words: str, status: int = 0) -> str:
        """Run a command of the agent; what it answered."""
        ended = run_agent(*words, environment=self.environment)
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout

    # ---- the application's own interface -------------------------------------------------------

    def ask(self, path: str, body: str | None = None) -> Any:
        """One request; the answer's JSON."""
        data = None if body is None else body.encode()
        address = f"http://{HOST}:{self.port}/{self.example.below}{path}"
        request = urllib.request.Request(address, data)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def enter(self, *texts: str) -> None:
        """Enter records."""
        for text in texts:
            self.ask(self.example.records, self.example.body(text))

    def entered(self) -> list[str]:
        """What was entered, in its order."""
        return [row[self.example.column] for row in self.rows()]

    def rows(self) -> list[Mapping[str, Any]]:
        """All records, whole."""
        found: list[Mapping[str, Any]] = self.ask(self.example.records)[self.example.records]
        return found

    def settled(self) -> None:
        """Wait until a worker has done what was asked for, where there is one."""
        deadline = time.monotonic() + DEADLINE_S
        while any(row.get("issued") == 0 for row in self.rows()):
            assert time.monotonic() < deadline, self.rows()
            time.sleep(0.05)  # between two looks

    def version(self) -> str:
        """What the application says that it is."""
        return str(self.ask("health")["version"])

    def _wait(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.version()
            except (OSError, urllib.error.HTTPError) as error:
                if time.monotonic() > deadline:
                    log = (self.root / "run/web.log").read_text("utf-8", "replace")[-3000:]
                    raise AssertionError(f"not healthy: {error}\n{log}") from error
                time.sleep(0.05)  # between two looks
            else:
                return

    # ---- its database --------------------------------------------------------------------------

    def databases(self) -> None:
        """What docs/how-to/install-agent.md has the administrator of the server do."""
        owner = sql.Identifier(self.example.product)
        with psycopg.connect(self.server.conninfo(), autocommit=True) as session:
            for role, options in ((self.example.product, "LOGIN"), (AGENT, "LOGIN CREATEDB")):
                known = session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
                if known.fetchone() is None:
                    statement = sql.SQL(f"CREATE ROLE {{}} {options}")
                    session.execute(statement.format(sql.Identifier(role)))
            words = "GRANT {}, pg_signal_backend, pg_read_all_stats TO {}"
            session.execute(sql.SQL(words).format(owner, sql.Identifier(AGENT)))
            session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(owner, owner))

    def has(self, relation: str) -> bool:
        """Whether its database has a table or index of this name."""
        with psycopg.connect(self.server.conninfo(self.example.product)) as session:
            row = session.execute("SELECT to_regclass(%s) IS NOT NULL", (relation,)).fetchone()
        return row == (True,)

    def drop(self) -> None:
        """Stop everything and drop the databases, those of the agent too."""
        if self.config.exists():
            self.control("stop")
        forget(self.root)
        with psycopg.connect(self.server.conninfo(), autocommit=True) as session:
            found = session.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s OR datname = %s",
                (f"{self.example.product}%", AGENT),
            )
            for (name,) in found.fetchall():
                words = sql.SQL("DROP DATABASE {} WITH (FORCE)")
                session.execute(words.format(sql.Identifier(name)))
