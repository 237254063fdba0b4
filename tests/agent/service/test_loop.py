"""Tests of the loop on a simulated site: actions, their order, and omissions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest

from ncen_updater.agent.config.service import ServiceSettings, WindowSettings
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.policy.automation import ServiceAction
from ncen_updater.agent.reports.status import SiteStatus
from ncen_updater.agent.service.apply_runner import WorkerResult
from ncen_updater.agent.service.loop import ServiceLoop, build_job_command
from ncen_updater.agent.service.snapshot import ServiceEvent
from ncen_updater.agent.storage.journal.jobs import Job, JobKind
from ncen_updater.agent.storage.service_state import ServiceState
from ncen_updater.common.messages import ExitCode
from tests.support.simulated_site import SimulatedSite

MORNING = datetime(2026, 11, 24, 6, tzinfo=UTC)
NIGHT = WindowSettings(start=time(22), end=time(4))
ALWAYS = WindowSettings(start=time(0), end=time(0))
SETTINGS = ServiceSettings(timezone="UTC", windows=(NIGHT,))


class Trial:
    def __init__(self, site: SimulatedSite, settings: ServiceSettings = SETTINGS) -> None:
        self.site = site
        self.told: list[ServiceEvent] = []
        self.settings = settings
        self.receipt_due: datetime | None = None
        self.service = self.start()

    def start(self) -> ServiceLoop:
        played = cast("Any", self.site)
        return ServiceLoop(
            self.settings,
            read_status=self.site.look,
            state_store=played,
            job_recorder=played,
            runner=played,
            schedule_check=lambda now, failure: now + timedelta(hours=1 if failure else 6),
            now=lambda: self.site.now,
            publish=self.told.append,
            find_due_receipt=lambda: self.receipt_due,
        )

    def until(self, end: datetime) -> None:
        while self.site.now < end:
            act = self.service.run_once()
            if act.action is ServiceAction.WAIT and act.until is not None:
                self.site.now = min(act.until, end)

    def done(self, *leave_out: str) -> list[str]:
        return [e.words[0] for e in self.site.diary if e.words[0] not in leave_out]

    def kinds(self) -> list[str]:
        return [happening.kind for happening in self.told if happening.kind != "next"]


@pytest.fixture
def trial() -> Trial:
    return Trial(SimulatedSite(MORNING, offered=["1.1"]))


def test_release_is_prepared_rehearsed_approved_and_installed_at_night(trial: Trial) -> None:
    trial.until(MORNING + timedelta(days=1, hours=12))
    assert trial.done("check") == ["plan", "rehearse"]
    trial.until(MORNING + timedelta(days=2))
    assert trial.done("check") == ["plan", "rehearse", "upgrade"]
    upgrade = trial.site.diary[-2 if trial.site.diary[-1].words[0] == "check" else -1]
    upgrade = next(e for e in trial.site.diary if e.words[0] == "upgrade")
    assert upgrade.at == datetime(2026, 11, 25, 22, tzinfo=UTC)
    assert upgrade.words == (
        "upgrade", "1.1", "--yes", "--scheduled", "--start-before", "2026-11-26T04:00:00+00:00",
    )  # fmt: skip
    assert trial.site.current == "1.1"


def test_previous_databases_are_pruned_days_later(trial: Trial) -> None:
    trial.site.keep_for = timedelta(days=7)
    trial.until(MORNING + timedelta(days=12))
    assert trial.done("check") == ["plan", "rehearse", "upgrade", "prune"]
    installed, dropped = (
        next(e.at for e in trial.site.diary if e.words[0] == word) for word in ("upgrade", "prune")
    )
    assert timedelta(days=7) <= dropped - installed < timedelta(days=7, minutes=5)


def test_nothing_is_installed_without_approval(trial: Trial) -> None:
    trial.site.approve_after = None
    trial.until(MORNING + timedelta(days=30))
    assert trial.done("check") == ["plan", "rehearse"]


def test_nothing_starts_without_windows_or_a_schedule(trial: Trial) -> None:
    for mode in ("approve", "automatic"):
        trial.service.reload(SETTINGS.model_copy(update={"mode": mode, "windows": ()}))
        trial.until(trial.site.now + timedelta(days=9))
        assert trial.done("check") == ["plan", "rehearse"]


def test_notify_mode_only_checks(trial: Trial) -> None:
    trial.service.reload(SETTINGS.model_copy(update={"mode": "notify"}))
    trial.until(MORNING + timedelta(days=3))
    assert set(trial.done()) == {"check"}


def test_failed_release_is_retried_after_growing_delays(trial: Trial) -> None:
    trial.site.failing.add("1.1")
    trial.service.reload(SETTINGS.model_copy(update={"mode": "automatic", "windows": (ALWAYS,)}))
    trial.until(MORNING + timedelta(days=20))
    tries = [e for e in trial.site.diary if e.words[0] == "upgrade"]
    gaps = [later.at - earlier.at for earlier, later in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= timedelta(hours=1)
    assert gaps[-1] >= timedelta(days=7)
    assert all("--retry" in e.words for e in tries[1:])
    assert "--retry" not in tries[0].words


def test_newer_release_bypasses_a_failed_one(trial: Trial) -> None:
    trial.site.failing.add("1.1")
    trial.service.reload(SETTINGS.model_copy(update={"mode": "automatic"}))
    trial.until(MORNING + timedelta(days=1))
    trial.site.offered.append("1.2")
    trial.until(MORNING + timedelta(days=2))
    assert trial.site.current == "1.2"


def test_failures_of_one_release_do_not_delay_the_next(trial: Trial) -> None:
    trial.site.failing.add("1.1")
    trial.service.reload(SETTINGS.model_copy(update={"mode": "automatic", "windows": (ALWAYS,)}))
    trial.until(MORNING + timedelta(days=9))
    assert trial.service.state.failures[ServiceAction.UPGRADE].failures > 3
    trial.site.offered.append("1.2")
    trial.until(MORNING + timedelta(days=9, hours=7))
    assert trial.site.current == "1.2"


def test_open_change_is_resumed_first(trial: Trial) -> None:
    trial.site.open_change, trial.site.held = True, "audit"
    act = trial.service.run_once()
    assert act.action is ServiceAction.RESUME
    assert trial.done() == ["resume"]
    assert trial.site.diary[0].words == ("resume", "--unattended")


def test_failure_to_resume_does_not_delay_the_next_change(trial: Trial) -> None:
    trial.service._save_state(trial.service.state.with_failure(ServiceAction.RESUME, MORNING))
    trial.service.run_once()
    assert ServiceAction.RESUME not in trial.service.state.failures


def test_next_action_is_reported_after_each_action(trial: Trial) -> None:
    """The earlier report is outdated by then, and is not shown any more."""
    trial.site.open_change = True
    for _ in range(2):
        trial.service.run_once()
        trial.site.open_change, trial.site.now = True, trial.site.now + timedelta(hours=2)
    told = [str(event.values["reason"]) for event in trial.told if event.kind == "next"]
    assert told == ["a change is not finished"] * 2


def test_job_is_run_once(trial: Trial) -> None:
    trial.until(MORNING + timedelta(minutes=5))
    trial.site.order = Job(7, JobKind.CHECK, {}, Actor("amina", 1001), trial.site.now)
    trial.site.event += 1
    act = trial.service.run_once()
    assert act.action is ServiceAction.RUN_JOB
    assert trial.site.order is None
    assert trial.service.run_once().action is ServiceAction.WAIT


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (JobKind.CHECK, {}, ("check",)),
        (JobKind.PREPARE, {"version": "3.3.0"}, ("plan", "3.3.0")),
        (JobKind.REHEARSE, {}, ("rehearse",)),
        (
            JobKind.UPGRADE,
            {"version": "3.3.0", "retry": True},
            ("upgrade", "3.3.0", "--retry", "--yes", "--scheduled"),
        ),
        (JobKind.UPGRADE, {"version": 3, "retry": "x"}, ("upgrade", "--yes", "--scheduled")),
        (JobKind.ROLLBACK, {}, ("rollback", "--yes", "--job", "1")),
        (
            JobKind.ROLLBACK,
            {"accept_loss": 12},
            ("rollback", "--yes", "--job", "1", "--accept-loss", "12"),
        ),
        (JobKind.ROLLBACK, {"accept_loss": True}, ("rollback", "--yes", "--job", "1")),
        (
            JobKind.ROLLBACK,
            {"undoes": "abcdefgh"},
            ("rollback", "--yes", "--job", "1", "--undoes", "abcdefgh"),
        ),
        (JobKind.RESUME, {}, ("resume",)),
    ],
)
def test_job_commands_are_built(
    kind: JobKind, data: dict[str, object], words: tuple[str, ...]
) -> None:
    assert build_job_command(Job(1, kind, data, Actor("amina", 1001), MORNING)) == words


def test_feed_is_checked_at_the_first_start_while_the_clock_advances(trial: Trial) -> None:
    class Ticking(SimulatedSite):
        @property
        def now(self) -> datetime:
            self.time += timedelta(microseconds=1)
            return self.time

        @now.setter
        def now(self, value: datetime) -> None:
            self.time = value

    ticking = Trial(Ticking(MORNING, offered=["1.1"]))
    assert ticking.service.run_once().action is ServiceAction.CHECK_FEED


def test_unreachable_feed_is_checked_again(trial: Trial) -> None:
    trial.site.feed_up = False
    trial.until(MORNING + timedelta(hours=5))
    checks = [e for e in trial.site.diary if e.words == ("check",)]
    assert len(checks) == 5
    assert {e.exit_code for e in checks} == {ExitCode.NETWORK}
    trial.site.feed_up = True
    trial.until(MORNING + timedelta(days=2))
    assert trial.site.current == "1.1"


def test_killed_service_continues(trial: Trial) -> None:
    """Started again before every step, it does the same."""
    other = Trial(SimulatedSite(MORNING, offered=["1.1"]))
    end = MORNING + timedelta(days=3)
    trial.until(end)
    while other.site.now < end:
        other.service = other.start()
        act = other.service.run_once()
        if act.action is ServiceAction.WAIT and act.until is not None:
            other.site.now = min(act.until, end)
    assert list(other.site.diary) == trial.site.diary


def test_damaged_journal_stops_everything_and_is_reported_once(trial: Trial) -> None:
    class Broken(SimulatedSite):
        def look(self) -> SiteStatus:
            error = JournalUnreadableError(path="journal", reason="altered")
            return replace(super().look(), journal=error, rehearsals=error)

    blind = Trial(Broken(MORNING, offered=["1.1"]))
    blind.until(MORNING + timedelta(hours=5))
    assert blind.done() == []
    assert blind.kinds() == ["intervention-required"]


def test_manual_changes_are_noticed(trial: Trial) -> None:
    trial.until(MORNING + timedelta(hours=3))
    trial.site.current = "1.1"
    trial.site.event += 5
    trial.service.run_once()
    assessment = trial.service.state.assessment
    assert assessment is not None
    assert assessment.target is None


def test_unreadable_assessment_permits_only_feed_checks(trial: Trial) -> None:
    class Mute(SimulatedSite):
        def assess(self) -> object:  # type: ignore[override]
            return replace(super().assess(), document={"error": {}}, exit_code=1)

    mute = Trial(Mute(MORNING, offered=["1.1"]))
    mute.until(MORNING + timedelta(days=2))
    assert set(mute.done()) == {"check"}


def test_service_state_survives_serialisation() -> None:
    service_state = (
        ServiceState(next_check=MORNING)
        .with_failure(ServiceAction.CHECK_FEED, MORNING)
        .with_failure(ServiceAction.CHECK_FEED, MORNING)
    )
    again = ServiceState.from_json(service_state.to_json())
    assert again == service_state
    assert again.failures[ServiceAction.CHECK_FEED].failures == 2
    assert again.without_failures(ServiceAction.CHECK_FEED).failures == {}


def test_agent_is_updated_before_the_application(trial: Trial) -> None:
    trial.site.agent, trial.site.held = "0.2.0", "audit"
    trial.until(MORNING + timedelta(hours=1))
    assert trial.done("check") == ["self-update"]


def test_failed_agent_update_does_not_block_releases(trial: Trial) -> None:
    trial.site.agent, trial.site.agent_fails = "0.2.0", True
    trial.until(MORNING + timedelta(hours=2))
    assert trial.done("check") == ["self-update", "plan", "rehearse", "self-update", "self-update"]


def test_agent_updates_may_be_manual_only() -> None:
    site = SimulatedSite(MORNING, agent="0.2.0")
    trial = Trial(site, SETTINGS.model_copy(update={"self_update": False}))
    trial.until(MORNING + timedelta(hours=1))
    assert trial.done() == ["check"]


def test_full_disk_does_not_stop_the_service(trial: Trial) -> None:
    trial.site.full = True
    trial.until(MORNING + timedelta(days=2))
    assert trial.done("check") == ["plan", "rehearse", "upgrade"]


def test_clock_set_back_does_not_stop_the_service(trial: Trial) -> None:
    trial.site.now = MORNING + timedelta(days=3000)
    trial.service.run_once()
    trial.site.feed_up = False
    trial.service.run_once()
    trial.site.now, trial.site.feed_up = MORNING, True
    trial.site.diary.clear()
    trial.until(MORNING + timedelta(days=2))
    assert trial.done("check") == ["plan", "rehearse", "upgrade"]


def test_outdated_job_is_not_run(trial: Trial) -> None:
    trial.service.reload(SETTINGS.model_copy(update={"mode": "notify"}))
    person = Actor("amina", 1001)
    trial.site.order = Job(1, JobKind.UPGRADE, {}, person, MORNING - timedelta(hours=13))
    trial.until(MORNING + timedelta(hours=1))
    assert trial.site.order is None
    assert "upgrade" not in trial.done()


def test_end_of_a_hold_wakes_the_service(trial: Trial) -> None:
    trial.until(MORNING + timedelta(days=1, hours=12))
    trial.site.held, trial.site.hold_until = "audit", MORNING + timedelta(days=1, hours=17)
    trial.site.event += 1

    def until(end: datetime) -> None:
        while trial.site.now < end:
            act = trial.service.run_once()
            if trial.site.hold_until and trial.site.now >= trial.site.hold_until:
                trial.site.held = None
            if act.action is ServiceAction.WAIT and act.until is not None:
                trial.site.now = min(act.until, end)

    until(MORNING + timedelta(days=1, hours=18))
    upgrade = next(e for e in trial.site.diary if e.words[0] == "upgrade")
    assert upgrade.at == MORNING + timedelta(days=1, hours=17)


@pytest.mark.parametrize(("offered", "least", "most"), [(["1.1"], 11, 13), ([], 2, 3)])
def test_feed_is_checked_more_often_while_a_release_is_open(
    offered: list[str], least: int, most: int
) -> None:
    """A halt must reach a site before its upgrade; otherwise the interval is as configured."""
    trial = Trial(SimulatedSite(MORNING, offered=offered))
    trial.site.approve_after = None
    trial.until(MORNING + timedelta(hours=12))
    assert least <= trial.done().count("check") <= most


def test_killed_assessment_is_repeated_soon_and_starts_nothing(trial: Trial) -> None:
    """Seen: an approved release was "not on offer" for minutes, and the second approver refused."""
    trial.until(MORNING + timedelta(hours=12))
    known, assess = trial.service.state.assessment, trial.site.assess
    assert known is not None and known.target == "1.1"
    before = trial.done()
    trial.site.now = datetime(2026, 11, 25, 23, tzinfo=UTC)  # its window is open
    trial.site.event += 1
    trial.site.assess = lambda: WorkerResult(-9, {})  # type: ignore[method-assign]
    for _ in range(3):
        act = trial.service.run_once()
        kept = trial.service.state.assessment
        found = kept.find_release("1.1") if kept else None
        assert found is not None and found.binding == known.binding, "an approver finds it"
        if act.action is not ServiceAction.CHECK_FEED:
            assert str(act.reason).startswith("next upgrade could not be determined")
            assert act.until is not None and act.until - trial.site.now <= timedelta(minutes=5)
            trial.site.now = act.until
    assert ServiceAction.ASSESS in trial.service.state.failures
    trial.site.assess = assess  # type: ignore[method-assign]
    trial.until(trial.site.now + timedelta(hours=1))
    assert ServiceAction.ASSESS not in trial.service.state.failures
    assert trial.done("check")[len([one for one in before if one != "check"]) :] == ["upgrade"]


def test_successful_feed_check_clears_earlier_failures(trial: Trial) -> None:
    """Seen: an approved upgrade waited ten minutes although a 'check' had succeeded since."""
    trial.until(MORNING + timedelta(hours=12))
    act, way = trial.site._act, [ExitCode.NETWORK, ExitCode.OK]

    def once(what: str, more: tuple[str, ...]) -> int:
        return way.pop(0) if what == "upgrade" and len(way) > 1 else act(what, more)

    trial.site._act = once  # type: ignore[method-assign]
    trial.site.now = datetime(2026, 11, 25, 22, tzinfo=UTC)
    while len(way) > 1:
        trial.service.run_once()
    failed = trial.site.now
    trial.site.order = Job(7, JobKind.CHECK, {}, Actor("amina", 1001), failed)
    trial.site.event += 1
    trial.until(failed + timedelta(minutes=9))
    assert trial.site.current == "1.1"


def test_receipt_is_sent_on_schedule_and_retried_after_a_failure(trial: Trial) -> None:
    trial.site.approve_after = None
    due = trial.receipt_due = MORNING + timedelta(hours=7, minutes=13)
    trial.site.failing.add("receipt")
    trial.until(due + timedelta(hours=2))
    tries = [entry for entry in trial.site.diary if entry.words == ("receipt", "--scheduled")]
    assert [entry.at - due for entry in tries] == [
        timedelta(), timedelta(minutes=11), timedelta(minutes=72),
    ]  # fmt: skip
    trial.receipt_due = None
    trial.until(due + timedelta(days=2))
    assert trial.done("check", "plan", "rehearse") == ["receipt"] * 3


def test_no_receipt_is_sent_during_a_change(trial: Trial) -> None:
    trial.site.open_change, trial.receipt_due = True, MORNING
    trial.service.run_once()
    assert "receipt" not in trial.done()
