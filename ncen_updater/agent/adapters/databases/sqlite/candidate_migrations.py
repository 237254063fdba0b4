"""Migrations of a set of files, by the release's files or by the application's migrator."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import ChangeRef, MigrationSet, MigratorUser
from ncen_updater.agent.adapters.databases.sqlite.copies import checkpoint_and_check, open_database
from ncen_updater.agent.adapters.databases.sqlite.safe_files import open_regular_file
from ncen_updater.agent.model.errors import DatabaseError, MigrationFailedError
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.messages import REFERENCES_BROKEN
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.manifest import DatabaseProgram


def migrate_files(
    paths: Mapping[str, Path],
    change: ChangeRef,
    target: MigrationSet,
    current: MigrationSet | None,
    environment: Mapping[str, str],
    progress: ProgressListener,
    user: MigratorUser | None,
) -> bool:
    """Migrate files to the target's schema, mark, analyze and flush them.

    Args:
        paths: Files to migrate, by logical name.
        change: The change for the ledger rows.
        target: Migrations of the release to reach.
        current: Migrations of the installed release, for down migrations.
        environment: Further variables of the application's own migrator.
        progress: Receives a report of each migration.
        user: User as which the application's own migrator runs.

    Returns:
        Whether anything but the mark was written.

    Raises:
        MigrationFailedError: See :meth:`DatabaseEngine.migrate`.
        DatabaseError: A file cannot be analyzed, or is damaged afterwards.
    """
    from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
    from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

    wrote = False
    if target.migrator is not None:
        before = {path: _reset_mtime(path) for path in paths.values()}
        # A file allows one writer, so the contract program runs here, not while users work.
        for program in filter(None, (target.migrator, target.contract_program)):
            run_program(program, target.slot, paths, environment, progress, user)
        wrote = any(_read_write_state(path) != seen for path, seen in before.items())
    for name, path in paths.items():
        runner = MigrationRunner(SqliteDialect(path), name)
        if target.migrator is None:
            old = current.databases.get(name, ()) if current else None
            ran = runner.migrate(change, target.databases.get(name, ()), old, progress)
            wrote = wrote or bool(ran.steps)
        else:
            runner.write_state(change)
        check_file(name, path, analyze=True)
    return wrote


def mark_files(paths: Mapping[str, Path], change: ChangeRef) -> None:
    """Mark and flush files; no code of a release runs.

    Raises:
        DatabaseError: A file is damaged afterwards.
    """
    from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
    from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

    for name, path in paths.items():
        MigrationRunner(SqliteDialect(path), name).write_state(change)
        check_file(name, path)


def unmark_files(paths: Mapping[str, Path]) -> None:
    """Remove the mark of files to which no agent ever cut over.

    Raises:
        DatabaseError: A file is damaged afterwards.
    """
    from ncen_updater.agent.adapters.databases.migrations.runner import MigrationRunner
    from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

    for name, path in paths.items():
        MigrationRunner(SqliteDialect(path), name).delete_state()
        check_file(name, path)


def check_file(name: str, path: Path, *, analyze: bool = False) -> None:
    """Flush a file that was written, and check its integrity.

    Raises:
        DatabaseError: It cannot be analyzed, or is damaged.
    """
    try:
        if analyze:
            with open_database(path, "rw") as database:
                database.execute("ANALYZE")
        problem = checkpoint_and_check(path)
    except sqlite3.Error as error:
        raise DatabaseError(database=name, detail=sanitize_error(error)) from error
    if problem:
        raise DatabaseError(database=name, detail=problem)


def _reset_mtime(path: Path) -> tuple[int, ...] | None:
    """Set an old modification time, so that any later write is noticed, however soon it comes.

    Reading through SQLite does not change it; a committed row does, or is in the journal beside.

    Returns:
        As :func:`_read_write_state`; None if the file belongs to another user, so that writes
        cannot be noticed.
    """
    try:
        with open_regular_file(path) as descriptor:
            os.utime(descriptor, ns=(0, 0))
    except PermissionError:
        return None
    return _read_write_state(path)


def _read_write_state(path: Path) -> tuple[int, ...]:
    info = path.lstat()
    beside = path.with_name(path.name + "-wal")
    return (
        info.st_mtime_ns, info.st_size, beside.lstat().st_size if os.path.lexists(beside) else 0,
    )  # fmt: skip


def run_program(
    program: DatabaseProgram,
    slot: Path,
    paths: Mapping[str, Path],
    environment: Mapping[str, str],
    progress: ProgressListener,
    user: MigratorUser | None,
) -> None:
    """Run a program of a release on files.

    Raises:
        MigrationFailedError: It failed, or left rows that violate a foreign key.
    """
    from ncen_updater.agent.adapters.databases.migrations import migrator as command
    from ncen_updater.agent.adapters.databases.migrations.runner import format_dangling_references

    variables = command.build_migrator_environment(os.environ, environment, user)
    for name, path in paths.items():
        address = {"URL": f"sqlite:///{path}", "NAME": str(path)}
        variables |= command.build_database_variables(name, address)
    before = {name: _count_dangling_references(path) for name, path in paths.items()}
    command.run_migrator(program, slot, variables, progress, tuple(paths), user=user)
    for name, path in paths.items():
        more = _count_dangling_references(path) - before[name]
        if more:
            raise MigrationFailedError(
                REFERENCES_BROKEN,
                database=name,
                migration=program.argv[0],
                count=more.total(),
                detail=format_dangling_references(more),
            )


def _count_dangling_references(path: Path) -> Counter[tuple[str, str]]:
    from ncen_updater.agent.adapters.databases.sqlite.dialect import SqliteDialect

    with open_database(path, "ro") as database:
        return SqliteDialect(path).count_dangling_references(database)
