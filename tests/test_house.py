"""The rules of the house that a machine can keep."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("ncen_updater", "tests", "benchmarks", "script", ".ci")
MOST_LINES = 400


def too_long(root: Path) -> list[str]:
    """Python files that should be two: name and number of lines."""
    found = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            lines = len(path.read_text("utf-8").splitlines())
            if lines > MOST_LINES:
                found.append(f"{path.relative_to(root)} has {lines} lines")
    return found


def test_no_file_is_too_long() -> None:
    assert (ROOT / "ncen_updater" / "errors.py").is_file()
    assert too_long(ROOT) == []


def test_a_file_that_is_too_long_is_seen(tmp_path: Path) -> None:
    room = tmp_path / "tests" / "inside"
    room.mkdir(parents=True)
    (room / "right.py").write_text("a = 1\n" * MOST_LINES)
    (room / "long.py").write_text("a = 1\n" * (MOST_LINES + 1))
    assert too_long(tmp_path) == [f"tests/inside/long.py has {MOST_LINES + 1} lines"]
