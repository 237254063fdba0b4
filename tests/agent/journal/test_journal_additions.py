"""A journal of the first form gets what came later, and an older agent still reads it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ncen_updater.agent.engine.errors import JournalUnwritable
from ncen_updater.agent.journal.additions import ADDITIONS, add_missing, has_table
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.schema import SCHEMA


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return {name for (name,) in rows}


def of_the_first_form(path: Path) -> None:
    Journal.create(path).close()
    connection = sqlite3.connect(path)
    for name in ADDITIONS:
        connection.execute(f"DROP TABLE {name}")
    connection.commit()
    connection.close()


def test_a_new_journal_has_them(tmp_path: Path) -> None:
    Journal.create(tmp_path / "journal").close()
    assert ADDITIONS.keys() <= tables(tmp_path / "journal")


def test_an_older_journal_gets_them_when_it_is_opened_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    of_the_first_form(path)
    Journal.open(path, read_only=True).close()
    assert not ADDITIONS.keys() & tables(path)
    with Journal.open(path) as journal:
        journal.note("noted")
    assert ADDITIONS.keys() <= tables(path)
    with Journal.open(path) as journal:
        assert [event.kind for event in journal.events()] == ["noted"]


def test_an_older_agent_reads_the_journal_as_before(tmp_path: Path) -> None:
    """The number of the form and every statement of the first form are unchanged."""
    path = tmp_path / "journal"
    Journal.create(path).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    written = {
        sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")
    }
    connection.close()
    first = sqlite3.connect(":memory:")
    first.executescript(SCHEMA)
    before = {sql for (sql,) in first.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    first.close()
    assert before <= written


def test_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    of_the_first_form(path)
    monkeypatch.setitem(ADDITIONS, "rehearsals", "CREATE TABLE rehearsals (id TEXT) STRICT")
    monkeypatch.setitem(ADDITIONS, "orders", "CREATE TABLE orders (")
    with pytest.raises(JournalUnwritable):
        Journal.open(path)
    assert not {"rehearsals", "approvals", "orders"} & tables(path)


def test_two_processes_may_add_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    of_the_first_form(path)
    one, two = (sqlite3.connect(path, isolation_level=None, timeout=10) for _ in range(2))
    assert not has_table(two, "orders")
    add_missing(one)
    add_missing(two)
    assert has_table(two, "orders")
    one.close()
    two.close()
