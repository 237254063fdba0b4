"""A process that acts on the sets is killed at every kind of instant; the evidence must suffice.

A child is forked and kills itself at its n-th file operation (an audit hook counts them), or is
killed from outside after a seeded random time, which also falls into the middle of SQL. Afterwards
a fresh engine looks at the evidence and completes what was swapped or undoes what was not.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeEvidence,
    ChangeRef,
    DatabaseMarker,
    LiveDatabase,
    TableDigest,
)
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.migrations.factories import release
from tests.agent.adapters.databases.sqlite.site import (
    NAMES,
    build,
    contents,
    new_release,
    reference,
    revert,
    upgrade,
)
from tests.support.rotation import chance, in_turns

FILE_ACTS = {
    "fcntl.ioctl", "fcntl.lockf", "open", "os.chmod", "os.mkdir", "os.remove", "os.rename",
    "os.rmdir", "os.symlink", "shutil.rmtree", "sqlite3.connect",
}  # fmt: skip
KILLS = 24
TIMED_KILLS = 12
#: Of the instants of an act a run takes every third; which ones, the seed of the run says.
SHARES = 3

Act = Callable[[], object]
Whole = dict[str, tuple[str, dict[str, TableDigest]]]


def run(act: Act, kill_at: int = 0, kill_after_s: float | None = None) -> tuple[int, int, float]:
    """Run an act in a forked child; return (wait status, file operations, seconds)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            count = 0

            def hook(event: str, _: object) -> None:
                nonlocal count
                if event in FILE_ACTS:
                    count += 1
                    if count == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            began = time.monotonic()
            os.write(write, b".")
            act()
            os.write(write, f"{count} {time.monotonic() - began}".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    os.read(read, 1)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    said = os.read(read, 100).decode().split()
    os.close(read)
    return status, int(said[0]) if said else 0, float(said[1]) if said else 0.0


def whole(engine: SqliteEngine, change: ChangeRef) -> Whole:
    return {
        name: (
            engine.read_schema(LiveDatabase(name)).fingerprint,
            engine.compute_table_digests(LiveDatabase(name)),
        )
        for name in NAMES
    }


def recover(directory: Path, change: ChangeRef) -> bool:
    """What the recovery does before the commit, from the evidence; True when the new set stands."""
    engine = SqliteEngine(directory, NAMES)
    if engine.read_evidence(change).is_cut_over:
        engine.cut_over(change)
        return True
    revert(engine, change)
    return False


def check(directory: Path, change: ChangeRef, before: dict[str, str], after: Whole) -> bool:
    fresh = recover(directory, change)
    engine = SqliteEngine(directory, NAMES)
    evidence = engine.read_evidence(change)
    if fresh:
        assert evidence == ChangeEvidence(is_cut_over=True, fenced=False, previous=NAMES)
        assert engine.read_marker() == DatabaseMarker("2.0", 1, change.id)
        assert whole(engine, change) == after
        revert(engine, change)  # the old ones are still there, whole
    else:
        assert (evidence.is_cut_over, evidence.fenced, evidence.candidates) == (False, False, ())
        assert evidence.missing == ()
        assert engine.read_marker() is None
    assert contents(directory) == before
    return fresh


@pytest.fixture(params=range(SHARES))
def share(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def after(tmp_path: Path) -> Whole:
    """The new set as an undisturbed upgrade makes it."""
    engine = build(tmp_path / "model")
    change = reference()
    upgrade(engine, change, new_release(tmp_path / "slot"))
    return whole(engine, change)


def test_killed_at_a_file_operation_of_an_upgrade(tmp_path: Path, after: Whole) -> None:
    change, target = reference(), new_release(tmp_path / "slot")
    model = build(tmp_path / "count")
    _, total, _ = run(lambda: upgrade(model, change, target))
    assert total > KILLS
    fresh = 0
    # The last ones are the cut-over itself, so all of them; of the others a seeded choice.
    chosen = chance("upgrade").sample(range(1, total - 10), KILLS - 10)
    for kill_at in [*chosen, *range(total - 9, total + 1)]:
        site = tmp_path / f"site{kill_at}"
        engine = build(site)
        before = contents(site)
        status, _, _ = run(lambda e=engine: upgrade(e, change, target), kill_at)  # type: ignore[misc]
        assert os.WIFSIGNALED(status), kill_at
        fresh += check(site, change, before, after)
    assert 0 < fresh < KILLS


@in_turns("share")
def test_killed_at_a_file_operation_of_the_revert(tmp_path: Path, share: int, after: Whole) -> None:
    change, target = reference(), new_release(tmp_path / "slot")
    model = build(tmp_path / "count")
    upgrade(model, change, target)
    _, total, _ = run(lambda: revert(model, change))
    for kill_at in range(1 + share, total + 1, SHARES):
        site = tmp_path / f"site{kill_at}"
        engine = build(site)
        before = contents(site)
        upgrade(engine, change, target)
        status, _, _ = run(lambda e=engine: revert(e, change), kill_at)  # type: ignore[misc]
        assert os.WIFSIGNALED(status), kill_at
        check(site, change, before, after)


def test_killed_externally_at_a_random_time(tmp_path: Path, after: Whole) -> None:
    change, target = reference(), new_release(tmp_path / "slot")
    model = build(tmp_path / "count")
    _, _, seconds = run(lambda: upgrade(model, change, target))
    clock = chance("from outside")
    for number in range(TIMED_KILLS):
        site = tmp_path / f"site{number}"
        engine = build(site)
        before = contents(site)
        run(
            lambda e=engine: upgrade(e, change, target),  # type: ignore[misc]
            kill_after_s=clock.uniform(0, seconds),
        )
        check(site, change, before, after)


def every_kill(
    tmp_path: Path,
    prepare: Callable[[Path], SqliteEngine],
    act: Callable[[SqliteEngine], object],
    judge: Callable[[Path, SqliteEngine], object],
    share: int,
    judge_killed: Callable[[Path], object] = Path.exists,
) -> None:
    """Kill an act at its file operations, judge, let a fresh engine do it again, and judge."""
    model = prepare(tmp_path / "count")
    _, total, _ = run(lambda: act(model))
    assert total >= SHARES
    for kill_at in range(1 + share, total + 1, SHARES):
        site = tmp_path / f"site{kill_at}"
        engine = prepare(site)
        status, _, _ = run(lambda e=engine: act(e), kill_at)  # type: ignore[misc]
        assert os.WIFSIGNALED(status), kill_at
        judge_killed(site)
        engine = SqliteEngine(site, NAMES)
        act(engine)
        judge(site, engine)


@in_turns("share")
def test_killed_while_a_plain_directory_is_adopted(tmp_path: Path, share: int) -> None:
    expected = contents_of_a_fresh_site(tmp_path)

    def judge(site: Path, engine: SqliteEngine) -> None:
        assert contents(site) == expected
        assert engine.read_evidence(reference()) == ChangeEvidence(is_cut_over=False, fenced=False)
        # A temporary name of the link may be left; it is never read.
        left = {path.name for path in site.iterdir() if ".partial-" not in path.name}
        assert left - {"records"} == {"live", "sets"}

    def judge_killed(site: Path) -> None:
        assert {path.stem for path in (site / "live").glob("*.sqlite")} == set(NAMES)

    every_kill(tmp_path, plain_site, SqliteEngine.adopt_databases, judge, share, judge_killed)


@in_turns("share")
def test_killed_while_the_ledger_is_written(tmp_path: Path, share: int) -> None:
    target = new_release(tmp_path / "slot")
    model = plain_site(tmp_path / "model")
    model.baseline_ledger(reference(), target)
    expected = [[row.id for row in ledger(model, name)] for name in NAMES]
    rows = model.compute_table_digests(LiveDatabase(NAMES[0]))

    def judge(_site: Path, engine: SqliteEngine) -> None:
        assert [[row.id for row in ledger(engine, name)] for name in NAMES] == expected
        assert engine.compute_table_digests(LiveDatabase(NAMES[0])) == rows
        assert engine.read_marker() is None or engine.read_marker() == model.read_marker()

    every_kill(tmp_path, plain_site, lambda e: e.baseline_ledger(reference(), target), judge, share)


@in_turns("share")
def test_killed_while_the_previous_set_is_dropped(tmp_path: Path, share: int) -> None:
    change, target = reference(), new_release(tmp_path / "slot")

    def upgraded(site: Path) -> SqliteEngine:
        engine = build(site)
        upgrade(engine, change, target)
        return engine

    expected = whole(upgraded(tmp_path / "model"), change)

    def judge(site: Path, engine: SqliteEngine) -> None:
        assert whole(engine, change) == expected
        assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=True, fenced=False)
        assert engine.list_leftovers() == ()
        assert len(list((site / "sets").iterdir())) == 1

    every_kill(tmp_path, upgraded, lambda e: e.drop_previous(change.id), judge, share)


def enter(path: Path) -> None:
    """Write to a database as another user, whatever the modes of its files."""
    modes = {item: item.stat().st_mode for item in (path.parent, path)}
    for item in modes:
        item.chmod(0o755)
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO item (note) VALUES ('by hand')")
        database.commit()
    for item, mode in modes.items():
        item.chmod(mode)


def list_retained_sets(site: Path) -> list[str]:
    """List sets that are retained because of foreign writes, each with that row in it."""
    found = []
    for path in sorted((site / "sets").glob("written_*")):
        with closing(sqlite3.connect(f"{path.as_uri()}/cases.sqlite?mode=ro", uri=True)) as opened:
            rows = opened.execute("SELECT note FROM item ORDER BY id DESC LIMIT 1").fetchall()
        assert rows == [("by hand",)]
        found.append(path.name)
    return found


@in_turns("share")
def test_killed_while_a_set_is_retained_during_the_revert(tmp_path: Path, share: int) -> None:
    change, target = reference(), new_release(tmp_path / "slot")
    build(tmp_path / "fresh")
    before = contents(tmp_path / "fresh")

    def written(site: Path) -> SqliteEngine:
        engine = build(site)
        upgrade(engine, change, target)
        enter(site / "live" / "cases.sqlite")
        return engine

    def judge(site: Path, engine: SqliteEngine) -> None:
        assert contents(site) == before
        assert list_retained_sets(site) == [f"written_{change.id}"]
        assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=False, fenced=False)
        assert engine.list_leftovers() == ()

    every_kill(tmp_path, written, lambda engine: revert(engine, change), judge, share)


@in_turns("share")
def test_killed_while_a_set_is_retained_instead_of_dropped(tmp_path: Path, share: int) -> None:
    change, target = reference(), new_release(tmp_path / "slot")

    def written(site: Path) -> SqliteEngine:
        engine = build(site)
        upgrade(engine, change, target)
        enter(site / "sets" / "base" / "cases.sqlite")
        return engine

    def judge(site: Path, engine: SqliteEngine) -> None:
        assert list_retained_sets(site) == [f"written_{change.id}"]
        assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=True, fenced=False)
        assert engine.list_leftovers() == ()

    every_kill(tmp_path, written, lambda engine: engine.drop_previous(change.id), judge, share)


@in_turns("share")
def test_killed_while_retained_databases_are_dropped_by_command(tmp_path: Path, share: int) -> None:
    change, target = reference(), new_release(tmp_path / "slot")

    def kept(site: Path) -> SqliteEngine:
        engine = build(site)
        upgrade(engine, change, target)
        enter(site / "live" / "cases.sqlite")
        revert(engine, change)
        return engine

    def judge(site: Path, engine: SqliteEngine) -> None:
        assert engine.list_quarantined() == ()
        assert engine.list_leftovers() == ()
        assert [path.name for path in (site / "sets").iterdir()] == ["base"]

    every_kill(tmp_path, kept, lambda engine: engine.drop_quarantined(change.id), judge, share)


@in_turns("share")
def test_killed_while_the_commit_is_recorded(tmp_path: Path, share: int) -> None:
    change, target = reference(), new_release(tmp_path / "slot")

    def upgraded(site: Path) -> SqliteEngine:
        engine = build(site)
        upgrade(engine, change, target)
        return engine

    def judge(_site: Path, engine: SqliteEngine) -> None:
        assert engine.read_evidence(change) == ChangeEvidence(
            True, False, previous=NAMES, committed=True
        )

    every_kill(tmp_path, upgraded, lambda e: e.record_commit(change), judge, share)


def test_killed_while_previous_databases_are_restored(tmp_path: Path) -> None:
    """A restore: copies are made of the previous set; the live one stays until the cut-over."""
    change, target = reference(), new_release(tmp_path / "slot")
    back = ChangeRef("bcdefgha", 2, "1.0", retained_from=change.id)
    old = release(tmp_path / "slot", "1.0")

    def restore(engine: SqliteEngine) -> None:
        engine.fence(back)
        engine.copy_databases(back, engine.plan_copy(back), SilentProgress())
        engine.migrate(back, old, None, SilentProgress())
        engine.cut_over(back)

    def upgraded(site: Path) -> SqliteEngine:
        engine = build(site)
        upgrade(engine, change, target)
        return engine

    model = upgraded(tmp_path / "model")
    new = whole(model, change)
    restore(model)
    restored = whole(model, back)
    assert restored != new
    counted = upgraded(tmp_path / "count")
    _, total, _ = run(lambda: restore(counted))
    for kill_at in [*chance("restore").sample(range(1, total - 10), 10), *range(total - 9, total)]:
        site = tmp_path / f"site{kill_at}"
        engine = upgraded(site)
        status, _, _ = run(lambda e=engine: restore(e), kill_at)  # type: ignore[misc]
        assert os.WIFSIGNALED(status), kill_at
        fresh = recover(site, back)
        engine = SqliteEngine(site, NAMES)
        assert whole(engine, back) == (restored if fresh else new), kill_at
        assert engine.read_evidence(change).previous == NAMES
        assert engine.read_evidence(back).missing == ()


def plain_site(directory: Path) -> SqliteEngine:
    """A site as it is before an agent takes it over: ``live`` is a plain directory."""
    engine = build(directory)
    (directory / "live").unlink()
    (directory / "sets" / "base").rename(directory / "live")
    (directory / "sets").rmdir()
    return engine


def contents_of_a_fresh_site(tmp_path: Path) -> dict[str, str]:
    build(tmp_path / "fresh")
    return contents(tmp_path / "fresh")


def ledger(engine: SqliteEngine, name: str) -> tuple[AppliedMigration, ...]:
    return engine.read_ledger(LiveDatabase(name))
