"""Tests of reading a site as evidence, whatever state its programs left."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from demo.evidence import _read

TORN = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")
connection.execute("UPDATE cases SET what = randomblob(2000)")
os._exit(0)
"""


def test_leftover_journal_of_a_killed_writer_is_no_loss(tmp_path: Path) -> None:
    """Seen: a history that was called wrong, since its own look could not open the database."""
    path = tmp_path / "seizures.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cases (what)")
        connection.executemany("INSERT INTO cases VALUES (?)", [("x" * 2000,)] * 50)
    connection.close()
    subprocess.run([sys.executable, "-c", TORN, str(path)], check=True)
    assert path.with_name("seizures.sqlite-journal").exists()
    assert _read(path, "SELECT DISTINCT what FROM cases") == [("x" * 2000,)]
