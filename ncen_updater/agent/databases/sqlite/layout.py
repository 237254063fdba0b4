"""Which sets there are and what they are for: links and record files, nothing of SQL.

====================  ==========================================================================
``live``              link to the set in use; its rename is the transaction of a cut-over
``live.fenced-<id>``  the same link while the change <id> keeps everybody out
``sets/next_<id>``    the copies that the change <id> made; keeps its name when it becomes live
``sets/keep_<id>``    the way back of an in-place change
``sets/base``         the files of a site that was adopted
``sets/written_<id>`` what the change <id> would have dropped, had not somebody written to it
``<set>.partial``     a copy that has not come to its end, or a set that is being removed
====================  ==========================================================================

In a set, ``touched.json`` says that its files are being migrated in place, and by which change;
``marker.json`` says what the set is (release, generation, change), ``committed.json`` says that
officers were let in to it by a change and it must not be cut back, and ``role.json`` says for which
change it was set aside, and how its files' modes were. A role counts only while the set
is not live, so it can be written before the link moves. While both links exist, ``live`` counts:
that is the instant after a cut-over, and the one before the end of a cut-back.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.databases.base import DatabaseRole, Marker
from ncen_updater.agent.databases.errors import DatabaseError
from ncen_updater.agent.databases.sqlite.errors import NotASet, SetMissing
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.messages import MARKERS_DISAGREE

__all__ = ["SUFFIX", "Layout", "SetAside", "SetRole"]

SUFFIX = ".sqlite"
PARTIAL = ".partial"
FENCED = "live.fenced-"
WRITTEN = "written_"
COUNTS = "written.json"
COMPANIONS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class SetRole:
    """What a set that is not live was set aside for.

    Attributes:
        role: Candidate or previous.
        change: Of which change.
        modes: Modes of files before they were frozen, by name; "." is the directory.
    """

    role: DatabaseRole
    change: str
    modes: dict[str, int]


@dataclass(frozen=True)
class SetAside:
    """What was live until a change went back, kept for the rows that may be somebody's.

    Attributes:
        change: Id of the change that went back.
        places: Directories.
        counts: Rows by place and table; None for a place of which they are not known.
    """

    change: str
    places: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int] | None]


class Layout:
    """The directory of the site's databases.

    Args:
        directory: Holds ``live`` and ``sets``.
        names: Logical names.
    """

    def __init__(self, directory: Path, names: tuple[str, ...]) -> None:
        self.directory = directory
        self.names = names
        self.live = directory / "live"
        self.sets = directory / "sets"

    # ---- what is there -------------------------------------------------------------------------

    def fence_link(self, change: str) -> Path:
        """The link while a change keeps everybody out."""
        return self.directory / f"{FENCED}{change}"

    def fence_links(self) -> tuple[Path, ...]:
        """Every fence link that exists."""
        return tuple(sorted(self.directory.glob(f"{FENCED}*")))

    def open(self) -> bool:
        """Whether the application would find its databases."""
        return self.live.is_symlink()

    def plain(self) -> bool:
        """Whether ``live`` is a plain directory, as before an agent came."""
        return self.live.is_dir() and not self.live.is_symlink()

    def live_set(self) -> Path:
        """The set that is live, fenced or not.

        Raises:
            NotASet: ``live`` is a plain directory.
            SetMissing: There is no link, or it leads nowhere.
            MarkersDisagree: Two fences name different sets.
        """
        if self.plain():
            raise NotASet(database=self.live)
        links = (self.live,) if self.live.is_symlink() else self.fence_links()
        found = {str(link.readlink()) for link in links}
        if len(found) > 1:
            raise DatabaseError(
                MARKERS_DISAGREE, reason=", ".join(sorted(link.name for link in links))
            )
        if not found:
            raise SetMissing(database=self.live)
        path = self.directory / found.pop()
        if not path.is_dir():
            raise SetMissing(database=path)
        return path

    def live_or_none(self) -> Path | None:
        """The live set, or None where it cannot be found."""
        try:
            return self.live_set()
        except (NotASet, SetMissing):
            return None

    def next_set(self, change: str) -> Path:
        """Where a change's candidates are."""
        return self.sets / f"next_{change}"

    def keep_set(self, change: str) -> Path:
        """Where an in-place change's way back is."""
        return self.sets / f"keep_{change}"

    def partial(self, path: Path) -> Path:
        """Where a set is while it is made."""
        return path.with_name(path.name + PARTIAL)

    def file(self, set_path: Path, name: str) -> Path:
        """A database's file in a set."""
        return set_path / f"{name}{SUFFIX}"

    def files(self, set_path: Path, name: str) -> tuple[Path, ...]:
        """A database's file and its companions that exist (WAL, index of it, rollback journal)."""
        main = self.file(set_path, name)
        beside = (main.with_name(main.name + end) for end in COMPANIONS)
        return tuple(path for path in (main, *beside) if path.exists())

    def present(self, set_path: Path) -> tuple[str, ...]:
        """Logical names whose file is in a set."""
        return tuple(name for name in self.names if self.file(set_path, name).is_file())

    def roles(self) -> tuple[tuple[Path, SetRole], ...]:
        """Every set that is not live, with its role, partial ones too."""
        if not self.sets.is_dir():
            return ()
        live = self.live_or_none()
        found = []
        for path in sorted(self.sets.iterdir()):
            if path.is_dir() and path != live:
                role = self._role(path)
                if role:
                    found.append((path, role))
        return tuple(found)

    def _role(self, path: Path) -> SetRole | None:
        if path.name.startswith(WRITTEN):
            return None  # whatever it was set aside for
        prefix, _, change = path.name.removesuffix(PARTIAL).partition("_")
        if path.name.endswith(PARTIAL):
            return SetRole(DatabaseRole.CANDIDATE, change, {}) if change else None
        with contextlib.suppress(FileNotFoundError):
            data = json.loads((path / "role.json").read_bytes())
            modes = {str(k): int(v) for k, v in data["modes"].items()}
            return SetRole(DatabaseRole(data["role"]), str(data["change"]), modes)
        if prefix == "next":
            return SetRole(DatabaseRole.CANDIDATE, change, {})
        return SetRole(DatabaseRole.PREVIOUS, change, {}) if prefix == "keep" else None

    def previous_set(self, change: str) -> Path | None:
        """The set that was set aside as previous of a change."""
        for path, role in self.roles():
            if role.role is DatabaseRole.PREVIOUS and role.change == change:
                return path
        return None

    def marker(self, set_path: Path) -> Marker | None:
        """What a set says it is; None before the first cut-over of an agent."""
        try:
            data = json.loads((set_path / "marker.json").read_bytes())
        except FileNotFoundError:
            return None
        return Marker(str(data["release"]), int(data["generation"]), str(data["change"]))

    def touched(self, set_path: Path) -> str | None:
        """The change that began to migrate a set's files in place, None if none did."""
        try:
            return str(json.loads((set_path / "touched.json").read_bytes())["change"])
        except FileNotFoundError:
            return None

    def committed(self, set_path: Path) -> str | None:
        """The change whose commit a set records, None if none."""
        try:
            return str(json.loads((set_path / "committed.json").read_bytes())["change"])
        except FileNotFoundError:
            return None

    # ---- writes --------------------------------------------------------------------------------

    def write_marker(self, set_path: Path, marker: Marker) -> None:
        """Say what a set is."""
        durable.write(set_path / "marker.json", json.dumps(vars(marker)).encode())

    def write_role(self, set_path: Path, role: DatabaseRole, change: str) -> None:
        """Say what a set is set aside for, with the modes that its files have now."""
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in set_path.iterdir()
            if path.is_file() and path.name.partition(SUFFIX)[0] in self.names
        }
        modes["."] = stat.S_IMODE(set_path.stat().st_mode)
        data = {"role": role.value, "change": change, "modes": modes}
        durable.write(set_path / "role.json", json.dumps(data).encode())

    def touch(self, set_path: Path, change: str) -> None:
        """Say that a set's files are about to be migrated in place."""
        durable.write(set_path / "touched.json", json.dumps({"change": change}).encode())

    def write_committed(self, set_path: Path, change: str) -> None:
        """Say that officers are let in to a set by a change."""
        durable.write(set_path / "committed.json", json.dumps({"change": change}).encode())

    def settle_role(self, set_path: Path) -> None:
        """Take a set that is live again as it was before it was set aside, and forget the role.

        Without the record a later change of the modes is not taken back by the next fence.
        """
        record = set_path / "role.json"
        if record.exists():
            self.thaw(set_path)
            durable.remove(record)

    def freeze(self, set_path: Path) -> None:
        """Make a set read-only."""
        for path in set_path.iterdir():
            if path.is_file():
                path.chmod(0o444)
        set_path.chmod(0o555)
        durable.fsync_directory(set_path)

    def thaw(self, set_path: Path) -> None:
        """Give a set's files the modes back that they had before they were frozen."""
        role = self._role(set_path)
        modes = role.modes if role else {}
        set_path.chmod(modes.get(".", 0o755))
        for name, mode in modes.items():
            path = set_path / name
            if name != "." and path.is_file():
                path.chmod(mode)
        durable.fsync_directory(set_path)

    def set_aside(self) -> tuple[SetAside, ...]:
        """Sets that nothing drops, since somebody wrote to them; by change."""
        found: dict[str, dict[str, Mapping[str, int] | None]] = {}
        for path in sorted(self.sets.glob(f"{WRITTEN}*")):
            if not path.name.endswith(PARTIAL):
                change = path.name.removeprefix(WRITTEN).partition("_")[0]
                found.setdefault(change, {})[str(path)] = _counts(path / COUNTS)
        return tuple(SetAside(key, tuple(places), places) for key, places in found.items())

    def keep_for_good(
        self, set_path: Path, change: str, counts: Mapping[str, int] | None = None
    ) -> Path:
        """Give a set that is not live a name that nothing drops, and return where it is.

        Args:
            set_path: The set.
            change: The change that it belongs to.
            counts: Rows that were added, by table; for telling only.
        """
        if counts is not None:
            durable.write(set_path / COUNTS, json.dumps(dict(counts)).encode())
        target = self.sets / f"{WRITTEN}{change}"
        number = 1
        while target.exists():
            number += 1
            target = self.sets / f"{WRITTEN}{change}_{number}"
        durable.rename(set_path, target)
        return target

    def remove_set(self, set_path: Path) -> None:
        """Remove a set for good; the live one never.

        Raises:
            MarkersDisagree: It is the live one.
        """
        if not set_path.exists():
            return
        if set_path == self.live_or_none():
            raise DatabaseError(MARKERS_DISAGREE, reason=f"{set_path.name} is live")
        # A name of its own first, so that a half-removed set is never taken for a whole one.
        gone = set_path
        if not set_path.name.endswith(PARTIAL):
            role = self._role(set_path)
            gone = self.partial(self.sets / f"gone_{role.change if role else set_path.name}")
            self.remove_set(gone)
            set_path.chmod(0o700)
            durable.rename(set_path, gone)
        gone.chmod(0o700)
        shutil.rmtree(gone)
        durable.fsync_directory(self.sets)


def _counts(path: Path) -> Mapping[str, int] | None:
    try:
        return {str(table): int(rows) for table, rows in json.loads(path.read_bytes()).items()}
    except (OSError, AttributeError, TypeError, ValueError):
        return None  # not counted, or by nobody of ours
