"""Tests of the removal of entries that other users may change meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.atomic_files import remove_entry, write_file
from ncen_updater.common.disk_space import find_disk_full_error


def test_removal_follows_no_link_that_replaces_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "inner").mkdir(parents=True)
    outside.mkdir()
    outside.chmod(0o755)
    (outside / "record").touch()
    calls: list[object] = []

    def replacing(change_mode: Callable[..., None]) -> Callable[..., None]:
        def change(*arguments: Any) -> None:
            calls.append(arguments)
            if len(calls) == 2:  # that of the inner directory
                (tree / "inner").rename(tmp_path / "moved")
                (tree / "inner").symlink_to(outside)
            change_mode(*arguments)

        return change

    monkeypatch.setattr(os, "fchmod", replacing(os.fchmod))
    monkeypatch.setattr(Path, "chmod", replacing(Path.chmod))
    remove_entry(tree)
    assert len(calls) == 2
    assert not tree.exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert (outside / "record").exists()


def test_removal_of_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    remove_entry(tmp_path / "none")
    (tmp_path / "link").symlink_to(tmp_path)
    remove_entry(tmp_path / "link")
    assert [*tmp_path.iterdir()] == []


def test_full_disk_is_reported_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: "Disk full: cannot write -"; the kernel does not name the file of a descriptor."""

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space left") as caught:
        write_file(tmp_path / "view.json", b"{}")
    full = find_disk_full_error(caught.value)
    assert full is not None
    assert full.values["path"] == str(tmp_path / "view.json")
    assert list(tmp_path.iterdir()) == []
