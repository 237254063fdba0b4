"""What is kept longer than its days goes, on real databases of both engines; nothing else does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from packaging.version import Version

from ncen_updater.databases.base import Role
from ncen_updater.demo.evidence import database_digests
from ncen_updater.demo.site import DemoSite
from ncen_updater.progress import Silent
from ncen_updater.service.assess import assess
from ncen_updater.upgrade.collecting import collect, collectable, due_at
from ncen_updater.upgrade.context import Site
from ncen_updater.upgrade.errors import OpenChange
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.memory import Memory
from ncen_updater.upgrade.model import Change, ChangeKind, ChangeState, Mode
from ncen_updater.upgrade.names import JOURNAL
from ncen_updater.upgrade.operations import Operations

DAYS = 7.0
KILLED = """
import os, sys
from pathlib import Path
from ncen_updater.composition import build_site
from ncen_updater.config.loader import load_config
from ncen_updater.progress import Silent
from ncen_updater.upgrade.collecting import collect, collectable
from ncen_updater.upgrade.operations import Operations

path = Path(sys.argv[1])
site = build_site(load_config(path), path)
drop = site.engine.drop_previous

def killed(change):
    if sys.argv[2] == "after":
        drop(change)
    os.kill(os.getpid(), 9)

site.engine.drop_previous = killed
with Operations(site, Silent()).between_changes("collect") as journal:
    collect(site, journal, collectable(site, journal), Silent())
"""


def upgraded(site: Site, version: str = "3.3.0") -> str:
    return Operations(site, Silent()).upgrade(Version(version)).outcomes[0].change.id


def let_days_pass(site: Site, days: float) -> None:
    """Make what is kept older than it is."""
    with Journal.open(site.state / JOURNAL) as journal, journal.transaction() as connection:
        since = (site.clock.now() - timedelta(days=days)).isoformat()
        connection.execute("UPDATE previous_sets SET since = ?", (since,))


def previous(site: Site) -> set[str]:
    return {change for change, role, _ in site.engine.leftovers() if role is Role.PREVIOUS}


def type_collect(demo: DemoSite, *words: str, code: int = 0) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "ncen_updater.cli.agent", "--config", str(demo.config_path),
         "--json", "--quiet", "collect", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    said = json.loads(ended.stdout)
    return list(said["changes"]) if code == 0 else [said["error"]["code"]]


@contextmanager
def open_change(site: Site) -> Iterator[None]:
    change = Change(
        id="abcdefgh", kind=ChangeKind.UPGRADE, mode=Mode.MIGRATE, state=ChangeState.RUNNING,
        product="ncen", from_version="3.3.0", to_version="3.3.9", strategy="copy", generation=9,
        created_at=site.clock.now(),
    )  # fmt: skip
    with Journal.open(site.state / JOURNAL) as journal:
        journal.begin(change, {})
    yield
    with Journal.open(site.state / JOURNAL) as journal:
        journal.state(change.id, ChangeState.UNDONE)


def test_what_is_kept_goes_when_its_days_are_over_and_not_before(
    demo: DemoSite, site: Site
) -> None:
    change = upgraded(site)
    before = database_digests(demo.databases)
    let_days_pass(site, DAYS - 0.1)
    assert type_collect(demo) == []
    assert previous(site) == {change}
    due = assess(site).collect_at
    assert due is not None
    assert timedelta(hours=2) < due - site.clock.now() < timedelta(hours=3)
    let_days_pass(site, DAYS)
    with open_change(site):
        assert type_collect(demo, code=OpenChange.exit_code) == [OpenChange.code]
    assert type_collect(demo, "--dry-run") == [change]
    assert previous(site) == {change}
    assert type_collect(demo) == [change]
    assert previous(site) == set()
    assert database_digests(demo.databases) == before
    assert assess(site).collect_at is None
    assert Version("3.2.4") in site.slots.versions(), "the way back needs it"
    assert Operations(site, Silent()).rollback().outcomes[0].change.to_version == "3.2.4"


@pytest.mark.parametrize("instant", ["before", "after"])
def test_a_killed_collection_is_due_again_and_comes_to_its_end(
    demo: DemoSite, site: Site, instant: str
) -> None:
    change = upgraded(site)
    before = database_digests(demo.databases)
    let_days_pass(site, DAYS)
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(demo.config_path), instant],
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert previous(site) == ({change} if instant == "before" else set())
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        (kept,) = Memory(journal).previous_sets()
        assert kept.dropped_at is not None, "no way back leans on a set that may be half gone"
        due = due_at(journal, DAYS)
        assert due is not None
        assert due <= site.clock.now()
    with Operations(site, Silent()).between_changes("collect") as journal:
        collect(site, journal, collectable(site, journal), Silent())
        assert due_at(journal, DAYS) is None
    assert previous(site) == set()
    assert database_digests(demo.databases) == before
