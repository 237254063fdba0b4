"""Tests of a disk that really fills up in the downtime, on a small file system."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.model.change import ChangeState, StepName, StepPhase
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import ChangeFailedError, JournalUnwritableError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.journal_file import (
    RESERVE_BYTES,
    create_reserve,
    get_reserve_path,
    release_reserve,
)
from tests.agent.engine.test_runner import CHANGE, Trial


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Eight megabytes."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(where)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"no file system of our own can be mounted: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def fill(directory: Path) -> None:
    """Write until not one more block fits."""
    with (directory / "rubbish").open("ab", buffering=0) as stream:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(stream.fileno(), bytes(block))
            except OSError:
                continue


@pytest.mark.parametrize("step", [StepName.COPY, StepName.CUT_OVER, StepName.HEALTH])
def test_full_disk_in_the_downtime_reverts(small_disk: Path, step: StepName) -> None:
    with Journal.create(small_disk / "journal.sqlite") as journal:
        trial = Trial(journal)

        def strike(at: StepName, phase: StepPhase) -> None:
            if (at, phase) == (step, StepPhase.BEFORE_EFFECT):
                fill(small_disk)

        with pytest.raises(ChangeFailedError, match="journal"):
            trial.runner(checkpoint=strike).run_change(CHANGE.id)
        assert trial.state() is ChangeState.REVERTED
        assert "undo maintenance-on" in trial.calls
        assert not get_reserve_path(journal.path).exists()
        journal.verify_chain()


def test_step_that_fills_the_disk_reverts(small_disk: Path) -> None:
    with Journal.create(small_disk / "journal.sqlite") as journal:
        trial = Trial(journal)
        copy = trial.steps[StepName.COPY]

        def copied(context: object) -> ChangeFacts:
            fill(small_disk)
            raise OSError(errno.ENOSPC, "no room for the copy")

        copy.do = copied  # type: ignore[method-assign]
        with pytest.raises(ChangeFailedError, match="no room for the copy"):
            trial.runner().run_change(CHANGE.id)
        assert trial.state() is ChangeState.REVERTED
        assert "undo maintenance-on" in trial.calls


def test_full_disk_after_the_commit_lets_users_in(small_disk: Path) -> None:
    with Journal.create(small_disk / "journal.sqlite") as journal:
        trial = Trial(journal)

        def strike(at: StepName, phase: StepPhase) -> None:
            if (at, phase) == (StepName.COMMIT, StepPhase.AFTER_RECORD):
                fill(small_disk)

        trial.runner(checkpoint=strike).run_change(CHANGE.id)
        assert trial.state() is ChangeState.FINISHED
        assert StepName.MAINTENANCE_OFF in trial.calls


def test_resume_on_a_full_disk_reverts(small_disk: Path) -> None:
    class Power(BaseException):
        """Nothing is undone."""

    def strike(at: StepName, phase: StepPhase) -> None:
        if (at, phase) == (StepName.COPY, StepPhase.AFTER_EFFECT):
            fill(small_disk)
            raise Power

    with Journal.create(small_disk / "journal.sqlite") as journal:
        trial = Trial(journal)
        with pytest.raises(Power):
            trial.runner(checkpoint=strike).run_change(CHANGE.id)
        runner = trial.runner()
        runner.record_recovery(CHANGE.id)
        assert [e.kind for e in journal.list_events(change=CHANGE.id)][-1] == "recovery"
        runner.revert(CHANGE.id)
        assert trial.state() is ChangeState.REVERTED


def test_change_does_not_start_without_the_reserve(small_disk: Path) -> None:
    with Journal.create(small_disk / "journal.sqlite") as journal:
        trial = Trial(journal)
        (small_disk / "rubbish").write_bytes(bytes((8 << 20) - RESERVE_BYTES))
        with pytest.raises(JournalUnwritableError):
            trial.runner().run_change(CHANGE.id)
        assert trial.calls == []
        assert trial.state() is ChangeState.REVERTED


def test_reserve_is_allocated_once(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    path = get_reserve_path(journal)
    path.write_bytes(b"torn")
    create_reserve(journal)
    before = path.stat()
    assert before.st_size == RESERVE_BYTES
    create_reserve(journal)
    assert path.stat().st_ino == before.st_ino
    assert release_reserve(journal)
    assert not path.exists()
    assert not release_reserve(journal)
