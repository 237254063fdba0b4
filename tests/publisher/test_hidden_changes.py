"""Tests of a malicious drafter: every hidden change is marked on the page, in both forms.

One row is one release that differs from the one before by what it says there, and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.publisher.review.event_review import EventReview
from ncen_updater.publisher.review.statement_marks import defined_names, find_marks
from ncen_updater.publisher.review.text_page import describe_unshown
from tests.publisher.pages import Files, Link, forms_of, page_for, release

UP = "ALTER TABLE cases ADD COLUMN country text;\nCREATE TABLE visits (id int, note text);\n"
DOWN = "DROP TABLE visits;\nALTER TABLE cases DROP COLUMN country;\n"
TEXTS = {f"t{number:03}": f"Text {number}" for number in range(60)}
TEXTS |= {"t056": "Release the goods", "t057": "Hold the goods"}
CODES = [f"C{number:05}" for number in range(30)]
FIRST = (
    "CREATE TABLE cases (id int PRIMARY KEY, kg int, note text);\nCREATE TABLE codes (code text);"
)
FIRST += "INSERT INTO codes VALUES {};".format(", ".join(f"('{code}')" for code in CODES))

FILES: dict[str, str | Link] = {
    "bin/app": "#!/bin/sh\n", "bin/reset": "#!/bin/sh\nrm -rf /\n", "README": "words",
    "etc/app.conf": "debug = no", "i18n/en.json": json.dumps(TEXTS),
    "i18n/fr.json": json.dumps(TEXTS), "m/001.up.sql": FIRST, "m/001.down.sql": "DROP TABLE cases;",
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "version": "3.3.0", "upgrade_from": ">=3.2,<3.5", "required": True, "reports": "3.3",
    "needs": {"postgresql": ">=15"},
    "health": [{"name": "answers", "path": "/ready"}],
    "checks": [{"name": "no case is lost", "database": "main", "sql": "SELECT count(*) FROM cases",
                "relation": "equal"}],
    "reference_maps": [{"name": "old codes", "database": "main", "codes": CODES,
                        "unmapped": "SELECT note, count(*) FROM cases GROUP BY note"}],
    "files": [{"name": "photographs", "effect": "nothing"}],
    "overlays": [{"kind": "translations", "format": "json", "release_path": "i18n/{lang}.json",
                 "site_path": "i18n/{lang}.json"}],
    "notes": {"en": {"title": "A release", "text": "x"}, "fr": {"title": "Une version"}},
    "databases": [{"name": "main", "migrations": [
        {"id": "001", "up": "m/001.up.sql", "down": "m/001.down.sql"}]}],
}  # fmt: skip
BEFORE = release(MANIFEST, FILES, executable=("bin/app", "bin/reset"))

Change = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Smuggled:
    """What differs, and what of it has to stand on the page and among the marks."""

    name: str
    seen: str
    marked: str
    up: str = ""
    down: str = ""
    verify: str = ""
    first: str = UP
    files: Mapping[str, str | Link | None] = field(default_factory=dict)
    executable: tuple[str, ...] = ()
    manifest: Change = lambda _: None
    goes_back: bool = True


def in_rollback(statement: str, marked: str, first: str = UP) -> Smuggled:
    return Smuggled(f"down: {statement}", statement, f"on rollback, {marked}",
                    down=f"{statement};\n", first=first, goes_back=False)  # fmt: skip


def going_there(
    statement: str, marked: str = "is an unusual statement", goes_back: bool = True
) -> Smuggled:
    up = f"{statement};\n"
    return Smuggled(f"up: {statement}", statement, marked, up=up, goes_back=goes_back)


def asking(question: str) -> Smuggled:
    return Smuggled(f"verify: {question}", question, "calls a function", verify=f"{question};\n")


def adding(path: str, content: str | Link = "x", mark: str | None = None) -> Smuggled:
    return Smuggled(f"file: {path}", path, mark or "executable", files={path: content})


def saying(name: str, seen: str, change: Change, marked: str | None = None) -> Smuggled:
    return Smuggled(f"manifest: {name}", seen, marked or seen, manifest=change)


def setting(seen: str, value: object, *path: str | int) -> Smuggled:
    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return saying(seen, seen, change)


def another_check(manifest: dict[str, Any], *names: str) -> None:
    evil = {"name": "no case is lost", "database": "main", "expect": 1,
            "sql": "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"}  # fmt: skip
    others = ({**evil, "name": name, "sql": "SELECT 1"} for name in names)
    manifest["checks"] += [evil, *others]


def exchanged() -> str:
    return json.dumps({**TEXTS, "t056": TEXTS["t057"], "t057": TEXTS["t056"]})


MANY: Files = {f"words/{number:03}.txt": "x" for number in range(220)}

SMUGGLED = [
    # Down migrations that do more than revert.
    in_rollback("DELETE FROM cases", "deletes records"),
    in_rollback("DROP TABLE cases", "drops an object"),
    in_rollback("UPDATE cases SET id=0", "changes records"),
    in_rollback("CREATE OR REPLACE VIEW open_cases AS SELECT 1 WHERE false", "changes a view"),
    in_rollback("SELECT evil()", "calls a function"),
    in_rollback("SELECT lo_unlink(oid) FROM pg_largeobject_metadata", "calls a function"),
    in_rollback("DROP TABLE visits CASCADE", "drops an object"),
    in_rollback("DROP TABLE old.visits", "drops an object"),
    in_rollback("DELETE FROM visits WHERE evil(id)", "deletes records, calls a function"),
    in_rollback("DROP TABLE ncen_kept.others", "drops an object"),
    in_rollback("INSERT OR REPLACE INTO ncen_kept.c SELECT * FROM cases", "changes records"),
    in_rollback("ALTER TABLE cases DROP COLUMN note", "drops an object", UP
               + "ALTER TABLE cases ADD note text; ALTER TABLE cases RENAME note TO remark;"),
    in_rollback("CREATE TABLE ncen_kept.g AS WITH d AS (DELETE FROM cases RETURNING *) TABLE d",
               "deletes records"),
    in_rollback("INSERT INTO ncen_kept.g WITH d AS (DELETE FROM cases RETURNING *) TABLE d",
               "deletes records"),
    in_rollback("UPDATE cases SET note = 'zz' WHERE note = 'held'", "changes records",
               UP + "UPDATE cases SET note = 'held' WHERE note = 'zz';"),
    in_rollback("UPDATE goods_release SET amount = '0'", "changes records",
               UP + "UPDATE goods_release SET amount = '1';"),
    in_rollback("DROP TABLE stays", "drops an object",
               UP + "CREATE TABLE IF NOT EXISTS stays (a int);"),
    in_rollback('DROP TABLE "visits"', "drops an object", 'CREATE TABLE "Visits" (id int);'),
    # Files, few and many.
    Smuggled("a link among many files", "bin/app, 10 B to link to reset",
             "new executable files: bin/app", files={**MANY, "bin/app": ("reset",)}),
    Smuggled("a model among many files", "web/model.pkl", "web/model.pkl",
             files={**MANY, "web/model.pkl": "x"}),
    Smuggled("settings among many files", "etc/app.conf", "changed executable files: etc/app.conf",
             files={**MANY, "etc/app.conf": "debug = yes"}),
    Smuggled("a link in the place of a program", "link to reset", "bin/app",
             files={"bin/app": ("reset",)}),
    Smuggled("words in the place of a program", "bin/reset", "changed executable files: bin/reset",
             files={"bin/reset": None}),
    Smuggled("a program named as data", "logo.png", "logo.png", files={"logo.png": "x"},
             executable=("logo.png",)),
    Smuggled("a text that becomes a link to a program", "link to bin/reset", "README",
             files={"README": ("bin/reset",)}),
    *(adding(path) for path in (
        "a.joblib", "a.zip", "a.tar.gz", "x-1.dist-info/entry_points.txt", "etc/x.path",
        "etc/systemd/x.service.d/y.conf", "etc/cron.d/x", ".env", ".profile", ".psqlrc",
        ".user.ini", "a.php7", "a.inc", "a.jspf", "WEB-INF/web.xml", "a.yaml", "compose.yaml",
        "a.beam", "a.com", "a.r", "a.hta", "a.ejs", "a.j2", "a.html", "a.svg", "Rakefile",
        "libx.so.1a", "noname", "profile.d/a.txt", "requirements-web.txt", "CMakeLists.txt",
    )),
    # Texts: the last of sixty.
    Smuggled("texts of the source language", "t056: “Release the goods” to “Hold the goods”",
             "", files={"i18n/en.json": exchanged()}),
    Smuggled("texts of another language", "i18n/fr.json: t057", "",
             files={"i18n/fr.json": exchanged()}),
    # The manifest.
    setting('health[answers].path: "/ready" to "/admin/reset"', "/admin/reset",
            "health", 0, "path"),
    setting("health[answers].status: 500", 500, "health", 0, "status"),
    saying("a probe more", 'health[x].path: "/x"',
           lambda m: m["health"].append({"name": "x", "path": "/x"})),
    saying("no probe", 'removed: health[answers].path: "/ready"', lambda m: m.update(health=[])),
    saying("no check", "removed: checks[no case is lost].sql", lambda m: m.update(checks=[])),
    setting("count(pg_terminate_backend(pid))",
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity", "checks", 0, "sql"),
    saying("a second check of one name", "pg_terminate_backend", another_check,
           "checks[no case is lost (2)].sql, calls a function"),
    saying("a second check hidden by a third one", "pg_terminate_backend",
           lambda m: another_check(m, "no case is lost (2)"),
           "checks[no case is lost (2)].sql, calls a function"),
    setting("lo_unlink(1)", "SELECT note, lo_unlink(1) FROM cases",
            "reference_maps", 0, "unmapped"),
    setting('"C00007x"', [*CODES[:7], "C00007x", *CODES[8:]], "reference_maps", 0, "codes"),
    setting("removed: required: true", False, "required"),
    setting(' to ">=0"', ">=0", "upgrade_from"),
    setting('needs.postgresql: ">=15" to ">=9"', ">=9", "needs", "postgresql"),
    saying("files", 'files[photographs].effect: "nothing" to "rewrites"',
           lambda m: m["files"][0].update(effect="rewrites", description="all of them, anew")),
    setting('reports: "3.3" to "9"', "9", "reports"),
    setting('tables_without_records: ["cases"]', ["cases"], "databases", 0,
            "tables_without_records"),
    setting('self_managed: ["tables"]', ["tables"], "databases", 0, "self_managed"),
    setting("migrations[002].lock_timeout_ms: 86400000", 86_400_000,
            "databases", 0, "migrations", 1, "lock_timeout_ms"),
    # SQL.
    going_there("CREATE TABLE ncen.cases (LIKE public.cases)", goes_back=False),
    going_there("CREATE SCHEMA ncen"),
    going_there("DELETE FROM ncen_kept.b WHERE evil(id)", "calls a function"),
    going_there("DROP TABLE ncen_kept.b CASCADE", "drops an object"),
    going_there("DROP TABLE ncen_kept.b, cases", "drops an object"),
    going_there("CREATE OR REPLACE VIEW open_cases AS SELECT * FROM cases WHERE false",
                "changes a view"),
    going_there("ALTER TABLE cases ADD CONSTRAINT c CHECK (false) NOT VALID", "adds a constraint"),
    going_there("ALTER TABLE cases ADD FOREIGN KEY (id) REFERENCES x ON DELETE CASCADE",
                "cascades to other records"),
    going_there("CREATE INDEX i ON cases (f(id))", "calls a function"),
    going_there("ALTER SEQUENCE cases_id_seq RESTART"),
    going_there("ALTER TABLE cases INHERIT x", goes_back=False),
    going_there("CREATE TABLE p PARTITION OF cases DEFAULT", goes_back=False),
    going_there("INSERT INTO visits SELECT (c).wipe, '' FROM cases c", "calls a function"),
    asking("SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE lo_unlink(oid) < 0"),
    asking("SELECT setval('cases_id_seq', 1) WHERE false"),
    asking("SELECT set_config('search_path', 'evil', false)"),
    asking("SELECT (c).wipe FROM cases c"),
    asking("SELECT 'x'::evil"),
    asking("SELECT kg::evil.t FROM cases"),
    asking("SELECT CAST(lower(note) AS evil) FROM cases"),
    asking("SELECT note::lower FROM cases"),
    *(asking(f"SELECT {form}") for form in (
        "evil 'x'", "evil $$x$$", "evil.t 'x'", "\"evil\" 'x'", "evil.int4 'x'", "evil E'x'",
        "lower 'x'", "like 'x'", "NOT like 'x'", "1, escape 'x'", "zone 'x'", "varying 'x'",
    )),
    *(asking(f"SELECT {form} FROM cases c") for form in (
        "c.wipe", "count(*) FILTER (WHERE c.wipe)", "id IS DISTINCT FROM c.wipe",
        "substring(note FROM c.wipe)", "public.cases.wipe", "'x' LIKE c.wipe", 'c."Note"',
    )),
    asking("SELECT id FROM cases c JOIN codes ON c.wipe"),
    asking("SELECT public.wipe FROM cases public"),
    going_there("INSERT INTO visits SELECT 1, evil 'x'", "calls a function"),
    going_there("INSERT INTO visits SELECT 1, c.wipe FROM cases c", "calls a function"),
    going_there("UPDATE visits SET note = cases.wipe FROM cases", "calls a function"),
    in_rollback("INSERT INTO ncen_kept.x SELECT c.wipe FROM cases c",
               "adds records, calls a function"),
    saying("a question that calls", "c.wipe", lambda m: m["checks"].append(
        {"name": "calls", "database": "main", "sql": "SELECT c.wipe FROM cases c", "expect": 1}),
        "checks[calls].sql, calls a function"),
    going_there("INSERT INTO visits SELECT 1, 'x'::evil", "calls a function"),
    going_there("INSERT INTO visits SELECT 1, CAST(note AS evil) FROM cases", "calls a function"),
    going_there("ALTER TABLE cases ADD COLUMN must int NOT NULL", "adds a constraint"),
    going_there("ALTER TABLE cases ADD COLUMN must int DEFAULT 1 REFERENCES visits",
                "adds a constraint"),
    going_there("CREATE INDEX i ON cases ((1 / kg))"),
    going_there("CREATE INDEX i ON cases (id) WHERE 1 / kg > 0"),
    going_there("ALTER TABLE cases ADD COLUMN g int GENERATED ALWAYS AS (1 / kg) STORED"),
    going_there("ALTER TABLE cases ADD COLUMN g smallint GENERATED ALWAYS AS (id) STORED"),
    going_there("ALTER TABLE cases ADD COLUMN g varchar(3) GENERATED ALWAYS AS (note) STORED"),
    going_there("ALTER TABLE cases ADD COLUMN g text REFERENCES codes"
                " GENERATED ALWAYS AS (note) STORED", "adds a constraint"),
    going_there("ALTER TABLE cases ADD COLUMN n int GENERATED ALWAYS AS IDENTITY (MAXVALUE 9)"),
    going_there("ALTER TABLE cases ADD COLUMN n int GENERATED ALWAYS AS IDENTITY REFERENCES visits",
                "adds a constraint"),
    going_there("ALTER TABLE cases ADD COLUMN n \"smallserial\""),
    going_there("CREATE TABLE gone AS WITH d AS (DELETE FROM cases RETURNING *) SELECT * FROM d",
                "deletes records"),
    going_there("CREATE UNIQUE INDEX u ON cases (note)", "adds a constraint"),
    going_there("CREATE TEMP TABLE cases (id int)"),
    going_there("CREATE TEMP VIEW cases AS SELECT 1 AS id"),
    going_there("ALTER TABLE cases ALTER kg SET DEFAULT 0"),
    going_there("CREATE TYPE t (INPUT = f, OUTPUT = g)", "calls a function"),
    going_there("CREATE DOMAIN d AS int CHECK (false)"),
    going_there("INSERT INTO visits SELECT 1, '' WHERE 1 ### 2", "calls a function"),
    going_there('INSERT INTO visits SELECT 1, "lower"(note) FROM cases', "calls a function"),
    going_there("ALTER TABLE cases SET (autovacuum_enabled = false)"),
    going_there("ALTER TABLE cases CLUSTER ON i"),
    going_there("PRAGMA user_version = 7"),
    going_there("ALTER TABLE cases ALTER kg TYPE smallint", "changes records"),
    going_there("COPY cases FROM '/etc/passwd'"),
    going_there("SECURITY LABEL ON TABLE cases IS 'x'", "changes privileges"),
]  # fmt: skip


@pytest.mark.parametrize("smuggled", SMUGGLED, ids=lambda one: one.name)
def test_hidden_change_is_shown_and_marked(smuggled: Smuggled) -> None:
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["version"] = "3.4.0"
    migration = {"id": "002", "up": "m/002.up.sql", "down": "m/002.down.sql", "verify": "m/2.sql"}
    manifest["databases"][0]["migrations"].append(migration)
    smuggled.manifest(manifest)
    sql = {
        "m/002.up.sql": smuggled.first + smuggled.up, "m/002.down.sql": DOWN + smuggled.down,
        "m/2.sql": smuggled.verify,
    }  # fmt: skip
    files = {**FILES, **sql, **smuggled.files}
    kept = {path: content for path, content in files.items() if content is not None}
    executable = ("bin/app", "bin/reset", *smuggled.executable)
    page = page_for(release(manifest, kept, executable=executable), BEFORE)
    text, html = forms_of(page)
    assert smuggled.seen in text and smuggled.seen in html
    marks = [mark.render() for mark in (*page.critical, *page.warnings)]
    # What countries word is shown text by text, in a list of its own, and is no mark.
    if smuggled.marked:
        assert [mark for mark in marks if smuggled.marked in mark], marks
        assert all(mark in text and mark in html for mark in marks)
    assert ("Rollback keeps all records, with" in text) is smuggled.goes_back


def test_unchanged_release_has_no_marks() -> None:
    """The release that all of them are made of."""
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["version"] = "3.4.0"
    manifest["databases"][0]["migrations"].append(
        {
            "id": "002",
            "up": "m/002.up.sql",
            "down": "m/002.down.sql",
            "data_loss": ["visits", "cases.country"],
        }
    )
    files = {**FILES, "m/002.up.sql": UP, "m/002.down.sql": DOWN}
    page = page_for(release(manifest, files, executable=("bin/app", "bin/reset")), BEFORE)
    assert [mark.render() for mark in (*page.critical, *page.warnings)] == []
    assert page.info_count == 2


def test_long_list_is_complete_in_a_counted_annex() -> None:
    manifest = {**json.loads(json.dumps(MANIFEST)), "version": "3.4.0"}
    page = page_for(
        release(manifest, {**FILES, **MANY}, executable=("bin/app", "bin/reset")), BEFORE
    )
    text, html = forms_of(page)
    assert "220 lines, listed in the annexes" in text
    annex = text.index("Annex: ncen 3.4.0")
    assert text.index("words/219.txt") > annex and "words/219.txt" in html
    whole = EventReview("ncen", (), (), (), 0, (page,), (), (), "0" * 64)
    unshown = describe_unshown(whole, Path("events/3"), "en").render()
    assert ", 220 of them in annexes" in unshown
    assert unshown.endswith("Run: ncen-publisher show events/3")


def test_first_release_is_shown_completely() -> None:
    page = page_for(BEFORE, None)
    text, html = forms_of(page)
    for part in ("added: bin/app", 'health[answers].path: "/ready"', "t057: “Hold the goods”"):
        assert part in text and part in html
    assert [mark.render() for mark in page.critical if "bin/app" in mark.render()]


@pytest.mark.parametrize(
    "question",
    [
        "SELECT c.kg, v.note FROM public.cases AS c JOIN ncen_kept.visits v ON v.id = c.id",
        "SELECT date '2026-01-01', timestamp with time zone '2026-01-01 00:00Z', interval '1' day",
        "SELECT double precision '1', character varying 'x' FROM cases ORDER BY 'x'",
        "SELECT note FROM cases WHERE note LIKE 'x' ESCAPE '!' OR lower(note) NOT LIKE 'y'",
        "SELECT CASE WHEN c.note IS DISTINCT FROM 'x' THEN 'a' ELSE 'b' END FROM cases c",
        "SELECT id FROM cases c WHERE EXISTS (SELECT 1 FROM public.visits WHERE id = c.id)",
        "SELECT note FROM cases WHERE kg BETWEEN '1' AND '2' AND CAST(note AS text) <> 'x'",
        "SELECT extract(year FROM c.id), note AT TIME ZONE 'UTC', kg + 1.5 FROM cases c",
    ],
)
def test_ordinary_queries_are_not_marked(question: str) -> None:
    assert (
        find_marks(
            question, ["postgresql"], "verify", names=defined_names(FIRST + UP, "postgresql")
        )
        == []
    )


def test_page_names_unchecked_calls() -> None:
    text, html = forms_of(page_for(BEFORE, None))
    words = "Not checked: a function called as table.name, where a column has that name"
    assert words in text and words in html
