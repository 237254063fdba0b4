"""Tests of kills at every instant of building, switching and removing."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ncen_updater.common.atomic_files as durable
from ncen_updater.agent.storage.slots import store as module
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.formats.tree import scan_tree
from tests.agent.storage.slots.factories import (
    NEW,
    OLD,
    assemble,
    build,
    copier,
    document_for,
    make_release,
)

#: What a store does to the disk: each is an instant before it and one after it.
ACTS: tuple[tuple[Any, str], ...] = (
    (durable, "write_file"), (durable, "rename_entry"), (durable, "replace_symlink"),
    (durable, "remove_file"),
    (durable, "make_directory"), (module, "_make_read_only"), (durable, "remove_entry"),
    (shutil, "rmtree"), (module, "switch_current"),
)  # fmt: skip


def killed_at(stop_at: int, act: Callable[[], object]) -> bool:
    """Act in a forked process that is killed at the n-th instant; False if it ended before."""
    child = os.fork()
    if child == 0:
        _act_until(stop_at, act)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "its trace is above"
    return os.WIFSIGNALED(status)


def _act_until(stop_at: int, act: Callable[[], object]) -> None:
    """In the fork, which does not return."""
    count = 0

    def instant() -> None:
        nonlocal count
        count += 1
        if count == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*words: object, **named: object) -> object:
            instant()
            result = real(*words, **named)
            instant()
            return result

        return wrapped

    try:
        for owner, name in ACTS:
            setattr(owner, name, counted(getattr(owner, name)))
        act()
    except BaseException:  # noqa: BLE001 - it must not go on as the trial itself
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def scenario(store: SlotStore, root: Path) -> None:
    """Build the new release, go to it, and remove the old one."""
    source = root / "source-3.3.0"
    tree = scan_tree(source)
    assemble(store, document_for("3.3.0", tree), tree, copier(source))
    store.switch_current(NEW)
    store.remove_slot(OLD)


def test_kill_at_any_instant_leaves_complete_slots(tmp_path: Path) -> None:
    instant = 0
    while True:
        instant += 1
        root = tmp_path / str(instant)
        root.mkdir()
        store = SlotStore(root / "slots", root / "current")
        build(store, root, OLD)
        store.switch_current(OLD)
        make_release(root / "source-3.3.0", "3.3.0")
        killed = killed_at(instant, lambda: scenario(store, root))  # noqa: B023 - called at once
        current = store.read_current()
        assert current is not None
        assert store.verify_slot(current) == ()
        for version in store.list_versions():
            assert store.verify_slot(version) == ()
        scenario(store, root)
        assert store.list_versions() == (NEW,)
        assert store.read_current() == NEW
        assert store.list_leftovers() == ()
        assert [p.name for p in (store.slots_directory / ".records").iterdir()] == ["3.3.0"]
        if not killed:
            break
    assert instant > 15
