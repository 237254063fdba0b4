"""One name for one thing in a room: packages are namespaces."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PRODUCT = Path(__file__).parent.parent / "ncen_updater"


def named_twice(product: Path) -> dict[str, list[str]]:
    """Return each class name that a room defines more than once, with its places."""
    places: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for path in sorted(product.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                place = path.relative_to(product)
                places[place.parent, node.name].append(f"{place}:{node.lineno}")
    return {name: found for (_, name), found in places.items() if len(found) > 1}


def test_no_class_name_exists_twice_in_a_room() -> None:
    assert named_twice(PRODUCT) == {}


def test_a_second_one_is_found(tmp_path: Path) -> None:
    for name in ("room/one", "room/two", "other/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("class Verdict:\n    pass\n", encoding="utf-8")
    assert named_twice(tmp_path) == {"Verdict": ["room/one.py:1", "room/two.py:1"]}
