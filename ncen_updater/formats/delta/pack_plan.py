"""Contents of a delta pack, in memory and in its file; the paths that it may name.

The file is a magic word, the lengths of the index, the index, the streams::

    8 bytes   NCENDLT1
    32 bytes  digest of the tree that it starts from
    32 bytes  digest of the tree that it gives
    4 bytes   length of the index as it stands here (little endian)
    4 bytes   length of the index when it is unpacked
    ...       the index: raw LZMA2
    ...       the streams of the groups, without gaps, to the end of the file
"""

from __future__ import annotations

import hashlib
import os
import struct
import unicodedata
import zlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import DELTA_BUILD_FAILED, DELTA_ERROR, DELTA_NOT_VERIFIED
from ncen_updater.formats.delta.lzma_streams import (
    Extent,
    LzmaReader,
    MalformedColumnError,
    NumberTooLargeError,
    compress_stream,
    compute_dictionary_bytes,
)
from ncen_updater.formats.errors import TransferError
from ncen_updater.formats.tree import MAX_ENTRIES, EntryType

MAX_NAME_BYTES = 255
MAX_PATH_CHARS = 1000
DRIVE_PREFIX_LENGTH = 2


class PathRefusedError(ValueError):
    """A path that no release may have."""


def split_path(path: str) -> list[str]:
    """Return the sort key of a path: its parts, so that a directory precedes its content."""
    return path.split("/")


def check_name(name: str) -> None:
    """Check one part of a path.

    Raises:
        PathRefusedError: If it is not one plain name.
    """
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise PathRefusedError(LazyText(N_("{name}: invalid path"), {"name": repr(name)}))
    if len(name) >= DRIVE_PREFIX_LENGTH and name[1] == ":" and name[0].isalpha():
        raise PathRefusedError(LazyText(N_("{name}: invalid path"), {"name": repr(name)}))
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise PathRefusedError(
            LazyText(N_("{name}: invalid path"), {"name": repr(name)})
        ) from error
    if length > MAX_NAME_BYTES:
        raise PathRefusedError(LazyText(N_("{name}: path too long"), {"name": f"{name[:40]!r}..."}))
    if not name.isascii() and unicodedata.normalize("NFC", name) != name:
        raise PathRefusedError(
            LazyText(N_("{name}: not in Unicode form NFC"), {"name": repr(name)})
        )


def check_link(path: str, target: str) -> None:
    """Check where a link leads.

    Only the beginning of the target may go up, and not further than the release: so every link ends
    inside, also through other links, all of which do.

    Raises:
        PathRefusedError: If it may lead out.
    """
    if not target or target.startswith("/") or "\\" in target or "\0" in target:
        raise PathRefusedError(
            LazyText(N_("{name}: link to {target}"), {"name": repr(path), "target": repr(target)})
        )
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    if up > path.count("/") or ".." in parts[up:] or len(target) > MAX_PATH_CHARS:
        raise PathRefusedError(
            LazyText(N_("{name}: link to {target}"), {"name": repr(path), "target": repr(target)})
        )


class PathChecker:
    """Looks at the paths of a tree in their order."""

    def __init__(self) -> None:
        self._last: list[str] = []
        self._directories: list[list[str]] = []
        self._folded: set[str] = set()

    def check_path(self, path: str, *, is_directory: bool) -> None:
        """Check the next path.

        Raises:
            PathRefusedError: If it is not after the last one, is not in a directory of this tree,
                or differs from another only by case or composition.
        """
        parts = split_path(path)
        if parts <= self._last:
            raise PathRefusedError(
                LazyText(N_("{name}: duplicate, or not in order"), {"name": repr(path)})
            )
        for part in parts[len(self._common(parts)) :]:
            check_name(part)
        if len(path) > MAX_PATH_CHARS:
            raise PathRefusedError(
                LazyText(N_("{name}: path too long"), {"name": f"{path[:40]!r}..."})
            )
        while self._directories and self._directories[-1] != parts[: len(self._directories[-1])]:
            self._directories.pop()
        parent = self._directories[-1] if self._directories else []
        if parts[:-1] != parent:
            raise PathRefusedError(
                LazyText(N_("{name}: not in a directory of the release"), {"name": repr(path)})
            )
        folded = (
            unicodedata.normalize("NFC", path.casefold()) if not path.isascii() else path.lower()
        )
        if folded in self._folded:
            raise PathRefusedError(
                LazyText(N_("{name}: differs from another path only by case"), {"name": repr(path)})
            )
        self._folded.add(folded)
        self._last = parts
        if is_directory:
            self._directories.append(parts)

    def _common(self, parts: list[str]) -> list[str]:
        """Return the leading directories that were already checked with the last path."""
        end = 0
        for one, other in zip(parts, self._last, strict=False):
            if one != other:
                break
            end += 1
        return parts[:end]


COVER_MEMORY_BYTES = 12
MAX_SINGLE_FRAME_BYTES = 32 << 20  # old and new files of a group that is one frame of zstd
SINGLE_FRAME_MEMORY_BYTES = (
    2 * MAX_SINGLE_FRAME_BYTES
)  # in memory: the library keeps old and new once more
BUFFER_BYTES = 16 << 20  # blocks, batches of covers, members held in memory


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry of the new tree that is not in the old one under the same path, with all the same.

    Attributes:
        path: Where it goes.
        type: What it is.
        mode: Permission bits.
        size: Bytes, of a file.
        origin: Index of the old entry that it has the content of; None if the pack builds it.
        target: Where a link leads.
        copy_of: Which of the entries it has the content of, one before it that the pack builds.
        similar_to: Index of the old file that it was paired with by name; only the maker looks at
            it.
    """

    path: str
    type: EntryType
    mode: int
    size: int = 0
    origin: int | None = None
    target: str | None = None
    copy_of: int | None = None
    similar_to: int | None = None

    @property
    def is_built(self) -> bool:
        """Return whether the pack brings its content."""
        return self.type is EntryType.FILE and self.origin is None and self.copy_of is None


class ArchiveOperationKind(IntEnum):
    """A piece of an archive that is rebuilt."""

    PLAIN = 0  # bytes of the stream as they are
    MEMBERS = 1  # members of the old archive, compressed as they were, between bytes of the stream
    DEFLATE = 2  # bytes of the stream, deflated


@dataclass(frozen=True, slots=True)
class ArchiveOperation:
    """One piece.

    Attributes:
        kind: Which.
        count: Bytes of the stream for PLAIN and DEFLATE, number of members for MEMBERS.
        argument: First member for MEMBERS, level for DEFLATE.
    """

    kind: ArchiveOperationKind
    count: int
    argument: int = 0


@dataclass(frozen=True, slots=True)
class ArchiveRecipe:
    """How an archive is rebuilt.

    Attributes:
        target: Which file of the group.
        source: Which of the group's references is the old archive.
        operations: Its pieces in order.
    """

    target: int
    source: int
    operations: tuple[ArchiveOperation, ...]


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that the group's streams refer to.

    Attributes:
        origin: Index of the entry in the old tree; in the new one if it is ``built``.
        members: None for the file as it is. For an archive: it is seen without its members, but
            with these, unpacked, in their places.
        is_built: Whether it is no old file, but one that a group before this one built.
    """

    origin: int
    members: tuple[int, ...] | None = None
    is_built: bool = False


@dataclass(frozen=True, slots=True)
class MinifiedNames:
    """Short names in covers are what they became the last time, but for corrections.

    Attributes:
        matched: Bytes of the reference that the covers take.
        corrections: Where a name became something else: see ``renaming``.
    """

    matched: int
    corrections: Extent


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files that are built together from one set of streams.

    Attributes:
        files: Number of files, in the order of the tree.
        references: Old files, seen one after the other as one long reference.
        recipes: For those of the files that are archives to be rebuilt.
        view: Bytes of all files together, archives as the recipes see them.
        covers: Number of places that are taken from the reference.
        runs: Number of places where nothing is added to many of these bytes in a row.
        control: Where the covers are: see ``codec``.
        zeros: Where these runs are: see ``runs``.
        differences: What is added to the bytes of the reference, without the runs.
        literals: What is in no cover.
        minified_names: Where names in its covers may have been reassigned.
        single_frame: Whether the literals are one frame of zstd, which refers to the old files.
    """

    files: int
    references: tuple[FileReference, ...]
    recipes: tuple[ArchiveRecipe, ...]
    view: int
    covers: int
    runs: int
    control: Extent
    zeros: Extent
    differences: Extent
    literals: Extent
    minified_names: MinifiedNames | None = None
    single_frame: bool = False

    @property
    def streams(self) -> tuple[Extent, ...]:
        """Return all of them, as they follow each other in the pack."""
        named = () if self.minified_names is None else (self.minified_names.corrections,)
        return (self.control, self.zeros, self.differences, self.literals, *named)

    @property
    def covered(self) -> int:
        """Bytes of the view that are in covers."""
        return self.view - self.literals.plain_bytes

    @property
    def matched(self) -> int:
        """Bytes of the reference that are in covers, as often as they are."""
        return self.covered if self.minified_names is None else self.minified_names.matched

    @property
    def memory_bytes(self) -> int:
        """Return what building it takes: a dictionary a stream, and buffers."""
        if self.single_frame:
            return BUFFER_BYTES + SINGLE_FRAME_MEMORY_BYTES
        return BUFFER_BYTES + sum(
            compute_dictionary_bytes(s.plain_bytes) for s in self.streams if s.packed_bytes
        )


@dataclass
class PackPlan:
    """The new tree, and how its files are built.

    Attributes:
        entries: In order: an index into the old tree where nothing differs, or what is new.
        groups: Together they build every entry that is built, in order.
    """

    entries: list[int | NewEntry] = field(default_factory=list)
    groups: list[FileGroup] = field(default_factory=list)

    @property
    def required_capabilities(self) -> tuple[str, ...]:
        """Return what of the format it uses that not every agent knows."""
        used = {
            SINGLE_FRAME: any(group.single_frame for group in self.groups),
            COPIES: any(isinstance(e, NewEntry) and e.copy_of is not None for e in self.entries),
            EARLIER_FILES: any(ref.is_built for group in self.groups for ref in group.references),
            MINIFIED_NAMES: any(group.minified_names is not None for group in self.groups),
        }
        return tuple(name for name, there in used.items() if there)

    @property
    def memory_bytes(self) -> int:
        """Return what building it takes at most: that of its largest group."""
        return max((group.memory_bytes for group in self.groups), default=BUFFER_BYTES)


MAGIC = b"NCENDLT1"
HEADER_STRUCT = struct.Struct("<8s32s32s2I")
MAX_INDEX_BYTES = 16 << 20


@dataclass(frozen=True)
class PackHeader:
    """The start of a pack.

    Attributes:
        from_tree: Digest of the old tree, hexadecimal.
        to_tree: Digest of the new one.
        index: Where the index is.
    """

    from_tree: str
    to_tree: str
    index: Extent

    @property
    def streams_start(self) -> int:
        """Offset of the first stream."""
        return self.index.start + self.index.packed_bytes


def read_header(descriptor: int) -> PackHeader:
    """Read the start of a pack.

    Raises:
        MalformedColumnError: If it is no pack.
        FileTooLargeError: If its index is larger than any can be.
    """
    content = os.pread(descriptor, HEADER_STRUCT.size, 0)
    if len(content) < HEADER_STRUCT.size or not content.startswith(MAGIC):
        raise MalformedColumnError("not a delta pack")
    _, origin, result, packed, plain = HEADER_STRUCT.unpack(content)
    if plain > MAX_INDEX_BYTES or packed > MAX_INDEX_BYTES:
        raise NumberTooLargeError(
            LazyText(N_("more than {limit_bytes} in the index"), {"limit_bytes": MAX_INDEX_BYTES})
        )
    return PackHeader(origin.hex(), result.hex(), Extent(HEADER_STRUCT.size, packed, plain))


def read_index(descriptor: int, header: PackHeader) -> bytes:
    """Unpack the index.

    Raises:
        MalformedColumnError: If it is damaged.
    """
    reader = LzmaReader(descriptor, header.index)
    content = reader.read(header.index.plain_bytes)
    reader.check_exhausted()
    return content


def check_no_trailing_data(descriptor: int, header: PackHeader, plan: PackPlan) -> None:
    """Check that the streams are all there, and nothing after them.

    Raises:
        MalformedColumnError: If the file has another length.
    """
    end = header.streams_start
    if plan.groups:
        last = plan.groups[-1].streams[-1]
        end = last.start + last.packed_bytes
    if os.fstat(descriptor).st_size != end:
        raise MalformedColumnError("length mismatch")


def encode_header(from_tree: str, to_tree: str, index: bytes) -> bytes:
    """Return the start of a pack, with its index."""
    packed = compress_stream(index)
    origin, result = bytes.fromhex(from_tree), bytes.fromhex(to_tree)
    return HEADER_STRUCT.pack(MAGIC, origin, result, len(packed), len(index)) + packed


class DeltaError(TransferError):
    """Base: a pack that could not be applied. What was written of the new release is removed."""

    message = DELTA_ERROR
    code_range = range(3150, 3160)


class DeltaBuildError(TransferError):
    """Base: the publisher's side could not make a pack."""

    message = DELTA_BUILD_FAILED
    code_range = range(3160, 3170)


class DeltaVerificationError(DeltaBuildError):
    """The pack was applied and gave something else than the new tree; it was removed."""

    message = DELTA_NOT_VERIFIED


# SHA-256 of the sample in capabilities(), deflated by zlib 1.2.11 to 1.3.1 at each level.
DEFLATE_DIGESTS = {
    1: "02981d35999b5a98bd366eb92888fc555e41d1bfaf4f9dfb938b0786cc2455dd",
    6: "3d87e6c11bb0a2485bff1d77e0e218d4da2ce58b83abe7d45ab5daceb05fd0d5",
    9: "a8de21a0df0eb7bb0cf5892cf4542b2af34f86c7ee2f307b1462fe7d60de3802",
}


SINGLE_FRAME = "zstd-prefix"  # a group may be one frame of zstd that refers to old files


COPIES = "copies"  # packs may say that a file is the copy of one that they build


EARLIER_FILES = "earlier"  # groups may refer to files that a group before them builds


MINIFIED_NAMES = "names"  # packs may say that short names were reassigned


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


Capability = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]{1,40}$")]


class LinkMode(StrEnum):
    """How an unchanged file of the old slot comes into the new one.

    ``SAFE`` shares blocks where the file system can (reflink); otherwise it makes a hard link if
    the file is read-only and root's, so that no service can write through it; otherwise it copies.
    ``SEALED`` also links read-only files of the agent's own user. ``COPY`` always copies.
    """

    SAFE = "safe"
    SEALED = "sealed"
    COPY = "copy"


class DeltaLimits(BaseModel):
    """The signed facts of a pack: what it is for, and what applying it may cost.

    Attributes:
        from_tree: Digest of the tree that it starts from.
        to_tree: Digest of the tree that it gives.
        out_bytes: Bytes of all files of the new tree.
        out_files: Entries of the new tree, of every type.
        max_memory_bytes: Buffers and dictionaries that applying it takes, on top of the program
            and of the two trees.
        required_capabilities: What the agent must be capable of; see ``capabilities``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_tree: Digest
    to_tree: Digest
    out_bytes: Annotated[int, Field(ge=0, lt=2**63)]
    out_files: Annotated[int, Field(ge=0, le=MAX_ENTRIES)]
    max_memory_bytes: Annotated[int, Field(ge=0, lt=2**63)]
    required_capabilities: Annotated[tuple[Capability, ...], Field(max_length=20)] = ()


class DeltaInfo(DeltaLimits):
    """The facts of a pack that was made, and figures for people.

    Attributes:
        pack_bytes: Length of the pack.
        same_files: Files that come from the old slot as they are, moved or not.
        written_files: Files that the pack builds.
        written_bytes: Bytes of these.
        rebuilt_archives: How many of them are archives that are rebuilt from their members.
    """

    pack_bytes: int
    same_files: int
    written_files: int
    written_bytes: int
    rebuilt_archives: int


def name_deflate_capability(level: int) -> str:
    """Name of the capability to deflate exactly as the publisher's library does."""
    return f"deflate-zlib-{level}.8"


def make_deflater(level: int) -> zlib._Compress:
    """Return a compressor for archive members: raw deflate, with the settings of common tools."""
    return zlib.compressobj(level, zlib.DEFLATED, -15, 8)


@lru_cache(maxsize=1)
def list_capabilities() -> frozenset[str]:
    """Tell what packs may ask of this machine.

    Another library than zlib itself (zlib-ng, for one) deflates to other bytes, which are as right
    but are not those that were signed. So the library is tried on a sample, once a process.
    """
    sample = b"".join(b"%d of %d;" % (n * n % 977, n) for n in range(7000))
    able = {SINGLE_FRAME, COPIES, EARLIER_FILES, MINIFIED_NAMES}
    for level, expected in DEFLATE_DIGESTS.items():
        packer = make_deflater(level)
        content = packer.compress(sample) + packer.flush()
        if hashlib.sha256(content).hexdigest() == expected:
            able.add(name_deflate_capability(level))
    return frozenset(able)
