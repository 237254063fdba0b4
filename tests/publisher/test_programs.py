"""Programs of a release, whether they may be run as they lie or not: each is seen, none drowns."""

from __future__ import annotations

import pytest

from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import Text
from ncen_updater.formats.tree import EntryType, TreeEntry
from ncen_updater.publisher.lint.release import finding, path_words
from ncen_updater.publisher.review.carried_lines import quoted_forms
from ncen_updater.publisher.review.changes import MOST, FileChange, changes_told
from ncen_updater.publisher.review.programs import MOST_PLACES, named_as_program, programs_told

WORDS = "WARNING: other programs than before: {paths}"


def told(*paths: str) -> list[str]:
    return [text.render().removeprefix("WARNING: ") for text in programs_told(paths, WORDS)]


@pytest.mark.parametrize(
    "path",
    ["a.py", "a/b.SH", "x.pl", "x.rb", "x.js", "x.php", "x.so", "lib/x.so.6.1", "x.jar", "X.class",
     "x.pyc", "x.pth", "x.war", "units/x.service", "web/.htaccess", "x.whl"],
)  # fmt: skip
def test_what_is_named_as_a_program_is_one(path: str) -> None:
    assert named_as_program(path)


@pytest.mark.parametrize("path", ["x.txt", "py", "x.py.txt", "a.json", "x.so.txt", "x.css", "so.6"])
def test_what_is_not(path: str) -> None:
    assert not named_as_program(path)


def test_few_are_told_by_name() -> None:
    assert told() == []
    assert told("b.py", "lib/a.py") == ["other programs than before: b.py, lib/a.py"]


def test_many_are_counted_where_they_lie_and_none_is_left_out() -> None:
    paths = [f"app/lib/m{number:03}.py" for number in range(300)]
    said = told(*paths, "app/beacon.py", "start.sh", "stop.sh")
    assert said == [
        "other programs than before: app/beacon.py",
        "other programs than before: 300 in app/lib/, such as m000.py, m001.py, m002.py",
        "other programs than before: start.sh, stop.sh",
    ]


def test_many_places_become_few() -> None:
    paths = [f"app/{place}/deep/{name}.py" for place in range(40) for name in "ab"]
    assert told(*paths) == [
        "other programs than before: 80 in app/, such as 0/deep/a.py, 0/deep/b.py, 1/deep/a.py"
    ]
    assert len(told(*paths, *(f"x{place}/a.py" for place in range(40)))) <= MOST_PLACES


def _entry(path: str) -> TreeEntry:
    return TreeEntry(path=path, type=EntryType.FILE, mode=0o644, size=1, sha256="0" * 64)


def test_very_many_changes_are_told_by_directory_but_programs_and_sql() -> None:
    few = [FileChange(f"docs/{n:03}.html", None, _entry(f"docs/{n:03}.html")) for n in range(MOST)]
    assert changes_told(few) == tuple(change.text for change in few)
    kept = [FileChange(path, None, _entry(path)) for path in ("a/run.sh", "sql/1.sql")]
    gone = FileChange("docs/old.html", _entry("docs/old.html"), None)
    told = [text.render() for text in changes_told([*few, gone, *kept])]
    assert told[:2] == [change.text.render() for change in kept]
    assert told[2:] == [f"docs/: files new {MOST}, changed 0, gone 1"]


def test_what_a_place_in_a_path_stands_for_is_said() -> None:
    found = finding(
        7150, Severity.INFO, "{path}: x", "-", path="lang/{lang}.json", names="a {lang}"
    )
    assert found.what.render() == "lang/{lang}.json (in each language): x"
    assert found.figures["path"] == "lang/{lang}.json"
    down = path_words("sql/{engine}/1.down.sql")
    assert isinstance(down, Text)
    assert down.render("fr") == "sql/{engine}/1.down.sql (pour chaque moteur)"
    assert path_words("plain.json") == "plain.json"


def test_texts_are_quoted_as_their_reader_quotes() -> None:
    said = quoted_forms(("a", "b"))
    assert said.render("en") == "“a” / “b”"
    assert said.render("fr") == "« a » / « b »"
