"""A bad soak's own rollback, killed at some instants; ``tests.faults.full --soak`` tries all.

And a soak in which the databases or a disk, and not the release, are what is bad.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from demo.databases import PostgresPlace
from ncen_updater.agent.adapters.application.base import ApplicationPart
from ncen_updater.agent.config.agent_config import SoakSettings
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.engine.steps import outage
from ncen_updater.agent.model.change import Change, StepName, StepPhase
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import SoakFailedError
from ncen_updater.agent.model.event_names import (
    APPLICATION_RUNS,
    APPLICATION_STOPPED,
    DATABASES_AVAILABLE,
    DATABASES_UNAVAILABLE,
    DISK_FULL,
    DISK_HAS_SPACE,
    JOURNAL_FILE,
)
from ncen_updater.agent.policy.restart_policy import ProcessState
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import SOAK_DATABASES_DOWN, SOAK_DISK_FULL
from ncen_updater.common.progress import SilentProgress
from tests.faults.cells import Fault, Strike
from tests.faults.full import prepared
from tests.faults.soak import after_bad_soak, soak_strikes
from tests.faults.trial import NEW, OLD, Trial
from tests.support.errors import refused
from tests.support.rotation import in_turns
from tests.support.sites import site_in_process


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Trial]:
    with prepared("postgresql") as made:
        yield made


@in_turns("step", "phase")
@pytest.mark.parametrize(
    ("step", "phase"),
    [
        (StepName.MIGRATE, StepPhase.AFTER_EFFECT),
        (StepName.CUT_OVER, StepPhase.AFTER_EFFECT),
        (StepName.COMMIT, StepPhase.AFTER_EFFECT),
    ],
)
def test_killed_automatic_rollback_is_completed(
    postgresql: Trial, step: StepName, phase: StepPhase
) -> None:
    strike = Strike(step, phase, Fault.SIGKILL)
    assert strike in set(soak_strikes())
    outcome = after_bad_soak(postgresql, strike)
    assert outcome.struck
    assert outcome.version == OLD


#: More looks than a verdict needs.
LOOKS = 6


class Killed(BaseException):
    """The end of the agent's process."""


def watched(trial: Trial, first: Callable[[], None], then: Callable[[], None]) -> Operations:
    """``first`` happens when the watching begins, ``then`` after some looks."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == LOOKS:
            then()
        SystemClock().wait(seconds)

    def checkpoint(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.SOAK, StepPhase.BEFORE_EFFECT):
            first()
            waits.clear()

    site = dataclasses.replace(site_in_process(trial.demo), clock=SystemClock(wait=wait))
    return Operations(site, SilentProgress(), checkpoint=checkpoint)


def watched_without_its_server(trial: Trial, then: Callable[[], None]) -> Operations:
    """Kill the server when the watching begins; ``then`` comes after some looks."""
    assert trial.server is not None
    return watched(trial, trial.server.kill, then)


TOLD = frozenset({cause for one in outage.OutageCause for cause in one.value})


def remembered(trial: Trial) -> tuple[Change, ChangeFacts, list[str], list[str]]:
    """The last change, its facts, what it says of outages, and what releases are bad."""
    with Journal.open(trial.demo.state / JOURNAL_FILE, read_only=True) as journal:
        change = journal.list_changes(1)[0]
        kinds = [event.kind for event in journal.list_events(change=change.id)]
        bad = [release.version for release in SiteHistory(journal).list_bad_releases()]
        told = [kind for kind in kinds if kind in TOLD]
        return change, journal.read_facts(change.id), told, bad


def back(trial: Trial) -> None:
    assert trial.server is not None
    trial.server.start()


def test_server_outage_during_the_soak_is_not_blamed(postgresql: Trial) -> None:
    postgresql.reset()

    # What fell with its server is started again.
    def returns() -> None:
        postgresql.demo.stop_app()
        back(postgresql)

    watched_without_its_server(postgresql, returns).upgrade()
    assert postgresql.judge() == NEW
    _, facts, told, bad = remembered(postgresql)
    assert (facts.soak_error, bad) == (None, [])
    assert told == [DATABASES_UNAVAILABLE, DATABASES_AVAILABLE]
    assert facts.soak_checks and facts.soak_failed_checks is not None
    assert facts.soak_failed_checks < LOOKS - 1


@pytest.mark.parametrize(
    ("away", "back"),
    [
        ('ALTER ROLE "{owner}" NOLOGIN', 'ALTER ROLE "{owner}" LOGIN'),
        (
            'REVOKE CONNECT ON DATABASE "{live}" FROM "{owner}"',
            'GRANT CONNECT ON DATABASE "{live}" TO "{owner}"',
        ),
        (
            'ALTER DATABASE "{live}" ALLOW_CONNECTIONS false',
            'ALTER DATABASE "{live}" ALLOW_CONNECTIONS true',
        ),
    ],
    ids=["role", "grant", "database"],
)
def test_release_locked_out_of_its_database_is_not_judged(
    postgresql: Trial, away: str, back: str
) -> None:
    postgresql.reset()
    place = postgresql.demo.databases
    assert isinstance(place, PostgresPlace)
    live = place.names["seizures"]

    def run(statement: str) -> None:
        with psycopg.connect(place.conninfo("postgres", "postgres"), autocommit=True) as session:
            session.execute(statement.format(live=live, owner=place.owner).encode())

    def shut() -> None:
        postgresql.demo.stop_app()  # it has sessions, which would go on
        run(away)
        postgresql.demo.start_app()

    watched(postgresql, shut, lambda: run(back)).upgrade()
    assert postgresql.judge() == NEW
    _, facts, told, bad = remembered(postgresql)
    assert (facts.soak_error, bad, told) == (
        None,
        [],
        [DATABASES_UNAVAILABLE, DATABASES_AVAILABLE],
    )


@pytest.mark.parametrize("failed", [False, True])
def test_deliberate_stop_is_not_judged_but_a_crash_is(
    postgresql: Trial, monkeypatch: pytest.MonkeyPatch, failed: bool
) -> None:
    """A stop in order is the operator's; what they stopped is not started against them."""
    postgresql.reset()
    demo, seen = postgresql.demo, ApplicationPart.observe_state

    def as_reported_by_systemd(part: ApplicationPart) -> ProcessState:
        found = seen(part)
        return dataclasses.replace(found, started_since_boot=True, failed=failed and not found.runs)

    monkeypatch.setattr(ApplicationPart, "observe_state", as_reported_by_systemd)
    ran: list[bool] = []

    def later() -> None:
        ran.append(site_in_process(demo).application.is_running())
        demo.start_app()

    operations = watched(postgresql, demo.stop_app, (lambda: None) if failed else later)
    if failed:
        with pytest.raises(SoakFailedError):
            operations.upgrade()
    else:
        operations.upgrade()
    _, facts, told, bad = remembered(postgresql)
    if failed:
        assert (told, bad) == ([], [NEW])
    else:
        assert postgresql.judge() == NEW
        assert ran == [False] and (facts.soak_error, bad) == (None, [])
        assert told == [APPLICATION_STOPPED, APPLICATION_RUNS]
        assert facts.soak_failed_checks == 0 and facts.soak_checks


def test_lasting_server_outage_ends_the_command_without_blame(
    postgresql: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgresql.reset()
    monkeypatch.setattr(outage, "OUTAGE_LIMIT_S", 0.0)
    with refused(SOAK_DATABASES_DOWN) as caught:
        watched_without_its_server(postgresql, lambda: None).upgrade()
    assert NEW in str(caught.value)
    change, facts, told, bad = remembered(postgresql)
    assert change.is_soaking
    assert (facts.soak_error, bad, told) == (None, [], [DATABASES_UNAVAILABLE])
    back(postgresql)
    assert postgresql.settle() == (NEW, 0)
    assert remembered(postgresql)[2] == [DATABASES_UNAVAILABLE, DATABASES_AVAILABLE]


def test_kill_during_a_server_outage_preserves_the_excuse(
    postgresql: Trial,
) -> None:
    postgresql.reset()

    def killed() -> None:
        raise Killed

    with pytest.raises(Killed):
        watched_without_its_server(postgresql, killed).upgrade()
    change, facts, told, _ = remembered(postgresql)
    assert told == [DATABASES_UNAVAILABLE]
    began = change.steps[StepName.SOAK].started_at
    assert facts.soak_started_at is not None and facts.soak_started_at <= began
    postgresql.demo.stop_app()
    back(postgresql)
    assert postgresql.settle() == (NEW, 0)
    _, later, told, bad = remembered(postgresql)
    assert (told, bad) == ([DATABASES_UNAVAILABLE, DATABASES_AVAILABLE], [])
    assert (
        later.soak_started_at is not None and later.soak_started_at > began
    )  # by what was lost until then


#: A watched time that passes by being waited for, in seconds: all of it; until the server is lost,
#: until it is back from then on, and until the next agent begins.
ALL_S, WELL_S, AWAY_S, NOBODY_S = 60.0, 20.0, 10.0, 100.0


class Passing:
    """Watches a release in a time that passes by being waited for.

    Args:
        trial: The site.
        after: What happens once so many seconds of the watching have passed.
    """

    def __init__(self, trial: Trial, after: Mapping[float, Callable[[], None]]) -> None:
        self._trial, self._after = trial, sorted(after.items(), key=lambda item: item[0])
        self._passed, self.watched_s = 0.0, 0.0
        self._began: float | None = None

    def agent(self) -> Operations:
        """One that begins now."""
        self._began = None
        site = site_in_process(self._trial.demo)
        soak = SoakSettings(seconds=ALL_S, interval_s=1.0)
        clock = SystemClock(now=self._now, monotonic=self._monotonic, wait=self._wait)
        config = site.config.model_copy(update={"soak": soak})
        site = dataclasses.replace(site, clock=clock, config=config)
        return Operations(site, SilentProgress(), checkpoint=self._checkpoint)

    def wait_without_agent(self, seconds: float) -> None:
        """Let time pass without an agent."""
        self._passed += seconds

    def _now(self) -> datetime:
        return SystemClock().now() + timedelta(seconds=self._passed)

    def _monotonic(self) -> float:
        return SystemClock().monotonic() + self._passed

    def _wait(self, seconds: float) -> None:
        if self._began is None:
            SystemClock().wait(seconds)
            return
        self._passed += seconds
        while self._after and self._monotonic() - self._began >= self._after[0][0]:
            self._after.pop(0)[1]()

    def _checkpoint(self, step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.SOAK, StepPhase.BEFORE_EFFECT):
            self._began = self._monotonic()
        if (step, phase) == (StepName.SOAK, StepPhase.AFTER_EFFECT) and self._began is not None:
            self.watched_s, self._began = self._monotonic() - self._began, None


def killed_between_the_writes_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """End the agent between the two that it makes when an outage is over, whichever comes first."""
    writes: list[str] = []
    keep, note = Journal.store_facts, Journal.record_event

    def one(name: str) -> None:
        if writes:
            raise Killed
        writes.append(name)

    def keeps(journal: Journal, change: str, facts: ChangeFacts) -> None:
        if facts.soak_started_at is not None:
            one("left out")
        keep(journal, change, facts)

    def notes(journal: Journal, kind: str, change: str | None = None, **values: object) -> None:
        if kind == DATABASES_AVAILABLE:
            one("noted")
        note(journal, kind, change, **values)

    monkeypatch.setattr(Journal, "store_facts", keeps)
    monkeypatch.setattr(Journal, "record_event", notes)


def test_kill_while_recording_the_end_of_an_outage_does_not_shorten_the_soak(
    postgresql: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgresql.reset()
    seen: list[datetime | None] = []

    def lost() -> None:
        assert postgresql.server is not None
        seen.append(remembered(postgresql)[1].soak_started_at)
        postgresql.server.kill()

    def returns() -> None:
        back(postgresql)
        postgresql.demo.stop_app()
        postgresql.demo.start_app()

    time = Passing(postgresql, {WELL_S: lost, WELL_S + AWAY_S: returns})
    with monkeypatch.context() as patched:
        killed_between_the_writes_of_its_end(patched)
        with pytest.raises(Killed):
            time.agent().upgrade()
    with Journal.open(postgresql.demo.state / JOURNAL_FILE, read_only=True) as journal:
        [away] = [
            event.at for event in journal.list_events() if event.kind == DATABASES_UNAVAILABLE
        ]
    [began] = seen
    assert began is not None
    left_s = ALL_S - (away - began).total_seconds()
    time.wait_without_agent(NOBODY_S)
    time.agent().resume(by_operator=False)
    assert left_s <= time.watched_s
    assert postgresql.judge() == NEW
    _, facts, told, bad = remembered(postgresql)
    assert (facts.soak_error, bad) == (None, [])
    assert told == [DATABASES_UNAVAILABLE, DATABASES_AVAILABLE]


@pytest.mark.parametrize("falls", [True, False])
def test_full_disk_during_the_soak_is_not_blamed(postgresql: Trial, *, falls: bool) -> None:
    """Also while the application says that all is well: users may be refused all the same."""
    postgresql.reset()
    with contextlib.ExitStack() as disk:

        def full() -> None:
            disk.enter_context(full_disk_over(postgresql.demo.photos))
            if falls:
                postgresql.demo.stop_app()

        watched(postgresql, full, disk.close).upgrade()
    assert postgresql.judge() == NEW
    _, facts, told, bad = remembered(postgresql)
    assert (facts.soak_error, bad, told) == (None, [], [DISK_FULL, DISK_HAS_SPACE])


def test_lasting_full_disk_ends_the_command_and_is_named(
    postgresql: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgresql.reset()
    monkeypatch.setattr(outage, "OUTAGE_LIMIT_S", 0.0)
    with contextlib.ExitStack() as disk:

        def full() -> None:
            disk.enter_context(full_disk_over(postgresql.demo.photos))
            postgresql.demo.stop_app()

        with refused(SOAK_DISK_FULL) as caught:
            watched(postgresql, full, lambda: None).upgrade()
    assert str(postgresql.demo.photos) in str(caught.value)
    assert postgresql.settle() == (NEW, 0)
    assert remembered(postgresql)[2:] == ([DISK_FULL, DISK_HAS_SPACE], [])


@contextlib.contextmanager
def full_disk_over(place: Path) -> Iterator[None]:
    """Put a disk without room where a directory is."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=0755", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
