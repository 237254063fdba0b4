"""Tests of clusters with LANG=C, as Debian makes them: their texts are read as texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseMarker, LiveDatabase
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import AGENT, CHANGE, Site
from tests.agent.adapters.databases.postgresql.test_migrate import release
from tests.support.postgres import FAST_SETTINGS, available

ADOPTED = ChangeRef("adoption", 1, "3.2.4")
REHEARSAL = ChangeRef("rehearse", 0, "3.3.0")
BACK = ChangeRef("bbbbbbbb", 3, "3.2.4", retained_from=CHANGE.id)


class InC(EmbeddedPostgres):
    """A server whose cluster was made with another encoding."""

    encoding = "SQL_ASCII"

    def _run(self, program: str, *arguments: str) -> None:
        other = {"UTF8": self.encoding, "--locale=C.UTF-8": "--locale=C"}
        super()._run(program, *(other.get(word, word) for word in arguments))


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="nu-test-") as directory:
        server = InC(available()[-1], Path(directory), FAST_SETTINGS)
        server.encoding = request.param
        with server:
            made = Site(server, user=AGENT)
            made.build()
            assert made.sql("t_seizure", "SHOW server_encoding") == [(request.param,)]
            yield made


def test_non_utf8_site_is_adopted_upgraded_and_rolled_back(site: Site, tmp_path: Path) -> None:
    """Seen: "the server runs, but has no database", since its names came as bytes."""
    engine = site.engine()
    site.sql(
        "t_seizure", "SET client_encoding = 'UTF8'", "UPDATE cases SET what = 'Koné' WHERE id = 1"
    )
    assert {facts.physical_name for facts in engine.describe_databases()} == set(
        site.names.values()
    )
    engine.adopt_restored(ADOPTED, release(tmp_path))
    assert engine.read_marker() == DatabaseMarker("3.2.4", 1, ADOPTED.id)
    before = engine.compute_table_digests(LiveDatabase("seizure"))
    schema = engine.read_schema(LiveDatabase("seizure"))

    plan = engine.plan_copy(REHEARSAL)
    assert engine.copy_online(REHEARSAL, plan, SilentProgress()) == {}
    assert engine.compute_table_digests(REHEARSAL.get_candidate("seizure")) == before
    assert engine.read_sample(REHEARSAL.get_candidate("seizure"))["cases"].rows
    engine.discard_candidates(REHEARSAL, plan)
    for change in (CHANGE, BACK):
        assert [
            f
            for f in engine.find_blockers(change, application_stopped=False)
            if f.code == "NU-4102"
        ] == []
        engine.fence(change)
        engine.copy_databases(change, engine.plan_copy(change), SilentProgress())
        engine.mark_candidates(change)
        engine.cut_over(change)
        engine.check_before_commit(change)
        engine.record_commit(change)
        engine.unfence(change)
        assert engine.read_marker() == DatabaseMarker(change.release, change.generation, change.id)
        if change is CHANGE:
            site.sql("t_seizure", "INSERT INTO cases VALUES (901, 'later')")
            assert engine.count_lost_rows(BACK) == {"seizure": {"cases": 1}}
    assert engine.compute_table_digests(LiveDatabase("seizure"))["cases"] == before["cases"]
    assert engine.read_schema(LiveDatabase("seizure")) == schema
    named = engine.run_query(LiveDatabase("seizure"), "SELECT what FROM cases WHERE id = 1")
    assert named == [("Koné",)]


@pytest.mark.parametrize("site", ["SQL_ASCII"], indirect=True)
def test_undecodable_bytes_are_counted_without_a_crash(site: Site) -> None:
    engine = site.engine()
    site.sql("t_seizure", "UPDATE cases SET what = E'caf\\xe9' WHERE id < 9")
    assert engine.compute_table_digests(LiveDatabase("seizure"))["cases"].rows == 500
    assert engine.run_query(LiveDatabase("seizure"), "SELECT count(*) FROM cases WHERE id < 9") == [
        (8,)
    ]
    with pytest.raises(DatabaseError):
        engine.run_query(LiveDatabase("seizure"), "SELECT what FROM cases WHERE id = 1")
    assert engine.read_sample(LiveDatabase("seizure"))["cases"].rows == {}  # nothing is tried in it
