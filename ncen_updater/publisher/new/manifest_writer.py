"""Text of a first manifest from answers; the program that runs the application's migrator."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
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
    """

    product: str
    version: str
    reports: str
    upgrade_from: str
    databases: tuple[str, ...]
    detected: DetectedMigrations
    health: str
    language: str


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
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - not HTML
        loader=PackageLoader("ncen_updater.publisher.new"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["quote"] = quote_value
    found, values = answers.detected, vars(answers)
    text = environment.get_template("manifest.toml").render(
        values
        | {
            "databases": {name: _list_sql_files(answers, name) for name in answers.databases},
            "migrator": _make_migrator_words(answers),
            "migrator_name": found.command or found.kind.value,
        }
    )
    parse_manifest(tomllib.loads(text), "manifest.toml")
    return text


def _list_sql_files(answers: ManifestAnswers, name: str) -> Sequence[SqlMigrationFiles]:
    """Return the SQL files of one database; files without a database belong to the first one."""
    rest = name == answers.databases[0]
    return [
        pair
        for pair in answers.detected.pairs
        if pair.database == name or (rest and pair.database not in answers.databases)
    ]


def _make_migrator_words(answers: ManifestAnswers) -> list[str]:
    """Return the command line of the migrator; empty without one."""
    found = answers.detected
    if found.kind in (MigratorKind.SQL, MigratorKind.NONE):
        return []
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
    return argv
