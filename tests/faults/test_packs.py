"""An upgrade by a delta pack, struck while it is fetched and while the slot is built of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.engine.slot_builder import ARCHIVE_SOURCE, list_slot_trees
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.offers import DownloadedPack
from tests.faults.cells import Cell, all_cells, expected_versions, undo_cells
from tests.faults.full import prepared
from tests.faults.kinds import KINDS
from tests.faults.trial import NEW, OLD, Trial
from tests.support.rotation import part

PACK = f"deltas/ncen/{OLD}--{NEW}"
STRUCK = (StepName.FETCH, StepName.BUILD_SLOT)
ALL = [c for c in (*all_cells(), *undo_cells()) if c.strikes[-1].step in STRUCK]
CELLS = part(ALL, 7, "packs")


@pytest.fixture(scope="module")
def made() -> Iterator[Trial]:
    with prepared("sqlite", kind=KINDS["packs"]) as trial:
        yield trial


def last_facts(trial: Trial) -> ChangeFacts:
    """Facts of the newest change."""
    with Journal.open(trial.demo.state / JOURNAL_FILE, read_only=True) as journal:
        return journal.read_facts(journal.list_changes()[0].id)


def kinds(trial: Trial) -> list[str]:
    """Kinds of the events of the newest change."""
    with Journal.open(trial.demo.state / JOURNAL_FILE, read_only=True) as journal:
        return [event.kind for event in journal.list_events(change=journal.list_changes()[0].id)]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_interrupted_site_is_consistent_and_complete(made: Trial, cell: Cell) -> None:
    outcome = made.run(cell)
    assert outcome.struck
    assert outcome.version in expected_versions(cell, OLD, NEW)


def test_slot_is_built_from_the_delta_pack(made: Trial) -> None:
    assert made.run(Cell("upgrade", ())).version == NEW
    assert last_facts(made).built_from == PACK
    assert "pack-rejected" not in kinds(made)


def test_only_the_feed_reader_downloads_the_pack(made: Trial) -> None:
    made.reset()
    config = load_config(made.demo.config_path)
    site = build_site(config, made.demo.config_path)
    assert isinstance(site.release_source, WorkerReleaseSource)
    (offer,) = [offer for offer in site.release_source.refresh().offers if offer.version == NEW]
    held = list_slot_trees(site.slots)
    fetched = site.release_source.download_smallest(offer, held, SilentProgress())
    assert isinstance(fetched, DownloadedPack)
    assert fetched.ref.target == PACK
    assert not list(fetched.path.parent.glob("*.tar.gz"))
    assert not list(fetched.path.parent.glob("tree*"))
    assert site.release_source.find_smallest_download(offer, held) == fetched
    site.release_source.discard_release(offer)
    assert not fetched.path.parent.exists()


def test_altered_slot_falls_back_to_the_archive_and_is_recorded(made: Trial) -> None:
    made.reset()
    altered = made.demo.slots / OLD / "app" / "release.json"
    content, mode = altered.read_bytes(), altered.stat().st_mode
    altered.chmod(0o644)
    altered.write_bytes(content + b" ")
    try:
        made.operate("upgrade")
        with Journal.open(made.demo.state / JOURNAL_FILE, read_only=True) as journal:
            change = journal.list_changes()[0].id
            (said,) = [e for e in journal.list_events(change=change) if e.kind == "pack-rejected"]
            assert said.data == {"pack": PACK, "code": "NU-3157"}
            assert journal.read_facts(change).built_from == ARCHIVE_SOURCE
    finally:
        altered.write_bytes(content)
        altered.chmod(mode)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.faults.worker import main
import ncen_updater.formats.delta.apply as apply

right = apply.apply_pack


def struck(pack, old, tree, place, *rest):
    made = right(pack, old, tree, place, *rest)
    # Half of what was written, as where the process dies in the middle.
    for path in sorted(place.rglob("*"))[::2]:
        if path.is_file():
            path.unlink()
    print("struck", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

apply.apply_pack = struck
main([sys.argv[1], "upgrade", "[]"])
"""


def test_kill_while_applying_leaves_no_slot(made: Trial) -> None:
    made.reset()
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-c", KILLED, str(made.demo.config_path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        argv, cwd=root, env=environment, check=False, stdout=subprocess.PIPE, text=True
    )
    assert (ended.returncode, "struck" in ended.stdout) == (-signal.SIGKILL, True)
    assert (made.demo.slots / f"{NEW}.partial").exists()
    assert not (made.demo.slots / NEW).exists()
    assert made.settle()[0] == OLD
    assert made.operate("upgrade").endswith("exit 0\n")
    assert last_facts(made).built_from == PACK
    assert made.judge() == NEW
