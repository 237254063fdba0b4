"""Detection of the migration tool from an application's tree. Reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from ncen_updater.formats.sql import ENGINE_NAMES

#: Maximum number of paths that are searched.
MAX_NAMES = 200_000
MAX_FILE_BYTES = 200_000
MAX_RECORD_BYTES = 20_000_000
SKIPPED_DIRECTORIES = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__"}
)
UP, DOWN, VERIFY = ".up.sql", ".down.sql", ".verify.sql"
SETTINGS_MODULE = re.compile(r"DJANGO_SETTINGS_MODULE[\"']\s*,\s*[\"']([\w.]{1,200})[\"']")
DJANGO_FILE = re.compile(r"(.*/)?migrations/[0-9]{4}_\w+\.py")
ALEMBIC_FILE = re.compile(r"(.*/)?versions/[^/]+\.py")
SCRIPT_LOCATION = re.compile(
    r"^script_location[ \t]*[=:][ \t]*(?P<package>[\w.]+):(?P<directory>[\w./-]+)[ \t]*$",
    re.MULTILINE,
)
FLYWAY_FILE = re.compile(r"V[0-9][0-9._]*__[^/]+\.sql")
CHANGELOG = re.compile(r"databaseChangeLog|--\s*liquibase formatted sql")
FLYWAY_REPEATABLE_FILE = re.compile(r"R__[^/]+\.sql")
CHANGELOG_NAME = re.compile(r".*changelog.*\.(xml|ya?ml|json|sql)", re.IGNORECASE)
#: Migration tools of Node by program name: the file that indicates the tool, and its command.
NODE = {
    "knex": ("knexfile.*", "migrate:latest --knexfile {file}"),
    "prisma": ("prisma/schema.prisma", "migrate deploy --schema {file}"),
    "typeorm": ("*data-source.*", "migration:run --dataSource {file}"),
    "sequelize-cli": (".sequelizerc", "db:migrate --url {url}"),
}
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,40}")


class MigratorKind(StrEnum):
    """Migration method of an application."""

    DJANGO = "django"
    ALEMBIC = "alembic"
    FLYWAY = "flyway"
    LIQUIBASE = "liquibase"
    COMMAND = "command"
    SQL = "sql"
    NONE = "none"


@dataclass(frozen=True)
class SqlMigrationFiles:
    """One migration in plain SQL.

    Attributes:
        database: Name of the database according to the directory; empty if unknown.
        id: ID of the migration from its file name.
        up: Path, with ``{engine}`` if there is a directory per engine.
        down: Path of the down migration; None without one.
        verify: Path of the verification query; None without one.
    """

    database: str
    id: str
    up: str
    down: str | None = None
    verify: str | None = None


@dataclass(frozen=True)
class DetectedMigrations:
    """Detected migration method.

    Attributes:
        kind: The method.
        files: Files of the tool: ``manage.py``, ``alembic.ini``, Flyway directories, a changelog.
        settings: Django's settings module; empty if ``manage.py`` does not contain it.
        packages: Directories of the tool's library and of the application's modules.
        program: The program of Flyway or Liquibase; empty if the tree has none.
        pairs: Migrations in plain SQL.
        library: Whether the files are in an installed package, so that the application may have a
            command of its own that is more suitable than the tool.
        command: The application's own command, with ``{url}`` for the database URL.
    """

    kind: MigratorKind
    files: tuple[str, ...] = ()
    settings: str = ""
    packages: tuple[str, ...] = ()
    program: str = ""
    pairs: tuple[SqlMigrationFiles, ...] = ()
    library: bool = False
    command: str = ""


@dataclass
class _TreeNames:
    names: list[str] = field(default_factory=list)

    def find_by_name(self, name: str) -> list[str]:
        """Return the paths with a name, those nearest to the root first."""
        found = [path for path in self.names if PurePosixPath(path).name == name]
        return sorted(found, key=lambda path: (path.count("/"), path))


def use_own_command(directory: Path, command: str) -> DetectedMigrations:
    """Use the application's own command instead of a detected tool.

    Args:
        directory: Tree of the release.
        command: The command line.
    """
    places = _find_package_directories(_TreeNames(sorted(_list_names(directory))))
    return DetectedMigrations(MigratorKind.COMMAND, packages=places, command=command)


def find_node_command(directory: Path) -> str:
    """Return the command of a Node migration tool in the tree; empty without one."""
    for tool, (pattern, words) in NODE.items():
        program = f"node_modules/.bin/{tool}"
        for file in sorted(directory.glob(pattern)) if (directory / program).exists() else ():
            return f"{program} {words.replace('{file}', file.relative_to(directory).as_posix())}"
    return ""


def detect_migrations(directory: Path, wanted: MigratorKind | None = None) -> DetectedMigrations:
    """Detect the migration method of an application.

    Args:
        directory: Tree of the release.
        wanted: The only kind to search; by default the first one found.
    """
    seen = _TreeNames(sorted(_list_names(directory)))
    detectors = {
        MigratorKind.DJANGO: _detect_django,
        MigratorKind.ALEMBIC: _detect_alembic,
        MigratorKind.FLYWAY: _detect_flyway,
        MigratorKind.LIQUIBASE: _detect_liquibase,
        MigratorKind.SQL: _detect_sql,
    }
    for kind, detect in detectors.items():
        if wanted in (None, kind):
            found = detect(directory, seen)
            if found is not None:
                return found
    if wanted is MigratorKind.DJANGO:
        return DetectedMigrations(wanted, packages=_find_packages(seen, "django", ()))
    return DetectedMigrations(wanted or MigratorKind.NONE)


def is_migration_file(path: str) -> bool:
    """Return whether a file is a migration of Django, Alembic or Flyway."""
    name = PurePosixPath(path).name
    if FLYWAY_FILE.fullmatch(name):
        return True
    if name == "__init__.py":
        return False
    return bool(DJANGO_FILE.fullmatch(path) or ALEMBIC_FILE.fullmatch(path))


def is_rerun_changelog(path: str) -> bool:
    """Return whether Liquibase or Flyway runs a file again after it changes."""
    name = PurePosixPath(path).name
    return bool(CHANGELOG_NAME.fullmatch(name) or FLYWAY_REPEATABLE_FILE.fullmatch(name))


def _list_names(directory: Path) -> Iterator[str]:
    left = MAX_NAMES
    for place, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_DIRECTORIES)
        below = Path(place).relative_to(directory)
        for name in sorted(files):
            left -= 1
            if left < 0:
                return
            yield (below / name).as_posix()


def _read_beginning(path: Path, most: int = MAX_FILE_BYTES) -> str:
    """Return the beginning of a file; empty if it is unreadable."""
    try:
        if path.is_symlink() or not path.is_file():
            return ""
        with path.open("rb") as stream:
            return stream.read(most).decode("utf-8", "replace")
    except OSError:
        return ""


def _find_packages(seen: _TreeNames, library: str, files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the directories of a library and of the application's own modules."""
    inits = [p for p in seen.names if p.endswith(f"{library}/__init__.py")]
    places = [
        str(PurePosixPath(p).parents[1]) for p in inits if PurePosixPath(p).parts[-2] == library
    ]
    own = [str(PurePosixPath(path).parent) for path in files]
    shortest = sorted(places, key=lambda place: (place.count("/"), place))[:1]
    return tuple(dict.fromkeys([*own, *shortest]))


def _is_installed(directory: Path, seen: _TreeNames, path: str) -> bool:
    """Return whether pip installed the file: then it belongs to a library, its samples or tests."""
    for record in map(PurePosixPath, seen.find_by_name("RECORD")):
        place = record.parent.parent
        if record.parent.suffix == ".dist-info" and PurePosixPath(path).is_relative_to(place):
            line = f"\n{PurePosixPath(path).relative_to(place)},"
            if line in f"\n{_read_beginning(directory / record, MAX_RECORD_BYTES)}":
                return True
    return False


def _detect_django(directory: Path, seen: _TreeNames) -> DetectedMigrations | None:
    for path in seen.find_by_name("manage.py"):
        value = SETTINGS_MODULE.search(_read_beginning(directory / path))
        if value is not None and not _is_installed(directory, seen, path):
            packages = _find_packages(seen, "django", (path,))
            return DetectedMigrations(MigratorKind.DJANGO, (path,), value[1], packages)
    return None


def _detect_alembic(directory: Path, seen: _TreeNames) -> DetectedMigrations | None:
    found = [
        p
        for p in seen.find_by_name("alembic.ini")
        if "script_location" in _read_beginning(directory / p)
    ]
    if not found:
        return None
    depth = found[0].count("/")
    files = tuple(path for path in found if path.count("/") == depth)
    roots = [_find_package_root(_read_beginning(directory / path), seen) for path in files]
    packages = (*_find_packages(seen, "alembic", files), *filter(None, roots))
    library = any(
        PurePosixPath(path).is_relative_to(place)
        for path in files
        for place in _find_package_directories(seen)
    )
    return DetectedMigrations(
        MigratorKind.ALEMBIC, files, packages=tuple(dict.fromkeys(packages)), library=library
    )


def _find_package_directories(seen: _TreeNames) -> tuple[str, ...]:
    """Return the directories with installed packages, those nearest to the root first."""
    notes = [PurePosixPath(p).parent for p in seen.find_by_name("METADATA")]
    return tuple(dict.fromkeys(str(n.parent) for n in notes if n.suffix == ".dist-info"))


def _find_package_root(ini: str, seen: _TreeNames) -> str | None:
    """Return the directory of the package that contains the migrations of an ``alembic.ini``."""
    value = SCRIPT_LOCATION.search(ini)
    if value is None:
        return None
    place = f"{value['package'].replace('.', '/')}/{value['directory'].strip('/')}/env.py"
    for path in seen.find_by_name("env.py"):
        if path == place or path.endswith(f"/{place}"):
            return path.removesuffix(place).rstrip("/") or "."
    return None


def _find_program(seen: _TreeNames, kind: MigratorKind) -> str:
    """Return the tool's own program, if the tree contains it."""
    return next(iter(seen.find_by_name(kind.value)), "")


def _detect_flyway(directory: Path, seen: _TreeNames) -> DetectedMigrations | None:
    del directory
    places = {
        str(PurePosixPath(path).parent)
        for path in seen.names
        if FLYWAY_FILE.fullmatch(PurePosixPath(path).name)
    }
    if not places:
        return None
    program = _find_program(seen, MigratorKind.FLYWAY)
    return DetectedMigrations(MigratorKind.FLYWAY, tuple(sorted(places)), program=program)


def _detect_liquibase(directory: Path, seen: _TreeNames) -> DetectedMigrations | None:
    for path in sorted(seen.names, key=lambda name: (name.count("/"), name)):
        if CHANGELOG_NAME.fullmatch(PurePosixPath(path).name) and CHANGELOG.search(
            _read_beginning(directory / path)
        ):
            program = _find_program(seen, MigratorKind.LIQUIBASE)
            return DetectedMigrations(MigratorKind.LIQUIBASE, (path,), program=program)
    return None


def _detect_sql(directory: Path, seen: _TreeNames) -> DetectedMigrations | None:
    del directory
    names, pairs = set(seen.names), {}
    for path in seen.names:
        if not path.endswith(UP):
            continue
        stem = path.removesuffix(UP)
        folders = [part if part not in ENGINE_NAMES else "{engine}" for part in stem.split("/")]
        general = "/".join(folders)
        owners = [part for part in folders[:-1] if part != "{engine}"]
        owner = owners[-1] if len(owners) > 1 and IDENTIFIER.fullmatch(owners[-1]) else ""
        identifier = re.sub(r"[^0-9a-z_]+", "_", folders[-1].lower())[:60].strip("_")
        there = {
            end: f"{general}{end}" if f"{stem}{end}" in names else None for end in (DOWN, VERIFY)
        }
        pairs[owner, identifier] = SqlMigrationFiles(
            owner, identifier, f"{general}{UP}", there[DOWN], there[VERIFY]
        )
    if not pairs:
        return None
    return DetectedMigrations(MigratorKind.SQL, pairs=tuple(pairs[key] for key in sorted(pairs)))
