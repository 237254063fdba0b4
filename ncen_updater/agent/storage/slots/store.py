"""The slots of a site: built whole or not at all, checked against their records, never edited.

What is on the disk at each instant of a build: ``<version>.partial`` (worthless, removed by the
next try), then the record, then the slot under its own name. A name without a suffix is always a
whole slot, because it got that name by one rename after everything was flushed. A removal takes the
name away first (``<version>.removing``) and the record last.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.model.errors import SlotDiffers
from ncen_updater.agent.storage.slots.compare import Difference, compare
from ncen_updater.agent.storage.slots.link import current_version, point_to, version_of_name
from ncen_updater.agent.storage.slots.records import Records
from ncen_updater.agent.storage.slots.reported import reported_by_slot
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    SLOT_ERROR,
    SLOT_IN_USE,
    SLOT_MISSING,
    SLOT_NO_SPACE,
    SLOT_NOT_WRITTEN,
)
from ncen_updater.common.progress import Progress, Silent
from ncen_updater.formats.document import ReleaseDocument
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry, sealed_mode

logger = logging.getLogger(__name__)

PARTIAL = ".partial"
REMOVING = ".removing"
SHOWN_DIFFERENCES = 5
TELL_BYTES = 8 << 20


@contextlib.contextmanager
def _disk_errors(version: Version, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = SLOT_NO_SPACE if full else SLOT_NOT_WRITTEN
        raise UpdaterError(what, version=version, path=path, detail=str(error)) from error


class SlotStore:
    """The slots under one directory, and the link that chooses one.

    Args:
        slots: Directory of the slots.
        current: The link.
    """

    def __init__(self, slots: Path, current: Path) -> None:
        self._slots = slots
        self._current = current
        self._records = Records(slots)

    # ---- facts ---------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Directory of the slots."""
        return self._slots

    @property
    def link(self) -> Path:
        """The link that chooses the slot in use."""
        return self._current

    def versions(self) -> tuple[Version, ...]:
        """Every slot that is whole and has its record, oldest version first."""
        names = (version_of_name(item.name) for item in self._items() if item.is_dir())
        return tuple(sorted(v for v in names if v is not None and self._records.exists(v)))

    def leftovers(self) -> tuple[Path, ...]:
        """What interrupted builds and removals left; worthless."""
        return tuple(
            sorted(
                item
                for item in self._items()
                if item.name.endswith((PARTIAL, REMOVING)) and not item.name.startswith(".")
            )
        )

    def current(self) -> Version | None:
        """The version in use; None where none was chosen yet.

        Raises:
            CurrentAstray: If the link leads to anything but a slot's place.
        """
        return current_version(self._slots, self._current)

    def path(self, version: Version) -> Path:
        """Directory of a slot, whether it exists or not."""
        return self._slots / str(version)

    def built(self, version: Version, tree_digest: str) -> bool:
        """Whether a whole slot of this version is there whose record names this tree.

        Raises:
            RecordUnusable: If the record is damaged.
        """
        if not self.path(version).is_dir() or not self._records.exists(version):
            return False
        return self._records.document(version).tree_digest == tree_digest

    def document(self, version: Version) -> ReleaseDocument:
        """The release document of a slot.

        Raises:
            RecordUnusable: If the record is missing or damaged.
        """
        return self._records.document(version)

    def reported(self, version: Version) -> str:
        """What the application of a slot says that it is; the version where no record tells."""
        return reported_by_slot(self._slots, version)

    def tree(self, version: Version) -> Tree:
        """The tree of a slot, whole.

        Raises:
            RecordUnusable: If the record is missing or damaged.
        """
        return self._records.tree(version)

    def verify(
        self, version: Version, progress: Progress | None = None, *, full: bool = True
    ) -> tuple[Difference, ...]:
        """Compare a slot with its record; empty when every path is as released.

        Args:
            version: Which slot.
            progress: Told the bytes that were read.
            full: Hash every file; otherwise types, sizes, modes and links only.

        Raises:
            SlotMissing: If it is not there.
            RecordUnusable: If the record is missing or damaged.
            SlotError: If something in it cannot be read.
        """
        place = self.path(version)
        if not place.is_dir():
            raise UpdaterError(SLOT_MISSING, version=version, slots=self._slots)
        total = self._records.document(version).unpacked_bytes
        entries = self._records.entries(version)
        counter = _teller(progress or Silent(), N_("Checking release {version}"), version, total)
        try:
            return tuple(compare(place, entries, full=full, on_bytes=counter))
        except OSError as error:
            raise UpdaterError(SLOT_ERROR, path=place, detail=str(error)) from error

    # ---- acts: idempotent ----------------------------------------------------------------------

    def build(
        self, document: ReleaseDocument, tree: Tree, archive: Path, progress: Progress
    ) -> None:
        """Build the slot of a release from its verified archive.

        Does nothing where the slot is already there and every file is right; builds it anew where a
        file was damaged, unless the site runs from it.

        Raises:
            SlotInUse: If it is damaged and in use.
            SlotDiffers: If the place holds another release, or the archive brought other files.
            SlotNoSpace: If the disk is full; what was written is removed.
            SlotNotWritten: If the disk refuses a write.
            UpdaterError: Whatever the archive's reader refuses.
        """
        from ncen_updater.formats.archive import unpack

        self.assemble(
            document, tree, lambda place: unpack(archive, tree, place, progress), progress
        )

    def assemble(
        self,
        document: ReleaseDocument,
        tree: Tree,
        fill: Callable[[Path], None],
        progress: Progress,
    ) -> None:
        """Build a slot whose files come from ``fill``, which is given an empty directory.

        See :meth:`build`; the files are checked here, whatever ``fill`` promises.
        """

        def known(place: Path) -> Tree:
            fill(place)
            return tree

        self._assemble(document, known, progress, full=True)

    def derive(
        self, document: ReleaseDocument, fill: Callable[[Path], Tree], progress: Progress
    ) -> None:
        """Build a slot whose tree is only known once it is filled.

        See :meth:`build`. ``fill`` is given an empty directory and returns the tree that it made,
        with the digests of the bytes that it wrote or took over. The tree is compared with the
        document's digest, then types, sizes, modes and links on the disk with the tree; no file is
        read and hashed a second time.
        """
        self._assemble(document, fill, progress, full=False)

    def _assemble(
        self,
        document: ReleaseDocument,
        fill: Callable[[Path], Tree],
        progress: Progress,
        *,
        full: bool,
    ) -> None:
        version = document.manifest.release_version
        place = self.path(version)
        partial = self._slots / f"{version}{PARTIAL}"
        if self._ready(version, document, progress):
            return
        with _disk_errors(version, self._slots):
            durable.make_directory(self._slots, exactly=True)
            _delete(partial)
            try:
                partial.mkdir()
                tree = fill(partial)
                if tree.digest() != document.tree_digest:
                    raise SlotDiffers(path=place, version=version, count=1, detail="another tree")
                self._accept(version, partial, tree.entries, progress, full=full)
                partial.chmod(0o755)  # whatever the mask: the application gets in
                _seal(partial, tree.entries)
                self._records.write(version, document, tree)
            except BaseException:
                # A full disk must have room for what comes next: reporting it.
                with contextlib.suppress(OSError):
                    _delete(partial)
                raise
            if place.exists():
                self._take_away(version)
            durable.rename(partial, place)
        logger.info("slot built", extra={"release": str(version)})

    def adopt(self, version: Version, document: ReleaseDocument, tree: Tree) -> None:
        """Make the directory of an existing site a slot: check, make read-only, write its record.

        Raises:
            SlotMissing: If there is no such directory.
            SlotDiffers: If its files are not those of the release.
        """
        place = self.path(version)
        if document.manifest.release_version != version:
            raise SlotDiffers(
                path=place, version=version, count=1, detail=document.manifest.version
            )
        if not place.is_dir():
            raise UpdaterError(SLOT_MISSING, version=version, slots=self._slots)
        with _disk_errors(version, place):
            self._accept(version, place, tree.entries, Silent(), full=True)
            _seal(place, tree.entries)
            self._records.write(version, document, tree)

    def switch(self, version: Version) -> None:
        """Let ``current`` choose a slot, in one durable step.

        Raises:
            SlotMissing: If that slot is not there.
            CurrentAstray: If ``current`` is not a link, and so cannot be replaced in one step.
        """
        if not self.path(version).is_dir() or not self._records.exists(version):
            raise UpdaterError(SLOT_MISSING, version=version, slots=self._slots)
        if self.current() == version:
            # It may not have reached the disk before a crash.
            durable.fsync_directory(self._current.parent)
            return
        with _disk_errors(version, self._current):
            durable.make_directory(self._current.parent, exactly=True)
            point_to(self._slots, self._current, version)

    def remove(self, version: Version) -> None:
        """Remove a slot and then its record; does nothing where neither is there.

        Raises:
            SlotInUse: If it is the current one.
        """
        if self.current() == version:
            raise UpdaterError(SLOT_IN_USE, version=version)
        with _disk_errors(version, self._slots):
            self._take_away(version)
            self._records.remove(version)

    def clean(self) -> None:
        """Delete what interrupted builds and removals left."""
        for item in self.leftovers():
            try:
                _delete(item)
            except OSError as error:
                raise UpdaterError(SLOT_ERROR, path=item, detail=str(error)) from error

    # ---- parts ---------------------------------------------------------------------------------

    def _items(self) -> tuple[Path, ...]:
        try:
            return tuple(self._slots.iterdir()) if self._slots.exists() else ()
        except OSError as error:
            raise UpdaterError(SLOT_ERROR, path=self._slots, detail=str(error)) from error

    def _ready(self, version: Version, document: ReleaseDocument, progress: Progress) -> bool:
        place = self.path(version)
        if not place.exists():
            return False
        if not self.built(version, document.tree_digest):
            found = "another tree" if self._records.exists(version) else "no record"
            raise SlotDiffers(path=place, version=version, count=1, detail=found)
        differences = self.verify(version, progress)
        if differences and self.current() == version:
            raise UpdaterError(SLOT_IN_USE, version=version, detail=_shown(differences))
        return not differences

    def _accept(
        self,
        version: Version,
        place: Path,
        entries: Iterable[TreeEntry],
        progress: Progress,
        *,
        full: bool,
    ) -> None:
        counter = _teller(progress, N_("Checking release {version}"), version, None)
        found = tuple(compare(place, entries, full=full, sealed=False, on_bytes=counter))
        if found:
            raise SlotDiffers(path=place, version=version, count=len(found), detail=_shown(found))

    def _take_away(self, version: Version) -> None:
        removing = self._slots / f"{version}{REMOVING}"
        _delete(removing)
        if self.path(version).exists():
            durable.rename(self.path(version), removing)
        _delete(removing)


def _shown(differences: Iterable[Difference]) -> str:
    return "; ".join(str(item) for item in itertools.islice(differences, SHOWN_DIFFERENCES))


def _teller(
    progress: Progress, template: str, version: Version, total: int | None
) -> Callable[[int], None]:
    what = Text(template, {"version": str(version)})
    done = told = 0

    def count(number: int) -> None:
        nonlocal done, told
        done += number
        if done - told >= TELL_BYTES:
            told = done
            progress.tell(what, done, total)

    return count


def _delete(place: Path) -> None:
    """Delete a directory, if it is there, also where a directory in it may not be written to."""
    if not place.exists():
        return
    for directory, _, _ in os.walk(place):
        Path(directory).chmod(0o700)
    shutil.rmtree(place)
    durable.fsync_directory(place.parent)


def _seal(place: Path, entries: tuple[TreeEntry, ...]) -> None:
    """Take the right to write from every file, and flush everything."""
    for entry in entries:
        if entry.type is not EntryType.SYMLINK:
            os.chmod(f"{place}/{entry.path}", sealed_mode(entry))  # noqa: PTH101 - there are many
    durable.flush_filesystem(place)
