"""Database sets and their roles: links and record files, no SQL.

====================  ==========================================================================
``live``              link to the set in use; its rename is the transaction of a cut-over
``live.fenced-<id>``  the same link while the change <id> keeps everybody out
``sets/next_<id>``    the copies that the change <id> made; keeps its name when it becomes live
``sets/base``         the files of a site that was adopted
``sets/written_<id>`` what the change <id> would have dropped, had not somebody written to it
``<set>.partial``     a copy that has not come to its end, or a set that is being removed
====================  ==========================================================================

The agent's records of a set are in its own directory (``records``): what the set is (release,
generation, change), that a change let users in so that it must not be cut back, and for which
change it was set aside, with the modes of its files. A role counts only while the set is not live,
so it can be written before the link moves. While both links exist, ``live`` counts: that is the
instant after a cut-over, and the one before the end of a cut-back.

The application's user writes in a set, and may in the directory: nothing in there is followed, and
nothing touched but the databases and what SQLite puts beside them (``plain``).
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    read_ours,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.directory_handle import DirectoryHandle
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import FENCED_FILES_CHANGED, MARKERS_DISAGREE

DATABASE_SUFFIX = ".sqlite"
PARTIAL_SUFFIX = ".partial"
FENCE_LINK_PREFIX = "live.fenced-"
QUARANTINE_PREFIX = "written_"
#: In a set; see :meth:`DatabaseSets.read_committed`.
COMMITTED = "committed.json"
WRITE_BITS = 0o222


@dataclass(frozen=True)
class QuarantinedSet:
    """What was live until a change went back, kept for the rows that may be somebody's.

    Attributes:
        change: Id of the change that went back.
        places: Directories.
        counts: Rows by place and table; None for a place of which they are not known.
    """

    change: str
    places: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int] | None]


class DatabaseSets:
    """The directory of the site's databases.

    Args:
        directory: Holds ``live`` and ``sets``.
        names: Logical names.
        records_directory: Where the agent keeps what it says of sets; beside them by default.
    """

    def __init__(
        self, directory: Path, names: tuple[str, ...], records_directory: Path | None = None
    ) -> None:
        self.directory = directory
        self.names = names
        self.live = directory / "live"
        self.sets = directory / SETS_DIRECTORY
        self._records = RecordStore(
            (records_directory or directory / "notes") / SETS_DIRECTORY, SetRecord
        )

    # ---- what is there -------------------------------------------------------------------------

    def fence_link_path(self, change: str) -> Path:
        """Return the path of the link that replaces ``live`` while a change fences the set."""
        return self.directory / f"{FENCE_LINK_PREFIX}{change}"

    def list_fence_links(self) -> tuple[Path, ...]:
        """Return every fence link that exists."""
        return tuple(sorted(self.directory.glob(f"{FENCE_LINK_PREFIX}*")))

    def fenced_by(self) -> tuple[str, ...]:
        """Ids of the changes that these are of."""
        return tuple(link.name.removeprefix(FENCE_LINK_PREFIX) for link in self.list_fence_links())

    def is_open(self) -> bool:
        """Tell whether the application would find its databases."""
        return self.live.is_symlink()

    def is_plain_directory(self) -> bool:
        """Tell whether ``live`` is a plain directory, as before an agent came."""
        return self.live.is_dir() and not self.live.is_symlink()

    def find_live_set(self) -> Path:
        """Find the live set, fenced or not.

        Raises:
            NotADatabaseSetError: ``live`` is a plain directory.
            NotRegularFileError: ``live`` leads elsewhere than to a set, or the set is a link.
            DatabaseSetMissingError: There is no link, or it leads nowhere.
            MARKERS_DISAGREE: Two fences name different sets.
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
        """Find the live set; None where there is none."""
        try:
            return self.find_live_set()
        except (NotADatabaseSetError, DatabaseSetMissingError):
            return None

    def candidate_set_path(self, change: str) -> Path:
        """Return where a change's candidates are."""
        return self.sets / f"next_{change}"

    def partial_path(self, path: Path) -> Path:
        """Return where a set is while it is made."""
        return path.with_name(path.name + PARTIAL_SUFFIX)

    def file_path(self, set_path: Path, name: str) -> Path:
        """Return the path of a database's file in a set."""
        return set_path / f"{name}{DATABASE_SUFFIX}"

    def list_files(self, set_path: Path, name: str) -> tuple[Path, ...]:
        """List a database's file and its existing companions (WAL, its index, rollback journal)."""
        main = self.file_path(set_path, name)
        beside = (main.with_name(main.name + end) for end in COMPANION_SUFFIXES)
        return tuple(path for path in (main, *beside) if os.path.lexists(path))

    def list_present(self, set_path: Path) -> tuple[str, ...]:
        """Logical names whose file is in a set."""
        try:
            with open_set(set_path) as place:
                return tuple(
                    n for n in self.names if _is_file(place, self.file_path(set_path, n).name)
                )
        except FileNotFoundError:
            return ()

    def require_regular_files(self, set_path: Path) -> None:
        """See that every database of a set is a plain file, and what lies beside it.

        Raises:
            NotRegularFileError: One is not.
        """
        for name in self.names:
            check_before_open(self.file_path(set_path, name))

    def list_roles(self) -> tuple[tuple[Path, SetRole], ...]:
        """Return every set that is not live, with its role, partial ones too."""
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
            return None  # whatever it was set aside for
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
        """Find the set that holds the previous databases of a change."""
        for path, role in self.list_roles():
            if role.role is DatabaseRole.PREVIOUS and role.change == change:
                return path
        return None

    def read_marker(self, set_path: Path) -> DatabaseMarker | None:
        """Return the marker of a set; None before the first cut-over by an agent."""
        return self._read_record(set_path).marker

    def read_committed(self, set_path: Path) -> frozenset[str]:
        """Return the changes whose commit is recorded of a set, here or in the set itself.

        Where the agent's directory was restored from an older backup, the file that it wrote into
        the set still says so. Either word is enough: it can only keep records of users.
        """
        words = (self._read_record(set_path).committed, self._committed_inside(set_path))
        return frozenset(word for word in words if word is not None)

    def _committed_inside(self, set_path: Path) -> str | None:
        try:
            with open_set(set_path) as place:
                content = read_ours(place, COMMITTED)
            return None if content is None else str(parse_json(content)["change"])
        except FileNotFoundError:
            return None
        except (LookupError, TypeError, ValueError) as error:
            raise RecordUnreadableError(
                database=set_path / COMMITTED, detail=repr(error)
            ) from error

    # ---- writes --------------------------------------------------------------------------------

    def write_marker(self, set_path: Path, marker: DatabaseMarker | None) -> None:
        """Say what a set is; None where it is no longer what an agent cut over."""
        self._write_record(set_path, replace(self._read_record(set_path), marker=marker))

    def write_role(self, set_path: Path, role: DatabaseRole, change: str) -> None:
        """Say what a set is set aside for, with the modes that its files have now."""
        value = SetRole(role, change, self.read_modes(set_path))
        self._write_record(set_path, replace(self._read_record(set_path), role=value))

    def write_committed(self, set_path: Path, change: str) -> None:
        """Say that users are let in to a set by a change."""
        self._write_record(set_path, replace(self._read_record(set_path), committed=change))
        with open_set(set_path) as place:
            place.replace_file(COMMITTED, json.dumps({"change": change}).encode())

    def write_new_record(self, set_path: Path, marker: DatabaseMarker | None) -> None:
        """Say what a new set is, and nothing else: whatever was said of one of this name."""
        self._write_record(set_path, SetRecord())
        if marker:
            self.write_marker(set_path, marker)

    def remove_record(self, set_path: Path) -> None:
        """Forget what was said of a set that is no more."""
        self._records.remove(_record_name(set_path))

    def _write_record(self, set_path: Path, record: SetRecord) -> None:
        self._records.write(_record_name(set_path), record)

    def read_modes(self, set_path: Path) -> dict[str, int]:
        """Modes of a set's directory and of the databases in it, by name; "." is the directory."""
        with open_set(set_path) as place:
            modes = {
                path.name: stat.S_IMODE(place.stat_entry(path.name).st_mode)
                for name in self.names
                for path in self.list_files(set_path, name)
                if _is_file(place, path.name)
            }
            modes["."] = stat.S_IMODE(place.stat_entry("").st_mode)
        return mask_modes(modes, self.names, DATABASE_SUFFIX)

    def find_original_modes(self, set_path: Path) -> Mapping[str, int]:
        """Modes that a copy of a set gets: those that its files had before they were frozen."""
        frozen = dict(self.list_roles()).get(set_path)
        return frozen.modes if frozen and frozen.modes else self.read_modes(set_path)

    def clear_role(self, set_path: Path) -> None:
        """Take a set that is live again as it was before it was set aside, and forget the role.

        Without the record a later change of the modes is not taken back by the next fence.
        """
        if self._read_record(set_path).role is not None:
            self.thaw(set_path)
            self._write_record(set_path, replace(self._read_record(set_path), role=None))

    def freeze(self, set_path: Path) -> None:
        """Make a set read-only, for those who could read it."""
        with open_set(set_path) as place:
            for path, descriptor in self._open_files(set_path):
                os.fchmod(
                    descriptor, stat.S_IMODE(place.stat_entry(path.name).st_mode) & ~WRITE_BITS
                )
            place.set_mode("", stat.S_IMODE(place.stat_entry("").st_mode) & ~WRITE_BITS)
            place.flush_entries()

    def thaw(self, set_path: Path) -> None:
        """Give a set's files the modes back that they had before they were frozen."""
        role = self._read_role(set_path)
        modes = role.modes if role else {}
        with open_set(set_path) as place:
            place.set_mode("", modes.get(".", 0o755))
            for path, descriptor in self._open_files(set_path):
                if path.name in modes:
                    os.fchmod(descriptor, modes[path.name])
            place.flush_entries()

    def _open_files(self, set_path: Path) -> Iterator[tuple[Path, int]]:
        """Return every database of a set with what lies beside it, opened.

        What was put there instead is left alone: it is nobody's data, and is refused where a
        database is needed.
        """
        for name in self.names:
            for path in self.list_files(set_path, name):
                with (
                    contextlib.suppress(FileNotFoundError, NotRegularFileError),
                    open_regular_file(path) as descriptor,
                ):
                    yield path, descriptor

    def list_quarantined(self) -> tuple[QuarantinedSet, ...]:
        """List sets quarantined because somebody wrote to them, by change; nothing drops them."""
        found: dict[str, dict[str, Mapping[str, int] | None]] = {}
        for path in sorted(self.sets.glob(f"{QUARANTINE_PREFIX}*")):
            if not path.name.endswith(PARTIAL_SUFFIX):
                change = path.name.removeprefix(QUARANTINE_PREFIX).partition("_")[0]
                found.setdefault(change, {})[str(path)] = self._read_counts(path)
        return tuple(QuarantinedSet(key, tuple(places), places) for key, places in found.items())

    def _read_counts(self, path: Path) -> Mapping[str, int] | None:
        try:
            return self._read_record(path).quarantined_rows
        except (RecordUnreadableError, NotRegularFileError):
            return None  # not counted, or by nobody of ours

    def quarantine_set(
        self, set_path: Path, change: str, counts: Mapping[str, int] | None = None
    ) -> Path:
        """Give a set that is not live a name that nothing drops, and return where it is.

        Args:
            set_path: The set.
            change: The change that it belongs to.
            counts: Rows that were added, by table; for telling only.
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
        """Make the directory of a set that nobody else may look into yet."""
        durable.make_directory(self.sets)
        with open_set(self.sets) as sets:
            sets.make_directory(set_path.name)

    def rename_set(self, set_path: Path, target: Path) -> None:
        """Give a set another name."""
        with open_set(self.sets) as sets:
            sets.move_entry(set_path.name, sets, target.name)
            sets.flush_entries()

    def remove_set(self, set_path: Path) -> None:
        """Remove a set for good; the live one never.

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
                sets.remove_file(set_path.name)  # whatever was put in its place
                sets.flush_entries()
                return
            # A name of its own first, so that a half-removed set is never taken for a whole one.
            gone = set_path
            if not set_path.name.endswith(PARTIAL_SUFFIX):
                role = self._read_role(set_path)
                gone = self.partial_path(
                    self.sets / f"gone_{role.change if role else set_path.name}"
                )
                self.remove_set(gone)
                sets.set_mode(set_path.name, 0o700)
                self.rename_set(set_path, gone)
            if not os.path.lexists(self.sets / _record_name(set_path)):
                self.remove_record(set_path)
            sets.set_mode(gone.name, 0o700)
            sets.remove_tree(gone.name)


def _record_name(path: Path) -> str:
    """Return whose record it is: a set's that is being made is that of what it becomes."""
    return path.name.removesuffix(PARTIAL_SUFFIX)


def _is_file(place: DirectoryHandle, name: str) -> bool:
    try:
        return stat.S_ISREG(place.stat_entry(name).st_mode)
    except FileNotFoundError:
        return False


DATABASE_HEADER_BYTES = 100  # the header: change counter, version-valid-for, size in pages


JOURNAL_HEADER_BYTES = 32  # the header of a WAL: number of the checkpoint, salts


# Two writes within one tick of the kernel's clock leave the same time; HZ is 100 or more.
TICK_NS = 20_000_000


MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class FileSnapshot(JsonRecord):
    """One file at a moment.

    Attributes:
        mtime_ns: When it was last written.
        ctime_ns: When it or its owner or modes were last changed, which nobody can set back; 0 of a
            WAL or journal.
        head: Its first bytes, in hexadecimal.
    """

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    head: str


@dataclass(frozen=True)
class SetSnapshot(JsonRecord):
    """The files of a set at a moment, by name."""

    set_name: str
    files: Mapping[str, FileSnapshot]


@dataclass(frozen=True)
class NoCopyRecord(JsonRecord):
    """What a set was before a change gave it to another release as it is.

    Attributes:
        marker: None where no agent ever cut over to it.
    """

    marker: DatabaseMarker | None = None


@dataclass(frozen=True)
class FenceRecord(JsonRecord):
    """What is known of a change's sets.

    Attributes:
        before: What was live, as it was fenced.
        copied_digests: SHA-256 of each copied file whose original had a journal, once that was
            finished.
        after: What became live, as it was at the cut-over.
        newest_rowids: By database and table, the newest row that ``after`` had.
        row_counts: Likewise, how many it had.
        no_copy: What the set was, where the change leaves it as it is; None before it is marked.
    """

    before: SetSnapshot
    copied_digests: Mapping[str, str] = field(default_factory=dict)
    after: SetSnapshot | None = None
    newest_rowids: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    row_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    no_copy: NoCopyRecord | None = None


def snapshot_set(layout: DatabaseSets, set_path: Path) -> SetSnapshot:
    """Look at the files of a set. Reads a few bytes of each and writes nothing."""
    found: dict[str, FileSnapshot] = {}
    for name in layout.names:
        main = layout.file_path(set_path, name)
        for path in layout.list_files(set_path, name):
            with open_regular_file(path) as descriptor:
                info = os.fstat(descriptor)
                if path.name.endswith("-shm") or (path != main and not info.st_size):
                    continue
                head = os.pread(
                    descriptor, DATABASE_HEADER_BYTES if path == main else JOURNAL_HEADER_BYTES, 0
                )
            # Root gives a WAL to its database's owner, each time that it merely reads it.
            ctime_ns = info.st_ctime_ns if path == main else 0
            found[path.name] = FileSnapshot(
                info.st_ino, info.st_size, info.st_mtime_ns, ctime_ns, head.hex()
            )
    return SetSnapshot(set_path.name, found)


def find_journaled(layout: DatabaseSets, seen: SetSnapshot) -> tuple[str, ...]:
    """Logical names that had a WAL or a rollback journal with something in it."""
    return tuple(
        name
        for name in layout.names
        if any(file.startswith(f"{name}{DATABASE_SUFFIX}-") for file in seen.files)
    )


def _find_recent(times: Mapping[str, int], now: int) -> dict[str, int]:
    """Find the times that are not a tick ago, with their ages; those of tomorrow are old."""
    return {name: now - at for name, at in times.items() if 0 <= now - at < TICK_NS}


def snapshot_quiet_set(
    layout: DatabaseSets,
    set_path: Path,
    now_ns: Callable[[], int] = time.time_ns,
    wait: Callable[[float], None] = time.sleep,
) -> SetSnapshot:
    """Look at a set once the last write is a tick of the clock ago.

    A write right after the look would otherwise bear the time of the one before it.

    Raises:
        FENCED_FILES_CHANGED: Somebody writes all the time.
    """
    for _ in range(MAX_ATTEMPTS):
        young = _find_recent({path.name: path.lstat().st_mtime_ns
                        for name in layout.names
                        for path in layout.list_files(set_path, name)}, now_ns())  # fmt: skip
        if not young:
            seen = snapshot_set(layout, set_path)
            young = _find_recent(
                {name: item.mtime_ns for name, item in seen.files.items()}, now_ns()
            )
            if not young:
                return seen
        wait((TICK_NS - min(young.values())) / 1e9)
    raise DatabaseError(
        FENCED_FILES_CHANGED, database=set_path.name, files=", ".join(sorted(young))
    )


def find_changed_files(
    before: SetSnapshot, now: SetSnapshot, *, frozen: bool = False
) -> tuple[str, ...]:
    """Names of files that are not as they were; pure.

    Args:
        before: The older look.
        now: The newer one.
        frozen: Whether modes were changed since, by ourselves; writes are seen all the same.
    """

    def shown(seen: FileSnapshot | None) -> FileSnapshot | None:
        return dataclasses.replace(seen, ctime_ns=0) if seen and frozen else seen

    names = sorted({*before.files, *now.files})
    return tuple(n for n in names if shown(before.files.get(n)) != shown(now.files.get(n)))


Record = TypeVar("Record", bound=JsonRecord)


@dataclass(frozen=True)
class SetRole(JsonRecord):
    """What a set that is not live was set aside for.

    Attributes:
        role: Candidate or previous.
        change: Of which change.
        modes: Modes of files before they were frozen, by name; "." is the directory.
    """

    role: DatabaseRole
    change: str
    modes: Mapping[str, int]


@dataclass(frozen=True)
class SetRecord(JsonRecord):
    """What was said of a set.

    Attributes:
        marker: What it is; None before the first cut-over of an agent.
        committed: The change whose commit it records.
        role: What it was set aside for.
        quarantined_rows: Rows by table that were added to it before it was kept for good.
    """

    marker: DatabaseMarker | None = None
    committed: str | None = None
    role: SetRole | None = None
    quarantined_rows: Mapping[str, int] | None = None


class RecordStore(Generic[Record]):
    """Records of one kind, one file each, by the name of what they tell of.

    Args:
        directory: Where; nobody but the agent may write there.
        kind: What they are.
    """

    def __init__(self, directory: Path, kind: type[Record]) -> None:
        self._directory, self._kind = directory, kind

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def read(self, name: str) -> Record | None:
        """Read the record of a name; None where there is none.

        Raises:
            RecordUnreadableError: It holds what no agent wrote.
        """
        path = self._path(name)
        try:
            return self._kind.from_json(parse_json(path.read_bytes()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RecordUnreadableError(database=path, detail=str(error)) from error

    def write(self, name: str, record: Record) -> None:
        """Keep a record, flushed to the disk."""
        durable.make_directory(self._directory, 0o700)
        durable.write_file(self._path(name), json.dumps(record.to_json()).encode(), 0o600)

    def remove(self, name: str) -> None:
        """Forget one; there may be no record of that name."""
        durable.remove_file(self._path(name))
