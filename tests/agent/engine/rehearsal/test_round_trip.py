"""Tests of the round-trip test: sample values through a migration and its down migration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.version import Version

from demo.evidence import database_digests
from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.round_trip import (
    ColumnRoundTrip,
    RoundTripResult,
    UntestedReason,
)
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.messages import REHEARSAL_FAILED, UNDECLARED_DATA_LOSS
from tests.agent.engine.trial_releases import (
    FIRST,
    operations,
    rehearse,
    release,
    run_text,
    served_feed,
    site_on,
)
from tests.support.errors import refused
from tests.support.rotation import either_engine, in_turns
from tests.support.sites import TrialFeed, site_in_process

pytestmark = either_engine("demo")

LOST = "lost as declared by the release: 3 sample values in companies.companies.origin"
DROPS, PARKS, RENAMES, NARROWS, CUTS, STOPS, SILENT = (f"3.2.{n}" for n in range(5, 12))
KEPT = {"postgresql": "ncen_kept.companies", "sqlite": "ncen_kept__companies"}
ADDED = "ALTER TABLE companies ADD COLUMN origin text DEFAULT 'MU';\n"
DROPPED = "ALTER TABLE companies DROP COLUMN origin;\n"
PARKING = "CREATE TABLE IF NOT EXISTS {kept} (company_ref text PRIMARY KEY, origin text);\n"
BROUGHT = (
    "UPDATE companies SET origin = kept.origin FROM {kept} kept"
    " WHERE kept.company_ref = companies.company_ref;\nDROP TABLE {kept};\n"
)
RENAMED = "ALTER TABLE companies RENAME COLUMN {} TO {};\n"
RETYPED = "ALTER TABLE companies ALTER COLUMN {} TYPE {};\n"
TURNOVER = tuple(RETYPED.format("turnover", f"numeric({size})") for size in ("20, 6", "16, 2"))
FORM = tuple(RETYPED.format("legal_form", f"varchar({size})") for size in (200, 20))
INDEXED, NOT_INDEXED = "CREATE INDEX cities ON addresses (city);\n", "DROP INDEX cities;\n"
FITS = (
    "CREATE TABLE fits (form text CHECK (length(form) <= 20));\n"
    "INSERT INTO fits SELECT legal_form FROM companies;\nDROP TABLE fits;\n"
)
SILENTLY = {
    "postgresql": "DO $$ BEGIN EXECUTE 'UPDATE companies SET name = left(name, 10)'; END $$;\n",
    "sqlite": (
        "CREATE TABLE cut (token text);\n"
        "CREATE TRIGGER cutting AFTER INSERT ON cut BEGIN\n"
        " UPDATE companies SET name = substr(name, 1, 10);\nEND;\n"
        "INSERT INTO cut VALUES ('now');\nDROP TABLE cut;\n"
    ),
}


def files(version: str, engine: str) -> tuple[str, str]:
    """The files of the one migration of a release, up and down."""
    on_server = engine == "postgresql"
    parking, brought = (text.format(kept=KEPT[engine]) for text in (PARKING, BROUGHT))
    keep = f"INSERT INTO {KEPT[engine]} SELECT company_ref, origin FROM companies;\n"
    if on_server:
        parking = "CREATE SCHEMA IF NOT EXISTS ncen_kept;\n" + parking
    rounded = "UPDATE companies SET turnover = round(turnover, 2);\n"
    shorter = "UPDATE companies SET legal_form = substr(legal_form, 1, 20);\n"
    found = {
        DROPS: (ADDED, DROPPED),
        PARKS: (ADDED + parking + brought, parking + keep + DROPPED),
        RENAMES: (RENAMED.format("legal_form", "form"), RENAMED.format("form", "legal_form")),
        NARROWS: TURNOVER if on_server else (INDEXED, NOT_INDEXED + rounded),
        CUTS: FORM if on_server else (INDEXED, NOT_INDEXED + shorter),
        STOPS: (INDEXED, NOT_INDEXED + FITS),
        SILENT: (INDEXED, NOT_INDEXED + SILENTLY[engine]),
    }  # fmt: skip
    up, down = found[version]
    return up, down


def with_migration(sources: Path, version: str) -> Path:
    made = release(sources, version, None)
    manifest = made / "manifest.toml"
    item = (
        '\n[[databases.migrations]]\nid = "0002_change"\n'
        'up = "migrations/{engine}/companies/0002_change.up.sql"\n'
        'down = "migrations/{engine}/companies/0002_change.down.sql"\n\n'
    )
    text = manifest.read_text("utf-8")
    assert "[[health]]" in text
    manifest.write_text(text.replace("[[health]]", f"{item}[[health]]", 1), "utf-8")
    for engine in KEPT:
        directory = made / "migrations" / engine / "companies"
        for way, content in zip(("up", "down"), files(version, engine), strict=True):
            (directory / f"0002_change.{way}.sql").write_text(content, "utf-8")
    return made


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    versions = (DROPS, PARKS, RENAMES, NARROWS, CUTS, STOPS, SILENT)
    built = [with_migration(sources, version) for version in versions]
    with served_feed(tmp_path_factory.mktemp("feed"), built, [FIRST]) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed) as site:
        operations(site)  # refreshes what is known of the feed
        yield site


def rehearse_values(
    demo: DemoSite, version: str
) -> tuple[RoundTripResult, Mapping[str, ColumnRoundTrip]]:
    """What the rehearsal of a release says of values, and that nothing else was touched."""
    before = database_digests(demo.databases)
    values = RoundTripResult.from_json(rehearse(demo, version)["round_trip"])
    assert database_digests(demo.databases) == before
    assert site_in_process(demo).database_engine.list_leftovers() == ()
    return values, {column.column: column for column in values.columns}


def test_only_the_dropped_column_is_lost(demo: DemoSite) -> None:
    values, columns = rehearse_values(demo, DROPS)
    assert values.list_columns("lost") == ("companies.companies.origin",)
    assert values.list_columns("restored") == () and values.failure is None
    assert columns["companies.companies.origin"].lost == 3
    for kept in ("name", "turnover", "country"):
        assert columns[f"companies.companies.{kept}"].preserved == 3, kept
    assert columns["companies.companies.company_ref"].untested == {UntestedReason.KEY: 3}
    # A reference that nothing would answer is refused, and no other value is made up.
    assert set(columns["companies.addresses.company_ref"].untested) == {UntestedReason.REFUSED}
    # What the application itself writes for each release is no value of anybody's.
    assert columns["seizures.ncen_release.release"].preserved == 1
    words = run_text(demo, "rehearse", DROPS)
    assert LOST in words


@in_turns("demo")
def test_rollback_repeats_the_round_trip_result(demo: DemoSite) -> None:
    rehearse(demo, DROPS)
    operations(demo).upgrade(Version(DROPS))
    words = run_text(demo, "rollback", "--dry-run")
    assert f"From the rehearsal of {DROPS}:" in words
    # Seen: "keeps every record" beside "16 lost", and no word of which of the two is true.
    assert "No data loss: the columns that the rollback loses are still empty." in words
    assert LOST in words
    # Progress output follows the document.
    answer, _ = json.JSONDecoder().raw_decode(run_text(demo, "rollback", "--dry-run", "--json"))
    assert RoundTripResult.from_json(answer["round_trip"]).list_columns("lost") == (
        "companies.companies.origin",
    )


def test_parked_values_are_restored(demo: DemoSite) -> None:
    values, columns = rehearse_values(demo, PARKS)
    assert values.list_columns("lost") == () and values.failure is None
    assert columns["companies.companies.origin"].restored == 3
    assert values.list_columns("restored") == ("companies.companies.origin",)
    assert columns["companies.companies.origin"].restored == 3


def test_renamed_column_is_preserved(demo: DemoSite) -> None:
    values, columns = rehearse_values(demo, RENAMES)
    assert values.list_columns("lost") == values.list_columns("restored") == ()
    assert columns["companies.companies.form"].preserved == 3


@in_turns("demo", "version")
@pytest.mark.parametrize(("version", "column"), [(NARROWS, "turnover"), (CUTS, "legal_form")])
def test_narrowed_column_loses_or_refuses_values(demo: DemoSite, version: str, column: str) -> None:
    values, columns = rehearse_values(demo, version)
    refuses = version == CUTS and not demo.databases.address("companies").startswith("/")
    found = columns[f"companies.companies.{column}"]
    assert (found.lost, found.refused) == ((0, 3) if refuses else (3, 0))
    assert values.failure is None
    assert values.count_values("lost") + values.count_values("refused") == 3


def test_failed_down_migration_is_reported_without_guesses(demo: DemoSite) -> None:
    values, columns = rehearse_values(demo, STOPS)
    assert values.failure is not None and "0002_change" in values.failure
    assert values.count_values("preserved") == values.count_values("lost") == 0
    assert columns["companies.companies.name"].untested == {UntestedReason.NOT_COMPLETED: 3}
    assert "0002_change" in run_text(demo, "rehearse", STOPS)


def test_undeclared_loss_is_blamed_on_the_release(demo: DemoSite) -> None:
    before = database_digests(demo.databases)
    with refused(REHEARSAL_FAILED) as caught:
        rehearse(demo, SILENT)
    assert caught.value.values["cause_code"] == UNDECLARED_DATA_LOSS.code
    assert "companies.companies.name" in str(caught.value)
    assert database_digests(demo.databases) == before
    assert site_in_process(demo).database_engine.list_leftovers() == ()
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        record = RehearsalStore(journal).find_last(FIRST, SILENT)
    assert record is not None and record.state is RehearsalState.FAILED
    assert record.failure is not None and record.failure.release_at_fault
