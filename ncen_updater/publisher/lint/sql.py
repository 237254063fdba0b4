"""Rules of ``lint`` about SQL: migrations, checks, and maps of reference data.

What a site refuses is decided by :mod:`ncen_updater.formats.sql`, here and there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.formats.dialects import DIALECTS
from ncen_updater.formats.manifest import ENGINE_PLACE, Migration, path_for
from ncen_updater.formats.sql import (
    ENGINES,
    Refusal,
    Why,
    bad_content,
    bad_id,
    question_refusal,
    refusal,
    split,
    verify_refusal,
)
from ncen_updater.publisher.build.build import migration_files
from ncen_updater.publisher.lint.release import LintedRelease, finding
from ncen_updater.publisher.lint.syntax import Asked, Unchecked, mistakes


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
    for database, migration in release.new_migrations():
        reserved = bad_id(migration.id)
        if reserved:
            yield _unusable(migration.up, database, reserved)
    for file in _files(release):
        bad = bad_content(release.read_bytes(file.path))
        if bad:
            yield _unusable(file.path, file.database, bad[0])


def _unusable(path: str, database: str, reason: str) -> Finding:
    return finding(
        7124,
        Severity.STRICT,
        N_("No site can use {path}: {reason}"),
        N_("Save it as plain UTF-8 text, or give the migration another id."),
        path=path,
        database=database,
        reason=Text(reason),
    )


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
            yield finding(
                7126,
                Severity.ADVISORY,
                N_("Nobody looked for mistakes of syntax in the SQL for {engine}: {reason}."),
                N_("Install the package squawk-cli beside this program, or rehearse the release."),
                engine=DIALECTS[engine].title,
                reason=error.reason,
            )
    for text in texts:
        yield from _refused(_with_syntax(text, said))
        if text.file is not None and not any(text.refusals.values()) and _is_empty(text):
            yield finding(
                7114,
                Severity.ADVISORY,
                N_("{path} holds no statement."),
                N_("Write the migration, or take it out of the manifest."),
                path=text.name,
                database=text.database,
            )


def _is_empty(text: SqlText) -> bool:
    return not any(split(text.sql, engine) for engine in text.refusals)


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
        match refused.why:
            case Why.FORBIDDEN:
                what = N_("'{name}' holds what sites on {engines} refuse: {reason}")
                remedy = N_(
                    "Take it out: a migration changes its own database alone, under the role and in"
                    " the transaction that the agent holds."
                )
                yield finding(7111, severity, what, remedy, **values)
            case Why.OUTSIDE:
                what = N_(
                    "'{name}' holds a statement that refuses a transaction."
                    " Sites on {engines}: {reason}"
                )
                remedy = N_(
                    "Write it without CONCURRENTLY: migrations run on a copy that nobody uses."
                    " Else set 'transactional = false' for a migration of its own."
                )
                yield finding(7112, severity, what, remedy, **values)
            case Why.NOT_ALONE:
                what = N_(
                    "'{name}' runs outside a transaction, and sites on {engines} refuse it:"
                    " {reason}"
                )
                remedy = N_("Make a migration of each statement, repeatable by itself.")
                yield finding(7113, severity, what, remedy, **values)
            case Why.NO_QUESTION:
                what = N_("'{name}' is no question, and sites on {engines} refuse it: {reason}")
                remedy = N_("Ask with a SELECT that changes nothing.")
                yield finding(7117, severity, what, remedy, **values)
            case Why.SYNTAX:
                what = N_("{engines} would not understand '{name}': {reason}")
                remedy = N_("Correct the SQL, or give each engine a file of its own.")
                yield finding(7125, severity, what, remedy, **values)


def questions(release: LintedRelease) -> Iterator[Finding]:
    """There is a question about lost records, and unmapped rows stop the upgrade."""
    manifest = release.manifest
    for item in manifest.reference_maps:
        if not item.strict:
            yield finding(
                7118,
                Severity.ADVISORY,
                N_("Rows that '{name}' does not map are reported but do not stop the upgrade."),
                N_("Set 'strict = true', or say in the notes what becomes of such rows."),
                name=item.name,
            )
    if manifest.databases and any(release.new_migrations()) and not manifest.checks:
        yield finding(
            7119,
            Severity.ADVISORY,
            N_("The release changes data and no check asks whether any was lost."),
            N_("Add [[checks]] such as: cases before = cases after."),
        )


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
                yield finding(
                    7123,
                    Severity.STRICT,
                    N_("'{name}': no migration says what becomes of the class {code}."),
                    N_("Map it in a migration, as a quoted value, or take it out of 'codes'."),
                    name=item.name,
                    code=code,
                )
