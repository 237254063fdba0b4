"""One link says which slot is in use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.messages import CURRENT_ASTRAY, SLOT_MISSING
from tests.agent.storage.slots.making import NEW, OLD, build
from tests.support.errors import refused


def test_switch_is_a_link_in_one_step(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    build(store, tmp_path, NEW)
    for version in (OLD, OLD, NEW, OLD):
        store.switch(version)
        assert store.current() == version
        assert (store.link / "VERSION").read_text() == str(version)
    assert store.link.readlink() == Path("slots/3.2.4")
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_switch_to_what_is_not_there_changes_nothing(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    store.switch(OLD)
    with refused(SLOT_MISSING):
        store.switch(NEW)
    assert store.current() == OLD


def test_switch_to_a_directory_without_a_record_is_refused(
    store: SlotStore, tmp_path: Path
) -> None:
    place = build(store, tmp_path, OLD)
    shutil.copytree(place, store.path(NEW), symlinks=True)
    with refused(SLOT_MISSING):
        store.switch(NEW)


def test_a_link_far_from_the_slots_is_absolute(tmp_path: Path) -> None:
    store = SlotStore(tmp_path / "deep" / "slots", tmp_path / "current")
    build(store, tmp_path, OLD)
    store.switch(OLD)
    assert store.link.readlink() == tmp_path / "deep" / "slots" / "3.2.4"
    assert store.current() == OLD


def test_slots_behind_a_link_are_the_same_slots(tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    (tmp_path / "slots").symlink_to("disk2")
    store = SlotStore(tmp_path / "slots", tmp_path / "current")
    build(store, tmp_path, OLD)
    (tmp_path / "current").symlink_to(tmp_path / "disk2" / "3.2.4")
    assert store.current() == OLD


@pytest.mark.parametrize(
    "target",
    ["/etc", "slots", "slots/../3.2.4", "slots/3.2.4/app", "slots/03.2.4", "slots/.records", "."],
)
def test_a_link_that_leads_elsewhere_is_an_error(
    store: SlotStore, tmp_path: Path, target: str
) -> None:
    build(store, tmp_path, OLD)
    store.link.symlink_to(target)
    with refused(CURRENT_ASTRAY):
        store.current()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_something_in_place_of_the_link_is_an_error(
    store: SlotStore, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    build(store, tmp_path, OLD)
    make(store.link)
    for act in (store.current, lambda: store.switch(OLD)):
        with refused(CURRENT_ASTRAY):
            act()


def test_a_link_to_a_slot_that_has_gone_still_names_it(store: SlotStore) -> None:
    store.link.symlink_to("slots/3.2.4")
    assert store.current() == OLD


def test_the_link_can_be_read_without_pydantic(store: SlotStore, tmp_path: Path) -> None:
    build(store, tmp_path, OLD)
    store.switch(OLD)
    program = (
        "import sys, pathlib; "
        "from ncen_updater.agent.storage.slots.link import current_version as c; "
        "print(c(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])), 'pydantic' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(store.directory), str(store.link)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out == "3.2.4 False\n"
