"""Tests of SQL programs: one mark for the definition and its body."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ncen_updater.publisher.review.mark_grouping import LocatedMark, group_marks
from ncen_updater.publisher.review.statement_marks import StatementKind, StatementMark, find_marks

BOTH = ("postgresql", "sqlite")
DEFINES = "creates or runs code in the database"
BY_ITSELF = "creates a trigger or rule"

BODY = "BEGIN\n  UPDATE cases SET kg = 0;\n  DELETE FROM cases;\n  RETURN NEW;\nEND"
CALLS = "FOR EACH ROW EXECUTE FUNCTION f()"


@dataclass(frozen=True)
class Case:
    """A file that both engines may be given, and what a signer reads of each mark."""

    name: str
    sql: str
    said: tuple[str, ...]


CASES = [
    Case(
        "a body between dollars",
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$\n{BODY}\n$$;",
        (f"{DEFINES}; body: deletes records, changes records",),
    ),
    Case(
        "a body between dollars with a tag, beside another statement",
        "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS $x$ DELETE FROM a; SELECT 1;"
        " $x$; DELETE FROM b;",
        (f"{DEFINES}; body: deletes records", "deletes records"),
    ),
    Case(
        "a body of statements",
        "CREATE PROCEDURE p() BEGIN ATOMIC INSERT INTO a VALUES (1); DROP TABLE b; END;",
        (f"{DEFINES}; body: adds records, drops an object",),
    ),
    Case(
        "a body in a text",
        "CREATE FUNCTION f() RETURNS void LANGUAGE 'sql' AS 'DELETE FROM a WHERE b = ''x'';';",
        (f"{DEFINES}; body: deletes records",),
    ),
    Case("what runs at once", "DO $$ BEGIN GRANT ALL ON a TO b; END $$;",
         (f"{DEFINES}; body: changes privileges",)),
    Case("what puts its statements together",
         "DO $$ BEGIN EXECUTE 'DEL' || 'ETE FROM a'; END $$;",
         (f"{DEFINES}; body: runs statements that cannot be analysed",)),
    Case("another language", "DO LANGUAGE plpython3u $$ import os; os.remove('x') $$;",
         (f"{DEFINES}; body: runs statements that cannot be analysed",)),
    Case("a library", "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/x.so', 'f';",
         (f"{DEFINES}; body: runs statements that cannot be analysed",)),
    Case("with the rights of its owner",
         "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$;",
         (f"changes privileges, {DEFINES}",)),
    Case("a trigger", f"CREATE TRIGGER t BEFORE UPDATE ON cases {CALLS};", (BY_ITSELF,)),
    Case("a trigger of every event",
         f"CREATE TRIGGER t AFTER INSERT OR UPDATE OF kg OR DELETE OR TRUNCATE ON cases {CALLS};",
         (BY_ITSELF,)),
    Case("a trigger that waits for the end",
         f"CREATE CONSTRAINT TRIGGER t AFTER DELETE ON cases {CALLS};", (BY_ITSELF,)),
    Case("a trigger with a body",
         "CREATE TRIGGER t AFTER DELETE ON cases BEGIN\n SELECT CASE WHEN 1 THEN 2 END;\n"
         " INSERT INTO log VALUES (1);\nEND;",
         (f"{BY_ITSELF}; body: adds records",)),
    Case("a rule", "CREATE RULE r AS ON DELETE TO cases DO INSTEAD UPDATE cases SET gone = true;",
         (f"{BY_ITSELF}; body: changes records",)),
    Case("a trigger that is taken away", "DROP TRIGGER t ON cases;",
         ("drops code from the database",)),
    Case("a table of that name is no program", "DROP TABLE trigger;",
         ("drops an object",)),
    Case("a trigger that is switched off", "ALTER TABLE cases DISABLE TRIGGER t;",
         ("enables or disables triggers or rules",)),
    Case("what others may do is not done", "GRANT SELECT, INSERT, UPDATE, DELETE ON cases TO b;",
         ("changes privileges",)),
    Case("nor by a policy", "CREATE POLICY p ON cases FOR DELETE USING (true);",
         ("changes privileges",)),
    Case("words about a program are none", "COMMENT ON FUNCTION f IS 'x';", ()),
]  # fmt: skip


def describe_marks(sql: str, engines: tuple[str, ...]) -> list[str]:
    found = find_marks(sql, engines)
    said = group_marks([LocatedMark(("main", "002", "up"), "p.sql", mark) for mark in found])
    lines = [text.render() for text in (*said.critical, *said.warnings)]
    return [line.partition(", line ")[2].partition(", ")[2].rpartition(": ")[0] for line in lines]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sql_program_is_one_mark(case: Case) -> None:
    assert describe_marks(case.sql, BOTH) == list(case.said)


def test_statements_of_a_program_body_are_described_at_its_first_line() -> None:
    (mark,) = find_marks(CASES[0].sql, BOTH)
    assert (mark.line, mark.last_line) == (1, 7)
    assert [text.render() for text in mark.descriptions] == [
        DEFINES, "body: deletes records", "body: changes records",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        # A server takes every word as an argument of a trigger: what follows is no body there.
        "CREATE TRIGGER t AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION f(begin);\n"
        "DELETE FROM cases;\nCREATE VIEW v AS SELECT 1 AS end;",
        # A quote in a comment of the body, where one engine goes on reading a text.
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT 1; -- it's\n$$;\n"
        "DELETE FROM cases;\n-- '\nSELECT 1;",
        # A body of which one engine takes the word for a function's call.
        "CREATE TRIGGER t AFTER UPDATE ON a BEGIN UPDATE a SET execute = 1; DELETE FROM b; END;\n"
        "DELETE FROM cases;",
    ],
)
def test_nothing_hides_in_engine_specific_bodies(sql: str) -> None:
    """What one of them would run is marked, whatever the other reads."""

    def deletes(mark: StatementMark) -> bool:
        return StatementKind.DELETES in mark.kinds and "cases" in mark.text

    assert [mark for mark in find_marks(sql, BOTH) if deletes(mark)]
