"""Changes of a release's files, and which of them may run as programs. Pure.

A file needs no execute permission to run: applications, service managers, web servers and
interpreters load files by their place or name. So the known kinds of data are listed; any other
file may run.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, Final

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry

#: Known harmless files and SQL.
HARMLESS: Final[dict[str, Any]] = tomllib.loads(
    files(__package__).joinpath("templates/harmless.toml").read_text("utf-8")
)
_DATA: Final = frozenset(HARMLESS["data"].split())
_TEXTS: Final = frozenset(HARMLESS["texts"].split())
_OBEYED: Final = re.compile(HARMLESS["obeyed"], re.IGNORECASE)
#: Suffixes of directories whose files installers or services read.
_READ: Final = (".d", ".dist-info", ".egg-info")
#: Maximum number of files listed by name; more are counted by directory.
MAX_LISTED: Final = 12
#: Maximum number of listed directories.
MAX_DIRECTORIES: Final = 10
#: Number of example names beside a count.
FIRST: Final = 3


def may_run(path: str) -> bool:
    """Return whether a file is not of a known kind of data."""
    place = PurePosixPath(path)
    if any(part.lower().endswith(_READ) for part in place.parts[:-1]):
        return True
    if _OBEYED.fullmatch(place.name):
        return True
    return place.suffix.lower() not in _DATA and place.name not in _TEXTS


def format_programs(paths: Sequence[str], templates: str) -> tuple[LazyText, ...]:
    """List programs: each by name, or very many by directory.

    Args:
        paths: Their paths.
        templates: A template with the placeholder ``{paths}``.
    """
    if 0 < len(paths) <= MAX_LISTED:
        return (LazyText(templates, {"paths": ", ".join(paths)}),)
    return tuple(
        LazyText(templates, {"paths": _format_directory(*item)})
        for item in group_by_directory(paths).items()
    )


def _format_directory(place: str, names: Sequence[str]) -> LazyText | str:
    if len(names) <= FIRST:
        return ", ".join(f"{place}{name}" for name in names)
    values = {"count": len(names), "directory": place or ".", "names": ", ".join(names[:FIRST])}
    return LazyText(N_("{count} in {directory}, such as {names}"), values)


def group_by_directory(paths: Iterable[str]) -> dict[str, list[str]]:
    """Group paths by directory, as deep as the maximum number of directories allows."""
    split = [PurePosixPath(path) for path in sorted(paths)]
    found: dict[str, list[str]] = {}
    for depth in range(max((len(path.parts) - 1 for path in split), default=0), -1, -1):
        found = {}
        for path in split:
            above = "/".join(path.parts[:-1][:depth])
            place = f"{above}/" if above else ""
            found.setdefault(place, []).append(str(path).removeprefix(place))
        if len(found) <= MAX_DIRECTORIES:
            break
    return found


#: Larger files are not compared line by line.
MAX_COUNTED = 5_000_000
EXECUTE_BITS = 0o111
#: First bytes of executable files, whatever their mode: a script, and ELF.
PROGRAM_MAGIC = (b"#!", b"\x7fELF")

#: Returns the content of a file in a tree; None if it is not available.
ReadFile = Callable[[TreeEntry], bytes | None]


@dataclass(frozen=True)
class FileChange:
    """A path that differs from the previous release.

    Attributes:
        path: The path.
        before: The old entry; None if it is new.
        after: The new entry; None if it was removed.
        lines_added: Number of added lines; None if not counted.
        lines_removed: Number of removed lines.
        became_program: Whether its content is executable now and was not before, as far as it
            could be read.
        shown_elsewhere: Whether it is shown elsewhere on the page, like SQL that sites run.
    """

    path: str
    before: TreeEntry | None
    after: TreeEntry | None
    lines_added: int | None = None
    lines_removed: int | None = None
    became_program: bool = False
    shown_elsewhere: bool = False

    @property
    def is_program(self) -> bool:
        """Return whether it may run as a program, now or before."""
        if self.shown_elsewhere and _is_executable(self.after) is _is_executable(self.before):
            return self.became_program
        return _may_run(self.before) or _may_run(self.after)

    @property
    def became_executable(self) -> bool:
        """Return whether it became executable, by its mode or first bytes."""
        return self.became_program or (
            _is_executable(self.after) and not _is_executable(self.before)
        )

    @property
    def is_new_program(self) -> bool:
        """Return whether it may run and could not before, or changed its type."""
        other = self.before and self.after and self.before.type is not self.after.type
        fresh = _may_run(self.after) and not _may_run(self.before)
        return self.became_executable or (self.is_program and bool(other or fresh))

    @property
    def text(self) -> LazyText:
        """Return the description of the change."""
        note: LazyText | str = LazyText(N_(" (executable)")) if self.is_program else ""
        values: dict[str, object] = {"path": self.path, "note": note}
        if self.after is None:
            return LazyText(N_("removed: {path}{note}"), values)
        if self.before is None:
            return LazyText(
                N_("added: {path}, {size}{note}"), values | {"size": _describe_kind(self.after)}
            )
        if self.lines_added is not None:
            values |= {"plus": self.lines_added, "minus": self.lines_removed}
            return LazyText(N_("changed: {path}, lines +{plus} -{minus}{note}"), values)
        other = self.before.mode != self.after.mode and self.before.type is self.after.type
        was, now = _describe_kind(self.before, mode=other), _describe_kind(self.after, mode=other)
        values |= {"old": was, "new": now}
        if was.render() == now.render():
            return LazyText(N_("changed: {path}, {new}, other content{note}"), values)
        return LazyText(N_("changed: {path}, {old} to {new}{note}"), values)


def _is_executable(entry: TreeEntry | None) -> bool:
    return entry is not None and entry.type is EntryType.FILE and bool(entry.mode & EXECUTE_BITS)


def _may_run(entry: TreeEntry | None) -> bool:
    """Return whether an entry may run; a link counts if its target may."""
    if entry is None or entry.type is EntryType.DIRECTORY:
        return False
    led = entry.type is EntryType.SYMLINK and may_run(entry.target or "")
    return _is_executable(entry) or may_run(entry.path) or led


def _begins_as_program(entry: TreeEntry | None, read: ReadFile) -> bool:
    if entry is None or entry.type is not EntryType.FILE or entry.size > MAX_COUNTED:
        return False
    content = read(entry)
    return content is not None and content.startswith(PROGRAM_MAGIC)


def _describe_kind(entry: TreeEntry, *, mode: bool = False) -> LazyText:
    if entry.type is EntryType.SYMLINK:
        return LazyText(N_("link to {target}"), {"target": entry.target})
    kind = LazyText(N_("directory"))
    if entry.type is EntryType.FILE:
        kind = LazyText("{size_bytes}", {"size_bytes": entry.size})
    rights = {"kind": kind, "mode": f"{entry.mode:o}"}
    return LazyText(N_("{kind}, mode {mode}"), rights) if mode else kind


def compare_trees(before: Tree, after: Tree, old: ReadFile, new: ReadFile) -> Iterator[FileChange]:
    """Yield all differing paths; directories only if they changed themselves.

    Args:
        before: Tree of the previous release.
        after: Tree of the release.
        old: Reads a file of the previous release.
        new: Reads a file of the release.
    """
    was = {entry.path: entry for entry in before.entries}
    now = {entry.path: entry for entry in after.entries}
    for path in sorted(was.keys() | now.keys()):
        first, second = was.get(path), now.get(path)
        if first == second or _is_only_directory(first, second):
            continue
        plus = minus = None
        if first and second and first.type is second.type is EntryType.FILE:
            counted = _count_lines(first, second, old, new)
            plus, minus = counted if counted else (None, None)
        became = _begins_as_program(second, new) and not _begins_as_program(first, old)
        yield FileChange(path, first, second, plus, minus, became)


def _is_only_directory(first: TreeEntry | None, second: TreeEntry | None) -> bool:
    there = [entry for entry in (first, second) if entry is not None]
    return all(entry.type is EntryType.DIRECTORY for entry in there) and len(there) == 1


def _count_lines(
    first: TreeEntry, second: TreeEntry, old: ReadFile, new: ReadFile
) -> tuple[int, int] | None:
    """Count added and removed lines, whatever their order; None for files that are not text."""
    if max(first.size, second.size) > MAX_COUNTED or first.sha256 == second.sha256:
        return None
    before, after = old(first), new(second)
    if before is None or after is None or b"\0" in before or b"\0" in after:
        return None
    was, now = Counter(before.split(b"\n")), Counter(after.split(b"\n"))
    return sum((now - was).values()), sum((was - now).values())
