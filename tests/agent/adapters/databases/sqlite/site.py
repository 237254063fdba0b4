"""A small site on SQLite."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan, MigrationSet
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.migrations.factories import make, release

NAMES = ("cases", "people")


def build(directory: Path, rows: int = 50) -> SqliteEngine:
    base = directory / "sets" / "base"
    base.mkdir(parents=True)
    for name in NAMES:
        with closing(sqlite3.connect(base / f"{name}.sqlite")) as database:
            database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, note TEXT)")
            database.executemany(
                "INSERT INTO item (note) VALUES (?)", [(f"{name} {i}",) for i in range(rows)]
            )
            database.commit()
    (directory / "live").symlink_to("sets/base")
    return SqliteEngine(directory, NAMES)


def new_release(slot: Path) -> MigrationSet:
    slot.mkdir(exist_ok=True)
    up = "ALTER TABLE item ADD COLUMN grade INTEGER;\nUPDATE item SET grade = length(note);"
    down = "ALTER TABLE item DROP COLUMN grade;"
    more = make(slot, "0002_more", "CREATE TABLE more (id INTEGER PRIMARY KEY)", "DROP TABLE more")
    both = [make(slot, "0001_grade", up, down), more]
    return release(slot, "2.0", cases=both, people=both)


def reference(name: str = "abcdefgh", generation: int = 1) -> ChangeRef:
    return ChangeRef(name, generation, "2.0")


def contents(directory: Path) -> dict[str, str]:
    """Digest of every byte that SQLite would show, by file, of the live set."""
    found = {}
    for name in NAMES:
        address = f"{(directory / 'live' / f'{name}.sqlite').as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as database:
            dump = "\n".join(database.iterdump())
        found[name] = hashlib.sha256(dump.encode()).hexdigest()
    return found


def upgrade(engine: SqliteEngine, change: ChangeRef, target: MigrationSet) -> CopyPlan:
    engine.fence(change)
    plan = engine.plan_copy(change)
    engine.copy_databases(change, plan, SilentProgress())
    engine.migrate(change, target, None, SilentProgress())
    engine.cut_over(change)
    return plan


def revert(engine: SqliteEngine, change: ChangeRef) -> None:
    engine.revert_cut_over(change)
    engine.discard_candidates(change, CopyPlan({}))
    engine.unfence(change)
