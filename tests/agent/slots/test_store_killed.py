"""The process is killed at every instant of building, switching and removing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from ncen_updater.agent.slots.store import SlotStore
from ncen_updater.common.progress import Silent
from tests.agent.slots.making import (
    NEW,
    OLD,
    build,
    copier,
    document_for,
    make_release,
)

KILLED = """
import os, signal, sys
from pathlib import Path
import ncen_updater.common.atomic_files as durable, shutil
from ncen_updater.common.progress import Silent
from ncen_updater.agent.slots import store as module
from tests.agent.slots.making import make_release
root, stop_at = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def counting(owner, name):
    real = getattr(owner, name)
    def wrapped(*args, **kwargs):
        global count
        for _ in range(2):
            count += 1
            if count == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if _ == 0:
                result = real(*args, **kwargs)
        return result
    setattr(owner, name, wrapped)
for owner, name in ((durable, "write"), (durable, "rename"), (durable, "symlink"),
                    (durable, "remove"), (durable, "make_directory"), (module, "_seal"),
                    (module, "_delete"), (shutil, "rmtree"), (module, "point_to")):
    counting(owner, name)
store = module.SlotStore(root / "slots", root / "current")
from tests.agent.slots.test_store_killed import scenario
scenario(store, root)
print(count)
"""


def scenario(store: SlotStore, root: Path) -> None:
    """Build the new release, go to it, and remove the old one."""
    source = root / "source-3.3.0"
    from ncen_updater.formats.tree import scan

    tree = scan(source)
    store.assemble(document_for("3.3.0", tree), tree, copier(source), Silent())
    store.switch(NEW)
    store.remove(OLD)


def test_a_kill_at_any_instant_leaves_whole_slots_and_a_way_on(tmp_path: Path) -> None:
    instant = 0
    while True:
        instant += 1
        root = tmp_path / str(instant)
        root.mkdir()
        store = SlotStore(root / "slots", root / "current")
        build(store, root, OLD)
        store.switch(OLD)
        make_release(root / "source-3.3.0", "3.3.0")
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(root), str(instant)],
            capture_output=True,
            text=True,
            check=False,
        )
        current = store.current()
        assert current is not None
        assert store.verify(current) == ()
        for version in store.versions():
            assert store.verify(version) == ()
        scenario(store, root)
        assert store.versions() == (NEW,)
        assert store.current() == NEW
        assert store.leftovers() == ()
        assert [p.name for p in (store.directory / ".records").iterdir()] == ["3.3.0"]
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert instant > 15
