"""A pack is never larger than the plain alternative: one call of zstd on the whole release.

Each case is one of what such a call makes use of: anything in the old release and in the new one,
wherever it stands.
"""

from __future__ import annotations

import io
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from ncen_updater.common.messages import (
    DELTA_ERROR,
    INSUFFICIENT_SPACE,
)
from ncen_updater.formats.delta import group_decoder as codec
from ncen_updater.formats.delta import group_encoder as encode
from ncen_updater.formats.delta import lzma_streams as streams
from ncen_updater.formats.delta.lzma_streams import Extent
from ncen_updater.formats.delta.pack_plan import (
    BUFFER_BYTES,
    EARLIER_FILES,
    SINGLE_FRAME,
    SINGLE_FRAME_MEMORY_BYTES,
    FileGroup,
    FileReference,
    list_capabilities,
)
from tests.formats.delta.factories import Files, Forge, Mode, fresh, group, there
from tests.support.errors import refused

LARGE = [random.Random(n).randbytes(120_000) for n in range(8)]
WORDS = [random.Random(n).randbytes(3).hex() for n in range(900)]


def _text(seed: int, words: int = 9000) -> bytes:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words)).encode()


def _edited(content: bytes, seed: int) -> bytes:
    """Some places changed, some taken out."""
    draw, made = random.Random(seed), content
    for _ in range(6):
        at = draw.randrange(len(made))
        made = made[:at] + draw.randbytes(9).hex().encode() + made[at + draw.randrange(40) :]
    return made


def _script(seed: int, names: str, statements: int = 2500) -> bytes:
    """What a bundler leaves: the same statements, and variables that it names as it likes."""
    draw = random.Random(seed)
    said = []
    for _ in range(statements):
        one, two, three = (names[draw.randrange(len(names))] for _ in range(3))
        said.append(f"{one}.{draw.choice(WORDS)}({two},{three}+{draw.randrange(9)});")
    return "".join(said).encode()


def _tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            entry, content = tarfile.TarInfo(name), files[name]
            content = content.content if isinstance(content, Mode) else content
            assert isinstance(content, bytes)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def one_call(old: Files, new: Files) -> int:
    """Bytes of ``zstd -19 --long=27 --patch-from``."""
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: 19,
        parameter.window_log: 27,
        parameter.enable_long_distance_matching: 1,
    }
    before = zstd.ZstdDict(_tar(old), is_raw=True)
    return len(zstd.compress(_tar(new), options=options, zstd_dict=before.as_prefix))


def _mangled(content: bytes, each: int) -> bytes:
    """Something put in or taken out every few bytes: nothing is alike for long."""
    draw, made, at = random.Random(each), bytearray(), 0
    while at < len(content):
        size = draw.randrange(1, 2 * each)
        made += content[at : at + size]
        at += size
        if draw.randrange(2):
            made += b"%d" % draw.randrange(99)
        else:
            at += draw.randrange(1, 4)
    return bytes(made)


# Digests of both trees and lengths, which such a call has not, and what makes it worth the while.
HEAD_BYTES = 80 + 160


def _numbered(content: bytes, each: int) -> bytes:
    """Figures put over some bytes, one in so many."""
    draw, made = random.Random(each), bytearray(content)
    for at in range(0, len(made), each):
        made[min(at + draw.randrange(each), len(made) - 1)] = 0x30 + draw.randrange(10)
    return bytes(made)


STAYS: Files = {"v1/a": LARGE[0], "v1/b": LARGE[1], "v1/c.txt": _text(1), "v1/d": LARGE[2]}
SAID = _script(1, "abcdefgh")

CASES: dict[str, tuple[Files, Files]] = {
    "a new file that is one that stays, edited": (
        STAYS, {**STAYS, "v2/a": _edited(LARGE[0], 1), "v2/c.txt": _edited(_text(1), 2)},
    ),
    "a new file of parts of some that stay": (
        STAYS, {**STAYS, "all": LARGE[2][:9000] + LARGE[0][500:30_000] + _text(1)[5000:]},
    ),
    "a changed file that took over from one that stays": (
        {**STAYS, "x": _text(7)}, {**STAYS, "x": _text(7) + LARGE[1][10_000:]},
    ),
    "a new file like one that only moved": (
        {"a": LARGE[3]}, {"b": LARGE[3], "c": _edited(LARGE[3], 4)},
    ),
    "what cannot be made smaller": ({"a": LARGE[0]}, {"a": LARGE[4], "b": LARGE[5]}),
    "one new file": ({}, {"a": LARGE[6][:3000]}),
    "nothing new": (STAYS, STAYS),
    "variables that have other names": (
        {"m.js": SAID}, {"m.js": _script(1, "tsrqponm")},
    ),
    "figures in what is otherwise the same": (
        {"a": LARGE[0], "b": _text(3), "c": LARGE[1]},
        {"a": _numbered(LARGE[0], 12), "b": _numbered(_text(3), 60), "c": LARGE[1]},
    ),
    "what is alike for some bytes only": (
        {"a": LARGE[0], "b": _text(3)}, {"a": _mangled(LARGE[0], 6), "b": _mangled(_text(3), 12)},
    ),
    "many small files": (
        {f"d/{n}": _text(n, 40) for n in range(200)},
        {f"d/{n}": _text(n + n % 2, 40) for n in range(200)},
    ),
}  # fmt: skip


def test_similar_distant_new_files_are_packed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further than a dictionary reaches, in which that call has no limit."""
    monkeypatch.setattr(streams, "MAX_DICTIONARY_BYTES", 1 << 16)
    new: Files = {"a": LARGE[0], "b": LARGE[1], "c": LARGE[2], "d": _edited(LARGE[0], 5)}
    new = {**new, "e": _edited(LARGE[0], 6), "f": LARGE[3], "g": _edited(LARGE[1], 7)}
    info, _ = there(tmp_path, {}, new)
    assert info.needs == (EARLIER_FILES,)
    assert EARLIER_FILES in list_capabilities()
    assert info.pack_bytes <= one_call({}, new) + HEAD_BYTES


@pytest.mark.parametrize("name", CASES)
def test_pack_is_no_larger_than_one_zstd_frame(tmp_path: Path, name: str) -> None:
    old, new = CASES[name]
    info, _ = there(tmp_path, old, new)
    assert info.pack_bytes <= one_call(old, new) + HEAD_BYTES


def test_single_frame_is_used_where_smaller(tmp_path: Path) -> None:
    """Not where old and new files are too many for memory."""
    old, new = CASES["what is alike for some bytes only"]
    info, _ = there(tmp_path / "1", old, new)
    assert info.needs == (SINGLE_FRAME,)
    assert SINGLE_FRAME in list_capabilities()
    assert info.max_memory_bytes == BUFFER_BYTES + SINGLE_FRAME_MEMORY_BYTES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "MAX_SINGLE_FRAME_BYTES", 300_000)
        larger, _ = there(tmp_path / "2", old, new)
    assert larger.needs == ()
    assert larger.pack_bytes > 1.2 * info.pack_bytes


# ---- hostile -----------------------------------------------------------------------------------


def _called(frame: bytes, view: int, **more: object) -> tuple[FileGroup, bytes]:
    made, _ = group(b"", refs=[FileReference(1)])
    extent = Extent(0, len(frame), view)
    return replace(made, view=view, literals=extent, single_frame=True, **more), frame  # type: ignore[arg-type]


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    made = Forge(tmp_path / "site", {"dir": None, "dir/old": LARGE[0], "last": b"z"})
    limits = {
        "needs": (SINGLE_FRAME,),
        "max_memory_bytes": 1 << 40,
        "out_bytes": 1 << 40,
    }
    made.limits = made.limits.model_copy(update=limits)
    return made


def _framed(content: bytes, window: int = 20, *, before: bytes = LARGE[0]) -> bytes:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: window}
    prefix = zstd.ZstdDict(before, is_raw=True).as_prefix
    return zstd.compress(content, options=options, zstd_dict=prefix)


def test_single_frame_is_decoded_with_the_old_files(forge: Forge) -> None:
    new = LARGE[0][500:] + b"new"
    frame = _framed(new)
    assert len(frame) < 100
    made, streams = _called(frame, len(new))
    forge.plan([0, fresh("dir/new", len(new))], made, streams=streams)
    forge.apply()
    assert (forge.out / "dir/new").read_bytes() == new
    with refused(DELTA_ERROR, match="capabilities not signed: zstd-prefix"):
        forge.apply(forge.limits.model_copy(update={"needs": ()}))


GOOD = _framed(b"some words" * 9)


@pytest.mark.parametrize(
    ("frame", "view"),
    [
        (GOOD, 89),
        (GOOD, 91),
        (GOOD[:-1], 90),
        (GOOD + b"!", 90),
        (GOOD + GOOD, 180),
        (b"\x50\x2a\x4d\x18\4\0\0\0skip", 90),
        (b"no frame", 90),
        (_framed(bytes(1 << 27), 27), 90),
        (GOOD, 1 << 25),
        (GOOD, 1 << 40),
    ],
)
def test_invalid_single_frames_are_refused(forge: Forge, frame: bytes, view: int) -> None:
    """Refused, and at most so much memory was taken as any of them may."""
    made, streams = _called(frame, view)
    forge.plan([0, fresh("dir/new", view)], made, streams=streams)
    with refused(DELTA_ERROR, INSUFFICIENT_SPACE):
        forge.apply()


def test_single_frame_must_be_alone_in_its_group(forge: Forge) -> None:
    made, streams = _called(GOOD, 90)
    for wrong in (
        replace(made, covers=1, control=Extent(0, 1, 12)),
        replace(made, runs=1, zeros=Extent(0, 1, 8)),
        replace(made, differences=Extent(0, 1, 3)),
        replace(made, view=91),
        replace(made, view=0, literals=Extent(0, 0, 0)),
    ):
        forge.plan([0, fresh("dir/new", 90)], wrong, streams=b"\1" + streams)
        with refused(DELTA_ERROR):
            forge.apply()


def test_single_frame_over_a_large_old_tree_is_refused(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_SINGLE_FRAME_BYTES", len(LARGE[0]) - 1)
    made, streams = _called(GOOD, 90)
    forge.plan([0, fresh("dir/new", 90)], made, streams=streams)
    with refused(DELTA_ERROR, match="length mismatch"):
        forge.apply()
