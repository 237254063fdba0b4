"""Packs put together by an attacker: each is refused with its own error, and nothing leads out."""

from __future__ import annotations

import random
import shutil
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.errors import ExitCode
from ncen_updater.release.tree import EntryType
from ncen_updater.transfer.delta.container import HEAD, MAGIC, MAX_INDEX_BYTES
from ncen_updater.transfer.delta.errors import (
    DeltaDamaged,
    DeltaOverLimit,
    DeltaPathRefused,
    DeltaRangeRefused,
    DeltaUnsupported,
)
from ncen_updater.transfer.delta.index import Columns, Step
from ncen_updater.transfer.delta.layout import Fresh, Op, OpKind, Recipe, Ref
from ncen_updater.transfer.delta.numbers import put_number, put_text
from ncen_updater.transfer.delta.streams import Extent, pack_stream
from ncen_updater.transfer.download import MARGIN_BYTES
from ncen_updater.transfer.errors import SpaceShort
from tests.transfer.delta.making import Forge, fresh, group, jar, planes

STREAMS = ("control", "zeros", "differences", "literals")


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "site")


def _named(*names: bytes, step: Step = Step.NEW, depths: tuple[int, ...] = ()) -> bytes:
    """An index with entries of such names, whatever they are, and no old ones."""
    columns = Columns()
    put_number(columns.steps, len(names) + 1)
    put_number(columns.steps, Step.DROP)
    put_number(columns.steps, 3)
    for number, name in enumerate(names):
        put_number(columns.steps, step)
        put_number(columns.depths, depths[number] if depths else 0)
        put_number(columns.names, len(name))
        columns.names += name
        if step is Step.LINK:
            put_text(columns.links, "target")
        else:
            put_number(columns.modes, 0)
        if step is Step.NEW:
            put_number(columns.sizes, 0)
    put_number(columns.groups, 0)
    return columns.content()


def test_the_forge_makes_good_packs_too(forge: Forge) -> None:
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    tree = forge.apply()
    assert [entry.path for entry in tree.entries] == ["dir", "dir/old.txt", "new"]
    assert (forge.out / "new").read_bytes() == b"ab"


# ---- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"", b".", b"..", b"/", b"/etc", b"a/b", b"../evil", b"a\\b", b"a\0b", b"c:", b"C:evil",
        b"n" * 256, "e\N{COMBINING ACUTE ACCENT}".encode(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [Step.NEW, Step.DIRECTORY, Step.LINK])
def test_names_that_lead_out(forge: Forge, name: bytes, step: Step) -> None:
    forge.index(_named(name, step=step))
    with pytest.raises(DeltaPathRefused) as caught:
        forge.apply()
    assert (caught.value.code, caught.value.exit_code) == ("NU-3153", ExitCode.TRUST)
    assert list(forge.out.iterdir()) == []


def test_names_that_are_not_text(forge: Forge) -> None:
    for name in (b"\xff", b"\xed\xa0\x80", b"a\xc0\xaf"):
        forge.index(_named(name))
        with pytest.raises(DeltaDamaged):
            forge.apply()


@pytest.mark.parametrize(
    ("names", "depths"),
    [
        ((b"a", b"a"), (0, 0)),
        ((b"b", b"a"), (0, 0)),
        ((b"A", b"a"), (0, 0)),
        ((b"STRASSE", "straße".encode()), (0, 0)),
    ],
)
def test_paths_that_collide(
    forge: Forge, names: tuple[bytes, ...], depths: tuple[int, ...]
) -> None:
    forge.index(_named(*names, step=Step.DIRECTORY, depths=depths))
    with pytest.raises(DeltaPathRefused):
        forge.apply()


@pytest.mark.parametrize("above", [Step.NEW, Step.LINK])
def test_paths_below_a_file_or_a_link(forge: Forge, above: Step) -> None:
    forge.index(_named(b"a", b"b", step=above, depths=(0, 1)))
    with pytest.raises(DeltaDamaged):  # only a directory can be gone into
        forge.apply()
    outside = forge.place / "outside"
    outside.mkdir()
    # The directory of a kept file was replaced by a link.
    link = Fresh("dir", EntryType.SYMLINK, 0o777, target=".")
    forge.plan([link, 1])
    with pytest.raises(DeltaPathRefused):
        forge.apply()


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "..", "../x", "d/../../x", "d/..", "x/../y", "a\\b", "a\0b", "", "n" * 1001],
)
def test_links_that_lead_out(forge: Forge, target: str) -> None:
    forge.plan([0, 1, 2, Fresh("lost", EntryType.SYMLINK, 0o777, target=target)])
    with pytest.raises(DeltaPathRefused):
        forge.apply()


def test_links_are_made_last_and_never_followed(forge: Forge) -> None:
    entries: list[int | Fresh] = [
        Fresh("a", EntryType.SYMLINK, 0o777, target="dir/new"),
        0,
        fresh("dir/new", 2),
        Fresh("loop", EntryType.SYMLINK, 0o777, target="loop"),
    ]
    made, streams = group(b"ab")
    forge.plan(entries, made, streams=streams)
    forge.apply()
    assert (forge.out / "a").is_symlink()
    assert (forge.out / "dir/new").read_bytes() == b"ab"


# ---- sizes and counts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"out_bytes": 22},
        {"out_files": 2},
        {"max_memory_bytes": 1 << 20},
    ],
)
def test_more_than_was_signed(forge: Forge, change: dict[str, int]) -> None:
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    with pytest.raises(DeltaOverLimit) as caught:
        forge.apply(forge.limits.model_copy(update=change))
    assert caught.value.code == "NU-3154"
    assert list(forge.out.iterdir()) == []


def test_an_index_that_unpacks_to_more_than_it_says(forge: Forge) -> None:
    forge.plan([0, 1, 2])
    head = bytearray(forge.path.read_bytes())
    _, origin, result, packed, plain = HEAD.unpack_from(head)
    for lie, error in (
        (plain - 1, DeltaDamaged),
        (plain + 1, DeltaDamaged),
        (MAX_INDEX_BYTES + 1, DeltaOverLimit),
    ):
        HEAD.pack_into(head, 0, MAGIC, origin, result, packed, lie)
        forge.path.write_bytes(head)
        with pytest.raises(error):
            forge.apply()


def test_a_bomb_costs_nothing(forge: Forge) -> None:
    bomb = pack_stream(bytes(30 << 20))
    made, _ = group(b"")
    lying = replace(made, view=2, literals=Extent(0, len(bomb), 2))
    forge.plan([0, 1, fresh("new", 2)], lying, streams=bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DeltaDamaged):
            forge.apply()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("size", [1, 3, 0])
def test_files_that_come_out_with_another_size(forge: Forge, size: int) -> None:
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", size)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused):
        forge.apply()


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 0, 23),  # longer than the old file
        (2 * 23, 0, 1),  # after its end
        (1, 0, 1),  # before its start
        (2**32 - 1, 0, 1),
        (0, 2**32 - 1, 1),
        (0, 0, 2**32 - 1),
        (0, 0, 0),  # of nothing
        (2 * 100 - 1, 100, 1),  # back again after a gap that the new file has no room for
    ],
)
def test_covers_outside_the_old_file(forge: Forge, numbers: tuple[int, int, int]) -> None:
    made, streams = group(b"", refs=[Ref(1)], control=planes(numbers), differences=bytes(23))
    forge.plan([0, fresh("dir/new", 23)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused) as caught:
        forge.apply()
    assert caught.value.code == "NU-3155"


def test_a_cover_of_the_whole_old_file_is_good(forge: Forge) -> None:
    made, streams = group(
        b"!", refs=[Ref(1)], control=planes((0, 0, 20)), differences=b"\1" + bytes(19)
    )
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    forge.apply()
    assert (forge.out / "dir/new").read_bytes() == b"xhat was there befor!"


@pytest.mark.parametrize("part", STREAMS)
@pytest.mark.parametrize("packed", [b"\0", bytes(9), b"\1", b"\xe0" * 40, b"\1\0\0a"])
def test_streams_that_are_none(forge: Forge, part: str, packed: bytes) -> None:
    made, streams = group(
        b"a", refs=[Ref(1)], control=planes((0, 0, 20)), zeros=planes((3, 16)),
        differences=bytes(4), view=21,
    )  # fmt: skip
    at = 0
    content = b""
    for name in STREAMS:
        extent: Extent = getattr(made, name)
        piece = packed if name == part else streams[at : at + extent.packed]
        made = replace(made, **{name: Extent(0, len(piece), extent.plain)})  # type: ignore[arg-type]
        content += piece
        at += extent.packed
    forge.plan([0, fresh("dir/new", 21)], made, streams=content)
    with pytest.raises(DeltaDamaged) as caught:
        forge.apply()
    assert (caught.value.code, caught.value.exit_code) == ("NU-3151", ExitCode.TRUST)


@pytest.mark.parametrize(
    ("runs", "differences"),
    [
        ([(0, 20)], b""),
        ([(2, 18)], b"ab"),
        ([(2, 10), (0, 7)], b"abc"),
        ([(1, 2), (0, 3)], b"a" * 15),  # as unusual as it is, it adds up
    ],
)
def test_runs_of_zeros_that_are_good(
    forge: Forge, runs: list[tuple[int, int]], differences: bytes
) -> None:
    made, streams = group(
        b"!", refs=[Ref(1)], control=planes((0, 0, 20)), zeros=planes(*runs),
        differences=differences, view=21,
    )  # fmt: skip
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    forge.apply()
    expected, at, value = bytearray(b"what was there befor!"), 0, 0
    for kept, zeros in [*runs, (len(differences) - sum(k for k, _ in runs), 0)]:
        for _ in range(kept):
            expected[at] = (expected[at] + differences[value]) % 256
            at, value = at + 1, value + 1
        at += zeros
    assert (forge.out / "dir/new").read_bytes() == bytes(expected)


@pytest.mark.parametrize(
    "runs",
    [
        [(0, 17)],  # more zeros than are left out
        [(0, 15)],
        [(5, 16)],  # after more than there is
        [(2**32 - 1, 2**32 - 1)],
        [(0, 2**32 - 1)],
        [(2**32 - 1, 1)],
        [(0, 8), (0, 9)],
        [(0, 0), (0, 16)],
        [(3, 0)] * 16 + [(0, 16)],  # more runs than bytes
    ],
)
def test_runs_of_zeros_that_do_not_add_up(forge: Forge, runs: list[tuple[int, int]]) -> None:
    made, streams = group(
        b"!", refs=[Ref(1)], control=planes((0, 0, 20)), zeros=planes(*runs),
        differences=b"abcd", view=21,
    )  # fmt: skip
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    with pytest.raises((DeltaRangeRefused, DeltaDamaged)):
        forge.apply()


def test_more_runs_than_zeros_are_seen_before_anything_is_written(forge: Forge) -> None:
    made, streams = group(
        b"!", refs=[Ref(1)], control=planes((0, 0, 20)), zeros=planes(*[(0, 1)] * 17),
        differences=b"abcd", view=21,
    )  # fmt: skip
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused):
        forge.apply()
    assert list(forge.out.iterdir()) == []


def test_covers_of_more_bytes_than_there_are_differences(forge: Forge) -> None:
    made, streams = group(b"!!", refs=[Ref(1)], control=planes((0, 0, 20)), differences=bytes(19))
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused):
        forge.apply()


def test_covers_all_over_a_large_old_file(tmp_path: Path) -> None:
    """What was read last is kept by its place; no place is taken for another."""
    old = random.Random(5).randbytes(9 << 20)
    forge = Forge(tmp_path / "site", {"old": old})
    places = [0, 4 << 20, 8 << 20, 100, (4 << 20) + 16_380, 8_000_000, 5, (9 << 20) - 200, 16_300]
    lengths = [200, 200, 200, 16_384, 8, 100_000, 200, 200, 300]
    numbers, there = [], 0
    for place, length in zip(places, lengths, strict=True):
        jump = place - there
        numbers.append((2 * jump if jump >= 0 else -2 * jump - 1, 0, length))
        there = place + length
    size = sum(lengths)
    made, streams = group(b"", refs=[Ref(0)], control=planes(*numbers), differences=bytes(size))
    forge.plan([fresh("new", size)], made, streams=streams)
    forge.apply()
    expected = b"".join(old[p : p + n] for p, n in zip(places, lengths, strict=True))
    assert (forge.out / "new").read_bytes() == expected


def test_a_run_of_zeros_of_any_length_takes_no_memory(tmp_path: Path) -> None:
    size = 30 << 20
    forge = Forge(tmp_path / "site", {"old": bytes(size)})
    made, streams = group(
        b"", refs=[Ref(0)], control=planes((0, 0, size)), zeros=planes((0, size)), view=size
    )
    forge.plan([fresh("new", size)], made, streams=streams)
    tracemalloc.start()
    try:
        forge.apply(forge.limits.model_copy(update={"out_bytes": size}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert (forge.out / "new").read_bytes() == bytes(size)


def test_streams_with_bytes_after_their_end(forge: Forge) -> None:
    made, streams = group(b"ab")
    extent = Extent(0, made.literals.packed + 3, 2)
    longer = replace(made, literals=extent)
    forge.plan([0, 1, fresh("new", 2)], longer, streams=streams + b"abc")
    with pytest.raises(DeltaDamaged):
        forge.apply()


def test_lengths_that_do_not_add_up(forge: Forge) -> None:
    made, streams = group(b"ab", view=3)
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused):
        forge.apply()
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams + b"x")
    with pytest.raises(DeltaDamaged):
        forge.apply()
    forge.plan([0, 1, fresh("new", 2)])  # no group builds it
    with pytest.raises(DeltaRangeRefused):
        forge.apply()
    made, streams = group(b"ab", files=2)
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused):
        forge.apply()


def test_a_number_that_stands_for_too_many(forge: Forge) -> None:
    part, content = group(b"a", refs=[Ref(1)])
    groups = [part] * 8
    entries = [fresh(f"dir/{n}", 1) for n in range(8)]
    forge.plan([0, *entries], *groups, streams=content * 8)  # as many as files, and the old ones
    forge.apply()
    empty, _ = group(b"", files=0, refs=[Ref(1)])
    forge.plan([0, *entries], *groups, *[empty] * 20, streams=content * 8)
    with pytest.raises(DeltaOverLimit):
        forge.apply()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x80", b"\xff" * 11, b"\x80\x00" + bytes(8), bytes(8), bytes(9), bytes(10),
        b"\x01\x05" + bytes(8), b"\x01\x00" * 9,
    ],
)  # fmt: skip
def test_columns_that_are_none(forge: Forge, content: bytes) -> None:
    forge.index(content)
    with pytest.raises((DeltaDamaged, DeltaRangeRefused)):
        forge.apply()


# ---- archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refs", "ops"),
    [
        ([Ref(0, ())], [Op(OpKind.MEMBERS, 3, 0)]),
        ([Ref(0, ())], [Op(OpKind.MEMBERS, 1, 900_000)]),
        ([Ref(0)], [Op(OpKind.MEMBERS, 1, 0)]),
        ([Ref(0, (2,))], [Op(OpKind.MEMBERS, 1, 0)]),
        ([Ref(1, ())], [Op(OpKind.MEMBERS, 1, 0)]),
        ([Ref(0, ())], [Op(OpKind.PLAIN, 1 << 40)]),
        ([Ref(0, ())], [Op(OpKind.DEFLATE, 1 << 40, 6)]),
    ],
)
def test_archives_from_members_that_are_not_there(
    tmp_path: Path, refs: list[Ref], ops: list[Op]
) -> None:
    forge = Forge(tmp_path / "site", {"a.jar": jar({"m": b"m" * 900, "n": b"n"}), "b": b"plain"})
    part, streams = group(b"ab", refs=refs)
    recipe = Recipe(0, 0, tuple(ops))
    made = replace(part, recipes=(recipe,))
    forge.plan([fresh("new", 1000)], made, streams=streams)
    with pytest.raises(DeltaRangeRefused):
        forge.apply()


def test_deflating_must_be_signed(tmp_path: Path) -> None:
    forge = Forge(tmp_path / "site", {"a.jar": jar({"m": b"m" * 900})})
    part, streams = group(b"ab", refs=[Ref(0, ())])
    recipe = Recipe(0, 0, (Op(OpKind.DEFLATE, 2, 6),))
    made = replace(part, recipes=(recipe,))
    for wrong in (3, 5):
        forge.plan([fresh("new", wrong)], made, streams=streams)
        with pytest.raises(DeltaRangeRefused):
            forge.apply()
    forge.plan([fresh("new", 4)], made, streams=streams)
    forge.apply()
    with pytest.raises(DeltaOverLimit):
        forge.apply(forge.limits.model_copy(update={"needs": ()}))


def test_what_this_machine_cannot_do(forge: Forge) -> None:
    forge.plan([0, 1, 2])
    needs = ("brotli-11", "deflate-zlib-6.8")
    with pytest.raises(DeltaUnsupported) as caught:
        forge.apply(forge.limits.model_copy(update={"needs": needs}))
    assert caught.value.code == "NU-3156"
    assert "brotli-11" in str(caught.value)
    assert "zlib" not in str(caught.value)


# ---- the disk ----------------------------------------------------------------------------------


def test_says_how_much_space_is_missing_before_anything_is_written(forge: Forge) -> None:
    """As signed as it may be, there is no such disk."""
    size = 1 << 60
    made, _ = group(b"ab")
    vast = replace(made, view=size, literals=Extent(0, 9, size))
    forge.plan([0, 1, fresh("new", size)], vast, streams=bytes(9))
    with pytest.raises(SpaceShort) as caught:
        forge.apply(forge.limits.model_copy(update={"out_bytes": 2 * size}))
    assert (caught.value.code, caught.value.exit_code) == ("NU-3101", ExitCode.SPACE)
    assert str(size + MARGIN_BYTES) in str(caught.value)
    assert list(forge.out.iterdir()) == []


@pytest.mark.parametrize("spare", [-1, 0])
def test_members_of_old_archives_need_room_beside_what_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    content = bytes(5 << 20)
    forge = Forge(tmp_path / "site", {"a.jar": jar({"m": content})})
    old = forge.tree.entries[0].size
    part, streams = group(b"ab", refs=[Ref(0, (0,))])
    forge.plan([fresh("new", 2)], part, streams=streams)
    member = zlib.compressobj(6, zlib.DEFLATED, -15, 8)
    packed = len(member.compress(content) + member.flush())
    needed = MARGIN_BYTES + old - packed + len(content) + 2
    usage = shutil.disk_usage(tmp_path)
    # Stands in for a disk of that size: a real one takes the right to mount.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed + spare))
    if spare < 0:
        with pytest.raises(SpaceShort) as caught:
            forge.apply()
        assert caught.value.values["missing"] == -spare
    else:
        forge.apply()
