"""Tests of modules: unique class names in a room, valid docstring references, and size."""

from __future__ import annotations

import ast
import builtins
import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

PRODUCT = Path(__file__).parent.parent / "ncen_updater"
#: Lines of the longest module.
MOST_LINES = 800
REFERENCE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([\w.]+)`")
CLASS = re.compile(r" *class (\w+)[(\[:]")
RAISES = re.compile(r"(?m)^ *Raises:\n((?: {8,}.*\n)+)")


def named_twice(product: Path) -> dict[str, list[str]]:
    """Return each class name that a room defines more than once, with its places."""
    places: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for path in sorted(product.rglob("*.py")):
        place = path.relative_to(product)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if found := CLASS.match(line):
                places[place.parent, found[1]].append(f"{place}:{number}")
    return {name: found for (_, name), found in places.items() if len(found) > 1}


def test_class_names_are_unique_within_a_room() -> None:
    assert named_twice(PRODUCT) == {}


def test_duplicate_class_name_is_found(tmp_path: Path) -> None:
    for name in ("room/one", "room/two", "other/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("class Verdict:\n    pass\n", encoding="utf-8")
    assert named_twice(tmp_path) == {"Verdict": ["room/one.py:1", "room/two.py:1"]}


@cache
def collect_names(product: Path) -> dict[str, set[str]]:
    """Return the names that each module and each class defines."""
    names: dict[str, set[str]] = defaultdict(set)
    for path in sorted(product.rglob("*.py")):
        inner = path.parent if path.stem == "__init__" else path
        module = inner.stem
        names[inner.parent.name].add(module)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        scopes = [(module, tree)] + [
            (n.name, n) for n in ast.walk(tree) if isinstance(n, ast.ClassDef)
        ]
        for scope, node in scopes:
            names[scope].update()
            for one in ast.walk(node):
                if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    names[scope].add(one.name)
                elif isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, ast.Store):
                    names[scope].add(one.id if isinstance(one, ast.Name) else one.attr)
                elif isinstance(one, ast.alias):
                    names[scope].add(one.asname or one.name)
    return names


def find_dangling(product: Path) -> list[str]:
    """Return each name in a docstring or comment that no module of the product defines."""
    names = collect_names(product)
    everything = set(names).union(*names.values())
    dangling = []
    for path in sorted(product.rglob("*.py")):
        for found in REFERENCE.finditer(path.read_text(encoding="utf-8")):
            first, *_ = *above, name = found[1].strip(".").split(".")
            known = names.get(above[-1], set()) if above else everything
            if name not in known and first not in ("zoneinfo", "ncen_updater"):
                dangling.append(f"{path.relative_to(product)}: {found[0]}")
    return dangling


def find_unknown_errors(product: Path, messages: Path) -> list[str]:
    """Return each name below ``Raises:`` that is no exception and no constant of a message."""
    names = collect_names(product)
    known = set(dir(builtins)).union({*tomllib.loads(messages.read_text("utf-8"))}, *names.values())
    unknown = []
    for path in sorted(product.rglob("*.py")):
        for section in RAISES.findall(path.read_text(encoding="utf-8")):
            for line in re.findall(r"(?m)^ +([A-Z_]\w*)(?:, (\w+))*:", section):
                unknown += [f"{path.name}: {name}" for name in line if name and name not in known]
    return unknown


def test_docstrings_name_existing_objects() -> None:
    """Seen: thirteen named modules and functions that had been renamed."""
    assert find_dangling(PRODUCT) == []


def test_docstrings_name_existing_errors() -> None:
    assert find_unknown_errors(PRODUCT, PRODUCT / "common/messages.toml") == []


def test_dangling_name_is_found(tmp_path: Path) -> None:
    names = ":mod:`.gone`, :func:`make`, :func:`.two.make`, :meth:`.Door.shut`"
    text = f'"""See {names}."""\n\n\ndef make(): ...\n'
    (tmp_path / "one.py").write_text(text, encoding="utf-8")
    (tmp_path / "two.py").write_text("", encoding="utf-8")
    dangling = [":mod:`.gone`", ":func:`.two.make`", ":meth:`.Door.shut`"]
    assert find_dangling(tmp_path) == [f"one.py: {name}" for name in dangling]


def test_unknown_error_is_found(tmp_path: Path) -> None:
    text = (
        'def make():\n    """Make.\n\n    Raises:\n        ValueError, GoneError: If so.\n    """\n'
    )
    (tmp_path / "one.py").write_text(text, encoding="utf-8")
    (tmp_path / "messages.toml").write_text("[DISK_FULL]\n", encoding="utf-8")
    assert find_unknown_errors(tmp_path, tmp_path / "messages.toml") == ["one.py: GoneError"]


def test_no_module_is_too_long() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in PRODUCT.rglob("*.py")}
    assert [f"{path}: {found}" for path, found in lines.items() if found > MOST_LINES] == []
