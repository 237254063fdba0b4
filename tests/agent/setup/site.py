"""Stand-in sites that nobody has set up, and everything of them that a setup may touch."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from psycopg.conninfo import make_conninfo

from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.ports import find_free_ports
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.application.process import CommandResult
from ncen_updater.agent.setup import machine
from ncen_updater.agent.setup.answers import load_answers
from ncen_updater.agent.setup.facts import gather_facts
from ncen_updater.agent.setup.machine import Machine, find_server
from ncen_updater.agent.setup.plan import SetupPlan, build_plan, name_cluster
from ncen_updater.agent.setup.proposal import make_proposal
from ncen_updater.agent.setup.record import SetupRecord
from ncen_updater.common.cli.render import encode_as_words
from ncen_updater.common.progress import SilentProgress
from ncen_updater.common.toml_writer import render_toml
from tests.support import postgres
from tests.support.setup_sessions import forked_session
from tests.support.sites import TrialFeed, serve

VERSION = "3.2.4"
AGENT = "setup_agent"
OURSELVES = pwd.getpwuid(os.geteuid()).pw_name
CATALOGUE = (
    "SELECT rolname, rolcanlogin, rolcreatedb FROM pg_roles ORDER BY 1",
    "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members ORDER BY 1, 2",
    "SELECT datname, datacl::text FROM pg_database ORDER BY 1",
)
#: As Debian has them; the server's own user comes in as its superuser.
HBA = """# Database administrative login by Unix domain socket
local   all             postgres                                peer map=super

# "local" is for Unix domain socket connections only
local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
"""

#: As who wants a password of everybody.
HBA_PASSWORD = HBA.replace("peer\n", "scram-sha-256\n")


PASSWORD = "known to it alone"


class PasswordPlace(PostgresPlace):
    """A server that the application gives a password."""

    def address(self, name: str) -> str:
        """See :class:`PostgresPlace`."""
        host = self.host if self.port == EmbeddedPostgres.port else "127.0.0.1"
        return make_conninfo(
            host=host, port=self.port, user=self.owner, dbname=self.names[name], password=PASSWORD
        )


def nothing(*_: object) -> CommandResult:
    """A machine without any of the programs."""
    return CommandResult(127, "not found")


@dataclass
class BareSite:
    """A site whose application runs.

    Attributes:
        demo: The stand-in.
        server: Its PostgreSQL; None with SQLite.
        answers: What a person answers.
    """

    demo: DemoSite
    server: EmbeddedPostgres | None
    answers: dict[str, Any]
    machine: Machine = field(init=False)

    def __post_init__(self) -> None:
        self.machine = Machine(self.demo.root, nothing)

    def write_answers(self, more: str = "") -> Path:
        """Write the answers to a file.

        Args:
            more: Lines before the first table.
        """
        path = self.demo.root.parent / "setup.toml"
        text = f"{more}\n{render_toml({'schema': 1, **self.answers})}"
        path.write_text(text, "utf-8")
        return path

    def plan(self, answers: Path | None = None) -> SetupPlan:
        """What would be done."""
        given = load_answers(answers or self.write_answers())
        facts = gather_facts(self.machine, [self.demo.app_url], name_cluster(given))
        found = make_proposal(facts, given.site.product, owner=given.databases.owner or "")
        return build_plan(self.machine, facts, found, given, self.demo.config_path)

    def record(self) -> SetupRecord:
        """What was done, as it lies on the disk."""
        return SetupRecord(self.machine, self.demo.state)

    def apply(self, answers: Path | None = None) -> None:
        """Begin, or go on."""
        record = self.record()
        plan = None if record.steps else self.plan(answers)
        if plan is None:
            record.apply(SilentProgress())
        else:
            record.apply(SilentProgress(), plan.steps, plan.by_hand, self.demo.config_path)

    def undo(self) -> None:
        """Undo all."""
        self.record().undo(SilentProgress())

    def look(self) -> dict[str, object]:
        """Every file with bytes, mode and owner, and what is in the databases."""
        found: dict[str, object] = dict(files_of(self.demo.root))
        if self.server is not None:
            for name in ("pg_hba.conf", "pg_ident.conf"):
                found[name] = facts_of(self.server.data / name)
            for asked in CATALOGUE:
                found[asked] = self.ask("postgres", asked)
            for physical in self.demo.databases.names.values():
                asked = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_t' ORDER BY 1"
                found[physical] = self.ask(physical, asked)
        else:
            place = self.demo.root / "srv/ncen/databases"
            found["places"] = sorted((path.name, path.is_symlink()) for path in place.iterdir())
            for path in sorted((place / "live").glob("*.sqlite")):
                with closing(sqlite3.connect(path)) as session:
                    found[path.name] = list(session.iterdump())
        return found

    def ask(self, database: str, statement: str) -> list[Any]:
        """What the superuser is answered."""
        assert self.server is not None
        address = find_server(str(self.server.host), self.server.port)
        assert address is not None
        return list(address.query([statement], database)[0])


def facts_of(path: Path) -> object:
    """Bytes, mode and owner."""
    found = path.lstat()
    if path.is_symlink():
        return str(path.readlink())
    content = path.read_bytes() if path.is_file() else b""
    return content, oct(found.st_mode), found.st_uid, found.st_gid


def files_of(root: Path) -> Iterator[tuple[str, object]]:
    """All that a setup may leave behind; not what the application itself writes."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.startswith(("run/", "srv/", "traffic")):
            yield name, facts_of(path)


@contextmanager
def running_as_debian(
    *, trust: bool = False, port: int | None = None
) -> Iterator[EmbeddedPostgres]:
    """Run a server of its own that lets people in as Debian does.

    Args:
        trust: Whether it still trusts every login, until :func:`_set_rules`.
        port: At the loopback; none by default.
    """
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as place,
        postgres.running(postgres.available()[-1], Path(place), port=port) as server,
    ):
        server.host.chmod(0o755)
        if not trust:
            _set_rules(server)
        yield server


@contextmanager
def bare_site(
    directory: Path, *, with_postgres: bool, plain: bool = False, password: str = ""
) -> Iterator[BareSite]:
    """Lay out a site, start its application, and take away what a setup makes.

    Args:
        directory: Holds all of it.
        with_postgres: Whether its databases are in a server of its own, or files.
        plain: Whether the files lie in a directory, which adopting makes a link.
        password: Where the application logs in by a password: ``socket`` or ``tcp``; else nowhere,
            as its system user.
    """
    feed = TrialFeed(directory)
    feed.publish((VERSION,))
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(machine, "_run_session", forked_session))
        url = stack.enter_context(serve(feed.directory))
        options = SiteOptions(feed_urls=(url,), cases=5, icomm=False)
        server = databases = None
        if with_postgres:
            port = find_free_ports(1)[0] if password == "tcp" else None
            server = stack.enter_context(running_as_debian(trust=True, port=port))
            made = PasswordPlace if password else PostgresPlace
            databases = made(
                str(server.host), server.port, owner="portal" if password else OURSELVES,
                agent="other", programs=server.binaries.directory,
            )  # fmt: skip
        demo = stack.enter_context(DemoSite(directory / "site", databases, options))
        _install_by_hand(demo)
        if plain:
            live = demo.root / "srv/ncen/databases/live"
            base = live.resolve()
            live.unlink()
            base.rename(live)
            shutil.rmtree(base.parent)
        application = demo._settings()["application"]
        if server is not None:  # root comes in as the role of its name
            application["user"] = OURSELVES
        if server is not None:
            if password:
                with psycopg.connect(server.conninfo(), autocommit=True) as session:
                    session.execute(f"ALTER ROLE portal PASSWORD '{PASSWORD}'")
            _set_rules(server, HBA_PASSWORD if password == "socket" else HBA)
        answers = {
            "site": {"id": "ke-national", "country": "KE"},
            "feed": {"urls": [url]},
            "trust": {"root": str(feed.root), "fingerprint": fingerprint(feed.root)},
            "application": application,
            "databases": (
                {"host": str(server.host), "port": server.port, "user": AGENT,
                 "owner": databases.owner,
                 "bin_directory": str(server.binaries.directory)}
                if server is not None and databases is not None
                else {"engine": "sqlite", "directory": str(demo.root / "srv/ncen/databases"),
                      "names": dict(demo.databases.names)}
            ),
        }  # fmt: skip
        demo.start_app()
        yield BareSite(demo, server, answers)


def _install_by_hand(demo: DemoSite) -> None:
    """Move the release to a place of its own, and take away all that the agent brings."""
    place = demo.root / "srv/old"
    shutil.copytree(demo.slots / VERSION, place / VERSION, symlinks=True)
    for path in demo.slots.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(demo.root / "opt")
    shutil.rmtree(demo.root / "etc")
    demo.current = place / "current"
    demo.current.symlink_to(VERSION)


def _set_rules(server: EmbeddedPostgres, rules: str = HBA) -> None:
    """Have it let people in as Debian does, and its own user in as its superuser."""
    (server.data / "pg_hba.conf").write_text(rules)
    owner = pwd.getpwuid(server.data.stat().st_uid).pw_name
    (server.data / "pg_ident.conf").write_text(f"super {owner} postgres\n# no end of line")
    for name in ("pg_hba.conf", "pg_ident.conf"):
        (server.data / name).chmod(0o640)
    os.kill(server.pid() or 0, signal.SIGHUP)
    while "super" not in _read_methods(server):
        pass


def _read_methods(server: EmbeddedPostgres) -> str:
    """Which rules the server has loaded, by the first that it says; read by its own user."""
    address = find_server(str(server.host), server.port)
    assert address is not None
    asked = "SELECT coalesce(string_agg(options::text, ','), '') FROM pg_hba_file_rules"
    return str(address.query([asked])[0][0][0])


def fingerprint(path: Path) -> str:
    """As the Secretariat reads it out."""
    return encode_as_words(hashlib.sha256(path.read_bytes()).hexdigest())
