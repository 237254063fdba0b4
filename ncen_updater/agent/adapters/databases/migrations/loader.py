"""From a manifest and a verified slot to a :class:`MigrationSet`: every file looked at once."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import MigrationSet, SqlMigration
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import MIGRATION_FILE_BAD
from ncen_updater.formats.manifest import Manifest, Migration, fill_engine
from ncen_updater.formats.sql import MAX_FILE_BYTES, check_file_content


def load_migrations(
    manifest: Manifest, slot: Path, engine: str, digests: Mapping[str, str] | None
) -> MigrationSet:
    """Resolve, check and hash every migration file of a release.

    Args:
        manifest: The release's manifest.
        slot: Directory of the release.
        engine: What is put in the place of ``{engine}``.
        digests: SHA-256 by path, from the signed release document; None only where the files are
            the author's own (building, linting).

    Raises:
        MIGRATION_FILE_BAD: A file is missing, not a plain file inside the slot, too large, not
            UTF-8,
            or not the one that was signed.
    """
    files = _ReleaseFiles(manifest.version, slot, engine, digests)
    return MigrationSet(
        release=manifest.version,
        slot=slot,
        databases={
            database.name: tuple(files.load_migration(item) for item in database.migrations)
            for database in manifest.databases
        },
        migrator=manifest.migrator,
        compatibility=manifest.compatibility,
    )


class _ReleaseFiles:
    def __init__(
        self, release: str, slot: Path, engine: str, digests: Mapping[str, str] | None
    ) -> None:
        self._release = release
        self._slot = slot
        self._engine = engine
        self._digests = digests

    def load_migration(self, item: Migration) -> SqlMigration:
        up, up_sha256 = self._read_file(item.up)
        down, down_sha256 = self._read_file(item.down) if item.down else (None, None)
        verify, verify_sha256 = self._read_file(item.verify) if item.verify else (None, None)
        return SqlMigration(item, up, down, verify, up_sha256, down_sha256, verify_sha256)

    def _read_file(self, place: str) -> tuple[Path, str]:
        inside = fill_engine(self._engine, place)
        path = self._slot / inside
        try:
            info = path.lstat()
            # A link is not resolved: one that leads to itself would end in an error of its own.
            plain = stat.S_ISREG(info.st_mode)
            outside = plain and not path.resolve().is_relative_to(self._slot.resolve())
        except (OSError, ValueError) as error:
            raise self._file_error(inside, N_("file not found"), str(error)) from error
        if outside or not plain:
            raise self._file_error(inside, N_("not a regular file inside the release"))
        if info.st_size > MAX_FILE_BYTES:
            raise self._file_error(
                inside, N_("file too large"), f"{info.st_size} > {MAX_FILE_BYTES}"
            )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._file_error(inside, N_("cannot be read"), str(error)) from error
        bad = check_file_content(content)
        if bad:
            raise self._file_error(inside, *bad)
        digest = hashlib.sha256(content).hexdigest()
        if self._digests is not None and self._digests.get(inside) != digest:
            raise self._file_error(inside, N_("digest mismatch"), digest)
        return path, digest

    def _file_error(self, path: str, reason: str, detail: str | None = None) -> DatabaseError:
        return DatabaseError(
            MIGRATION_FILE_BAD,
            path=path,
            release=self._release,
            reason=LazyText(reason),
            detail=detail,
        )
