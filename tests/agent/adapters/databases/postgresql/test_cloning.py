"""Copies that share their blocks with the originals, where server and file system can."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.embedded_postgres import EmbeddedPostgres
from ncen_updater.agent.adapters.databases.base import CopyPlan
from ncen_updater.agent.adapters.databases.postgresql import copies as cloning
from ncen_updater.agent.adapters.databases.postgresql.copies import (
    FILE_COPY_FROM_BYTES,
    build_create_statement,
    choose_copy_method,
    list_copies,
    make_copy_plan,
)
from ncen_updater.agent.adapters.databases.postgresql.engine import PostgresEngine
from ncen_updater.common.disk_space import get_free_bytes, supports_reflink
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import AGENT, CHANGE, NEWEST, Site
from tests.support.postgres import available, running

TRIAL = "t_control__clone_trial"


@pytest.fixture
def fake_clone_support(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system's answer is a fake here: the server then copies byte by byte."""
    monkeypatch.setattr(cloning, "supports_reflink", lambda _place: True)


def methods(plan: CopyPlan) -> set[object]:
    return {item["method"] for item in plan.copies.values()}


def change_and_undo(engine: PostgresEngine, site: Site) -> CopyPlan:
    before = site.snapshot()
    engine.find_blockers(CHANGE, application_stopped=False)
    assert site.databases() == set(site.names.values())
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    assert engine.is_copied(CHANGE, plan)
    engine.cut_over(CHANGE)
    assert {k: v[4] for k, v in site.snapshot().items()} == {k: v[4] for k, v in before.items()}
    engine.revert_cut_over(CHANGE)
    engine.discard_candidates(CHANGE, plan)
    engine.unfence(CHANGE)
    assert site.snapshot() == before
    return plan


@pytest.mark.parametrize(
    ("major", "size", "wanted", "clone", "method"),
    [
        (14, 10**9, "wal-log", True, "template"),
        (15, FILE_COPY_FROM_BYTES - 1, "auto", False, "wal-log"),
        (15, FILE_COPY_FROM_BYTES, "auto", False, "file-copy"),
        (15, 1, "file-copy", False, "file-copy"),
        (18, 1, "auto", True, "clone"),
        (18, 10**9, "wal-log", True, "wal-log"),
    ],
)
def test_copy_method_by_server_and_size(
    major: int, size: int, wanted: str, clone: bool, method: str
) -> None:
    assert choose_copy_method(major, size, wanted, clone=clone) == method


@pytest.mark.parametrize("clone", [(), ("a",)])
def test_clone_method_is_planned(clone: tuple[str, ...]) -> None:
    names, sizes = {"a": "a", "b": "b"}, {"a": 1, "b": 10**9}
    plan = make_copy_plan(CHANGE, names, sizes, (), 18, copy_method="auto", clone=clone)
    statements = [build_create_statement(copy, "o") for copy in list_copies(plan)]
    assert [copy.method for copy in list_copies(plan)] == [
        "clone" if clone else "wal-log",
        "file-copy",
    ]
    assert ("STRATEGY file_copy" in statements[0]) == bool(clone)
    chosen = make_copy_plan(CHANGE, names, sizes, (), 18, copy_method="wal-log", clone=clone)
    assert methods(chosen) == {"wal-log"}


@pytest.mark.usefixtures("fake_clone_support")
def test_clone_is_requested_only_from_capable_servers(any_site: Site) -> None:
    can = any_site.server.binaries.major >= 18 and any_site.user == "postgres"
    # To others the server does not say where its files are.
    assert methods(change_and_undo(any_site.engine(), any_site)) == {"clone" if can else "wal-log"}


@pytest.mark.parametrize("shared", [False, True])
def test_condition_for_clones_names_what_is_missing(
    any_site: Site, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr(cloning, "supports_reflink", lambda _place: shared)
    databases, engine = any_site.databases(), any_site.engine()
    found, newer = engine.describe_clone_condition(), any_site.server.binaries.major >= 18
    assert any_site.databases() == databases, "no trial is made"
    if any_site.user != "postgres":
        assert found is None
        return
    assert found is not None
    assert ("XFS" in str(found), "PostgreSQL 18" in str(found)) == (not shared, not newer)
    assert (str(found) == "") is (shared and newer)
    fixed = any_site.engine(copy_method="wal-log").describe_clone_condition()
    assert ("copy_method" in str(fixed)) is (shared and newer)


@NEWEST
def test_clone_is_not_requested_on_ordinary_file_systems(site: Site) -> None:
    if supports_reflink(Path(str(site.server.host))):
        pytest.skip("this file system shares blocks")
    assert methods(change_and_undo(site.engine(), site)) == {"wal-log"}


@NEWEST
@pytest.mark.usefixtures("fake_clone_support")
@pytest.mark.parametrize("act", ["blockers", "discard", "drop_previous"])
def test_leftover_trial_of_a_killed_agent_is_removed(site: Site, act: str) -> None:
    engine = site.engine()
    site.sql("postgres", f"CREATE DATABASE {TRIAL} ALLOW_CONNECTIONS false")
    assert TRIAL in site.databases()
    if act == "blockers":
        engine.find_blockers(CHANGE, application_stopped=False)
        assert methods(engine.plan_copy(CHANGE)) == {"clone"}
    elif act == "discard":
        engine.discard_candidates(CHANGE, engine.plan_copy(CHANGE))
    else:
        engine.drop_previous(CHANGE.id)
    assert TRIAL not in site.databases()


@NEWEST
@pytest.mark.usefixtures("fake_clone_support")
def test_copies_are_ordinary_where_the_trial_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloning, "SET_CLONE_STATEMENT", "SET file_copy_method = no_such_method")
    assert methods(change_and_undo(site.engine(), site)) == {"wal-log"}


@NEWEST
def test_undroppable_trial_does_not_block_a_rollback(postgres: EmbeddedPostgres) -> None:
    """Left by an agent that was killed, and that was another role then."""
    site = Site(postgres, user=AGENT)
    site.build()
    before = site.snapshot()
    site.sql("postgres", f"CREATE DATABASE {TRIAL} ALLOW_CONNECTIONS false")
    engine = site.engine()
    engine.fence(CHANGE)
    plan = engine.plan_copy(CHANGE)
    engine.copy_databases(CHANGE, plan, SilentProgress())
    engine.discard_candidates(CHANGE, plan)
    engine.unfence(CHANGE)
    engine.drop_previous(CHANGE.id)
    assert site.snapshot() == before
    site.clear()


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A real XFS in a file, where this machine lets us mount one."""
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("no right or no program to make an XFS")
    image, place = tmp_path / "image", Path(tempfile.mkdtemp(prefix="nu-xfs-"))
    with image.open("wb") as stream:
        stream.truncate(1 << 30)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=False).returncode:
        place.rmdir()
        pytest.skip("nothing can be mounted here")
    try:
        place.chmod(0o755)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


def test_clone_on_xfs_uses_no_space(xfs: Path) -> None:
    binaries = available()[-1]
    if binaries.major < cloning.CLONE_MIN_MAJOR:
        pytest.skip("no server that can")
    directory = xfs / "pg"
    directory.mkdir()
    with running(binaries, directory) as server:
        site = Site(server)
        site.build()
        site.sql(
            "t_seizure",
            "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) AS t"
            " FROM generate_series(1, 60000) i",
            "CHECKPOINT",
        )
        engine = site.engine()
        engine.find_blockers(CHANGE, application_stopped=False)
        engine.fence(CHANGE)
        plan = engine.plan_copy(CHANGE)
        assert methods(plan) == {"clone"}
        before = get_free_bytes(xfs)
        engine.copy_databases(CHANGE, plan, SilentProgress())
        taken = before - get_free_bytes(xfs)
        size = sum(copy.size_bytes for copy in list_copies(plan))
        assert size > 60_000_000
        assert taken < size / 2
        engine.discard_candidates(CHANGE, plan)
        engine.unfence(CHANGE)
