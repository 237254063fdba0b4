"""The old slot as a pack sees it: every file is hashed before a byte of it is used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.disk_space import require_space
from ncen_updater.common.messages import OLD_FILE_ALTERED
from ncen_updater.formats.delta.lzma_streams import NumberTooLargeError, ReferenceOutOfRangeError
from ncen_updater.formats.delta.pack_plan import DeltaError, FileReference
from ncen_updater.formats.delta.zip_archive import (
    NotAnArchiveError,
    ZipTable,
    count_view_bytes,
    iter_view,
)
from ncen_updater.formats.tree import Tree, TreeEntry

BLOCK = 1 << 20
OPEN_FILES = 64
PAGE, PAGES = 16 << 10, 256  # covers jump to and fro: a few MiB of what was read last are kept
SPOOL_BYTES = 4 << 20
MAX_SPOOL_BYTES = 2 << 30


class OldSlot:
    """Files of the old slot.

    Args:
        root: The slot.
        tree: What is in it, as its record says; or some of it, by index.
    """

    def __init__(self, root: Path, tree: Tree | Mapping[int, TreeEntry]) -> None:
        self._entries = tree.entries if isinstance(tree, Tree) else tree
        self.below = DirectoryHandle(root)

    def close(self) -> None:
        """Let go of the slot."""
        self.below.close()

    def get_entry(self, index: int) -> TreeEntry:
        """Return the entry of an index that was checked."""
        return self._entries[index]

    def open_file(self, index: int) -> int:
        """Open a file; return its descriptor.

        Raises:
            OLD_FILE_ALTERED: If it is not there, or not a file of its size.
        """
        entry = self._entries[index]
        try:
            descriptor = self.below.open_file(entry.path)
        except OSError as error:
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path, detail=str(error)) from error
        info = os.fstat(descriptor)
        if not S_ISREG(info.st_mode) or info.st_size != entry.size:
            os.close(descriptor)
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path, detail=f"{info.st_size} bytes")
        return descriptor

    def read_verified(
        self, index: int, descriptor: int, use: Callable[[bytes], object] | None = None
    ) -> None:
        """Read a file whole, hand on what is read, and compare its digest at the end.

        Raises:
            OLD_FILE_ALTERED: If it has another content.
        """
        entry = self._entries[index]
        digest, at = hashlib.sha256(), 0
        while block := os.pread(descriptor, BLOCK, at):
            digest.update(block)
            at += len(block)
            if at > entry.size:
                break
            if use:
                use(block)
        if digest.hexdigest() != entry.sha256:
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path)

    @contextmanager
    def open_verified(self, index: int) -> Iterator[int]:
        """Open a file and hash it; give its descriptor."""
        descriptor = self.open_file(index)
        try:
            self.read_verified(index, descriptor)
            yield descriptor
        finally:
            os.close(descriptor)


class GroupReference:
    """The old files of a group, one after the other.

    Args:
        origin: The old slot.
        refs: The files.
        spool: Directory for the unpacked members of archives that do not fit into memory.
        beside: Bytes that the same disk must have room for beside these.
        earlier: Where files are that groups before this one built.

    Raises:
        InsufficientSpaceError: If the disk has no room for the members.
    """

    def __init__(
        self,
        origin: OldSlot,
        refs: tuple[FileReference, ...],
        spool: Path,
        beside: int = 0,
        earlier: OldSlot | None = None,
    ) -> None:
        self._refs, self._place, self._beside = refs, spool, beside
        self._origins = {False: origin, True: earlier or origin}
        self._open: OrderedDict[int, int] = OrderedDict()
        self.tables: dict[int, ZipTable] = {}
        self._spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            SPOOL_BYTES, dir=str(spool)
        )
        self._spooled: dict[int, int] = {}
        self._starts = [0]
        self._pages: list[tuple[int, bytes]] = [(-1, b"")] * PAGES
        try:
            for at, ref in enumerate(refs):
                from_here = self._origins[ref.is_built]
                with from_here.open_verified(ref.origin) as descriptor:
                    size = (
                        from_here.get_entry(ref.origin).size
                        if ref.members is None
                        else self._unpack(at, descriptor, ref.members)
                    )
                self._starts.append(self._starts[-1] + size)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes altogether."""
        return self._starts[-1]

    def close(self) -> None:
        """Let go of every file."""
        self._spool.close()
        while self._open:
            os.close(self._open.popitem()[1])

    def get_descriptor(self, at: int) -> int:
        """Return an open descriptor of a file; it is valid until the next call."""
        if at in self._open:
            self._open.move_to_end(at)
            return self._open[at]
        if len(self._open) >= OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        self._open[at] = self._origins[self._refs[at].is_built].open_file(self._refs[at].origin)
        return self._open[at]

    def get_zip_table(self, at: int) -> ZipTable:
        """Return the table of members of an archive.

        Raises:
            ReferenceOutOfRangeError: If it is not referred to as an archive.
        """
        if at not in self.tables:
            raise ReferenceOutOfRangeError("invalid reference")
        return self.tables[at]

    def read(self, start: int, length: int) -> bytes:
        """Return exactly these bytes."""
        page, skip = divmod(start, PAGE)
        if skip + length > PAGE:
            return self._read_across_files(start, length)
        known, content = self._pages[page % PAGES]
        if known != page:
            content = self._read_across_files(page * PAGE, min(PAGE, self.size - page * PAGE))
            self._pages[page % PAGES] = page, content
        return content[skip : skip + length]

    def _read_across_files(self, start: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            at = bisect_right(self._starts, start) - 1
            size = min(length, self._starts[at + 1] - start)
            parts.append(self._load_page(at, start, size))
            start += size
            length -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _load_page(self, at: int, start: int, size: int) -> bytes:
        inside = start - self._starts[at]
        if at in self._spooled:
            self._spool.seek(self._spooled[at] + inside)
            content = self._spool.read(size)
        else:
            content = os.pread(self.get_descriptor(at), size, inside)
        if len(content) != size:
            ref = self._refs[at]
            entry = self._origins[ref.is_built].get_entry(ref.origin)
            raise DeltaError(OLD_FILE_ALTERED, path=entry.path)
        return content

    def _unpack(self, at: int, descriptor: int, members: tuple[int, ...]) -> int:
        self._spooled[at] = start = self._spool.tell()
        try:
            self.tables[at] = table = ZipTable(descriptor)
            size = count_view_bytes(table, members)
            if start + size > MAX_SPOOL_BYTES:
                raise NumberTooLargeError(f"over {MAX_SPOOL_BYTES} bytes of members at once")
            if start + size > SPOOL_BYTES:
                require_space(self._place, size + self._beside)
                # Before it is written: up to Python 3.12 'writelines' looks at the end only.
                self._spool.rollover()
            self._spool.writelines(iter_view(table, descriptor, members))
        except NotAnArchiveError as error:
            raise ReferenceOutOfRangeError(
                f"an old file is not the archive that it is taken for: {error}"
            ) from error
        return size
