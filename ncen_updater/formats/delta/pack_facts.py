"""What is signed about a pack, how it takes files over, and its errors (codes 3150 to 3169)."""

from __future__ import annotations

import hashlib
import zlib
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ncen_updater.common.messages import DELTA_BUILD_FAILED, DELTA_ERROR, DELTA_NOT_VERIFIED
from ncen_updater.formats.errors import TransferError
from ncen_updater.formats.tree import MAX_ENTRIES


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
MINIFIED_NAMES = "names"  # packs may say that short names were given anew

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
