"""Migrations for tests, written to files."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    MigrationDirection,
    MigrationSet,
    SqlMigration,
)
from ncen_updater.agent.adapters.databases.migrations.planner import (
    plan_rollback_path,
    plan_site_migrations,
    predict_ledgers,
)
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount
from ncen_updater.formats.data_loss import DataLoss
from ncen_updater.formats.manifest import Migration

CHANGE = ChangeRef("abcdefgh", 2, "2.0")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


#: Up and down of three migrations of one release, oldest first: the rollback renames what it loses.
RENAMED = (
    (
        "ALTER TABLE cases ADD COLUMN mark text; CREATE TABLE hints (id int)",
        "ALTER TABLE cases DROP COLUMN mark; DROP TABLE hints",
    ),
    (
        "ALTER TABLE cases RENAME COLUMN mark TO label; ALTER TABLE cases RENAME TO files;"
        " ALTER TABLE hints RENAME TO clues",
        "ALTER TABLE files RENAME COLUMN label TO mark; ALTER TABLE files RENAME TO cases;"
        " ALTER TABLE clues RENAME TO hints",
    ),
    (
        "ALTER TABLE files RENAME TO dossiers",
        "ALTER TABLE dossiers RENAME TO files",
    ),
)


def find_losses(
    directory: Path, engine: str, *migrations: tuple[str, str], declared: tuple[str, ...] = ()
) -> tuple[DataLoss, ...]:
    """The losses of a rollback of these migrations; the first of them declares some."""
    made = [make(directory, f"{n:04}", *texts) for n, texts in enumerate(migrations)]
    if declared:
        migration = made[0].migration.model_copy(update={"data_loss": declared})
        made[0] = dataclasses.replace(made[0], migration=migration)
    newer = MigrationSet("2.0", directory, {"cases": tuple(made)})
    older = MigrationSet("1.0", directory, {"cases": ()})
    ledgers = predict_ledgers({}, plan_site_migrations(["cases"], {}, newer, older), CHANGE)
    path = plan_rollback_path(["cases"], ledgers, newer, older, CHANGE.id, engine=engine)
    return tuple(path.losses.get("cases", ()))


def make(
    directory: Path,
    name: str,
    up: str = "SELECT 1",
    down: str | None = "SELECT 1",
    verify: str | None = None,
    *,
    transactional: bool = True,
    lock_ms: int = 5_000,
    statement_ms: int = 60_000,
) -> SqlMigration:
    paths: dict[str, Path] = {}
    for kind, text in (("up", up), ("down", down), ("verify", verify)):
        if text is not None:
            paths[kind] = directory / f"{name}.{kind}.sql"
            paths[kind].write_bytes(text.encode())
    migration = Migration(
        id=name,
        up=f"{name}.up.sql",
        down=f"{name}.down.sql" if down is not None else None,
        irreversible=None if down is not None else "the codes were merged",
        transactional=transactional,
        lock_timeout_ms=lock_ms,
        statement_timeout_ms=statement_ms,
    )
    return SqlMigration(
        migration,
        paths["up"],
        paths.get("down"),
        paths.get("verify"),
        digest(up),
        digest(down) if down is not None else None,
        digest(verify) if verify is not None else None,
    )


def release(slot: Path, version: str, **databases: list[SqlMigration]) -> MigrationSet:
    return MigrationSet(version, slot, databases)


def row(
    item: SqlMigration, direction: MigrationDirection = MigrationDirection.UP
) -> AppliedMigration:
    sha = item.up_sha256 if direction is MigrationDirection.UP else item.down_sha256 or ""
    return AppliedMigration(item.migration.id, direction, sha, "1.0", "aaaaaaaa", "2026-01-01")


class RecordingProgress:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        self.said.append(text.render())
