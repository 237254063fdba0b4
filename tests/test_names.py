"""Tests of modules: unique class names in a room, valid docstring references, and size."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

PRODUCT = Path(__file__).parent.parent / "ncen_updater"
#: Lines of the longest module.
MOST_LINES = 800
DEFINED = re.compile(r"(?m)^\s*(?:async def |def |class |self\.)?(\w+)\b")
REFERENCE = re.compile(r":(class|func|meth|mod|attr):`~?([\w.]+)`")


def named_twice(product: Path) -> dict[str, list[str]]:
    """Return each class name that a room defines more than once, with its places."""
    places: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for path in sorted(product.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                place = path.relative_to(product)
                places[place.parent, node.name].append(f"{place}:{node.lineno}")
    return {name: found for (_, name), found in places.items() if len(found) > 1}


def test_class_names_are_unique_within_a_room() -> None:
    assert named_twice(PRODUCT) == {}


def test_duplicate_class_name_is_found(tmp_path: Path) -> None:
    for name in ("room/one", "room/two", "other/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("class Verdict:\n    pass\n", encoding="utf-8")
    assert named_twice(tmp_path) == {"Verdict": ["room/one.py:1", "room/two.py:1"]}


def find_dangling(product: Path) -> list[str]:
    """Return each name in a docstring or comment that no module of the product defines."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(product.rglob("*.py"))}
    modules = {path.stem for path in texts} | {path.parent.name for path in texts}
    names = {name for text in texts.values() for name in DEFINED.findall(text)}
    return [
        f"{path.relative_to(product)}: {found[0]}"
        for path, text in texts.items()
        for found in REFERENCE.finditer(text)
        if found[2].rpartition(".")[2] not in (modules if found[1] == "mod" else names)
        and not found[2].startswith("zoneinfo")
    ]


def test_docstrings_name_existing_objects() -> None:
    """Seen: thirteen named modules and functions that had been renamed."""
    assert find_dangling(PRODUCT) == []


def test_dangling_name_is_found(tmp_path: Path) -> None:
    text = '"""See :mod:`.gone`, :func:`make` and :meth:`.Door.shut`."""\n\n\ndef make(): ...\n'
    (tmp_path / "one.py").write_text(text, encoding="utf-8")
    assert find_dangling(tmp_path) == ["one.py: :mod:`.gone`", "one.py: :meth:`.Door.shut`"]


def test_no_module_is_too_long() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in PRODUCT.rglob("*.py")}
    assert [f"{path}: {found}" for path, found in lines.items() if found > MOST_LINES] == []
