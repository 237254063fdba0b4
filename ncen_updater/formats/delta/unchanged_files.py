"""An unchanged file comes into the new slot: hashed first, then shared if that is safe, or copied.

A hard link is one file with two names: what is written through one is in both slots. So one is made
only of a regular file that nobody may write to and that is root's: no service that runs as another
user can then give itself the right to. See ``docs/decisions`` on links between slots.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.messages import OLD_FILE_ALTERED
from ncen_updater.formats.delta.errors import DeltaError
from ncen_updater.formats.delta.model import Linking
from ncen_updater.formats.delta.old_slot import Origin

FICLONE = 0x40049409  # linux/fs.h
WRITE_BITS = 0o222
ROOT = 0
# What a file system says that cannot share blocks, or not between these two files.
NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
NO_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)


def may_link(info: os.stat_result, mode: int, user: int, linking: Linking) -> bool:
    """Whether nothing can write through a second name of a file; pure.

    Args:
        info: The file, as it is.
        mode: What its mode will be in the new slot, before it is sealed.
        user: The agent's own user.
        linking: What the site allows.
    """
    owners = {Linking.SAFE: {ROOT}, Linking.SEALED: {ROOT, user}, Linking.COPY: set()}[linking]
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid in owners
        and stat.S_IMODE(info.st_mode) == mode & ~WRITE_BITS
    )


class Sharing:
    """Brings old files into a new slot.

    Args:
        origin: The old slot.
        below: The new one.
        linking: What the site allows.
    """

    def __init__(self, origin: Origin, below: DirectoryHandle, linking: Linking) -> None:
        self._origin, self._below, self._linking = origin, below, linking
        self._clones = linking is not Linking.COPY

    def take_over(self, index: int, path: str, mode: int) -> None:
        """Bring an old file into the new slot under its path there.

        Raises:
            OldFileAltered: If the old file is not what its record says.
            OSError: If the disk fails.
        """
        source = self._origin.open(index)
        try:
            if self._clones and self._cloned(index, source, path, mode):
                return
            if may_link(os.fstat(source), mode, os.geteuid(), self._linking):
                self._origin.content(index, source)
                if self._linked(index, source, path):
                    return
            with os.fdopen(self._below.create(path), "wb") as stream:
                self._origin.content(index, source, stream.write)
                os.fchmod(stream.fileno(), mode)
        finally:
            os.close(source)

    def _cloned(self, index: int, source: int, path: str, mode: int) -> bool:
        """Share the blocks; a file system that once refused is not asked again."""
        target = self._below.create(path)
        try:
            fcntl.ioctl(target, FICLONE, source)
            self._origin.content(index, target)
            os.fchmod(target, mode)
        except OSError as error:
            if error.errno not in NO_CLONE:
                raise
            self._clones = False
            self._below.remove(path)
            return False
        finally:
            os.close(target)
        return True

    def _linked(self, index: int, source: int, path: str) -> bool:
        """Link the very file that was hashed."""
        old = self._origin.entry(index).path
        try:
            made = self._below.hard_link(path, self._origin.below, old)
        except OSError as error:
            if error.errno in NO_LINK:
                return False
            raise
        if not os.path.samestat(made, os.fstat(source)):
            self._below.remove(path)
            raise DeltaError(OLD_FILE_ALTERED, path=old, detail="replaced while it was read")
        return True
