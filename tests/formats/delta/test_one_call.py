"""A pack is never larger than the plain alternative: one call of zstd on the whole release.

Each case is one of what such a call makes use of: anything in the old release and in the new one,
wherever it stands.
"""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from backports import zstd

from ncen_updater.formats.delta import streams
from ncen_updater.formats.delta.model import EARLIER, capabilities
from tests.formats.delta.making import Files, Mode, there

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


# Digests of both trees and lengths, which such a call has not, and the frames of four streams.
HEAD_BYTES = 160


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
    "many small files": (
        {f"d/{n}": _text(n, 40) for n in range(200)},
        {f"d/{n}": _text(n + n % 2, 40) for n in range(200)},
    ),
}  # fmt: skip


def test_new_files_that_are_alike_and_far_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further than a dictionary reaches, in which that call has no limit."""
    monkeypatch.setattr(streams, "MAX_DICTIONARY", 1 << 16)
    new: Files = {"a": LARGE[0], "b": LARGE[1], "c": LARGE[2], "d": _edited(LARGE[0], 5)}
    new = {**new, "e": _edited(LARGE[0], 6), "f": LARGE[3], "g": _edited(LARGE[1], 7)}
    info, _ = there(tmp_path, {}, new)
    assert info.needs == (EARLIER,)
    assert EARLIER in capabilities()
    assert info.pack_bytes <= one_call({}, new) + HEAD_BYTES


@pytest.mark.parametrize("name", CASES)
def test_no_larger_than_one_call_of_zstd(tmp_path: Path, name: str) -> None:
    old, new = CASES[name]
    info, _ = there(tmp_path, old, new)
    assert info.pack_bytes <= one_call(old, new) + HEAD_BYTES
