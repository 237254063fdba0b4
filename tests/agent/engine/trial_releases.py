"""Releases with rollbacks of their own, and sites on which they are tried."""

from __future__ import annotations

import itertools
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace, SqlitePlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.release_flow import publish_release
from demo.releases import assemble, declare
from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
from ncen_updater.agent.model.change import new_change_id
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.forks import run_agent
from tests.support.sites import TrialFeed, _now, connect, serve, site_in_process

FIRST = "3.2.4"
NUMBERS = itertools.count()
PROGRAM = """#!{python}
import os, sqlite3
for name in ("SEIZURES", "SUSPECTS", "COMPANIES"):
    address = os.environ["NCEN_DB_" + name + "_URL"]
    if address.startswith("sqlite:///"):
        connection = sqlite3.connect(address.removeprefix("sqlite:///"))
    else:
        import psycopg
        connection = psycopg.connect(address)
    connection.execute("SELECT 1").fetchone()
    for statement in {statements!r}:
        connection.execute(statement)
    connection.commit()
    connection.close()
"""
#: What the program of each release does. That of OLD fails when it is run once more.
DOES = {
    "once": ["CREATE TABLE came_with_old (id integer)"],
    "nothing": [],
    "schema": ["CREATE TABLE came_with_new (id integer)"],
    "rows": ["INSERT INTO came_with_old VALUES (1)"],
    "again": ["CREATE TABLE IF NOT EXISTS came_with_new (id integer)"],
    # Only where it waits for no lock for long.
    "gives up": [
        "SELECT 1 / (current_setting('lock_timeout') <> '0')::integer",
        "CREATE TABLE IF NOT EXISTS came_with_new (id integer)",
    ],
    "ends": ["CREATE TABLE IF NOT EXISTS came_later (id integer)"],
    # Only where companies has the column for it.
    "waits": [
        "CREATE TABLE IF NOT EXISTS came_later (id integer)",
        "SELECT 1 / (current_database() NOT LIKE '%companies'"
        " OR to_regclass('room') IS NOT NULL)::integer",
    ],
    "sleeps": [
        "SELECT pg_sleep(60) WHERE to_regclass('room') IS NULL",
        "CREATE TABLE IF NOT EXISTS came_later (id integer)",
    ],
    "half": [
        "CREATE TABLE IF NOT EXISTS came_with_new (id integer)",
        "SELECT 1 / (current_database() NOT LIKE '%companies')::integer",
    ],
}


def release(
    directory: Path,
    version: str,
    does: str | None,
    reports: str | None = None,
    *,
    compatibility: tuple[int, int] | None = None,
    expand: bool = False,
    contract: str | None = None,
    limit_s: int = 3600,
    at_start: str | None = None,
    self_managed: Sequence[str] = (),
    one_way: str | None = None,
) -> Path:
    """The first release under another number, with a program in place of its files or without.

    Args:
        directory: Where.
        version: The other number.
        does: What its program does; None where it has files.
        reports: The version that the application reports, where that is another.
        compatibility: The number of its schema and how far back it goes, if it says so.
        expand: Whether its program may run while the release before serves.
        contract: What a second program does once the release was watched, if there is one.
        limit_s: Seconds that this one may take.
        at_start: A statement that the application runs at its start, whatever it says.
        self_managed: Declared schema changes by the application in suspects.
        one_way: A statement of a migration of suspects that only goes forward.
    """
    made = assemble(FIRST, directory / version)
    own = json.dumps({"version": reports or version})
    (made / "app" / "release.json").write_text(own, "utf-8")
    # Like most applications it does not ask the databases of which release they are.
    server = made / "app" / "lib" / "nucen" / "server.py"
    asks = 'schema = releases.get("seizures", "?") if len(set(releases.values())) == 1 else "mixed"'
    code = server.read_text("utf-8")
    assert asks in code
    server.write_text(code.replace(asks, "schema = self.version"), "utf-8")
    if at_start is not None:
        begins = "        self.ended = threading.Event()\n"
        code = server.read_text("utf-8")
        assert begins in code
        runs_it = f"        self.stores['suspects'].run(lambda execute: execute({at_start!r}))\n"
        server.write_text(code.replace(begins, runs_it + begins), "utf-8")
    cases = server.with_name("cases.py")
    cases.write_text(cases.read_text("utf-8").replace(f'"{FIRST}"', "release"), "utf-8")
    manifest = made / "manifest.toml"
    text = manifest.read_text("utf-8").replace(f'version = "{FIRST}"', f'version = "{version}"')
    top = f'upgrade_from = ">={FIRST},<{version}"'
    if reports is not None:  # no '<' with a local version
        top = f'upgrade_from = ">={FIRST}"\nreports = "{reports}"'
    text = text.replace("[[databases]]", f"{top}\n\n[[databases]]", 1)
    if does is not None:
        text = with_program(text, made, DOES[does])
    if contract is not None:
        text += '\n[migrator.contract]\nargv = ["bin/contract.py"]\n'
        text += f"timeout_s = {limit_s}\n"
        write_program(made / "bin" / "contract.py", DOES[contract])
    own = 'name = "suspects"\n'
    if self_managed:
        text = text.replace(own, f"{own}self_managed = {json.dumps(list(self_managed))}\n", 1)
    if one_way is not None:
        words = 'id = "0002_more"\nup = "more.sql"\nirreversible = "it only goes forward"\n'
        more = f"[[databases.migrations]]\n{words}\n"
        text = text.replace(
            '[[databases]]\nname = "companies"', f'{more}[[databases]]\nname = "companies"', 1
        )
        (made / "more.sql").write_text(one_way, "utf-8")
    manifest.write_text(text, "utf-8")
    if compatibility is not None:
        declare(made, *compatibility, expand=expand)
    return made


def with_program(text: str, made: Path, statements: Sequence[str]) -> str:
    """Give a release a program in place of the files of its migrations.

    Args:
        text: Its manifest.
        made: Where its sources are.
        statements: What the program does in each database.

    Returns:
        The manifest that names it.
    """
    write_program(made / "bin" / "migrate.py", statements)
    text = re.sub(r"\[\[databases\.migrations\]\]\n(?:[a-z]+ = .*\n)+", "", text)
    text += '\n[migrator]\nargv = ["bin/migrate.py"]\n'
    return f'{text}no_rollback_reason = "it only goes forward"\n'


def write_program(program: Path, statements: Sequence[str]) -> None:
    """Write a program of a release that works on its databases."""
    program.parent.mkdir(exist_ok=True)
    program.write_text(PROGRAM.format(python=sys.executable, statements=statements), "utf-8")
    program.chmod(0o755)


@contextmanager
def served_feed(
    directory: Path, built: Sequence[Path], first: Sequence[str] = ()
) -> Iterator[tuple[TrialFeed, str]]:
    """A feed with these releases over HTTP, after some of the stand-in's own."""
    made = TrialFeed(directory)
    if first:
        made.publish(first)
    publish_release(made.directory, built, made.keys, _now)
    with serve(made.directory) as url:
        yield made, url


@contextmanager
def site_on(
    request: pytest.FixtureRequest,
    directory: Path,
    feed: tuple[TrialFeed, str],
    schema_number: int | None = None,
) -> Iterator[DemoSite]:
    """A small site that runs on the engine that the parameter names."""
    place: PostgresPlace | SqlitePlace | None = None
    if request.param == "postgresql":
        running: EmbeddedPostgres = request.getfixturevalue("server")
        place = PostgresPlace(
            str(running.host), prefix=f"m{next(NUMBERS)}_", programs=running.binaries.directory
        )
    options = SiteOptions(
        feed_urls=(feed[1],), cases=10, icomm=False, soak_s=0.2, soak_interval_s=0.1,
        schema_number=schema_number,
    )  # fmt: skip
    with DemoSite(directory / "site", place, options) as site:
        connect(site, feed[0])
        site.start_app()
        yield site
        site.stop_app()


def operations(demo: DemoSite, checkpoint: object = None) -> Operations:
    site = site_in_process(demo)
    site.release_source.refresh()
    strike = checkpoint if callable(checkpoint) else lambda _step, _phase: None
    return Operations(site, SilentProgress(), checkpoint=strike)


def rehearse(demo: DemoSite, version: str) -> dict[str, object]:
    site = site_in_process(demo)
    work = Operations(site, SilentProgress())
    with work.lock_idle_site("rehearse") as journal:
        path = find_cached_path(site, journal, Version(version))
        assert isinstance(path, UpgradePath)
        record = Rehearser(site, journal, SilentProgress(), new_change_id).rehearse(path)
    assert record.report is not None
    return record.report.hops[-1].to_json()


def run_text(demo: DemoSite, *words: str) -> str:
    """What a command says to people."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(demo.root), "LANG": "C.UTF-8",
        "NCEN_CONFIG_FILE": str(demo.config_path),
    }  # fmt: skip
    ended = run_agent(*words, environment=environment)
    return ended.stdout + ended.stderr


def execute(address: str, statement: str) -> None:
    if address.startswith("/"):
        with sqlite3.connect(address) as connection:
            connection.execute(statement)
        connection.close()
    else:
        with psycopg.connect(address) as session:
            session.execute(statement.encode())


def runs(demo: DemoSite) -> str | None:
    """The one release that code, mark of the databases and application are of."""
    site, seen = site_in_process(demo), version_of(demo)
    marker = site.database_engine.read_marker()
    assert marker is not None
    parts = {str(site.slots.read_current()), marker.release, seen.code, seen.reported}
    return parts.pop() if len(parts) == 1 else None
