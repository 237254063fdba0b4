"""A bundle as a file on a medium, open for reading."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BUNDLE_TRUNCATED, BUNDLE_UNREADABLE, NOT_A_BUNDLE


def open_bundle_file(path: Path) -> int:
    """Open a bundle for the process that reads it; return the descriptor.

    Raises:
        BUNDLE_UNREADABLE: If it is not there, or may not be read.
    """
    try:
        # Opening a pipe would wait for its writer.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


class BundleFile:
    """A bundle that is open for reading.

    Args:
        path: Its name, for messages.
        descriptor: The open file.

    Attributes:
        path: Its name, for messages.
        size: Its bytes.

    Raises:
        NOT_A_BUNDLE: If it is no plain file.
        BUNDLE_UNREADABLE: If the system says nothing of it.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        try:
            info = os.fstat(descriptor)
        except OSError as error:
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(info.st_mode):
            raise UpdaterError(NOT_A_BUNDLE, path=path)
        self.size = info.st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes.

        Raises:
            BUNDLE_UNREADABLE: If the medium does not give them.
            BUNDLE_TRUNCATED: If they are not there.
        """
        content = b""
        try:
            while len(content) < length:
                at = offset + len(content)
                more = os.pread(self._descriptor, length - len(content), at)
                if not more:
                    raise UpdaterError(BUNDLE_TRUNCATED, path=self.path)
                content += more
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return content


@contextlib.contextmanager
def open_bundle(path: Path, descriptor: int | None = None) -> Iterator[BundleFile]:
    """Open a bundle while the block runs.

    Args:
        path: Where it is.
        descriptor: The same file, opened by a process that may read more; closed at the end.

    Raises:
        BUNDLE_UNREADABLE, NOT_A_BUNDLE: If it cannot be read.
    """
    opened = open_bundle_file(path) if descriptor is None else descriptor
    try:
        yield BundleFile(path, opened)
    finally:
        os.close(opened)


def _unreadable(path: Path, error: OSError | ValueError) -> UpdaterError:
    """Make the error for an unreadable bundle, with the system's message but not its number."""
    text = error.strerror if isinstance(error, OSError) else None
    return UpdaterError(BUNDLE_UNREADABLE, path=path, detail=text or str(error))
