"""The page that says which test plays which attack names tests that there are."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def absent(text: str, root: Path) -> list[str]:
    """Tests that are named and are not there."""
    return [
        f"{path}::{name}"
        for path, name in NAMED.findall(text)
        if not (root / path).is_file() or f"def {name}(" not in (root / path).read_text("utf-8")
    ]


def rows_without(text: str) -> list[str]:
    """Rows of attacks that name no test."""
    lines = text.splitlines()
    heads = {before for before, line in pairwise(lines) if line.startswith("|---")}
    rows = [line for line in lines if line.startswith("| ") and line not in heads]
    return [row for row in rows if not NAMED.search(row)]


def test_every_attack_names_a_test_that_is_there() -> None:
    text = (ROOT / "docs/attacks.md").read_text("utf-8")
    assert len(NAMED.findall(text)) > 60
    assert absent(text, ROOT) == []
    assert rows_without(text) == []


def test_a_wrong_row_is_found() -> None:
    here = f"tests/badinput/{Path(__file__).name}"
    row = f"| x | `{here}::test_a_wrong_row_is_found`, `{here}::test_none`, `tests/no.py::test_x` |"
    assert absent(row, ROOT) == [f"{here}::test_none", "tests/no.py::test_x"]
    assert rows_without(row + "\n| attack | none |") == ["| attack | none |"]
