"""One name for one thing: no two classes of the product share theirs."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ncen_updater"


def twice(package: Path) -> dict[str, list[str]]:
    """Names of classes to the files that have them, where that is more than one place."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(package)))
    return {name: places for name, places in found.items() if len(places) > 1}


def test_every_class_has_a_name_of_its_own() -> None:
    assert twice(PACKAGE) == {}


def test_one_that_is_there_twice_is_found(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("class Same: ...\n")
    assert twice(tmp_path) == {"Same": ["a.py", "b.py"]}
