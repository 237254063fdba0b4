"""Tests of packs made by an attacker: each is refused with its own error."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.common import disk_space
from ncen_updater.common.disk_space import MARGIN_BYTES
from ncen_updater.common.errors import InsufficientSpaceError
from ncen_updater.common.messages import (
    DELTA_ERROR,
    DELTA_UNSUPPORTED,
    OLD_FILE_ALTERED,
    ExitCode,
)
from ncen_updater.formats.delta.group_decoder import GroupView
from ncen_updater.formats.delta.index_reader import IndexColumns, IndexStep
from ncen_updater.formats.delta.lzma_streams import Extent, put_number, put_text
from ncen_updater.formats.delta.pack_plan import (
    COPIES,
    EARLIER_FILES,
    ArchiveOperation,
    ArchiveOperationKind,
    ArchiveRecipe,
    FileGroup,
    FileReference,
    NewEntry,
)
from ncen_updater.formats.tree import EntryType, scan_tree
from tests.formats.delta.factories import Forge, fresh, group, jar, planes
from tests.support.errors import refused

STREAMS = ("control", "zeros", "differences", "literals")


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "site")


def _named(*names: bytes, step: IndexStep = IndexStep.NEW, depths: tuple[int, ...] = ()) -> bytes:
    """An index with entries of such names, whatever they are, and no old ones."""
    columns = IndexColumns()
    put_number(columns.steps, len(names) + 1)
    put_number(columns.steps, IndexStep.DROP)
    put_number(columns.steps, 3)
    for number, name in enumerate(names):
        put_number(columns.steps, step)
        put_number(columns.depths, depths[number] if depths else 0)
        put_number(columns.names, len(name))
        columns.names += name
        if step is IndexStep.LINK:
            put_text(columns.links, "target")
        else:
            put_number(columns.modes, 0)
        if step is IndexStep.NEW:
            put_number(columns.sizes, 0)
    put_number(columns.groups, 0)
    return columns.to_bytes()


def test_forge_can_make_valid_packs(forge: Forge) -> None:
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    tree = forge.apply()
    assert [entry.path for entry in tree.entries] == ["dir", "dir/old.txt", "new"]
    assert (forge.out / "new").read_bytes() == b"ab"


# ---- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"", b".", b"..", b"/", b"/etc", b"a/b", b"../evil", b"a\\b", b"a\0b", b"n" * 256,
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [IndexStep.NEW, IndexStep.DIRECTORY, IndexStep.LINK])
def test_path_traversal_names_are_refused(forge: Forge, name: bytes, step: IndexStep) -> None:
    forge.index(_named(name, step=step))
    with refused(DELTA_ERROR) as caught:
        forge.apply()
    assert (caught.value.code, caught.value.exit_code) == ("NU-3150", ExitCode.TRUST)
    assert list(forge.out.iterdir()) == []


@pytest.mark.parametrize("what", ["pipe", "directory"])
def test_special_file_as_pack_is_refused_without_waiting(forge: Forge, what: str) -> None:
    """Seen: a pipe in the place of a pack that was verified held root up in opening it."""
    forge.path.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(forge.path)
    else:
        forge.path.mkdir()
    with refused(DELTA_ERROR, match="not a regular file"):
        forge.apply()


def test_non_utf8_names_are_refused(forge: Forge) -> None:
    for name in (b"\xff", b"\xed\xa0\x80", b"a\xc0\xaf"):
        forge.index(_named(name))
        with refused(DELTA_ERROR):
            forge.apply()


@pytest.mark.parametrize(
    ("names", "depths"),
    [
        ((b"a", b"a"), (0, 0)),
        ((b"b", b"a"), (0, 0)),
    ],
)
def test_colliding_paths_are_refused(
    forge: Forge, names: tuple[bytes, ...], depths: tuple[int, ...]
) -> None:
    forge.index(_named(*names, step=IndexStep.DIRECTORY, depths=depths))
    with refused(DELTA_ERROR):
        forge.apply()


@pytest.mark.parametrize("above", [IndexStep.NEW, IndexStep.LINK])
def test_paths_below_a_file_or_symlink_are_refused(forge: Forge, above: IndexStep) -> None:
    forge.index(_named(b"a", b"b", step=above, depths=(0, 1)))
    with refused(DELTA_ERROR):  # only a directory can be gone into
        forge.apply()
    outside = forge.place / "outside"
    outside.mkdir()
    # The directory of an unchanged file was replaced by a symlink.
    link = NewEntry("dir", EntryType.SYMLINK, 0o777, target=".")
    forge.plan([link, 1])
    with refused(DELTA_ERROR):
        forge.apply()


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "..", "../x", "d/../../x", "d/..", "x/../y", "a\\b", "a\0b", "", "n" * 1001],
)
def test_escaping_symlinks_are_refused(forge: Forge, target: str) -> None:
    forge.plan([0, 1, 2, NewEntry("lost", EntryType.SYMLINK, 0o777, target=target)])
    with refused(DELTA_ERROR):
        forge.apply()


def test_symlinks_are_created_last_and_never_followed(forge: Forge) -> None:
    entries: list[int | NewEntry] = [
        NewEntry("a", EntryType.SYMLINK, 0o777, target="dir/new"),
        0,
        fresh("dir/new", 2),
        NewEntry("loop", EntryType.SYMLINK, 0o777, target="loop"),
    ]
    made, streams = group(b"ab")
    forge.plan(entries, made, streams=streams)
    forge.apply()
    assert (forge.out / "a").is_symlink()
    assert (forge.out / "dir/new").read_bytes() == b"ab"


# ---- archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refs", "ops"),
    [
        ([FileReference(0, ())], [ArchiveOperation(ArchiveOperationKind.MEMBERS, 3, 0)]),
        ([FileReference(0, ())], [ArchiveOperation(ArchiveOperationKind.MEMBERS, 1, 900_000)]),
        ([FileReference(0)], [ArchiveOperation(ArchiveOperationKind.MEMBERS, 1, 0)]),
        ([FileReference(0, (2,))], [ArchiveOperation(ArchiveOperationKind.MEMBERS, 1, 0)]),
        ([FileReference(1, ())], [ArchiveOperation(ArchiveOperationKind.MEMBERS, 1, 0)]),
        ([FileReference(0, ())], [ArchiveOperation(ArchiveOperationKind.PLAIN, 1 << 40)]),
        ([FileReference(0, ())], [ArchiveOperation(ArchiveOperationKind.DEFLATE, 1 << 40, 6)]),
    ],
)
def test_archives_from_missing_members_are_refused(
    tmp_path: Path, refs: list[FileReference], ops: list[ArchiveOperation]
) -> None:
    forge = Forge(tmp_path / "site", {"a.jar": jar({"m": b"m" * 900, "n": b"n"}), "b": b"plain"})
    part, streams = group(b"ab", refs=refs)
    recipe = ArchiveRecipe(0, 0, tuple(ops))
    made = replace(part, recipes=(recipe,))
    forge.plan([fresh("new", 1000)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()


def test_deflate_capability_must_be_signed(tmp_path: Path) -> None:
    forge = Forge(tmp_path / "site", {"a.jar": jar({"m": b"m" * 900})})
    part, streams = group(b"ab", refs=[FileReference(0, ())])
    recipe = ArchiveRecipe(0, 0, (ArchiveOperation(ArchiveOperationKind.DEFLATE, 2, 6),))
    made = replace(part, recipes=(recipe,))
    for wrong in (3, 5):
        forge.plan([fresh("new", wrong)], made, streams=streams)
        with refused(DELTA_ERROR):
            forge.apply()
    forge.plan([fresh("new", 4)], made, streams=streams)
    forge.apply()
    with refused(DELTA_ERROR):
        forge.apply(forge.limits.model_copy(update={"needs": ()}))


def _copy(path: str, size: int, copy_of: int) -> NewEntry:
    return NewEntry(path, EntryType.FILE, 0o640, size, copy_of=copy_of)


def test_file_built_by_the_pack_may_be_copied(forge: Forge) -> None:
    made, streams = group(b"abc", files=2)
    entries = [fresh("a", 1), fresh("b", 2), _copy("c", 2, 1), _copy("d", 1, 0)]
    forge.plan(entries, made, streams=streams)
    needs = {"needs": (COPIES,)}
    tree = forge.apply(forge.limits.model_copy(update=needs))
    assert [(entry.mode, entry.size) for entry in tree.entries[2:]] == [(0o640, 2), (0o640, 1)]
    assert tree == scan_tree(forge.out)
    with refused(DELTA_ERROR, match="capabilities not signed"):
        forge.apply()
    with refused(DELTA_ERROR, match="6 B, signed for 5 B"):
        forge.apply(forge.limits.model_copy(update={**needs, "out_bytes": 5}))


@pytest.mark.parametrize("back", [0, 1, 2, 1 << 40])
def test_copy_of_an_unbuilt_file_is_refused(forge: Forge, back: int) -> None:
    """Of an old file, of one that comes later, of itself: there is no way to say it."""
    columns = IndexColumns()
    for number in (3, IndexStep.KEEP, 2, IndexStep.DROP, 1, IndexStep.COPY):
        put_number(columns.steps, number)
    put_number(columns.origins, back)
    put_number(columns.names, 0)
    put_number(columns.depths, 0)
    put_number(columns.modes, 0)
    put_number(columns.groups, 0)
    forge.index(columns.to_bytes())
    with refused(DELTA_ERROR, match="invalid reference"):
        forge.apply(forge.limits.model_copy(update={"needs": (COPIES,)}))
    assert list(forge.out.iterdir()) == []


def test_copies_count_into_the_needed_space(forge: Forge) -> None:
    size = 1 << 59
    made, _ = group(b"ab")
    vast = replace(made, view=size, literals=Extent(0, 9, size))
    forge.plan([fresh("a", size), _copy("b", size, 0)], vast, streams=bytes(9))
    with pytest.raises(InsufficientSpaceError) as caught:
        forge.apply(forge.limits.model_copy(update={"out_bytes": 2 * size, "needs": (COPIES,)}))
    assert caught.value.values["needed_bytes"] == 2 * size + MARGIN_BYTES


# ---- files of earlier groups -------------------------------------------------------------------


def _two_groups(*refs: FileReference, place: int = 0) -> tuple[list[FileGroup], bytes]:
    """Two new files of three bytes; the second is what stands somewhere in the references."""
    first, streams = group(b"abc")
    control = planes((2 * place, 0, 3))
    second, more = group(b"", refs=refs, control=control, differences=bytes(3))
    return [first, second], streams + more


def test_group_may_refer_to_earlier_output(forge: Forge) -> None:
    groups, streams = _two_groups(FileReference(1), FileReference(1, is_built=True), place=21)
    forge.plan([0, fresh("dir/a", 3), fresh("dir/b", 3)], *groups, streams=streams)
    tree = forge.apply(forge.limits.model_copy(update={"needs": (EARLIER_FILES,)}))
    assert (forge.out / "dir/b").read_bytes() == b"abc"
    assert tree == scan_tree(forge.out)
    with refused(DELTA_ERROR, match="capabilities not signed: .*earlier"):
        forge.apply()


@pytest.mark.parametrize("at", [1, 2])
def test_group_cannot_refer_to_later_output(forge: Forge, at: int) -> None:
    """To itself, or to one that comes later: there is no number for it."""
    groups, streams = _two_groups(FileReference(2, is_built=True))
    if at == 1:
        groups.reverse()
    forge.plan([0, fresh("dir/a", 3), fresh("dir/b", 3)], *groups, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply(forge.limits.model_copy(update={"needs": (EARLIER_FILES,)}))
    assert list(forge.out.iterdir()) == []


def test_built_files_offer_no_archive_members(forge: Forge) -> None:
    groups, streams = _two_groups(FileReference(1, (), is_built=True))
    forge.plan([0, fresh("dir/a", 3), fresh("dir/b", 3)], *groups, streams=streams)
    with refused(DELTA_ERROR, match="invalid reference"):
        forge.apply(forge.limits.model_copy(update={"needs": (EARLIER_FILES,)}))


def test_built_file_is_hashed_again_before_reuse(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have written there meanwhile."""
    groups, streams = _two_groups(FileReference(1, is_built=True))
    forge.plan([0, fresh("dir/a", 3), fresh("dir/b", 3)], *groups, streams=streams)
    end = GroupView.check_exhausted

    def altered(view: GroupView) -> None:
        end(view)
        (forge.out / "dir/a").write_bytes(b"abd")

    # Stands in for another program that writes there between two groups.
    monkeypatch.setattr(GroupView, "check_exhausted", altered)
    with refused(OLD_FILE_ALTERED, match="dir/a"):
        forge.apply(forge.limits.model_copy(update={"needs": (EARLIER_FILES,)}))


def test_unsupported_capability_is_reported(forge: Forge) -> None:
    forge.plan([0, 1, 2])
    needs = ("brotli-11", "deflate-zlib-6.8")
    with refused(DELTA_UNSUPPORTED) as caught:
        forge.apply(forge.limits.model_copy(update={"needs": needs}))
    assert caught.value.code == "NU-3156"
    assert "brotli-11" in str(caught.value)
    assert "zlib" not in str(caught.value)


# ---- the disk ----------------------------------------------------------------------------------


def test_missing_space_is_reported_before_writing(forge: Forge) -> None:
    """As signed as it may be, there is no such disk."""
    size = 1 << 60
    made, _ = group(b"ab")
    vast = replace(made, view=size, literals=Extent(0, 9, size))
    forge.plan([0, 1, fresh("new", size)], vast, streams=bytes(9))
    with pytest.raises(InsufficientSpaceError) as caught:
        forge.apply(forge.limits.model_copy(update={"out_bytes": 2 * size}))
    assert (caught.value.code, caught.value.exit_code) == ("NU-3101", ExitCode.SPACE)
    assert caught.value.values["needed_bytes"] == size + MARGIN_BYTES
    assert list(forge.out.iterdir()) == []


@pytest.mark.parametrize("spare", [-1, 0])
def test_old_archive_members_count_into_the_needed_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    content = bytes(5 << 20)
    forge = Forge(tmp_path / "site", {"a.jar": jar({"m": content})})
    old = forge.tree.entries[0].size
    part, streams = group(b"ab", refs=[FileReference(0, (0,))])
    forge.plan([fresh("new", 2)], part, streams=streams)
    member = zlib.compressobj(6, zlib.DEFLATED, -15, 8)
    packed = len(member.compress(content) + member.flush())
    needed = MARGIN_BYTES + old - packed + len(content) + 2
    # Stands in for a disk of that size: a real one takes the right to mount.
    monkeypatch.setattr(disk_space, "get_free_bytes", lambda _: needed + spare)
    if spare < 0:
        with pytest.raises(InsufficientSpaceError) as caught:
            forge.apply()
        assert caught.value.values["missing_bytes"] == -spare
    else:
        forge.apply()
