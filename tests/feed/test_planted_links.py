"""Links planted in the directory of the process that reads the feed, for one that has all rights.

An attacker who took that process over owns the directory. They cannot write to the slots, but the
process that can must not be led there when it tidies up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.common.messages import LOCAL_STORE_FAILED
from ncen_updater.feed.delta_packs import mark_pack_bad, read_bad_packs
from ncen_updater.feed.errors import TargetMissingError
from ncen_updater.feed.release_files import discard_release
from ncen_updater.formats.release_document import DeltaRef
from tests.badinput.hostile import typed
from tests.support.errors import has_message

REF = DeltaRef(
    target="deltas/ncen/3.2--3.3.0", length=1, sha256="a" * 64, from_version="3.2",
    from_tree="b" * 64, out_bytes=1, out_files=1, max_memory_bytes=1,
)  # fmt: skip


@pytest.fixture
def slots(tmp_path: Path) -> Path:
    """What is not the reader's: the slots, with one of the version that is tidied up."""
    slot = tmp_path / "slots/3.3.0"
    slot.mkdir(parents=True)
    for name in ("application", "verified.json", "refused.json", "3.2--3.3.0"):
        (slot / name).write_text("mine")
    return tmp_path / "slots"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "received/downloads/ncen/3.3.0"
    place.mkdir(parents=True)
    for name in ("release.json", "verified.json", "3.2--3.3.0"):
        (place / name).write_text("left")
    (place / "below").mkdir()
    return place


def _in_place_of(which: int) -> Callable[[Path, Path], None]:
    """A link to the slots in the place of a directory that the place is in, or of itself."""

    def plant(place: Path, slots: Path) -> None:
        found = [place, *place.parents][which]
        found.rename(found.with_name("aside"))
        found.symlink_to([slots / "3.3.0", slots, slots.parent / "fake"][which])
        if which == 2:
            (slots.parent / "fake").mkdir()
            (slots.parent / "fake/ncen").symlink_to(slots)

    return plant


def _inside(place: Path, slots: Path) -> None:
    """Links among the files."""
    (place / "below/slot").symlink_to(slots)
    for name in ("verified.json", "refused.json", "3.2--3.3.0"):
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(slots / "3.3.0" / name)


def contents(slots: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (slots / "3.3.0").iterdir()}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_symlinks_do_not_redirect_the_cleanup(place: Path, slots: Path, which: int) -> None:
    before = contents(slots)
    _in_place_of(which)(place, slots)
    for act in (
        lambda: discard_release(place),
        lambda: mark_pack_bad(place, REF, TargetMissingError(name="x")),
    ):
        assert has_message(typed(act), LOCAL_STORE_FAILED)
        assert contents(slots) == before
    assert [path.name for path in slots.iterdir()] == ["3.3.0"]


def test_symlinks_among_downloads_are_removed_and_not_followed(place: Path, slots: Path) -> None:
    before = contents(slots)
    _inside(place, slots)
    mark_pack_bad(place, REF, TargetMissingError(name="x"))
    assert read_bad_packs(place) == {REF.sha256: TargetMissingError.message.code}
    assert not (place / "refused.json").is_symlink()
    assert not (place / "3.2--3.3.0").is_symlink()
    discard_release(place)
    assert not place.exists()
    assert contents(slots) == before


def test_other_file_in_place_of_the_downloads_is_reported(place: Path, slots: Path) -> None:
    place.rename(place.with_name("aside"))
    place.write_text("a file")
    assert has_message(typed(lambda: discard_release(place)), LOCAL_STORE_FAILED)
    assert has_message(
        typed(lambda: mark_pack_bad(place, REF, TargetMissingError(name="x"))), LOCAL_STORE_FAILED
    )


def test_missing_downloads_are_no_error(tmp_path: Path) -> None:
    discard_release(tmp_path / "received/downloads/ncen/3.3.0")
    assert not (tmp_path / "received").exists()
    (tmp_path / "received").mkdir()
    discard_release(tmp_path / "received/downloads/ncen/3.3.0")
    assert list((tmp_path / "received").iterdir()) == []
    mark_pack_bad(tmp_path / "received/downloads/ncen/3.3.0", REF, TargetMissingError(name="x"))
    assert list(read_bad_packs(tmp_path / "received/downloads/ncen/3.3.0")) == [REF.sha256]


def test_operator_may_relocate_the_directory_by_a_symlink(place: Path, tmp_path: Path) -> None:
    """A link to it lies where only root writes."""
    (tmp_path / "received").rename(tmp_path / "disk")
    (tmp_path / "received").symlink_to(tmp_path / "disk")
    discard_release(place)
    assert not place.exists()
    assert (tmp_path / "disk/downloads/ncen").is_dir()
