"""Tests that documents are true, reachable from an index, in plain words, and free of copies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.prose import count_words, find_pages, iter_blocks, iter_sentences

ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: Below the heads of a table.
RULE = re.compile(r"\|[-:| ]+\|")


#: Words that only we understood; docs/reference/glossary.md has what stands in their place.
PRIVATE = re.compile(
    r"\b(?:officers?|the stop|door|way back|ways back|(?:go|goes|going|went|taken) back|of before"
    r"|torn|watched time|inbox|papers|brakes?|braked|lapsed?|lapses|a yes|strangers?|medium|grave"
    r"|collects?|accept-restore|carried|nobody's|by itself|anew|whoever|who may look"
    r"|stands? in the way|hops?|desk|on trial|set aside)\b(?!/|\.md)"
)
#: Beside the pages of the four kinds, and the decisions.
READMES = [
    ROOT / name
    for name in (
        "README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "docs/README.md",
        "docs/examples/README.md", "keys/README.md", "locks/README.md", "manifests/README.md",
        "tests/README.md",
    )
]  # fmt: skip
#: Pages to be printed: they repeat what people need without the others.
PRINTED = frozenset({"recover-a-site.md", "upgrade-checklist.md"})


def find_unlinked(root: Path) -> list[str]:
    """Return pages that the index of their language does not have."""
    documents = root / "docs"
    missing = []
    for index in (documents / "README.md", documents / "fr/README.md"):
        linked = set(LINK.findall(index.read_text("utf-8")))
        for page in find_pages(index.parent, generated=True):
            if str(page.relative_to(index.parent)) not in linked:
                missing.append(str(page.relative_to(documents)))
    return missing


def find_repeated(pages: list[Path]) -> list[tuple[str, str, str]]:
    """Return sentences of ten words or more that stand twice, with their pages."""
    seen: dict[str, str] = {}
    repeated = []
    for page in pages:
        for sentence in iter_sentences(page.read_text("utf-8")):
            if count_words(sentence) >= 10:
                if sentence in seen:
                    repeated.append((sentence, seen[sentence], page.name))
                seen[sentence] = page.name
    return repeated


def unlisted_rooms(root: Path) -> list[str]:
    """Packages missing in the list of rooms in docs/explanation/architecture.md."""
    text = (root / "docs/explanation/architecture.md").read_text("utf-8")
    rooms = [("  ", path.parent) for path in (root / "ncen_updater").glob("*/__init__.py")]
    rooms += [("    ", path.parent) for path in (root / "ncen_updater/agent").glob("*/__init__.py")]
    return sorted(
        place.name for indent, place in rooms
        if not re.search(rf"^{indent}{place.name}/(\s|$)", text, re.MULTILINE)
    )  # fmt: skip


def missing_modules(root: Path) -> list[str]:
    """Missing modules that docs/explanation/architecture.md names."""
    package = root / "ncen_updater"
    places = (root, package, package / "agent", package / "agent/adapters")
    text = (root / "docs/explanation/architecture.md").read_text("utf-8")
    named = re.findall(r"`([\w/]+/\w+\.py)`", text)
    return sorted(name for name in named if not any((place / name).is_file() for place in places))


def unexplained(root: Path) -> list[str]:
    """Dependencies without a line in the tables of locks/README.md."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    asked = {Requirement(line).name for line in lines} - {project["name"]}
    rows = re.findall(r"^\|.*", (root / "locks/README.md").read_text("utf-8"), re.MULTILINE)
    told = set(re.findall(r"[\w.-]+", " ".join(rows).lower()))
    return sorted(name for name in asked if name.lower() not in told)


def broken_tables(root: Path) -> list[str]:
    """Rows separated from their table by a blank line, which render as text."""
    found = []
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("*/README.md")]
    for document in sorted(pages):
        lines = document.read_text("utf-8").splitlines()
        for number, (before, line, after) in enumerate(
            zip(["", *lines], lines, [*lines[1:], ""], strict=False), 1
        ):
            if line.startswith("|") and not before.strip() and not RULE.fullmatch(after):
                found.append(f"{document.name}:{number}")
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one mistake of each kind."""
    for room in (
        "docs/how-to",
        "docs/explanation",
        "docs/fr",
        "locks",
        "ncen_updater/right",
        "ncen_updater/forgotten",
        "ncen_updater/agent/lost",
    ):
        (tmp_path / room).mkdir(parents=True)
    for room in ("right", "forgotten", "agent/lost"):
        (tmp_path / "ncen_updater" / room / "__init__.py").touch()
    (tmp_path / "docs/explanation/architecture.md").write_text(
        "```\n  right/  good\n```\n`right/__init__.py`, `right/gone.py`\n"
    )
    (tmp_path / "locks/README.md").write_text(
        "another is not in a row\n\n| a | b |\n|---|:-:|\n| x | y |\n\n| one | why |\n"
    )
    (tmp_path / "docs/README.md").write_text(
        "[a](how-to/linked.md) [b](explanation/architecture.md)\n"
    )
    (tmp_path / "docs/fr/README.md").touch()
    (tmp_path / "docs/how-to/linked.md").write_text(
        "# Linked\n\nThis sentence has ten words and stands on two pages. `sudo x` a b.\n"
    )
    (tmp_path / "docs/how-to/alone.md").write_text(
        "# Alone\n\n- This sentence has ten words and stands on two pages.\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "p"\ndependencies = ["One>=1"]\n'
        '[project.optional-dependencies]\ndev = ["p[x]", "another<2"]\n'
    )
    return tmp_path


PAGES = [page for place in ("docs", "docs/fr") for page in find_pages(ROOT / place)]


def test_every_page_is_in_the_index(repository: Path) -> None:
    assert find_unlinked(repository) == ["how-to/alone.md"]
    assert find_unlinked(ROOT) == []


@pytest.mark.parametrize(
    "page", [*PAGES, *RECORDS, *READMES], ids=lambda page: str(page.relative_to(ROOT))
)
def test_sentences_are_short(page: Path) -> None:
    """Under 25 words on average, none above 40."""
    counted = {text: count_words(text) for text in iter_sentences(page.read_text("utf-8"))}
    assert {text: words for text, words in counted.items() if words > 40} == {}
    prose = [words for words in counted.values() if words > 3]
    assert sum(prose) / len(prose) < 25


@pytest.mark.parametrize(
    "page",
    [*find_pages(ROOT / "docs"), *RECORDS, *READMES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_pages_have_no_private_words(page: Path) -> None:
    if page.name == "glossary.md":
        pytest.skip("it says what stands in place of others")
    text = " ".join(" ".join(iter_blocks(page.read_text("utf-8"))).split())
    assert PRIVATE.findall(re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_titles_are_nouns_or_tasks(page: Path) -> None:
    """One title a page, and no question."""
    lines = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text("utf-8")).splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert [head for head in heads if head.startswith("# ")] == heads[:1]
    assert [head for head in heads if re.search(r"[?:.]$|^#+ (?:How|What|Why|When) ", head)] == []


def test_no_sentence_stands_on_two_pages(repository: Path) -> None:
    same = "This sentence has ten words and stands on two pages."
    found = find_repeated(find_pages(repository / "docs"))
    assert found == [(same, "alone.md", "linked.md")]
    for place in ("docs", "docs/fr"):
        pages = [page for page in find_pages(ROOT / place) if page.name not in PRINTED]
        assert find_repeated(pages) == []


def test_every_room_is_in_the_architecture(repository: Path) -> None:
    assert unlisted_rooms(repository) == ["forgotten", "lost"]
    assert unlisted_rooms(ROOT) == []


def test_every_module_named_by_the_architecture_exists(repository: Path) -> None:
    assert missing_modules(repository) == ["right/gone.py"]
    assert missing_modules(ROOT) == []


def test_every_dependency_has_a_reason(repository: Path) -> None:
    assert unexplained(repository) == ["another"]
    assert unexplained(ROOT) == []


def test_version_has_an_entry_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heads[0] == version
    assert len(heads) == len(set(heads))


@pytest.mark.parametrize(
    ("page", "limit"), [("README.md", 700), ("CONTRIBUTING.md", 600), ("CHANGELOG.md", 450)]
)
def test_page_is_no_longer_than_its_limit(page: str, limit: int) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", (ROOT / page).read_text("utf-8"))
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= limit


def test_readme_ends_with_eight_links() -> None:
    links = LINK.findall((ROOT / "README.md").read_text("utf-8"))
    last = (ROOT / "README.md").read_text("utf-8").rpartition("\n## ")[2]
    assert len(LINK.findall(last)) == 8
    assert len(links) <= 16


def test_decision_numbers_are_unique() -> None:
    """Numbers are given before decisions are written, so one may be missing for a while."""
    numbers = [path.name[:4] for path in RECORDS]
    assert sorted(numbers) == sorted(set(numbers))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_decision_has_its_form(path: Path) -> None:
    """A subject, a status with its date, what it binds, three sections, at most 350 words."""
    text = path.read_text("utf-8")
    assert re.match(rf"# {path.name[:4]} [A-Z]", text)
    assert re.search(r"^Status: [a-z]+, \d{4}-\d\d-\d\d\..* Binds: ", text, re.MULTILINE)
    assert re.findall(r"^## (.+)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.split()) <= 350


def test_decisions_name_existing_files() -> None:
    places = (ROOT, ROOT / "ncen_updater")
    for path in RECORDS:
        named = re.findall(r"`([\w/]+/\w+\.(?:py|toml|md))`", path.read_text("utf-8"))
        there = [name for name in named if any((place / name).is_file() for place in places)]
        assert named == there, path.name


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_decision_binds_rooms_that_exist(path: Path) -> None:
    """A room is a directory or module of the product or of the repository."""
    bases = ["", "ncen_updater", "ncen_updater/agent", "ncen_updater/agent/adapters"]
    bound = re.search(r" Binds: (.+?)\.\n\n", path.read_text("utf-8"), re.DOTALL)
    assert bound is not None
    rooms = bound[1].replace("\n", " ").split(", ")
    for room in rooms:
        assert any((ROOT / base / room).exists() for base in bases), room


def test_every_decision_is_listed() -> None:
    directory = ROOT / "docs/decisions"
    index = (directory / "README.md").read_text("utf-8").partition("\n## Folded")[0]
    listed = re.findall(r"\]\((\d{4}-[^)]+)\)", index)
    assert sorted(listed) == sorted(path.name for path in RECORDS)


def test_no_document_has_merge_conflict_markers() -> None:
    marks = re.compile(r"^(?:<{7}|={7}|>{7})(?: |$)", re.MULTILINE)
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "keys").glob("*.md")]
    assert [path.name for path in documents if marks.search(path.read_text("utf-8"))] == []


def test_no_table_is_broken_by_a_blank_line(repository: Path) -> None:
    assert broken_tables(repository) == ["README.md:7"]
    assert broken_tables(ROOT) == []
