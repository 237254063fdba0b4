"""Tests of releases whose program works on the live databases before the downtime."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.engine.expand_contract import EXPAND_LOCK
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.engine.plan import list_planned_steps
from ncen_updater.agent.engine.rollback_plan import EXPAND_TEXT
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import STEPS_BEFORE_COMMIT, StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.findings import Severity
from ncen_updater.common.messages import EXPAND_FAILED, PREFLIGHT_BLOCKED, ExitCode
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.site_views import (
    Killed,
    came,
    enter,
    is_there,
    latest,
    list_findings,
    numbers,
    strict,
)
from tests.agent.engine.trial_releases import (
    execute,
    operations,
    rehearse,
    release,
    run_text,
    runs,
    served_feed,
    site_on,
)
from tests.support.errors import refused
from tests.support.migrators import not_as_root
from tests.support.rotation import part
from tests.support.sites import TrialFeed, site_in_process

pytestmark = not_as_root

OLD, NEW, HALF, GIVES_UP = "3.2.5", "3.2.6", "3.2.7", "3.2.8"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [
        release(sources, OLD, "nothing", compatibility=(1, 1)),
        release(sources, NEW, "again", compatibility=(2, 1), expand=True),
        release(sources, HALF, "half", compatibility=(2, 1), expand=True),
        release(sources, GIVES_UP, "gives up", compatibility=(2, 1), expand=True),
    ]
    with served_feed(tmp_path_factory.mktemp("feed"), built) as served:
        yield served


@pytest.fixture(params=["postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed, schema_number=1) as site:
        operations(site).upgrade(Version(OLD))  # from here on the journal knows the schemas
        yield site


ALL = {"seizures", "suspects", "companies"}


def test_expand_program_runs_before_the_downtime_without_copies(demo: DemoSite) -> None:
    before, seen = numbers(demo), []

    def look(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.PREFLIGHT, StepPhase.AFTER_EFFECT):
            application = site_in_process(demo).application
            seen.append((application.is_running(), application.is_in_maintenance(), came(demo)))
            enter(demo)

    assert str(EXPAND_TEXT) in run_text(demo, "plan", NEW)
    operations(demo, look).upgrade(Version(NEW))
    assert seen == [(True, False, ALL)]
    assert runs(demo) == NEW and numbers(demo) == before and is_there(demo)
    _, facts = latest(demo)
    assert (facts.copy_plan, facts.no_copy, facts.databases_unchanged) == ({}, True, False)
    assert strict(demo) == set()

    way = operations(demo).plan_rollback()
    assert (way.is_lossless, way.unchanged_databases, way.no_copy) == (True, True, True)
    operations(demo).rollback()
    assert runs(demo) == OLD and is_there(demo) and came(demo) == ALL
    assert strict(demo) == set()


def test_expand_program_has_a_lock_timeout_unless_declared_otherwise(demo: DemoSite) -> None:
    """A session that waits for one makes all users wait behind it."""
    operations(demo).upgrade(Version(GIVES_UP))
    assert runs(demo) == GIVES_UP and came(demo) == ALL


def test_plan_lists_the_expand_program_after_the_approvals() -> None:
    order = [step.name for step in list_planned_steps(expands=True)]
    assert order.index("wait") < order.index("expand") < order.index(StepName.MAINTENANCE_ON)


def test_rehearsal_runs_the_expand_program_and_predicts_the_downtime(demo: DemoSite) -> None:
    find_upgrade_path(site_in_process(demo), Version(NEW))  # reads the feed
    hop = rehearse(demo, NEW)
    assert hop["copy_s"] == 0.0 and hop["restore_s"] is None and hop["rollback_path"] == "keeps"
    assert isinstance(hop["migrate_s"], float) and hop["migrate_s"] > 0
    assert not hop["unchanged"] and came(demo) == set()


def test_expand_program_that_fails_midway_causes_no_downtime(demo: DemoSite) -> None:
    with refused(EXPAND_FAILED) as caught:
        operations(demo).upgrade(Version(HALF))
    assert caught.value.exit_code is ExitCode.ROLLED_BACK  # as of any change that was undone
    change, facts = latest(demo)
    assert facts.downtime_started is None and change.error_code == EXPAND_FAILED.code
    for words in (["status"], ["history", change.id]):
        told = " ".join(run_text(demo, *words).split())
        assert f"no data loss; additions of {HALF} made before the downtime remain" in told
    assert runs(demo) == OLD and came(demo) == {"seizures", "suspects"}
    assert strict(demo) == set()  # the journal says whose it is
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert not SiteHistory(journal).list_bad_releases()
    operations(demo).upgrade(Version(NEW))
    assert runs(demo) == NEW and came(demo) == ALL and strict(demo) == set()


Instant = tuple[StepName, StepPhase]
THERE = [
    (step, phase)
    for step in (*STEPS_BEFORE_COMMIT, StepName.COMMIT, StepName.MAINTENANCE_OFF)
    for phase in (StepPhase.BEFORE_EFFECT, StepPhase.AFTER_EFFECT, StepPhase.AFTER_RECORD)
]
BACK = [
    (step, phase)
    for step in STEPS_BEFORE_COMMIT
    for phase in (StepPhase.BEFORE_UNDO, StepPhase.AFTER_UNDO, StepPhase.AFTER_UNDO_RECORD)
]
#: Those around the program are tried each time, of all others a part.
AROUND = [
    *((StepName.PREFLIGHT, phase) for step, phase in THERE if step is StepName.PREFLIGHT),
    *((StepName.PREFLIGHT, phase) for step, phase in BACK if step is StepName.PREFLIGHT),
]
OTHERS = [instant for instant in (*THERE, *BACK) if instant not in AROUND]


@pytest.mark.parametrize("instant", [*AROUND, *part(OTHERS, 23, "expand")], ids=".".join)
def test_kill_at_any_instant_leaves_one_consistent_version(
    demo: DemoSite, instant: Instant
) -> None:
    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == instant:
            raise Killed
        if instant in BACK and (step, phase) == (StepName.HEALTH, StepPhase.AFTER_EFFECT):
            raise RuntimeError("so that it goes back")

    with pytest.raises(Killed):
        operations(demo, strike).upgrade(Version(NEW))
    change, facts = latest(demo)
    let_in = facts.downtime_started is None
    if let_in:
        enter(demo)
    operations(demo).resume(by_operator=True)
    assert runs(demo) == (NEW if change.is_committed else OLD)
    assert came(demo) == (ALL if facts.expand_started is not None else set())
    assert is_there(demo) is let_in and strict(demo) == set()
    if not change.is_committed:
        operations(demo).upgrade(Version(NEW))
        assert runs(demo) == NEW and is_there(demo) is let_in and strict(demo) == set()


def test_leftover_expand_program_of_a_killed_agent_is_awaited(demo: DemoSite) -> None:
    """Until it has ended, the schemas are unknown."""

    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.PREFLIGHT, StepPhase.AFTER_EFFECT):
            raise Killed

    with pytest.raises(Killed):
        operations(demo, strike).upgrade(Version(NEW))
    descriptor = os.open(demo.state / EXPAND_LOCK, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    left = [descriptor]

    def wait(_seconds: float) -> None:
        if left:
            execute(demo.databases.address("suspects"), "CREATE TABLE came_last (id integer)")
            os.close(left.pop())

    site = replace(site_in_process(demo), clock=SystemClock(wait=wait))
    Operations(site, SilentProgress()).resume(by_operator=True)
    assert left == [] and runs(demo) == OLD and strict(demo) == set()


def test_verify_attributes_a_partial_expansion_to_the_release(demo: DemoSite) -> None:
    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.PREFLIGHT, StepPhase.AFTER_EFFECT):
            raise Killed

    with pytest.raises(Killed):
        operations(demo, strike).upgrade(Version(NEW))
    seen = {finding.code: finding for finding in list_findings(demo)}
    assert {code for code in seen if seen[code].severity is Severity.CRITICAL} == set()
    assert NEW in str(seen["NU-6144"].title)


def test_added_objects_of_a_reverted_expansion_remain_and_are_known(demo: DemoSite) -> None:
    def fails(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.HEALTH, StepPhase.AFTER_EFFECT):
            raise RuntimeError("after its start")

    with pytest.raises(ChangeFailedError):
        operations(demo, fails).upgrade(Version(NEW))
    assert runs(demo) == OLD and came(demo) == ALL and strict(demo) == set()


def test_foreign_schema_change_is_refused_before_the_expand_program(demo: DemoSite) -> None:
    execute(demo.databases.address("suspects"), "CREATE TABLE planted (id integer)")
    with refused(PREFLIGHT_BLOCKED, match="NU-6106"):
        operations(demo).upgrade(Version(HALF))
    assert came(demo) == set() and strict(demo) == {"NU-6106"}
