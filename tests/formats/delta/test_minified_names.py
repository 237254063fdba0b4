"""Tests of short names that a bundler reassigns: packs are small and exact."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncen_updater.common.messages import DELTA_ERROR
from ncen_updater.formats.delta import byte_transforms
from ncen_updater.formats.delta import group_encoder as encode
from ncen_updater.formats.delta import pack_builder as make
from ncen_updater.formats.delta.byte_transforms import (
    BATCH_NUMBERS,
    MAX_NAMES,
    NameReplacer,
    split_names,
)
from ncen_updater.formats.delta.cover_finder import NameCorrections
from ncen_updater.formats.delta.lzma_streams import Extent, compress_stream
from ncen_updater.formats.delta.pack_builder import PackOptions
from ncen_updater.formats.delta.pack_plan import (
    MINIFIED_NAMES,
    FileGroup,
    FileReference,
    MinifiedNames,
    list_capabilities,
)
from tests.formats.delta.factories import Files, Forge, fresh, group, planes, there
from tests.support.errors import refused

WORDS = [random.Random(n).randbytes(3).hex() for n in range(900)]
ONE, TWO = "abcdefgh", ["t", "s", "aa", "q$1", "p", "$", "_n", "m9"]


def _program(names: list[str] | str, statements: int = 3000, seed: int = 1) -> bytes:
    """The same statements whatever the names."""
    draw = random.Random(seed)
    said = []
    for _ in range(statements):
        one, two, three = (names[draw.randrange(len(names))] for _ in range(3))
        said.append(f"{one}.{draw.choice(WORDS)}({two},{three}+{draw.randrange(9)});")
    return "".join(said).encode()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names are dealt with however little is won."""
    monkeypatch.setattr(make, "MAX_NAMES_RATIO", 1000)
    return iter(())


def test_renamed_identifiers_cost_little(tmp_path: Path) -> None:
    """Also where they have other lengths, and beside files that are no programs."""
    old: Files = {"a/x.bin": bytes(range(256)) * 90, "m-1.js": _program(ONE), "n.py": b"a = 1\n"}
    new: Files = {"a/x.bin": bytes(range(255)) * 90, "m-2.js": _program(TWO), "n.py": b"a = 2\n"}
    info, _ = there(tmp_path / "1", old, new)
    assert info.needs == (MINIFIED_NAMES,)
    assert MINIFIED_NAMES in list_capabilities()
    assert info.pack_bytes < 700
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "MAX_NAMES_RATIO", 0)
        patch.setattr(encode, "MAX_SINGLE_FRAME_BYTES", 0)
        without, _ = there(tmp_path / "2", old, new)
    assert without.needs == ()
    assert without.pack_bytes > 10 * info.pack_bytes


def test_unprofitable_renaming_keeps_compatibility_with_older_agents(tmp_path: Path) -> None:
    program = _program(ONE)
    info, _ = there(tmp_path, {"m.js": program}, {"m.js": program + b"more(1)"})
    assert info.needs == ()


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (_program(ONE, 20_000), _program(TWO, 20_000)),  # pieces of more than a block
        (b"\xff" + _program(ONE), b"\xff" + _program(TWO)),  # not UTF-8
        (_program(ONE), b"\xff" + _program(TWO)),
        (b"a" * 200_000, b"a" * 199_999 + b"b"),
        (b"a," * 90_000, b"b," * 90_000),
        (b"abc " * 50_000, b"abc " * 49_999 + b"x y "),
        (_program(ONE).replace(b"+", b"-", 40), _program(TWO).replace(b";", b"x", 9)),
        (_program(ONE), _program(ONE)[:20_000] + _program(TWO)[30_000:]),
    ],
)
def test_arbitrary_programs_round_trip(tmp_path: Path, old: bytes, new: bytes) -> None:
    there(tmp_path, {"m.js": old, "n": b"1"}, {"m.js": new, "n": b"2"})


@pytest.mark.usefixtures("always")
def test_several_groups_and_windows_are_renamed(tmp_path: Path) -> None:
    old = {f"{n}.js": _program(ONE, 300, n) for n in range(12)}
    new: Files = {f"{n}.js": _program(TWO, 300, n) for n in range(12)}
    options = PackOptions(group_bytes=20_000, window_bytes=9_000)
    info, _ = there(tmp_path, {**old, "x": b"x" * 999}, {**new, "x": b"x" * 998}, options)
    assert info.needs == (MINIFIED_NAMES,)


PARTS = st.sampled_from(
    [b"a", b"b", b"fo", b"foo", b"$", b"q$1", b"if", b"for", b".", b"...", b";", b"(", b"word",
     b"x.y", b"9", b"9a", b"\xff", b"\xc3\xa9", b"\0", b" ", b"function(){", b"return "]
)  # fmt: skip
PROGRAMS = st.lists(PARTS, max_size=60).map(b"".join)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(PROGRAMS, PROGRAMS), min_size=1, max_size=3), st.booleans())
def test_arbitrary_program_pairs_round_trip(pairs: list[tuple[bytes, bytes]], repeat: bool) -> None:
    """Seen from a common part that is long enough for a cover."""
    times = 40 if repeat else 1
    old = {
        f"{n}.js": b"var a=" + one * times + _program(ONE, 9) for n, (one, _) in enumerate(pairs)
    }
    new = {
        f"{n}.mjs": b"var b=" + two * times + _program(TWO, 9) for n, (_, two) in enumerate(pairs)
    }
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "MAX_NAMES_RATIO", 1000)
        there(Path(place), old, new, PackOptions(group_bytes=900, window_bytes=700))


# ---- corrections -------------------------------------------------------------------------------


def _renamer(content: bytes) -> NameReplacer:
    stream = iter(content)
    return NameReplacer(len(content) // 8, lambda size: bytes(next(stream) for _ in range(size)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(*[st.sampled_from([b"a", b"b", b"cc", b"d$1"])] * 2), max_size=30),
        max_size=8,
    )
)
def test_names_are_restored(covers: list[list[tuple[bytes, bytes]]]) -> None:
    corrections = NameCorrections()
    for cover in covers:
        corrections.add_names([old for old, _ in cover], [new for _, new in cover])
    renamer = _renamer(b"".join(corrections.encode_corrections()))
    for cover in covers:
        text = b"".join(old + b"; 12 " for old, _ in cover)
        assert renamer.replace_names(text) == b"".join(new + b"; 12 " for _, new in cover)
    renamer.check_exhausted()


def test_excess_names_and_corrections_are_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(byte_transforms, "MAX_NAMES", 50)
    draw = random.Random(3)
    count = BATCH_NUMBERS + 900
    old = [b"%c%d" % (97 + draw.randrange(20), draw.randrange(9)) for _ in range(count)]
    new = [b"%c" % (97 + draw.randrange(26)) for _ in range(count)]
    corrections = NameCorrections()
    corrections.add_names(old, new)
    assert len(corrections) > BATCH_NUMBERS
    renamer = _renamer(b"".join(corrections.encode_corrections()))
    assert renamer.replace_names(b",".join(old)) == b",".join(new)
    renamer.check_exhausted()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"var a=b.c,foo=bar1(x)", [b"a", b"b", b"foo", b"x"]),
        (b"if(q$1)for(;;)let $=_", [b"q$1", b"$", b"_"]),
        (b"1a a1 \xc3\xa9", [b"a1"]),
        (b"", []),
    ],
)
def test_identifiers_are_split(text: bytes, names: list[bytes]) -> None:
    parts = split_names(text)
    assert parts[1::2] == names
    assert b"".join(parts) == text


def test_stored_names_are_bounded() -> None:
    """However many a pack corrects."""
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = [bytes((a, b, c)) for a in letters for b in letters for c in letters]
    corrections = NameCorrections()
    corrections.add_names(names, [b"x%c" % (97 + n % 26) for n in range(len(names))])
    assert len(corrections) > 3 * MAX_NAMES
    renamer = _renamer(b"".join(corrections.encode_corrections()))
    pieces = [b",".join(names[at : at + 900]) for at in range(0, len(names), 900)]
    for piece in pieces[:20]:
        renamer.replace_names(piece)
    tracemalloc.start()
    try:
        for piece in pieces[20:]:
            renamer.replace_names(piece)
        assert tracemalloc.get_traced_memory()[0] < 8 << 20
    finally:
        tracemalloc.stop()


# ---- hostile -----------------------------------------------------------------------------------

OLD: Files = {"dir": None, "dir/old.js": b"a+b;a+b;a+b;a+b;", "last": b"z" * 300}


def _word(name: bytes) -> int:
    return int.from_bytes(name, "little")


def _named(
    covers: list[tuple[int, int, int]],
    corrections: list[tuple[int, int]],
    *,
    view: int = 16,
    matched: int = 16,
    literals: bytes = b"",
    count: int | None = None,
) -> tuple[FileGroup, bytes]:
    made, streams = group(
        literals,
        refs=[FileReference(1)],
        control=planes(*covers),
        differences=bytes(matched),
        view=view,
    )
    plain = planes(*corrections) if corrections else b""
    packed = compress_stream(plain)
    said = len(plain) if count is None else 8 * count
    renamed = MinifiedNames(matched, Extent(0, len(packed), said))
    return replace(made, minified_names=renamed), streams + packed


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    made = Forge(tmp_path / "site", OLD)
    made.limits = made.limits.model_copy(update={"needs": (MINIFIED_NAMES,)})
    return made


GOOD = [(0, 0, 16 << 1 | 1)]
RIGHT = [(0, _word(b"x")), (0, _word(b"yy"))]


def test_names_are_replaced_with_a_signed_capability(forge: Forge) -> None:
    made, streams = _named(GOOD, RIGHT, view=20)
    forge.plan([0, fresh("dir/new", 20)], made, streams=streams)
    forge.apply()
    assert (forge.out / "dir/new").read_bytes() == b"x+yy;" * 4
    with refused(DELTA_ERROR, match="capabilities not signed"):
        forge.apply(forge.limits.model_copy(update={"needs": ()}))


@pytest.mark.parametrize(
    ("covers", "corrections", "view", "matched"),
    [
        (GOOD, RIGHT, 19, 16),  # they come out longer
        (GOOD, RIGHT, 21, 16),  # or shorter
        (GOOD, [(0, 0)], 20, 16),  # a name that becomes nothing
        (GOOD, [*RIGHT, (90, _word(b"z"))], 20, 16),  # one that is not there
        (GOOD, RIGHT, 20, 15),  # covers of more bytes than declared
        (GOOD, RIGHT, 20, 17),
        (GOOD, RIGHT, 20, 61),  # more than names can make of so many
        ([(0, 0, 1)], RIGHT, 20, 16),  # a cover of nothing
        ([(0, 0, 17 << 1 | 1)], RIGHT, 20, 17),  # one that is longer than the old file
        ([(0, 0, (131_073) << 1 | 1)], RIGHT, 20, 16),  # or than a block
    ],
)
def test_inconsistent_names_are_refused(
    forge: Forge,
    covers: list[tuple[int, int, int]],
    corrections: list[tuple[int, int]],
    view: int,
    matched: int,
) -> None:
    made, streams = _named(covers, corrections, view=view, matched=matched)
    forge.plan([0, fresh("dir/new", view)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()


@pytest.mark.parametrize("count", [0, 3, 16, 17, 1 << 40])
def test_wrong_correction_count_is_refused(forge: Forge, count: int) -> None:
    made, streams = _named(GOOD, RIGHT, view=20, count=count)
    forge.plan([0, fresh("dir/new", 20)], made, streams=streams)
    with refused(DELTA_ERROR):
        forge.apply()
