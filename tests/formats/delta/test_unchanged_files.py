"""How unchanged files come over: never so that a service could write through a second name."""

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
from ncen_updater.common.progress import Silent
from ncen_updater.formats.delta import make
from ncen_updater.formats.delta.apply import Sharing, apply_delta, may_link
from ncen_updater.formats.delta.model import Linking
from ncen_updater.formats.delta.old_slot import Origin
from ncen_updater.formats.tree import Tree
from tests.formats.delta.making import Files, Mode, write
from tests.support.errors import refused

USER, OTHER = 1000, 1001
FILE, PIPE = stat.S_IFREG, stat.S_IFIFO


def _info(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, owner, 0, 1, 0, 0, 0))


@pytest.mark.parametrize(
    ("there", "owner", "mode", "linking", "answer"),
    [
        (FILE | 0o444, 0, 0o644, Linking.SAFE, True),
        (FILE | 0o555, 0, 0o755, Linking.SAFE, True),
        (FILE | 0o444, 0, 0o444, Linking.SAFE, True),
        (FILE | 0o444, 0, 0o644, Linking.COPY, False),
        (FILE | 0o444, USER, 0o644, Linking.SAFE, False),
        (FILE | 0o444, USER, 0o644, Linking.SEALED, True),
        (FILE | 0o444, OTHER, 0o644, Linking.SEALED, False),
        (FILE | 0o644, 0, 0o644, Linking.SEALED, False),
        (FILE | 0o464, 0, 0o464, Linking.SEALED, False),
        (FILE | 0o444, 0, 0o755, Linking.SEALED, False),  # would be changed for both
        (FILE | 0o4555, 0, 0o755, Linking.SEALED, False),
        (PIPE | 0o444, 0, 0o644, Linking.SEALED, False),
    ],
)
def test_may_link(there: int, owner: int, mode: int, linking: Linking, answer: bool) -> None:
    assert may_link(_info(there, owner), mode, USER, linking) is answer


FILES: Files = {"d/a": Mode(b"a" * 3000, 0o444), "d/w": Mode(b"w" * 3000, 0o644)}


class Place:
    """An old slot, and an empty new one on a file system that cannot share blocks, or can."""

    def __init__(self, root: Path, origin: Origin, below: DirectoryHandle) -> None:
        self.old, self.new, self.origin, self.below = root / "old", root / "new", origin, below
        below.make("d")

    def take(self, linking: Linking, index: int = 1) -> tuple[os.stat_result, os.stat_result]:
        """Take a file over; return what both names lead to."""
        path = self.origin.entry(index).path
        mode = self.origin.entry(index).mode
        Sharing(self.origin, self.below, linking).take_over(index, path, mode)
        assert (self.new / path).read_bytes() == (self.old / path).read_bytes()
        return (self.old / path).stat(), (self.new / path).stat()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tree: Tree = write(tmp_path / "old", FILES)
    (tmp_path / "new").mkdir()
    with (
        closing(Origin(tmp_path / "old", tree)) as origin,
        closing(DirectoryHandle(tmp_path / "new")) as below,
    ):
        yield Place(tmp_path, origin, below)


def _no_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file system be one that cannot share blocks, whatever it is here."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.ioctl", refuse)


def test_read_only_files_are_linked_where_the_site_allows_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)
    old, new = place.take(Linking.SEALED)
    assert os.path.samestat(old, new)


def test_files_that_may_be_written_to_are_copied(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)
    old, new = place.take(Linking.SEALED, index=2)
    assert not os.path.samestat(old, new)
    assert stat.S_IMODE(new.st_mode) == 0o644


def test_copies_are_copies(place: Place) -> None:
    old, new = place.take(Linking.COPY)
    assert not os.path.samestat(old, new)


def test_without_links_on_the_file_system_it_is_a_copy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    old, new = place.take(Linking.SEALED)
    assert not os.path.samestat(old, new)


def test_a_file_put_in_the_place_of_the_one_that_was_hashed_is_not_linked(
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
        place.take(Linking.SEALED)
    assert list((place.new / "d").iterdir()) == []


@pytest.mark.parametrize("linking", list(Linking))
def test_an_altered_file_never_comes_over(place: Place, linking: Linking) -> None:
    path = place.old / "d/a"
    path.chmod(0o644)
    path.write_bytes(b"b" * 3000)
    path.chmod(0o444)
    with refused(OLD_FILE_ALTERED):
        place.take(linking)


def test_the_publishers_proof_shares_what_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_clones(monkeypatch)
    trees = [
        write(tmp_path / name, {**FILES, "new": name.encode() * 2000}) for name in ("old", "new")
    ]
    links: dict[str, int] = {}

    def looked_at(pack: Path, old: Path, old_tree: Tree, place: Path, *rest: Any) -> Tree:
        made = apply_delta(pack, old, old_tree, place, *rest)
        links.update({path: (place / path).stat().st_nlink for path in ("d/a", "d/w", "new")})
        return made

    monkeypatch.setattr(make, "apply_delta", looked_at)
    old, new = tmp_path / "old", tmp_path / "new"
    make.make_delta(old, trees[0], new, trees[1], tmp_path / "pack", Silent())
    assert links == {"d/a": 2, "d/w": 1, "new": 1}
    assert (old / "d/a").stat().st_nlink == 1
