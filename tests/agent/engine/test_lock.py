"""Tests of the change lock, whatever happens to its file."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.engine.lock import hold_change_lock, read_lock_holder
from ncen_updater.agent.model.errors import LockUnusableError, SiteBusyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "change.lock"


def test_one_change_at_a_time(path: Path) -> None:
    with hold_change_lock(path, "upgrade"):
        assert f"upgrade, process {os.getpid()}" == read_lock_holder(path)
        with (
            pytest.raises(SiteBusyError, match="upgrade, process"),
            hold_change_lock(path, "other"),
        ):
            pass
    assert read_lock_holder(path) is None
    with hold_change_lock(path, "again"):
        pass


def test_foreign_probe_is_not_a_lock_holder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    refused: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        if len(refused) < 2:
            refused.append(operation)
            raise BlockingIOError
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_change_lock(path, "upgrade"):
        assert len(refused) == 2


def test_deleted_lock_file_admits_no_second_change(path: Path) -> None:
    with hold_change_lock(path, "upgrade"):
        path.unlink()
        with pytest.raises(SiteBusyError), hold_change_lock(path, "other"):
            pass


def test_directory_without_lock_support_is_reported(path: Path) -> None:
    path.parent.write_text("a file where the state directory belongs")
    with pytest.raises(LockUnusableError), hold_change_lock(path, "upgrade"):
        pass


def test_full_disk_is_reported(path: Path) -> None:
    path.parent.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(LockUnusableError), hold_change_lock(path, "upgrade"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_error_under_the_lock_is_reported_unchanged(path: Path) -> None:
    with pytest.raises(OSError, match="mine"), hold_change_lock(path, "upgrade"):
        raise OSError("mine")


def test_disk_filled_later_does_not_block_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, on a disk that others fill: the holder of the lock releases no space."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path.parent.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(path.parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    try:
        with hold_change_lock(path, "upgrade with a long name"):
            pass
        with (path.parent / "filler").open("wb", buffering=0) as filler:
            with pytest.raises(OSError, match="No space"):
                while True:
                    filler.write(bytes(4096))
            write = os.pwrite

            def after_others(descriptor: int, data: bytes, offset: int) -> int:
                with pytest.raises(OSError, match="No space"):
                    filler.write(bytes(4096))
                return write(descriptor, data, offset)

            monkeypatch.setattr(os, "pwrite", after_others)
            with hold_change_lock(path, "resume"):
                assert read_lock_holder(path) == f"resume, process {os.getpid()}"
    finally:
        subprocess.run(["umount", "-l", str(path.parent)], check=True)
