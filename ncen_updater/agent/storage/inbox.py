"""The tray: where people who may order lay bundles down, for the service to import.

An order names a file in it and no place. Whoever may write there can plant anything under any name,
so a name is opened through the directory itself, without following a link, and what was opened is
judged: a plain file, with no second name, of the very person who ordered it. What was opened so is
read, whatever becomes of the name meanwhile. Light: the service imports it.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ncen_updater.agent.model.names import TRAY
from ncen_updater.common.disk_space import disk_full, require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import BUNDLE_UNREADABLE, NOT_A_BUNDLE, TRAY_FILE, TRAY_UNUSABLE
from ncen_updater.common.progress import Progress
from ncen_updater.formats.bundle.bundle_file import open_file

ROOT = 0
#: Bytes of a name; more than any that a bundle is given.
MAX_NAME = 200
#: So many names are looked at, and so many files told of.
MOST_SEEN, MOST_TOLD = 2000, 100
PIECE = 1 << 20
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Opening a pipe would wait for its writer.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_plain_name(name: str) -> bool:
    """Whether a name is one of a file in the tray, and can be shown; pure."""
    fits = 0 < len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME
    return fits and name.isprintable() and "/" not in name and not name.startswith(".")


def tray_fault(info: os.stat_result, ours: int) -> Text | None:
    """Return why a directory cannot be the tray; None where it can. Pure.

    Args:
        info: What the system says of it.
        ours: The user that works for the service.
    """
    if info.st_uid not in (ROOT, ours):
        return Text(N_("it does not belong to root"))
    if info.st_mode & stat.S_IWOTH:
        return Text(N_("everybody may write to it"))
    if info.st_mode & stat.S_IWGRP and not info.st_mode & stat.S_ISVTX:
        return Text(N_("whoever may write to it may take away what belongs to others (no 't')"))
    return None


def why_not(info: os.stat_result, who: int) -> Text | None:
    """Return why a file is not taken for somebody; None where it is. Pure.

    Args:
        info: What the system says of it.
        who: Who orders.
    """
    if not stat.S_ISREG(info.st_mode):
        return Text(N_("it is no plain file"))
    if info.st_nlink != 1:
        return Text(N_("it has a second name (a hard link)"))
    # Also of root's: whoever may write to its directory can move one from there into the tray.
    if info.st_uid != who:
        return Text(N_("it belongs to {owner}, who has to order it"), {"owner": _name(info.st_uid)})
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@dataclass(frozen=True)
class TrayFile:
    """A file that lies there.

    Attributes:
        name: Its name.
        size_bytes: Its size.
        since: When it came, or was changed last (UTC).
        owner: Whose it is.
        why_not: Why whoever asks may not order it; None where they may.
    """

    name: str
    size_bytes: int
    since: datetime
    owner: str
    why_not: Text | None


class Tray:
    """The tray of a site.

    Args:
        state: The agent's state directory.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / TRAY

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Open the directory; raises as :meth:`files`."""
        try:
            directory = os.open(self.path, DIRECTORY)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UpdaterError(TRAY_UNUSABLE, path=self.path, reason=reason) from error
        try:
            fault = tray_fault(os.fstat(directory), os.geteuid())
            if fault is not None:
                raise UpdaterError(TRAY_UNUSABLE, path=self.path, reason=fault)
            yield directory
        finally:
            os.close(directory)

    def require(self) -> None:
        """Refuse a tray that cannot be used; raises as :meth:`files`."""
        with self._open():
            pass

    def files(self, who: int) -> tuple[list[TrayFile], int]:
        """Return what lies there, newest first, and how much more there is that is not told of.

        Args:
            who: Who asks.

        Raises:
            UpdaterError: If there is no tray, or it can be used by others than may order.
        """
        found: list[TrayFile] = []
        more = 0
        with self._open() as directory, os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number >= MOST_SEEN:
                    more += 1
                    break
                if entry.name.startswith("."):
                    continue
                if not is_plain_name(entry.name):
                    more += 1
                    continue
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    since = datetime.fromtimestamp(int(info.st_ctime), UTC)
                    owner, refused = _name(info.st_uid), why_not(info, who)
                    found.append(TrayFile(entry.name, info.st_size, since, owner, refused))
        found.sort(key=lambda file: (file.since, file.name), reverse=True)
        return found[:MOST_TOLD], more + len(found[MOST_TOLD:])

    def open(self, name: str, who: int) -> int:
        """Open a file for whoever ordered it; return the descriptor.

        Args:
            name: Its name.
            who: Who ordered it.

        Raises:
            UpdaterError: If it is not there or is not theirs, or as :meth:`files`.
        """
        with self._open() as directory:
            return self._opened(directory, name, who)

    def _opened(self, directory: int, name: str, who: int) -> int:
        if not is_plain_name(name):
            raise _refused(name[:MAX_NAME], Text(N_("no file of the tray is called so")))
        try:
            # Looked at before it is opened, too: opening a device may do something.
            refused = why_not(os.stat(name, dir_fd=directory, follow_symlinks=False), who)
            if refused is not None:
                raise _refused(name, refused)
            descriptor = os.open(name, READ, dir_fd=directory)
        except FileNotFoundError as error:
            raise _refused(name, Text(N_("it is not there"))) from error
        except OSError as error:
            detail = error.strerror or str(error)
            raise UpdaterError(BUNDLE_UNREADABLE, path=self.path / name, detail=detail) from error
        refused = why_not(os.fstat(descriptor), who)
        if refused is not None:
            os.close(descriptor)
            raise _refused(name, refused)
        return descriptor

    def require_file(self, name: str, who: int) -> None:
        """Refuse at once what would be refused when the order is carried out."""
        os.close(self.open(name, who))


def _refused(name: str, reason: Text) -> UpdaterError:
    return UpdaterError(TRAY_FILE, name=name, reason=reason)


# ---- who lays something down ---------------------------------------------------------------------


@contextmanager
def laid_down(tray: Path, file: Path, progress: Progress) -> Iterator[list[str]]:
    """Copy a file into the tray as this process's user; what is still to be removed is removed.

    Args:
        tray: The directory.
        file: What to copy; it keeps its name.
        progress: Told the bytes.

    Yields:
        The names that are removed at the end: whoever leaves an order that still needs the file
        empties that list.

    Raises:
        UpdaterError: If it cannot be read, has no place there, or the disk is full; nothing stays.
    """
    remove: list[str] = []
    try:
        directory = os.open(tray, DIRECTORY)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UpdaterError(TRAY_UNUSABLE, path=tray, reason=reason) from error
    try:
        if not is_plain_name(file.name):
            raise _refused(file.name, Text(N_("no file in the tray can have this name")))
        source = _source(file)
        try:
            total, done = os.fstat(source).st_size, 0
            require_space(tray, total)
            target = _made(directory, tray, file.name)
            remove.append(file.name)
            text = Text(N_("Copying {name} into the tray (bytes)"), {"name": file.name})
            try:
                while piece := _read(source, file):
                    _write(target, piece, tray / file.name)
                    done += len(piece)
                    progress.tell(text, done, max(total, done))
            finally:
                os.close(target)
        finally:
            os.close(source)
        yield remove
    finally:
        for name in remove:
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)
        os.close(directory)


def _made(directory: int, tray: Path, name: str) -> int:
    """Make a file; one of this user's that lies there already makes place for it."""
    try:
        with suppress(FileNotFoundError):
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if info.st_uid != os.geteuid():
                owner = {"owner": _name(info.st_uid)}
                raise _refused(name, Text(N_("{owner} has laid one of this name there"), owner))
            os.unlink(name, dir_fd=directory)
        return os.open(name, NEW, 0o644, dir_fd=directory)
    except OSError as error:
        raise _unwritten(error, tray / name) from error


def _source(file: Path) -> int:
    descriptor = open_file(file)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UpdaterError(NOT_A_BUNDLE, path=file)
    return descriptor


def _read(source: int, file: Path) -> bytes:
    try:
        return os.read(source, PIECE)
    except OSError as error:
        detail = error.strerror or str(error)
        raise UpdaterError(BUNDLE_UNREADABLE, path=file, detail=detail) from error


def _write(target: int, piece: bytes, path: Path) -> None:
    left = memoryview(piece)
    try:
        while left:
            left = left[os.write(target, left) :]
    except OSError as error:
        raise _unwritten(error, path) from error


def _unwritten(error: OSError, path: Path) -> UpdaterError:
    full = disk_full(error, path)
    if full is not None:
        return full
    return UpdaterError(TRAY_UNUSABLE, path=path.parent, reason=error.strerror or str(error))
