"""Stage the documents for mkdocs; run by ``script/docs``.

Each language has its own directory. Documents beside the code (keys, tests and others) are placed
below ``project``; a link to any other file of the repository is replaced by its text.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = {"en": ROOT / "docs", "fr": ROOT / "docs/fr"}
LINK = re.compile(
    r"\[(?P<title>(?:`[^`]*`|[^]`[])*)\](?P<kind>\(|: +)(?P<target>[^)\s#]+)(?P<rest>#[^)\s]*)?"
    r"(?P<end>\)?)"
)
#: The operators' guides, in the order in which they are printed.
BOOK = (
    "install-agent", "upgrade-a-site", "upgrade-checklist", "roll-back", "recover-a-site",
    "restored-databases", "offline-sites", "translate", "web-console",
)  # fmt: skip
BOOK_TITLES = {"en": "The operator's book", "fr": "Le livre de l'exploitant"}
BOOK_LINES = {
    "en": "[{title}](how-to/operators-book.md): the guides as one page, to print",
    "fr": "[{title}](how-to/operators-book.md) : les guides en une page, à imprimer",
}
#: As HTML, because mkdocs does not know files that are created after its run.
PDF_LINK = ' (<a href="how-to/operators-book.pdf">PDF</a>)'
PAGE_BREAK = '\n\n<div style="break-after: page"></div>\n\n'


def locate(path: Path, language: str) -> Path | None:
    """Return the staged path of a file for a language; None if it is not staged."""
    for directory in (LANGUAGES[language], LANGUAGES["en"], LANGUAGES["fr"]):
        if path.is_relative_to(directory):
            path = path / "README.md" if path.is_dir() else path
            shown = path.suffix == ".md" or path.parent.name == "pictures"
            return path.relative_to(directory) if shown and path.is_file() else None
    outside = path.is_relative_to(ROOT) and path.is_file() and path.suffix == ".md"
    return "project" / path.relative_to(ROOT) if outside else None


def mend_links(text: str, source: Path, staged: Path, language: str) -> str:
    """Rewrite the links of a document for its staged path.

    Args:
        text: The document.
        source: Its path in the repository.
        staged: Its path below the directory of the language.
        language: The language.
    """

    def mend(link: re.Match[str]) -> str:
        if ":" in link["target"] or (link["kind"] == "(") != bool(link["end"]):
            return link[0]
        path = Path(os.path.normpath(source.parent / link["target"]))
        found = locate(path, language)
        if found is None or (language == "en" and path.is_relative_to(LANGUAGES["fr"])):
            return link["title"]
        address = os.path.relpath(found, staged.parent)
        return f"[{link['title']}]{link['kind']}{address}{link['rest'] or ''}{link['end']}"

    return LINK.sub(mend, text)


def find_sources(language: str) -> list[Path]:
    """Return the documents of a language; those beside the code exist in English only."""
    directory = LANGUAGES[language]
    found = sorted(directory.rglob("*.md"))
    if language == "fr":
        return found
    found = [page for page in found if not page.is_relative_to(LANGUAGES["fr"])]
    return found + sorted({*ROOT.glob("*.md"), *ROOT.glob("*/*.md")} - set(found))


def stage(target: Path, *, pdf: bool = False) -> None:
    """Write the pages of all languages.

    Args:
        target: Output directory, which is recreated.
        pdf: Whether a PDF of the operators' guides is built.
    """
    shutil.rmtree(target, ignore_errors=True)
    for language, directory in LANGUAGES.items():
        sources = find_sources(language)
        if language == "en":
            shutil.copytree(directory / "pictures", target / language / "pictures")
        for source in sources:
            staged = locate(source, language)
            if staged is None:
                continue
            text = mend_links(source.read_text("utf-8"), source, staged, language)
            written = target / language / staged
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(text, "utf-8")
        stage_book(target / language, language, pdf=pdf)


def stage_book(directory: Path, language: str, *, pdf: bool) -> None:
    """Write the operators' guides as one page, and link it from the start page."""
    parts = [f"# {BOOK_TITLES[language]}"]
    for name in BOOK:
        text = (directory / f"how-to/{name}.md").read_text("utf-8")
        text = re.sub(r"^#", "##", text, flags=re.MULTILINE)
        # Guides share heading names, so links to headings would be ambiguous: link to the guide.
        parts.append(re.sub(r"\]\(#[^)]*\)", f"]({name}.md)", text))
    (directory / "how-to/operators-book.md").write_text(PAGE_BREAK.join(parts), "utf-8")
    line = BOOK_LINES[language].format(title=BOOK_TITLES[language])
    with (directory / "README.md").open("a", encoding="utf-8") as start:
        start.write(f"\n{line}{PDF_LINK if pdf else ''}.\n")


if __name__ == "__main__":
    stage(Path(sys.argv[1]).resolve(), pdf="--pdf" in sys.argv)
