"""Tests of test helpers: rotation of parts, and removal of frozen trees."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from ncen_updater.common.workers import Worker
from tests.support import processes
from tests.support.axe import fetch_axe
from tests.support.forks import AGENT, DEADLINE_S, run_agent, workers_place
from tests.support.rotation import (
    EITHER_ENGINE,
    IN_TURNS,
    SEED,
    SQLITE_TIMES,
    Kinds,
    either_engine,
    in_shares,
    in_turns,
    one_of_each,
    part,
    weight,
)
from tests.support.run_directory import other_than
from tests.support.trees import remove_tree
from tests.support.webdriver import Browser
from tests.support.workers import behind, forked

ITEMS = list(range(61))


def parts(seed: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setenv(SEED, str(seed))
    return part(ITEMS, 7, "a use")


def test_seed_repeats_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(5, monkeypatch) == parts(5, monkeypatch)


def test_all_seeds_together_cover_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [parts(seed, monkeypatch) for seed in range(100)]
    assert {item for some in found for item in some} == set(ITEMS)
    assert {len(some) for some in found} == {8, 9}


def test_all_seeds_together_cover_each_variant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = [f"{test} {server}" for test in "abcdef" for server in (15, 17, 18)] + ["alone"]
    seen = set()
    for seed in range(100):
        monkeypatch.setenv(SEED, str(seed))
        found = one_of_each(items, lambda item: item.split()[0])
        assert found == one_of_each(items, lambda item: item.split()[0])
        assert [item.split()[0] for item in found] == [*"abcdef", "alone"]
        seen.update(found)
        assert len({item.split()[-1] for item in found}) > 1  # not all tests on one server
    assert seen == set(items)


def test_every_run_covers_each_room_and_all_runs_each_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tests = [f"tests/{place}::test_{name}[{value}]" for place in
             ("a/test_one.py", "a/test_two.py", "b/test_alone.py", "b/test_cheap.py")
             for name in "xyz"[: 1 if "alone" in place else 3] for value in (1, 2)]  # fmt: skip
    shares = {"tests/a/test_one.py": 4, "tests/a/test_two.py": 4, "tests/b/test_alone.py": 4}
    seen = set()
    for seed in range(100):
        monkeypatch.setenv(SEED, str(seed))
        found = in_shares(tests, str, shares)
        assert found == in_shares(tests, str, shares)
        assert [test for test in tests if test.startswith("tests/b/")] == found[-8:]
        of_a = {test.partition("[")[0] for test in found[:-8]}
        assert len(of_a) in (1, 2)  # of six
        assert len(found[:-8]) == 2 * len(of_a)  # with all their values
        seen.update(found)
    assert seen == set(tests)


def test_expensive_tests_are_covered_by_all_runs_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = [f"tests/{room}/test_{room}.py" for room in "abcdefghij"]
    tests = [f"{place}::test_x" for place in places]
    seen = set()
    for seed in range(100):
        monkeypatch.setenv(SEED, str(seed))
        found = in_shares(tests, str, dict.fromkeys(places, 16))
        assert len(found) == 1  # of ten
        seen.update(found)
    assert seen == set(tests)


@dataclass
class Collected:
    """As much of a collected test as is asked."""

    values: dict[str, object]
    turning: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    nodeid: str = "tests/test_x.py::test[whatever]"

    @property
    def callspec(self) -> Collected:
        return self

    @property
    def params(self) -> dict[str, object]:
        return self.values

    def iter_markers(self, name: str) -> Iterator[pytest.Mark]:
        if name == IN_TURNS and self.turning:
            yield in_turns(*self.turning).mark
        if name == EITHER_ENGINE:
            yield from (either_engine(parameter).mark for parameter in self.either)


def kinds(items: Iterable[Collected]) -> list[str]:
    kind = Kinds()
    return [kind(cast("pytest.Item", item)) for item in items]


@pytest.mark.parametrize(
    ("turning", "groups"),
    [
        ((), 12),
        (("version",), 4),
        (("demo",), 6),  # either kind of site, on each engine; and each version
        (("demo", "version"), 2),
    ],
)
def test_rotation_groups_by_engine(turning: tuple[str, ...], groups: int) -> None:
    sites = ("sqlite", "sqlite small", "postgresql", "postgresql small")
    items = [
        Collected({"demo": site, "version": version}, turning)
        for site in sites
        for version in ("1", "2", "3")
    ]
    assert len(set(kinds(items))) == groups


def test_either_engine_reduces_to_one_engine() -> None:
    items = [
        Collected({"demo": site, "b": other}, either=("demo", "absent"))
        for site in ("sqlite", "postgresql")
        for other in range(3)
    ]
    assert len(set(kinds(items))) == 3


def test_either_engine_prefers_the_cheap_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = [Collected({"demo": site}, either=("demo",)) for site in ("sqlite", "postgresql")]
    chosen = []
    for number in range(300):
        monkeypatch.setenv(SEED, str(number))
        chosen += one_of_each(items, lambda _: "a test", cast("Callable[[Collected], int]", weight))
    assert [weight(cast("pytest.Item", item)) for item in items] == [SQLITE_TIMES, 1]
    assert 170 < [item.values["demo"] for item in chosen].count("sqlite") < 230


ROWS_ON_SERVERS = """
import pytest

@pytest.fixture(params=[15, 17, 18])
def postgres(request):
    return request.param

@pytest.mark.parametrize(("row", "of"), [("a", 1), ("b", 1)])
def test_it(postgres, row, of):
    pass
"""


def test_rows_on_servers_are_one_kind_each(tmp_path: Path) -> None:
    """Seen: three servers, and each of two rows was tried on all of them."""
    (tmp_path / "test_it.py").write_text(ROWS_ON_SERVERS, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    found: list[pytest.Item] = []

    class Look:
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            found.extend(items)

    alone = ["-c", str(tmp_path / "pytest.ini"), "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    assert pytest.main([*alone, "--collect-only", "-q", str(tmp_path)], [Look()]) == 0
    assert len(found) == 6
    assert len(set(map(Kinds(), found))) == 2


def test_servers_always_rotate() -> None:
    items = [Collected({"postgres": object(), "a": 1}) for _ in range(3)]
    assert len(set(kinds(items))) == 1


def test_rotating_name_must_be_a_parameter() -> None:
    with pytest.raises(pytest.UsageError, match="b"):
        kinds([Collected({"a": 1}, ("a", "b"))])


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("--lang", "fr", "hold", "--help"),
        ("status",),
        ("status", "--json"),
        ("no",),
    ],
    ids=" ".join,
)
def test_fork_behaves_like_an_interpreter(words: tuple[str, ...], tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "NCEN_CONFIG_FILE": str(tmp_path / "none"),
    }  # fmt: skip
    alone = subprocess.run(
        [sys.executable, "-m", AGENT, *words],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    forked = run_agent(*words, environment=environment)
    assert (forked.stdout, forked.stderr) == (alone.stdout, alone.stderr)
    assert forked.returncode == alone.returncode


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks, not in place of an answer


@pytest.mark.parametrize("stands", [True, False], ids=["what stands for it", "both"])
def test_forked_worker_has_its_limit_and_ends_when_killed(stands: bool) -> None:
    ours, theirs = socket.socketpair()
    words = forked(workers_place())(Worker("ncen_updater.agent.cli.worker", ("/none",)))
    with (
        ours,
        theirs,
        subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno()) as process,
    ):
        theirs.close()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (12345, 12345))
        ours.sendall(b'{"words":')  # the order has begun: it waits for the rest
        until(lambda: behind(process.pid) is not None)
        fork = behind(process.pid)
        assert fork is not None
        until(lambda: resource.prlimit(fork, resource.RLIMIT_FSIZE) == (12345, 12345))
        processes.kill([process.pid] if stands else [process.pid, fork])
        assert not Path(f"/proc/{fork}").exists()
        assert process.wait() == -signal.SIGKILL


def test_frozen_tree_is_removed_and_shared_files_keep_their_mode(tmp_path: Path) -> None:
    frozen, stays = tmp_path / "frozen", tmp_path / "stays"
    (frozen / "deep" / "deeper").mkdir(parents=True)
    stays.write_bytes(b"x")
    os.link(stays, frozen / "deep" / "deeper" / "shared")
    stays.chmod(0o444)
    (frozen / "deep" / "away").symlink_to(tmp_path)
    for path in (frozen / "deep" / "deeper", frozen / "deep", frozen):
        path.chmod(0o555)
    remove_tree(frozen)
    remove_tree(frozen)  # nothing is left to do
    assert [path.name for path in tmp_path.iterdir()] == ["stays"]
    assert stays.stat().st_mode & 0o777 == 0o444


def test_deep_tree_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "deep"
    place.mkdir()
    inside = os.open(place, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=inside)
        inside, before = os.open("d", os.O_RDONLY, dir_fd=inside), inside
        os.close(before)
    os.close(inside)
    remove_tree(place)
    assert list(tmp_path.iterdir()) == []


def test_other_file_system_is_found(tmp_path: Path) -> None:
    found = other_than(tmp_path)
    assert found is None or found.stat().st_dev != tmp_path.stat().st_dev


def test_unclosed_database_is_a_warning() -> None:
    database = sqlite3.connect(":memory:")
    with pytest.warns(ResourceWarning, match="unclosed database"):
        del database
        gc.collect()


def test_closed_database_causes_no_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        sqlite3.connect(":memory:").close()
        gc.collect()
    assert caught == []


def test_pages_are_judged_without_axe_where_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    axe = fetch_axe.__wrapped__()
    assert axe.violations(cast("Browser", None)) == []
    with pytest.raises(pytest.skip.Exception, match=r"judged without axe-core: .*axe-playwright"):
        axe.require()


def test_uninstallable_package_does_not_block_others(tmp_path: Path) -> None:
    for name, line in {
        "id": "echo 0",
        "apt-get": f'echo "$*" >> {tmp_path}/log; case " $* " in *" promtool "*) exit 100; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [Path(__file__).parents[1] / ".ci/programs"], env={"PATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = (tmp_path / "log").read_text().splitlines()
    assert "chromium-driver apt-utils gpg promtool ansible-core" in lines[1]
    assert [line.split()[-1] for line in lines[2:]][-4:] == [
        "apt-utils", "gpg", "promtool", "ansible-core"
    ]  # fmt: skip
    assert done.stderr.split()[-1] == "promtool"
    assert len(done.stderr.splitlines()) == 1
