"""Tests of archives against the signed tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.common.errors import InsufficientSpaceError, UpdaterError
from ncen_updater.common.messages import (
    ARCHIVE_DAMAGED,
    ARCHIVE_MISMATCH,
    DESTINATION_IN_USE,
    ExitCode,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry, scan_tree
from tests.support.errors import has_message, refused
from tests.support.tuf_repository import pack

LONG = "d/" + "n" * 150 + "/é"
FILES: dict[str, bytes] = {
    "a": b"",
    "d/b": b"bee" * 1000,
    LONG: b"long",
    "z": os.urandom(2_500_000),
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, bytes]:
    """A tree with every type of entry, and its archive."""
    source = tmp_path_factory.mktemp("sample")
    for name, content in FILES.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o640)
    (source / "z").chmod(0o755)
    (source / "d").chmod(0o755)
    (source / "d/link").symlink_to("../z")
    (source / "e").mkdir(mode=0o550)
    tree = scan_tree(source)
    return tree, pack(tree, source)


def test_archive_yields_exactly_the_tree(tmp_path: Path, sample: tuple[Tree, bytes]) -> None:
    tree, content = sample
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(content)
    unpack_archive(archive, tree, tmp_path / "new", SilentProgress())
    assert scan_tree(tmp_path / "new") == tree
    (tmp_path / "empty").mkdir()
    unpack_archive(archive, tree, tmp_path / "empty", SilentProgress())
    assert scan_tree(tmp_path / "empty") == tree


Members = list[tuple[tarfile.TarInfo, bytes]]


def _members(content: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        return [
            (info, stream.read() if (stream := tar.extractfile(info)) and info.isreg() else b"")
            for info in tar.getmembers()
        ]


def _packed(members: Members, tail: bytes = b"") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue() + tail, 1)


def _file(name: str, data: bytes = b"", mode: int = 0o644, **more: object) -> Members:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    for key, value in more.items():
        setattr(info, key, value)
    return [(info, data)]


def _at(members: Members, name: str) -> int:
    return next(i for i, (info, _) in enumerate(members) if info.name == name)


def _set(name: str, /, **changes: object) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        index = _at(members, name)
        info, data = members[index]
        for key, value in changes.items():
            setattr(info, key, value)
        if info.type == tarfile.REGTYPE:
            data = (data + b"\0" * info.size)[: info.size]
        members[index] = (info, data)
        return members

    return change


def _content(name: str, data: bytes) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        members[_at(members, name)] = (members[_at(members, name)][0], data)
        return members

    return change


ATTACKS: dict[str, Callable[[Members], Members]] = {
    "extra file": lambda m: m + _file("more", b"more"),
    "missing file": lambda m: [x for x in m if x[0].name != "d/b"],
    "missing link": lambda m: [x for x in m if x[0].name != "d/link"],
    "named twice": lambda m: [*m, m[_at(m, "a")]],
    "climbs out": lambda m: _file("../out", b"x") + m,
    "climbs out inside": lambda m: m + _file("d/../../out", b"x"),
    "absolute": lambda m: _file("/tmp/ncen-absolute", b"x") + m,
    "other spelling": _set("a", name="./a"),
    "other case": _set("a", name="A"),
    "setuid": _set("z", mode=0o4755),
    "other mode": _set("z", mode=0o777),
    "other directory mode": _set("e", mode=0o777),
    "other content": _content("d/b", b"BEE" * 1000),
    "longer": _set("d/b", size=3001),
    "shorter": _set("d/b", size=2999),
    "file as directory": _set("a", type=tarfile.DIRTYPE),
    "file as link": _set("a", type=tarfile.SYMTYPE, linkname="z"),
    "directory as file": _set("e", type=tarfile.REGTYPE),
    "link elsewhere": _set("d/link", linkname="../../../etc/passwd"),
    "directory as link": _set("d", type=tarfile.SYMTYPE, linkname="/tmp"),
    "hard link": _set("a", type=tarfile.LNKTYPE, linkname="z"),
    "fifo": _set("a", type=tarfile.FIFOTYPE),
    "device": _set("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "sparse": _set("a", type=tarfile.GNUTYPE_SPARSE),
    "nothing": lambda _: [],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_archive_differing_from_the_tree_is_refused(
    tmp_path: Path, sample: tuple[Tree, bytes], name: str
) -> None:
    tree, content = sample
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(_packed(ATTACKS[name](_members(content))))
    before = sorted(tmp_path.iterdir())
    with refused(ARCHIVE_MISMATCH) as caught:
        unpack_archive(archive, tree, tmp_path / "new", SilentProgress())
    assert caught.value.exit_code is ExitCode.TRUST
    assert sorted(tmp_path.iterdir()) == before
    assert not Path("/tmp/ncen-absolute").exists()


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -8, -1])
def test_truncated_archive_is_refused(
    tmp_path: Path, sample: tuple[Tree, bytes], keep: float
) -> None:
    tree, content = sample
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(content[: int(len(content) * keep) if 0 < keep < 1 else int(keep)])
    with refused(ARCHIVE_DAMAGED):
        unpack_archive(archive, tree, tmp_path / "new", SilentProgress())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", [0, 0.5, -6])
def test_flipped_byte_is_refused(tmp_path: Path, sample: tuple[Tree, bytes], place: float) -> None:
    tree, content = sample
    damaged = bytearray(content)
    damaged[int(len(content) * place) if 0 < place < 1 else int(place)] ^= 0x55
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(damaged)
    with refused(ARCHIVE_DAMAGED, ARCHIVE_MISMATCH):
        unpack_archive(archive, tree, tmp_path / "new", SilentProgress())
    assert not (tmp_path / "new").exists()


def _bomb_file() -> bytes:
    return _packed(_file("a", bytes(200 << 20)))


def _bomb_tail() -> bytes:
    return _packed(_file("a"), tail=bytes(200 << 20))


def _bomb_header() -> bytes:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 200 << 20
    raw = long.tobuf(tarfile.GNU_FORMAT) + b"n" * long.size
    return gzip.compress(raw, 1)


@pytest.mark.parametrize("bomb", [_bomb_file, _bomb_tail, _bomb_header])
def test_reading_stops_at_the_signed_size(tmp_path: Path, bomb: Callable[[], bytes]) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(bomb())
    empty = hashlib.sha256().hexdigest()
    tree = Tree(entries=(TreeEntry(path="a", type=EntryType.FILE, mode=0o644, sha256=empty),))
    tracemalloc.start()
    with refused(ARCHIVE_MISMATCH):
        unpack_archive(archive, tree, tmp_path / "new", SilentProgress())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert not (tmp_path / "new").exists()


def test_hostile_tree_does_not_escape(tmp_path: Path) -> None:
    """Trees are checked when they are read; this room does not rely on it."""
    digest = hashlib.sha256(b"x").hexdigest()
    archive = tmp_path / "x.tar.gz"
    link = TreeEntry(path="out", type=EntryType.SYMLINK, mode=0o777, target=str(tmp_path))
    for path in ("../out", "out/planted", "/tmp/ncen-absolute"):
        tree = Tree(
            entries=(
                link,
                TreeEntry(path=path, type=EntryType.FILE, mode=0o644, size=1, sha256=digest),
            )
        )
        members = _file("out", mode=0o777, type=tarfile.SYMTYPE, linkname=str(tmp_path))
        archive.write_bytes(_packed(members + _file(path, b"x")))
        with pytest.raises((UpdaterError, OSError)) as caught:
            unpack_archive(archive, tree, tmp_path / "new", SilentProgress())
        assert has_message(caught.value, ARCHIVE_MISMATCH) or isinstance(caught.value, OSError)
        assert sorted(tmp_path.iterdir()) == [archive]


def test_occupied_target_is_refused(tmp_path: Path, sample: tuple[Tree, bytes]) -> None:
    tree, content = sample
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(content)
    place = tmp_path / "new"
    place.mkdir()
    (place / "mine").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for destination in (place, place / "mine", tmp_path / "link"):
        with refused(DESTINATION_IN_USE):
            unpack_archive(archive, tree, destination, SilentProgress())
    assert (place / "mine").read_text() == "mine"
    assert not any((tmp_path / "elsewhere").iterdir())


def test_missing_space_is_reported(tmp_path: Path) -> None:
    tree = Tree(
        entries=(
            TreeEntry(path="a", type=EntryType.FILE, mode=0o644, size=1 << 60, sha256="0" * 64),
        )
    )
    with pytest.raises(InsufficientSpaceError) as caught:
        unpack_archive(tmp_path / "x.tar.gz", tree, tmp_path / "new", SilentProgress())
    assert caught.value.exit_code is ExitCode.SPACE
    assert isinstance(caught.value.values["missing_bytes"], int)
    assert not (tmp_path / "new").exists()


def test_umask_is_irrelevant(tmp_path: Path, sample: tuple[Tree, bytes]) -> None:
    tree, content = sample
    (tmp_path / "x.tar.gz").write_bytes(content)
    old = os.umask(0o077)
    try:
        unpack_archive(tmp_path / "x.tar.gz", tree, tmp_path / "new", SilentProgress())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new/z").stat().st_mode) == 0o755
    assert scan_tree(tmp_path / "new") == tree
