"""The staged pages of the documents site lead to each other, in both languages."""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "script/docs.py"))
LINK = re.compile(r"(?:\]\(|^\[[^\]]+\]: +)([^)\s#:]+)(?:#[^)\s]*)?(?:\)|$)", re.MULTILINE)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("docs")
    SCRIPT["stage"](target)
    return target


def test_staged_links_resolve(staged: Path) -> None:
    """A page that is not in French is there in English."""
    lost = []
    for page in staged.rglob("*.md"):
        language = staged / page.relative_to(staged).parts[0]
        for link in LINK.findall(page.read_text("utf-8")):
            target = page.parent / link
            spare = staged / "en" / os.path.relpath(target, language)
            if not target.is_file() and not spare.is_file():
                lost.append(f"{page.relative_to(staged)}: {link}")
    assert lost == []


@pytest.mark.parametrize("language", ["en", "fr"])
def test_operators_book_has_every_guide(staged: Path, language: str) -> None:
    book = (staged / language / "how-to/operators-book.md").read_text("utf-8")
    for name in SCRIPT["BOOK"]:
        title = (staged / language / f"how-to/{name}.md").read_text("utf-8").splitlines()[0]
        assert f"\n#{title}\n" in book
    assert len(re.findall(r"^# ", book, re.MULTILINE)) == 1


@pytest.mark.parametrize("pdf", [True, False])
@pytest.mark.parametrize("language", ["en", "fr"])
def test_start_page_leads_to_the_operators_book(tmp_path: Path, language: str, pdf: bool) -> None:
    SCRIPT["stage"](tmp_path, pdf=pdf)
    start = (tmp_path / language / "README.md").read_text("utf-8")
    assert f"\n[{SCRIPT['BOOK_TITLES'][language]}](how-to/operators-book.md)" in start
    assert ('href="how-to/operators-book.pdf"' in start) is pdf


def test_link_to_source_becomes_text() -> None:
    mend: Callable[..., str] = SCRIPT["mend_links"]
    page = ROOT / "docs/how-to/roll-back.md"
    text = "[a](../../script/test) [b](../README.md#x) [c](https://d.test) [e](../fr/README.md)"
    assert mend(text, page, Path("how-to/roll-back.md"), "en") == (
        "a [b](../README.md#x) [c](https://d.test) e"
    )
