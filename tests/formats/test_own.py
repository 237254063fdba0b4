"""Which statements of a way up touch nothing but what the release itself made; in doubt, none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ncen_updater.formats.losses import Own, own
from ncen_updater.formats.sql import ENGINES, split

ADD = "ALTER TABLE cases ADD COLUMN country text;"
NEW = "CREATE TABLE visits (id int, note text);"
PARKS = "CREATE TABLE ncen_kept.cases (id int, country text); INSERT INTO ncen_kept.cases SELECT 1;"
BACK = "UPDATE cases SET country = k.country FROM ncen_kept.cases k WHERE k.id = cases.id;"
N, P = Own.NEW, Own.PARKED


@dataclass(frozen=True)
class Case:
    name: str
    up: str
    found: tuple[Own | None, ...]
    down: str = ""


CASES = [
    Case("fills a column of its own", ADD + "UPDATE cases SET country = 'MU'", (None, N)),
    Case("of another table", ADD + "UPDATE persons SET country = 'MU'", (None, None)),
    Case("two columns, one of before", ADD + "UPDATE cases SET country = 'MU', kg = 0",
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
         (None, N, P), PARKS),
    Case("not parked by this release", ADD + BACK + "DROP TABLE ncen_kept.cases",
         (None, N, None)),
    Case("goes and was not read back", ADD + "DROP TABLE ncen_kept.cases", (None, None), PARKS),
    Case("goes before it is read", ADD + "DROP TABLE ncen_kept.cases;" + BACK, (None, None, N),
         PARKS),
    Case("a column of it is not read back", ADD + BACK + "DROP TABLE ncen_kept.cases",
         (None, N, None), PARKS.replace("country text", "country text, kg int")),
    Case("another goes with it", ADD + BACK + "DROP TABLE ncen_kept.cases, persons",
         (None, N, None), PARKS),
    Case("with all that hangs on it", ADD + BACK + "DROP TABLE ncen_kept.cases CASCADE",
         (None, N, None), PARKS),
    Case("what came back is taken out",
         ADD + BACK + "DELETE FROM ncen_kept.cases WHERE id IN (SELECT id FROM cases)",
         (None, N, P), PARKS),
    Case("all of it is taken out", ADD + BACK + "DELETE FROM ncen_kept.cases", (None, N, None),
         PARKS),
    Case("a function is asked which",
         ADD + BACK + "DELETE FROM ncen_kept.cases WHERE id IN (SELECT f(id) FROM cases)",
         (None, N, None), PARKS),
    Case("a live table", ADD + "DELETE FROM cases WHERE id IN (SELECT id FROM persons)",
         (None, None), PARKS),
]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_own(case: Case, engine: str) -> None:
    assert own(case.up, case.down, engine) == case.found
    assert len(case.found) == len(split(case.up, engine))


def test_tables_that_sqlite_parks_in() -> None:
    up, down = (ADD + BACK + "DROP TABLE ncen_kept.cases"), PARKS
    up, down = (text.replace("ncen_kept.", "ncen_kept__") for text in (up, down))
    assert own(up, down, "sqlite") == (None, N, P)
