"""Tests of the role that runs the application's objects, by source code and server log.

What a release says of its rows, what is counted, digested, tried and migrated: all of it may run a
function that the application's role left behind.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.version import Version

import ncen_updater.agent.adapters.databases.postgresql as room
from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.databases.postgresql import candidate_migrations
from ncen_updater.agent.adapters.databases.postgresql import dump_portability as carrying
from ncen_updater.agent.adapters.databases.postgresql import inspection as reading
from tests.agent.engine.trial_releases import execute, operations, rehearse, run_text, runs
from tests.support.postgres import FAST_SETTINGS, available, running
from tests.support.sites import TrialFeed, connect, serve

#: Of the stand-in, and the ledger, which belongs to the application's role as well.
TABLES = (
    "addresses", "aliases", "case_links", "cases", "companies", "identity_documents", "offences",
    "persons", "ncen_release", r"ref_\w+", r"ncen_kept\.\w+", r"ncen_updater\.\w+",
)  # fmt: skip
ROW = "INSERT INTO companies (company_ref, name, country) VALUES ('LATER-1', 'Later', 'MU')"
ROOM = Path(room.__path__[0])
#: Who may call what of the objects that open sessions. A name outside is one more place to judge.
MAY_OPEN: Mapping[str, set[str] | None] = {
    # In the application's databases, as its role, or as the agent to read the catalogue.
    "maintenance.open_session": {"sessions.py"},
    "sessions.open_catalogue_session": {"engine.py", "candidate_migrations.py"},
    "server.open_session": {"sessions.py"},
    # As the agent: in the control database alone.
    "server.open_session_block": {"control_database.py"},
    "server.open_write_session": {"control_database.py", "copies.py"},
    "Session.connect": {"connection.py"},
    "psycopg.connect": None,
}


def test_each_module_opens_sessions_as_its_declared_role() -> None:
    found: dict[str, set[str]] = {}
    as_owner = set()
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                of = (
                    node.value.attr
                    if isinstance(node.value, ast.Attribute)
                    else ast.unparse(node.value)
                )
                name = f"{of}.{node.attr}".lstrip("_")
                found.setdefault(name, set()).add(path.name)
            elif isinstance(node, ast.keyword) and node.arg == "as_owner":
                as_owner.add(path.name)
    assert {name: found.get(name) for name in MAY_OPEN} == MAY_OPEN
    # For addresses that programs get, too.
    assert as_owner == {"connection.py", "candidate_migrations.py", "sessions.py"}


@pytest.mark.parametrize(
    "text",
    [
        *reading._QUERIES,
        candidate_migrations._WRITE_COUNTERS_QUERY,
        candidate_migrations._REMAINING_BACKENDS_QUERY,
        *(carrying._build_issues_query(major, "ncen") for major in (14, 18)),
    ],
    ids=range(len(reading._QUERIES) + 4),
)
def test_agent_role_sessions_query_only_the_catalogue(text: str) -> None:
    named = re.findall(r"(?<!DISTINCT )\b(?:FROM|JOIN)\s+(?:LATERAL\s+)?(\w+)\b(?!\()", text)
    assert named
    assert [name for name in named if not name.startswith("pg_")] == []


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server that writes every statement down, with who ran it where."""
    told = ("log_statement=all", "log_connections=on", "log_line_prefix=<%u@%d> ")
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(available()[-1], Path(directory), (*FAST_SETTINGS, *told)) as server,
    ):
        yield server


def statements(server: EmbeddedPostgres, since: int) -> Iterator[tuple[str, str, str]]:
    """Role, database and text of what was run; its lines go on with a tab."""
    log = server.log.read_bytes()[since:].decode("utf-8", "replace").replace("\n\t", " ")
    for line in log.splitlines():
        if found := re.match(r"<(\S*)@(\S*)> LOG:  (?:statement|execute [^:]*): (.*)", line):
            role, database, text = found.groups()
            yield role, database, text


def test_server_log_shows_no_application_query_by_the_agent_role(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """From the plan to the rollback that loses rows, with what is asked in between."""
    place = PostgresPlace(str(server.host), prefix="w_", programs=server.binaries.directory)
    feed = TrialFeed(tmp_path / "feed")
    feed.publish(("3.2.4", "3.3.0"))
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=10, icomm=False, soak_s=0.2, soak_interval_s=0.1
        )
        with DemoSite(tmp_path / "site", place, options) as site:
            connect(site, feed)
            site.start_app()
            since = server.log.stat().st_size
            run_text(site, "plan", "3.3.0")
            rehearse(site, "3.3.0")
            operations(site).upgrade(Version("3.3.0"))
            execute(site.databases.address("companies"), ROW)
            for words in (("doctor",), ("verify",), ("rollback", "--dry-run")):
                run_text(site, *words)
            operations(site).rollback()
            assert runs(site) == "3.2.4"
            site.stop_app()
    ran = list(statements(server, since))
    names = r"\b(?:" + "|".join(TABLES) + r")\b"
    touched = Counter((role, bool(re.search(names, text))) for role, db, text in ran if db)
    wrong = [(db, text) for role, db, text in ran if role == place.agent and re.search(names, text)]
    assert wrong == []
    assert touched[place.agent, False] > 100
    assert touched[place.owner, True] > 100
