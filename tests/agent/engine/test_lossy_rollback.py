"""Tests of a down migration that loses entered values: counted, confirmed, and bounded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.base import ChangeRef, LiveDatabase
from ncen_updater.agent.engine.rollback_plan import RollbackPlan
from ncen_updater.agent.model.change import DatabaseMode, StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NEW_ROWS_WOULD_BE_LOST
from tests.agent.engine.trial_releases import (
    execute,
    operations,
    release,
    run_text,
    runs,
    served_feed,
    site_on,
)
from tests.support.errors import has_message, refused
from tests.support.rotation import either_engine, in_turns
from tests.support.sites import TrialFeed, site_in_process

pytestmark = either_engine("demo")

OLD, DROPS, PARKS, DECLARES = "3.2.4", "3.2.5", "3.2.6", "3.2.7"
UP = "ALTER TABLE companies ADD COLUMN origin text DEFAULT 'MU';\n"
DOWN = "ALTER TABLE companies DROP COLUMN origin;\n"
PARK = "INSERT INTO {kept} SELECT company_ref, origin FROM companies;\n"
TABLE = "CREATE TABLE IF NOT EXISTS {kept} (company_ref text PRIMARY KEY, origin text);\n"
BRING = (
    "UPDATE companies SET origin = kept.origin FROM {kept} kept"
    " WHERE kept.company_ref = companies.company_ref;\nDROP TABLE {kept};\n"
)
KEPT = {"postgresql": "ncen_kept.companies", "sqlite": "ncen_kept__companies"}


def with_country(sources: Path, version: str) -> Path:
    """A release with a new column, and the obvious down migration."""
    made = release(sources, version, None)
    manifest = made / "manifest.toml"
    text = manifest.read_text("utf-8")
    loses = 'data_loss = ["companies.origin"]\n' if version == DECLARES else ""
    item = (
        '\n[[databases.migrations]]\nid = "0002_country"\n'
        'up = "migrations/{engine}/companies/0002_country.up.sql"\n'
        f'down = "migrations/{{engine}}/companies/0002_country.down.sql"\n{loses}\n'
    )
    assert "[[health]]" in text
    manifest.write_text(text.replace("[[health]]", f"{item}[[health]]", 1), "utf-8")
    for engine, kept in KEPT.items():
        up, down = UP, DOWN
        if version == PARKS:
            schema = "CREATE SCHEMA IF NOT EXISTS ncen_kept;\n" if engine == "postgresql" else ""
            up += (schema + TABLE + BRING).format(kept=kept)
            down = (schema + TABLE + PARK).format(kept=kept) + down
        if version == DECLARES:
            down = "-- Nobody can read this.\n" + (
                "DO $$ BEGIN EXECUTE 'ALTER TABLE companies DROP COLUMN origin'; END $$;\n"
                if engine == "postgresql" else down
            )  # fmt: skip
        directory = made / "migrations" / engine / "companies"
        (directory / "0002_country.up.sql").write_text(up, "utf-8")
        (directory / "0002_country.down.sql").write_text(down, "utf-8")
    return made


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [with_country(sources, version) for version in (DROPS, PARKS, DECLARES)]
    with served_feed(tmp_path_factory.mktemp("feed"), built, [OLD]) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed) as site:
        yield site


def enter(demo: DemoSite, *statements: str) -> None:
    for statement in statements:
        execute(demo.databases.address("companies"), statement)


INSERT = (
    "INSERT INTO companies (company_ref, name, country, origin)"
    " VALUES ('LATER-{0}', 'Later', 'MU', 'LK')"
)
CORRECT = "UPDATE companies SET origin = 'FR' WHERE company_ref IN"
TWO = f"{CORRECT} (SELECT company_ref FROM companies ORDER BY company_ref LIMIT 2)"


def ask(demo: DemoSite, sql: str) -> list[tuple[object, ...]]:
    return site_in_process(demo).database_engine.run_query(LiveDatabase("companies"), sql)


def query_retained(demo: DemoSite, sql: str) -> list[tuple[object, ...]]:
    """Ask what the newest change keeps of the companies."""
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes(1)[0]
    reference = ChangeRef(change.id, change.generation, change.from_version)
    return site_in_process(demo).database_engine.run_query(reference.get_previous("companies"), sql)


@in_turns("version")
@pytest.mark.parametrize("version", [DROPS, DECLARES])
def test_entered_values_are_counted_and_confirmed(demo: DemoSite, version: str) -> None:
    """The case of the review: 1.1.0 adds a country, its down migration drops it."""
    plan = run_text(demo, "plan", version)
    assert "keeps all records except values entered in companies.companies.origin" in plan
    operations(demo).upgrade(Version(version))
    enter(demo, "UPDATE companies SET name = 'x' WHERE origin = 'none'")
    assert "keeps all records." in run_text(demo, "rollback", "--dry-run")

    enter(demo, TWO, INSERT.format(1))
    refusal = run_text(demo, "rollback", "--dry-run")
    assert (
        "NU-6050" in refusal and "would lose 3 new rows (companies.companies.origin 3)" in refusal
    )
    assert f"the databases of {version} (7 d)" in refusal
    assert "keeps all records." not in refusal
    with refused(NEW_ROWS_WOULD_BE_LOST) as caught:
        operations(demo).rollback()
    assert caught.value.values["count"] == 3
    with refused(NEW_ROWS_WOULD_BE_LOST):
        operations(demo).rollback(accept_loss=2)
    assert runs(demo) == version
    answer = run_text(demo, "rollback", "--dry-run", "--accept-loss", "3")
    assert "Values lost in 3 rows: companies.companies.origin 3" in answer

    (outcome,) = operations(demo).rollback(accept_loss=3).outcomes
    assert outcome.change.mode is DatabaseMode.MIGRATE
    assert runs(demo) == OLD
    assert ask(demo, "SELECT name FROM companies WHERE company_ref = 'LATER-1'") == [("Later",)]
    assert query_retained(demo, "SELECT count(*) FROM companies WHERE origin <> 'MU'") == [(3,)]


def test_parked_values_need_no_confirmation_and_are_restored(demo: DemoSite) -> None:
    assert "3.2.6 to 3.2.4 keeps all records, according to the release;" in run_text(
        demo, "plan", PARKS
    )
    operations(demo).upgrade(Version(PARKS))
    enter(demo, TWO, INSERT.format(1))
    assert "keeps all records." in run_text(demo, "rollback", "--dry-run")
    operations(demo).rollback()
    assert runs(demo) == OLD
    operations(demo).upgrade(Version(PARKS))
    count = "SELECT origin, count(*) FROM companies WHERE origin <> 'MU' GROUP BY 1 ORDER BY 1"
    assert ask(demo, count) == [("FR", 2), ("LK", 1)]


def test_loss_above_the_accepted_number_reverts(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(DROPS))
    enter(demo, INSERT.format(1))

    def one_more(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.MAINTENANCE_ON, StepPhase.BEFORE_EFFECT):
            enter(demo, INSERT.format(2))

    with pytest.raises(ChangeFailedError) as caught:
        operations(demo, one_more).rollback(accept_loss=1)
    cause = caught.value.__cause__
    assert isinstance(cause, UpdaterError)
    assert has_message(cause, NEW_ROWS_WOULD_BE_LOST)
    assert cause.values["count"] == 2
    assert runs(demo) == DROPS
    assert ask(demo, "SELECT count(*) FROM companies WHERE origin = 'LK'") == [(2,)]


@pytest.mark.parametrize(
    ("mode", "lost", "by_itself"),
    [
        (DatabaseMode.MIGRATE, {}, True),
        (DatabaseMode.MIGRATE, {"a": {"b.c": 1}}, False),
        (DatabaseMode.RESTORE, {}, False),
        (DatabaseMode.RESTORE, {"a": {"b": 1}}, False),
    ],
)
def test_lossy_rollback_is_never_automatic(
    mode: DatabaseMode, lost: dict[str, dict[str, int]], *, by_itself: bool
) -> None:
    way = RollbackPlan(Version("2"), Version("1"), mode)
    assert dataclasses.replace(way, lost=lost).is_lossless is by_itself
