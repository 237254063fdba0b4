"""Tests of acts of operators and accidents around a change, on a whole site."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.site import digests, version_of
from ncen_updater.agent.engine.change_guards import confirm_release
from ncen_updater.agent.engine.change_outcome import read_outcome
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.recovery import MAX_RECOVERY_ATTEMPTS
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.engine.site import SystemClock
from ncen_updater.agent.model.change import ChangeState, StepName, StepPhase
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import (
    ChangeFailedError,
    InterventionRequiredError,
    JournalUnreadableError,
    SoakFailedError,
)
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import INTERRUPTED, OPEN_CHANGE, REVERT_FAILED
from ncen_updater.common.progress import SilentProgress
from tests.faults.cells import Fault, Strike
from tests.faults.full import prepared
from tests.faults.trial import NEW, OLD, Trial
from tests.support.errors import refused
from tests.support.rotation import in_turns
from tests.support.sites import site_in_process
from tests.support.trees import remove_tree


class Killed(BaseException):
    """The end of the process, for a runner that only handles exceptions."""


At = tuple[StepName, StepPhase]


def at(instants: dict[At, Callable[[], None]]) -> Callable[[StepName, StepPhase], None]:
    """Act once at each of these instants."""
    left = dict(instants)

    def checkpoint(step: StepName, phase: StepPhase) -> None:
        act = left.pop((step, phase), None)
        if act is not None:
            act()

    return checkpoint


def kill() -> None:
    raise Killed


def fail() -> None:
    raise RuntimeError("a fault")


@pytest.fixture(scope="module")
def module_trial() -> Iterator[Trial]:
    with prepared("sqlite") as trial:
        yield trial


@pytest.fixture
def trial(module_trial: Trial) -> Trial:
    module_trial.reset()
    return module_trial


def operations(
    trial: Trial,
    instants: dict[At, Callable[[], None]] | None = None,
    interruption: SignalHandler | None = None,
) -> Operations:
    return Operations(
        site_in_process(trial.demo), SilentProgress(), checkpoint=at(instants or {}),
        interruption=interruption,
    )  # fmt: skip


def back_at_old(trial: Trial) -> bool:
    """Whether the old release runs with its every row; what is parked comes on top."""
    rows = digests(trial.demo)
    expected = trial.expected[OLD]
    return version_of(trial.demo).whole == OLD and rows == {**rows, **expected}


def killed_upgrade(trial: Trial, step: StepName, phase: StepPhase) -> None:
    with pytest.raises(Killed):
        operations(trial, {(step, phase): kill}).upgrade()


def test_rollback_after_an_interrupted_commit_lets_users_in(trial: Trial) -> None:
    killed_upgrade(trial, StepName.COMMIT, StepPhase.AFTER_RECORD)
    operations(trial).rollback()
    assert not trial.demo.maintenance_file.exists()
    assert back_at_old(trial)


def test_failed_rollback_after_an_interrupted_commit_starts_the_application(trial: Trial) -> None:
    killed_upgrade(trial, StepName.COMMIT, StepPhase.AFTER_RECORD)
    trial.demo.stop_app()
    with pytest.raises(ChangeFailedError):
        operations(trial, {(StepName.COPY, StepPhase.BEFORE_EFFECT): fail}).rollback()
    assert trial.settle()[0] == NEW


def test_signal_after_the_commit_does_not_lock_users_out(trial: Trial) -> None:
    interruption = SignalHandler()

    def signalled() -> None:
        interruption._on_signal(signal.SIGTERM, None)

    with refused(INTERRUPTED):
        operations(trial, {(StepName.COMMIT, StepPhase.AFTER_RECORD): signalled},
                   interruption).upgrade()  # fmt: skip
    assert not trial.demo.maintenance_file.exists()


def test_restarts_in_the_soak_do_not_count_as_failed_recoveries(trial: Trial) -> None:
    killed_upgrade(trial, StepName.MAINTENANCE_OFF, StepPhase.AFTER_RECORD)
    for _ in range(MAX_RECOVERY_ATTEMPTS + 1):
        operations(trial).resume(by_operator=False, at_boot=True)
    assert trial.settle()[0] == NEW


def test_power_cuts_in_the_recovery_never_block_the_site(trial: Trial) -> None:
    cut = Strike(StepName.MIGRATE, StepPhase.AFTER_EFFECT, Fault.SIGKILL)
    assert "strike" in trial.operate("upgrade", (cut,))
    again = Strike(StepName.COPY, StepPhase.BEFORE_UNDO, Fault.SIGKILL)
    for _ in range(2 * MAX_RECOVERY_ATTEMPTS):
        assert "strike" in trial.operate("resume-auto", (again,))
    with Journal.open(trial.demo.state / JOURNAL_FILE, read_only=True) as journal:
        change = journal.find_open_change()
        assert change is not None
        assert (change.failed_recoveries, change.state) == (0, ChangeState.REVERTING)
    assert trial.settle() == (OLD, 0)


def test_failed_recoveries_are_counted(trial: Trial) -> None:
    killed_upgrade(trial, StepName.MIGRATE, StepPhase.AFTER_EFFECT)
    for number in range(MAX_RECOVERY_ATTEMPTS):
        with refused(REVERT_FAILED):
            operations(trial, {(StepName.COPY, StepPhase.BEFORE_UNDO): fail}).resume(
                by_operator=False
            )
        with Journal.open(trial.demo.state / JOURNAL_FILE, read_only=True) as journal:
            change = journal.find_open_change()
            assert change is not None
            assert change.failed_recoveries == number + 1
    with pytest.raises(InterventionRequiredError):
        operations(trial).resume(by_operator=False)
    operations(trial).resume(by_operator=True)
    assert trial.judge() == OLD


def stuck_after_commit(trial: Trial) -> None:
    killed_upgrade(trial, StepName.MAINTENANCE_OFF, StepPhase.BEFORE_EFFECT)
    for _ in range(MAX_RECOVERY_ATTEMPTS):
        with pytest.raises(RuntimeError):
            operations(trial, {(StepName.MAINTENANCE_OFF, StepPhase.BEFORE_EFFECT): fail}).resume(
                by_operator=False
            )
    with pytest.raises(InterventionRequiredError):
        operations(trial).resume(by_operator=False)


def test_stuck_committed_change_can_be_rolled_back(trial: Trial) -> None:
    stuck_after_commit(trial)
    operations(trial).rollback()
    assert back_at_old(trial)


def test_stuck_committed_change_can_be_confirmed(trial: Trial) -> None:
    stuck_after_commit(trial)
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        confirm_release(journal, "a person")
    operations(trial).resume(by_operator=True)
    assert trial.judge() == NEW


@contextlib.contextmanager
def damaged(file: Path) -> Iterator[None]:
    """One byte too many while the block runs."""
    content, mode = file.read_bytes(), file.stat().st_mode
    file.chmod(0o644)
    file.write_bytes(content + b" ")
    try:
        yield
    finally:
        if file.parent.is_dir():
            file.write_bytes(content)
            file.chmod(mode)


def test_damaged_old_slot_is_retained_until_replaced(trial: Trial) -> None:
    operations(trial).upgrade()
    release = trial.demo.slots / OLD / "app" / "release.json"
    with damaged(release):
        site = site_in_process(trial.demo)
        site.release_source.download_smallest = lambda *_: fail()  # type: ignore[method-assign,assignment]
        with pytest.raises((UpdaterError, RuntimeError)):
            Operations(site, SilentProgress()).rollback()
        assert release.exists()
    operations(trial).rollback()
    assert back_at_old(trial)


def test_deleted_new_slot_does_not_block_the_rollback(trial: Trial) -> None:
    def delete() -> None:
        remove_tree(trial.demo.slots / NEW)

    with pytest.raises(Killed):
        operations(trial, {(StepName.PREFLIGHT, StepPhase.BEFORE_EFFECT): kill}).upgrade()
    operations(trial).resume(by_operator=True)
    site = site_in_process(trial.demo)
    offer = next(o for o in site.release_source.refresh().offers if o.version == NEW)
    fetched = site.release_source.download_release(offer, SilentProgress())
    site.slots.build_slot(fetched.document, fetched.tree, fetched.archive, SilentProgress())
    with pytest.raises(ChangeFailedError):
        operations(trial, {(StepName.SWITCH, StepPhase.BEFORE_EFFECT): delete}).upgrade()
    assert trial.settle()[0] == OLD


@in_turns("ends")
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_manually_removed_maintenance_page_is_handled(trial: Trial, ends: str) -> None:
    trial.demo.maintenance_file.write_text("an operator")
    instants: dict[At, Callable[[], None]] = {
        (StepName.MIGRATE, StepPhase.BEFORE_EFFECT): trial.demo.maintenance_file.unlink
    }
    if ends == "badly":
        instants[StepName.CUT_OVER, StepPhase.BEFORE_EFFECT] = fail
        with pytest.raises(ChangeFailedError):
            operations(trial, instants).upgrade()
    else:
        operations(trial, instants).upgrade()
    trial.demo.maintenance_file.unlink(missing_ok=True)
    assert trial.settle()[0] == (NEW if ends == "well" else OLD)


def test_rollback_checks_the_actual_state_first(trial: Trial) -> None:
    killed_upgrade(trial, StepName.MAINTENANCE_OFF, StepPhase.AFTER_RECORD)
    trial.demo.current.unlink()
    trial.demo.current.symlink_to(trial.demo.slots / OLD)
    with pytest.raises(InterventionRequiredError):
        operations(trial).rollback()


def test_code_and_databases_of_different_releases_stop_everything(trial: Trial) -> None:
    operations(trial).upgrade()
    trial.demo.current.unlink()
    trial.demo.current.symlink_to(trial.demo.slots / OLD)
    with pytest.raises(InterventionRequiredError):
        operations(trial).upgrade()
    with pytest.raises(InterventionRequiredError):
        operations(trial).rollback()


def test_journal_from_before_the_last_change_is_detected(trial: Trial) -> None:
    old = trial.demo.root / "old-journal"
    shutil.copy(trial.demo.state / JOURNAL_FILE, old)
    operations(trial).upgrade()
    shutil.copy(old, trial.demo.state / JOURNAL_FILE)
    with pytest.raises(InterventionRequiredError):
        operations(trial).resume(by_operator=True)


def test_bad_release_is_recorded_despite_an_interrupted_revert(trial: Trial) -> None:
    from ncen_updater.agent.model.errors import MigrationFailedError

    def broken() -> None:
        raise MigrationFailedError(database="cases", migration="1")

    with pytest.raises(Killed):
        operations(trial, {(StepName.MIGRATE, StepPhase.BEFORE_EFFECT): broken,
                           (StepName.COPY, StepPhase.BEFORE_UNDO): kill}).upgrade()  # fmt: skip
    assert trial.settle()[0] == OLD
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        assert [bad.version for bad in SiteHistory(journal).list_bad_releases()] == [NEW]


def test_damaged_release_can_be_rolled_back(trial: Trial) -> None:
    operations(trial).upgrade()
    with damaged(trial.demo.slots / NEW / "app" / "bin" / "ncenctl"):
        operations(trial).rollback()
    assert back_at_old(trial)


@in_turns("ends")
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_clock_set_back_yields_no_negative_downtime(trial: Trial, ends: str) -> None:
    """The stop is measured all the same; what only the records tell is not known."""
    back = timedelta()

    def set_back() -> None:
        nonlocal back
        back = timedelta(days=1)

    instants: dict[At, Callable[[], None]] = {(StepName.COPY, StepPhase.BEFORE_EFFECT): set_back}
    if ends == "badly":
        instants[StepName.CUT_OVER, StepPhase.BEFORE_EFFECT] = fail
    clock = SystemClock(now=lambda: datetime.now(UTC) - back)
    site = dataclasses.replace(site_in_process(trial.demo), clock=clock)
    with contextlib.suppress(ChangeFailedError):
        Operations(site, SilentProgress(), checkpoint=at(instants)).upgrade()
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        outcome = read_outcome(journal, journal.list_changes(1)[0].id)
    assert outcome.change.state is (
        ChangeState.FINISHED if ends == "well" else ChangeState.REVERTED
    )
    assert outcome.downtime_s is not None and 0 < outcome.downtime_s < 3600
    assert "copy" not in outcome.step_s
    assert all(seconds >= 0 for seconds in outcome.step_s.values())


@in_turns("odd")
@pytest.mark.parametrize("odd", ["yesterday", 7, None, "2026-01-01T00:00:00", []])
def test_invalid_soak_start_makes_the_journal_unreadable(trial: Trial, odd: object) -> None:
    killed_upgrade(trial, StepName.SOAK, StepPhase.BEFORE_EFFECT)
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        change = journal.list_changes(1)[0].id
        good = journal.read_facts(change).soak_started_at
        with journal.transaction() as connection:
            connection.execute(
                "UPDATE facts SET value = ? WHERE change = ? AND name = 'soak_started_at'",
                (json.dumps(odd), change),
            )
    if odd is not None:
        with pytest.raises(JournalUnreadableError):
            operations(trial).resume(by_operator=True)
        with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
            journal.store_facts(change, ChangeFacts(soak_started_at=good))
    assert trial.settle()[0] == NEW


def test_failed_soak_survives_a_kill(trial: Trial) -> None:
    killed_upgrade(trial, StepName.SOAK, StepPhase.BEFORE_EFFECT)
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        journal.store_facts(
            journal.list_changes(1)[0].id, ChangeFacts(soak_error=LazyText("status 503"))
        )
    with pytest.raises(SoakFailedError, match="status 503"):
        operations(trial).resume(by_operator=True)
    assert back_at_old(trial)


def test_previous_databases_are_pruned_after_their_retention(trial: Trial) -> None:
    operations(trial).upgrade()
    # By the monotonic clock: the wall clock alone drops nothing.
    later = SystemClock(
        now=lambda: datetime.now(UTC) + timedelta(days=30),
        monotonic=lambda: time.monotonic() + 30 * 86_400,
    )
    site = dataclasses.replace(site_in_process(trial.demo), clock=later)
    Operations(site, SilentProgress()).rollback()
    with Journal.open(trial.demo.state / JOURNAL_FILE) as journal:
        rollback, upgrade = journal.list_changes(2)
        kept = {
            row.change: row.dropped_at is None
            for row in SiteHistory(journal).list_previous_databases()
        }
    assert kept == {upgrade.id: False, rollback.id: True}
    assert {change for change, _, _ in site.database_engine.list_leftovers()} == {rollback.id}
    assert back_at_old(trial)


def test_repeated_rollback_command_rolls_back_once(trial: Trial) -> None:
    operations(trial).upgrade()
    with pytest.raises(Killed):
        operations(trial, {(StepName.SOAK, StepPhase.BEFORE_EFFECT): kill}).rollback()
    with refused(OPEN_CHANGE):
        operations(trial).rollback()
    assert trial.settle()[0] == OLD
