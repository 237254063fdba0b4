"""One at a time, whatever happens to the lock's file."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from pathlib import Path

import pytest

from ncen_updater.upgrade.errors import Busy, LockUnusable
from ncen_updater.upgrade.lock import change_lock, lock_holder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "change.lock"


def test_one_at_a_time(path: Path) -> None:
    with change_lock(path, "upgrade"):
        assert f"upgrade, process {os.getpid()}" == lock_holder(path)
        with pytest.raises(Busy, match="upgrade, process"), change_lock(path, "other"):
            pass
    assert lock_holder(path) is None
    with change_lock(path, "again"):
        pass


def test_somebodys_look_is_no_holder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    refused: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        if len(refused) < 2:
            refused.append(operation)
            raise BlockingIOError
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with change_lock(path, "upgrade"):
        assert len(refused) == 2


def test_a_deleted_file_lets_no_second_one_in(path: Path) -> None:
    with change_lock(path, "upgrade"):
        path.unlink()
        with pytest.raises(Busy), change_lock(path, "other"):
            pass


def test_a_directory_that_takes_no_lock_is_told_plainly(path: Path) -> None:
    path.parent.write_text("a file where the state directory belongs")
    with pytest.raises(LockUnusable), change_lock(path, "upgrade"):
        pass


def test_a_full_disk_is_told_plainly(path: Path) -> None:
    path.parent.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(LockUnusable), change_lock(path, "upgrade"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_fails_under_the_lock_is_told_as_it_is(path: Path) -> None:
    with pytest.raises(OSError, match="mine"), change_lock(path, "upgrade"):
        raise OSError("mine")
