"""3.2.4 to 3.3.0 and back and up again, on real databases of both engines: no record is lost."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import (
    DATABASES,
    PostgresPlace,
    SiteDatabases,
    SqlitePlace,
    apply_release,
    create_site_databases,
)
from demo.embedded_postgres import EmbeddedPostgres
from demo.evidence import case_references, database_digests, parked_rows
from demo.generator import generate
from demo.records import rows
from demo.releases import assemble
from ncen_updater.agent.model.errors import MigrationFailedError
from ncen_updater.formats.manifest import DomainCheck, Manifest, load_manifest
from tests.support.postgres import available, running
from tests.support.rotation import either_engine

pytestmark = either_engine("place")

CASES = 400


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """One version suffices here: the SQL is plain, and the agent's own tests run on all."""
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(available()[0], Path(directory)) as server,
    ):
        yield server


@pytest.fixture(params=["postgresql", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SiteDatabases]:
    if request.param == "sqlite":
        found: SiteDatabases = SqlitePlace(tmp_path / "databases")
        create_site_databases(found)
        yield found
        return
    server: EmbeddedPostgres = request.getfixturevalue("server")
    found = PostgresPlace(str(server.host), prefix="way_", programs=server.binaries.directory)
    try:
        create_site_databases(found)
        yield found
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            for name in found.names.values():
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture
def sources(tmp_path: Path) -> Callable[[str], Path]:
    def source(version: str) -> Path:
        directory = tmp_path / "sources" / version
        return directory if directory.exists() else assemble(version, directory)

    return source


def run(place: SiteDatabases, name: str, *statements: str) -> list[tuple[Any, ...]]:
    if isinstance(place, SqlitePlace):
        connection: Any = sqlite3.connect(place.address(name))
    else:
        connection = psycopg.connect(place.address(name))
    rows: list[tuple[Any, ...]] = []
    for statement in statements:
        cursor = connection.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
    connection.commit()
    connection.close()
    return rows


def asked(place: SiteDatabases, checks: tuple[DomainCheck, ...], *, after: bool) -> dict[str, Any]:
    return {
        c.name: run(place, c.database, (c.sql_after or c.sql) if after else c.sql)[0][0]
        for c in checks
    }


def manifest(source: Path) -> Manifest:
    return load_manifest(source / "manifest.toml")


def without_new(digests: dict[str, str]) -> dict[str, str]:
    """Digests without the tables where 3.3.0 parks what has no place in 3.2.4."""
    return {name: d for name, d in digests.items() if "ncen_kept" not in name}


def test_migrating_up_and_down_keeps_every_record(
    place: SiteDatabases, sources: Callable[[str], Path]
) -> None:
    generate(place, seed=3, cases=CASES)
    old, new = sources("3.2.4"), sources("3.3.0")
    checks = manifest(new).checks
    (map_,) = manifest(new).reference_maps
    unmapped = run(place, "seizures", map_.unmapped)
    assert [row[0] for row in unmapped] == ["C10"]
    assert unmapped[0][1] > 0
    before, values = database_digests(place), asked(place, checks, after=False)

    apply_release(place, new)
    assert asked(place, checks, after=True) == values
    assert run(
        place, "seizures", "SELECT count(*) FROM offences WHERE cites_class_former IS NOT NULL "
        "AND cites_offence IS NULL"
    ) == [(unmapped[0][1],)]  # fmt: skip
    apply_release(place, old, new)
    assert without_new(database_digests(place)) == before
    assert parked_rows(place) == {}


def test_new_records_are_parked_and_restored(
    place: SiteDatabases, sources: Callable[[str], Path]
) -> None:
    generate(place, seed=4, cases=CASES)
    old, new = sources("3.2.4"), sources("3.3.0")
    apply_release(place, new)
    run(
        place,
        "seizures",
        "INSERT INTO cases (case_ref, opened_at, office_code, officer, status)"
        " VALUES ('NEW-1', '2026-01-01T00:00:00Z', 'PORT1', 'new', 'open')",
        "INSERT INTO offences (case_ref, category_code) VALUES ('NEW-1', 'CULT')",
        "INSERT INTO offences (case_ref, category_code, cites_offence)"
        " VALUES ('NEW-1', 'CITES', 'ONLINE')",
        "INSERT INTO cultural_objects (case_ref, object_type) VALUES ('NEW-1', 'statuette')",
        "UPDATE offences SET cites_offence = 'ONLINE' WHERE id ="
        " (SELECT min(id) FROM offences WHERE cites_class_former = 'C10')",
    )
    run(place, "suspects", "UPDATE persons SET own_script_name = 'ნინო'")
    run(place, "companies", "UPDATE companies SET trade_name = 'Antiques' WHERE country = 'GE'")
    persons = run(place, "suspects", "SELECT count(*) FROM persons")[0][0]
    dealers = run(place, "companies", "SELECT count(*) FROM companies WHERE country = 'GE'")[0][0]
    full = without_new(database_digests(place))

    apply_release(place, old, new)
    assert "NEW-1" in case_references(place)["seizures"]
    assert run(
        place, "seizures",
        "SELECT category_code, cites_class FROM offences WHERE case_ref = 'NEW-1' ORDER BY id",
    ) == [("OTH", None), ("CITES", None)]  # fmt: skip
    assert parked_rows(place) == {
        "seizures.offences": 3,
        "seizures.cultural_objects": 1,
        "suspects.persons": persons,
        "companies.companies": dealers,
    }

    apply_release(place, new)
    # The new class that an old one is mapped to may be recorded beside it; all else is the same.
    assert run(
        place, "seizures",
        "SELECT category_code, cites_offence FROM offences WHERE case_ref = 'NEW-1' ORDER BY id",
    ) == [("CULT", None), ("CITES", "ONLINE")]  # fmt: skip
    assert without_new(database_digests(place)) == full
    assert parked_rows(place) == {}


def test_references_between_databases_are_valid(place: SiteDatabases) -> None:
    generate(place, seed=5, cases=CASES)
    references = case_references(place)
    assert len(references["seizures"]) == CASES
    assert references["suspects"] | references["companies"] <= references["seizures"]


def test_same_seed_generates_the_same_records(place: SiteDatabases, tmp_path: Path) -> None:
    assert list(rows(6, 50)) == list(rows(6, 50))
    assert list(rows(6, 50)) != list(rows(7, 50))
    made = generate(place, seed=6, cases=50, photos=tmp_path / "photos")
    assert made.rows["seizures.cases"] == 50
    assert len(list((tmp_path / "photos").iterdir())) == made.rows["seizures.photographs"]


@pytest.mark.parametrize(("version", "database"), [("3.3.1", "companies"), ("3.3.2", "suspects")])
def test_faulty_migrations_fail(
    place: SiteDatabases, sources: Callable[[str], Path], version: str, database: str
) -> None:
    generate(place, seed=7, cases=20)
    with pytest.raises(MigrationFailedError) as caught:
        apply_release(place, sources(version))
    assert caught.value.values["database"] == database
    # Each in its order: those before it succeeded.
    done = DATABASES.index(database)
    says = [run(place, n, "SELECT release FROM ncen_release")[0][0] for n in DATABASES]
    if version == "3.3.1":
        assert says[:done] == ["3.3.1"] * done
    assert says[done] == "3.3.0"


def test_lost_case_is_found_by_a_check(
    place: SiteDatabases, sources: Callable[[str], Path]
) -> None:
    generate(place, seed=8, cases=20)
    source = sources("3.3.3")
    checks = tuple(c for c in manifest(source).checks if c.name == "No case is lost")
    before = asked(place, checks, after=False)
    apply_release(place, source)
    assert asked(place, checks, after=True)["No case is lost"] == before["No case is lost"] - 1


@pytest.mark.parametrize("version", ["3.3.9", "3.3.10", "3.4.0"])
def test_later_releases_report_their_version_everywhere(
    place: SiteDatabases, sources: Callable[[str], Path], version: str
) -> None:
    generate(place, seed=9, cases=20)
    apply_release(place, sources(version))
    says = {run(place, n, "SELECT release FROM ncen_release")[0][0] for n in DATABASES}
    assert says == {version}
