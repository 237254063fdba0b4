"""Tests of the old files of a group: buffers in memory, and on disk."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from pathlib import Path

from ncen_updater.formats.delta.apply import GroupReference, VerifiedFiles
from ncen_updater.formats.delta.pack_plan import FileReference
from tests.formats.delta.factories import jar, write


def test_large_archive_members_are_buffered_on_disk(tmp_path: Path) -> None:
    tree = write(tmp_path / "old", {"a.jar": jar({"large": bytes(64 << 20)})})
    (tmp_path / "new").mkdir()
    tracemalloc.start()
    try:
        with (
            closing(VerifiedFiles(tmp_path / "old", tree)) as origin,
            closing(
                GroupReference(origin, (FileReference(0, (0,)),), tmp_path / "new")
            ) as reference,
        ):
            _, most = tracemalloc.get_traced_memory()
            assert reference.size > 64 << 20
    finally:
        tracemalloc.stop()
    assert most < 16 << 20
