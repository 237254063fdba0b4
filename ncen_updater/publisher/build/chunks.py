"""Digests of the parts of an archive, for clients on bad lines."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ncen_updater.formats.document import Chunks, chunk_bytes_for

BLOCK = 1 << 20


def chunks_of(path: Path, length: int) -> Chunks | None:
    """Read a file part by part; None where it is a single part.

    Args:
        path: The file.
        length: Its length, bytes.
    """
    size = chunk_bytes_for(length)
    if length <= size:
        return None
    digests = []
    with path.open("rb") as stream:
        for start in range(0, length, size):
            digest = hashlib.sha256()
            while block := stream.read(min(BLOCK, start + size - stream.tell())):
                digest.update(block)
            digests.append(digest.hexdigest())
    return Chunks(size=size, sha256=tuple(digests))
