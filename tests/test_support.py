"""What several tests stand on: parts in turns, and trees that are removed although frozen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forks import AGENT, run_agent
from tests.support.ground import other_than
from tests.support.rotation import SEED, one_of_each, part
from tests.support.trees import remove_tree

ITEMS = list(range(61))


def parts(seed: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setenv(SEED, str(seed))
    return part(ITEMS, 7, "a use")


def test_a_seed_gives_the_same_part_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(5, monkeypatch) == parts(5, monkeypatch)


def test_all_seeds_together_give_everything_and_each_a_seventh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [parts(seed, monkeypatch) for seed in range(100)]
    assert {item for some in found for item in some} == set(ITEMS)
    assert {len(some) for some in found} == {8, 9}


def test_all_seeds_together_give_each_and_each_one_of_those_alike(
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
def test_a_fork_says_what_an_interpreter_says(words: tuple[str, ...], tmp_path: Path) -> None:
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


def test_a_frozen_tree_is_removed_and_a_file_it_shares_keeps_its_mode(tmp_path: Path) -> None:
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


def test_a_tree_that_is_deeper_than_a_path_is_long_is_removed(tmp_path: Path) -> None:
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


def test_another_file_system_is_another(tmp_path: Path) -> None:
    found = other_than(tmp_path)
    assert found is None or found.stat().st_dev != tmp_path.stat().st_dev
