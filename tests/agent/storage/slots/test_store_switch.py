"""Tests of the link that selects the slot in use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.messages import CURRENT_LINK_INVALID, SLOT_MISSING
from tests.agent.storage.slots.factories import NEW, OLD, build
from tests.support.errors import refused


def test_switch_replaces_the_link_atomically(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    build(store, tmp_path, NEW)
    for version in (OLD, OLD, NEW, OLD):
        store.switch_current(version)
        assert store.read_current() == version
        assert (store.current_link / "VERSION").read_text() == str(version)
    assert store.current_link.readlink() == Path("slots/3.2.4")
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_switch_to_a_missing_slot_changes_nothing(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    store.switch_current(OLD)
    with refused(SLOT_MISSING):
        store.switch_current(NEW)
    assert store.read_current() == OLD


def test_switch_to_an_unrecorded_directory_is_refused(store: SlotStore, tmp_path: Path) -> None:
    place = build(store, tmp_path, OLD)
    shutil.copytree(place, store.get_slot_directory(NEW), symlinks=True)
    with refused(SLOT_MISSING):
        store.switch_current(NEW)


def test_link_outside_the_slots_is_absolute(tmp_path: Path) -> None:
    store = SlotStore(tmp_path / "deep" / "slots", tmp_path / "current")
    build(store, tmp_path, OLD)
    store.switch_current(OLD)
    assert store.current_link.readlink() == tmp_path / "deep" / "slots" / "3.2.4"
    assert store.read_current() == OLD


def test_slots_behind_a_symlink_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    (tmp_path / "slots").symlink_to("disk2")
    store = SlotStore(tmp_path / "slots", tmp_path / "current")
    build(store, tmp_path, OLD)
    (tmp_path / "current").symlink_to(tmp_path / "disk2" / "3.2.4")
    assert store.read_current() == OLD


@pytest.mark.parametrize(
    "target",
    ["/etc", "slots", "slots/../3.2.4", "slots/3.2.4/app", "slots/03.2.4", "slots/.records", "."],
)
def test_link_to_another_place_is_an_error(store: SlotStore, tmp_path: Path, target: str) -> None:
    build(store, tmp_path, OLD)
    store.current_link.symlink_to(target)
    with refused(CURRENT_LINK_INVALID):
        store.read_current()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_other_file_in_place_of_the_link_is_an_error(
    store: SlotStore, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    build(store, tmp_path, OLD)
    make(store.current_link)
    for act in (store.read_current, lambda: store.switch_current(OLD)):
        with refused(CURRENT_LINK_INVALID):
            act()


def test_link_to_a_removed_slot_still_names_it(store: SlotStore) -> None:
    store.current_link.symlink_to("slots/3.2.4")
    assert store.read_current() == OLD


def test_link_is_readable_without_pydantic(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    store.switch_current(OLD)
    program = (
        "import sys, pathlib; "
        "from ncen_updater.agent.storage.slots.link import read_current_version as c; "
        "print(c(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])), 'pydantic' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(store.slots_directory), str(store.current_link)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out == "3.2.4 False\n"
