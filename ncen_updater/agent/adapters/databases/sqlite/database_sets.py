"""Database sets: their links, roles and records, and states of their files; no SQL.

====================  ==========================================================================
``live``              link to the set in use; its rename is the transaction of a cut-over
``live.fenced-<id>``  the same link while the change <id> fences the databases
``sets/next_<id>``    copies made by the change <id>; the set keeps this name when it becomes live
``sets/base``         the files of a site that was adopted
``sets/written_<id>`` in quarantine: somebody wrote to it, so the change <id> did not drop it
``<set>.partial``     an incomplete copy
``gone_<id>.partial`` a set that is being removed
====================  ==========================================================================

The agent's records of a set are in ``records_directory``: the marker of the set (release,
generation, change), the commit after which it must not be reverted, and its role for a change, with
the modes of its files. A role counts only while the set is not live, so it can be written before
the link moves. While both links exist, ``live`` counts: that is the case right after a cut-over,
and right before the end of its revert.

The application's user writes in a set, and may write in the directory. So no link in there is
followed, and only the databases and SQLite's companion files are touched (see ``safe_files``).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from ncen_updater.agent.adapters.databases.base import DatabaseMarker, DatabaseRole
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    COMPANION_SUFFIXES,
    SETS_DIRECTORY,
    DatabaseSetMissingError,
    NotADatabaseSetError,
    NotRegularFileError,
    RecordUnreadableError,
    check_before_open,
    mask_modes,
    open_regular_file,
    open_set,
    read_agent_file,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import FENCED_FILES_CHANGED, MARKERS_DISAGREE
from ncen_updater.formats.tree import WRITE_BITS

DATABASE_SUFFIX = ".sqlite"
PARTIAL_SUFFIX = ".partial"
FENCE_LINK_PREFIX = "live.fenced-"
QUARANTINE_PREFIX = "written_"
#: In a set; see :meth:`DatabaseSets.read_committed`.
COMMITTED = "committed.json"
DATABASE_HEADER_BYTES = 100  # file header: change counter, version-valid-for, size in pages
JOURNAL_HEADER_BYTES = 32  # WAL header: checkpoint number, salts
# Two writes within one tick of the kernel's clock get the same time; HZ is 100 or more.
TICK_NS = 20_000_000
MAX_ATTEMPTS = 50

Record = TypeVar("Record", bound=JsonRecord)


@dataclass(frozen=True)
class SetRole(JsonRecord):
    """Role of a set that is not live.

    Attributes:
        role: Candidate or previous.
        change: Its change.
        modes: Modes of files before they were frozen, by name; "." is the directory.
    """

    role: DatabaseRole
    change: str
    modes: Mapping[str, int]


@dataclass(frozen=True)
class SetRecord(JsonRecord):
    """Record of a set.

    Attributes:
        marker: Its marker; None before an agent's first cut-over.
        committed: The change whose commit it records.
        role: Its role while it is not live.
        quarantined_rows: Rows added to it before it was put in quarantine, by table.
    """

    marker: DatabaseMarker | None = None
    committed: str | None = None
    role: SetRole | None = None
    quarantined_rows: Mapping[str, int] | None = None


class RecordStore(Generic[Record]):
    """Store of records of one kind, in one file each.

    Args:
        directory: Directory of the files; only the agent may write there.
        kind: Class of the records.
    """

    def __init__(self, directory: Path, kind: type[Record]) -> None:
        self._directory, self._kind = directory, kind

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def read(self, name: str) -> Record | None:
        """Read a record by name; None if there is none.

        Raises:
            RecordUnreadableError: The file is not a record of an agent.
        """
        path = self._path(name)
        try:
            return self._kind.from_json(parse_json(path.read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RecordUnreadableError(database=path, detail=str(error)) from error

    def write(self, name: str, record: Record) -> None:
        """Write a record and flush it to the disk."""
        durable.make_directory(self._directory, 0o700)
        durable.write_file(self._path(name), json.dumps(record.to_json()).encode(), 0o600)

    def remove(self, name: str) -> None:
        """Remove a record, if it exists."""
        durable.remove_file(self._path(name))


@dataclass(frozen=True)
class QuarantinedSet:
    """Quarantined sets of a change, because they may contain records of foreign sessions.

    Attributes:
        change: Id of the change.
        counts: Rows by directory and table; None for a directory if unknown.
    """

    change: str
    counts: Mapping[str, Mapping[str, int] | None]


class DatabaseSets:
    """Directory of the site's databases.

    Args:
        directory: Contains ``live`` and ``sets``.
        names: Logical names.
        records_directory: Directory of the agent's records; by default ``records`` beside the sets.
    """

    def __init__(
        self, directory: Path, names: tuple[str, ...], records_directory: Path | None = None
    ) -> None:
        self.directory = directory
        self.names = names
        self.live = directory / "live"
        self.sets = directory / SETS_DIRECTORY
        self._records = RecordStore(
            (records_directory or directory / "records") / SETS_DIRECTORY, SetRecord
        )

    # ---- read operations -----------------------------------------------------------------------

    def get_fence_link(self, change: str) -> Path:
        """Return the path of the link that replaces ``live`` while a change fences the set."""
        return self.directory / f"{FENCE_LINK_PREFIX}{change}"

    def list_fence_links(self) -> tuple[Path, ...]:
        """Return every fence link that exists."""
        return tuple(sorted(self.directory.glob(f"{FENCE_LINK_PREFIX}*")))

    def list_fencing_changes(self) -> tuple[str, ...]:
        """Return the ids of the changes with a fence link."""
        return tuple(link.name.removeprefix(FENCE_LINK_PREFIX) for link in self.list_fence_links())

    def is_open(self) -> bool:
        """Tell whether the link ``live`` exists, so that the application finds its databases."""
        return self.live.is_symlink()

    def is_plain_directory(self) -> bool:
        """Tell whether ``live`` is a plain directory, as before an adoption."""
        return self.live.is_dir() and not self.live.is_symlink()

    def find_live_set(self) -> Path:
        """Return the live set, fenced or not.

        Raises:
            NotADatabaseSetError: ``live`` is a plain directory.
            NotRegularFileError: ``live`` does not lead to a set, or the set is a link.
            DatabaseSetMissingError: There is no link, or its target is missing.
            MARKERS_DISAGREE: Two fence links name different sets.
        """
        if self.is_plain_directory():
            raise NotADatabaseSetError(database=self.live)
        links = (self.live,) if self.live.is_symlink() else self.list_fence_links()
        found = {str(link.readlink()) for link in links}
        if len(found) > 1:
            raise DatabaseError(
                MARKERS_DISAGREE, reason=", ".join(sorted(link.name for link in links))
            )
        if not found:
            raise DatabaseSetMissingError(database=self.live)
        target = found.pop()
        path = self.directory / target
        if target != f"{SETS_DIRECTORY}/{path.name}" or path.name in ("", ".", ".."):
            raise NotRegularFileError(database=links[0], detail=target)
        try:
            with open_set(path):
                return path
        except FileNotFoundError as error:
            raise DatabaseSetMissingError(database=path) from error

    def find_live_set_or_none(self) -> Path | None:
        """Return the live set; None if there is none."""
        try:
            return self.find_live_set()
        except (NotADatabaseSetError, DatabaseSetMissingError):
            return None

    def get_candidate_set(self, change: str) -> Path:
        """Return the directory of a change's candidates."""
        return self.sets / f"next_{change}"

    def get_partial_set(self, path: Path) -> Path:
        """Return the directory of a set while it is being made."""
        return path.with_name(path.name + PARTIAL_SUFFIX)

    def get_file(self, set_path: Path, name: str) -> Path:
        """Return the path of a database's file in a set."""
        return set_path / f"{name}{DATABASE_SUFFIX}"

    def list_files(self, set_path: Path, name: str) -> tuple[Path, ...]:
        """Return a database's file and its companions (WAL, its index, rollback journal)."""
        main = self.get_file(set_path, name)
        companions = (main.with_name(main.name + suffix) for suffix in COMPANION_SUFFIXES)
        return tuple(path for path in (main, *companions) if os.path.lexists(path))

    def list_present(self, set_path: Path) -> tuple[str, ...]:
        """Return the logical names whose file is in a set."""
        try:
            with open_set(set_path) as handle:
                return tuple(
                    n for n in self.names if _is_file(handle, self.get_file(set_path, n).name)
                )
        except FileNotFoundError:
            return ()

    def require_regular_files(self, set_path: Path) -> None:
        """Verify that every database of a set, and every companion file, is a regular file.

        Raises:
            NotRegularFileError: One is not.
        """
        for name in self.names:
            check_before_open(self.get_file(set_path, name))

    def list_roles(self) -> tuple[tuple[Path, SetRole], ...]:
        """Return every set that is not live, with its role; partial ones too."""
        if not self.sets.is_dir():
            return ()
        live = self.find_live_set_or_none()
        found = []
        for path in sorted(self.sets.iterdir()):
            if path.is_dir() and not path.is_symlink() and path != live:
                role = self._read_role(path)
                if role:
                    found.append((path, role))
        return tuple(found)

    def _read_role(self, path: Path) -> SetRole | None:
        if path.name.startswith(QUARANTINE_PREFIX):
            return None  # in quarantine, so its former role no longer counts
        prefix, _, change = path.name.removesuffix(PARTIAL_SUFFIX).partition("_")
        if path.name.endswith(PARTIAL_SUFFIX):
            return SetRole(DatabaseRole.CANDIDATE, change, {}) if change else None
        role = self._read_record(path).role
        if role is not None:
            return replace(role, modes=mask_modes(role.modes, self.names, DATABASE_SUFFIX))
        return SetRole(DatabaseRole.CANDIDATE, change, {}) if prefix == "next" else None

    def _read_record(self, path: Path) -> SetRecord:
        return self._records.read(_record_name(path)) or SetRecord()

    def find_previous_set(self, change: str) -> Path | None:
        """Return the set with the previous databases of a change; None if there is none."""
        for path, role in self.list_roles():
            if role.role is DatabaseRole.PREVIOUS and role.change == change:
                return path
        return None

    def read_marker(self, set_path: Path) -> DatabaseMarker | None:
        """Return the marker of a set; None before an agent's first cut-over."""
        return self._read_record(set_path).marker

    def read_committed(self, set_path: Path) -> frozenset[str]:
        """Return the changes whose commit is recorded for a set, in its record or in the set.

        If the agent's directory was restored from an older backup, the file in the set still
        records the commit. One of the two is enough: it can only preserve users' records.
        """
        changes = (self._read_record(set_path).committed, self._read_committed_file(set_path))
        return frozenset(change for change in changes if change is not None)

    def _read_committed_file(self, set_path: Path) -> str | None:
        try:
            with open_set(set_path) as handle:
                content = read_agent_file(handle, COMMITTED)
            return None if content is None else str(parse_json(content)["change"])
        except FileNotFoundError:
            return None
        except (LookupError, TypeError, ValueError) as error:
            raise RecordUnreadableError(
                database=set_path / COMMITTED, detail=repr(error)
            ) from error

    # ---- write operations ----------------------------------------------------------------------

    def write_marker(self, set_path: Path, marker: DatabaseMarker | None) -> None:
        """Write the marker of a set; None if an agent's cut-over no longer applies to it."""
        self._write_record(set_path, replace(self._read_record(set_path), marker=marker))

    def write_role(self, set_path: Path, role: DatabaseRole, change: str) -> None:
        """Write the role of a set, with the current modes of its files."""
        value = SetRole(role, change, self.read_modes(set_path))
        self._write_record(set_path, replace(self._read_record(set_path), role=value))

    def write_committed(self, set_path: Path, change: str) -> None:
        """Record that a change is committed and users are let in to a set."""
        self._write_record(set_path, replace(self._read_record(set_path), committed=change))
        with open_set(set_path) as handle:
            handle.replace_file(COMMITTED, json.dumps({"change": change}).encode())

    def write_new_record(self, set_path: Path, marker: DatabaseMarker | None) -> None:
        """Write the record of a new set, replacing any record of the same name."""
        self._write_record(set_path, SetRecord())
        if marker:
            self.write_marker(set_path, marker)

    def remove_record(self, set_path: Path) -> None:
        """Remove the record of a set that no longer exists."""
        self._records.remove(_record_name(set_path))

    def _write_record(self, set_path: Path, record: SetRecord) -> None:
        self._records.write(_record_name(set_path), record)

    def read_modes(self, set_path: Path) -> dict[str, int]:
        """Return the modes of a set's directory and databases, by name; "." is the directory."""
        with open_set(set_path) as handle:
            modes = {
                path.name: stat.S_IMODE(handle.stat_entry(path.name).st_mode)
                for name in self.names
                for path in self.list_files(set_path, name)
                if _is_file(handle, path.name)
            }
            modes["."] = stat.S_IMODE(handle.stat_entry("").st_mode)
        return mask_modes(modes, self.names, DATABASE_SUFFIX)

    def find_original_modes(self, set_path: Path) -> Mapping[str, int]:
        """Return the modes for a copy of a set: those that its files had before the freeze."""
        frozen = dict(self.list_roles()).get(set_path)
        return frozen.modes if frozen and frozen.modes else self.read_modes(set_path)

    def clear_role(self, set_path: Path) -> None:
        """Restore the modes of a set that is live again, and remove its role.

        Without the role in its record, the next fence does not undo a later change of the modes.
        """
        if self._read_record(set_path).role is not None:
            self.thaw(set_path)
            self._write_record(set_path, replace(self._read_record(set_path), role=None))

    def freeze(self, set_path: Path) -> None:
        """Make a set read-only."""
        with open_set(set_path) as handle:
            for path, descriptor in self._open_files(set_path):
                os.fchmod(
                    descriptor, stat.S_IMODE(handle.stat_entry(path.name).st_mode) & ~WRITE_BITS
                )
            handle.set_mode("", stat.S_IMODE(handle.stat_entry("").st_mode) & ~WRITE_BITS)
            handle.flush_entries()

    def thaw(self, set_path: Path) -> None:
        """Restore the modes that a set's files had before they were frozen."""
        role = self._read_role(set_path)
        modes = role.modes if role else {}
        with open_set(set_path) as handle:
            handle.set_mode("", modes.get(".", 0o755))
            for path, descriptor in self._open_files(set_path):
                if path.name in modes:
                    os.fchmod(descriptor, modes[path.name])
            handle.flush_entries()

    def _open_files(self, set_path: Path) -> Iterator[tuple[Path, int]]:
        """Yield every database file of a set and its companions, opened.

        Anything other than a regular file is skipped here; it is refused where a database is
        needed.
        """
        for name in self.names:
            for path in self.list_files(set_path, name):
                with (
                    contextlib.suppress(FileNotFoundError, NotRegularFileError),
                    open_regular_file(path) as descriptor,
                ):
                    yield path, descriptor

    def list_quarantined(self) -> tuple[QuarantinedSet, ...]:
        """Return the sets in quarantine by change; nothing drops them automatically."""
        found: dict[str, dict[str, Mapping[str, int] | None]] = {}
        for path in sorted(self.sets.glob(f"{QUARANTINE_PREFIX}*")):
            if not path.name.endswith(PARTIAL_SUFFIX):
                change = path.name.removeprefix(QUARANTINE_PREFIX).partition("_")[0]
                found.setdefault(change, {})[str(path)] = self._read_counts(path)
        return tuple(QuarantinedSet(change, counts) for change, counts in found.items())

    def _read_counts(self, path: Path) -> Mapping[str, int] | None:
        try:
            return self._read_record(path).quarantined_rows
        except (RecordUnreadableError, NotRegularFileError):
            return None  # not counted, or no record of the agent

    def quarantine_set(
        self, set_path: Path, change: str, counts: Mapping[str, int] | None = None
    ) -> Path:
        """Rename a set that is not live so that nothing drops it; return its new directory.

        Args:
            set_path: The set.
            change: Its change.
            counts: Added rows by table, only for messages.
        """
        target = self.sets / f"{QUARANTINE_PREFIX}{change}"
        number = 1
        while os.path.lexists(target):
            number += 1
            target = self.sets / f"{QUARANTINE_PREFIX}{change}_{number}"
        self._write_record(target, SetRecord(quarantined_rows=counts))
        self.rename_set(set_path, target)
        self.remove_record(set_path)
        return target

    def create_set(self, set_path: Path) -> None:
        """Create the directory of a set that only the agent may access yet."""
        durable.make_directory(self.sets)
        with open_set(self.sets) as sets:
            sets.make_directory(set_path.name)

    def rename_set(self, set_path: Path, target: Path) -> None:
        """Rename a set."""
        with open_set(self.sets) as sets:
            sets.move_entry(set_path.name, sets, target.name)
            sets.flush_entries()

    def remove_set(self, set_path: Path) -> None:
        """Remove a set, but never the live one.

        Raises:
            MARKERS_DISAGREE: It is the live one.
        """
        if not os.path.lexists(set_path):
            return
        if set_path == self.find_live_set_or_none():
            raise DatabaseError(
                MARKERS_DISAGREE, reason=LazyText("{name} is in use", {"name": set_path.name})
            )
        with open_set(self.sets) as sets:
            if not stat.S_ISDIR(sets.stat_entry(set_path.name).st_mode):
                sets.remove_file(set_path.name)  # something else was put in its place
                sets.flush_entries()
                return
            # Rename it first, so that a partly removed set is never taken for a complete one.
            removed = set_path
            if not set_path.name.endswith(PARTIAL_SUFFIX):
                role = self._read_role(set_path)
                removed = self.get_partial_set(
                    self.sets / f"gone_{role.change if role else set_path.name}"
                )
                self.remove_set(removed)
                sets.set_mode(set_path.name, 0o700)
                self.rename_set(set_path, removed)
            if not os.path.lexists(self.sets / _record_name(set_path)):
                self.remove_record(set_path)
            sets.set_mode(removed.name, 0o700)
            sets.remove_tree(removed.name)


def _record_name(path: Path) -> str:
    """Return the name of a set's record; a partial set has that of the final one."""
    return path.name.removesuffix(PARTIAL_SUFFIX)


def _is_file(handle: DirectoryHandle, name: str) -> bool:
    try:
        return stat.S_ISREG(handle.stat_entry(name).st_mode)
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class FileSnapshot(JsonRecord):
    """State of one file.

    Attributes:
        inode: Its inode number.
        size: Its size in bytes.
        mtime_ns: Time of the last write.
        ctime_ns: Time of the last change of contents, owner or modes, which nobody can set back; 0
            for a WAL or journal.
        head: Its first bytes, in hexadecimal.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    head: str


@dataclass(frozen=True)
class SetSnapshot(JsonRecord):
    """States of the files of a set, by name."""

    set_name: str
    files: Mapping[str, FileSnapshot]


@dataclass(frozen=True)
class NoCopyRecord(JsonRecord):
    """State of a set before a change without copies marked it for another release.

    Attributes:
        marker: Its marker; None if no agent ever cut over to it.
    """

    marker: DatabaseMarker | None = None


@dataclass(frozen=True)
class FenceRecord(JsonRecord):
    """Record of a change about its sets.

    Attributes:
        before: The live set when it was fenced.
        copied_digests: SHA-256 of each copied file whose original had a journal, after the journal
            was applied.
        after: The new live set at the cut-over.
        newest_rowids: The newest row of ``after``, by database and table.
        row_counts: Number of rows of ``after``, likewise.
        no_copy: The former state, for a change without copies; None before the set is marked.
    """

    before: SetSnapshot
    copied_digests: Mapping[str, str] = field(default_factory=dict)
    after: SetSnapshot | None = None
    newest_rowids: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    row_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    no_copy: NoCopyRecord | None = None


def snapshot_set(layout: DatabaseSets, set_path: Path) -> SetSnapshot:
    """Return the states of the files of a set. Reads a few bytes of each and writes nothing."""
    found: dict[str, FileSnapshot] = {}
    for name in layout.names:
        main = layout.get_file(set_path, name)
        for path in layout.list_files(set_path, name):
            with open_regular_file(path) as descriptor:
                info = os.fstat(descriptor)
                if path.name.endswith("-shm") or (path != main and not info.st_size):
                    continue
                head = os.pread(
                    descriptor, DATABASE_HEADER_BYTES if path == main else JOURNAL_HEADER_BYTES, 0
                )
            # Root changes the owner of a WAL to that of its database even when it only reads.
            ctime_ns = info.st_ctime_ns if path == main else 0
            found[path.name] = FileSnapshot(
                info.st_ino, info.st_size, info.st_mtime_ns, ctime_ns, head.hex()
            )
    return SetSnapshot(set_path.name, found)


def find_journaled(layout: DatabaseSets, snapshot: SetSnapshot) -> tuple[str, ...]:
    """Return the logical names with a WAL or a rollback journal that is not empty."""
    return tuple(
        name
        for name in layout.names
        if any(file.startswith(f"{name}{DATABASE_SUFFIX}-") for file in snapshot.files)
    )


def _find_recent(times: Mapping[str, int], now: int) -> dict[str, int]:
    """Return the times less than a tick ago, with their ages; times in the future count as old."""
    return {name: now - at for name, at in times.items() if 0 <= now - at < TICK_NS}


def snapshot_quiet_set(
    layout: DatabaseSets,
    set_path: Path,
    now_ns: Callable[[], int] = time.time_ns,
    wait: Callable[[float], None] = time.sleep,
) -> SetSnapshot:
    """Return the states of a set when its last write is more than a clock tick ago.

    Otherwise a write right after this call could get the same time as the one before it.

    Raises:
        FENCED_FILES_CHANGED: Somebody keeps writing.
    """
    for _ in range(MAX_ATTEMPTS):
        recent = _find_recent({path.name: path.lstat().st_mtime_ns
                        for name in layout.names
                        for path in layout.list_files(set_path, name)}, now_ns())  # fmt: skip
        if not recent:
            snapshot = snapshot_set(layout, set_path)
            recent = _find_recent(
                {name: item.mtime_ns for name, item in snapshot.files.items()}, now_ns()
            )
            if not recent:
                return snapshot
        wait((TICK_NS - min(recent.values())) / 1e9)
    raise DatabaseError(
        FENCED_FILES_CHANGED, database=set_path.name, files=", ".join(sorted(recent))
    )


def find_changed_files(
    before: SetSnapshot, now: SetSnapshot, *, frozen: bool = False
) -> tuple[str, ...]:
    """Return the names of files that changed; pure.

    Args:
        before: The older states.
        now: The newer states.
        frozen: Whether the agent changed modes in between; writes are noticed in any case.
    """

    def compared(state: FileSnapshot | None) -> FileSnapshot | None:
        return replace(state, ctime_ns=0) if state and frozen else state

    names = sorted({*before.files, *now.files})
    return tuple(n for n in names if compared(before.files.get(n)) != compared(now.files.get(n)))
