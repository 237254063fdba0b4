"""Tests of altered packs and old files: reported, and never another tree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncen_updater.common.messages import DELTA_ERROR, OLD_FILE_ALTERED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.delta.apply import apply_pack
from ncen_updater.formats.delta.pack_builder import build_pack
from ncen_updater.formats.delta.pack_plan import DeltaError, DeltaLimits, FileReference, LinkMode
from ncen_updater.formats.tree import Tree
from tests.formats.delta.factories import Forge, fresh, group, jar, planes, write
from tests.support.errors import refused


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "site")


# ---- another base -----------------------------------------------------------------------------


def test_pack_for_another_base_is_refused(forge: Forge) -> None:
    forge.plan([0, 1, 2])
    for change in ({"from_tree": "2" * 64}, {"to_tree": "2" * 64}):
        with refused(DELTA_ERROR) as caught:
            forge.apply(forge.limits.model_copy(update=change))
        assert caught.value.code == "NU-3150"
    forge.tree = Tree(entries=forge.tree.entries[:2])  # the record of the slot is another
    with refused(DELTA_ERROR):
        forge.apply()


def _rewritten(path: Path) -> None:
    path.write_bytes(b"W" + path.read_bytes()[1:])


def _replaced(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def _behind_a_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "alter",
    [
        _rewritten,
        _replaced,
        _behind_a_link,
        _pipe,
        Path.unlink,
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes() + b"x"),
    ],
)
@pytest.mark.parametrize("used", ["kept", "referred"])
def test_altered_old_file_is_named(forge: Forge, alter: Callable[[Path], None], used: str) -> None:
    if used == "kept":
        forge.plan([0, 1, 2])
    else:
        part, streams = group(
            b"!", refs=[FileReference(1)], control=planes((0, 0, 20)), differences=bytes(20)
        )
        forge.plan([0, fresh("dir/new", 21)], part, streams=streams)
    alter(forge.old / "dir/old.txt")
    with refused(OLD_FILE_ALTERED) as caught:
        forge.apply()
    assert caught.value.code == "NU-3157"
    assert "dir/old.txt" in str(caught.value)


# ---- cut and altered --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tree, DeltaLimits, bytes]:
    """A release, and a real pack from it to another, with every kind of entry."""
    place = tmp_path_factory.mktemp("honest")
    text = b"".join(b"line %d\n" % n for n in range(300))
    members = {f"m{n}": text[n:] for n in range(5)}
    old = write(place / "old", {"d/a": text, "j-1.jar": jar(members), "k": b"k", "m": b"m" * 50})
    members["m2"] += b"new"
    files = {"d/a": text[:900] + b"!" + text[900:], "d/n": b"new" * 9, "j-2.jar": jar(members)}
    new = write(place / "new", {**files, "k": b"k", "moved": b"m" * 50, "e/f": None})
    info = build_pack(place / "old", old, place / "new", new, place / "pack", SilentProgress())
    return place / "old", old, info, (place / "pack").read_bytes()


def _outcome(
    honest: tuple[Path, Tree, DeltaLimits, bytes], content: bytes, place: Path
) -> str | None:
    """The digest that comes out; None if the pack was refused. No other error may come."""
    old, tree, limits, _ = honest
    pack = place / "pack"
    pack.write_bytes(content)
    (place / "out").mkdir()
    try:
        made = apply_pack(pack, old, tree, place / "out", limits, SilentProgress(), LinkMode.SAFE)
        return made.compute_digest()
    except DeltaError:
        return None


def test_truncated_pack_is_refused(
    tmp_path: Path, honest: tuple[Path, Tree, DeltaLimits, bytes]
) -> None:
    content = honest[3]
    (tmp_path / "whole").mkdir()
    assert _outcome(honest, content, tmp_path / "whole") == honest[2].to_tree
    for length in range(len(content)):
        place = tmp_path / str(length)
        place.mkdir()
        assert _outcome(honest, content[:length], place) is None


def test_flipped_bits_never_yield_another_tree(
    tmp_path: Path, honest: tuple[Path, Tree, DeltaLimits, bytes]
) -> None:
    content = honest[3]
    for bit in range(0, len(content) * 8, 7):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        place = tmp_path / str(bit)
        place.mkdir()
        assert _outcome(honest, bytes(altered), place) != honest[2].to_tree


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_altered_bytes_never_yield_another_tree(
    tmp_path_factory: pytest.TempPathFactory,
    honest: tuple[Path, Tree, DeltaLimits, bytes],
    data: st.DataObject,
) -> None:
    content = honest[3]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 60)))
    altered = content[:start] + data.draw(st.binary(max_size=60)) + content[end:]
    outcome = _outcome(honest, altered, tmp_path_factory.mktemp("altered"))
    assert altered == content or outcome != honest[2].to_tree


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=120), st.booleans())
def test_arbitrary_index_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, in_columns: bool
) -> None:
    forge = Forge(tmp_path_factory.mktemp("any") / "site")
    if in_columns:  # so that more than the first check is reached
        pieces = [content[n::9] for n in range(9)]
        content = b"".join(bytes([len(piece)]) + piece for piece in pieces)
    forge.index(content)
    with pytest.raises(DeltaError):
        forge.apply()
