"""docs/publisher.md, command by command, for the tests that compare it with the program."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs/publisher.md").read_text("utf-8")
RULES, *PARTS = re.split(r"^## ", TEXT.partition("## Rules")[2], flags=re.MULTILINE)


def section(name: str) -> str:
    """What stands below the heading of a command; the heading goes on with its arguments."""
    found = [part for part in PARTS if re.match(rf"{re.escape(name)}( [A-Z]|\n)", part)]
    assert len(found) == 1, name
    return found[0]


def undescribed(name: str, keys: Iterable[str]) -> set[str]:
    """Keys of a JSON document that neither the command's section nor the rules name."""
    return {key for key in keys if f"`{key}`" not in section(name) + RULES}
