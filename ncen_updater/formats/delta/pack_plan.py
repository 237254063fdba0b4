"""Contents of a delta pack, in memory and as a file, and rules for its paths.

The file consists of magic, header, index and streams::

    8 bytes   NCENDLT1
    32 bytes  digest of the old tree
    32 bytes  digest of the new tree
    4 bytes   compressed length of the index (little endian)
    4 bytes   decompressed length of the index
    ...       the index: raw LZMA2
    ...       the streams of the groups, without gaps, to the end of the file
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import DELTA_BUILD_FAILED, DELTA_ERROR, DELTA_NOT_VERIFIED
from ncen_updater.formats.delta.lzma_streams import (
    Extent,
    LzmaReader,
    MalformedPackError,
    compress_stream,
    compute_dictionary_bytes,
)
from ncen_updater.formats.errors import TransferError
from ncen_updater.formats.tree import MAX_ENTRIES, EntryType


def split_path(path: str) -> list[str]:
    """Return the sort key of a path: its parts, so that a directory precedes its content."""
    return path.split("/")


COVER_MEMORY_BYTES = 12
# maximum bytes of old and new files of a group with one zstd frame
MAX_SINGLE_FRAME_BYTES = 32 << 20
SINGLE_FRAME_MEMORY_BYTES = (
    2 * MAX_SINGLE_FRAME_BYTES
)  # the library copies old and new files once more
BUFFER_BYTES = 16 << 20  # blocks, batches of covers, archive members in memory


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry of the new tree that the index does not list as an unchanged old entry.

    Attributes:
        path: Path of the entry.
        type: Type of the entry.
        mode: Permission bits.
        size: Bytes of a file.
        origin: Index of the old entry with the same content; None if the pack builds the file.
        target: Target of a symbolic link.
        copy_of: Index of an earlier entry, built by the pack, with the same content.
        similar_to: Index of the old file that it was paired with; used by the publisher only.
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
        """Return whether the pack builds the file's content."""
        return self.type is EntryType.FILE and self.origin is None and self.copy_of is None


class ArchiveOperationKind(IntEnum):
    """Kind of a piece of a rebuilt archive."""

    PLAIN = 0  # bytes of the stream
    MEMBERS = 1  # old members, still compressed; the bytes between them come from the stream
    DEFLATE = 2  # bytes of the stream, deflated


@dataclass(frozen=True, slots=True)
class ArchiveOperation:
    """One piece of a rebuilt archive.

    Attributes:
        kind: Kind of the piece.
        count: Bytes of the stream for PLAIN and DEFLATE, number of members for MEMBERS.
        argument: First member for MEMBERS, compression level for DEFLATE.
    """

    kind: ArchiveOperationKind
    count: int
    argument: int = 0


@dataclass(frozen=True, slots=True)
class ArchiveRecipe:
    """Instructions to rebuild an archive.

    Attributes:
        target: Index of the file in the group.
        source: Index of the old archive among the group's references.
        operations: Its pieces in order.
    """

    target: int
    source: int
    operations: tuple[ArchiveOperation, ...]


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that the group's streams refer to.

    Attributes:
        origin: Index of the entry in the old tree, or in the new tree if ``is_built``.
        members: None for the unchanged bytes of the file. For an archive: the members whose
            decompressed data are part of the reference; the data of the others are left out.
        is_built: Whether it is a file that an earlier group built.
    """

    origin: int
    members: tuple[int, ...] | None = None
    is_built: bool = False


@dataclass(frozen=True, slots=True)
class MinifiedNames:
    """Renaming of short names in covers: a name is renamed as last time unless it is corrected.

    Attributes:
        matched: Bytes of the reference that the covers copy.
        corrections: Stream of the corrections: see ``byte_transforms``.
    """

    matched: int
    corrections: Extent


@dataclass(frozen=True)
class GroupStreams:
    """The streams of a group.

    Attributes:
        covers: Number of covers.
        runs: Number of long runs of zeros in the differences.
        control: Stream of the covers: see ``group_decoder``.
        zeros: Stream of the runs: see ``byte_transforms``.
        differences: Values added to the reference's bytes, without the runs.
        literals: Bytes outside covers.
        minified_names: Renaming of short names in covers, if any.
        single_frame: Whether the literals are one zstd frame with the old files as prefix.
    """

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
        """Return all streams, in their order in the pack."""
        named = () if self.minified_names is None else (self.minified_names.corrections,)
        return (self.control, self.zeros, self.differences, self.literals, *named)

    @property
    def packed_bytes(self) -> int:
        """Return the total compressed bytes."""
        return sum(stream.packed_bytes for stream in self.streams)


@dataclass(frozen=True, kw_only=True)
class FileGroup(GroupStreams):
    """Files that are built together from one set of streams.

    Attributes:
        files: Number of files, in the order of the tree.
        references: The reference files, concatenated into one reference.
        recipes: Instructions for the files that are rebuilt archives.
        view: Total bytes of all files; of archives, the bytes that come from the streams.
    """

    files: int
    references: tuple[FileReference, ...]
    recipes: tuple[ArchiveRecipe, ...]
    view: int

    @property
    def covered(self) -> int:
        """Return the bytes of the view that are in covers."""
        return self.view - self.literals.plain_bytes

    @property
    def matched(self) -> int:
        """Return the total bytes of the reference that the covers copy."""
        return self.covered if self.minified_names is None else self.minified_names.matched

    @property
    def memory_bytes(self) -> int:
        """Return the memory for building the group: one dictionary per stream, and buffers."""
        if self.single_frame:
            return BUFFER_BYTES + SINGLE_FRAME_MEMORY_BYTES
        return BUFFER_BYTES + sum(
            compute_dictionary_bytes(s.plain_bytes) for s in self.streams if s.packed_bytes
        )


@dataclass
class PackPlan:
    """The new tree, and the groups that build its files.

    Attributes:
        entries: In order: the index of an unchanged old entry, or a new entry.
        groups: The groups; together they build all built entries, in order.
    """

    entries: list[int | NewEntry] = field(default_factory=list)
    groups: list[FileGroup] = field(default_factory=list)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the capabilities that the pack needs and older agents may lack."""
        used = {
            SINGLE_FRAME: any(group.single_frame for group in self.groups),
            COPIES: any(isinstance(e, NewEntry) and e.copy_of is not None for e in self.entries),
            EARLIER_FILES: any(ref.is_built for group in self.groups for ref in group.references),
            MINIFIED_NAMES: any(group.minified_names is not None for group in self.groups),
        }
        recipes = [recipe for group in self.groups for recipe in group.recipes]
        for operation in (one for recipe in recipes for one in recipe.operations):
            if operation.kind is ArchiveOperationKind.DEFLATE:
                used[name_deflate_capability(operation.argument)] = True
        return tuple(sorted(name for name, there in used.items() if there))

    @property
    def memory_bytes(self) -> int:
        """Return the maximum memory of the groups."""
        return max((group.memory_bytes for group in self.groups), default=BUFFER_BYTES)


MAGIC = b"NCENDLT1"
HEADER_STRUCT = struct.Struct("<8s32s32s2I")
MAX_INDEX_BYTES = 16 << 20


@dataclass(frozen=True)
class PackHeader:
    """The header of a pack.

    Attributes:
        from_tree: Digest of the old tree, hexadecimal.
        to_tree: Digest of the new tree, hexadecimal.
        index: Position of the index.
    """

    from_tree: str
    to_tree: str
    index: Extent

    @property
    def streams_start(self) -> int:
        """Return the offset of the first stream."""
        return self.index.start + self.index.packed_bytes


def read_header(descriptor: int) -> PackHeader:
    """Read the header of a pack.

    Raises:
        MalformedPackError: If the file is not a pack, or its index is larger than allowed.
    """
    content = os.pread(descriptor, HEADER_STRUCT.size, 0)
    if len(content) < HEADER_STRUCT.size or not content.startswith(MAGIC):
        raise MalformedPackError("not a delta pack")
    _, origin, result, packed, plain = HEADER_STRUCT.unpack(content)
    if plain > MAX_INDEX_BYTES or packed > MAX_INDEX_BYTES:
        raise MalformedPackError(
            N_("more than {limit_bytes} in the index"), limit_bytes=MAX_INDEX_BYTES
        )
    return PackHeader(origin.hex(), result.hex(), Extent(HEADER_STRUCT.size, packed, plain))


def read_index(descriptor: int, header: PackHeader) -> bytes:
    """Decompress the index.

    Raises:
        MalformedPackError: If it is damaged.
    """
    reader = LzmaReader(descriptor, header.index)
    content = reader.read(header.index.plain_bytes)
    reader.check_exhausted()
    return content


def check_no_trailing_data(descriptor: int, header: PackHeader, plan: PackPlan) -> None:
    """Check that the file ends with the last stream.

    Raises:
        MalformedPackError: If the file has another length.
    """
    end = header.streams_start
    if plan.groups:
        last = plan.groups[-1].streams[-1]
        end = last.start + last.packed_bytes
    if os.fstat(descriptor).st_size != end:
        raise MalformedPackError("length mismatch")


def encode_header(from_tree: str, to_tree: str, index: bytes) -> bytes:
    """Return the header of a pack, with its index."""
    packed = compress_stream(index)
    origin, result = bytes.fromhex(from_tree), bytes.fromhex(to_tree)
    return HEADER_STRUCT.pack(MAGIC, origin, result, len(packed), len(index)) + packed


class DeltaError(TransferError):
    """Base of failures to apply a pack. The files written so far are removed."""

    message = DELTA_ERROR
    code_range = range(3150, 3160)


class DeltaBuildError(TransferError):
    """Base of failures to build a pack."""

    message = DELTA_BUILD_FAILED
    code_range = range(3160, 3170)


class DeltaVerificationError(DeltaBuildError):
    """A new pack that did not produce the new tree when it was applied; it was removed."""

    message = DELTA_NOT_VERIFIED


# SHA-256 of the sample in list_capabilities(), deflated by zlib 1.2.11 to 1.3.1 at each level.
DEFLATE_DIGESTS = {
    1: "02981d35999b5a98bd366eb92888fc555e41d1bfaf4f9dfb938b0786cc2455dd",
    6: "3d87e6c11bb0a2485bff1d77e0e218d4da2ce58b83abe7d45ab5daceb05fd0d5",
    9: "a8de21a0df0eb7bb0cf5892cf4542b2af34f86c7ee2f307b1462fe7d60de3802",
}


SINGLE_FRAME = "zstd-prefix"  # a group may be one zstd frame that refers to old files


COPIES = "copies"  # a file may be a copy of a file that the pack builds


EARLIER_FILES = "earlier"  # groups may refer to files that earlier groups build


MINIFIED_NAMES = "names"  # short names in covers may be renamed


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


Capability = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]{1,40}$")]


class LinkMode(StrEnum):
    """How an unchanged file of the old slot is brought into the new one.

    ``SAFE`` clones blocks if the file system can (reflink). Otherwise it makes a hard link if the
    file is read-only and owned by root, so that no service can write to it; otherwise it copies.
    ``SEALED`` also links read-only files of the caller's user: for a result that nobody writes to.
    """

    SAFE = "safe"
    SEALED = "sealed"


class DeltaLimits(BaseModel):
    """The signed facts and limits of a pack.

    Attributes:
        from_tree: Digest of the old tree.
        to_tree: Digest of the new tree.
        out_bytes: Total bytes of all files of the new tree.
        out_files: Number of entries of the new tree, of every type.
        max_memory_bytes: Memory for buffers and dictionaries, besides the program and the two
            trees.
        needs: Capabilities that the agent must have; see ``list_capabilities``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    from_tree: Digest
    to_tree: Digest
    out_bytes: Annotated[int, Field(ge=0, lt=2**63)]
    out_files: Annotated[int, Field(ge=0, le=MAX_ENTRIES)]
    max_memory_bytes: Annotated[int, Field(ge=0, lt=2**63)]
    needs: Annotated[tuple[Capability, ...], Field(max_length=20)] = ()


def name_deflate_capability(level: int) -> str:
    """Return the name of the capability to deflate exactly as the publisher's zlib does."""
    return f"deflate-zlib-{level}.8"


def make_deflater(level: int) -> zlib._Compress:
    """Return a compressor for archive members: raw deflate, with the settings of common tools."""
    return zlib.compressobj(level, zlib.DEFLATED, -15, 8)


@lru_cache(maxsize=1)
def list_capabilities() -> frozenset[str]:
    """Return the capabilities of this machine.

    Another library than zlib (for example zlib-ng) deflates to other bytes: valid, but not those
    that were signed. So the library is tested on a sample, once per process.
    """
    sample = b"".join(b"%d of %d;" % (n * n % 977, n) for n in range(7000))
    able = {SINGLE_FRAME, COPIES, EARLIER_FILES, MINIFIED_NAMES}
    for level, expected in DEFLATE_DIGESTS.items():
        packer = make_deflater(level)
        content = packer.compress(sample) + packer.flush()
        if hashlib.sha256(content).hexdigest() == expected:
            able.add(name_deflate_capability(level))
    return frozenset(able)
