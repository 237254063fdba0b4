"""Tests of Kinto without the agent, on which the end-to-end test is based."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from packaging.version import Version
from psycopg import sql

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.formats.manifest import DomainCheck, Manifest, load_manifest
from ncen_updater.formats.tree import scan_tree
from tests.kinto.build import NEW, OLD, SCHEMAS, Fault, assemble_or_skip
from tests.kinto.site import DATABASES, RECORDS, KintoSite

CANDIDATES = {name: f"{database}__next_handmade" for name, database in DATABASES.items()}
Answers = dict[str, object]


def _each(server: EmbeddedPostgres, databases: dict[str, str], statement: str) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        for name, database in databases.items():
            places = {"name": sql.Identifier(database), "live": sql.Identifier(DATABASES[name])}
            connection.execute(sql.SQL(statement).format(**places))


def _copy(server: EmbeddedPostgres) -> None:
    _each(server, CANDIDATES, "CREATE DATABASE {name} TEMPLATE {live} OWNER kinto")


def _ask(site: KintoSite, databases: dict[str, str], checks: tuple[DomainCheck, ...]) -> Answers:
    answers: Answers = {}
    for check in checks:
        conninfo = site.server.conninfo(databases[check.database])
        with psycopg.connect(conninfo) as connection:
            row = connection.execute(check.sql.encode()).fetchone()
            assert row is not None
            answers[check.name] = row[0]
    return answers


def _schema(site: KintoSite, database: str) -> tuple[set[object], int]:
    """Names of the indexes, and the schema's number."""
    with psycopg.connect(site.server.conninfo(database)) as connection:
        indexes = connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'objects'")
        number = connection.execute(
            "SELECT max(value::int) FROM metadata WHERE name = 'storage_schema_version'"
        ).fetchone()
        assert number is not None
        return {row[0] for row in indexes}, number[0]


def _compared(manifest: Manifest) -> tuple[DomainCheck, ...]:
    return tuple(check for check in manifest.checks if check.relation)


def _switch(site: KintoSite, release: Path) -> None:
    site.current.unlink()
    site.current.symlink_to(release)


def test_new_version_serves_the_migrated_copies(site: KintoSite, old: Path, new: Path) -> None:
    manifest = load_manifest(new / "manifest.toml")
    before = _ask(site, DATABASES, _compared(manifest))
    indexes, number = _schema(site, DATABASES["storage"])
    _copy(site.server)

    migrated = site.migrate(new, CANDIDATES)

    assert migrated.returncode == 0, migrated.stderr
    assert _ask(site, CANDIDATES, _compared(manifest)) == before
    assert before["records before = records after"] == len(RECORDS)
    for check in manifest.checks:
        if check.expect is not None:
            assert _ask(site, CANDIDATES, (check,)) == {check.name: check.expect}
    # The original was not touched, and the schemas do differ in what a fingerprint sees.
    assert _schema(site, DATABASES["storage"]) == (indexes, number)
    assert (number, _schema(site, CANDIDATES["storage"])[1]) == (SCHEMAS[OLD], SCHEMAS[NEW])
    assert _schema(site, CANDIDATES["storage"])[0] > indexes

    _each(site.server, DATABASES, "DROP DATABASE {name}")
    _each(site.server, CANDIDATES, "ALTER DATABASE {name} RENAME TO {live}")
    trees = [scan_tree(release) for release in (old, new)]
    _switch(site, new)
    assert site.control("start") == 0
    assert site.wait_healthy()["project_version"] == NEW
    found = site.records()
    assert [{key: record[key] for key in RECORDS[0]} for record in found] == RECORDS
    # Neither serving nor migrating writes into a release.
    assert [scan_tree(release) for release in (old, new)] == trees


def test_control_is_idempotent_and_waits(site: KintoSite) -> None:
    assert site.control("status") == 3
    assert site.control("stop") == 0
    assert (site.control("start"), site.control("start")) == (0, 0)
    assert site.control("status") == 0
    assert site.wait_healthy()["project_version"] == OLD
    assert site.control("stop") == 0
    assert site.control("status") == 3
    with psycopg.connect(site.server.conninfo()) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'kinto'"
        ).fetchone()
    assert left == (0,)


def test_failed_start_is_reported(site: KintoSite) -> None:
    site.current.unlink()
    assert site.control("start") == 1
    assert site.control("status") == 3


def test_migrator_ignores_other_addresses(site: KintoSite, new: Path) -> None:
    """Kinto reads its own variables first; the release's script must not let it."""
    _copy(site.server)
    live = f"postgresql://kinto@/kinto_storage?host={site.server.host}"
    migrated = site.migrate(new, CANDIDATES, more={"KINTO_STORAGE_URL": live, "STORAGE_URL": live})
    assert migrated.returncode == 0, migrated.stderr
    assert _schema(site, DATABASES["storage"])[1] == SCHEMAS[OLD]
    assert _schema(site, CANDIDATES["storage"])[1] == SCHEMAS[NEW]


def test_migrator_refuses_a_missing_address(site: KintoSite, new: Path) -> None:
    two = {name: database for name, database in CANDIDATES.items() if name != "cache"}
    refused = site.migrate(new, two)
    assert refused.returncode == 1
    assert "no address given for: cache" in refused.stderr


def test_failing_migrator_leaves_one_database_migrated(site: KintoSite, tmp_path: Path) -> None:
    broken = assemble_or_skip(NEW, tmp_path / "broken", Fault.MIGRATOR)
    _copy(site.server)
    failed = site.migrate(broken, CANDIDATES)
    assert failed.returncode == 1
    assert "no_such_type" in failed.stderr
    assert _schema(site, CANDIDATES["storage"])[1] == SCHEMAS[NEW]
    assert _schema(site, DATABASES["storage"])[1] == SCHEMAS[OLD]
    # The site goes on as it was.
    assert site.control("start") == 0
    assert site.wait_healthy()["project_version"] == OLD
    assert len(site.records()) == len(RECORDS)


def test_unhealthy_release_migrates_and_can_be_stopped(site: KintoSite, tmp_path: Path) -> None:
    broken = assemble_or_skip(NEW, tmp_path / "broken", Fault.HEALTH)
    _copy(site.server)
    assert site.migrate(broken, CANDIDATES).returncode == 0
    _switch(site, broken)
    assert site.control("start") == 0
    site.wait_listening()
    with pytest.raises(OSError, match="timed out"):
        site.request("GET", "/", user=None, timeout=1.0)
    assert site.control("status") == 0
    assert site.control("stop") == 0
    assert site.control("status") == 3


def test_release_builds_are_reproducible(new: Path, tmp_path: Path) -> None:
    again = assemble_or_skip(NEW, tmp_path / "again")
    assert scan_tree(again) == scan_tree(new)
    names = {path.name for path in again.rglob("*")}
    assert not names & {"__pycache__", "RECORD", "direct_url.json", "INSTALLER"}
    assert (again / "bin/release.py").read_text().startswith("#!/")


@pytest.mark.parametrize(
    ("fault", "expected"), [(Fault.MIGRATOR, "post1"), (Fault.HEALTH, "post2")]
)
def test_faulty_releases_have_their_own_version(
    fault: Fault, expected: str, tmp_path: Path
) -> None:
    release = assemble_or_skip(NEW, tmp_path / "release", fault)
    manifest = load_manifest(release / "manifest.toml")
    assert manifest.version == f"{NEW}.{expected}"
    assert manifest.migrator is not None
    assert manifest.accepts_version(Version(OLD))
