"""Input of the rules of ``lint``: the release as it was read, and the making of a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.formats.manifest import (
    ENGINE_PLACEHOLDER,
    LANGUAGE_PLACEHOLDER,
    Manifest,
    Migration,
    fill_engine,
)
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.formats.tree import EntryType, Tree


@dataclass(frozen=True)
class LintedRelease:
    """What the rules look at.

    Attributes:
        manifest: Its manifest.
        tree: Its tree.
        files: Digest of every file, by path.
        previous: The newest published release of the product, if any.
        read_bytes: Reads an SQL file by its path; each that it is asked for is there.
        texts: Content of its carried files, by path.
        texts_before: The same of the release before; None where nobody has it at hand.
        files_before: Digest of every file of the release before, by path; None likewise.
        peek: The beginning of any of its files; None where it is not at hand.
    """

    manifest: Manifest
    tree: Tree
    files: dict[str, str]
    previous: ReleaseDocument | None
    read_bytes: Callable[[str], bytes]
    texts: Mapping[str, bytes] = field(default_factory=dict)
    texts_before: Mapping[str, bytes] | None = None
    files_before: Mapping[str, str] | None = None
    peek: Callable[[str], bytes | None] = lambda _path: None

    def iter_migrations(self) -> Iterator[tuple[str, Migration]]:
        """Each migration with its database."""
        for database in self.manifest.databases:
            for migration in database.migrations:
                yield database.name, migration

    def iter_new_migrations(self) -> Iterator[tuple[str, Migration]]:
        """Those that the newest published release does not have."""
        known = list_known_migrations(self.previous)
        for database, migration in self.iter_migrations():
            if migration.id not in known.get(database, ()):
                yield database, migration


def describe_path(path: str) -> LazyText | str:
    """Say of a path of a manifest what its place stands for; other words stay as they are."""
    if " " in path:
        return path
    if ENGINE_PLACEHOLDER in path:
        return LazyText(N_("{path} (per engine)"), {"path": LocalizedFigure(path)})
    if LANGUAGE_PLACEHOLDER in path:
        return LazyText(N_("{path} (per language)"), {"path": LocalizedFigure(path)})
    return path


def list_files(tree: Tree) -> dict[str, str]:
    """Digest of every file of a tree, by path."""
    return {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}


def list_known_migrations(previous: ReleaseDocument | None) -> dict[str, set[str]]:
    """Ids of the migrations of the published release, by database."""
    if previous is None:
        return {}
    return {d.name: {m.id for m in d.migrations} for d in previous.manifest.databases}


def list_migration_content(
    migration: Migration, digests: Mapping[str, str]
) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Path and digest of each of its files, by direction and engine.

    Args:
        migration: The migration.
        digests: SHA-256 of the files of its release, by path.
    """
    places = {"up": migration.up, "down": migration.down, "verify": migration.verify}
    paths = {
        (direction, engine): fill_engine(engine, place)
        for direction, place in places.items()
        for engine in ENGINE_NAMES
        if place
    }
    return {key: (path, digests.get(path)) for key, path in paths.items()}
