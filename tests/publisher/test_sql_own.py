"""Tests of finding statements that touch only objects of the release itself; in doubt, none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ncen_updater.formats.sql import ENGINE_NAMES, split_statements
from ncen_updater.publisher.review.statement_marks import StatementKind, fills_own, find_marks

ADD = "ALTER TABLE cases ADD COLUMN country text;"
NEW = "CREATE TABLE visits (id int, note text);"
BACK = "UPDATE cases SET country = k.country FROM ncen_kept.cases k WHERE k.id = cases.id;"
N = True


@dataclass(frozen=True)
class Case:
    name: str
    up: str
    found: tuple[bool | None, ...]


CASES = [
    Case("fills a column of its own", ADD + "UPDATE cases SET country = 'MU'", (None, N)),
    Case("of another table", ADD + "UPDATE persons SET country = 'MU'", (None, None)),
    Case("two columns, one from before", ADD + "UPDATE cases SET country = 'MU', kg = 0",
         (None, None)),
    Case("a column that may have been there",
         "ALTER TABLE cases ADD COLUMN IF NOT EXISTS country text; UPDATE cases SET country = ''",
         (None, None)),
    Case("before it was added", "UPDATE cases SET country = 'MU';" + ADD, (None, None)),
    Case("given another name since",
         ADD + "ALTER TABLE cases RENAME country TO c; ALTER TABLE cases RENAME kg TO country;"
         "UPDATE cases SET country = 0", (None, None, None, None)),
    Case("fills a table of its own", NEW + "INSERT INTO visits SELECT id, '' FROM cases",
         (None, N)),
    Case("a table that may have been there",
         "CREATE TABLE IF NOT EXISTS visits (id int); INSERT INTO visits VALUES (1)",
         (None, None)),
    Case("a table that went and is another's name now",
         NEW + "DROP TABLE visits; INSERT INTO visits VALUES (1)", (None, None, None)),
    Case("deletes beside", NEW + "INSERT INTO visits WITH d AS (DELETE FROM cases RETURNING 1)"
         " SELECT 1, ''", (None, None)),
    Case("rows of a part are rows of the whole",
         "CREATE TABLE visits PARTITION OF cases FOR VALUES IN (1); INSERT INTO visits VALUES (1)",
         (None, None)),
    Case("names may mean others", "SET search_path = a;" + NEW + "INSERT INTO visits VALUES (1)",
         (None, None, None)),
    Case("a trigger may do more",
         NEW + "CREATE TRIGGER t AFTER INSERT ON visits FOR EACH ROW EXECUTE FUNCTION f();"
         "INSERT INTO visits VALUES (1, '')", (None, None, None)),
    Case("what was parked comes back and goes", ADD + BACK + "DROP TABLE ncen_kept.cases",
         (None, N, None)),
    Case("not parked by this release", ADD + BACK + "DROP TABLE ncen_kept.cases",
         (None, N, None)),
    Case("goes and was not read back", ADD + "DROP TABLE ncen_kept.cases", (None, None)),
    Case("goes before it is read", ADD + "DROP TABLE ncen_kept.cases;" + BACK, (None, None, N)),
    Case("a column of it is not read back", ADD + BACK + "DROP TABLE ncen_kept.cases",
         (None, N, None)),
    Case("another goes with it", ADD + BACK + "DROP TABLE ncen_kept.cases, persons",
         (None, N, None)),
    Case("with all that hangs on it", ADD + BACK + "DROP TABLE ncen_kept.cases CASCADE",
         (None, N, None)),
    Case("what came back is taken out",
         ADD + BACK + "DELETE FROM ncen_kept.cases WHERE id IN (SELECT id FROM cases)",
         (None, N, None)),
    Case("all of it is taken out", ADD + BACK + "DELETE FROM ncen_kept.cases", (None, N, None)),
    Case("a function is asked which",
         ADD + BACK + "DELETE FROM ncen_kept.cases WHERE id IN (SELECT f(id) FROM cases)",
         (None, N, None)),
    Case("a live table", ADD + "DELETE FROM cases WHERE id IN (SELECT id FROM persons)",
         (None, None)),
    # Names that are not what they seem; found by an attack on this reader.
    Case("letters beyond ASCII are no others", "ALTER TABLE cases ADD COLUMN \u017fum int;"
         "UPDATE cases SET sum = 0", (None, None)),
    Case("public may not be what is first in the path",
         "CREATE SCHEMA own; CREATE TABLE cases (kg int); UPDATE public.cases SET kg = 0",
         (None, None, None)),
    Case("a table that went elsewhere",
         NEW + "ALTER TABLE visits SET SCHEMA old; ALTER TABLE cases RENAME TO visits;"
         "UPDATE visits SET note = ''", (None, None, None, None)),
    Case("two that went", NEW + "CREATE TABLE b (id int); DROP TABLE b, visits;"
         "UPDATE visits SET note = ''", (None, None, None, None)),
    Case("one that went by its whole name", NEW + "DROP TABLE app.visits;"
         "UPDATE visits SET note = ''", (None, None, None)),
    Case("what takes the place of a table", "CREATE TABLE n (id int); INSERT INTO n SELECT 1;"
         "DROP TABLE cases; ALTER TABLE n RENAME TO cases", (None, None, None, None)),
    Case("what takes the place of a column", ADD + "UPDATE cases SET country = '';"
         "ALTER TABLE cases DROP COLUMN land; ALTER TABLE cases RENAME country TO land",
         (None, None, None, None)),
    Case("a column called as a word of SQL", ADD + 'ALTER TABLE cases ADD COLUMN "from" int;'
         'UPDATE cases SET country = 1, "from" = 2, kg = 0', (None, None, None)),
    Case("rows of others change with it", NEW + "ALTER TABLE cases ADD FOREIGN KEY (kg)"
         " REFERENCES visits (id) ON UPDATE CASCADE; UPDATE visits SET id = -id",
         (None, None, None)),
    Case("rows of others go with it", ADD + BACK + "ALTER TABLE persons ADD FOREIGN KEY (id)"
         " REFERENCES ncen_kept.cases (id) ON DELETE CASCADE;"
         "DELETE FROM ncen_kept.cases WHERE id IN (SELECT id FROM cases)",
         (None, None, None, None)),
    # What people entered and the down migration parked is not the release's own.
    Case("named and not read", ADD + "UPDATE cases SET country = '' FROM ncen_kept.cases k"
         " WHERE k.id < 0 AND k.country IS NULL; DROP TABLE ncen_kept.cases", (None, N, None)),
    Case("read where it stands already", ADD + BACK.replace(";", " AND k.country = cases.country;")
         + "DROP TABLE ncen_kept.cases", (None, N, None)),
    Case("read of some rows only", ADD + BACK.replace(";", " AND cases.kg > 7;")
         + "DROP TABLE ncen_kept.cases", (None, N, None)),
    Case("compared with itself", ADD + "UPDATE cases c SET country = cases.country FROM"
         " ncen_kept.cases WHERE cases.id = cases.id; DROP TABLE ncen_kept.cases",
         (None, None, None)),
    Case("read back and then written over", ADD + BACK + "DROP TABLE ncen_kept.cases;"
         "UPDATE cases SET country = ''", (None, N, None, None)),
    Case("parked once more since", ADD + BACK + "INSERT INTO ncen_kept.cases SELECT id, kg FROM c;"
         "DROP TABLE ncen_kept.cases", (None, N, None, None)),
    Case("put back by some", "CREATE TABLE cases (id int, country text); INSERT INTO cases SELECT"
         " k.id, k.country FROM ncen_kept.cases k WHERE k.id = 7; DROP TABLE ncen_kept.cases",
         (None, N, None)),
    Case("put back, and what arrived is taken out", "CREATE TABLE v (id int, country text);"
         "INSERT INTO v SELECT k.id, k.country FROM ncen_kept.cases k WHERE k.id = 7;"
         "DELETE FROM ncen_kept.cases WHERE id IN (SELECT id FROM v)", (None, N, None)),
    Case("taken out by ids that did not come from there", "CREATE TABLE v (id int, country text);"
         "INSERT INTO v VALUES (7, ''); INSERT INTO v SELECT k.id, k.country FROM ncen_kept.cases k"
         " WHERE k.id = 8; DELETE FROM ncen_kept.cases WHERE id IN (SELECT id FROM v)",
         (None, N, N, None)),
]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_statements_on_own_objects_are_recognised(case: Case, engine: str) -> None:
    assert fills_own(case.up, engine) == [found is N for found in case.found]
    assert len(case.found) == len(split_statements(case.up, engine))


@pytest.mark.parametrize("up", [
    'CREATE TABLE "CASES" (kg int); UPDATE cases SET kg = 0',
    'ALTER TABLE cases ADD COLUMN "KG" int; UPDATE cases SET kg = 0',
    'ALTER TABLE cases ADD COLUMN U&"k\\0067" int; UPDATE cases SET kg = 0',
])  # fmt: skip
def test_quoted_names_are_case_sensitive_on_postgresql(up: str) -> None:
    assert fills_own(up, "postgresql") == [False, False]


def test_quoted_lower_case_names_equal_plain_ones() -> None:
    up = 'ALTER TABLE "cases" ADD COLUMN "country" text; UPDATE "cases" SET "country" = 1'
    assert fills_own(up, "postgresql") == [False, True]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_emptying_parked_data_is_marked(engine: str) -> None:
    up = ADD + BACK + "DROP TABLE ncen_kept.cases; DELETE FROM ncen_kept.b WHERE id IN (SELECT 1)"
    text = up if engine == "postgresql" else up.replace("ncen_kept.", "ncen_kept__")
    found = find_marks(text, [engine], names={"ID"})
    kinds = [mark.kinds for mark in found if not mark.own_kind]
    assert kinds == [(StatementKind.EMPTIES,), (StatementKind.EMPTIES,)]
    more = "DROP TABLE ncen_kept__cases, cases; DELETE FROM ncen_kept__b WHERE id IN (SELECT f(1))"
    assert {kind for mark in find_marks(more, [engine]) for kind in mark.kinds} == {
        StatementKind.DROPS, StatementKind.DELETES, StatementKind.CALLS,
    }  # fmt: skip
