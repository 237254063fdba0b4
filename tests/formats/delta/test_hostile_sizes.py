"""Tests of packs with false sizes, counts and streams: refused at little cost."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.common.messages import (
    DELTA_ERROR,
    ExitCode,
)
from ncen_updater.formats.delta.lzma_streams import Extent, compress_stream
from ncen_updater.formats.delta.pack_plan import (
    HEADER_STRUCT,
    MAGIC,
    MAX_INDEX_BYTES,
    FileReference,
)
from tests.formats.delta.factories import Forge, fresh, group, planes
from tests.support.errors import refused

STREAMS = ("control", "zeros", "differences", "literals")


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "site")


@pytest.mark.parametrize(
    "change",
    [
        {"out_bytes": 22},
        {"out_files": 2},
        {"max_memory_bytes": 1 << 20},
    ],
)
def test_output_beyond_the_signed_size_is_refused(forge: Forge, change: dict[str, int]) -> None:
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    with refused(DELTA_ERROR) as caught:
        forge.apply(forge.limits.model_copy(update=change))
    assert caught.value.code == "NU-3150"
    assert list(forge.out.iterdir()) == []


def test_index_larger_than_declared_is_refused(forge: Forge) -> None:
    forge.plan([0, 1, 2])
    head = bytearray(forge.path.read_bytes())
    _, origin, result, packed, plain = HEADER_STRUCT.unpack_from(head)
    for lie, error in (
        (plain - 1, DELTA_ERROR),
        (plain + 1, DELTA_ERROR),
        (MAX_INDEX_BYTES + 1, DELTA_ERROR),
    ):
        HEADER_STRUCT.pack_into(head, 0, MAGIC, origin, result, packed, lie)
        forge.path.write_bytes(head)
        with refused(error):
            forge.apply()


def test_decompression_bomb_uses_little_memory(forge: Forge) -> None:
    bomb = compress_stream(bytes(30 << 20))
    made, _ = group(b"")
    lying = replace(made, view=2, literals=Extent(0, len(bomb), 2))
    forge.plan([0, 1, fresh("new", 2)], lying, streams=bomb)
    tracemalloc.start()
    try:
        with refused(DELTA_ERROR):
            forge.apply()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("size", [1, 3, 0])
def test_wrong_output_size_is_refused(forge: Forge, size: int) -> None:
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", size)], made, streams=streams)
    with refused(DELTA_ERROR):
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
def test_covers_outside_the_old_file_are_refused(
    forge: Forge, numbers: tuple[int, int, int]
) -> None:
    made, streams = group(
        b"", refs=[FileReference(1)], control=planes(numbers), differences=bytes(23)
    )
    forge.plan([0, fresh("dir/new", 23)], made, streams=streams)
    with refused(DELTA_ERROR) as caught:
        forge.apply()
    assert caught.value.code == "NU-3150"


@pytest.mark.parametrize("numbers", [(0, 0, 22), (2 * 21, 0, 1), (1, 0, 1)])
def test_covers_are_checked_before_reading_the_old_file(
    forge: Forge, numbers: tuple[int, int, int]
) -> None:
    size = numbers[2]
    made, streams = group(
        b"", refs=[FileReference(1)], control=planes(numbers), differences=bytes(size)
    )
    forge.plan([0, fresh("dir/new", size)], made, streams=streams)
    with refused(DELTA_ERROR, match="invalid reference"):
        forge.apply()


def test_cover_of_the_whole_old_file_is_accepted(forge: Forge) -> None:
    made, streams = group(
        b"!", refs=[FileReference(1)], control=planes((0, 0, 20)), differences=b"\1" + bytes(19)
    )
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    forge.apply()
    assert (forge.out / "dir/new").read_bytes() == b"xhat was there befor!"


@pytest.mark.parametrize("part", STREAMS)
@pytest.mark.parametrize("packed", [b"\0", bytes(9), b"\1", b"\xe0" * 40, b"\1\0\0a"])
def test_invalid_streams_are_refused(forge: Forge, part: str, packed: bytes) -> None:
    made, streams = group(
        b"a", refs=[FileReference(1)], control=planes((0, 0, 20)), zeros=planes((3, 16)),
        differences=bytes(4), view=21,
    )  # fmt: skip
    at = 0
    content = b""
    for name in STREAMS:
        extent: Extent = getattr(made, name)
        piece = packed if name == part else streams[at : at + extent.packed_bytes]
        made = replace(made, **{name: Extent(0, len(piece), extent.plain_bytes)})  # type: ignore[arg-type]
        content += piece
        at += extent.packed_bytes
    forge.plan([0, fresh("dir/new", 21)], made, streams=content)
    with refused(DELTA_ERROR) as caught:
        forge.apply()
    assert (caught.value.code, caught.value.exit_code) == ("NU-3150", ExitCode.TRUST)


@pytest.mark.parametrize(
    ("runs", "differences"),
    [
        ([(0, 20)], b""),
        ([(2, 18)], b"ab"),
        ([(2, 10), (0, 7)], b"abc"),
        ([(1, 2), (0, 3)], b"a" * 15),  # as unusual as it is, it adds up
    ],
)
def test_valid_zero_runs_are_accepted(
    forge: Forge, runs: list[tuple[int, int]], differences: bytes
) -> None:
    made, streams = group(
        b"!", refs=[FileReference(1)], control=planes((0, 0, 20)), zeros=planes(*runs),
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
def test_inconsistent_zero_runs_are_refused(forge: Forge, runs: list[tuple[int, int]]) -> None:
    made, streams = group(
        b"!", refs=[FileReference(1)], control=planes((0, 0, 20)), zeros=planes(*runs),
        differences=b"abcd", view=21,
    )  # fmt: skip
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()


def test_excessive_zero_runs_are_refused_before_writing(forge: Forge) -> None:
    made, streams = group(
        b"!", refs=[FileReference(1)], control=planes((0, 0, 20)), zeros=planes(*[(0, 1)] * 17),
        differences=b"abcd", view=21,
    )  # fmt: skip
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()
    assert list(forge.out.iterdir()) == []


def test_covers_beyond_the_differences_are_refused(forge: Forge) -> None:
    made, streams = group(
        b"!!", refs=[FileReference(1)], control=planes((0, 0, 20)), differences=bytes(19)
    )
    forge.plan([0, fresh("dir/new", 21)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()


def test_scattered_covers_of_a_large_old_file_are_applied(tmp_path: Path) -> None:
    """The last block is cached by its offset; no offset is taken for another."""
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
    made, streams = group(
        b"", refs=[FileReference(0)], control=planes(*numbers), differences=bytes(size)
    )
    forge.plan([fresh("new", size)], made, streams=streams)
    forge.apply()
    expected = b"".join(old[p : p + n] for p, n in zip(places, lengths, strict=True))
    assert (forge.out / "new").read_bytes() == expected


def test_long_zero_run_uses_little_memory(tmp_path: Path) -> None:
    size = 30 << 20
    forge = Forge(tmp_path / "site", {"old": bytes(size)})
    made, streams = group(
        b"",
        refs=[FileReference(0)],
        control=planes((0, 0, size)),
        zeros=planes((0, size)),
        view=size,
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


def test_streams_with_trailing_bytes_are_refused(forge: Forge) -> None:
    made, streams = group(b"ab")
    extent = Extent(0, made.literals.packed_bytes + 3, 2)
    longer = replace(made, literals=extent)
    forge.plan([0, 1, fresh("new", 2)], longer, streams=streams + b"abc")
    with refused(DELTA_ERROR):
        forge.apply()


def test_inconsistent_lengths_are_refused(forge: Forge) -> None:
    made, streams = group(b"ab", view=3)
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()
    made, streams = group(b"ab")
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams + b"x")
    with refused(DELTA_ERROR):
        forge.apply()
    forge.plan([0, 1, fresh("new", 2)])  # no group builds it
    with refused(DELTA_ERROR):
        forge.apply()
    made, streams = group(b"ab", files=2)
    forge.plan([0, 1, fresh("new", 2)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()


def test_overlong_number_is_refused(forge: Forge) -> None:
    part, content = group(b"a", refs=[FileReference(1)])
    groups = [part] * 8
    entries = [fresh(f"dir/{n}", 1) for n in range(8)]
    forge.plan([0, *entries], *groups, streams=content * 8)  # as many as files, and the old ones
    forge.apply()
    empty, _ = group(b"", files=0, refs=[FileReference(1)])
    forge.plan([0, *entries], *groups, *[empty] * 20, streams=content * 8)
    with refused(DELTA_ERROR):
        forge.apply()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x80", b"\xff" * 11, b"\x80\x00" + bytes(8), bytes(8), bytes(9), bytes(10),
        b"\x01\x05" + bytes(8), b"\x01\x00" * 9,
    ],
)  # fmt: skip
def test_invalid_columns_are_refused(forge: Forge, content: bytes) -> None:
    forge.index(content)
    with refused(DELTA_ERROR):
        forge.apply()
