"""Tests of upgrading and rolling back Kinto, a third-party application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.model.change import (
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepPhase,
    StepState,
)
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.common.messages import RECORDS_WOULD_BE_LOST
from tests.kinto.agent import KintoAgent, make_kinto_feed
from tests.kinto.build import NEW, OLD, SCHEMAS, Fault, stage_or_skip
from tests.kinto.site import RECORDS, KintoSite
from tests.support.errors import refused
from tests.support.migrators import not_as_root
from tests.support.sites import serve

pytestmark = not_as_root

# Between these two no process of the application runs: its heartbeat writes, too.
STOPPED = (StepName.STOP, StepPhase.AFTER_EFFECT)
ROLLED_BACK = (StepName.FENCE, StepPhase.AFTER_UNDO)
CUT_OVER = (StepName.START, StepPhase.BEFORE_EFFECT)
ENTERED = [{"number": number, "note": "after the upgrade"} for number in (101, 102, 103)]


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feed with the older, the newer and both faulty releases."""
    return make_kinto_feed(tmp_path_factory.mktemp("feed"), stage_or_skip())


@pytest.fixture(scope="module")
def address(feed: Path) -> Iterator[str]:
    """Where the feed is served."""
    with serve(feed) as url:
        yield url


@pytest.fixture
def agent(request: pytest.FixtureRequest, site: KintoSite, feed: Path, address: str) -> KintoAgent:
    """The agent of a site of the older release that runs; patient, unless a test says how much."""
    site.current.unlink()  # nothing was installed the agent's way yet
    taken = KintoAgent.take_over(
        site, feed, address, OLD, frozenset({STOPPED, ROLLED_BACK, CUT_OVER}),
        health_s=getattr(request, "param", 60),
    )  # fmt: skip
    assert site.control("start") == 0
    site.wait_healthy()
    return taken


def _versions(agent: KintoAgent) -> tuple[str, object]:
    """Of the code, and what the running application reports."""
    return str(agent.site.slots.read_current()), agent.kinto.wait_healthy()["project_version"]


def _rows(dump: str) -> list[str]:
    """The lines of a dump that are rows: what follows each COPY."""
    found, inside = [], False
    for line in dump.splitlines():
        if line.startswith("COPY "):
            # The number of the schema is what a migration is to change.
            inside = "public.metadata " not in line
        elif line == "\\.":
            inside = False
        elif inside:
            found.append(line)
    return sorted(found)


def test_kinto_is_upgraded_and_rolled_back(agent: KintoAgent) -> None:
    kinto = agent.kinto
    records = kinto.records()
    assert agent.verify() == ()

    (outcome,) = agent.operations().upgrade(Version(NEW)).outcomes

    assert outcome.change.state is ChangeState.FINISHED
    assert _versions(agent) == (NEW, NEW)
    assert kinto.records() == records
    assert [{key: record[key] for key in RECORDS[0]} for record in records] == RECORDS
    before, after = agent.dumps[STOPPED], agent.dumps[CUT_OVER]
    assert {name: _rows(dump) for name, dump in after.items()} == {
        name: _rows(dump) for name, dump in before.items()
    }
    assert len(_rows(before["storage"])) > len(RECORDS)
    schema = f"storage_schema_version\t{SCHEMAS[NEW]}"
    assert schema in after["storage"]
    assert schema not in before["storage"]
    assert agent.verify() == ()
    assert all(record.state is StepState.DONE for record in outcome.change.steps.values())
    assert set(outcome.change.steps) == set(StepName)
    assert outcome.facts.checks_before
    kept = agent.site.database_engine.list_leftovers()
    assert {change for change, _role, _name in kept} == {outcome.change.id}

    kinto.enter(ENTERED)
    # Kinto has no down migration: the agent counts what would go, table by table, and changes
    # nothing.
    with refused(RECORDS_WOULD_BE_LOST) as asked:
        agent.operations().rollback()
    lost = asked.value.values["lost"]
    assert isinstance(lost, dict)
    ids = kinto.ids()
    # What was changed since counts as well.
    assert lost["storage"]["objects"] >= sum(one not in before["storage"] for one in ids)
    # One more for each record in the log that Kinto keeps; its heartbeat leaves some, too.
    assert lost["storage"]["objects"] >= len(ENTERED) * 2
    assert f"storage.objects {lost['storage']['objects']}" in str(asked.value.title_text)
    assert "Kinto's own migrator only goes forward" in str(asked.value.state)
    count = asked.value.values["count"]
    assert count == sum(number for tables in lost.values() for number in tables.values())
    assert isinstance(count, int)
    with refused(RECORDS_WOULD_BE_LOST):
        agent.operations().rollback(accept_loss=count - 1)
    assert kinto.request("GET", "/", user=None)[1]["project_version"] == NEW
    assert len(kinto.records()) == len(RECORDS) + len(ENTERED)
    assert len(agent.history()) == 1

    (back,) = agent.operations().rollback(accept_loss=count).outcomes

    assert (back.change.kind, back.change.mode) == (ChangeKind.ROLLBACK, DatabaseMode.RESTORE)
    assert back.change.state is ChangeState.FINISHED
    assert agent.dumps[CUT_OVER] == before
    assert _versions(agent) == (OLD, OLD)
    assert kinto.records() == records
    assert agent.verify() == ()
    assert [(c.kind, c.from_version, c.to_version) for c in agent.history()] == [
        (ChangeKind.ROLLBACK, NEW, OLD),
        (ChangeKind.UPGRADE, OLD, NEW),
    ]


def _require_reverted(
    agent: KintoAgent, error: ChangeFailedError, step: StepName, fault: Fault
) -> None:
    assert error.values["step"] == step
    # Schema and rows of all three, byte for byte, before the application wrote anything again.
    assert agent.dumps[ROLLED_BACK] == agent.dumps[STOPPED]
    assert CUT_OVER not in agent.dumps or step is StepName.HEALTH
    assert _versions(agent) == (OLD, OLD)
    assert not agent.site.application.is_in_maintenance()
    assert agent.site.database_engine.list_leftovers() == ()
    assert agent.verify() == ()
    (change,) = agent.history()
    assert (change.state, change.to_version) == (ChangeState.REVERTED, fault.value)
    # One whose migrator failed is not tried again by itself; one that never answered is not called
    # bad, and it is the newest.
    path = find_upgrade_path(agent.site)
    assert [hop.version for hop in getattr(path, "hops", ())] == [Fault.HEALTH.value]


def test_migrator_failing_midway_is_reverted(agent: KintoAgent) -> None:
    """One database was migrated, the next refused it."""
    records = agent.kinto.records()
    with pytest.raises(ChangeFailedError) as failed:
        agent.operations().upgrade(Version(Fault.MIGRATOR.value))
    whole = [
        path.read_text("utf-8") for path in (agent.site.state_directory / "failures").iterdir()
    ]
    assert any("no_such_type" in text for text in whole)
    _require_reverted(agent, failed.value, StepName.MIGRATE, Fault.MIGRATOR)
    assert agent.kinto.records() == records


@pytest.mark.parametrize("agent", [15], indirect=True)
def test_release_that_never_answers_is_reverted(agent: KintoAgent) -> None:
    """All databases were migrated and cut over; they are cut back."""
    records = agent.kinto.records()
    with pytest.raises(ChangeFailedError) as failed:
        agent.operations().upgrade(Version(Fault.HEALTH.value))
    assert "no response within 2 seconds" in str(failed.value.title_text)
    assert agent.dumps[CUT_OVER]["storage"] != agent.dumps[STOPPED]["storage"]
    _require_reverted(agent, failed.value, StepName.HEALTH, Fault.HEALTH)
    assert agent.kinto.records() == records
