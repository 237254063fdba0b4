"""The parts of a file as it arrives, each with its digest: wrong bytes cost one of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class ExpectedFile:
    """The file to fetch.

    Attributes:
        name: For messages.
        length: Bytes.
        digest: Of the whole file, hexadecimal.
        chunk_bytes: Length of each part but the last.
        chunks: Digest of each part; empty where they were not signed.
        algorithm: Of all digests.
    """

    name: str
    length: int
    digest: str
    chunk_bytes: int = 0
    chunks: tuple[str, ...] = ()
    algorithm: str = "sha256"


class ChunkVerifier:
    """Judges bytes in their order.

    A file that was signed without digests of its parts is one part.

    Attributes:
        have: How many bytes count so far, the unfinished part among them.
    """

    def __init__(self, expected: ExpectedFile) -> None:
        self._size = expected.chunk_bytes if expected.chunks else max(expected.length, 1)
        self._digests = expected.chunks or (expected.digest,)
        self._algorithm = expected.algorithm
        self._length = expected.length
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.verified_bytes = 0
        self._whole = hashlib.new(self._algorithm)
        self._start_chunk()

    def drop_unfinished_chunk(self) -> None:
        """Forget the unfinished part."""
        self.verified_bytes = self._start
        self._whole = self._before
        self._start_chunk()

    def verify(self, data: bytes) -> bool:
        """Judge more bytes.

        Returns:
            Whether every part that they finish is right; if not, the first wrong part is forgotten
            together with what came after it.
        """
        view = memoryview(data)
        while view:
            end = min(self._start + self._size, self._length)
            piece, view = view[: end - self.verified_bytes], view[end - self.verified_bytes :]
            self._part.update(piece)
            self._whole.update(piece)
            self.verified_bytes += len(piece)
            if self.verified_bytes == end:
                if self._part.hexdigest() != self._digests[self._start // self._size]:
                    self.drop_unfinished_chunk()
                    return False
                self._start_chunk()
        return True

    def get_digest(self) -> str:
        """Digest of everything that counts, hexadecimal."""
        return self._whole.hexdigest()

    def _start_chunk(self) -> None:
        self._start = self.verified_bytes
        self._before = self._whole.copy()
        self._part = hashlib.new(self._algorithm)
