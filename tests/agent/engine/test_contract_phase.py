"""Tests of releases whose migrations run after the soak period."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from packaging.version import Version

from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.base import MigrationSet
from ncen_updater.agent.engine.expand_contract import CONTRACT_TITLE, EXPAND_LOCK, needs_contract
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_upgrade_path
from ncen_updater.agent.engine.rollback_plan import describe_contract
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import (
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepPhase,
)
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import LockUnusableError, SoakFailedError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    CONTRACT_FAILED,
    EXPAND_RUNNING,
    OPEN_CHANGE,
)
from ncen_updater.common.progress import Amount
from ncen_updater.formats.manifest import DatabaseProgram, MigratorCommand
from tests.agent.engine.site_views import (
    Killed,
    came,
    confirm,
    enter,
    facts,
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
from tests.support.rotation import in_turns, part
from tests.support.sites import TrialFeed, site_in_process

OLD, COPIES, EXPANDS, WAITS = "3.2.5", "3.2.6", "3.2.7", "3.2.8"
SLEEPS, LATE, NEXT = "3.2.9", "3.2.10", "3.2.11"
#: Seconds; fewer than the program sleeps.
PATIENCE_S = 40.0
ALL = {"seizures", "suspects", "companies"}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [
        release(sources, OLD, "nothing", compatibility=(1, 1)),
        release(sources, COPIES, "again", contract="ends"),
        release(sources, EXPANDS, "again", compatibility=(2, 1), expand=True, contract="ends"),
        release(sources, WAITS, "again", compatibility=(2, 1), expand=True, contract="waits"),
        release(sources, SLEEPS, "again", compatibility=(2, 1), expand=True, contract="sleeps"),
        release(sources, LATE, "again", contract="sleeps", limit_s=1),
        release(sources, NEXT, "again", compatibility=(2, 1)),
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


@pytest.fixture(params=["sqlite"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed, schema_number=1) as site:
        operations(site).upgrade(Version(OLD))
        yield site


class Acts:
    """A progress that acts when the program is about to begin."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        if text == CONTRACT_TITLE:
            self._act()


def acting(demo: DemoSite, act: Callable[[], None], clock: SystemClock | None = None) -> Operations:
    site = site_in_process(demo)
    site.release_source.refresh()
    return Operations(site if clock is None else replace(site, clock=clock), Acts(act))


def waiting(server: EmbeddedPostgres) -> bool:
    """Whether the server is at work for the program that sleeps."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
    with psycopg.connect(server.conninfo()) as session:
        return session.execute(waits).fetchone() != (0,)


def kill() -> None:
    raise Killed


@not_as_root
@pytest.mark.parametrize("version", [COPIES, EXPANDS])
def test_contract_phase_runs_after_the_soak(demo: DemoSite, version: str) -> None:
    seen: list[object] = []

    def look(step: StepName, phase: StepPhase) -> None:
        if step is StepName.SOAK and phase in (StepPhase.BEFORE_EFFECT, StepPhase.AFTER_EFFECT):
            application = site_in_process(demo).application
            open_to_all = application.is_running() and not application.is_in_maintenance()
            seen.append((open_to_all, came(demo, "came_later")))
            if phase is StepPhase.BEFORE_EFFECT:
                seen.append(numbers(demo))
                enter(demo)

    later = describe_contract(["bin/contract.py"])
    assert later is not None and str(later) in " ".join(run_text(demo, "plan", version).split())
    operations(demo, look).upgrade(Version(version))
    assert seen == [(True, set()), numbers(demo), (True, ALL)]
    assert runs(demo) == version and is_there(demo) and strict(demo) == set()
    change, known = latest(demo)
    assert known.contract_started and known.contract_s is not None and known.contract_failed is None
    assert known.databases_unchanged is False
    assert "final migrations: " in run_text(demo, "history", change.id)

    way = operations(demo).plan_rollback(accept_loss=1)
    assert way.unchanged_databases is (version == EXPANDS)
    told = "including rows written by the program of 3.2.6"
    assert (told in run_text(demo, "rollback", "--dry-run")) is (version == COPIES)
    operations(demo).rollback(accept_loss=1)
    assert runs(demo) == OLD and is_there(demo) is way.unchanged_databases
    assert came(demo, "came_later") == (ALL if way.unchanged_databases else set())
    assert strict(demo) == set()
    operations(demo).upgrade(Version(version))  # all of it may run once more
    assert runs(demo) == version and came(demo, "came_later") == ALL and strict(demo) == set()


@not_as_root
def test_rehearsal_runs_the_contract_phase_and_predicts_its_duration(demo: DemoSite) -> None:
    find_upgrade_path(site_in_process(demo), Version(EXPANDS))
    for version in (COPIES, EXPANDS):
        hop = rehearse(demo, version)
        assert isinstance(hop["contract_s"], float) and hop["contract_s"] > 0
        assert hop["changed_tables"] == {
            name: {"came_later": [-1, 0], "came_with_new": [-1, 0]} for name in ALL
        }
        assert not hop["unchanged"] and came(demo, "came_later") == set()
    assert "final migrations: " in run_text(demo, "rehearse", COPIES)


@not_as_root
def test_failed_contract_phase_is_reported_and_retried_or_confirmed(demo: DemoSite) -> None:
    with refused(CONTRACT_FAILED):
        operations(demo).upgrade(Version(WAITS))
    change, known = latest(demo)
    assert change.is_soaking and known.contract_failed == "NU-4203"
    assert runs(demo) == WAITS and came(demo, "came_later") == {"seizures", "suspects"}
    assert strict(demo) == set()  # the journal says whose it is
    assert "Final migrations pending" in " ".join(run_text(demo, "status").split())
    with refused(OPEN_CHANGE):
        operations(demo).upgrade(Version(NEXT))
    with refused(CONTRACT_FAILED):
        operations(demo).resume(by_operator=False)
    assert "final migrations failed: " in run_text(demo, "history", change.id)
    confirm(demo)
    operations(demo).resume(by_operator=True)
    assert not latest(demo)[0].state.is_open and facts(demo).contract_abandoned
    assert "skipped by an operator" in run_text(demo, "history", change.id)
    operations(demo).upgrade(Version(NEXT))
    assert runs(demo) == NEXT and strict(demo) == set()


@not_as_root
def test_partial_result_of_a_second_attempt_is_recorded_at_confirmation(demo: DemoSite) -> None:
    """The second attempt was killed after it made a table; then an operator confirms."""
    with refused(CONTRACT_FAILED):
        operations(demo).upgrade(Version(WAITS))
    assert "NU-4208" in run_text(demo, "doctor")
    execute(demo.databases.address("companies"), "CREATE TABLE came_later (id integer)")
    confirm(demo)
    operations(demo).resume(by_operator=True)
    assert not latest(demo)[0].state.is_open and strict(demo) == set()
    told = " ".join(run_text(demo, "status").split())
    assert "final migrations not finished" in told
    assert "the release is good" not in told


@not_as_root
def test_failed_contract_phase_completes_later(demo: DemoSite) -> None:
    with refused(CONTRACT_FAILED):
        operations(demo).upgrade(Version(WAITS))
    enter(demo)
    execute(demo.databases.address("companies"), "CREATE TABLE room (id integer)")
    operations(demo).resume(by_operator=False)
    change, known = latest(demo)
    assert not change.state.is_open and known.contract_s is not None
    assert runs(demo) == WAITS and came(demo, "came_later") == ALL and is_there(demo)
    assert strict(demo) == set()


@not_as_root
def test_rollback_during_the_contract_phase_keeps_records(demo: DemoSite) -> None:
    with refused(CONTRACT_FAILED):
        operations(demo).upgrade(Version(WAITS))
    enter(demo)
    operations(demo).rollback()
    assert runs(demo) == OLD and is_there(demo) and strict(demo) == set()
    assert came(demo, "came_later") == {"seizures", "suspects"}


@not_as_root
def test_rollback_after_a_kill_in_the_contract_phase_records_the_schemas(demo: DemoSite) -> None:
    """By the rollback that people order then; the program itself goes with its agent."""
    with pytest.raises(Killed):
        acting(demo, kill).upgrade(Version(EXPANDS))
    with operations(demo).lock_site("trial") as journal:
        journal.store_facts(journal.list_changes(1)[0].id, ChangeFacts(contract_started=True))
    execute(demo.databases.address("suspects"), "CREATE TABLE came_later (id integer)")
    assert strict(demo) == set() and "NU-6144" in {finding.code for finding in list_findings(demo)}
    operations(demo).rollback()
    assert runs(demo) == OLD and came(demo, "came_later") == {"suspects"}
    assert strict(demo) == set()


INSTANTS = [
    (step, phase)
    for step in (StepName.MAINTENANCE_OFF, StepName.SOAK, StepName.PRUNE)
    for phase in (StepPhase.BEFORE_EFFECT, StepPhase.AFTER_EFFECT, StepPhase.AFTER_RECORD)
]


@not_as_root
@pytest.mark.parametrize("instant", part(INSTANTS, 3, "contract"), ids=".".join)
@pytest.mark.parametrize("by_operator", [True, False])
def test_kill_around_the_contract_phase_is_completed(
    demo: DemoSite, instant: tuple[StepName, StepPhase], by_operator: bool
) -> None:
    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == instant:
            raise Killed

    with pytest.raises(Killed):
        operations(demo, strike).upgrade(Version(EXPANDS))
    operations(demo).resume(by_operator=by_operator)
    change, known = latest(demo)
    assert not change.state.is_open and known.contract_s is not None
    assert runs(demo) == EXPANDS and came(demo, "came_later") == ALL and strict(demo) == set()


@not_as_root
def test_kill_at_the_start_of_the_contract_phase_restarts_it(demo: DemoSite) -> None:
    with pytest.raises(Killed):
        acting(demo, kill).upgrade(Version(COPIES))
    assert latest(demo)[0].is_soaking and came(demo, "came_later") == set()
    operations(demo).resume(by_operator=False)
    assert runs(demo) == COPIES and came(demo, "came_later") == ALL and strict(demo) == set()


@not_as_root
def test_timed_out_contract_phase_leaves_no_server_activity(
    demo: DemoSite, server: EmbeddedPostgres
) -> None:
    with refused(CONTRACT_FAILED):
        operations(demo).upgrade(Version(LATE))
    assert not waiting(server) and runs(demo) == LATE and strict(demo) == set()


@not_as_root
@in_turns("number")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_terminated_contract_phase_is_restarted_by_the_service(
    demo: DemoSite, server: EmbeddedPostgres, number: signal.Signals
) -> None:
    """A real signal to a real process, while the program waits in the server."""
    operations(demo)  # reads the feed
    deadline = time.monotonic() + PATIENCE_S
    words = ["--config", str(demo.config_path), "upgrade", SLEEPS, "--yes"]
    with subprocess.Popen(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as agent:  # fmt: skip
        while not waiting(server):
            assert agent.poll() is None, "it ended before its program waited"
            assert time.monotonic() < deadline
            time.sleep(0.02)  # between two looks
        enter(demo)
        agent.send_signal(number)
    while waiting(server):
        assert time.monotonic() < deadline, "the server works on for nobody"
        time.sleep(0.02)  # between two looks
    assert latest(demo)[0].is_soaking and facts(demo).contract_failed is None
    assert runs(demo) == SLEEPS and is_there(demo)
    for name in ALL:
        execute(demo.databases.address(name), "CREATE TABLE room (id integer)")
    operations(demo).resume(by_operator=False)
    assert came(demo, "came_later") == ALL and is_there(demo)
    assert runs(demo) == SLEEPS and not latest(demo)[0].state.is_open


@not_as_root
def test_leftover_contract_program_of_a_killed_agent_is_awaited(demo: DemoSite) -> None:
    descriptor = os.open(demo.state / EXPAND_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    passed = [0.0]

    def wait(seconds: float) -> None:
        passed[0] += max(seconds, 10.0)

    clock = SystemClock(wait=wait, monotonic=lambda: passed[0])
    with refused(EXPAND_RUNNING):
        acting(demo, lambda: None, clock).upgrade(Version(COPIES))
    assert latest(demo)[0].is_soaking and facts(demo).contract_failed is None
    os.close(descriptor)
    operations(demo).resume(by_operator=False)
    assert came(demo, "came_later") == ALL and strict(demo) == set()


@not_as_root
def test_server_activity_of_a_dead_contract_program_is_terminated(demo: DemoSite) -> None:
    with psycopg.connect(
        demo.databases.address("suspects"), application_name="ncen-updater-migrator"
    ) as left:
        left.execute("CREATE TABLE came_last (id integer)")
        operations(demo).upgrade(Version(COPIES))
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")
    assert came(demo, "came_later") == ALL and came(demo, "came_last") == set()
    assert strict(demo) == set()


@not_as_root
def test_unavailable_lock_is_reported(demo: DemoSite) -> None:
    (demo.state / EXPAND_LOCK).mkdir()
    with pytest.raises(LockUnusableError):
        operations(demo).upgrade(Version(EXPANDS))
    assert runs(demo) == OLD and came(demo) == set()


@not_as_root
def test_foreign_schema_change_during_the_contract_phase_is_reported(demo: DemoSite) -> None:
    def plant() -> None:
        execute(demo.databases.address("suspects"), "CREATE TABLE planted (id integer)")

    acting(demo, plant).upgrade(Version(COPIES))
    assert came(demo, "came_later") == ALL and strict(demo) == {"NU-6106"}


@not_as_root
def test_unhealthy_release_after_the_contract_phase_is_rolled_back(demo: DemoSite) -> None:
    def break_it() -> None:
        enter(demo)
        demo.stop_app()

    with pytest.raises(SoakFailedError):
        acting(demo, break_it).upgrade(Version(EXPANDS))
    assert runs(demo) == OLD and is_there(demo) and strict(demo) == set()
    assert came(demo, "came_later") == ALL


@not_as_root
def test_contract_phase_on_single_writer_files_runs_in_the_downtime(files: DemoSite) -> None:
    operations(files).upgrade(Version(COPIES))
    assert runs(files) == COPIES and came(files, "came_later") == ALL
    assert facts(files).contract_started is None and strict(files) == set()
    assert "after the soak period" not in run_text(files, "plan", EXPANDS)


PROGRAM = DatabaseProgram(argv=("bin/contract.py",))
CHANGE = Change(
    id="aaaaaaaa", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.COMMITTED,
    product="nCEN", from_version=OLD, to_version=COPIES, generation=1,
    created_at=datetime(2026, 11, 27, tzinfo=UTC),
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "program", "known", "beside", "wanted"),
    [
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(), True, True),
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(no_copy=True, has_expand=True), True, True),
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(contract_failed="NU-4202"), True, True),
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(contract_started=True), True, True),
        # No migrator ran; skipped; done; ran in the downtime; none exists; a rollback.
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(no_copy=True), True, False),
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(contract_abandoned=True), True, False),
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(contract_s=0.1), True, False),
        (ChangeKind.UPGRADE, PROGRAM, ChangeFacts(), False, False),
        (ChangeKind.UPGRADE, None, ChangeFacts(), True, False),
        (ChangeKind.ROLLBACK, PROGRAM, ChangeFacts(), True, False),
    ],
)
def test_pending_contract_phase_is_detected(
    kind: ChangeKind,
    program: DatabaseProgram | None,
    known: ChangeFacts,
    beside: bool,
    wanted: bool,
) -> None:
    command = MigratorCommand(argv=("bin/migrate.py",), contract=program)
    target = MigrationSet(COPIES, Path("slot"), {}, command)
    assert needs_contract(replace(CHANGE, kind=kind), known, target, runs_online=beside) is wanted
