"""Snapshot of one directory: save its files, restore them, and restore their old paths.

The agent has a directory of its own for snapshots, beside the saved one, on the same file system:

    <change>/tree        every file under its path, as a hard link, a clone or a copy
    <change>/prepared    the index, made while users work
    <change>/index       the index after the application stopped; only this one is used
    quarantine-<change>  entries added before a revert; never deleted
    written-<change>     names of files overwritten in place, which cannot be undone

Every operation can be repeated after a crash at any instant.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.storage.site_files.directory_index import (
    FICLONE,
    FINAL_INDEX,
    PREPARED_INDEX,
    QUARANTINE_PREFIX,
    ROOT_PATH,
    TREE_DIRECTORY,
    WRITTEN_LIST_PREFIX,
    DirectoryEntry,
    DirectoryIndex,
    FileKind,
    SnapshotMethod,
    decode_index,
    encode_index,
    find_gone_and_moved,
    get_snapshot_directory,
    has_same_content,
    is_owned_by_agent,
    is_unchanged,
    make_entry,
    read_directory,
)
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    DIRECTORY_NOT_PRIVATE,
    INDEX_UNUSABLE,
    SITE_FILES_NOT_RESTORED,
    SITE_FILES_NOT_SAVED,
)


class UnsafeSnapshotDirectoryError(UpdaterError):
    """The directory for snapshots belongs to another user, or others may write in it."""

    message = DIRECTORY_NOT_PRIVATE


logger = logging.getLogger(__name__)

#: A file written this shortly before its copy may be written again with the same time stamp.
RACY_WINDOW_NS = 2_000_000_000
COPY_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class RestoreResult:
    """Result of a restore, in counts.

    Attributes:
        restored: Files that had been moved, deleted or replaced, and are at their old path again.
        quarantined: Added entries that were moved to quarantine.
        overwritten: Paths of files overwritten in place, which cannot be undone.
        lost: Paths that the snapshot no longer contains.
    """

    restored: int = 0
    quarantined: int = 0
    overwritten: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class DirectorySnapshot:
    """Snapshot of one directory of site files, for one change.

    Args:
        directory: An absolute path.
        change: Id of the change.
        method: The method by which files are saved.
    """

    def __init__(self, directory: Path, change: str, method: SnapshotMethod) -> None:
        self.directory = directory
        self.snapshots_directory = get_snapshot_directory(directory)
        self._change = change
        self._method = method

    # ---- snapshot ------------------------------------------------------------------------------

    def prepare(self) -> int:
        """Create the snapshot while the application works; return the number of entries.

        Raises:
            SITE_FILES_NOT_SAVED, UnsafeSnapshotDirectoryError: If it cannot be created.
        """
        return self._update(PREPARED_INDEX)

    def complete(self) -> int:
        """Update the snapshot, now that the application is stopped; return the number of entries.

        Raises:
            SITE_FILES_NOT_SAVED, UnsafeSnapshotDirectoryError, INDEX_UNUSABLE: If this fails.
        """
        return self._update(FINAL_INDEX)

    def is_complete(self) -> bool:
        """Tell whether the snapshot is complete."""
        try:
            with self._open_snapshot() as snapshot:
                snapshot.stat_entry(FINAL_INDEX)
        except FileNotFoundError:
            return False
        return True

    def _update(self, name: str) -> int:
        try:
            with self._open_live() as live, self._open_snapshot(make=True) as snapshot:
                known = self._read_index(snapshot, PREPARED_INDEX) or {}
                if not known:
                    with contextlib.suppress(FileNotFoundError):
                        snapshot.remove_tree(TREE_DIRECTORY)  # remains of an interrupted start
                snapshot.ensure_directory(TREE_DIRECTORY)
                with snapshot.open_directory(TREE_DIRECTORY) as tree:
                    index, touched = self._update_tree(live, tree, known)
                if touched:
                    snapshot.sync_filesystem()
                snapshot.replace_file(name, encode_index(index))
                return len(index)
        except OSError as error:
            raise self._make_save_error(error) from error

    def _update_tree(
        self, live: DirectoryHandle, tree: DirectoryHandle, known: DirectoryIndex
    ) -> tuple[DirectoryIndex, bool]:
        """Update the tree to the present entries; return the index and whether anything changed."""
        seen, index, touched = read_directory(live), DirectoryIndex(), False
        for path in list(reversed(known)):
            now = seen.get(path)
            if now is None or not is_unchanged(known[path], now, self._method):
                touched = True
                _remove_entry(tree, path, known[path])
                known.pop(path)
        for path, entry in seen.items():
            if path == ROOT_PATH or path in known:
                index[path] = entry
                continue
            touched = True
            if entry.kind == FileKind.DIRECTORY:
                tree.make_directory(path)
                index[path] = entry
            elif entry.kind == FileKind.LINK:
                tree.make_symlink(path, entry.target)
                index[path] = entry
            elif entry.kind == FileKind.OTHER:
                index[path] = entry
            else:
                taken = _copy_file(live, path, tree, self._method)
                if taken is not None:
                    index[path] = taken
        return index, touched

    # ---- restore -------------------------------------------------------------------------------

    def restore(self, *, required: bool = False) -> RestoreResult:
        """Restore the recorded state; does nothing if there is no snapshot.

        Args:
            required: Whether the new version was started, so that the snapshot must exist.

        Raises:
            SITE_FILES_NOT_RESTORED, UnsafeSnapshotDirectoryError, INDEX_UNUSABLE: If this fails.
        """
        try:
            with self._open_snapshot() as snapshot:
                index = self._read_index(snapshot, FINAL_INDEX)
                if index is None:
                    return self._make_result_without_snapshot(required=required)
                self._ensure_directory()
                with (
                    self._open_live() as live,
                    snapshot.open_directory(TREE_DIRECTORY) as tree,
                    self._open_quarantine() as quarantine,
                ):
                    found = self._restore_tree(live, tree, quarantine, index)
                    live.sync_filesystem()
                if found.overwritten:
                    self._write_overwritten_list(found.overwritten)
                return found
        except FileNotFoundError as error:
            if self.exists():
                raise self._make_restore_error(error) from error
            return self._make_result_without_snapshot(required=required)
        except OSError as error:
            raise self._make_restore_error(error) from error

    def _write_overwritten_list(self, paths: tuple[str, ...]) -> None:
        """Write the names to a file, not to the journal, since they may reveal personal data."""
        lines = [path.encode("utf-8", "backslashreplace") for path in paths]
        with self._open_snapshots_directory() as directory:
            directory.replace_file(WRITTEN_LIST_PREFIX + self._change, b"\n".join([*lines, b""]))

    def _make_result_without_snapshot(self, *, required: bool) -> RestoreResult:
        """Return the result without a snapshot: somebody removed it, or its disk is absent."""
        if not required:
            return RestoreResult()
        try:
            with self._open_live():
                return RestoreResult(lost=(ROOT_PATH,))
        except OSError as error:
            raise self._make_restore_error(error) from error

    def list_missing(self) -> tuple[str, ...]:
        """Return paths that were saved and are missing now; empty if there is no snapshot."""
        try:
            with self._open_snapshot() as snapshot:
                index = self._read_index(snapshot, FINAL_INDEX)
                if index is None:
                    return ()
                with (
                    self._open_live() as live,
                    snapshot.open_directory(TREE_DIRECTORY) as tree,
                ):
                    seen = read_directory(live)
                    return tuple(
                        path
                        for path, was in index.items()
                        if was.kind != FileKind.OTHER
                        and (path not in seen or seen[path].kind != was.kind)
                        and not _is_lost(tree, path, was)
                    )
        except FileNotFoundError:
            if not self.exists():
                return ()
            raise

    def _restore_tree(
        self,
        live: DirectoryHandle,
        tree: DirectoryHandle,
        quarantine: DirectoryHandle,
        index: DirectoryIndex,
    ) -> RestoreResult:
        seen = read_directory(live)
        moved = self._quarantine_changed(live, tree, quarantine, index, seen)
        restored = 0
        written: list[str] = []
        lost: list[str] = []
        for path, was in index.items():
            present = seen.get(path)
            if present is not None and was.kind == FileKind.FILE:
                if present.inode == was.inode and not has_same_content(was, present):
                    written.append(path)
                _set_attributes(live, path, was, present)
            elif present is None and (was.kind == FileKind.OTHER or _is_lost(tree, path, was)):
                lost.append(path)
            elif present is None:
                self._restore_entry(live, tree, path, was)
                restored += was.kind == FileKind.FILE
        for path in reversed(index):
            if index[path].kind == FileKind.DIRECTORY:
                _set_attributes(live, path, index[path], make_entry(live.stat_entry(path)))
                live.set_modification_time(path, index[path].mtime_ns)
        return RestoreResult(restored, moved, tuple(written), tuple(lost))

    def _quarantine_changed(
        self,
        live: DirectoryHandle,
        tree: DirectoryHandle,
        quarantine: DirectoryHandle,
        index: DirectoryIndex,
        seen: DirectoryIndex,
    ) -> int:
        """Remove or quarantine entries that differ from the index; return the number quarantined.

        Args:
            live: The directory.
            tree: The tree of the snapshot.
            quarantine: The quarantine directory.
            index: The index.
            seen: The present entries; afterwards only the remaining ones.
        """
        contents = {
            entry.inode: (path, entry)
            for path, entry in index.items()
            if entry.kind == FileKind.FILE
        }
        moved = 0
        for path in list(reversed(seen)):
            now, was = seen[path], index.get(path)
            if self._is_unchanged(tree, path, was, now):
                continue
            if now.kind == FileKind.DIRECTORY:
                try:
                    live.remove_directory(path)
                except OSError as error:
                    # A program is still writing here; its new files are not ours to remove.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or was is not None:
                        raise
            elif now.kind == FileKind.FILE and self._is_in_snapshot(tree, now, contents):
                live.remove_file(path)  # the snapshot has it under its old path, which is restored
            else:
                _move_to_quarantine(live, path, quarantine)
                moved += 1
            del seen[path]
        return moved

    def _restore_entry(
        self, live: DirectoryHandle, tree: DirectoryHandle, path: str, was: DirectoryEntry
    ) -> None:
        if was.kind == FileKind.DIRECTORY:
            # Owner and time are set when its contents are complete
            _make_directory(live, path, was)
        elif was.kind == FileKind.LINK:
            live.make_symlink(path, was.target)
            if (was.uid, was.gid) != (os.geteuid(), os.getegid()):
                live.set_owner(path, was.uid, was.gid)
            live.set_modification_time(path, was.mtime_ns)
        else:
            now = make_entry(live.make_hard_link(path, tree, path))
            _set_attributes(live, path, was, now)

    def _is_unchanged(
        self,
        tree: DirectoryHandle,
        path: str,
        was: DirectoryEntry | None,
        now: DirectoryEntry | None,
    ) -> bool:
        """Tell whether an entry is the recorded one."""
        if was is None or now is None or was.kind != now.kind:
            return False
        if was.kind == FileKind.LINK:
            return was.target == now.target
        if was.kind != FileKind.FILE:
            return True
        if was.inode == now.inode and (
            self._method is SnapshotMethod.LINK or has_same_content(was, now)
        ):
            return True
        try:
            return tree.stat_entry(path).st_ino == now.inode  # restored before a crash
        except FileNotFoundError:
            return False

    def _is_in_snapshot(
        self,
        tree: DirectoryHandle,
        now: DirectoryEntry,
        contents: Mapping[int, tuple[str, DirectoryEntry]],
    ) -> bool:
        """Tell whether the snapshot has a file's contents, so that this name can be removed."""
        if now.inode not in contents:
            return False
        path, was = contents[now.inode]
        try:
            copy = tree.stat_entry(path)
        except (FileNotFoundError, NotADirectoryError):
            return False  # somebody removed it: this may be the last name of the file
        if self._method is SnapshotMethod.LINK:
            return copy.st_ino == now.inode
        return has_same_content(was, now)

    # ---- after the commit ----------------------------------------------------------------------

    def restore_old_paths(
        self, earlier_snapshot: DirectorySnapshot, *, everything: bool
    ) -> tuple[int, int]:
        """Restore the old paths of files of the previous release. Adds, and never replaces.

        Args:
            earlier_snapshot: The snapshot of the same directory for the upgrade.
            everything: Restore missing files, too, not only moved ones.

        Returns:
            The number of restored paths, and the number of missing files that were not restored.

        Raises:
            SITE_FILES_NOT_SAVED, INDEX_UNUSABLE: If this fails.
        """
        try:
            with earlier_snapshot._open_snapshot() as snapshot, self._open_live() as live:
                was, now = self._read_index(snapshot, FINAL_INDEX), read_directory(live)
                if was is None:
                    return 0, 0
                missing, moved = find_gone_and_moved(was, now)
                wanted = missing | moved if everything else moved
                with snapshot.open_directory(TREE_DIRECTORY) as tree:
                    restored = self._link_old_paths(live, tree, was, now, wanted)
                live.sync_filesystem()
                return restored, 0 if everything else len(missing)
        except FileNotFoundError as error:
            if earlier_snapshot.exists():
                raise self._make_save_error(error) from error
            return 0, 0
        except OSError as error:
            raise self._make_save_error(error) from error

    def _link_old_paths(
        self,
        live: DirectoryHandle,
        tree: DirectoryHandle,
        was: DirectoryIndex,
        now: DirectoryIndex,
        wanted: set[str],
    ) -> int:
        needed = {ROOT_PATH}
        for path in wanted:
            parts = path.split("/")[:-1]
            needed.update("/".join(parts[:length]) for length in range(1, len(parts) + 1))
        created, restored = [], 0
        for path, entry in was.items():
            parent = path.rpartition("/")[0]
            if path in needed and entry.kind == FileKind.DIRECTORY and path not in now:
                if parent in now and now[parent].kind == FileKind.DIRECTORY:
                    _make_directory(live, path, entry)
                    now[path] = entry
                    created.append(path)
            elif path in wanted and parent in now and now[parent].kind == FileKind.DIRECTORY:
                with contextlib.suppress(FileExistsError):
                    if _copy_file(tree, path, live, self._method) is not None:
                        _set_attributes(live, path, entry, make_entry(live.stat_entry(path)))
                        restored += 1
        for path in reversed(created):
            _set_attributes(live, path, was[path], make_entry(live.stat_entry(path)))
            live.set_modification_time(path, was[path].mtime_ns)
        return restored

    def discard(self) -> None:
        """Remove the snapshot but not the quarantine. A directory of another user is left alone.

        Raises:
            SITE_FILES_NOT_SAVED: If it exists and cannot be removed.
        """
        try:
            with self._open_snapshots_directory() as directory:
                directory.remove_tree(self._change)
        except UnsafeSnapshotDirectoryError:
            logger.warning("not a directory of the agent; unchanged: %s", self.snapshots_directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise self._make_save_error(error) from error

    # ---- directories ---------------------------------------------------------------------------

    def _open_live(self) -> DirectoryHandle:
        return DirectoryHandle.open_without_symlinks(self.directory)

    @contextlib.contextmanager
    def _open_snapshots_directory(self, *, make: bool = False) -> Iterator[DirectoryHandle]:
        with DirectoryHandle.open_without_symlinks(self.snapshots_directory.parent) as parent:
            if make:
                with contextlib.suppress(FileExistsError):
                    parent.make_directory(self.snapshots_directory.name)
            with parent.open_directory(self.snapshots_directory.name) as directory:
                if not is_owned_by_agent(directory.stat_entry(ROOT_PATH)):
                    raise UnsafeSnapshotDirectoryError(path=self.snapshots_directory)
                yield directory

    @contextlib.contextmanager
    def _open_snapshot(self, *, make: bool = False) -> Iterator[DirectoryHandle]:
        with self._open_snapshots_directory(make=make) as directory:
            if make:
                directory.ensure_directory(self._change)
            with directory.open_directory(self._change) as snapshot:
                yield snapshot

    @contextlib.contextmanager
    def _open_quarantine(self) -> Iterator[DirectoryHandle]:
        with self._open_snapshots_directory() as directory:
            directory.ensure_directory(QUARANTINE_PREFIX + self._change)
            with directory.open_directory(QUARANTINE_PREFIX + self._change) as quarantine:
                yield quarantine
            with contextlib.suppress(OSError):  # empty: no entry was quarantined
                directory.remove_directory(QUARANTINE_PREFIX + self._change)

    def exists(self) -> bool:
        """Tell whether any part of the snapshot exists."""
        try:
            with self._open_snapshot():
                return True
        except FileNotFoundError:
            return False

    def _ensure_directory(self) -> None:
        """Create the directory if it is missing; anything else at its path goes into quarantine."""
        with DirectoryHandle.open_without_symlinks(self.directory.parent) as parent:
            name = self.directory.name
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(parent.stat_entry(name).st_mode):
                    return
                with self._open_quarantine() as quarantine:
                    _move_to_quarantine(parent, name, quarantine)
            parent.make_directory(name)

    def _read_index(self, snapshot: DirectoryHandle, name: str) -> DirectoryIndex | None:
        try:
            descriptor = snapshot.open_file(name)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read()
        try:
            return decode_index(content)
        except (ValueError, TypeError) as error:
            raise UpdaterError(
                INDEX_UNUSABLE, directory=self.directory, path=self.snapshots_directory
            ) from error

    def _make_save_error(self, error: OSError) -> UpdaterError:
        reason = _format_error(error)
        return UpdaterError(SITE_FILES_NOT_SAVED, directory=self.directory, reason=reason)

    def _make_restore_error(self, error: OSError) -> UpdaterError:
        return UpdaterError(
            SITE_FILES_NOT_RESTORED,
            directory=self.directory,
            path=self.snapshots_directory / self._change,
            reason=_format_error(error),
        )


def _format_error(error: OSError) -> str:
    name = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{name}"


def _is_lost(tree: DirectoryHandle, path: str, was: DirectoryEntry) -> bool:
    """Tell whether somebody removed an entry from the snapshot."""
    if was.kind in (FileKind.DIRECTORY, FileKind.OTHER):
        return False
    try:
        tree.stat_entry(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def _remove_entry(tree: DirectoryHandle, path: str, was: DirectoryEntry) -> None:
    with contextlib.suppress(FileNotFoundError):
        if was.kind == FileKind.DIRECTORY:
            tree.remove_tree(path)
        else:
            tree.remove_file(path)


def _copy_file(
    source: DirectoryHandle, path: str, target: DirectoryHandle, method: SnapshotMethod
) -> DirectoryEntry | None:
    """Link or copy a file to the same path; None if it vanished or is no regular file any more."""
    try:
        if method is SnapshotMethod.LINK:
            found = make_entry(target.make_hard_link(path, source, path))
            if found.kind == FileKind.FILE:
                return found
            target.remove_file(path)
            return None
        descriptor = source.open_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            return None
        copy = target.create_file(path)
        try:
            _copy_bytes(descriptor, copy, method)
            _copy_attributes(descriptor, copy, seen)
        finally:
            os.close(copy)
        taken = make_entry(seen)
        # It may be written again within the same clock tick: then copy it again in the downtime.
        recent = time.time_ns() - seen.st_mtime_ns < RACY_WINDOW_NS
        return taken._replace(ctime_ns=0) if recent else taken
    finally:
        os.close(descriptor)


def _copy_bytes(source: int, target: int, method: SnapshotMethod) -> None:
    if method is SnapshotMethod.CLONE:
        fcntl.ioctl(target, FICLONE, source)
        return
    while os.copy_file_range(source, target, COPY_CHUNK_BYTES):
        pass


def _copy_attributes(source: int, target: int, seen: os.stat_result) -> None:
    """Copy owner, mode, extended attributes with ACLs, and times to a copy."""
    if (seen.st_uid, seen.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(target, seen.st_uid, seen.st_gid)
    _set_mode(target, stat.S_IMODE(seen.st_mode))
    for name in _list_attributes(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _list_attributes(descriptor: int) -> list[str]:
    try:
        names = os.listxattr(descriptor)
    except OSError:
        return []  # the file system has no extended attributes
    return [name for name in names if name.startswith(("user.", "system.posix_acl"))]


def _set_mode(descriptor: int, mode: int) -> None:
    try:
        os.fchmod(descriptor, mode)
    except PermissionError:
        # The agent's unit may not set setuid and setgid (RestrictSUIDSGID); directories inherit
        # setgid.
        if not mode & 0o6000:
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, mode & 0o1777)


def _make_directory(live: DirectoryHandle, path: str, was: DirectoryEntry) -> None:
    """Create a directory with its final mode; a later ``chmod`` would clear inherited setgid."""
    before = os.umask(0)
    try:
        live.make_directory(path, was.mode & 0o777)
    finally:
        os.umask(before)


def _set_attributes(
    live: DirectoryHandle, path: str, was: DirectoryEntry, now: DirectoryEntry
) -> None:
    """Set the recorded owner and mode of a file or directory, if they differ."""
    if (was.uid, was.gid) != (now.uid, now.gid):
        live.set_owner(path, was.uid, was.gid)
    elif was.mode == now.mode:
        return
    descriptor = live.open_file(path or ".")
    try:
        if os.fstat(descriptor).st_ino == now.inode:
            _set_mode(descriptor, was.mode)
    finally:
        os.close(descriptor)


def _move_to_quarantine(live: DirectoryHandle, path: str, quarantine: DirectoryHandle) -> None:
    """Move an entry to the quarantine directory, under a free name."""
    parent = path.rpartition("/")[0]
    if parent:
        quarantine.ensure_directory(parent)
    name, number = path, 0
    while True:
        try:
            quarantine.stat_entry(name)
        except FileNotFoundError:
            live.move_entry(path, quarantine, name)
            return
        number += 1
        name = f"{path}.{number}"
