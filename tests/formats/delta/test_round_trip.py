"""Tests that a pack yields the new release, byte for byte; and that it is small."""

from __future__ import annotations

import base64
import builtins
import hashlib
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.delta import group_encoder as encode
from ncen_updater.formats.delta import tree_pairing as pairing
from ncen_updater.formats.delta.cover_finder import is_finder_installed
from ncen_updater.formats.delta.pack_builder import PackOptions, build_pack
from ncen_updater.formats.delta.pack_plan import COPIES, DeltaVerificationError, list_capabilities
from tests.formats.delta.factories import Content, Files, Link, Mode, jar, there, write

NOISE = random.Random(7).randbytes(200_000)
CODE = b"".join(b"def f%d(x):\n    return x * %d\n" % (n, n * n) for n in range(3000))
CLASSES = {f"org/a/C{n}.class": NOISE[n * 50 : n * 50 + 900] + CODE[:4000] for n in range(40)}


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        ({}, {}, 120),
        ({"a": b"x"}, {}, 140),
        ({}, {"a": b"x", "e": None, "l": Link("a")}, 160),
        ({"a": b"x"}, {"a": b"x"}, 130),
        ({"a": NOISE}, {"b": NOISE}, 140),
        ({"a": NOISE}, {"a": NOISE, "b": NOISE, "c/d": NOISE}, 160),
        ({"a": NOISE}, {"a": NOISE[:5000] + b"changed" + NOISE[5000:]}, 200),
        ({"lib-1.0.so": NOISE}, {"lib-1.1.so": NOISE[:100] + b"!" + NOISE[101:]}, 200),
        ({"a": CODE}, {"a": CODE.replace(b"return x", b"return y")}, 400),
        ({"a": b"x"}, {"a": Mode(b"x", 0o755)}, 140),
        ({"a": Mode(b"x", 0o444)}, {"a": b"x"}, 140),
        ({"a": Mode(b"x", 0o755)}, {"a": Mode(b"y", 0o640)}, 150),
        ({"a": b"x"}, {"a/b": b"x"}, 160),
        ({"a/b": b"x"}, {"a": b"x"}, 160),
        ({"a": Link("b"), "b": b"x"}, {"a": b"x", "b": Link("a")}, 170),
        ({"a": Link("b"), "b": b"x"}, {"a": Link("c"), "c": b"x"}, 170),
        ({"e": None}, {"e": b""}, 150),
        ({"d/l": Link("../x"), "x": b"1"}, {"d/l": Link("../x"), "x": b"2"}, 150),
        ({"loop": b"1"}, {"loop": Link("loop")}, 150),
        ({"é/ü": b"1" * 500}, {"é/ü": b"1" * 501, "é/日本": b"1" * 500}, 180),
        ({"a b\n": b"1"}, {"a b\n": b"1", 'q"': b"2"}, 180),
        ({"s": b""}, {"s": b"", "t": b""}, 150),
    ],
)
def test_pack_yields_the_new_release(tmp_path: Path, old: Files, new: Files, most: int) -> None:
    info, _ = there(tmp_path, old, new)
    assert info.pack_bytes <= most + 100


def test_moved_and_renamed_files_cost_only_their_names(tmp_path: Path) -> None:
    old = {f"dist-1.0/{n:032x}.js": CODE + b"%d" % n for n in range(50)}
    new = {f"dist-1.1/{n:032x}.js": CODE + b"%d" % n for n in range(50)}
    info, _ = there(tmp_path, old, new)
    assert (info.same_files, info.written_files) == (50, 0)
    assert info.pack_bytes < 200


def test_moved_code_is_found(tmp_path: Path) -> None:
    new = {"z": NOISE[100_000:] + b"1", "a": NOISE[:100_000] + b"2"}
    info, _ = there(tmp_path, {"m": NOISE}, new)
    assert info.pack_bytes < 400


def test_packs_are_reproducible(tmp_path: Path) -> None:
    old: Files = {"a": CODE, "x.jar": jar(CLASSES), "b": NOISE}
    new: Files = {"a": CODE[100:], "x.jar": jar({**CLASSES, "new": CODE}), "b": NOISE[1:]}
    there(tmp_path / "1", old, new)
    there(tmp_path / "2", old, new)
    assert (tmp_path / "1/pack").read_bytes() == (tmp_path / "2/pack").read_bytes()


def test_large_trees_are_split_into_groups_and_windows(tmp_path: Path) -> None:
    old = {f"f{n}": NOISE[n * 1000 : n * 1000 + 30_000] for n in range(40)}
    new = {name: content[:200] + b"-" + content[200:] for name, content in old.items()}
    options = PackOptions(group_bytes=100_000, window_bytes=50_000)
    info, _ = there(tmp_path, old, new, options)
    assert info.pack_bytes < 12_000


def test_files_similar_to_several_groups_stay_within_the_limit(tmp_path: Path) -> None:
    """Each of six unchanged files resembles both new files: 12 references, 8 files."""
    half = len(NOISE) // 2
    parts = [(NOISE[n : n + 16_000], NOISE[half + n : half + n + 16_000]) for n in
             range(0, 96_000, 16_000)]  # fmt: skip
    old = {f"u{number}": b"".join(both) for number, both in enumerate(parts)}
    new = {**old, "x": NOISE[:96_000], "y": NOISE[half : half + 96_000]}
    info, _ = there(tmp_path, old, new, PackOptions(group_bytes=50_000, window_bytes=1 << 20))
    assert info.written_files == 2


def test_file_larger_than_the_window_is_packed(tmp_path: Path) -> None:
    big = random.Random(1).randbytes(1_000_000)
    options = PackOptions(group_bytes=100_000, window_bytes=100_000)
    info, _ = there(tmp_path, {"a": big}, {"a": big[:333_333] + b"x" + big[333_333:]}, options)
    assert info.pack_bytes < 5_000


def _bundle(number: int) -> bytes:
    """What a bundler leaves of a module: words that stand in no other, and much that does."""
    draw = random.Random(number)
    words = ((draw.randbytes(6).hex(), draw.randbytes(20).hex()) for _ in range(300))
    return "".join(f"e.{name}_{number}=t({value});" for name, value in words).encode()


def _hashed(content: bytes) -> str:
    """A name that says nothing, as bundlers give them."""
    name = base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:6]).decode()
    return f"assets/{name}.js"


@pytest.mark.parametrize("window", [60_000, 200_000])
def test_files_with_hashed_names_are_paired(tmp_path: Path, window: int) -> None:
    old = {_hashed(content): content for content in map(_bundle, range(40))}
    edited = [content[:5000] + b"edit()" + content[5000:] for content in old.values()]
    new = {_hashed(content): content for content in edited}
    options = PackOptions(group_bytes=window, window_bytes=window)
    info, _ = there(tmp_path, old, new, options)
    assert info.written_bytes > 3 * window
    assert info.pack_bytes < 4_000


def test_repeated_new_content_is_packed_once(tmp_path: Path) -> None:
    """Of other modes, and over what was there before; a small one is packed beside the first."""
    old: Files = {"c": b"what was there"}
    new: Files = {"a/data": NOISE, "b/other": Mode(NOISE, 0o755), "c": NOISE}
    new = {**new, "d": CODE[:99], "e": CODE[:99]}
    info, _ = there(tmp_path, old, new)
    assert (info.written_files, info.written_bytes) == (3, len(NOISE) + 2 * 99)
    assert info.same_files == 0
    assert info.needs == (COPIES,)
    assert COPIES in list_capabilities()


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_archives_are_rebuilt_from_their_members(tmp_path: Path, level: int) -> None:
    old = jar(CLASSES, level)
    changed = {**CLASSES, "org/a/C7.class": CLASSES["org/a/C7.class"] + b"more", "org/N": b"n" * 99}
    del changed["org/a/C3.class"]
    new = jar(changed, level, b"comment", 2026)
    info, _ = there(tmp_path, {"lib-1.jar": old}, {"lib-2.jar": new})
    assert info.rebuilt_archives == 1
    assert info.needs == ((f"deflate-zlib-{level}.8",) if level else ())
    assert info.pack_bytes < 2000


def test_two_archives_are_rebuilt_from_one(tmp_path: Path) -> None:
    other = {**CLASSES, "org/a/C9.class": CODE}
    new = {"a-2.jar": jar(CLASSES, year=2026), "a-3.jar": jar(other)}
    info, _ = there(tmp_path, {"a-1.jar": jar(CLASSES)}, new)
    assert info.rebuilt_archives == 2


def test_irreproducible_deflate_is_packed_as_bytes(tmp_path: Path) -> None:
    new = {**CLASSES, "org/a/C1.class": CODE * 2}
    info, _ = there(tmp_path, {"a.jar": jar(CLASSES, 6)}, {"a.jar": jar(new, 3)})
    assert info.needs == ()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"tail",
        lambda raw: b"PK\3\4" + raw,
        lambda raw: raw.replace(b"PK\1\2", b"PK\1\3", 1),
        lambda raw: raw[:40] + bytes(200) + raw[240:],
        lambda raw: raw[:60],
    ],
)
def test_invalid_archives_are_packed_as_bytes(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    old, new = jar(CLASSES), jar({**CLASSES, "x": CODE})
    there(tmp_path / "1", {"a.jar": spoil(old)}, {"a.jar": new})
    there(tmp_path / "2", {"a.jar": old}, {"a.jar": spoil(new)})


def test_packs_without_the_match_finder_are_larger_but_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_finder_installed()
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "hdiffpatch":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(
        encode, "MAX_SINGLE_FRAME_BYTES", 0
    )  # which finds it as well, in what is small
    assert not is_finder_installed()
    info, _ = there(tmp_path, {"a": CODE, "m": NOISE}, {"a": CODE + b"1", "n": NOISE})
    assert 1000 < info.pack_bytes < len(CODE)


def test_unverified_pack_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing._ArchiveComparison, "_is_equal", lambda *_: True)
    forged = bytearray(jar(CLASSES, 0))
    place = forged.index(CLASSES["org/a/C5.class"][:40])
    forged[place] ^= 1  # the check sum in the archive now lies about this member
    with pytest.raises(DeltaVerificationError):
        there(tmp_path, {"a": jar(CLASSES, 0)}, {"a": bytes(forged)})
    assert not (tmp_path / "pack").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]


def test_release_changed_during_packing_is_detected(tmp_path: Path) -> None:
    old_tree = write(tmp_path / "old", {"a": CODE})
    new_tree = write(tmp_path / "new", {"a": CODE + b"1"})
    (tmp_path / "new/a").write_bytes(CODE + b"2")
    with pytest.raises(DeltaVerificationError):
        build_pack(
            tmp_path / "old", old_tree, tmp_path / "new", new_tree, tmp_path / "p", SilentProgress()
        )


# ---- any release ------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b-1.0", "b-1.1", "é", "x.jar", "lib", "0123abcd.js", "9123abcd.js"])
PIECES = st.lists(
    st.sampled_from(
        [CODE[:5000], CODE[:3000], NOISE[:5000], NOISE[5000:9000], b"\0" * 700, b"x", b""]
    ),
    max_size=4,
).map(b"".join)
JARS = st.dictionaries(st.sampled_from(["m", "n", "o/p"]), PIECES, min_size=1).flatmap(
    lambda members: st.sampled_from([1, 6, 9]).map(lambda level: jar(members, level))
)
CONTENTS: st.SearchStrategy[Content] = st.one_of(
    PIECES,
    JARS,
    st.builds(Mode, PIECES, st.sampled_from([0o600, 0o755, 0o444])),
    st.sampled_from([Link("a"), Link("nowhere"), Link(".")]),
    st.none(),
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def _consistent(files: dict[str, Content]) -> dict[str, Content]:
    """Leave out what is below something that is no directory."""
    kept: dict[str, Content] = {}
    for path in sorted(files, key=lambda p: p.split("/")):
        above = [path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)]
        if all(kept.get(one) is None for one in above):
            kept[path] = files[path]
    return kept


RELEASES = st.dictionaries(PATHS, CONTENTS, max_size=12).map(_consistent)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=RELEASES, new=RELEASES, keep=st.booleans())
def test_arbitrary_releases_round_trip(
    old: dict[str, Content], new: dict[str, Content], keep: bool
) -> None:
    if keep:
        new = _consistent({**old, **new})
    with tempfile.TemporaryDirectory() as place:
        there(Path(place), old, new, PackOptions(group_bytes=20_000, window_bytes=8_000))
