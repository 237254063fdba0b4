"""Tests of sampling PostgreSQL: every kind of text column, both ends of a table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import (
    BundlePart,
    ValueSample,
    find_leaks,
    sample_values,
)
from tests.agent.adapters.databases.postgresql.site import AGENT, NEWEST, OWNER, Site

pytestmark = NEWEST


@pytest.fixture
def site(postgres: EmbeddedPostgres) -> Iterator[Site]:
    """A site whose agent is an ordinary role."""
    made = Site(postgres, user=AGENT)
    made.build()
    yield made
    made.clear()


def leaks(found: ValueSample, text: str) -> list[str]:
    return [leak.column for leak in find_leaks([BundlePart("log.txt", text)], found.values)]


def test_values_of_every_column_type_are_found(site: Site) -> None:
    site.sql(
        site.names["suspect"],
        f"SET ROLE {OWNER}",
        'CREATE TABLE "Odd Names" (id serial PRIMARY KEY, "the name" text, v varchar(80),'
        " j jsonb, a text[])",
        "INSERT INTO \"Odd Names\" (\"the name\", v, j, a) VALUES ('Amina Wanjiru', 'KX4471902',"
        " '{\"seen\": [\"Otieno Odhiambo\"]}', ARRAY['A', 'Zawadi Mwangi'])",
        'INSERT INTO "Odd Names" ("the name")'
        " SELECT 'Person' || n || ' Somebody' FROM generate_series(1, 20000) n",
    )
    found = sample_values(site.engine(), frozenset({"finished"}))
    assert found.unread_databases == {}
    for value in ("amina wanjiru", "KX4471902", "otieno odhiambo", "person20000 somebody"):
        assert len(leaks(found, f"error: {value}.")) == 1, value
    assert leaks(found, "zawadi mwangi")
    assert leaks(found, "amina zawadi otieno") == []
    assert leaks(found, "finished person") == []


def test_deeply_nested_value_does_not_prevent_sampling(site: Site) -> None:
    # Seen: whoever entered such a value in the application prevented every support bundle.
    site.sql(
        site.names["suspect"],
        f"SET ROLE {OWNER}",
        "CREATE TABLE nested (v text)",
        "INSERT INTO nested VALUES (repeat('[', 5000)), ('Amina Wanjiru')",
    )
    found = sample_values(site.engine(), frozenset())
    assert leaks(found, "error: amina wanjiru.")


def test_unreachable_database_is_reported(site: Site) -> None:
    site.names = {"gone": "not_there"}
    found = sample_values(site.engine(), frozenset())
    site.names = {}
    assert set(found.unread_databases) == {"gone"}
    assert found.values == {}


def test_sampling_time_is_limited(site: Site) -> None:
    clock = iter([0.0, *(1e6 for _ in range(100))])
    found = sample_values(site.engine(), frozenset(), monotonic=lambda: next(clock))
    assert set(found.unread_databases.values()) == {"too large"}
