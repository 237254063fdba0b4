"""Tests of grouped marks: critical first, equal ones once, harmless ones counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.release_flow import publish_release
from demo.releases import assemble
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import create_feed
from ncen_updater.publisher.review.event_review import build_review, summarize_event
from ncen_updater.publisher.review.mark_grouping import GroupedMarks, LocatedMark, group_marks
from ncen_updater.publisher.review.statement_marks import find_marks
from ncen_updater.publisher.review.text_page import format_summary
from ncen_updater.publisher.signing.draft import draft_initial_roles, draft_releases
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import ceremony_of
from tests.publisher.releases import NOW, clock, ring

NEW = "CREATE TABLE visits (id int);"
LONG = "UPDATE cases SET note = '" + "x" * 120 + "' WHERE country = "


@dataclass(frozen=True)
class Case:
    """Two files of one migration, one an engine, and what comes of them: beginnings of lines."""

    name: str
    postgresql: str
    sqlite: str = ""
    direction: str = "up"
    grave: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    harmless: int = 0
    undoes: str = ""


CASES = [
    Case("both engines alike", "UPDATE cases SET kg = 0", "\nUPDATE cases\n SET kg = 0",
         grave=("p.sql, line 1 (same in s.sql:2), changes records: UPDATE cases",)),
    Case("not alike", "UPDATE cases SET kg = 0", "UPDATE cases SET kg = 1",
         grave=("p.sql, line 1, changes", "s.sql, line 1, changes")),
    Case("alike in what is shown of them only", f"{LONG}'MU'", f"{LONG}'SN'",
         grave=("p.sql, line 1, changes", "s.sql, line 1, changes")),
    Case("critical on one engine only", "SELECT 1", "DELETE FROM cases",
         grave=("p.sql, line 1, calls a function",
                "s.sql, line 1, deletes records: DELETE FROM cases")),
    Case("usual", "INSERT INTO codes VALUES (1); ALTER TABLE a RENAME b TO c",
         usual=("p.sql, line 1, adds records", "p.sql, line 1, renames an object")),
    Case("its own number", "UPDATE ncen_release SET release = '3.3.0'",
         usual=("p.sql, line 1, changes records: UPDATE ncen_release",)),
    Case("a number elsewhere", "UPDATE users SET release = '3.3.0'",
         grave=("p.sql, line 1, changes records",)),
    Case("of another product", "UPDATE else_release SET release = '3.3.0'",
         grave=("p.sql, line 1, changes records",)),
    Case("no number", "UPDATE ncen_release SET release = 'none'",
         grave=("p.sql, line 1, changes records",)),
    Case("more than its number", "UPDATE ncen_release SET release = '3.3.0', one = 2;"
         "UPDATE ncen_release SET release = '3.3.0' WHERE one = 2;"
         "UPDATE ncen_release SET release = lo_unlink(17);"
         "UPDATE evil.ncen_release SET release = '3.3.0'",
         grave=("p.sql, line 1, changes",) * 4),
    Case("its own", NEW + "INSERT INTO visits VALUES (1)", NEW + "INSERT INTO visits VALUES (1)",
         harmless=2),
    Case("its own, and a function runs", NEW + "INSERT INTO visits VALUES (lo_unlink(17))",
         grave=("p.sql, line 1, adds records, calls a function: INSERT",)),
    Case("a function behind a quoted name", NEW + 'INSERT INTO visits VALUES ("lo_unlink"(17))',
         grave=("p.sql, line 1, adds records, calls a function: INSERT",)),
    Case("a function that is called as one of ours",
         NEW + "INSERT INTO visits VALUES (evil.lower('x'))",
         grave=("p.sql, line 1, adds records, calls a function: INSERT",)),
    Case("a function where a value is missing",
         "ALTER TABLE cases ADD COLUMN b int DEFAULT lo_unlink(17)",
         grave=("p.sql, line 1, calls a function: ALTER TABLE",)),
    Case("a function in a view, which runs where the view is read",
         "CREATE VIEW v AS SELECT lo_unlink(17) AS x;" + NEW + "INSERT INTO visits SELECT x FROM v",
         grave=("p.sql, line 1, calls a function: CREATE VIEW",), harmless=1),
    Case("a view of columns only", "CREATE VIEW v (a, b) AS SELECT lower(x), y FROM t"),
    Case("another view in the place of one", "CREATE OR REPLACE VIEW v AS SELECT 1 WHERE false",
         grave=("p.sql, line 1, changes a view",)),
    Case("a type that holds less", "ALTER TABLE cases ALTER COLUMN seized_at TYPE date;"
         "ALTER TABLE cases ALTER kg SET DATA TYPE int; ALTER TABLE a ALTER b TYPE text;"
         "ALTER TABLE cases ADD COLUMN type int",
         grave=("p.sql, line 1, changes records", "p.sql, line 1, changes records")),
    Case("a table that a server's fall empties", "ALTER TABLE cases SET UNLOGGED",
         grave=("p.sql, line 1, is an unusual statement",)),
    Case("a table that goes elsewhere", "ALTER TABLE cases SET SCHEMA old",
         grave=("p.sql, line 1, renames an object, is an unusual statement",)),
    Case("rows that go with what is parked",
         'ALTER TABLE p ADD FOREIGN KEY (a) REFERENCES "ncen_kept".cases ON DELETE CASCADE',
         grave=("p.sql, line 1, cascades to other records",)),
    Case("functions that only reckon",
         NEW + "INSERT INTO visits (id) SELECT coalesce(max(id), 0) FROM cases WHERE kg IN (1)",
         harmless=1),
    Case("types, keys and rules are no functions",
         "CREATE TABLE v (id numeric(10,2) CHECK (id > 0) REFERENCES t (id), UNIQUE (id));"),
    Case("the harmless hides nothing in its line",
         NEW + "DELETE FROM cases; INSERT INTO visits VALUES (1)",
         grave=("p.sql, line 1, deletes records: DELETE FROM cases",), harmless=1),
    Case("a rollback reverts", "DROP INDEX i; ALTER TABLE cases DROP COLUMN country;"
         "DROP VIEW IF EXISTS v; ALTER TABLE cases RENAME COLUMN b TO a; DROP TABLE visits;"
         "UPDATE cases SET code = 'A' WHERE code = 'B'; INSERT INTO ncen_kept.c SELECT * FROM a;"
         "UPDATE ncen_release SET release = '3.2.4'; UPDATE cases SET country = upper(country);"
         "DELETE FROM visits WHERE id = 1", direction="down", harmless=9,
         grave=("p.sql, line 1, on rollback, changes records: UPDATE cases SET code",),
         undoes="CREATE TABLE visits (id int); ALTER TABLE cases ADD country text;"
         "CREATE INDEX i ON cases (country); CREATE VIEW v AS SELECT 1;"
         "ALTER TABLE cases RENAME a TO b; UPDATE cases SET code = 'B' WHERE code = 'A';"
         "UPDATE ncen_release SET release = '3.3.0'"),
    Case("a rollback removes and changes", "DROP TABLE a; UPDATE b SET c = 1; DELETE FROM d",
         direction="down", grave=("p.sql, line 1, on rollback, drops an object",
         "p.sql, line 1, on rollback, changes records",
         "p.sql, line 1, on rollback, deletes records")),
    Case("nearly what the release made", "ALTER TABLE cases DROP b; DROP TABLE visits CASCADE;"
         "DROP TABLE old.visits; DROP TABLE visits, cases; UPDATE cases SET code = 'A';"
         "UPDATE visits SET id = evil(id); ALTER TABLE cases DROP a, DROP kg",
         undoes="CREATE TABLE visits (id int); ALTER TABLE cases ADD a text",
         direction="down", grave=("p.sql, line 1, on rollback",) * 7),
    Case("what has another name by then", "ALTER TABLE cases DROP COLUMN country",
         undoes="ALTER TABLE cases ADD country text; ALTER TABLE cases RENAME country TO x;"
         "ALTER TABLE cases RENAME kg TO country",
         direction="down", grave=("p.sql, line 1, on rollback, drops",)),
    Case("what may have been there", "DROP TABLE visits",
         undoes="CREATE TABLE IF NOT EXISTS visits (id int)",
         direction="down", grave=("p.sql, line 1, on rollback, drops",)),
    Case("another case is another table", "DROP TABLE cases",
         undoes='CREATE TABLE "Cases" (id int)',
         direction="down", grave=("p.sql, line 1, on rollback, drops",)),
    Case("a rollback does more", "GRANT ALL ON a TO PUBLIC", direction="down",
         grave=("p.sql, line 1, on rollback, changes privileges",)),
    Case("a rollback hides its deletions",
         "WITH d AS (DELETE FROM cases RETURNING 1) SELECT 1", direction="down",
         grave=("p.sql, line 1, on rollback, deletes records, calls a function: WITH d",)),
    Case("a rollback drops parked data of others", "DROP SCHEMA IF EXISTS ncen_kept CASCADE",
         direction="down", grave=("p.sql, line 1, on rollback, drops",)),
    Case("a rollback drops columns", "DROP TYPE kind CASCADE", direction="down",
         grave=("p.sql, line 1, on rollback, drops",), undoes="CREATE TYPE kind AS ENUM ('a')"),
]  # fmt: skip


def found_in(case: Case) -> GroupedMarks:
    where = ("main", "002", case.direction)
    files = (("p.sql", "postgresql", case.postgresql), ("s.sql", "sqlite", case.sqlite))
    placed = (
        LocatedMark(where, path, mark)
        for path, engine, text in files
        for mark in find_marks(text, [engine], case.direction, up=case.undoes)
    )
    return group_marks(placed, "ncen")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_marks_are_grouped(case: Case) -> None:
    found = found_in(case)
    for lines, expected in ((found.critical, case.grave), (found.warnings, case.usual)):
        said = [line.render() for line in lines]
        assert len(said) == len(expected), said
        for line, beginning in zip(said, expected, strict=True):
            assert line.startswith(f"WARNING: {beginning}"), line
    assert found.info_count == case.harmless


def test_demo_release_has_its_critical_marks_first(tmp_path: Path) -> None:
    """Of 76 statements thirty marks are left, and the five grave ones come first.

    Eleven of the others are its new checks and its map; the grave ones are what it, or its
    rollback, writes into records that were there.
    """
    keys, feed = ring(tmp_path), tmp_path / "feed"
    create_feed(feed, keys, clock)
    publish_release(feed, [assemble("3.2.4", tmp_path / "before")], keys, clock)
    build_release(assemble("3.3.0", tmp_path / "release"), tmp_path / "staging")
    state = FeedDirectory(feed).read_state()
    draft = draft_releases(state, tmp_path / "staging", NOW, (), None, FeedDirectory(feed))
    event = SigningEvent.create(
        tmp_path / "event", draft.title, draft.roles, state, draft.review_files
    )
    page = build_review(event, complete=True)
    kinds = [line.render().split(": ")[1].rpartition(", ")[2] for line in page.critical]
    assert kinds == [
        "changes records", "calls a function", "changes records", "changes records",
        "deletes records",
    ]  # fmt: skip
    assert len(page.warnings) == 25
    assert page.info_count == 54
    said = [line if isinstance(line, str) else line.render() for line in format_summary(page)]
    heads = [line for line in said if not line.startswith("  ")]
    assert heads[1:] == [
        "Critical",
        "Other",
    ]
    assert "54 statements" in said[-1]
    assert not [line.render() for line in page.releases[0].rollback if "entered" in line.render()]


def test_first_event_is_summarised_correctly(tmp_path: Path) -> None:
    """Nothing stays as it is where nothing was."""
    keys = ring(tmp_path)
    ceremony = ceremony_of(keys.signers, {name: held[0] for name, held in keys.online.items()})
    draft = draft_initial_roles(ceremony, NOW)
    event = SigningEvent.create(tmp_path / "event", draft.title, draft.roles, None)
    said = [text.render() for text in summarize_event(event)]
    assert sorted(said) == [
        "Creates a new feed and decides who can sign for every site.",
        "Creates ncen, empty, valid until 2027-11-24.",
        "Creates ncen-updater, empty, valid until 2027-11-24.",
        "Decides who can sign releases of ncen, ncen-updater.",
    ]
