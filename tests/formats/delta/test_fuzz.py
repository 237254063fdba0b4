"""Tests of arbitrary packs and parts of packs: typed errors, and never another tree.

What is altered is altered where it is understood: a pack whose index was changed by one number is
packed again as an honest one, so that the checks behind the first are reached.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncen_updater.common.messages import DELTA_ERROR
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.delta import pack_builder as make
from ncen_updater.formats.delta.apply import apply_pack
from ncen_updater.formats.delta.index_reader import COLUMN_NAMES, GROUP_ENCODINGS_COLUMN
from ncen_updater.formats.delta.lzma_streams import (
    ColumnReader,
    Extent,
    LzmaReader,
    MalformedPackError,
    compress_stream,
    put_number,
    put_signed,
    put_text,
)
from ncen_updater.formats.delta.pack_builder import build_pack
from ncen_updater.formats.delta.pack_plan import (
    DeltaError,
    DeltaLimits,
    FileReference,
    LinkMode,
    encode_header,
    read_header,
    read_index,
)
from ncen_updater.formats.delta.zip_archive import NotAnArchiveError, ZipTable, inflate_member
from ncen_updater.formats.tree import EntryType, PathRules, Tree, find_link_problem
from tests.badinput.hostile import FEW, bounded
from tests.formats.delta.factories import Files, Forge, Link, Mode, fresh, group, jar, write
from tests.support.errors import refused

MANY = settings(FEW, max_examples=150)


@dataclass
class Honest:
    """A real pack between two releases with every kind of entry, and its parts."""

    old: Path
    tree: Tree
    limits: DeltaLimits
    content: bytes

    def outcome(self, content: bytes) -> str | None:
        """The digest that comes out; None if the pack was refused. No other error may come."""
        with tempfile.TemporaryDirectory(dir=self.old.parent) as name, bounded(60):
            place = Path(name)
            (place / "pack").write_bytes(content)
            (place / "out").mkdir()
            try:
                made = apply_pack(
                    place / "pack",
                    self.old,
                    self.tree,
                    place / "out",
                    self.limits,
                    SilentProgress(),
                    LinkMode.SAFE,
                )
            except DeltaError:
                return None
            finally:
                assert sorted(p.name for p in place.iterdir()) == ["out", "pack"]
            return made.compute_digest()

    def parts(self) -> tuple[bytes, bytes]:
        """The index, unpacked, and all that follows it."""
        with tempfile.TemporaryFile() as pack:
            pack.write(self.content)
            pack.flush()
            header = read_header(pack.fileno())
            return read_index(pack.fileno(), header), self.content[header.streams_start :]

    def with_index(self, index: bytes, streams: bytes) -> bytes:
        """A pack that is whole, with another index."""
        return encode_header(self.limits.from_tree, self.limits.to_tree, index) + streams


def _honest(place: Path, version: int) -> Honest:
    text = b"".join(b"line %d\n" % n for n in range(300))
    members = {f"m{n}": text[n:] for n in range(5)}
    old: Files = {
        "d/a": text, "j-1.jar": jar(members), "k": b"k", "m": b"m" * 50, "l": Link("k"),
        "p.js": b"a[1]=b;" * 90, "s": b"s",
    }  # fmt: skip
    members["m2"] += b"new %d" % version
    new: Files = {
        "d/a": text[:900] + b"%d!" % version + text[900:], "d/n": b"new" * 9, "j-2.jar":
        jar(members), "k": b"k", "moved": b"m" * 50, "e/f": None, "l2": Link("d/n"),
        "p.js": b"b[%d]=c;" % version * 90, "t/1": text * 2, "t/2": text * 2,
        "x": Mode(b"x", 0o755),
    }  # fmt: skip
    tree, target = write(place / "old", old), write(place / "new", new)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "MAX_NAMES_RATIO", 1000)
        info = build_pack(
            place / "old", tree, place / "new", target, place / "pack", SilentProgress()
        )
    return Honest(place / "old", tree, info, (place / "pack").read_bytes())


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    made = _honest(tmp_path_factory.mktemp("honest"), 1)
    assert made.outcome(made.content) == made.limits.to_tree
    assert made.outcome(made.with_index(*made.parts())) == made.limits.to_tree
    return made


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    return _honest(tmp_path_factory.mktemp("other"), 2)


# ---- the index ---------------------------------------------------------------------------------


def _columns(index: bytes) -> list[bytes]:
    reader = ColumnReader(index)
    columns = []
    while reader.remaining_bytes:
        columns.append(reader.read_bytes(reader.read_number()))
    assert len(columns) == len((*COLUMN_NAMES, GROUP_ENCODINGS_COLUMN))
    return columns


def _index(columns: list[bytes]) -> bytes:
    whole = bytearray()
    for column in columns:
        put_number(whole, len(column))
        whole += column
    return bytes(whole)


def _number(value: int) -> bytes:
    column = bytearray()
    put_number(column, value)
    return bytes(column)


LIKELY = st.integers(0, 300) | st.sampled_from(
    [2**7, 2**14, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1]
)


@MANY
@given(data=st.data())
def test_altered_index_number_never_yields_another_tree(
    honest: Honest, data: st.DataObject
) -> None:
    index, streams = honest.parts()
    columns = _columns(index)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from([n for n, column in enumerate(columns) if column]))
        place = data.draw(st.integers(0, len(columns[at]) - 1))
        put = data.draw(LIKELY.map(_number) | st.binary(max_size=3))
        columns[at] = columns[at][:place] + put + columns[at][place + 1 :]
    changed = _index(columns)
    outcome = honest.outcome(honest.with_index(changed, streams))
    assert changed == index or outcome != honest.limits.to_tree


@MANY
@given(data=st.data())
def test_altered_columns_never_yield_another_tree(honest: Honest, data: st.DataObject) -> None:
    index, streams = honest.parts()
    columns = _columns(index)
    one, two = data.draw(st.tuples(*[st.integers(0, len(columns) - 1)] * 2))
    how = data.draw(st.sampled_from(["cut", "swap", "double", "rotate"]))
    if how == "cut":
        columns[one] = columns[one][: data.draw(st.integers(0, len(columns[one])))]
    elif how == "swap":
        columns[one], columns[two] = columns[two], columns[one]
    elif how == "double":
        columns[one] *= 2
    else:
        place = data.draw(st.integers(0, len(columns[one])))
        columns[one] = columns[one][place:] + columns[one][:place]
    changed = _index(columns)
    outcome = honest.outcome(honest.with_index(changed, streams))
    assert changed == index or outcome != honest.limits.to_tree


@MANY
@given(st.data())
def test_spliced_packs_never_yield_another_tree(
    honest: Honest, other: Honest, data: st.DataObject
) -> None:
    """Index of one and streams of the other, or one to somewhere and then the other."""
    (index, streams), (index2, streams2) = honest.parts(), other.parts()
    place = data.draw(st.integers(0, len(honest.content)))
    spliced = data.draw(
        st.sampled_from(
            [
                honest.with_index(index, streams2),
                honest.with_index(index2, streams),
                honest.with_index(index2, streams2),
                honest.content[:place] + other.content[place:],
                honest.content[:place] + honest.content[place // 2 :],
                honest.content + honest.content,
            ]
        )
    )
    outcome = honest.outcome(spliced)
    assert spliced == honest.content or outcome != honest.limits.to_tree


def test_billions_of_empty_covers_are_refused(tmp_path: Path) -> None:
    """Some megabytes of pack that would keep a machine busy for hours."""
    forge = Forge(tmp_path / "site")
    covers = 1 << 31
    made, streams = group(b"ab", refs=[FileReference(1)])
    # The control stream packs to nothing; what stands here is never read.
    bad = replace(made, covers=covers, control=Extent(0, 1, covers * 12))
    forge.limits = forge.limits.model_copy(update={"max_memory_bytes": 1 << 40})
    forge.plan([0, fresh("dir/new", 2), 2], bad, streams=b"\1" + streams)
    with refused(DELTA_ERROR, match="length mismatch"), bounded(60):
        forge.apply()


# ---- its parts ---------------------------------------------------------------------------------


@MANY
@given(st.lists(st.integers(0, 2**63 - 1)), st.lists(st.integers(-(2**62), 2**62 - 1)))
def test_numbers_round_trip(plain: list[int], signed: list[int]) -> None:
    column = bytearray()
    for value in plain:
        put_number(column, value)
    for value in signed:
        put_signed(column, value)
    put_text(column, "é")
    reader = ColumnReader(bytes(column))
    assert [reader.read_number() for _ in plain] == plain
    assert [reader.read_signed() for _ in signed] == signed
    assert reader.read_text(2) == "é"
    reader.check_exhausted()


@MANY
@given(st.binary(max_size=40), st.lists(st.sampled_from(["number", "signed", "text", "take"])))
def test_arbitrary_columns_are_read_within_bounds(content: bytes, calls: list[str]) -> None:
    reader, took = ColumnReader(content), 0
    with contextlib.suppress(MalformedPackError, UnicodeDecodeError):
        for call in calls:
            if call == "number":
                assert 0 <= reader.read_number() < 1 << 63
            elif call == "signed":
                assert abs(reader.read_signed()) <= 1 << 62
            elif call == "text":
                took += len(reader.read_text(100).encode())
            else:
                took += len(reader.read_bytes(3))
    assert took <= len(content)


@MANY
@given(
    st.lists(
        st.lists(
            st.sampled_from(["a", "A", "b", ".", "..", "", "\0", "\\"]) | st.text(max_size=4),
            max_size=4,
        ),
        max_size=5,
    )
)
def test_arbitrary_paths_stay_below_the_directory(paths: list[list[str]]) -> None:
    """Whatever is let through lies below the directory, in one that was named, once."""
    rules, seen = PathRules(), set[str]()
    for parts in paths:
        path = "/".join(parts)
        if rules.find_problem(path, EntryType.DIRECTORY, None):
            continue
        assert os.path.normpath(path) == path
        assert not path.startswith(("/", "..")) and "\0" not in path
        parent = path.rpartition("/")[0]
        assert not parent or parent in seen
        assert path not in seen
        seen.add(path)


@MANY
@given(
    st.lists(st.sampled_from(["a", "b", "..", ".", "", "\\", "\0"]), max_size=6), st.integers(0, 3)
)
def test_arbitrary_symlinks_stay_below_the_root(parts: list[str], depth: int) -> None:
    path, target = "/".join(["d"] * depth + ["link"]), "/".join(parts)
    if find_link_problem(path, target) is None:
        leads = os.path.normpath(f"/root/{path.rpartition('/')[0]}/{target}")
        assert leads == "/root" or leads.startswith("/root/")


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.flush()
        yield stream.fileno()


@MANY
@given(
    content=st.binary(max_size=80)
    | st.builds(
        lambda good, at, put: good[:at] + put + good[at + 1 :],
        st.just(compress_stream(b"abc" * 400)), st.integers(0, 40), st.binary(max_size=2),
    ),
    plain=st.integers(0, 5000),
    reads=st.lists(st.integers(0, 3000), max_size=4),
)  # fmt: skip
def test_arbitrary_streams_are_read_within_bounds(
    content: bytes, plain: int, reads: list[int]
) -> None:
    with _file(content) as descriptor:
        reader, have = LzmaReader(descriptor, Extent(0, len(content), plain)), 0
        with contextlib.suppress(MalformedPackError):
            for size in reads:
                have += len(reader.read(size))
            reader.check_exhausted()
            assert have == plain
        assert have <= plain


ARCHIVE = jar({"a": b"a" * 500, "b": b"b", "c": b""})


@MANY
@given(
    at=st.integers(0, len(ARCHIVE)), length=st.integers(0, 8), put=st.binary(max_size=8),
    cut=st.integers(0, len(ARCHIVE)),
)  # fmt: skip
def test_arbitrary_archives_are_read_within_bounds(
    at: int, length: int, put: bytes, cut: int
) -> None:
    """Members never reach out of the file, and never give more than they say."""
    for content in (ARCHIVE[:at] + put + ARCHIVE[at + length :], ARCHIVE[:cut]):
        with _file(content) as descriptor, contextlib.suppress(NotAnArchiveError), bounded(60):
            table = ZipTable(descriptor)
            for index in range(len(table)):
                start, gap = table.get_gap(index)
                assert 0 <= start <= start + gap <= len(content)
                member = table[index]
                assert member.end <= len(content)
                assert sum(map(len, inflate_member(descriptor, member))) == member.plain


def test_claimed_archive_size_allocates_no_memory() -> None:
    """A directory of a million members in a file that has three."""
    content = bytearray(ARCHIVE)
    end = content.rindex(b"PK\5\6")
    content[end + 8 : end + 12] = b"\xfe\xff\xfe\xff"
    tracemalloc.start()
    try:
        with _file(bytes(content)) as descriptor, pytest.raises(NotAnArchiveError):
            ZipTable(descriptor)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
