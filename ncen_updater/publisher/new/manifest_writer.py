"""Text of a first manifest from answers; the program that runs the application's migrator."""

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
    """Return the program that runs the application's own migrator on the databases."""
    found = resources.files("ncen_updater.publisher.new") / "templates" / "migrate.py"
    return found.read_bytes()


#: Path in the release of the program that runs the application's own migrator.
MIGRATE_PROGRAM_PATH = "bin/ncen-migrate"
NO_DOWN_MIGRATION = "no down migration yet: write one, or state here why there is none"


@dataclass(frozen=True)
class ManifestAnswers:
    """Answers for the manifest.

    Attributes:
        product: Name of the application in the feed.
        version: Version of the release.
        reports: Version that the application reports.
        upgrade_from: Versions that it may replace; empty for a first release.
        databases: Names of the databases in releases.
        detected: The detected migration tool.
        health: Path that returns status 200 if the application is healthy; empty for none.
        language: Language of the release notes.
        title: Title of the release notes.
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
    """Return the database names found in the tree; by default a name like the product's."""
    named = dict.fromkeys(pair.database for pair in found.pairs if pair.database)
    return tuple(named) or (product.replace("-", "_"),)


def propose_reported_version(version: str) -> str | None:
    """Return the version that the application probably reports, without a build number.

    None if the version has none. A local part (``2.0+7``) is never part of the application's own
    version; a ``post`` part may be.
    """
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None  # the validation of the manifest reports it
    return parsed.public if parsed.local or parsed.is_postrelease else None


def make_manifest(answers: ManifestAnswers) -> str:
    """Return the text of the manifest, after validating it.

    Raises:
        ManifestError: If answers are invalid; names every error.
    """
    text = "\n".join(_make_lines(answers)) + "\n"
    parse_manifest(tomllib.loads(text), "manifest.toml")
    return text


def _make_lines(answers: ManifestAnswers) -> Iterator[str]:
    yield "# Manifest of one release; docs/reference/release-format.md explains every line."
    yield "schema = 1"
    yield f"product = {quote_value(answers.product)}"
    yield f"version = {quote_value(answers.version)}"
    if answers.reports != answers.version:
        reports = quote_value(answers.reports)
        yield f"reports = {reports}     # the application reports no build number"
    if answers.upgrade_from:
        yield f"upgrade_from = {quote_value(answers.upgrade_from)}"
    else:
        yield '# upgrade_from = ">=1.0,<2.0"     # a first release: no site can upgrade to it'
    for name in answers.databases:
        yield from ("", "[[databases]]", f"name = {quote_value(name)}")
        if name == answers.databases[0]:
            yield '# self_managed = ["indexes"]   # objects that the running application changes'
        for pair in _list_sql_files(answers, name):
            yield from _make_migration_lines(pair)
    if answers.detected.kind not in (MigratorKind.SQL, MigratorKind.NONE):
        yield from _make_migrator_lines(answers)
    if answers.databases:
        yield from (
            "",
            "# Compatible releases: an upgrade that changes only the code copies no database.",
            "# This is a promise about everything that the release writes; see release-format.md.",
            "# [compatibility]",
            "# schema_number = 1     # raise it whenever tables or the form of their data change",
            "# compatible_down_to = 1  # releases from this number on also run on its databases",
        )
        yield from (
            "",
            "# Checks of the data, on the copies, before and after the migrations; write some.",
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
            'name = "responds"',
            f"path = {quote_value(answers.health)}",
        )
        yield '# expect = { database = "ok" }   # expected fields of a JSON response'
    yield from ("", f"[notes.{answers.language}]", f"title = {quote_value(answers.title)}")
    yield 'text = ""'


def _list_sql_files(answers: ManifestAnswers, name: str) -> Sequence[SqlMigrationFiles]:
    """Return the SQL files of one database; files without a database belong to the first one."""
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
    argv = [MIGRATE_PROGRAM_PATH, found.kind.value]
    one = len(answers.databases) == 1 and found.kind is MigratorKind.DJANGO
    for name in answers.databases:
        argv += ["--database", f"{name}=default" if one else name]
    for place in found.packages:
        argv += ["--path", place]
    if found.settings:
        argv += ["--settings", found.settings]
    for path in found.files if found.kind is not MigratorKind.DJANGO else ():
        argv += ["--config", path]
    if found.command:
        argv += ["--run", found.command]
    if found.program:
        argv += ["--program", found.program]
    yield from ("", "[migrator]", "argv = [")
    yield from (f"    {quote_value(word)}," for word in argv)
    yield "]"
    yield "timeout_s = 3600"
    name = found.command or found.kind.value
    reason = f"the application's own migrator ({name}) only goes forward"
    yield f"no_rollback_reason = {quote_value(reason)}"
