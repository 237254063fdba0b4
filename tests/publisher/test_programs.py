"""Tests of programs in a release, executable or not: each is found and listed."""

from __future__ import annotations

import pytest

from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import ErrorMessage
from ncen_updater.formats.tree import EntryType, TreeEntry
from ncen_updater.publisher.lint.rules import describe_path, report
from ncen_updater.publisher.review.file_changes import (
    MAX_DIRECTORIES,
    FileChange,
    format_programs,
    may_run,
)
from ncen_updater.publisher.review.review_files import quote_forms

WORDS = "WARNING: other programs than before: {paths}"


def describe_programs(*paths: str) -> list[str]:
    return [text.render().removeprefix("WARNING: ") for text in format_programs(paths, WORDS)]


@pytest.mark.parametrize(
    "path",
    ["a.py", "x.so.6.1", "x.jar", "x.pth", "units/x.service", "web/.htaccess", "x.pkl", "x.zip",
     "a-1.dist-info/entry_points.txt", "etc/cron.d/x.txt", "etc/cron.d/x", ".env", ".user.ini",
     "x.php7", "web.xml", "x.yaml", "x.beam", "x.j2", "x.html", "x.svg", "Makefile", "libx.so.1a",
     "x.unknown", "package.json", "x.png.js"],
)  # fmt: skip
def test_possibly_executable_files_are_recognised(path: str) -> None:
    assert may_run(path)


@pytest.mark.parametrize("path", ["x.txt", "x.PNG", "i18n/fr.po", "a/b.css", "LICENSE", "x.woff2"])
def test_data_files_are_recognised(path: str) -> None:
    assert not may_run(path)


def entry(path: str, mode: int = 0o644, target: str | None = None) -> TreeEntry:
    kind = EntryType.SYMLINK if target else EntryType.FILE
    content = {} if target else {"size": 1, "sha256": "0" * 64}
    return TreeEntry(path=path, type=kind, mode=mode, target=target, **content)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "program", "new"),
    [
        (entry("bin/app", 0o755), entry("bin/app", 0o777, "reset"), True, True),
        (entry("a.txt", 0o777, "b.txt"), entry("a.txt", 0o755), True, True),
        (None, entry("a.txt", 0o777, "bin/reset"), True, True),
        (entry("a.txt", 0o777, "b.txt"), entry("a.txt", 0o777, "bin/reset"), True, True),
        (entry("a.txt", 0o777, "b.txt"), entry("a.txt", 0o777, "c.txt"), False, False),
        (entry("bin/app", 0o755), None, True, False),
        (entry("a.txt"), None, False, False),
    ],
)
def test_replacement_of_a_program_is_a_program(
    before: TreeEntry | None, after: TreeEntry | None, program: bool, new: bool
) -> None:
    change = FileChange("x", before, after)
    assert (change.is_program, change.is_new_program) == (program, new)


def test_few_changed_programs_are_named() -> None:
    assert describe_programs() == []
    assert describe_programs("b.py", "lib/a.py") == ["other programs than before: b.py, lib/a.py"]


def test_many_changed_programs_are_counted_by_directory() -> None:
    paths = [f"app/lib/m{number:03}.py" for number in range(300)]
    said = describe_programs(*paths, "app/beacon.py", "start.sh", "stop.sh")
    assert said == [
        "other programs than before: app/beacon.py",
        "other programs than before: 300 in app/lib/, such as m000.py, m001.py, m002.py",
        "other programs than before: start.sh, stop.sh",
    ]


def test_many_directories_are_summarised() -> None:
    paths = [f"app/{place}/deep/{name}.py" for place in range(40) for name in "ab"]
    assert describe_programs(*paths) == [
        "other programs than before: 80 in app/, such as 0/deep/a.py, 0/deep/b.py, 1/deep/a.py"
    ]
    assert (
        len(describe_programs(*paths, *(f"x{place}/a.py" for place in range(40))))
        <= MAX_DIRECTORIES
    )


def test_placeholder_in_a_path_is_explained() -> None:
    message = ErrorMessage("NU-7150", "{path}: x", "-", severity="info")
    found = report(message, path="lang/{lang}.json", names="a {lang}")
    assert found.severity is Severity.INFO
    assert found.title.render() == "lang/{lang}.json (per language): x"
    assert found.figures["path"] == "lang/{lang}.json"
    down = describe_path("sql/{engine}/1.down.sql")
    assert isinstance(down, LazyText)
    assert down.render("fr") == "sql/{engine}/1.down.sql (par moteur)"
    assert describe_path("plain.json") == "plain.json"


def test_texts_are_quoted_by_language() -> None:
    said = quote_forms(("a", "b"))
    assert said.render("en") == "“a” / “b”"
    assert said.render("fr") == "« a » / « b »"
