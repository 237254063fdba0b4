"""One name for one thing: no two classes of the product share one."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PRODUCT = Path(__file__).parent.parent / "ncen_updater"


def named_twice(product: Path) -> dict[str, list[str]]:
    """Return each class name that is defined more than once, with its places."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(product.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(product)}:{node.lineno}")
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_class_name_exists_twice() -> None:
    assert named_twice(PRODUCT) == {}


def test_a_second_one_is_found(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("class Verdict:\n    pass\n", encoding="utf-8")
    assert named_twice(tmp_path) == {"Verdict": ["one.py:1", "two.py:1"]}
