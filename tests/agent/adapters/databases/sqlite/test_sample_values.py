"""Tests of sample values and samples of rows in one file."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ncen_updater.agent.adapters.databases.sqlite.round_trip import (
    read_sample,
    write_sample_values,
)

NOT_UTF8 = (
    "CREATE TABLE place (code TEXT PRIMARY KEY, name TEXT);"
    "INSERT INTO place VALUES (CAST(X'4de427' AS TEXT), CAST(X'e4' AS TEXT)), ('plain', 'plain');"
)


def test_rows_with_text_that_is_not_utf8_are_sampled() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.executescript(NOT_UTF8)
        before = read_sample(database)["place"].rows
        assert len({row["name"] for row in before.values()}) == 2
        refusals = write_sample_values(database, "seed", {})
        after = read_sample(database, {"place": tuple(before)})["place"].rows
    assert not any(counts for counts in refusals["place"].values())
    assert after.keys() == before.keys()
    assert all(after[key]["name"] != before[key]["name"] for key in before)
