"""Tests that rows quoted by a database or a migrator are stored for root only."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.engine.raw_errors import (
    RETENTION_S,
    _iter_raw_texts,
    find_next_expiry,
    prune_raw_errors,
)
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import UNEXPECTED
from tests.agent.engine.trial_releases import (
    execute,
    operations,
    rehearse,
    release,
    run_text,
    served_feed,
    site_on,
)
from tests.support.migrators import not_as_root
from tests.support.rotation import either_engine, in_turns
from tests.support.sites import TrialFeed

pytestmark = either_engine("demo")

OLD, ROW, VALUE, PROGRAM = "3.2.4", "3.2.5", "3.2.6", "3.2.7"
PLANTED = "Amina Planted-7"
UP = {
    ROW: {"postgresql": "UPDATE companies SET country = NULL WHERE company_ref = 'PLANTED';\n"},
    VALUE: {
        "postgresql": "UPDATE companies SET turnover = name::int"
        " WHERE company_ref = 'PLANTED';\n",
        "sqlite": "CREATE TABLE t AS SELECT json_extract('{}', name) FROM companies"
        " WHERE company_ref = 'PLANTED';\n",
    },
}  # fmt: skip
UP[ROW]["sqlite"] = UP[VALUE]["sqlite"]
MIGRATOR = """#!{python}
import os, sqlite3, sys
address = os.environ["NCEN_DB_COMPANIES_URL"]
if address.startswith("sqlite:///"):
    connection = sqlite3.connect(address.removeprefix("sqlite:///"))
else:
    import psycopg
    connection = psycopg.connect(address)
query = "SELECT name FROM companies WHERE company_ref = 'PLANTED'"
sys.exit(f"cannot migrate {{connection.execute(query).fetchone()[0]}}")
"""


def failing(sources: Path, version: str) -> Path:
    if version == PROGRAM:
        made = release(sources, version, "nothing")
        program = made / "bin" / "migrate.py"
        program.write_text(MIGRATOR.format(python=sys.executable), "utf-8")
        return made
    made = release(sources, version, None)
    item = (
        '[[databases.migrations]]\nid = "0002_fails"\n'
        'up = "migrations/{engine}/companies/0002.up.sql"\nirreversible = "it fails before that"\n'
    )
    manifest = made / "manifest.toml"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace("[[health]]", f"{item}\n[[health]]", 1), "utf-8")
    for engine, sql in UP[version].items():
        (made / "migrations" / engine / "companies" / "0002.up.sql").write_text(sql, "utf-8")
    return made


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [failing(sources, version) for version in (ROW, VALUE, PROGRAM)]
    with served_feed(tmp_path_factory.mktemp("feed"), built, [OLD]) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed) as site:
        yield site


def everything_but(demo: DemoSite, kept: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of the state directory: the journal with its log, views, dossiers, bundles."""
    for path in demo.state.rglob("*"):
        if path.is_file() and not path.is_relative_to(kept):
            yield path, path.read_bytes()


@in_turns("version")
@pytest.mark.parametrize("version", [ROW, VALUE, pytest.param(PROGRAM, marks=not_as_root)])
def test_quoted_row_is_stored_for_root_only(demo: DemoSite, version: str) -> None:
    execute(
        demo.databases.address("companies"),
        f"INSERT INTO companies (company_ref, name, country) VALUES ('PLANTED', '{PLANTED}', 'MU')",
    )
    operations(demo)  # reads the feed
    with pytest.raises(UpdaterError) as rehearsed:
        rehearse(demo, version)
    with pytest.raises(ChangeFailedError) as failed:
        operations(demo).upgrade(Version(version))

    kept = demo.state / "failures"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    named = {
        re.search(r"sudo cat (\S+)", str(error.value.remedy_text)) for error in (rehearsed, failed)
    }
    files = {Path(found[1]) for found in named if found}
    assert files == set(kept.iterdir())
    assert len(files) == 2, (str(rehearsed.value), str(failed.value))
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert PLANTED in path.read_text("utf-8")

    for path, content in everything_but(demo, kept):
        assert PLANTED.encode() not in content, path
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes(1)[0].id
        (event,) = [e for e in journal.list_events(change=change) if e.kind == "step-failed"]
    assert event.get("raw_error") == str(kept / f"{change}.txt")
    bundle = demo.root / "bundle.tar.gz"
    answers = [
        run_text(demo, "history", change, "--json"),
        run_text(demo, "history"),
        run_text(demo, "status", "--json"),
        run_text(demo, "doctor"),
        run_text(demo, "support-bundle", "--output", str(bundle), "--yes"),
        run_text(demo, "upgrade", version, "--yes"),
        run_text(demo, "rehearse", version),
        str(rehearsed.value),
        str(failed.value),
        json.dumps({k: str(v) for k, v in failed.value.values.items()}),
    ]
    for answer in answers:
        assert PLANTED not in answer
        assert "Amina" not in answer


def test_raw_error_is_found_behind_its_cause() -> None:
    inner = ChangeFailedError(cause="x").with_raw_error("ERROR: row (4711)")
    outer = UpdaterError(UNEXPECTED, kind="x")
    outer.__cause__ = inner
    assert list(_iter_raw_texts(outer)) == ["ERROR: row (4711)"]


def test_raw_errors_expire(tmp_path: Path) -> None:
    assert find_next_expiry(tmp_path) is None
    prune_raw_errors(tmp_path, 0)
    directory = tmp_path / "failures"
    directory.mkdir()
    for name, at in (("old", 1_000), ("new", 1_001)):
        (directory / name).write_text("x")
        os.utime(directory / name, (at, at))
    found = find_next_expiry(tmp_path)
    assert found is not None
    assert found.timestamp() == 1_000 + RETENTION_S
    prune_raw_errors(tmp_path, 999 + RETENTION_S)
    assert len(list(directory.iterdir())) == 2
    prune_raw_errors(tmp_path, 1_000 + RETENTION_S)
    assert [path.name for path in directory.iterdir()] == ["new"]
