"""Slots of a site: built completely or not at all, compared with their records, never edited.

On the disk during a build: ``<version>.partial`` (worthless, removed by the next attempt), then the
record, then the slot under its own name. A name without a suffix and with a record is always a
complete slot: the slot gets its name by one rename after everything was flushed, and an adopted
directory is verified before its record is written. A removal first renames the slot
(``<version>.removing``) and removes the record last.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.model.errors import SlotModifiedError
from ncen_updater.agent.storage.slots.link import (
    parse_slot_name,
    read_current_version,
    read_reported_version,
    switch_current,
)
from ncen_updater.agent.storage.slots.records import SlotRecords
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    SLOT_ERROR,
    SLOT_IN_USE,
    SLOT_MISSING,
    SLOT_NO_SPACE,
    SLOT_NOT_WRITTEN,
)
from ncen_updater.common.progress import Amount, ProgressListener, SilentProgress, Unit
from ncen_updater.formats.release_document import ReleaseDocument
from ncen_updater.formats.tree import (
    WRITE_BITS,
    EntryType,
    Tree,
    TreeEntry,
    get_sealed_mode,
    hash_file,
)

logger = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"
REMOVING_SUFFIX = ".removing"
MAX_DIFFERENCES_SHOWN = 5
PROGRESS_BYTES = 8 << 20


@contextlib.contextmanager
def _translate_disk_errors(version: Version, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = SLOT_NO_SPACE if is_full else SLOT_NOT_WRITTEN
        raise UpdaterError(message, version=version, path=path, detail=str(error)) from error


class SlotStore:
    """Store of the slots under one directory, and of the link that selects one.

    Args:
        slots: Directory of the slots.
        current: The link.
    """

    def __init__(self, slots: Path, current: Path) -> None:
        self._slots = slots
        self._current = current
        self._records = SlotRecords(slots)

    # ---- read operations -----------------------------------------------------------------------

    @property
    def slots_directory(self) -> Path:
        """Return the directory of the slots."""
        return self._slots

    @property
    def current_link(self) -> Path:
        """Return the link that selects the slot in use."""
        return self._current

    def list_versions(self) -> tuple[Version, ...]:
        """Return every complete slot with a record, oldest version first."""
        names = (parse_slot_name(item.name) for item in self._list_entries() if item.is_dir())
        return tuple(sorted(v for v in names if v is not None and self._records.exists(v)))

    def list_leftovers(self) -> tuple[Path, ...]:
        """Return the worthless remains of interrupted builds and removals."""
        return tuple(
            sorted(
                item
                for item in self._list_entries()
                if item.name.endswith((PARTIAL_SUFFIX, REMOVING_SUFFIX))
                and not item.name.startswith(".")
            )
        )

    def read_current(self) -> Version | None:
        """Return the version in use; None if none was selected yet.

        Raises:
            CURRENT_LINK_INVALID: If the target of the link is not the path of a slot.
        """
        return read_current_version(self._slots, self._current)

    def get_slot_directory(self, version: Version) -> Path:
        """Return the directory of a slot, whether it exists or not."""
        return self._slots / str(version)

    def is_built(self, version: Version, tree_digest: str) -> bool:
        """Tell whether there is a complete slot of this version whose record names this tree.

        Raises:
            SlotRecordError: If the record is damaged.
        """
        if not self.get_slot_directory(version).is_dir() or not self._records.exists(version):
            return False
        return self._records.read_document(version).tree_digest == tree_digest

    def read_document(self, version: Version) -> ReleaseDocument:
        """Return the release document of a slot.

        Raises:
            SlotRecordError: If the record is missing or damaged.
        """
        return self._records.read_document(version)

    def read_reported_version(self, version: Version) -> str:
        """Return the version string that a slot's application reports, else the version."""
        return read_reported_version(self._slots, version)

    def read_tree(self, version: Version) -> Tree:
        """Return the complete tree of a slot.

        Raises:
            SlotRecordError: If the record is missing or damaged.
        """
        return self._records.read_tree(version)

    def verify_slot(
        self, version: Version, progress: ProgressListener | None = None, *, full: bool = True
    ) -> tuple[SlotDifference, ...]:
        """Compare a slot with its record; empty if every path is as released.

        Args:
            version: Version of the slot.
            progress: Receives the number of bytes read.
            full: Hash every file; otherwise compare types, sizes, modes and links only.

        Raises:
            SLOT_MISSING: If the slot does not exist.
            SlotRecordError: If the record is missing or damaged.
            SLOT_ERROR: If a path in it cannot be read.
        """
        directory = self.get_slot_directory(version)
        if not directory.is_dir():
            raise UpdaterError(SLOT_MISSING, version=version, slots=self._slots)
        total = self._records.read_document(version).unpacked_bytes
        entries = self._records.iter_entries(version)
        on_bytes = _make_byte_reporter(
            progress or SilentProgress(), N_("Verifying release {version}"), version, total
        )
        try:
            return tuple(compare_tree(directory, entries, check_content=full, on_bytes=on_bytes))
        except OSError as error:
            raise UpdaterError(SLOT_ERROR, path=directory, detail=str(error)) from error

    # ---- write operations (idempotent) ---------------------------------------------------------

    def build_slot(
        self, document: ReleaseDocument, tree: Tree, archive: Path, progress: ProgressListener
    ) -> None:
        """Build the slot of a release from its verified archive.

        Does nothing if the slot exists and every file is correct; rebuilds it if a file is damaged,
        unless the slot is in use.

        Raises:
            SLOT_IN_USE: If it is damaged and in use.
            SlotModifiedError: If the directory contains another release, or the archive other
                files.
            SLOT_NO_SPACE: If the disk is full; written files are removed.
            SLOT_NOT_WRITTEN: If a write fails.
            UpdaterError: If the archive is refused.
        """
        from ncen_updater.formats.archive import unpack_archive

        def fill(place: Path) -> Tree:
            unpack_archive(archive, tree, place, progress)
            return tree

        self.assemble_slot(document, fill, progress, check_content=True)

    def assemble_slot(
        self,
        document: ReleaseDocument,
        fill: Callable[[Path], Tree],
        progress: ProgressListener,
        *,
        check_content: bool,
    ) -> None:
        """Build a slot whose files are written by ``fill``; see :meth:`build_slot`.

        The tree is compared with the document's digest, then the paths on the disk with the tree.

        Args:
            document: The release document.
            fill: Gets an empty directory; returns the tree that it made there.
            progress: Receives the number of verified bytes.
            check_content: Whether to hash every file; not needed if ``fill`` returns the digests of
                the bytes that it wrote or took over.
        """
        version = document.manifest.release_version
        directory = self.get_slot_directory(version)
        partial = self._slots / f"{version}{PARTIAL_SUFFIX}"
        if self._is_intact(version, document, progress):
            return
        with _translate_disk_errors(version, self._slots):
            durable.make_directory(self._slots, exactly=True)
            durable.remove_entry(partial)
            try:
                partial.mkdir()
                tree = fill(partial)
                if tree.compute_digest() != document.tree_digest:
                    raise SlotModifiedError(
                        path=directory, version=version, count=1, detail="different tree"
                    )
                self._require_same_tree(
                    version, partial, tree.entries, progress, full=check_content
                )
                partial.chmod(0o755)  # independent of the umask: the application needs access
                _make_read_only(partial, tree.entries)
                self._records.write(version, document, tree)
            except BaseException:
                # A full disk must have space to report the error.
                with contextlib.suppress(OSError):
                    durable.remove_entry(partial)
                raise
            if directory.exists():
                self._unlink_slot(version)
            durable.rename_entry(partial, directory)
        logger.info("slot built", extra={"release": str(version)})

    def adopt_directory(self, version: Version, document: ReleaseDocument, tree: Tree) -> None:
        """Turn an existing site's directory into a slot: verify, make read-only, write a record.

        Raises:
            SLOT_MISSING: If the directory does not exist.
            SlotModifiedError: If its files are not those of the release.
        """
        directory = self.get_slot_directory(version)
        if document.manifest.release_version != version:
            raise SlotModifiedError(
                path=directory, version=version, count=1, detail=document.manifest.version
            )
        if not directory.is_dir():
            raise UpdaterError(SLOT_MISSING, version=version, slots=self._slots)
        with _translate_disk_errors(version, directory):
            self._require_same_tree(version, directory, tree.entries, SilentProgress(), full=True)
            _make_read_only(directory, tree.entries)
            self._records.write(version, document, tree)

    def switch_current(self, version: Version) -> None:
        """Point ``current`` to a slot, in one durable step.

        Raises:
            SLOT_MISSING: If that slot does not exist.
            CURRENT_LINK_INVALID: If ``current`` is not a link, so that it cannot be replaced in one
                step.
        """
        if not self.get_slot_directory(version).is_dir() or not self._records.exists(version):
            raise UpdaterError(SLOT_MISSING, version=version, slots=self._slots)
        if self.read_current() == version:
            # The link may not have reached the disk before a crash.
            durable.fsync_directory(self._current.parent)
            return
        with _translate_disk_errors(version, self._current):
            durable.make_directory(self._current.parent, exactly=True)
            switch_current(self._slots, self._current, version)

    def remove_slot(self, version: Version) -> None:
        """Remove a slot and then its record; does nothing if neither exists.

        Raises:
            SLOT_IN_USE: If it is the current one.
        """
        if self.read_current() == version:
            raise UpdaterError(SLOT_IN_USE, version=version)
        with _translate_disk_errors(version, self._slots):
            self._unlink_slot(version)
            self._records.remove(version)

    def remove_leftovers(self) -> None:
        """Remove the remains of interrupted builds and removals.

        Raises:
            SLOT_ERROR: If a path cannot be deleted.
        """
        for item in self.list_leftovers():
            try:
                durable.remove_entry(item)
            except OSError as error:
                raise UpdaterError(SLOT_ERROR, path=item, detail=str(error)) from error

    # ---- helpers -------------------------------------------------------------------------------

    def _list_entries(self) -> tuple[Path, ...]:
        try:
            return tuple(self._slots.iterdir()) if self._slots.exists() else ()
        except OSError as error:
            raise UpdaterError(SLOT_ERROR, path=self._slots, detail=str(error)) from error

    def _is_intact(
        self, version: Version, document: ReleaseDocument, progress: ProgressListener
    ) -> bool:
        """Tell whether the slot exists with every file as released; False if it must be built.

        Raises:
            SlotModifiedError: If the directory contains another release, or has no record.
            SLOT_IN_USE: If it is damaged and in use.
        """
        directory = self.get_slot_directory(version)
        if not directory.exists():
            return False
        if not self.is_built(version, document.tree_digest):
            difference = "different tree" if self._records.exists(version) else "no record"
            raise SlotModifiedError(path=directory, version=version, count=1, detail=difference)
        differences = self.verify_slot(version, progress)
        if differences and self.read_current() == version:
            raise UpdaterError(
                SLOT_IN_USE, version=version, detail=_format_differences(differences)
            )
        return not differences

    def _require_same_tree(
        self,
        version: Version,
        directory: Path,
        entries: Iterable[TreeEntry],
        progress: ProgressListener,
        *,
        full: bool,
    ) -> None:
        on_bytes = _make_byte_reporter(progress, N_("Verifying release {version}"), version, None)
        differences = tuple(
            compare_tree(
                directory, entries, check_content=full, check_read_only=False, on_bytes=on_bytes
            )
        )
        if differences:
            raise SlotModifiedError(
                path=directory,
                version=version,
                count=len(differences),
                detail=_format_differences(differences),
            )

    def _unlink_slot(self, version: Version) -> None:
        removing = self._slots / f"{version}{REMOVING_SUFFIX}"
        durable.remove_entry(removing)
        if self.get_slot_directory(version).exists():
            durable.rename_entry(self.get_slot_directory(version), removing)
        durable.remove_entry(removing)


def _format_differences(differences: Iterable[SlotDifference]) -> str:
    return "; ".join(str(item) for item in itertools.islice(differences, MAX_DIFFERENCES_SHOWN))


def _make_byte_reporter(
    progress: ProgressListener, template: str, version: Version, total: int | None
) -> Callable[[int], None]:
    title = LazyText(template, {"version": str(version)})
    done = reported = 0

    def count(size: int) -> None:
        nonlocal done, reported
        done += size
        if done - reported >= PROGRESS_BYTES:
            reported = done
            progress.report(title, Amount(done, total, Unit.BYTES))

    return count


def _make_read_only(root: Path, entries: tuple[TreeEntry, ...]) -> None:
    """Remove write permission from every file, and flush everything."""
    for entry in entries:
        if entry.type is not EntryType.SYMLINK:
            os.chmod(f"{root}/{entry.path}", get_sealed_mode(entry))  # noqa: PTH101 - there are many
    durable.sync_filesystem(root)


class DifferenceKind(StrEnum):
    """Kind of difference between a path and the release."""

    MISSING = "missing"
    EXTRA = "extra"
    TYPE = "type"
    MODE = "mode"
    CONTENT = "content"
    TARGET = "target"


@dataclass(frozen=True)
class SlotDifference:
    """One path that differs from the release.

    Attributes:
        path: Relative to the slot.
        kind: Kind of difference.
    """

    path: str
    kind: DifferenceKind

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}"


def _name_type(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return EntryType.SYMLINK.value
    if stat.S_ISDIR(mode):
        return EntryType.DIRECTORY.value
    return EntryType.FILE.value if stat.S_ISREG(mode) else "special"


def _compare_entry(
    root: Path,
    entry: TreeEntry,
    *,
    full: bool,
    sealed: bool,
    on_bytes: Callable[[int], None] | None,
) -> DifferenceKind | None:
    path = f"{root}/{entry.path}"  # many paths; creating a Path object takes longer than the lstat
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return DifferenceKind.MISSING
    if _name_type(info.st_mode) != entry.type.value:
        return DifferenceKind.TYPE
    if entry.type is EntryType.SYMLINK:
        return None if str(Path(path).readlink()) == entry.target else DifferenceKind.TARGET
    if entry.type is EntryType.FILE:
        if info.st_size != entry.size:
            return DifferenceKind.CONTENT
        if full and hash_file(Path(path), on_bytes) != entry.sha256:
            return DifferenceKind.CONTENT
    mode = stat.S_IMODE(info.st_mode)
    expected_mode = get_sealed_mode(entry) if sealed else entry.mode
    ignored = 0 if sealed or entry.type is not EntryType.FILE else WRITE_BITS
    return None if mode & ~ignored == expected_mode & ~ignored else DifferenceKind.MODE


def _walk_directory(root: Path, prefix: str = "") -> Iterator[str]:
    with os.scandir(root) as items:
        for item in items:
            path = f"{prefix}{item.name}"
            yield path
            if item.is_dir(follow_symlinks=False):
                yield from _walk_directory(Path(item.path), f"{path}/")


def compare_tree(
    root: Path,
    entries: Iterable[TreeEntry],
    *,
    check_content: bool = True,
    check_read_only: bool = True,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[SlotDifference]:
    """Yield every path of a directory that differs from the entries.

    Keeps only the paths of the tree in memory.

    Args:
        root: The directory.
        entries: The expected entries.
        check_content: Hash every file; otherwise compare types, sizes, modes and links only.
        check_read_only: Files must have no write permission; otherwise write bits are ignored.
        on_bytes: Receives the number of hashed bytes.

    Raises:
        OSError: If an existing path cannot be read.
    """
    known: set[str] = set()
    for entry in entries:
        known.add(entry.path)
        difference = _compare_entry(
            root, entry, full=check_content, sealed=check_read_only, on_bytes=on_bytes
        )
        if difference:
            yield SlotDifference(entry.path, difference)
    for path in _walk_directory(root):
        if path not in known:
            yield SlotDifference(path, DifferenceKind.EXTRA)
