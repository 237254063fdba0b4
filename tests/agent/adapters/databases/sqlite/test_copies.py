"""Tests of copies of a file in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.sqlite import copies

PAGES = 40


def back_up_while_written(directory: Path, journal_mode: str) -> int:
    """Copy a file that is written after every page; return the number of its new rows copied."""
    source, target = directory / "live.sqlite", directory / "copy.sqlite"
    with closing(sqlite3.connect(source, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {journal_mode}")
        database.executescript("CREATE TABLE item (content BLOB); CREATE TABLE new (id INTEGER);")
        database.executemany("INSERT INTO item VALUES (zeroblob(4000))", [()] * PAGES)
        steps = 0

        def write(count: int) -> None:
            del count
            nonlocal steps
            steps += 1
            assert steps < 100 * PAGES, "the backup does not end"
            database.execute("INSERT INTO new VALUES (1)")

        copies.backup_database(source, target, write)
    with closing(sqlite3.connect(target)) as database:
        return int(database.execute("SELECT count(*) FROM new").fetchone()[0])


def test_writes_do_not_restart_the_copy_of_a_file_with_a_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "BACKUP_PAGES", 1)
    assert back_up_while_written(tmp_path, "wal") == 0


def test_copy_that_restarts_at_every_write_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "BACKUP_PAGES", 10)
    with pytest.raises(sqlite3.OperationalError, match="written too often"):
        back_up_while_written(tmp_path, "delete")
