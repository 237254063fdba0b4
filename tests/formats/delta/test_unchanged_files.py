"""Tests of copying unchanged files: no service can write through a second name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.messages import OLD_FILE_ALTERED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.delta import pack_builder as make
from ncen_updater.formats.delta.apply import FileSharing, VerifiedFiles, apply_pack, is_link_safe
from ncen_updater.formats.delta.pack_plan import LinkMode
from ncen_updater.formats.tree import Tree
from tests.formats.delta.factories import Files, Mode, write
from tests.support.errors import refused

USER, OTHER = 1000, 1001
FILE, PIPE = stat.S_IFREG, stat.S_IFIFO


def _info(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, owner, 0, 1, 0, 0, 0))


@pytest.mark.parametrize(
    ("there", "owner", "mode", "linking", "answer"),
    [
        (FILE | 0o444, 0, 0o644, LinkMode.SAFE, True),
        (FILE | 0o555, 0, 0o755, LinkMode.SAFE, True),
        (FILE | 0o444, 0, 0o444, LinkMode.SAFE, True),
        (FILE | 0o444, USER, 0o644, LinkMode.SAFE, False),
        (FILE | 0o444, USER, 0o644, LinkMode.SEALED, True),
        (FILE | 0o444, OTHER, 0o644, LinkMode.SEALED, False),
        (FILE | 0o644, 0, 0o644, LinkMode.SEALED, False),
        (FILE | 0o464, 0, 0o464, LinkMode.SEALED, False),
        (FILE | 0o444, 0, 0o755, LinkMode.SEALED, False),  # would be changed for both
        (FILE | 0o4555, 0, 0o755, LinkMode.SEALED, False),
        (PIPE | 0o444, 0, 0o644, LinkMode.SEALED, False),
    ],
)
def test_safe_links_are_decided(
    there: int, owner: int, mode: int, linking: LinkMode, answer: bool
) -> None:
    assert is_link_safe(_info(there, owner), mode, USER, linking) is answer


FILES: Files = {"d/a": Mode(b"a" * 3000, 0o444), "d/w": Mode(b"w" * 3000, 0o644)}


class Place:
    """An old slot, and an empty new one on a file system that cannot share blocks, or can."""

    def __init__(self, root: Path, origin: VerifiedFiles, below: DirectoryHandle) -> None:
        self.old, self.new, self.origin, self.below = root / "old", root / "new", origin, below
        below.make_directory("d")

    def take(self, linking: LinkMode, index: int = 1) -> tuple[os.stat_result, os.stat_result]:
        """Take a file over; return what both names lead to."""
        path = self.origin.get_entry(index).path
        mode = self.origin.get_entry(index).mode
        FileSharing(self.origin, self.below, linking).share_file(index, path, mode)
        assert (self.new / path).read_bytes() == (self.old / path).read_bytes()
        return (self.old / path).stat(), (self.new / path).stat()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tree: Tree = write(tmp_path / "old", FILES)
    (tmp_path / "new").mkdir()
    with (
        closing(VerifiedFiles(tmp_path / "old", tree)) as origin,
        closing(DirectoryHandle(tmp_path / "new")) as below,
    ):
        yield Place(tmp_path, origin, below)


def _no_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file system be one that cannot share blocks, whatever it is here."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.ioctl", refuse)


def test_read_only_files_are_linked_where_permitted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)
    old, new = place.take(LinkMode.SEALED)
    assert os.path.samestat(old, new)


def test_writable_files_are_copied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_clones(monkeypatch)
    old, new = place.take(LinkMode.SEALED, index=2)
    assert not os.path.samestat(old, new)
    assert stat.S_IMODE(new.st_mode) == 0o644


def test_file_system_without_links_uses_copies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    old, new = place.take(LinkMode.SEALED)
    assert not os.path.samestat(old, new)


def test_file_replaced_after_hashing_is_not_linked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)
    real = os.link

    def swapped(*arguments: object, **more: object) -> None:
        path = place.old / "d/a"
        path.unlink()
        path.write_bytes(b"b" * 3000)
        path.chmod(0o444)
        real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", swapped)
    with refused(OLD_FILE_ALTERED):
        place.take(LinkMode.SEALED)
    assert list((place.new / "d").iterdir()) == []


@pytest.mark.parametrize("linking", list(LinkMode))
def test_altered_file_is_refused(place: Place, linking: LinkMode) -> None:
    path = place.old / "d/a"
    path.chmod(0o644)
    path.write_bytes(b"b" * 3000)
    path.chmod(0o444)
    with refused(OLD_FILE_ALTERED):
        place.take(linking)


def test_publisher_verification_links_read_only_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)
    trees = [
        write(tmp_path / name, {**FILES, "new": name.encode() * 2000}) for name in ("old", "new")
    ]
    links: dict[str, int] = {}

    def looked_at(pack: Path, old: Path, old_tree: Tree, destination: Path, *rest: Any) -> Tree:
        made = apply_pack(pack, old, old_tree, destination, *rest)
        links.update({path: (destination / path).stat().st_nlink for path in ("d/a", "d/w", "new")})
        return made

    monkeypatch.setattr(make, "apply_pack", looked_at)
    old, new = tmp_path / "old", tmp_path / "new"
    make.build_pack(old, trees[0], new, trees[1], tmp_path / "pack", SilentProgress())
    assert links == {"d/a": 2, "d/w": 1, "new": 1}
    assert (old / "d/a").stat().st_nlink == 1
