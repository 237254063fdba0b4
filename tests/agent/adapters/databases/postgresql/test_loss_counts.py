"""Tests of counting what a down migration loses, in its row and through a key."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.postgresql.inspection import (
    begin_read_only,
    count_entered_rows,
)
from ncen_updater.formats.data_loss import DataLoss, LossKind, find_data_loss
from tests.agent.adapters.databases.migrations.factories import RENAMED, find_losses
from tests.agent.adapters.databases.postgresql.site import NEWEST, Site

TABLES = (
    "CREATE TABLE notes (id int PRIMARY KEY, case_id int REFERENCES cases ON DELETE CASCADE)",
    "CREATE TABLE hints (note_id int REFERENCES notes ON DELETE SET NULL)",
    "CREATE TABLE seals (case_id int REFERENCES cases)",
    "CREATE TABLE marks (at date, case_id int REFERENCES cases) PARTITION BY RANGE (at)",
    "CREATE TABLE marks_now PARTITION OF marks DEFAULT",
    "CREATE SCHEMA extra",
    "CREATE TABLE extra.cases (id int)",
    "CREATE TABLE extra.other (id int)",
    "CREATE SCHEMA ncen_kept",
    "CREATE TABLE ncen_kept.old (id int PRIMARY KEY)",
    "CREATE TABLE shadows (id int REFERENCES ncen_kept.old)",
    "INSERT INTO ncen_kept.old VALUES (1)",
)
ENTERED = (
    "INSERT INTO cases VALUES (901, 'x'), (902, 'y')",
    "INSERT INTO notes VALUES (1, 901)",
    "INSERT INTO hints VALUES (1), (1), (1)",
    "INSERT INTO seals VALUES (901), (902), (902), (902)",
    "INSERT INTO marks VALUES ('2026-01-01', 901)",
    "INSERT INTO extra.cases VALUES (1)",
    "INSERT INTO extra.other VALUES (1), (2)",
    "INSERT INTO shadows VALUES (1)",
)
ALL = {
    "cases": 2, "notes": 1, "hints": 3, "seals": 4, "marks_now": 1, "extra.cases": 1,
    "extra.other": 2, "shadows": 1,
}  # fmt: skip


def counted(site: Site, found: tuple[DataLoss, ...], *, since: bool) -> dict[str, int]:
    site.sql("t_seizure", *TABLES)
    (moment,) = site.sql("t_seizure", "SELECT pg_current_xact_id()::text::bigint")[0]
    site.sql("t_seizure", *ENTERED)
    with psycopg.connect(site.server.conninfo(), dbname="t_seizure", autocommit=True) as live:
        begin_read_only(live)
        return count_entered_rows(live, moment if since else None, found)


@NEWEST
def test_entered_rows_of_renamed_objects_are_counted(site: Site, tmp_path: Path) -> None:
    """Seen: none, since a rollback of several migrations renames them before it loses them."""
    for up, _ in RENAMED:
        site.sql("t_seizure", *up.split(";"))
    site.sql("t_seizure", "INSERT INTO clues VALUES (1), (2)", "UPDATE dossiers SET label = 'x'")
    rows = site.sql("t_seizure", "SELECT count(*) FROM dossiers")[0][0]
    found = find_losses(tmp_path, "postgresql", *RENAMED)
    with psycopg.connect(site.server.conninfo(), dbname="t_seizure", autocommit=True) as live:
        begin_read_only(live)
        assert count_entered_rows(live, None, found) == {"dossiers.label": rows, "clues": 2}


@NEWEST
@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ("DROP TABLE cases CASCADE", {"cases": 3}),
        # Rows of the table, and those that their keys take along or empty.
        ("DELETE FROM cases", {"cases": 3, "notes": 1, "hints": 3}),
        ("DELETE FROM public.cases", {"cases": 3, "notes": 1, "hints": 3}),
        ("TRUNCATE notes, seals", {"notes": 1, "seals": 4, "hints": 3}),
        (
            "TRUNCATE cases CASCADE",
            {"cases": 3, "notes": 1, "hints": 3, "seals": 4, "marks": 1},
        ),
        ("TRUNCATE ncen_kept.old CASCADE", {"shadows": 1}),
        ("DROP SCHEMA extra, ncen_kept CASCADE", {"extra.cases": 1, "extra.other": 2}),
        ("DROP TYPE kind CASCADE", ALL),
        ("DROP OWNED BY ncen", ALL),
        ("MERGE INTO seals USING cases ON true WHEN MATCHED THEN DELETE", {"seals": 4}),
        ("INSERT INTO hints VALUES (1) ON CONFLICT DO UPDATE SET note_id = 2",
         {"hints.note_id": 3}),
    ],
)  # fmt: skip
def test_entered_rows_of_each_lossy_table_are_counted(
    site: Site, down: str, expected: dict[str, int]
) -> None:
    assert counted(site, find_data_loss("", down, "postgresql"), since=True) == expected


@NEWEST
def test_all_rows_count_where_the_start_time_is_unknown(site: Site) -> None:
    found = (
        DataLoss("cases", None, LossKind.ROWS),
        DataLoss("seals", None, LossKind.TABLE, is_release_table=True),
    )
    # The file's 500 rows, and tables that the release does not fill, are not reported.
    assert counted(site, found, since=False) == {"cases": 503, "notes": 1, "hints": 3}
