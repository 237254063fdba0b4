"""Rules of ``lint`` for SQL: migrations, down migrations, checks, and reference maps.

What a site refuses is decided by the sites' own rules (:mod:`ncen_updater.formats.sql`), and what a
down migration loses by :mod:`ncen_updater.formats.data_loss`. SQLite and squawk find syntax errors
without a server; a site would find them only when the migration runs. Their messages are quoted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final

from ncen_updater.common import messages
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ErrorMessage
from ncen_updater.formats.data_loss import DataLoss, LossKind, find_data_loss
from ncen_updater.formats.dialects import DIALECTS, SqlStatement
from ncen_updater.formats.manifest import ENGINE_PLACEHOLDER, Migration, fill_engine
from ncen_updater.formats.sql import (
    ENGINE_NAMES,
    RefusalKind,
    SqlRefusal,
    check_file_content,
    check_migration_sql,
    check_query_sql,
    check_verify_sql,
    make_count_query,
    split_statements,
)
from ncen_updater.formats.statement_parsing import parse_update, read_statements
from ncen_updater.publisher.build.release_build import list_migration_files
from ncen_updater.publisher.lint.rules import LintedRelease, report

#: A text, and whether it is a ``verify`` file, whose statements' rows are counted.
SyntaxQuery = tuple[str, bool]

TIMEOUT_S: Final = 120.0
# SQLite's messages about the text itself, not about missing tables.
_SYNTAX_MESSAGES: Final = re.compile(r"syntax error|incomplete input|unrecognized token")
_NO_TABLE: Final = re.compile(r"no such table: (?:\w+\.)?(?P<name>.+)", re.DOTALL)


class SyntaxUncheckedError(Exception):
    """Syntax could not be checked; with the reason."""

    def __init__(self, reason: LazyText) -> None:
        super().__init__(reason)
        self.reason = reason


def _find_sqlite_errors(asked: Collection[SyntaxQuery]) -> dict[SyntaxQuery, str]:
    found = {(sql, verifies): _find_sqlite_error(sql, verifies=verifies) for sql, verifies in asked}
    return {item: value for item, value in found.items() if value is not None}


def _find_sqlite_error(sql: str, *, verifies: bool) -> str | None:
    """Return the first error: statements are compiled in an empty database, but not run."""
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in split_statements(sql, "sqlite"):
            text = make_count_query(statement) if verifies else statement.text
            message = _compile(database, replace(statement, text=text))
            if message is not None:
                return f"line {statement.line}: {message}"
    return None


def _compile(database: sqlite3.Connection, statement: SqlStatement) -> str | None:
    explain = "" if statement.words[:1] == ("EXPLAIN",) else "EXPLAIN "
    try:
        database.execute(f"{explain}{statement.text}")
    except sqlite3.OperationalError as error:
        missing = _NO_TABLE.match(str(error))
        if missing and "TRIGGER" in statement.words[:3]:
            # SQLite compiles the body of a trigger only if its table exists.
            name = missing["name"].replace('"', '""')
            with contextlib.suppress(sqlite3.Error):  # no table can have that name, or it exists
                database.execute(f'CREATE TABLE "{name}" (x)')
                return _compile(database, statement)
            return None
        return str(error) if _SYNTAX_MESSAGES.search(str(error)) else None
    except sqlite3.Error:
        return None  # not about the text itself: a rehearsal will show it
    return None


def _find_postgresql_errors(asked: Collection[SyntaxQuery]) -> dict[SyntaxQuery, str]:
    texts = dict.fromkeys(sql for sql, _ in asked)
    numbered = {f"{number}.sql": text for number, text in enumerate(texts)}
    if not numbered:
        return {}
    program = _find_squawk()
    if program is None:
        raise SyntaxUncheckedError(LazyText(N_("squawk is not installed")))
    with tempfile.TemporaryDirectory() as directory:
        for name, text in numbered.items():
            Path(directory, name).write_text(text, "utf-8", newline="")
        # Only syntax errors are used, and no configuration file may disable them.
        argv = [str(program), "--config", os.devnull, "--reporter", "json", *numbered]
        try:
            done = subprocess.run(
                argv, cwd=directory, env={}, capture_output=True, timeout=TIMEOUT_S, check=False
            )
            found = json.loads(done.stdout)
            mistakes: dict[str, str] = {}
            for item in found:
                if item["rule_name"] == "syntax-error":
                    message = f"line {int(item['line']) + 1}: syntax error: {item['message']}"
                    mistakes.setdefault(numbered[Path(item["file"]).name], message)
        except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
            label = LazyText(N_("squawk failed ({detail})"), {"detail": error})
            raise SyntaxUncheckedError(label) from error
    return {item: mistakes[item[0]] for item in asked if item[0] in mistakes}


def _find_squawk() -> Path | None:
    """Return the program of the package squawk-cli, not any other program of that name."""
    try:
        files = metadata.distribution("squawk-cli").files or []
    except metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == "squawk")
    return next((place for place in places if os.access(place, os.X_OK)), None)


#: Syntax checkers by engine; for other engines syntax is not checked.
_CHECKERS: Final[Mapping[str, Callable[[Collection[SyntaxQuery]], dict[SyntaxQuery, str]]]] = {
    "postgresql": _find_postgresql_errors,
    "sqlite": _find_sqlite_errors,
}


def find_syntax_errors(engine: str, asked: Collection[SyntaxQuery]) -> dict[SyntaxQuery, str]:
    """Return the first syntax error of each text that has one, with its line.

    Args:
        engine: The engine.
        asked: The texts.

    Raises:
        SyntaxUncheckedError: If the checker is not installed or failed.
    """
    judge = _CHECKERS.get(engine)
    return judge(asked) if judge is not None and asked else {}


@dataclass(frozen=True)
class SqlText:
    """One SQL text that sites run, with the sites' verdict.

    Attributes:
        name: Path of the file, or name of the check.
        database: Database in which it runs.
        sql: The text.
        refusals: Refusal by engine; None if the engine accepts it.
        engines_declared: Whether the release is declared for all these engines. If not, a refusal
            by one of them is left to the signers.
        file: The migration file; None for a query of the manifest.
    """

    name: str
    database: str
    sql: str
    refusals: Mapping[str, SqlRefusal | None]
    engines_declared: bool
    file: MigrationSqlFile | None = None


def _list_engines(release: LintedRelease) -> tuple[str, ...]:
    """Return the engines for which the release has files with the engine in their path."""
    places = {m.up for _, m in release.iter_migrations() if ENGINE_PLACEHOLDER in m.up}
    return tuple(
        engine
        for engine in ENGINE_NAMES
        if any(fill_engine(engine, place) in release.files for place in places)
    )


@dataclass(frozen=True)
class MigrationSqlFile:
    """An existing file of a new migration, and the engines that would run it."""

    database: str
    migration: Migration
    path: str
    engines: tuple[str, ...]
    verifies: bool

    def check_sql(self, sql: str, engine: str) -> SqlRefusal | None:
        """Check SQL as a site with this engine does."""
        if self.verifies:
            return check_verify_sql(sql, engine)
        return check_migration_sql(sql, engine, transactional=self.migration.transactional)


def _list_sql_files(release: LintedRelease) -> Iterator[MigrationSqlFile]:
    named = _list_engines(release) or ENGINE_NAMES
    for database, migration in release.iter_new_migrations():
        supported = [e for e in named if fill_engine(e, migration.up) in release.files]
        for place in filter(None, (migration.up, migration.down, migration.verify)):
            paths: dict[str, list[str]] = {}
            for engine in supported:
                paths.setdefault(fill_engine(engine, place), []).append(engine)
            for path in (path for path in paths if path in release.files):
                engines = tuple(paths[path])
                yield MigrationSqlFile(
                    database, migration, path, engines, place == migration.verify
                )


def check_readable_files(release: LintedRelease) -> Iterator[Finding]:
    """Report SQL files whose content every site refuses."""
    for file in _list_sql_files(release):
        bad = check_file_content(release.sql[file.path])
        if bad:
            reason = LazyText(bad[0])
            yield report(
                messages.SQL_FILE_UNUSABLE, path=file.path, database=file.database, reason=reason
            )


def _list_sql_texts(release: LintedRelease) -> Iterator[SqlText]:
    named = _list_engines(release)
    for file in _list_sql_files(release):
        if (sql := release.read_sql(file.path)) is not None:
            values = {engine: file.check_sql(sql, engine) for engine in file.engines}
            yield SqlText(file.path, file.database, sql, values, bool(named), file)
    manifest = release.manifest
    asked = [(c.name, c.database, sql) for c in manifest.checks for sql in (c.sql, c.sql_after)]
    asked += [
        (m.name, m.database, sql)
        for m in manifest.reference_maps
        for sql in (m.unmapped, m.affected)
    ]
    for name, database, question in asked:
        if question:
            values = {engine: check_query_sql(question, engine) for engine in named or ENGINE_NAMES}
            yield SqlText(name, database, question, values, bool(named))


def _make_syntax_query(text: SqlText) -> SyntaxQuery:
    return text.sql, text.file is not None and text.file.verifies


def _add_syntax_errors(text: SqlText, reported: Mapping[str, Mapping[SyntaxQuery, str]]) -> SqlText:
    """Add syntax errors to the refusals of a text."""
    refusals = dict(text.refusals)
    for engine, refused in text.refusals.items():
        mistake = reported[engine].get(_make_syntax_query(text))
        if refused is None and mistake:
            refusals[engine] = SqlRefusal(RefusalKind.SYNTAX, mistake)
    return replace(text, refusals=refusals)


def check_sql_accepted(release: LintedRelease) -> Iterator[Finding]:
    """Check that sites accept every text."""
    texts = list(_list_sql_texts(release))
    values: dict[str, Mapping[SyntaxQuery, str]] = {}
    for engine in ENGINE_NAMES:
        asked = dict.fromkeys(
            _make_syntax_query(t)
            for t in texts
            if engine in t.refusals and t.refusals[engine] is None
        )
        try:
            values[engine] = find_syntax_errors(engine, asked)
        except SyntaxUncheckedError as error:
            values[engine] = {}
            yield report(
                messages.SYNTAX_UNCHECKED, engine=DIALECTS[engine].title, reason=error.reason
            )
    for text in texts:
        yield from _make_refusal_findings(_add_syntax_errors(text, values))
        if text.file is not None and not any(text.refusals.values()) and _is_empty(text):
            yield report(messages.SQL_EMPTY, path=text.name, database=text.database)


def _is_empty(text: SqlText) -> bool:
    return not any(split_statements(text.sql, engine) for engine in text.refusals)


_REFUSALS: Final = {
    RefusalKind.FORBIDDEN: messages.SQL_FORBIDDEN,
    RefusalKind.NOT_TRANSACTIONAL: messages.SQL_OUTSIDE_TRANSACTION,
    RefusalKind.NOT_SINGLE_STATEMENT: messages.SQL_NOT_ALONE,
    RefusalKind.NOT_A_QUERY: messages.SQL_NO_QUESTION,
    RefusalKind.SYNTAX: messages.SQL_SYNTAX_ERROR,
}


def _make_refusal_findings(text: SqlText) -> Iterator[Finding]:
    by_refusal: dict[SqlRefusal, list[str]] = {}
    for engine, refused in text.refusals.items():
        if refused is not None:
            by_refusal.setdefault(refused, []).append(DIALECTS[engine].title)
    everywhere = all(text.refusals.values())
    severity = Severity.CRITICAL if text.engines_declared or everywhere else Severity.WARNING
    for refused, engines in by_refusal.items():
        values: dict[str, object] = {
            "name": text.name,
            "database": text.database,
            "engines": ", ".join(engines),
            "reason": refused.reason,
        }
        yield report(_REFUSALS[refused.kind], severity, **values)


def check_costs(release: LintedRelease) -> Iterator[Finding]:
    """Report an UPDATE of all rows: PostgreSQL rewrites each row and its index entries."""
    for file in _list_sql_files(release):
        if file.verifies or "postgresql" not in file.engines:
            continue
        for statement in read_statements(release.read_sql(file.path) or "", "postgresql"):
            update = parse_update(statement)
            if update is not None and not {"WHERE", "FROM"} & {*statement.words}:
                yield report(
                    messages.EVERY_ROW_UPDATED,
                    path=file.path,
                    line=statement.line,
                    table=update.table.lower(),
                )


def check_queries(release: LintedRelease) -> Iterator[Finding]:
    """Report missing domain checks, and reference maps whose unmapped rows do not block."""
    manifest = release.manifest
    for item in manifest.reference_maps:
        if not item.strict:
            yield report(messages.UNMAPPED_ROWS_PASS, name=item.name)
    if manifest.databases and any(release.iter_new_migrations()) and not manifest.checks:
        yield report(messages.CHECKS_MISSING)


def check_unmapped_codes(release: LintedRelease) -> Iterator[Finding]:
    """Check that every old code of a reference map occurs, quoted, in a migration of its database.

    The check searches text and does not parse SQL: it finds a forgotten code, but not a wrong
    mapping.
    """
    names = frozenset(release.files)
    for item in release.manifest.reference_maps:
        text = "\n".join(
            release.sql[path].decode("utf-8", errors="replace")
            for database, migration in release.iter_migrations()
            if database == item.database
            for path in list_migration_files(migration, names)[0]
        )
        for code in item.codes:
            if f"'{code}'" not in text:
                yield report(messages.CODE_UNMAPPED, name=item.name, code=code)


def check_down_migrations(release: LintedRelease) -> Iterator[Finding]:
    """Check that down migrations retain the data that users entered, or declare its loss."""
    for database, migration in release.iter_new_migrations():
        declared = {name.lower() for name in migration.data_loss or ()}
        found: dict[tuple[str, bool, bool], DataLoss] = {}
        for loss in _find_data_loss(release, migration):
            found.setdefault(
                (loss.object_name, loss.kind is LossKind.REFUSES, loss.is_release_table), loss
            )
        for loss in found.values():
            if not {loss.object_name, loss.table} & declared:
                values = {"down": migration.down, "database": database, "line": loss.line}
                yield report(get_loss_message(loss), **values, object=loss.object_name)
        if migration.data_loss:
            yield report(
                messages.DECLARED_LOSSES,
                down=migration.down,
                database=database,
                objects=", ".join(migration.data_loss),
            )


def _find_data_loss(release: LintedRelease, migration: Migration) -> Iterator[DataLoss]:
    if migration.down is None:
        return
    for engine in ENGINE_NAMES:
        paths = [fill_engine(engine, place) for place in (migration.up, migration.down)]
        if not all(path in release.files for path in paths):
            continue
        up, down = map(release.read_sql, paths)
        if up is not None and down is not None:
            yield from find_data_loss(up, down, engine)


def get_loss_message(loss: DataLoss) -> ErrorMessage:
    """Return the message for a loss of data by a rollback."""
    if loss.kind is LossKind.REFUSES:
        return messages.ROLLBACK_MAY_FAIL
    if loss.is_release_table:
        return messages.ROLLBACK_RESTORES_OWN_ROWS
    return messages.ROLLBACK_LOSES_DATA
