"""Guides in two languages say the same, and what they quote is what the program says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _kept_in_step(path: Path) -> tuple[list[str], list[str], set[str]]:
    """Levels of headings, lines to be typed, and names of a document; words of it are left out."""
    levels, lines, names, before, fenced = [], [], set[str](), "", False
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and before in ("", "    ")):
            typed = re.sub(r"\s+#.*|\"[^\"]*\"|/root/\S+", "", line.replace(" --lang fr", ""))
            lines += [typed.strip()] if typed.strip() else []
            before = "    "
            continue
        else:
            levels += re.findall(r"^(#+) ", line)
            names.update(re.findall(r"NU-\d{4}|`((?=[^`]*[._/-])[a-z._/-]+)`", line))
            names.update(re.findall(r"NU-\d{4}", line))
        before = line
    return levels, lines, names - {""}


FRENCH = sorted([*(ROOT / "docs/fr").glob("*.md"), ROOT / "keys/README.fr.md"])


@pytest.mark.parametrize("french", FRENCH, ids=lambda path: path.name)
def test_a_document_in_two_languages_says_the_same(french: Path) -> None:
    """As far as a program sees it: the same parts, lines to be typed, names and codes."""
    here = french.parent.name == "fr"
    english = ROOT / "docs" / french.name if here else french.with_name("README.md")
    ours, theirs = _kept_in_step(french), _kept_in_step(english)
    assert ours[0] == theirs[0], "headings"
    assert sorted(ours[1]) == sorted(theirs[1]), "lines to be typed"
    # The table of units is in one language alone: a test compares it with the units.
    alone = set[str]()
    if french.name == "installation.md":
        table = english.read_text("utf-8").partition("## What each unit can write")[2]
        alone = set(re.findall(r"`([^`]+)`", table))
    assert theirs[2] - ours[2] - alone == set(), "names and codes"


def test_every_guide_of_a_site_is_in_french() -> None:
    needed = {
        "quick-start.md", "operator.md", "installation.md", "it-failed.md", "evening-and-night.md",
        "release-officer.md", "translations.md",
    }  # fmt: skip
    assert {path.name for path in (ROOT / "docs/fr").glob("*.md")} == needed


#: What stands between quotes in the guides and is said by others, or is a word about something.
SAID_BY_OTHERS = {
    "non-existent unit ncen.service", "il faut une personne", "a person is needed", "avec origine",
    "with origin", "ncen_updater",
}  # fmt: skip
GUIDES = ("quick-start", "operator", "it-failed", "evening-and-night", "installation")


def _told(text: str, sentences: list[str]) -> bool:
    """Whether a sentence of the program is, or begins with, what a guide quotes."""
    said = text.strip().rstrip(".\N{HORIZONTAL ELLIPSIS}").lower()
    for sentence in sentences:
        parts = [part.lower() for part in re.split(r"\{\w+\}", sentence)]
        longest = max(parts, key=len).strip(" .,:;")
        if said in sentence.lower() or (len(longest) > 12 and longest in said):
            return True
    return False


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", GUIDES)
def test_what_a_guide_quotes_is_what_the_program_says(name: str, language: str) -> None:
    read = runpy.run_path(str(ROOT / "script/messages.py"))["read_po"]()
    french = [
        f for said in read.values() for f in ([said] if isinstance(said, str) else said.forms)
    ]
    sentences = [
        text.replace("\N{NO-BREAK SPACE}", " ") for text in (read, french)[language == "fr"]
    ]
    path = ROOT / "docs" / ("fr" if language == "fr" else "") / f"{name}.md"
    text = " ".join(re.sub(r"(?m)^    .*$", "", path.read_text("utf-8")).split())
    quotes = re.findall(r"« ([^»]{6,160}) »" if language == "fr" else r'"([^"`]{8,160})"', text)
    unsaid = {quote for quote in quotes if not _told(quote, sentences)}
    assert unsaid - SAID_BY_OTHERS == set()
