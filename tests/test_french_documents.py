"""Tests that guides in two languages agree, and quote the program's text."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.support.prose import GENERATED, find_pages

ROOT = Path(__file__).parents[1]


def _list_common_parts(path: Path) -> tuple[list[str], list[str], set[str]]:
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


DOCS = ROOT / "docs"
#: Each with its English page at the same path, but for the index and what programs write.
FRENCH = sorted(
    page
    for page in [*(DOCS / "fr").rglob("*.md"), ROOT / "keys/README.fr.md"]
    if page.name not in {"README.md", *GENERATED}
)


@pytest.mark.parametrize("french", FRENCH, ids=lambda path: str(path.relative_to(ROOT)))
def test_translated_document_has_the_same_structure(french: Path) -> None:
    """As far as a program sees it: the same parts, lines to be typed, names and codes."""
    here = french.is_relative_to(DOCS)
    english = DOCS / french.relative_to(DOCS / "fr") if here else french.with_name("README.md")
    ours, theirs = _list_common_parts(french), _list_common_parts(english)
    assert ours[0] == theirs[0], "headings"
    assert sorted(ours[1]) == sorted(theirs[1]), "lines to be typed"
    assert theirs[2] - ours[2] == set(), "names and codes"


#: The program says agent, paquet hors ligne, essai, plage de maintenance, période d'observation
#: and indisponibilité.
OTHER_WORDS = re.compile(
    r"gestionnaire|lots? hors ligne|essais? à blanc|fenêtres? de maintenance"
    r"|période de surveillance|interruption de service"
)


@pytest.mark.parametrize(
    "page", [*find_pages(DOCS / "fr"), DOCS / "reference/glossary.md"], ids=lambda page: page.name
)
def test_french_pages_use_the_terms_of_the_program(page: Path) -> None:
    assert OTHER_WORDS.findall(page.read_text("utf-8")) == []


#: What people at a site and at the Secretariat need in French.
NEEDED = (
    "tutorials/first-upgrade.md", "reference/monitoring.md", "how-to/install-agent.md",
    "how-to/upgrade-a-site.md", "how-to/upgrade-checklist.md", "how-to/roll-back.md",
    "how-to/recover-a-site.md", "how-to/restored-databases.md", "how-to/offline-sites.md",
    "how-to/translate.md", "how-to/web-console.md", "how-to/publish-a-release.md",
    "how-to/key-ceremony.md", "how-to/control-a-rollout.md", "how-to/see-the-fleet.md",
)  # fmt: skip


@pytest.mark.parametrize("page", NEEDED)
def test_every_site_guide_is_translated_to_french(page: str) -> None:
    assert (DOCS / page).is_file() == (DOCS / "fr" / page).is_file()


#: What stands between quotes in the guides and is said by others, or is a word about something.
SAID_BY_OTHERS = {
    "ncen_updater",
}  # fmt: skip
GUIDES = tuple(page for page in NEEDED if "how-to/" in page and (DOCS / "fr" / page).is_file())


def _is_program_text(text: str, sentences: list[str]) -> bool:
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
def test_quoted_messages_exist(name: str, language: str) -> None:
    read = runpy.run_path(str(ROOT / "script/messages.py"))["read_po"]()
    french = [
        f for said in read.values() for f in ([said] if isinstance(said, str) else said.forms)
    ]
    sentences = french if language == "fr" else list(read)
    path = DOCS / ("fr" if language == "fr" else "") / name
    text = " ".join(re.sub(r"(?m)^    .*$|`[^`]*`", "", path.read_text("utf-8")).split())
    quotes = re.findall(r"« ([^»]{6,160}) »" if language == "fr" else r'"([^"`]{8,160})"', text)
    unsaid = {quote for quote in quotes if not _is_program_text(quote, sentences)}
    assert unsaid - SAID_BY_OTHERS == set()
