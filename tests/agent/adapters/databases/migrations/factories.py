"""Migrations for tests, written to files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import (
    AppliedMigration,
    ChangeRef,
    MigrationDirection,
    MigrationSet,
    SqlMigration,
)
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount
from ncen_updater.formats.manifest import Migration

CHANGE = ChangeRef("abcdefgh", 2, "2.0")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
