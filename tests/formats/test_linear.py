"""Tests that readers of SQL and of trees take linear time, whatever they read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ncen_updater.formats.data_loss import find_data_loss
from ncen_updater.formats.delta.tree_pairing import pair_trees
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry
from tests.badinput.hostile import bounded

#: From n to the texts of an ``up`` and a ``down`` file.
SHAPES: dict[str, Callable[[int], tuple[str, str]]] = {
    "values that are exchanged": lambda n: (
        "".join(f"UPDATE c SET k = 'new{i}' WHERE k = 'old{i}';" for i in range(n)),
        "".join(f"UPDATE c SET k = 'old{i}' WHERE k = 'new{i}';" for i in range(n)),
    ),
    "columns that are parked": lambda n: (
        "",
        "".join(
            f"INSERT INTO ncen_kept.k SELECT a{i} FROM t; ALTER TABLE t DROP COLUMN b{i};"
            for i in range(n)
        ),
    ),
    "parked rows that are thrown away": lambda n: (
        "",
        "".join(f"INSERT INTO ncen_kept.k SELECT a FROM t{i};" for i in range(n))
        + "DELETE FROM ncen_kept.k;" * n,
    ),
    "tables that are rebuilt": lambda n: (
        "",
        "DROP TABLE t; ALTER TABLE u RENAME TO t;" * n,
    ),
    "columns that were added": lambda n: (
        "".join(f"ALTER TABLE t ADD c{i} int;" for i in range(n)),
        "".join(f"ALTER TABLE t DROP c{i};" for i in range(n)),
    ),
    "one statement of many parts": lambda n: (
        "",
        "WITH " + ", ".join(f"p{i} AS (UPDATE t{i} SET a = 1)" for i in range(n)) + " SELECT 1;",
    ),
    "negations": lambda n: ("", "SELECT " + "NOT " * n + "true"),
    "nested parts": lambda n: ("", "WITH x AS " + "(DELETE FROM a " * n),
    "clauses of an insert": lambda n: (
        "",
        "INSERT INTO t VALUES (1) " + "ON CONFLICT (a) DO UPDATE SET a = 1 WHERE a = 1 " * n,
    ),
    "clauses of a merge": lambda n: (
        "",
        "MERGE INTO t USING u ON true " + "WHEN MATCHED THEN UPDATE SET a = (1 " * n,
    ),
    "words of one statement": lambda n: ("", "SELECT UPDATE " * n + ";"),
}


def _steps(act: Callable[[], object]) -> int:
    """Count the lines of Python that are run, comprehensions too."""
    count = 0

    def step(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_doubled_statements_double_the_work(shape: str) -> None:
    few, many = (SHAPES[shape](n) for n in (60, 120))
    steps = _steps(lambda: find_data_loss(*few, "postgresql"))
    assert _steps(lambda: find_data_loss(*many, "postgresql")) < 2.3 * steps


def _list_equal_files(release: str, count: int) -> Tree:
    """Return a tree of empty files, such as those of Python packages."""
    entries = [TreeEntry(release, EntryType.DIRECTORY, 0o755)]
    for number in range(count):
        package = f"{release}/p{number:04}"
        entries.append(TreeEntry(package, EntryType.DIRECTORY, 0o755))
        path = f"{package}/__init__.py"
        entries.append(TreeEntry(path, EntryType.FILE, 0o644, sha256="e" * 64))
    return Tree(entries=tuple(entries))


def test_moved_files_of_equal_content_are_paired_one_by_one() -> None:
    few, many = (
        [_list_equal_files(release, count) for release in ("lib-1.0", "lib-1.1")]
        for count in (60, 120)
    )
    steps = _steps(lambda: pair_trees(*few))
    assert _steps(lambda: pair_trees(*many)) < 2.3 * steps


def test_large_mirrored_inserts_have_no_loss() -> None:
    with bounded(120):  # it was half an hour
        assert find_data_loss(*SHAPES["values that are exchanged"](20_000), "postgresql") == ()
