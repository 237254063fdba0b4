"""Tests that links between documents, and document names in messages, resolve."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?:\]\(|^\[[^\]]+\]: +)([^)\s]+)", re.MULTILINE)
NAMED = re.compile(r"(?<![\w/.-])docs/[\w./-]+\.md")


def documents(root: Path) -> list[Path]:
    """Every text for people that the project wrote."""
    found = [*root.glob("*.md"), *root.glob("*/README.md"), *(root / "docs").rglob("*.md")]
    return sorted({*found, *(root / "keys").rglob("*.md")})


def anchors(path: Path) -> set[str]:
    """Addresses of the headings of a document, as web sites make them."""
    heads = re.findall(r"^#+ +(.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lost_links(root: Path) -> Iterator[str]:
    """Links to files and headings that are not there."""
    for path in documents(root):
        for link in LINK.findall(path.read_text("utf-8")):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = path.parent / name if name else path
            if not target.exists():
                yield f"{path.relative_to(root)}: {link}"
            elif anchor and anchor not in anchors(target):
                yield f"{path.relative_to(root)}: {link} (no such heading)"


def lost_names(root: Path) -> Iterator[str]:
    """Documents that a sentence of the program or another document names and that are not there."""
    for path in [*documents(root), *sorted((root / "ncen_updater").rglob("*.py"))]:
        for name in NAMED.findall(path.read_text("utf-8")):
            if not (root / name).is_file():
                yield f"{path.relative_to(root)}: {name}"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one mistake of each kind."""
    for room in ("docs", "ncen_updater"):
        (tmp_path / room).mkdir()
    (tmp_path / "ncen_updater/errors.py").write_text('"""See docs/lost.md and docs/here.md."""\n')
    (tmp_path / "docs/here.md").write_text("# Rooms, all\n\nSee [this](#rooms-all).\n")
    (tmp_path / "README.md").write_text(
        "[a](docs/here.md#rooms-all) [b](docs/here.md#doors) [c](docs/gone.md) [d](https://x.test)\n"
        "\n[e]: gone/away.md\n"
    )
    return tmp_path


def test_links_resolve(repository: Path) -> None:
    assert list(lost_links(repository)) == [
        "README.md: docs/here.md#doors (no such heading)",
        "README.md: docs/gone.md",
        "README.md: gone/away.md",
    ]
    assert list(lost_links(ROOT)) == []


def test_named_documents_exist(repository: Path) -> None:
    assert list(lost_names(repository)) == [
        "README.md: docs/gone.md",
        "ncen_updater/errors.py: docs/lost.md",
    ]
    assert list(lost_names(ROOT)) == []
