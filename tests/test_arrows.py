"""Which room may use which: two programs, what they share, and a console that is a guest.

Read from the imports themselves, also those within functions: what loads late is used all the same.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
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
#: Beside the package; no program that is installed anywhere uses them.
OUTSIDE = ("demo", "tests", "benchmarks")
#: Rooms of the agent that use each other, and why they may. None is to be added: what two rooms
#: need of each other is a room of its own, or is given by who puts them together.
BOTH_WAYS = {
    (
        "approvals",
        "engine",
    ): "a change asks for consent; a consent is bound to the plan of a change",
    (
        "approvals",
        "journal",
    ): "consent lies in the journal; an order says who gave it, as consent does",
    (
        "approvals",
        "rehearsal",
    ): "consent rests on a rehearsal, which notes what consent is bound to",
    ("cli", "service"): "commands ask the service; its work on the site is commands",
    ("config", "databases"): "each engine has a table of settings of its own",
    ("config", "notifications"): "settings name the kinds of news",
    ("config", "self_update"): "settings of a newer agent are passed over once it was chosen here",
    ("engine", "journal"): "the journal raises the errors of a change that cannot be read",
    (
        "engine",
        "rehearsal",
    ): "a rehearsal migrates as a change does; in place, a change needs its proof",
}
#: Starts the agent, whatever became of it: the standard library alone.
FAILSAFE = "agent/failsafe.py"


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, by its whole name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: whole names only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(package: Path) -> Iterator[str]:
    """Every arrow that points where it may not."""
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        room = place.parts[0] if len(place.parts) > 1 else ""
        for name in imports_of(path):
            top, _, rest = name.partition(".")
            heavy = place == Path(FAILSAFE) and top not in sys.stdlib_module_names
            inside = rest and rest.partition(".")[0] not in (room, *MAY_USE.get(room, ()))
            if top in OUTSIDE or heavy or (top == PACKAGE and inside):
                yield f"{place} uses {name}"


def both_ways(agent: Path) -> set[tuple[str, ...]]:
    """Every two rooms of the agent of which each uses the other."""
    rooms = {path.name for path in agent.iterdir() if path.is_dir()}
    used = set()
    for path in agent.rglob("*.py"):
        room = path.relative_to(agent).parts[0]
        for name in imports_of(path):
            if name.startswith(f"{PACKAGE}.agent."):
                used.add((room, name.split(".")[2]))
    return {
        (one, other)
        for one, other in used
        if one < other and {one, other} <= rooms and (other, one) in used
    }


def test_no_further_rooms_of_the_agent_use_each_other() -> None:
    assert both_ways(ROOT / PACKAGE / "agent") == set(BOTH_WAYS)


def test_rooms_that_use_each_other_are_found(tmp_path: Path) -> None:
    lines = {"slots/a.py": "cli", "cli/a.py": "slots.store", "files/a.py": "cli", "site.py": "cli"}
    for place, used in lines.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(f"from {PACKAGE}.agent.{used} import x\n", "utf-8")
    assert both_ways(tmp_path) == {("cli", "slots")}


def test_every_arrow_points_where_it_may() -> None:
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
def test_a_wrong_arrow_is_found(tmp_path: Path, place: str, line: str) -> None:
    path = tmp_path / PACKAGE / place
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n", "utf-8")
    assert len(list(forbidden(tmp_path / PACKAGE))) == 1
