"""A release as the rules of ``lint`` see it, and their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ncen_updater.common.findings import Finding, Severity, report_finding
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.messages import ErrorMessage
from ncen_updater.formats.manifest import (
    ENGINE_PLACEHOLDER,
    LANGUAGE_PLACEHOLDER,
    Manifest,
    Migration,
    fill_engine,
)
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.sql import ENGINE_NAMES, check_file_content
from ncen_updater.formats.tree import Tree
from ncen_updater.publisher.build.release_build import list_files


def report(message: ErrorMessage, severity: Severity | None = None, /, **values: object) -> Finding:
    """Make a finding; its figures have the paths as in the manifest.

    Args:
        message: Message of the finding.
        severity: Another severity than the usual one.
        **values: Values of the templates.
    """
    shown = {key: describe_path(v) if isinstance(v, str) else v for key, v in values.items()}
    return replace(report_finding(message, severity, **shown), figures=values)


@dataclass(frozen=True)
class PreviousRelease:
    """The release with which a release is compared.

    Attributes:
        document: Its release document.
        tree: Its tree; None if not available.
        texts: Content of its overlay files, by path; None if not available.
    """

    document: ReleaseDocument
    tree: Tree | None = None
    texts: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class LintedRelease:
    """A release as the rules see it.

    Attributes:
        manifest: Its manifest.
        tree: Its tree.
        sql: Content of its SQL files, by path.
        texts: Content of its overlay files, by path.
        previous: The newest published release of the product, if any.
        peek: Returns the first bytes of a file of the release; None if not available.
    """

    manifest: Manifest
    tree: Tree
    sql: Mapping[str, bytes]
    texts: Mapping[str, bytes]
    previous: PreviousRelease | None = None
    peek: Callable[[str], bytes | None] = lambda _path: None

    @cached_property
    def files(self) -> dict[str, str]:
        """Return the digest of every file, by path."""
        return list_files(self.tree)

    @property
    def before(self) -> Manifest | None:
        """Return the manifest of the previous release, if any."""
        return self.previous.document.manifest if self.previous else None

    @property
    def texts_before(self) -> Mapping[str, bytes] | None:
        """Return the overlay files of the previous release, by path; None if not available."""
        return self.previous.texts if self.previous else None

    def read_sql(self, path: str) -> str | None:
        """Return the text of an SQL file; None if every site refuses its content."""
        return None if check_file_content(self.sql[path]) else self.sql[path].decode("utf-8")

    def iter_migrations(self) -> Iterator[tuple[str, Migration]]:
        """Yield each migration with its database."""
        for database in self.manifest.databases:
            for migration in database.migrations:
                yield database.name, migration

    def iter_new_migrations(self) -> Iterator[tuple[str, Migration]]:
        """Yield the migrations that the newest published release does not have."""
        known = list_known_migrations(self.before)
        for database, migration in self.iter_migrations():
            if migration.id not in known.get(database, ()):
                yield database, migration


def describe_path(path: str) -> LazyText | str:
    """Return a path of a manifest with an explanation of its placeholder, if it has one.

    A text with a space is no path, and is returned unchanged.
    """
    if " " in path:
        return path
    if ENGINE_PLACEHOLDER in path:
        return LazyText(N_("{path} (per engine)"), {"path": LocalizedFigure(path)})
    if LANGUAGE_PLACEHOLDER in path:
        return LazyText(N_("{path} (per language)"), {"path": LocalizedFigure(path)})
    return path


def list_known_migrations(before: Manifest | None) -> dict[str, set[str]]:
    """Return the ids of the published release's migrations, by database."""
    databases = before.databases if before else ()
    return {database.name: {m.id for m in database.migrations} for database in databases}


def list_migration_content(
    migration: Migration, digests: Mapping[str, str]
) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Return path and digest of each file of a migration, by direction and engine.

    Args:
        migration: The migration.
        digests: SHA-256 of the files of its release, by path.
    """
    sources = {"up": migration.up, "down": migration.down, "verify": migration.verify}
    paths = {
        (direction, engine): fill_engine(engine, source)
        for direction, source in sources.items()
        for engine in ENGINE_NAMES
        if source
    }
    return {key: (path, digests.get(path)) for key, path in paths.items()}
