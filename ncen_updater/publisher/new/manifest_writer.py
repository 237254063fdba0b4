"""The first manifest of a release, from answers, and the program that runs its own migrator."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from packaging.version import InvalidVersion, Version

from ncen_updater.common.toml_writer import quote_value
from ncen_updater.formats.manifest import parse_manifest
from ncen_updater.publisher.new.migration_detection import (
    DetectedMigrations,
    MigratorKind,
    SqlMigrationFiles,
)


def read_migrate_program() -> bytes:
    """Read the program that runs the application's own migrator on the databases."""
    found = resources.files("ncen_updater.publisher.new") / "templates" / "migrate.py"
    return found.read_bytes()


#: Where the program that runs the application's own migrator is put.
MIGRATE_PROGRAM_PATH = "bin/ncen-migrate"
NO_DOWN_MIGRATION = "no down migration was written yet: write one, or state here why there is none"


@dataclass(frozen=True)
class ManifestAnswers:
    """What the manifest is made of.

    Attributes:
        product: What the feed calls the application.
        version: Of the release.
        reports: What the application says that it is.
        upgrade_from: Over which versions it may be installed; empty for a first one.
        databases: Their names in releases.
        detected: How they are migrated.
        health: A path that answers with status 200 when all is well; empty for none.
        language: Of the notes.
        title: Of the notes.
    """

    product: str
    version: str
    reports: str
    upgrade_from: str
    databases: tuple[str, ...]
    detected: DetectedMigrations
    health: str
    language: str
    title: str


def propose_databases(product: str, found: DetectedMigrations) -> tuple[str, ...]:
    """Names of databases that the tree speaks of; one like the product where it names none."""
    named = dict.fromkeys(pair.database for pair in found.pairs if pair.database)
    return tuple(named) or (product.replace("-", "_"),)


def propose_reported_version(version: str) -> str | None:
    """Propose the version that the application reports if the given one has a build number.

    A local part (``2.0+7``) is by its definition not the application's own; what comes after a
    ``post`` may be either's.
    """
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None  # the manifest's own check says it better
    return parsed.public if parsed.local or parsed.is_postrelease else None


def make_manifest(answers: ManifestAnswers) -> str:
    """Write it; what it says is checked as every manifest is.

    Raises:
        ManifestError: If an answer cannot stand in a manifest; every mistake is named.
    """
    text = "\n".join(_make_lines(answers)) + "\n"
    parse_manifest(tomllib.loads(text), "manifest.toml")
    return text


def _make_lines(answers: ManifestAnswers) -> Iterator[str]:
    yield "# What one release is: docs/reference/release-format.md explains every line."
    yield "schema = 1"
    yield f"product = {quote_value(answers.product)}"
    yield f"version = {quote_value(answers.version)}"
    if answers.reports != answers.version:
        reports = quote_value(answers.reports)
        yield f"reports = {reports}     # the application knows of no build number"
    if answers.upgrade_from:
        yield f"upgrade_from = {quote_value(answers.upgrade_from)}"
    else:
        yield '# upgrade_from = ">=1.0,<2.0"     # a first release: no site can upgrade to it'
    for name in answers.databases:
        yield from ("", "[[databases]]", f"name = {quote_value(name)}")
        if name == answers.databases[0]:
            yield '# self_managed = ["indexes"]   # what the application changes by itself'
        for pair in _list_sql_files(answers, name):
            yield from _make_migration_lines(pair)
    if answers.detected.kind not in (MigratorKind.SQL, MigratorKind.NONE):
        yield from _make_migrator_lines(answers)
    if answers.databases:
        yield from (
            "",
            "# Which databases go with this release: where only the code changes, none is copied.",
            "# It is a promise about all that it writes: docs/reference/release-format.md.",
            "# [compatibility]",
            "# schema_number = 1     # raise it with every change of what stands in the tables",
            "# compatible_down_to = 1  # releases from this number on run on databases of this one",
        )
        yield from (
            "",
            "# What the data mean, asked on the copies before and after; write some of these.",
            "# [[checks]]",
            '# name = "records before = records after"',
            f"# database = {quote_value(answers.databases[0])}",
            '# sql = "SELECT count(*) FROM ..."',
            '# relation = "equal"',
        )
    if answers.health:
        yield from (
            "",
            "[[health]]",
            'name = "it answers"',
            f"path = {quote_value(answers.health)}",
        )
        yield '# expect = { database = "ok" }   # fields of its answer, where that is JSON'
    yield from ("", f"[notes.{answers.language}]", f"title = {quote_value(answers.title)}")
    yield 'text = ""'


def _list_sql_files(answers: ManifestAnswers, name: str) -> Sequence[SqlMigrationFiles]:
    """List the plain SQL of one database; files of no database belong to the first one."""
    rest = name == answers.databases[0]
    return [
        pair
        for pair in answers.detected.pairs
        if pair.database == name or (rest and pair.database not in answers.databases)
    ]


def _make_migration_lines(pair: SqlMigrationFiles) -> Iterator[str]:
    yield from ("", "[[databases.migrations]]", f"id = {quote_value(pair.id)}")
    yield f"up = {quote_value(pair.up)}"
    if pair.down is not None:
        yield f"down = {quote_value(pair.down)}"
    else:
        yield f"irreversible = {quote_value(NO_DOWN_MIGRATION)}"
    if pair.verify is not None:
        yield f"verify = {quote_value(pair.verify)}"


def _make_migrator_lines(answers: ManifestAnswers) -> Iterator[str]:
    found = answers.detected
    words = [MIGRATE_PROGRAM_PATH, found.kind.value]
    one = len(answers.databases) == 1 and found.kind is MigratorKind.DJANGO
    for name in answers.databases:
        words += ["--database", f"{name}=default" if one else name]
    for place in found.packages:
        words += ["--path", place]
    if found.settings:
        words += ["--settings", found.settings]
    for path in found.files if found.kind is not MigratorKind.DJANGO else ():
        words += ["--config", path]
    if found.command:
        words += ["--run", found.command]
    if found.program:
        words += ["--program", found.program]
    yield from ("", "[migrator]", "argv = [")
    yield from (f"    {quote_value(word)}," for word in words)
    yield "]"
    yield "timeout_s = 3600"
    name = found.command or found.kind.value
    reason = f"the application's own migrator ({name}) only goes forward"
    yield f"no_rollback_reason = {quote_value(reason)}"
