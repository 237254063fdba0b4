"""Tests that imports point down: a total order of the rooms, without an exception.

Read from the imports themselves, also those within functions: what loads late is used all the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "ncen_updater"
SHARED = ("common", "formats", "feed")
#: Room to what it may use beside itself and libraries.
MAY_USE = {
    "common": (),
    "formats": ("common",),
    "feed": ("common", "formats"),
    "agent": SHARED,
    "publisher": SHARED,
    "console": ("common",),
    "login": ("common",),
}
#: The rooms within the two programs, from the lowest up. Each may use those before it. A single
#: file of a program is a room, too.
ORDER = {
    "agent": (
        "model", "policy", "storage", "config", "adapters", "engine", "self_update", "reports",
        "setup", "service", "cli", "failsafe",
    ),
    "publisher": (
        "errors", "feed", "build", "signing", "distribute", "new", "lint", "review", "fleet", "cli",
    ),
}  # fmt: skip
#: Beside the package; no program that is installed anywhere uses them.
OUTSIDE = ("demo", "tests", "benchmarks")
#: Starts the agent, whatever became of it: the standard library alone.
FAILSAFE = "agent/failsafe.py"
#: Characters of a pattern, as written, that a module may compile when it is imported.
MAX_EARLY_PATTERN = 200


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, by its whole name."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: whole names only"
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def forbidden(package: Path) -> Iterator[str]:
    """Every import between top rooms that points where it may not."""
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        room = place.parts[0] if len(place.parts) > 1 else ""
        for name in imports_of(path):
            top, _, rest = name.partition(".")
            heavy = place == Path(FAILSAFE) and top not in sys.stdlib_module_names
            inside = rest and rest.partition(".")[0] not in (room, *MAY_USE.get(room, ()))
            if top in OUTSIDE or heavy or (top == PACKAGE and inside):
                yield f"{place} uses {name}"


def upward(package: Path, program: str, order: Sequence[str]) -> Iterator[str]:
    """Every import of a program that points up the order of its rooms, or at none of them."""
    floor = {room: number for number, room in enumerate(order)}
    for path in sorted((package / program).rglob("*.py")):
        room = path.relative_to(package / program).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imports_of(path):
            used = name.removeprefix(f"{PACKAGE}.{program}.")
            if used != name and floor.get(used.partition(".")[0], len(order)) > floor.get(room, -1):
                yield f"{path.relative_to(package)} uses {name}"


@pytest.mark.parametrize("program", ORDER)
def test_imports_of_a_program_point_down(program: str) -> None:
    assert list(upward(ROOT / PACKAGE, program, ORDER[program])) == []


@pytest.mark.parametrize("program", ORDER)
def test_every_room_of_a_program_is_ordered(program: str) -> None:
    found = {path.stem for path in (ROOT / PACKAGE / program).iterdir() if path.suffix == ".py"}
    found |= {path.parent.name for path in (ROOT / PACKAGE / program).glob("*/__init__.py")}
    assert found - {"__init__"} == set(ORDER[program])


@pytest.mark.parametrize(
    ("place", "used", "wrong"),
    [
        ("storage/a.py", "model.change", False),
        ("storage/journal/a.py", "storage.slots.store", False),
        ("model/a.py", "storage.journal", True),
        ("failsafe.py", "cli.main", False),
        ("model/a.py", "failsafe", True),
        ("other.py", "model.change", True),
        ("cli/a.py", "other", True),
    ],
)
def test_upward_import_is_found(tmp_path: Path, place: str, used: str, wrong: bool) -> None:
    path = tmp_path / "agent" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"def f():\n    from {PACKAGE}.agent.{used} import x\n", "utf-8")
    assert bool(list(upward(tmp_path, "agent", ORDER["agent"]))) is wrong


def test_imports_between_rooms_are_permitted() -> None:
    assert list(forbidden(ROOT / PACKAGE)) == []


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in (ROOT / PACKAGE).iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(MAY_USE)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("agent/engine/a.py", "from ncen_updater.publisher.signing import keys"),
        ("publisher/a.py", "from ncen_updater.agent import site"),
        ("publisher/a.py", "def f():\n    import ncen_updater.agent.site"),
        ("feed/a.py", "from ncen_updater.agent.config import model"),
        ("formats/a.py", "from ncen_updater.feed import client"),
        ("common/a.py", "from ncen_updater import formats"),
        ("console/a.py", "from ncen_updater.agent.engine import runner"),
        ("agent/a.py", "from demo.site import DemoSite"),
        ("agent/failsafe.py", "from ncen_updater.common.errors import ExitCode"),
        ("agent/failsafe.py", "import requests"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, place: str, line: str) -> None:
    path = tmp_path / PACKAGE / place
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n", "utf-8")
    assert len(list(forbidden(tmp_path / PACKAGE))) == 1


def early_patterns(path: Path) -> Iterator[str]:
    """Every long pattern that a module compiles when it is imported."""
    text = path.read_text("utf-8")
    waiting: list[ast.AST] = [ast.parse(text)] if "re.compile(" in text else []
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Call(args=[pattern, *_]) if ast.unparse(node.func) == "re.compile":
                if len(ast.unparse(pattern)) > MAX_EARLY_PATTERN:
                    yield f"{path}:{node.lineno}"
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_long_patterns_are_compiled_on_first_use() -> None:
    found = [place for path in (ROOT / PACKAGE).rglob("*.py") for place in early_patterns(path)]
    assert found == []


def test_plan_needs_no_step_and_no_network_library() -> None:
    code = (
        "import sys, ncen_updater.agent.engine.operations;"
        "import ncen_updater.agent.engine.site_factory, ncen_updater.feed.metadata_verifier;"
        "heavy = {'requests', 'urllib3', 'tuf.ngclient', 'ncen_updater.agent.engine.steps'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    before = "from ncen_updater.feed import prepare_process; prepare_process();"
    subprocess.run([sys.executable, "-c", before + code], check=True)
