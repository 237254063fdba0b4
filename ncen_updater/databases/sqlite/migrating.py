"""Migrations of a set of files, by the release's own files or by the application's program."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.databases.base import ChangeRef, MigrationSet
from ncen_updater.databases.errors import DatabaseError, ReferencesBroken
from ncen_updater.databases.sqlite.copying import connect, settle
from ncen_updater.progress import Progress

__all__ = ["migrate_files"]


def migrate_files(
    paths: Mapping[str, Path],
    change: ChangeRef,
    target: MigrationSet,
    origin: MigrationSet | None,
    environment: Mapping[str, str],
    progress: Progress,
) -> None:
    """Bring files to the target's schema, mark, analyze and settle them.

    Args:
        paths: Files to be migrated, by logical name.
        change: Goes into the ledgers.
        target: Migrations of the release that will run.
        origin: Migrations of the release that runs now, for the way down.
        environment: Further variables of the application's own migrator.
        progress: Told of each migration.

    Raises:
        MigrationFailed: See :meth:`DatabaseEngine.migrate`.
        DatabaseError: A file cannot be analyzed, or is not whole afterwards.
    """
    from ncen_updater.databases.migrations.runner import Runner
    from ncen_updater.databases.migrations.sqlite_dialect import SqliteDialect

    if target.command is not None:
        _run_command(paths, target, environment, progress)
    for name, path in paths.items():
        runner = Runner(SqliteDialect(path), name)
        if target.command is None:
            old = origin.databases.get(name, ()) if origin else None
            runner.migrate(change, target.databases.get(name, ()), old, progress)
        else:
            runner.mark(change)
        try:
            with connect(path, "rw") as database:
                database.execute("ANALYZE")
            problem = settle(path)
        except sqlite3.Error as error:
            raise DatabaseError(database=name, detail=str(error)) from error
        if problem:
            raise DatabaseError(database=name, detail=problem)


def _run_command(
    paths: Mapping[str, Path],
    target: MigrationSet,
    environment: Mapping[str, str],
    progress: Progress,
) -> None:
    from ncen_updater.databases.migrations.command import migrator_environment, run_command
    from ncen_updater.databases.migrations.work import tell_dangling

    if target.command is None:
        return
    variables = migrator_environment(os.environ, environment)
    for name, path in paths.items():
        variables[f"NCEN_DB_{name.upper().replace('-', '_')}_URL"] = f"sqlite:///{path}"
    before = {name: _dangling(path) for name, path in paths.items()}
    run_command(target.command, target.slot, variables, progress, tuple(paths))
    for name, path in paths.items():
        more = _dangling(path) - before[name]
        if more:
            raise ReferencesBroken(
                database=name,
                migration=target.command.argv[0],
                count=more.total(),
                detail=tell_dangling(more),
            )


def _dangling(path: Path) -> Counter[tuple[str, str]]:
    from ncen_updater.databases.migrations.sqlite_dialect import SqliteDialect

    with connect(path, "ro") as database:
        return SqliteDialect(path).dangling(database)
