"""Tests of ``[compatibility]`` against the previous release: a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from ncen_updater.publisher.build.release_build import build_release, scan_release
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.lint.release_lint import (
    find_previous_release,
    lint_release,
)
from ncen_updater.publisher.lint.rules import PreviousRelease
from ncen_updater.publisher.new.trial import FeedKeys
from tests.publisher.releases import clock, write_release

OWN = {f"NU-{number}" for number in (*range(7161, 7170), 7180, 7181, 7182)}
MIGRATOR = '[migrator]\nargv = ["bin/app"]\n'
FIRST = {"app/seizures/migrations/0001_first.py": "", "app/seizures/migrations/__init__.py": ""}
SECOND = {**FIRST, "app/seizures/migrations/0002_office.py": ""}
LIBRARY = {"app/site/shop-1.dist-info/METADATA": "", "app/site/shop/migrations/0001_first.py": ""}


@dataclass(frozen=True)
class Side:
    """One release: its numbers, whether it has a migrator, its SQL migrations, its files."""

    numbers: tuple[int, int] | None
    migrator: bool = False
    sql: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    expand: bool = False
    contract: bool = False

    def write(self, directory: Path, version: str) -> Path:
        extra = "[[health]]\nname = 'answers'\npath = '/health'\n[[databases]]\nname = 'cases'\n"
        for name in self.sql:
            extra += f"[[databases.migrations]]\nid = '{name}'\nup = 'm/{name}.sql'\n"
            extra += "irreversible = 'of the trial'\n"
        extra += MIGRATOR if self.migrator else ""
        extra += "[migrator.contract]\nargv = ['bin/contract']\n" if self.contract else ""
        if self.numbers is not None:
            number, compatible_down_to = self.numbers
            extra += f"[compatibility]\nschema_number = {number}\n"
            extra += f"compatible_down_to = {compatible_down_to}\n"
            extra += "expand = true\n" if self.expand else ""
        release = write_release(directory, version, extra=extra)
        made = {f"m/{name}.sql": "CREATE TABLE a (b int)" for name in self.sql}
        for path, text in {**made, **self.files}.items():
            (release / path).parent.mkdir(parents=True, exist_ok=True)
            (release / path).write_text(text)
        return release


ROWS: dict[str, tuple[Side, Side, set[str]]] = {
    "the same": (Side((4, 2)), Side((4, 2)), set()),
    "neither says anything": (Side(None), Side(None), set()),
    "declared before, not now": (Side((4, 2)), Side(None), {"7161 warning"}),
    "declared now, not before": (Side(None), Side((4, 2)), {"7162 warning"}),
    "the number falls": (Side((4, 2)), Side((3, 2)), {"7163 critical"}),
    "it rises for nothing": (Side((4, 2)), Side((5, 2)), {"7164 warning"}),
    "it rises for a migration": (Side((4, 2)), Side((5, 2), sql=("001",)), set()),
    "it rises for a migrator": (Side((4, 2)), Side((5, 2), migrator=True), set()),
    "older releases are let back": (Side((4, 3)), Side((4, 2)), {"7165 warning"}),
    "fewer releases are let back": (Side((4, 2)), Side((4, 3)), set()),
    "a migrator that blocks the rollback": (
        Side((4, 2), migrator=True), Side((5, 5), migrator=True), {"7166 warning"},
    ),
    "files have ways down of their own": (Side((4, 2)), Side((5, 5), sql=("001",)), set()),
    "a new migration": (Side((4, 2)), Side((4, 2), sql=("001",)), {"7167 warning"}),
    "a known migration": (Side((4, 2), sql=("001",)), Side((4, 2), sql=("001",)), set()),
    "a first migrator": (Side((4, 2)), Side((4, 2), migrator=True), {"7168 warning"}),
    "new files of Django": (
        Side((4, 2), migrator=True, files=FIRST), Side((4, 2), migrator=True, files=SECOND),
        {"7169 critical"},
    ),
    "new files of Django, and the number rises": (
        Side((4, 2), migrator=True, files=FIRST), Side((5, 2), migrator=True, files=SECOND), set(),
    ),
    "new undeclared files": (Side((4, 2), files=FIRST), Side((4, 2), files=SECOND), set()),
    "the same files of Django": (
        Side((4, 2), migrator=True, files=FIRST), Side((4, 2), migrator=True, files=FIRST), set(),
    ),
    "new files of a library": (
        Side((4, 2), migrator=True), Side((4, 2), migrator=True, files=LIBRARY), {"7169 warning"},
    ),
    "a revision of Alembic": (
        Side((4, 2), migrator=True),
        Side((4, 2), migrator=True, files={"app/migrations/versions/0002_letters.py": ""}),
        {"7169 critical"},
    ),
    "a file of Flyway": (
        Side((4, 2), migrator=True),
        Side((4, 2), migrator=True, files={"db/migration/V2__flag.sql": ""}), {"7169 critical"},
    ),
    "a change log that goes on": (
        Side((4, 2), migrator=True, files={"db/changelog-master.xml": "1"}),
        Side((4, 2), migrator=True, files={"db/changelog-master.xml": "2"}), {"7169 critical"},
    ),
    "a migrator before the downtime": (
        Side((4, 2), migrator=True), Side((5, 4), migrator=True, expand=True), set(),
    ),
    "the release before would not bear it": (
        Side((4, 2), migrator=True), Side((6, 5), migrator=True, expand=True),
        {"7166 warning", "7181 warning"},
    ),
    "what ends the migrations, and none begin": (
        Side((4, 2), migrator=True), Side((4, 2), migrator=True, contract=True),
        {"7182 warning"},
    ),
    "what ends the migrations": (
        Side((4, 2), migrator=True), Side((5, 4), migrator=True, expand=True, contract=True), set(),
    ),
    "only files would": (
        Side((4, 2)), Side((5, 4), sql=("001",), expand=True), {"7180 warning"},
    ),
    "a Python module of no migrator": (
        Side((4, 2), migrator=True), Side((4, 2), migrator=True, files={"app/m.py": ""}), set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_compatibility_is_compared_with_the_previous_release(name: str, tmp_path: Path) -> None:
    before, after, expected = ROWS[name]
    old = before.write(tmp_path / "old", "3.3.0")
    new = after.write(tmp_path / "new", "3.4.0")
    published = build_release(old, tmp_path / "staging").document
    findings = lint_release(new, PreviousRelease(published, scan_release(old)))
    said = {f"{f.code[3:]} {f.severity.value}" for f in findings if f.code in OWN}
    assert said == expected
    # A first release has no finding, and neither have unavailable files.
    assert {f.code for f in lint_release(new)} & OWN <= {"NU-7180"}


def test_previous_files_are_read_from_the_feed(
    feed: Path, tmp_path: Path, keys: FeedKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the release is built, and nothing is written then."""
    old = Side((4, 2), migrator=True, files=FIRST).write(tmp_path / "old", "3.4.0")
    publish_release(feed, [old], keys, clock)
    new = Side((4, 2), migrator=True, files=SECOND).write(tmp_path / "new", "3.5.0")
    last = find_previous_release(FeedDirectory(feed), new)
    assert last is not None and last.tree == scan_release(old)
    assert run(["lint", str(new), "--feed", str(feed)]) == 3
    assert "app/seizures/migrations/0002_office.py will not run" in capsys.readouterr().out
    words = ["build", str(new), "--feed", str(feed), "--staging", str(tmp_path / "staging")]
    assert run(words) != 0
    assert "NU-7169" in capsys.readouterr().err
    assert not (tmp_path / "staging").exists() or not any((tmp_path / "staging").iterdir())
