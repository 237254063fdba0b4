"""Tests of pruning what is past its retention, and nothing else, on databases of both engines."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from packaging.version import Version

from demo.evidence import database_digests
from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.base import DatabaseRole
from ncen_updater.agent.engine.elapsed_time import read_retention_ages, record_elapsed_time
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.plan import make_plan
from ncen_updater.agent.engine.prune import compute_next_prune, find_prunable, prune
from ncen_updater.agent.engine.site import Site, SystemClock
from ncen_updater.agent.model.change import Change, ChangeKind, ChangeState, DatabaseMode
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.service.assessment import assess_upgrade
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import OPEN_CHANGE
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.trust_state import TRUST_STATE_NAME
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.forks import run_agent
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

DAYS = 7.0
KILLED = """
import os, sys
from pathlib import Path
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.adapters.databases.postgresql import engine as postgresql
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.progress import SilentProgress
from ncen_updater.agent.engine.prune import prune, find_prunable
from ncen_updater.agent.engine.operations import Operations

path = Path(sys.argv[1])
site = build_site(load_config(path), path)
drop, drop_one = site.database_engine.drop_previous, postgresql.drop_database

def killed(change):
    if sys.argv[2] == "after":
        drop(change)
    os.kill(os.getpid(), 9)

def killed_after_one(*arguments):
    drop_one(*arguments)
    os.kill(os.getpid(), 9)

remove_tree = DirectoryHandle.remove_tree

def killed_after_one_file(place, path):
    if not path.startswith("gone_"):
        return remove_tree(place, path)  # kept files go first; this is about databases
    inside = place.open_directory(path).descriptor
    os.unlink(next(n for n in os.listdir(inside) if n.endswith(".sqlite")), dir_fd=inside)
    os.kill(os.getpid(), 9)

def strike():
    if sys.argv[2] != "middle":
        site.database_engine.drop_previous = killed
        return
    postgresql.drop_database = killed_after_one
    DirectoryHandle.remove_tree = killed_after_one_file

def at(step, phase):
    if (step, phase) == ("prune", "before-effect"):
        strike()

if sys.argv[3] == "rollback":
    Operations(site, SilentProgress(), checkpoint=at).rollback()
else:
    strike()
    with Operations(site, SilentProgress()).lock_idle_site("prune") as journal:
        prune(site, journal, find_prunable(site, journal), SilentProgress())
"""


def upgraded(site: Site, version: str = "3.3.0") -> str:
    return Operations(site, SilentProgress()).upgrade(Version(version)).outcomes[0].change.id


def let_days_pass(site: Site, days: float) -> None:
    """Make previous databases older than they are."""
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        record_elapsed_time(journal, site.clock)
        with journal.transaction() as connection:
            sql = "UPDATE retained_since SET total_s = (SELECT total_s FROM elapsed) - ?"
            connection.execute(sql, (days * 86_400,))


def left(site: Site) -> set[str]:
    """Changes of which anything is there, in whatever role."""
    return {change for change, _, _ in site.database_engine.list_leftovers()}


def previous(site: Site) -> set[str]:
    return {
        change
        for change, role, _ in site.database_engine.list_leftovers()
        if role is DatabaseRole.PREVIOUS
    }


def type_collect(demo: DemoSite, *words: str, code: int = 0) -> list[str]:
    words = ("--config", str(demo.config_path), "--json", "--quiet", "prune", *words)
    ended = run_agent(*words, environment=os.environ)
    assert ended.returncode == code, ended.stderr
    said = json.loads(ended.stdout)
    return list(said["changes"]) if code == 0 else [said["error"]["code"]]


@contextmanager
def open_change(site: Site) -> Iterator[None]:
    change = Change(
        id="abcdefgh",
        kind=ChangeKind.UPGRADE,
        mode=DatabaseMode.MIGRATE,
        state=ChangeState.RUNNING,
        product="ncen",
        from_version="3.3.0",
        to_version="3.3.9",
        generation=9,
        created_at=site.clock.now(),
    )
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        journal.begin_change(change)
    yield
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        journal.set_change_state(change.id, ChangeState.REVERTED)


def test_previous_databases_are_pruned_after_their_retention(demo: DemoSite, site: Site) -> None:
    change = upgraded(site)
    before = database_digests(demo.databases)
    let_days_pass(site, DAYS - 0.1)
    assert type_collect(demo) == []
    assert previous(site) == {change}
    due = assess_upgrade(site).prune_at
    assert due is not None
    assert timedelta(hours=2) < due - site.clock.now() < timedelta(hours=3)
    let_days_pass(site, DAYS)
    with open_change(site):
        assert type_collect(demo, code=OPEN_CHANGE.exit_code) == [OPEN_CHANGE.code]
    assert type_collect(demo, "--dry-run") == [change]
    assert previous(site) == {change}
    assert type_collect(demo) == [change]
    assert previous(site) == set()
    assert database_digests(demo.databases) == before
    assert assess_upgrade(site).prune_at is None
    assert Version("3.2.4") in site.slots.list_versions(), "the way back needs it"
    assert Operations(site, SilentProgress()).rollback().outcomes[0].change.to_version == "3.2.4"


def test_pruning_works_without_verified_metadata(demo: DemoSite, site: Site) -> None:
    """Otherwise a full disk, where no verified state can be stored, would never be freed."""
    change = upgraded(site)
    let_days_pass(site, DAYS)
    (site.state_directory / TRUST_STATE_NAME).write_text("damaged")
    assert assess_upgrade(site).prune_at is not None
    assert type_collect(demo) == [change]
    assert previous(site) == set()


def test_newer_slot_is_retained_while_the_offer_is_unknown(site: Site) -> None:
    """The metadata is gone, as from an emptied directory: that is no evidence."""
    operations = Operations(site, SilentProgress())
    with operations.read_journal() as journal:
        path, current = find_cached_path(site, journal), site.slots.read_current()
        assert isinstance(path, UpgradePath) and current is not None
        make_plan(site, current, path, SilentProgress())
        none_kept = site.config.retention.model_copy(update={"slots": 0})
        strict = dataclasses.replace(
            site, config=site.config.model_copy(update={"retention": none_kept})
        )
        assert find_prunable(strict, journal).slots == ()
        get_view_path(site.config.paths.feed_state_directory, "ncen").unlink()
        assert find_prunable(strict, journal).slots == ()
    assert path.target.release_version in site.slots.list_versions()


def killed(demo: DemoSite, instant: str, operation: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(demo.config_path), instant, operation],
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL


@in_turns("demo", "instant")
@pytest.mark.parametrize(
    ("demo", "instant"),
    [("sqlite", "before"), ("sqlite", "middle"), ("sqlite", "after"), ("postgresql", "middle")],
    indirect=["demo"],
)
def test_killed_pruning_is_repeated_and_completed(demo: DemoSite, site: Site, instant: str) -> None:
    change = upgraded(site)
    before = database_digests(demo.databases)
    let_days_pass(site, DAYS)
    killed(demo, instant, "prune")
    assert bool(left(site)) == (instant != "after")
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        (kept,) = SiteHistory(journal).list_previous_databases()
        assert kept.dropped_at is not None, "no way back leans on a set that may be half gone"
        due = compute_next_prune(journal, site.clock, DAYS)
        assert due is not None
        assert due <= site.clock.now()
    with Operations(site, SilentProgress()).lock_idle_site("prune") as journal:
        assert find_prunable(site, journal).changes == (() if instant == "after" else (change,))
        prune(site, journal, find_prunable(site, journal), SilentProgress())
        assert compute_next_prune(journal, site.clock, DAYS) is None
    assert left(site) == set()
    assert database_digests(demo.databases) == before


@in_turns("demo", "instant")
@pytest.mark.parametrize(
    ("demo", "instant"),
    [("sqlite", "before"), ("sqlite", "middle"), ("sqlite", "after"), ("postgresql", "middle")],
    indirect=["demo"],
)
def test_change_killed_while_pruning_drops_the_whole_set(
    demo: DemoSite, site: Site, instant: str
) -> None:
    upgrade = upgraded(site)
    let_days_pass(site, DAYS)
    killed(demo, instant, "rollback")
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        kept = {
            kept.change: kept.dropped_at for kept in SiteHistory(journal).list_previous_databases()
        }
        rollback = journal.list_changes()[0]
    assert kept[upgrade] is not None, "no way back leans on a set that may be half gone"
    assert kept[rollback.id] is None
    assert (upgrade in left(site)) == (instant != "after")
    before = database_digests(demo.databases)
    (outcome,) = Operations(site, SilentProgress()).resume(by_operator=False).outcomes
    assert outcome.change.state is ChangeState.FINISHED
    assert left(site) == {rollback.id}
    assert database_digests(demo.databases) == before


YEARS = timedelta(days=5 * 365)


def test_clock_jump_ahead_prunes_nothing(site: Site) -> None:
    """Seen: with the clock five years ahead, the sets of earlier changes were gone at once."""
    change = upgraded(site)
    ahead = SystemClock(now=lambda: site.clock.now() + YEARS)
    wrong = dataclasses.replace(site, clock=ahead)
    with Operations(wrong, SilentProgress()).lock_idle_site("prune") as journal:
        assert find_prunable(wrong, journal).changes == ()
        due = compute_next_prune(journal, ahead, DAYS)
    assert due is not None
    assert due > ahead.now() + timedelta(days=DAYS - 1)
    Operations(wrong, SilentProgress()).rollback()
    assert change in previous(site), "seen: dropped at the end of the next change"


def test_wrong_clock_after_a_restart_prunes_nothing(site: Site) -> None:
    change = upgraded(site)
    started = SystemClock(
        now=lambda: site.clock.now() + YEARS, monotonic=lambda: 60.0, boot_id=lambda: "another"
    )
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        record_elapsed_time(journal, started)
        assert (
            timedelta(0)
            < read_retention_ages(journal, started)[change]
            <= timedelta(days=1, minutes=2)
        )
    wrong = dataclasses.replace(site, clock=started)
    with Operations(wrong, SilentProgress()).lock_idle_site("prune") as journal:
        assert find_prunable(wrong, journal).changes == ()


def test_retention_of_an_older_journal_starts_at_the_first_inspection(site: Site) -> None:
    change = upgraded(site)
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        with journal.transaction() as connection:
            connection.execute("DELETE FROM retained_since")
            connection.execute("UPDATE previous_sets SET since = '2020-01-01T00:00:00+00:00'")
        assert read_retention_ages(journal, site.clock)[change] == timedelta(0)
        assert find_prunable(site, journal).changes == ()
