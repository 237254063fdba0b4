"""Tests of entries in databases that were then rolled back: retained, reported, pruned by command.

The stand-in, a database administrator at work while the new release starts, and the real steps.
"""

from __future__ import annotations

import json
import os

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace
from demo.evidence import database_digests
from demo.site import DemoSite
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.progress import SilentProgress
from tests.support.forks import run_agent


def type_in(demo: DemoSite, *words: str) -> dict[str, object]:
    words = ("--config", str(demo.config_path), "--json", "--quiet", *words)
    ended = run_agent(*words, environment=os.environ)
    ended.check_returncode()
    said: dict[str, object] = json.loads(ended.stdout)
    return said


@pytest.mark.parametrize("demo", ["postgresql"], indirect=True)
@pytest.mark.parametrize("wrote", [True, False])
def test_foreign_rows_before_the_commit_are_retained(
    demo: DemoSite, site: Site, wrote: bool
) -> None:
    place = demo.databases
    assert isinstance(place, PostgresPlace)
    before = database_digests(place)
    name = place.names["seizures"]

    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) != (StepName.HEALTH, StepPhase.AFTER_EFFECT):
            return
        if wrote:
            with psycopg.connect(place.conninfo(name, "postgres"), autocommit=True) as dba:
                dba.execute("CREATE TABLE by_hand (a int)")
                dba.execute(f'ALTER TABLE by_hand OWNER TO "{place.owner}"'.encode())
                dba.execute("INSERT INTO by_hand VALUES (1), (2)")
        raise RuntimeError("unhealthy")

    with pytest.raises(ChangeFailedError) as caught:
        Operations(site, SilentProgress(), checkpoint=strike).upgrade(Version("3.3.0"))
    assert database_digests(place) == before
    assert not site.database_engine.list_leftovers()
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes()[-1].id
        told = [
            event.get("path")
            for event in journal.list_events()
            if event.kind == "databases-retained"
        ]
    found = [finding for finding in diagnose(demo.config_path, SilentProgress()) if
             finding.code == "NU-4155"]  # fmt: skip
    if not wrote:
        assert (told, found) == ([], [])
        assert type_in(demo, "prune", "--retained", change)["retained"] == []
        return
    kept = ", ".join(sorted(f"{physical}__kept_{change}" for physical in place.names.values()))
    assert told == [kept]
    assert kept in str(caught.value.remedy_text)
    assert f"{name}: by_hand 2" in str(found[0].title)

    # No later change is hindered by it, and none drops it.
    Operations(site, SilentProgress()).upgrade(Version("3.3.0"), retry=True)
    assert type_in(demo, "prune")["changes"] == []
    assert type_in(demo, "prune", "--retained", change, "--dry-run")["retained"] == [kept]
    assert len(site.database_engine.list_quarantined()) == 1
    assert type_in(demo, "prune", "--retained", change)["retained"] == [kept]
    assert site.database_engine.list_quarantined() == ()
    assert type_in(demo, "prune", "--retained", change)["retained"] == []
