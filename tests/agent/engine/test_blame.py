"""Tests of blaming a release, and never for signals, lost servers or full disks; at each step."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
from ncen_updater.agent.adapters.databases.postgresql.dialect import classify_sqlstate
from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect
from ncen_updater.agent.engine.change_runner import is_release_at_fault
from ncen_updater.agent.engine.signal_handling import SignalHandler
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.model.change import STEPS_BEFORE_COMMIT, UNINTERRUPTIBLE_STEPS, StepName
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import (
    ApplicationError,
    ApplicationUnhealthyError,
    ChangeFailedError,
    CommandError,
    DatabaseError,
    DatabaseUnreachableError,
    DomainChecksError,
    MigrationFailedError,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import InsufficientSpaceError, UpdaterError
from ncen_updater.common.messages import (
    DATABASE_DISK_FAILED,
    INTERRUPTED,
    SERVER_LOST,
    ErrorMessage,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.migrations.factories import CHANGE as MIGRATED
from tests.agent.adapters.databases.migrations.factories import make
from tests.agent.engine.test_runner import CHANGE, Trial
from tests.support.errors import has_message, refused

WHERE: dict[str, Any] = {"database": "main", "migration": "0002_country"}
NOBODYS = [
    UpdaterError(INTERRUPTED, signal="SIGINT"),
    DatabaseError(SERVER_LOST, **WHERE),
    DatabaseError(DATABASE_DISK_FAILED, **WHERE),
    DatabaseUnreachableError(database="main"),
    DatabaseError(database="main"),
    InsufficientSpaceError(path="/", needed=2, free=1, missing=1),
    ApplicationError(),
    OSError(28, "No space left on device"),
]
ITS_OWN = [
    MigrationFailedError(**WHERE),
    DomainChecksError(problems="x"),
    ApplicationUnhealthyError(product="p", version="v", seconds=1, problems="x"),
]


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with Journal.create(tmp_path / "journal.sqlite") as journal:
        yield Trial(journal)


def barred(trial: Trial) -> bool:
    return bool(SiteHistory(trial.journal).list_bad_releases())


@pytest.mark.parametrize("step", STEPS_BEFORE_COMMIT)
@pytest.mark.parametrize("error", [*NOBODYS, *ITS_OWN], ids=lambda e: type(e).__name__)
def test_blame_depends_on_error_and_step(step: StepName, error: Exception) -> None:
    assert is_release_at_fault(error, step) is (error in ITS_OWN)


def test_failed_start_command_is_blamed_on_the_release() -> None:
    assert is_release_at_fault(CommandError(), StepName.START)
    assert not is_release_at_fault(CommandError(), StepName.STOP)


@pytest.mark.parametrize("name", signal_names := ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("step", [s for s in STEPS_BEFORE_COMMIT if s not in UNINTERRUPTIBLE_STEPS])
def test_signal_wrapped_by_a_library_is_recognised(trial: Trial, step: StepName, name: str) -> None:
    """The rollback of a transaction fails as well, and that is what comes out."""
    interruption = SignalHandler()

    def do(context: StepContext) -> ChangeFacts:
        try:
            interruption._on_signal(signal.Signals[name], None)
        except UpdaterError:
            raise MigrationFailedError(**WHERE, detail="another command is already in progress")  # noqa: B904
        raise AssertionError

    trial.steps[step].do = do  # type: ignore[method-assign]
    with pytest.raises(UpdaterError) as caught:
        trial.runner(interruption=interruption).run_change(CHANGE.id)
    cause = caught.value.__cause__ if isinstance(caught.value, ChangeFailedError) else caught.value
    assert has_message(cause, INTERRUPTED) and name in str(cause)
    assert trial.journal.read_change(CHANGE.id).error_code == INTERRUPTED.code
    assert not barred(trial)


def test_swallowed_signal_ends_the_next_step(trial: Trial) -> None:
    interruption = SignalHandler()
    plain = trial.steps[StepName.COPY].do

    def do(context: StepContext) -> ChangeFacts:
        with pytest.raises(UpdaterError):  # as a callback of a library that swallows it
            interruption._on_signal(signal.SIGTERM, None)
        return plain(context)

    trial.steps[StepName.COPY].do = do  # type: ignore[method-assign]
    with pytest.raises(ChangeFailedError, match="SIGTERM"):
        trial.runner(interruption=interruption).run_change(CHANGE.id)
    assert "migrate" not in trial.calls and "undo copy" in trial.calls


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


def runner_on(path: Path, prepare: Callable[[sqlite3.Connection], object]) -> MigrationRunner:
    class Prepared(SqliteDialect):
        def connect(self) -> sqlite3.Connection:
            driver = super().connect()
            prepare(driver)
            return driver

    sqlite3.connect(path).close()
    return MigrationRunner(Prepared(path), "main")


@pytest.mark.parametrize("name", signal_names)
def test_signal_interrupts_a_sqlite_statement(tmp_path: Path, name: str) -> None:
    """It is raised inside the library's own callback, which makes a time-out of it."""
    begun = threading.Event()

    def watch(driver: sqlite3.Connection) -> None:
        driver.set_trace_callback(lambda sql: begun.set() if "RECURSIVE" in sql else None)

    def ask() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.Signals[name])

    interruption = SignalHandler()
    runner = runner_on(tmp_path / "main.sqlite", watch)
    items = [make(tmp_path, "0001_endless", ENDLESS)]
    asking = threading.Thread(target=ask)
    with interruption.handle_signals(), refused(INTERRUPTED), interruption.allow_interruption():
        asking.start()
        runner.migrate(MIGRATED, items, None, SilentProgress())
    asking.join()
    assert runner.read_ledger() == ()


def test_full_disk_below_sqlite_is_not_blamed_on_the_release(tmp_path: Path) -> None:
    path = tmp_path / "main.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")
    runner = runner_on(path, lambda driver: driver.execute("PRAGMA max_page_count = 12"))
    fills = "INSERT INTO t SELECT randomblob(1000000)"
    with refused(DATABASE_DISK_FAILED) as caught:
        runner.migrate(MIGRATED, [make(tmp_path, "0001_fills", fills)], None, SilentProgress())
    assert has_message(caught.value, DATABASE_DISK_FAILED)
    assert "full" in str(caught.value)


@pytest.mark.parametrize(
    ("state", "closed", "message"),
    [
        ("57P01", True, SERVER_LOST),
        ("57P02", True, SERVER_LOST),
        ("57P03", False, SERVER_LOST),
        ("08006", True, SERVER_LOST),
        ("08P01", False, SERVER_LOST),
        (None, True, SERVER_LOST),
        ("53100", False, DATABASE_DISK_FAILED),
        ("53200", False, DATABASE_DISK_FAILED),
        ("58030", False, DATABASE_DISK_FAILED),
        ("58P01", False, None),  # a file that it names is not there
        (None, False, None),
        ("57014", False, None),  # the time that its author gave is over
        ("55P03", False, None),  # a lock that it waits for
        ("42703", False, None),
        ("23505", False, None),
        ("25006", True, None),
    ],
)
def test_sqlstate_is_classified(
    state: str | None, closed: bool, message: ErrorMessage | None
) -> None:
    assert classify_sqlstate(state, closed=closed) is message
