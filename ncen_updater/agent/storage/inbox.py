"""Import directory: operators who may request an import place bundles there for the service.

A job names a file in it, not a path. Anyone who may write there can place anything under any name.
So the name is opened relative to the directory, without following a link, and the opened file is
checked: a regular file, with one link, owned by the user who requested the import. That open file
is read, even if its name changes meanwhile. Light imports: the service imports this module.
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

from ncen_updater.agent.model.event_names import INBOX_DIRECTORY
from ncen_updater.common.disk_space import find_disk_full_error, require_space
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BUNDLE_UNREADABLE,
    INBOX_FILE_REJECTED,
    INBOX_UNUSABLE,
    NOT_A_BUNDLE,
)
from ncen_updater.common.progress import Amount, ProgressListener, Unit
from ncen_updater.formats.bundle_file import open_bundle_file

ROOT_UID = 0
#: Maximum length of a name in bytes; names of bundles are shorter.
MAX_NAME_LENGTH = 200
#: Maximum number of names that are examined (others are only counted), and of listed files.
MAX_SCANNED, MAX_LISTED = 2000, 100
COPY_CHUNK_BYTES = 1 << 20
OPEN_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK, since opening a pipe would wait for its writer.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_plain_name(name: str) -> bool:
    """Tell whether a name can be a file in the import directory, and can be shown; pure."""
    fits = 0 < len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME_LENGTH
    return fits and name.isprintable() and "/" not in name and not name.startswith(".")


def find_inbox_fault(info: os.stat_result, agent_uid: int) -> LazyText | None:
    """Return why a directory cannot be the import directory; None if it can. Pure.

    Args:
        info: Result of a stat.
        agent_uid: The user of the service.
    """
    if info.st_uid not in (ROOT_UID, agent_uid):
        return LazyText(N_("it does not belong to the system administrator (root)"))
    if info.st_mode & stat.S_IWOTH:
        return LazyText(N_("it is world-writable"))
    if info.st_mode & stat.S_IWGRP and not info.st_mode & stat.S_ISVTX:
        return LazyText(N_("it is group-writable without a sticky bit"))
    return None


def find_refusal(info: os.stat_result, uid: int) -> LazyText | None:
    """Return why a file is refused for a user; None if it is accepted. Pure.

    Args:
        info: Result of a stat.
        uid: The requesting user.
    """
    if not stat.S_ISREG(info.st_mode):
        return LazyText(N_("not a regular file"))
    if info.st_nlink != 1:
        return LazyText(N_("it has several hard links"))
    # Also for files of root: anyone who may write to such a file's directory can move it into the
    # import directory.
    if info.st_uid != uid:
        return LazyText(
            N_("it belongs to {owner}, who must start the import"),
            {"owner": _read_user_name(info.st_uid)},
        )
    return None


def _read_user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@dataclass(frozen=True)
class InboxFile:
    """A file in the import directory.

    Attributes:
        name: Its name.
        size_bytes: Its size.
        since: Its ctime: when it was placed or last changed (UTC).
        owner: Its owner.
        refused_because: Why the caller may not request its import; None if they may.
    """

    name: str
    size_bytes: int
    since: datetime
    owner: str
    refused_because: LazyText | None


class Inbox:
    """Import directory of a site.

    Args:
        state: The agent's state directory.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / INBOX_DIRECTORY

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Open the directory; raises as :meth:`list_files`."""
        try:
            directory = os.open(self.path, OPEN_DIRECTORY_FLAGS)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UpdaterError(INBOX_UNUSABLE, path=self.path, reason=reason) from error
        try:
            fault = find_inbox_fault(os.fstat(directory), os.geteuid())
            if fault is not None:
                raise UpdaterError(INBOX_UNUSABLE, path=self.path, reason=fault)
            yield directory
        finally:
            os.close(directory)

    def require_usable(self) -> None:
        """Refuse an import directory that cannot be used; raises as :meth:`list_files`."""
        with self._open():
            pass

    def list_files(self, uid: int) -> tuple[list[InboxFile], int]:
        """Return at most :data:`MAX_LISTED` files, newest first, and the number of unlisted ones.

        Args:
            uid: The requesting user.

        Raises:
            UpdaterError: If there is no import directory, or others than operators can write there.
        """
        files: list[InboxFile] = []
        unlisted = 0
        with self._open() as directory, os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_SCANNED:
                    unlisted += not entry.name.startswith(".")
                    continue
                if entry.name.startswith("."):
                    continue
                if not is_plain_name(entry.name):
                    unlisted += 1
                    continue
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    since = datetime.fromtimestamp(int(info.st_ctime), UTC)
                    owner, refused = _read_user_name(info.st_uid), find_refusal(info, uid)
                    files.append(InboxFile(entry.name, info.st_size, since, owner, refused))
        files.sort(key=lambda file: (file.since, file.name), reverse=True)
        return files[:MAX_LISTED], unlisted + len(files[MAX_LISTED:])

    def open_file(self, name: str, uid: int) -> int:
        """Open a file for the user who requested its import; return the descriptor.

        Args:
            name: Its name.
            uid: The requesting user.

        Raises:
            UpdaterError: If it is missing or belongs to another user, or as :meth:`list_files`.
        """
        with self._open() as directory:
            return self._open_file(directory, name, uid)

    def _open_file(self, directory: int, name: str, uid: int) -> int:
        if not is_plain_name(name):
            raise _make_refusal_error(
                name[:MAX_NAME_LENGTH], LazyText(N_("file not found in the import directory"))
            )
        try:
            # Checked before it is opened, too: opening a device may have an effect.
            refused = find_refusal(os.stat(name, dir_fd=directory, follow_symlinks=False), uid)
            if refused is not None:
                raise _make_refusal_error(name, refused)
            descriptor = os.open(name, READ_FLAGS, dir_fd=directory)
        except FileNotFoundError as error:
            raise _make_refusal_error(name, LazyText(N_("not found"))) from error
        except OSError as error:
            detail = error.strerror or str(error)
            raise UpdaterError(BUNDLE_UNREADABLE, path=self.path / name, detail=detail) from error
        refused = find_refusal(os.fstat(descriptor), uid)
        if refused is not None:
            os.close(descriptor)
            raise _make_refusal_error(name, refused)
        return descriptor

    def require_file(self, name: str, uid: int) -> None:
        """Refuse at once a file that would be refused when the job runs."""
        os.close(self.open_file(name, uid))


def _make_refusal_error(name: str, reason: LazyText) -> UpdaterError:
    return UpdaterError(INBOX_FILE_REJECTED, name=name, reason=reason)


# ---- placing files -------------------------------------------------------------------------------


@contextmanager
def place_files(inbox: Path, file: Path, progress: ProgressListener) -> Iterator[list[str]]:
    """Copy a file into the import directory as this process's user; remove it at the end.

    Args:
        inbox: The directory.
        file: The file; the copy has the same name.
        progress: Receives the number of bytes.

    Yields:
        The names that are removed at the end: a caller that queues a job that needs the file clears
            this list.

    Raises:
        UpdaterError: If the file cannot be read or copied, or the disk is full; no copy is left.
    """
    remove: list[str] = []
    try:
        directory = os.open(inbox, OPEN_DIRECTORY_FLAGS)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UpdaterError(INBOX_UNUSABLE, path=inbox, reason=reason) from error
    try:
        if not is_plain_name(file.name):
            raise _make_refusal_error(file.name, LazyText(N_("invalid file name")))
        source = _open_source(file)
        try:
            total, copied = os.fstat(source).st_size, 0
            require_space(inbox, total)
            title = LazyText(N_("Copying {name} to the import directory"), {"name": file.name})
            with _map_write_errors(inbox / file.name):
                target = _create_file(directory, file.name)
                remove.append(file.name)
                try:
                    while chunk := _read_chunk(source, file):
                        _write_chunk(target, chunk)
                        copied += len(chunk)
                        progress.report(title, Amount(copied, max(total, copied), Unit.BYTES))
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


def _create_file(directory: int, name: str) -> int:
    """Create a file; an existing one of this user is replaced."""
    with suppress(FileNotFoundError):
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if info.st_uid != os.geteuid():
            values = {"owner": _read_user_name(info.st_uid)}
            raise _make_refusal_error(
                name, LazyText(N_("a file of this name by {owner} exists"), values)
            )
        os.unlink(name, dir_fd=directory)
    return os.open(name, CREATE_FLAGS, 0o644, dir_fd=directory)


def _open_source(file: Path) -> int:
    descriptor = open_bundle_file(file)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UpdaterError(NOT_A_BUNDLE, path=file)
    return descriptor


def _read_chunk(source: int, file: Path) -> bytes:
    try:
        return os.read(source, COPY_CHUNK_BYTES)
    except OSError as error:
        detail = error.strerror or str(error)
        raise UpdaterError(BUNDLE_UNREADABLE, path=file, detail=detail) from error


def _write_chunk(target: int, chunk: bytes) -> None:
    remaining = memoryview(chunk)
    while remaining:
        remaining = remaining[os.write(target, remaining) :]


@contextmanager
def _map_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise find_disk_full_error(error, path) or UpdaterError(
            INBOX_UNUSABLE, path=path.parent, reason=reason
        ) from error
