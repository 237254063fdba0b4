"""Tests of the change runner, with steps that only record their calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from ncen_updater.agent.engine.change_runner import ChangeRunner
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.steps import Step, make_steps
from ncen_updater.agent.engine.steps.release import BuildSlotStep, FetchStep, SwitchStep
from ncen_updater.agent.model.change import (
    STEPS_BEFORE_COMMIT,
    Change,
    ChangeKind,
    ChangeState,
    DatabaseMode,
    StepName,
    StepPhase,
    StepState,
)
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.errors import (
    ChangeFailedError,
    CommandError,
    JournalUnwritableError,
    MigrationFailedError,
    SoakFailedError,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.journal_file import get_reserve_path
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.labels import get_step_label
from ncen_updater.common.messages import (
    INTERRUPTED,
    OPEN_CHANGE,
    REVERT_FAILED,
    STEP_NOT_EFFECTIVE,
    ExitCode,
)
from ncen_updater.common.progress import Amount, SilentProgress
from tests.support.errors import has_message, refused

CHANGE = Change(
    id="abcdefgh", kind=ChangeKind.UPGRADE, mode=DatabaseMode.MIGRATE, state=ChangeState.RUNNING,
    product="ncen", from_version="3.2.4", to_version="3.3.0", generation=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


class Noted(Step):
    """Records its calls; fails where requested."""

    name: ClassVar[StepName]
    title = LazyText("a step")

    def __init__(self, name: StepName, calls: list[str]) -> None:
        self.name = name  # type: ignore[misc]
        self.calls = calls
        self.do_error: BaseException | None = None
        self.undo_error: BaseException | None = None
        self.holds = True
        self.reports_undone = True

    def prepare(self, context: StepContext) -> ChangeFacts:
        if self.name is StepName.MAINTENANCE_OFF:
            return NO_FACTS  # intended by the commit
        return ChangeFacts(unknown_facts={f"prepared-{self.name}": True})

    def do(self, context: StepContext) -> ChangeFacts:
        assert (
            context.journal.read_change(CHANGE.id).get_step_state(self.name) is StepState.INTENDED
        )
        if self.name is not StepName.MAINTENANCE_OFF:
            assert context.read_facts().unknown_facts[f"prepared-{self.name}"] is True
        self.calls.append(self.name)
        if self.do_error:
            raise self.do_error
        if self.name is StepName.COMMIT:
            context.journal.commit_change(context.change.id, following=StepName.MAINTENANCE_OFF)
        return NO_FACTS

    def is_done(self, context: StepContext) -> bool:
        return self.holds

    def undo(self, context: StepContext) -> None:
        assert context.journal.read_change(CHANGE.id).get_step_state(self.name) is StepState.UNDOING
        self.calls.append(f"undo {self.name}")
        if self.undo_error:
            raise self.undo_error

    def is_undone(self, context: StepContext) -> bool:
        return self.reports_undone


class Trial:
    """A runner over noted steps and a real journal."""

    def __init__(self, journal: Journal) -> None:
        self.calls: list[str] = []
        self.steps = {name: Noted(name, self.calls) for name in StepName}
        self.journal = journal
        journal.begin_change(CHANGE)

    def runner(self, **more: Any) -> ChangeRunner:
        # Noted steps never look at it.
        engine = SimpleNamespace(reuse_control_sessions=contextlib.nullcontext)
        site = cast("Site", SimpleNamespace(database_engine=engine))
        steps = cast("dict[StepName, Step]", self.steps)
        return ChangeRunner(site, self.journal, SilentProgress(), steps=steps, **more)

    def state(self) -> ChangeState:
        return self.journal.read_change(CHANGE.id).state


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Journal.create(tmp_path / "journal.sqlite") as journal:
        yield Trial(journal)


def test_every_step_runs_in_order(trial: Trial) -> None:
    trial.runner().run_change(CHANGE.id)
    assert trial.calls == list(StepName)
    assert trial.state() is ChangeState.FINISHED


def test_intent_is_recorded_with_the_end_of_the_previous_step(trial: Trial) -> None:
    states: dict[tuple[StepName, StepPhase], StepState | None] = {}
    trial.steps[StepName.SWITCH].do_error = RuntimeError()

    def look(step: StepName, phase: StepPhase) -> None:
        states[step, phase] = trial.journal.read_change(CHANGE.id).get_step_state(StepName.MIGRATE)

    with pytest.raises(ChangeFailedError):
        trial.runner(checkpoint=look).run_change(CHANGE.id)
    assert states[StepName.COPY, StepPhase.AFTER_EFFECT] is None
    assert states[StepName.COPY, StepPhase.AFTER_RECORD] is StepState.INTENDED
    assert states[StepName.MIGRATE, StepPhase.BEFORE_EFFECT] is StepState.INTENDED
    assert states[StepName.MIGRATE, StepPhase.AFTER_RECORD] is StepState.DONE
    steps = [
        (event.kind, event.data["step"])
        for event in trial.journal.list_events(change=CHANGE.id)
        if event.data.get("step") in (StepName.COPY, StepName.MIGRATE, StepName.CUT_OVER)
    ]
    assert steps[:6] == [
        ("step-intended", "copy"), ("step-done", "copy"), ("step-intended", "migrate"),
        ("step-done", "migrate"), ("step-intended", "cut-over"), ("step-done", "cut-over"),
    ]  # fmt: skip
    assert trial.state() is ChangeState.REVERTED


def test_step_ends_although_the_next_one_cannot_be_prepared(trial: Trial) -> None:
    class Unprepared(Noted):
        def prepare(self, context: StepContext) -> ChangeFacts:
            raise UpdaterError(OPEN_CHANGE, change="x", kind="upgrade", version="1")

    trial.steps[StepName.MIGRATE] = Unprepared(StepName.MIGRATE, trial.calls)
    with pytest.raises(ChangeFailedError) as caught:
        trial.runner().run_change(CHANGE.id)
    assert caught.value.values["step"] is StepName.MIGRATE
    change = trial.journal.read_change(CHANGE.id)
    assert change.get_step_state(StepName.MIGRATE) is None
    kinds = [
        event.kind
        for event in trial.journal.list_events(change=CHANGE.id)
        if event.data.get("step") == StepName.COPY
    ]
    assert kinds[:2] == ["step-intended", "step-done"]
    assert trial.state() is ChangeState.REVERTED


def test_commit_intends_the_end_of_the_downtime(trial: Trial) -> None:
    class Power(BaseException):
        """Nothing is undone."""

    def strike(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.COMMIT, StepPhase.AFTER_EFFECT):
            raise Power

    with pytest.raises(Power):
        trial.runner(checkpoint=strike).run_change(CHANGE.id)
    change = trial.journal.read_change(CHANGE.id)
    assert change.is_committed
    assert change.get_step_state(StepName.MAINTENANCE_OFF) is StepState.INTENDED
    trial.runner().finish(CHANGE.id)
    assert trial.state() is ChangeState.FINISHED


def test_registry_has_every_step_in_order() -> None:
    assert list(make_steps()) == list(StepName)


def test_step_with_an_undo_describes_it() -> None:
    for name, step in make_steps().items():
        undoes, says_so = (
            type(step).undo is not Step.undo,
            type(step).describe_undo is not Step.describe_undo,
        )
        assert undoes is says_so, name


@pytest.mark.parametrize("failing", STEPS_BEFORE_COMMIT)
def test_failure_undoes_intended_steps_in_reverse_order(trial: Trial, failing: StepName) -> None:
    trial.steps[failing].do_error = MigrationFailedError(database="x", migration="1")
    with pytest.raises(UpdaterError) as caught:
        trial.runner().run_change(CHANGE.id)
    begun = STEPS_BEFORE_COMMIT[: STEPS_BEFORE_COMMIT.index(failing) + 1]
    assert trial.calls == [*begun, *(f"undo {name}" for name in reversed(begun))]
    assert trial.state() is ChangeState.REVERTED
    assert trial.journal.read_change(CHANGE.id).error_code == caught.value.code == "NU-4006"


def test_bug_is_handled_as_a_failure(trial: Trial) -> None:
    trial.steps[StepName.COPY].do_error = ZeroDivisionError("no one foresaw this")
    with pytest.raises(ChangeFailedError, match="no one foresaw this") as caught:
        trial.runner().run_change(CHANGE.id)
    assert caught.value.exit_code is ExitCode.ROLLED_BACK
    assert trial.state() is ChangeState.REVERTED


def test_cause_is_raised_unwrapped_before_the_downtime(trial: Trial) -> None:
    trial.steps[StepName.PREFLIGHT].do_error = UpdaterError(INTERRUPTED, signal="SIGTERM")
    with refused(INTERRUPTED):
        trial.runner().run_change(CHANGE.id)


def test_missing_effect_counts_as_failed(trial: Trial) -> None:
    trial.steps[StepName.SWITCH].holds = False
    with pytest.raises(ChangeFailedError) as caught:
        trial.runner().run_change(CHANGE.id)
    assert has_message(caught.value.__cause__, STEP_NOT_EFFECTIVE)
    assert "undo switch" in trial.calls


@pytest.mark.parametrize("how", ["raises", "leaves something"])
def test_failed_undo_stops_and_is_resumed(trial: Trial, how: str) -> None:
    trial.steps[StepName.HEALTH].do_error = RuntimeError()
    stop = trial.steps[StepName.STOP]
    stop.undo_error = OSError("cannot start") if how == "raises" else None
    stop.reports_undone = how == "raises"
    with refused(REVERT_FAILED):
        trial.runner().run_change(CHANGE.id)
    assert trial.state() is ChangeState.REVERTING
    assert trial.calls[-1] == "undo stop"
    stop.undo_error, stop.reports_undone = None, True
    trial.calls.clear()
    trial.runner().revert(CHANGE.id)
    assert trial.calls == ["undo stop", "undo maintenance-on", "undo preflight", "undo build-slot",
                           "undo fetch"]  # fmt: skip
    assert trial.state() is ChangeState.REVERTED


@pytest.mark.parametrize("stands", [False, True])
def test_reestablished_effect_is_undone_again(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    """The observed state decides, not the record: for the fence and the stop."""
    last, fence = trial.steps[StepName.MAINTENANCE_ON], trial.steps[StepName.FENCE]
    trial.steps[StepName.MIGRATE].do_error = last.undo_error = RuntimeError()
    with refused(REVERT_FAILED):
        trial.runner().run_change(CHANGE.id)
    last.undo_error = None
    again = 2 if stands else 1
    monkeypatch.setattr(fence, "is_undone", lambda _: trial.calls.count("undo fence") == again)
    trial.runner().revert(CHANGE.id)
    assert trial.calls.count("undo fence") == again
    assert trial.calls.count("undo copy") == 1
    assert trial.state() is ChangeState.REVERTED


def test_nothing_runs_without_a_writable_journal(trial: Trial) -> None:
    trial.steps[StepName.COPY].do_error = JournalUnwritableError(path="x", reason="full")

    def lose_the_reserve(step: StepName, phase: StepPhase) -> None:
        get_reserve_path(trial.journal.path).unlink(missing_ok=True)

    with pytest.raises(JournalUnwritableError):
        trial.runner(checkpoint=lose_the_reserve).run_change(CHANGE.id)
    assert not [call for call in trial.calls if call.startswith("undo")]
    assert trial.state() is ChangeState.RUNNING


def test_nothing_is_undone_after_the_commit(trial: Trial) -> None:
    trial.steps[StepName.MAINTENANCE_OFF].do_error = OSError("full")
    with pytest.raises(OSError, match="full"):
        trial.runner().run_change(CHANGE.id)
    assert trial.state() is ChangeState.COMMITTED
    assert not [call for call in trial.calls if call.startswith("undo")]
    trial.steps[StepName.MAINTENANCE_OFF].do_error = None
    trial.calls.clear()
    trial.runner().finish(CHANGE.id)
    assert trial.calls == [StepName.MAINTENANCE_OFF, StepName.SOAK, StepName.PRUNE]
    assert trial.state() is ChangeState.FINISHED


@pytest.mark.parametrize(
    ("error", "bad"),
    [
        (MigrationFailedError(database="x", migration="1"), True),
        (OSError("disk"), False),
        (UpdaterError(INTERRUPTED, signal="SIGTERM"), False),
    ],
)
def test_only_faults_of_the_release_mark_it_bad(trial: Trial, error: Exception, bad: bool) -> None:
    trial.steps[StepName.MIGRATE].do_error = error
    with pytest.raises(ChangeFailedError):
        trial.runner().run_change(CHANGE.id)
    assert bool(SiteHistory(trial.journal).list_bad_releases()) is bad


@pytest.mark.parametrize(
    ("step", "bad"),
    [(StepName.START, True), (StepName.STOP, False), (StepName.MAINTENANCE_ON, False)],
)
def test_failed_start_is_blamed_on_the_release_but_not_a_failed_stop(
    trial: Trial, step: StepName, bad: bool
) -> None:
    trial.steps[step].do_error = CommandError(action="x", reason="status 1", command="ctl")
    with pytest.raises(ChangeFailedError):
        trial.runner().run_change(CHANGE.id)
    assert [row.code for row in SiteHistory(trial.journal).list_bad_releases()] == ["NU-5002"] * bad


@pytest.mark.parametrize("phase", [StepPhase.AFTER_EFFECT, StepPhase.AFTER_RECORD])
def test_failure_after_the_commit_record_is_not_reverted(trial: Trial, phase: StepPhase) -> None:
    def strike(step: StepName, at: StepPhase) -> None:
        if (step, at) == (StepName.COMMIT, phase):
            raise RuntimeError

    trial.runner(checkpoint=strike).run_change(CHANGE.id)
    assert not [call for call in trial.calls if call.startswith("undo")]
    assert trial.state() is ChangeState.FINISHED


def test_signal_cannot_interrupt_the_commit(trial: Trial) -> None:
    interruption = SignalHandler()
    commit = trial.steps[StepName.COMMIT]
    plain = commit.do

    def signalled(context: StepContext) -> ChangeFacts:
        interruption._on_signal(15, None)
        return plain(context)

    commit.do = signalled  # type: ignore[method-assign]
    with refused(INTERRUPTED):
        trial.runner(interruption=interruption).run_change(CHANGE.id)
    assert trial.state() is ChangeState.COMMITTED


def test_failed_soak_leaves_the_change_open(trial: Trial) -> None:
    trial.steps[StepName.SOAK].do_error = SoakFailedError(product="p", version="v", problems="x")
    with pytest.raises(SoakFailedError):
        trial.runner().run_change(CHANGE.id)
    assert trial.state() is ChangeState.COMMITTED


def test_every_instant_passes_the_checkpoint(trial: Trial) -> None:
    seen: list[tuple[StepName, StepPhase]] = []
    trial.steps[StepName.START].do_error = RuntimeError()
    with pytest.raises(ChangeFailedError):
        trial.runner(checkpoint=lambda step, phase: seen.append((step, phase))).run_change(
            CHANGE.id
        )
    assert (StepName.COPY, StepPhase.BEFORE_EFFECT) in seen
    assert (StepName.COPY, StepPhase.AFTER_EFFECT) in seen
    assert (StepName.COPY, StepPhase.AFTER_RECORD) in seen
    assert (StepName.START, StepPhase.AFTER_EFFECT) not in seen
    assert [row for row in seen if row[0] is StepName.COPY][3:] == [
        (StepName.COPY, StepPhase.BEFORE_UNDO),
        (StepName.COPY, StepPhase.AFTER_UNDO),
        (StepName.COPY, StepPhase.AFTER_UNDO_RECORD),
    ]


def test_signal_ends_a_step_and_reverts_the_change(trial: Trial) -> None:
    interruption = SignalHandler()

    def signalled(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.FENCE, StepPhase.AFTER_RECORD):
            interruption._on_signal(15, None)

    with pytest.raises(ChangeFailedError) as caught:
        trial.runner(checkpoint=signalled, interruption=interruption).run_change(CHANGE.id)
    assert has_message(caught.value.__cause__, INTERRUPTED)
    assert trial.state() is ChangeState.REVERTED
    assert "undo fence" in trial.calls


class RecordingProgress:
    """Records reported progress."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        self.said.append(str(text))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ChangeKind.UPGRADE, "reverting: a step"),
        (ChangeKind.ROLLBACK, "reverting the rollback: a step"),
    ],
)
def test_reverted_operation_is_named(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, kind: ChangeKind, words: str
) -> None:
    """Seen: "rolling back", where the newer release was left in use."""
    trial.journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    change = replace(CHANGE, id="bbbbbbbb", kind=kind)
    trial.journal.begin_change(change)
    trial.journal.record_step(change.id, StepName.FETCH, StepState.INTENDED)
    monkeypatch.setattr(Noted, "describe_undo", lambda self, context: self.title)
    monkeypatch.setattr(Noted, "undo", lambda self, context: None)
    heard = RecordingProgress()
    runner = trial.runner()
    monkeypatch.setattr(runner, "_progress", heard)
    runner.revert(change.id)
    assert set(heard.said) == {words}


@pytest.mark.parametrize(
    ("here", "fetched", "words"),
    [
        (True, False, ["verifying the release", None]),
        (False, True, ["downloading and verifying the release",
                       "unpacking the release"]),
    ],
)  # fmt: skip
def test_present_release_is_not_reported_as_downloaded_or_built(
    *, here: bool, fetched: bool, words: list[str | None]
) -> None:
    """Seen: a rollback that "downloads and verifies" the release that stands beside."""
    slots = SimpleNamespace(list_versions=lambda: {"3.2.4"} if here else set())
    context = cast(
        "StepContext",
        SimpleNamespace(
            target_version="3.2.4", site=SimpleNamespace(slots=slots),
            read_facts=lambda: ChangeFacts(fetched=fetched),
        ),
    )  # fmt: skip
    told = [step.describe_do(context) for step in (FetchStep(), BuildSlotStep())]
    assert [text and str(text) for text in told] == words


@pytest.mark.parametrize(("origin", "target"), [("3.2.4", "3.3.0"), ("3.3.0", "3.2.4")])
def test_switch_names_the_version_in_either_direction(origin: str, target: str) -> None:
    """Seen: a rollback that switches "to the new release"."""
    context = cast("StepContext", SimpleNamespace(origin_version=origin, target_version=target))
    step = SwitchStep()
    told = [str(step.describe_do(context)), str(step.describe_undo(context))]
    assert told == [f"switching to {target}", f"switching to {origin}"]
    assert get_step_label("switch", "rollback") == get_step_label("switch", "upgrade")
