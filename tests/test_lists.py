"""Tests of the lists of test modules, and of the files whose types are checked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.rotation import long_modules

ROOT = Path(__file__).parents[1]
TURNS = re.compile(r"\b(in_turns|either_engine|part)\(")
ASKS = re.compile(r"\bgete?uid\(|\bchown\(|\bsetuid\(|tests\.support\.as_user|[\"']unshare[\"']")


def listed(name: str) -> list[str]:
    lines = (ROOT / "tests" / name).read_text("utf-8").splitlines()
    return [words[0] for line in lines if (words := line.partition("#")[0].split())]


@pytest.mark.parametrize("name", ["quick.txt", "user.txt", "long.txt"])
def test_every_path_exists(name: str) -> None:
    paths = listed(name)
    assert paths == list(dict.fromkeys(paths))
    for path in paths:
        place, _, test = path.partition("::")
        assert (ROOT / place).exists(), path
        if test:
            assert f"def {test.partition('[')[0]}(" in (ROOT / place).read_text("utf-8"), path


def test_every_long_module_exists() -> None:
    assert [name for name in long_modules() if not (ROOT / name).is_file()] == []


def test_every_rotating_module_is_documented() -> None:
    said = (ROOT / "tests/README.md").read_text("utf-8")
    table = said.partition("* **In turns**")[2].partition("* **Parts**")[0]
    marked = {
        path.stem
        for path in (ROOT / "tests").rglob("test_*.py")
        if TURNS.search(path.read_text("utf-8"))
    } - {"test_lists", "test_support"}
    assert marked
    assert {name for name in marked if not re.search(rf"\b{name}\b", table)} == set()
    assert set(re.findall(r"\btest_\w+", table)) == marked


def test_user_dependent_tests_are_listed() -> None:
    asking = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if ASKS.search(path.read_text("utf-8"))
    } - {"tests/test_lists.py"}
    paths = listed("user.txt")
    assert asking
    left = {one for one in asking if not any(one.startswith(path) for path in paths)}
    assert left == set()


def test_every_program_without_a_suffix_is_checked() -> None:
    """Seen: a script without .py that a renamed function had broken, and 13 of ruff's findings."""
    done = subprocess.run(
        [ROOT / "script/lint", "programs"], capture_output=True, text=True, check=True
    )
    programs = {
        str(path.relative_to(ROOT))
        for directory in ("script", "packaging", "docs/examples")
        for path in (ROOT / directory).rglob("*")
        if path.is_file() and not path.suffix and re.match(rb"#!.*\bpython", path.read_bytes())
    }
    assert len(programs) > 5
    assert set(done.stdout.split()) == programs
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert hooks.count("types_or: [python, pyi]") == 2
