"""Rules of ``lint`` about SQL: migrations, ways down, checks, and maps of reference data.

What a site refuses is decided by :mod:`ncen_updater.formats.sql`, here and there; what a way down
does not keep, by :mod:`ncen_updater.formats.losses`. Plain mistakes of syntax, which a site would
only find while it runs, are judged without a server by other programs, in their own words.
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

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.dialects import DIALECTS
from ncen_updater.formats.dialects.base import Statement
from ncen_updater.formats.losses import How, Loss, losses
from ncen_updater.formats.manifest import ENGINE_PLACE, Migration, path_for
from ncen_updater.formats.sql import (
    ENGINES,
    Refusal,
    Why,
    bad_content,
    counting,
    question_refusal,
    refusal,
    split,
    verify_refusal,
)
from ncen_updater.publisher.build.build import migration_files
from ncen_updater.publisher.lint import rules
from ncen_updater.publisher.lint.release import LintedRelease

#: A text, and whether it is a ``verify`` file, of whose statements the rows are counted.
Asked = tuple[str, bool]

SECONDS: Final = 120.0
# What the library says about the text alone, and not about tables that are not there.
_OF_THE_TEXT: Final = re.compile(r"syntax error|incomplete input|unrecognized token")
_NO_TABLE: Final = re.compile(r"no such table: (?:\w+\.)?(?P<name>.+)", re.DOTALL)


class Unchecked(Exception):
    """That nobody has looked at the syntax, and why."""

    def __init__(self, reason: Text) -> None:
        super().__init__(reason)
        self.reason = reason


def _sqlite_mistakes(asked: Collection[Asked]) -> dict[Asked, str]:
    found = {(sql, verifies): _sqlite_mistake(sql, verifies=verifies) for sql, verifies in asked}
    return {item: said for item, said in found.items() if said is not None}


def _sqlite_mistake(sql: str, *, verifies: bool) -> str | None:
    """The first mistake: every statement is compiled in an empty database, and none is run."""
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in split(sql, "sqlite"):
            text = counting(statement) if verifies else statement.text
            said = _compile(database, replace(statement, text=text))
            if said is not None:
                return f"line {statement.line}: {said}"
    return None


def _compile(database: sqlite3.Connection, statement: Statement) -> str | None:
    explain = "" if statement.words[:1] == ("EXPLAIN",) else "EXPLAIN "
    try:
        database.execute(f"{explain}{statement.text}")
    except sqlite3.OperationalError as error:
        missing = _NO_TABLE.match(str(error))
        if missing and "TRIGGER" in statement.words[:3]:
            # The body of a trigger is looked at only where its table is.
            name = missing["name"].replace('"', '""')
            with contextlib.suppress(sqlite3.Error):  # no table can have that name, or it is there
                database.execute(f'CREATE TABLE "{name}" (x)')
                return _compile(database, statement)
            return None
        return str(error) if _OF_THE_TEXT.search(str(error)) else None
    except sqlite3.Error:
        return None  # not about the text alone: a rehearsal tells
    return None


def _postgresql_mistakes(asked: Collection[Asked]) -> dict[Asked, str]:
    texts = dict.fromkeys(sql for sql, _ in asked)
    numbered = {f"{number}.sql": text for number, text in enumerate(texts)}
    if not numbered:
        return {}
    program = _squawk()
    if program is None:
        raise Unchecked(Text(N_("squawk is not installed")))
    with tempfile.TemporaryDirectory() as directory:
        for name, text in numbered.items():
            Path(directory, name).write_text(text, "utf-8", newline="")
        # Its rules about style are not ours, and no file of somebody's may switch this one off.
        argv = [str(program), "--config", os.devnull, "--reporter", "json", *numbered]
        try:
            done = subprocess.run(
                argv, cwd=directory, env={}, capture_output=True, timeout=SECONDS, check=False
            )
            found = json.loads(done.stdout)
            mistakes: dict[str, str] = {}
            for item in found:
                if item["rule_name"] == "syntax-error":
                    said = f"line {int(item['line']) + 1}: syntax error: {item['message']}"
                    mistakes.setdefault(numbered[Path(item["file"]).name], said)
        except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
            told = Text(N_("squawk did not answer ({detail})"), {"detail": error})
            raise Unchecked(told) from error
    return {item: mistakes[item[0]] for item in asked if item[0] in mistakes}


def _squawk() -> Path | None:
    """Return the program of the package squawk-cli; whatever else has its name is none of ours."""
    try:
        files = metadata.distribution("squawk-cli").files or []
    except metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == "squawk")
    return next((place for place in places if os.access(place, os.X_OK)), None)


#: Who knows an engine's syntax; of another engine nobody says anything.
_JUDGES: Final[Mapping[str, Callable[[Collection[Asked]], dict[Asked, str]]]] = {
    "postgresql": _postgresql_mistakes,
    "sqlite": _sqlite_mistakes,
}


def mistakes(engine: str, asked: Collection[Asked]) -> dict[Asked, str]:
    """Return the first mistake of each text that has one, with its line.

    Args:
        engine: For which it is.
        asked: The texts.

    Raises:
        Unchecked: The program that knows is not installed, or did not answer.
    """
    judge = _JUDGES.get(engine)
    return judge(asked) if judge is not None and asked else {}


@dataclass(frozen=True)
class SqlText:
    """One text that sites run, and what they say to it.

    Attributes:
        name: Path of the file, or name of the check.
        database: Where it runs.
        sql: The text.
        refusals: By each engine it is for; None where it runs.
        certain: Whether the release is for all of these engines: else nobody can tell, and that
            one of them refuses is left to the officer.
        file: The file that it is; None where it is a question.
    """

    name: str
    database: str
    sql: str
    refusals: Mapping[str, Refusal | None]
    certain: bool
    file: SqlFile | None = None


def _engines(release: LintedRelease) -> tuple[str, ...]:
    """The engines that the release is for, as far as it has files for them by name; else none."""
    places = {m.up for _, m in release.migrations() if ENGINE_PLACE in m.up}
    return tuple(
        engine
        for engine in ENGINES
        if any(path_for(engine, place) in release.files for place in places)
    )


@dataclass(frozen=True)
class SqlFile:
    """A file of a new migration that is there, and the engines that would run it."""

    database: str
    migration: Migration
    path: str
    engines: tuple[str, ...]
    verifies: bool

    def refusal(self, sql: str, engine: str) -> Refusal | None:
        """What a site with this engine says."""
        if self.verifies:
            return verify_refusal(sql, engine)
        return refusal(sql, engine, transactional=self.migration.transactional)


def _files(release: LintedRelease) -> Iterator[SqlFile]:
    named = _engines(release) or ENGINES
    for database, migration in release.new_migrations():
        supported = [e for e in named if path_for(e, migration.up) in release.files]
        for place in filter(None, (migration.up, migration.down, migration.verify)):
            paths: dict[str, list[str]] = {}
            for engine in supported:
                paths.setdefault(path_for(engine, place), []).append(engine)
            for path in (path for path in paths if path in release.files):
                engines = tuple(paths[path])
                yield SqlFile(database, migration, path, engines, place == migration.verify)


def unreadable_files(release: LintedRelease) -> Iterator[Finding]:
    """What no site takes up, whatever it says."""
    for file in _files(release):
        bad = bad_content(release.read_bytes(file.path))
        if bad:
            yield _unusable(file.path, file.database, bad[0])


def _unusable(path: str, database: str, reason: str) -> Finding:
    return rules.SQL_FILE_UNUSABLE.report(path=path, database=database, reason=Text(reason))


def _texts(release: LintedRelease) -> Iterator[SqlText]:
    named = _engines(release)
    for file in _files(release):
        content = release.read_bytes(file.path)
        if not bad_content(content):
            sql = content.decode("utf-8")
            said = {engine: file.refusal(sql, engine) for engine in file.engines}
            yield SqlText(file.path, file.database, sql, said, bool(named), file)
    manifest = release.manifest
    asked = [(c.name, c.database, sql) for c in manifest.checks for sql in (c.sql, c.sql_after)]
    asked += [
        (m.name, m.database, sql)
        for m in manifest.reference_maps
        for sql in (m.unmapped, m.affected)
    ]
    for name, database, question in asked:
        if question:
            said = {engine: question_refusal(question, engine) for engine in named or ENGINES}
            yield SqlText(name, database, question, said, bool(named))


def _asked(text: SqlText) -> Asked:
    return text.sql, text.file is not None and text.file.verifies


def _with_syntax(text: SqlText, said: Mapping[str, Mapping[Asked, str]]) -> SqlText:
    """Add what is no SQL at all to what was refused."""
    refusals = dict(text.refusals)
    for engine, refused in text.refusals.items():
        mistake = said[engine].get(_asked(text))
        if refused is None and mistake:
            refusals[engine] = Refusal(Why.SYNTAX, mistake)
    return replace(text, refusals=refusals)


def sql_is_accepted(release: LintedRelease) -> Iterator[Finding]:
    """Every text is one that sites run."""
    texts = list(_texts(release))
    said: dict[str, Mapping[Asked, str]] = {}
    for engine in ENGINES:
        asked = dict.fromkeys(_asked(t) for t in texts if t.refusals.get(engine, t) is None)
        try:
            said[engine] = mistakes(engine, asked)
        except Unchecked as error:
            said[engine] = {}
            yield rules.SYNTAX_UNCHECKED.report(engine=DIALECTS[engine].title, reason=error.reason)
    for text in texts:
        yield from _refused(_with_syntax(text, said))
        if text.file is not None and not any(text.refusals.values()) and _is_empty(text):
            yield rules.SQL_EMPTY.report(path=text.name, database=text.database)


def _is_empty(text: SqlText) -> bool:
    return not any(split(text.sql, engine) for engine in text.refusals)


_REFUSALS: Final = {
    Why.FORBIDDEN: rules.SQL_FORBIDDEN,
    Why.OUTSIDE: rules.SQL_OUTSIDE_TRANSACTION,
    Why.NOT_ALONE: rules.SQL_NOT_ALONE,
    Why.NO_QUESTION: rules.SQL_NO_QUESTION,
    Why.SYNTAX: rules.SQL_SYNTAX_ERROR,
}


def _refused(text: SqlText) -> Iterator[Finding]:
    by_refusal: dict[Refusal, list[str]] = {}
    for engine, refused in text.refusals.items():
        if refused is not None:
            by_refusal.setdefault(refused, []).append(DIALECTS[engine].title)
    everywhere = all(text.refusals.values())
    severity = Severity.STRICT if text.certain or everywhere else Severity.ADVISORY
    for refused, engines in by_refusal.items():
        values: dict[str, object] = {
            "name": text.name,
            "database": text.database,
            "engines": ", ".join(engines),
            "reason": refused.reason,
        }
        yield _REFUSALS[refused.why].report(severity, **values)


def questions(release: LintedRelease) -> Iterator[Finding]:
    """There is a question about lost records, and unmapped rows stop the upgrade."""
    manifest = release.manifest
    for item in manifest.reference_maps:
        if not item.strict:
            yield rules.UNMAPPED_ROWS_PASS.report(name=item.name)
    if manifest.databases and any(release.new_migrations()) and not manifest.checks:
        yield rules.CHECKS_MISSING.report()


def unmapped_codes(release: LintedRelease) -> Iterator[Finding]:
    """Every old code of a map stands, quoted, in a migration of its database.

    This reads text and does not understand SQL: it finds the class that was forgotten, and not the
    one that is mapped to the wrong place.
    """
    names = frozenset(release.files)
    for item in release.manifest.reference_maps:
        said = "\n".join(
            release.read_bytes(path).decode("utf-8", errors="replace")
            for database, migration in release.migrations()
            if database == item.database
            for path in migration_files(migration, names)[0]
        )
        for code in item.codes:
            if f"'{code}'" not in said:
                yield rules.CODE_UNMAPPED.report(name=item.name, code=code)


def ways_down(release: LintedRelease) -> Iterator[Finding]:
    """A way down keeps what was entered, or the release says what it does not keep."""
    for database, migration in release.new_migrations():
        declared = {name.lower() for name in migration.loses or ()}
        found: dict[tuple[str, bool, bool], Loss] = {}
        for loss in _losses(release, migration):
            found.setdefault((loss.object, loss.how is How.REFUSES, loss.own), loss)
        for loss in found.values():
            if not {loss.object, loss.table} & declared:
                yield _found(database, migration, loss)
        if migration.loses:
            yield rules.DECLARED_LOSSES.report(
                down=migration.down, database=database, objects=", ".join(migration.loses)
            )


def _losses(release: LintedRelease, migration: Migration) -> Iterator[Loss]:
    if migration.down is None:
        return
    for engine in ENGINES:
        paths = [path_for(engine, place) for place in (migration.up, migration.down)]
        if not all(path in release.files for path in paths):
            continue
        contents = [release.read_bytes(path) for path in paths]
        if not any(bad_content(content) for content in contents):
            up, down = (content.decode("utf-8") for content in contents)
            yield from losses(up, down, engine)


def _found(database: str, migration: Migration, loss: Loss) -> Finding:
    values: dict[str, object] = {
        "down": migration.down,
        "database": database,
        "object": loss.object,
        "line": loss.line,
    }
    if loss.how is How.REFUSES:
        return rules.ROLLBACK_MAY_FAIL.report(**values)
    rule = rules.ROLLBACK_RESTORES_OWN_ROWS if loss.own else rules.ROLLBACK_LOSES_DATA
    return rule.report(**values)
