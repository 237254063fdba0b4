"""Tests of writing a bundle: never over another file, and not where there is no space."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ncen_updater.common.messages import FILE_EXISTS, FILE_TOO_LARGE
from tests.formats.bundle.conftest import Publication
from tests.support.errors import refused


def test_existing_file_is_not_overwritten(shared: Publication, tmp_path: Path) -> None:
    place = tmp_path / "ke.ncen"
    place.write_bytes(b"something else")
    with refused(FILE_EXISTS):
        shared.export(place)
    assert place.read_bytes() == b"something else"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse larger files, with the error of a file system that holds none."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_bundle_is_split_for_fat32(shared: Publication, tmp_path: Path) -> None:
    """A stick is sold with FAT32, which holds no file of 4 GB."""
    with no_file_larger_than(20_000), refused(FILE_TOO_LARGE, match="File system") as caught:
        shared.export(tmp_path / "ke.ncen")
    assert "exFAT" in str(caught.value.remedy_text)
    assert not list(tmp_path.iterdir())
