"""The tree: every path of a release with type, mode, size and digest.

It is listed depth first: a directory, then its entries, sorted by name. So ``a``, ``a/b``, ``a-b``.

A slot is verified against its tree. The tree's digest is the SHA-256 of its canonical JSON.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.formats.errors import TreeError, describe_excess, describe_mistakes

MAX_ENTRIES = 500_000
MAX_TREE_BYTES = 200_000_000
HASH_BLOCK = 1 << 20
ENTRIES_PER_PIECE = 1000

WRITE_BITS = 0o222
MAX_PATH_CHARS, MAX_NAME_BYTES = 1000, 255


class EntryType(StrEnum):
    """Entry types that a release may contain; devices, sockets and hard links are refused."""

    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "link"


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", defer_build=True))
class TreeEntry:
    """One path of a release. ``mode`` has permission bits only, no setuid, setgid or sticky bit.

    A dataclass, because a tree has tens of thousands of entries and a model needs four times the
    memory.
    """

    path: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATH_CHARS)]
    type: EntryType
    mode: Annotated[int, Field(ge=0, le=0o777)]
    size: Annotated[int, Field(ge=0, lt=2**63)] = 0
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    target: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATH_CHARS)] | None = None


ENTRY_ADAPTER: Final = TypeAdapter(TreeEntry)
ENTRIES_ADAPTER: Final = TypeAdapter(tuple[TreeEntry, ...])


class Tree(BaseModel):
    """All paths of a release, depth first; the entries of a directory are sorted by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    entries: Annotated[tuple[TreeEntry, ...], Field(max_length=MAX_ENTRIES)]

    def to_canonical_json(self) -> bytes:
        """Return the signed canonical JSON."""
        return b"".join(self._pieces())

    def compute_digest(self) -> str:
        """Return the SHA-256 of the canonical JSON, hexadecimal."""
        digest = hashlib.sha256()
        for piece in self._pieces():
            digest.update(piece)
        return digest.hexdigest()

    def _pieces(self) -> Iterator[bytes]:
        """Yield the canonical JSON in pieces: one piece for a large tree needs much memory."""
        yield b'{"entries":['
        for at in range(0, len(self.entries), ENTRIES_PER_PIECE):
            some = self.entries[at : at + ENTRIES_PER_PIECE]
            dumped = ENTRIES_ADAPTER.dump_python(some, mode="json", exclude_none=True)
            if at:
                yield b","
            yield encode_canonical_json(dumped)[1:-2]  # strip brackets and line feed
        yield b'],"schema":%d}\n' % self.schema_

    @property
    def total_bytes(self) -> int:
        """Return the total bytes of all files."""
        return sum(entry.size for entry in self.entries)


class PathRules:
    """Rules for the paths of a release; each path is checked in the order of the tree."""

    def __init__(self) -> None:
        self._seen: dict[str, EntryType] = {}
        self._last: list[str] = []

    def find_problem(self, path: str, kind: EntryType, target: str | None) -> str | None:
        """Return why a release may not have the next path or its link; None if it may."""
        parts = path.split("/")
        if len(path) > MAX_PATH_CHARS or not all(map(_is_plain_name, parts)):
            return N_("invalid path")
        if path in self._seen:
            return N_("duplicate path")
        parent = "/".join(parts[:-1])
        if parent and self._seen.get(parent) is not EntryType.DIRECTORY:
            return N_("not in a directory of the release")
        if parts < self._last:
            return N_("not sorted")
        self._seen[path], self._last = kind, parts
        return find_link_problem(path, target) if target is not None else None


def _is_plain_name(name: str) -> bool:
    has_separator = "\\" in name or "\0" in name
    too_long = len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES
    return name not in ("", ".", "..") and not has_separator and not too_long


def _find_problem(entry: TreeEntry) -> str | None:
    if (entry.sha256 is None) == (entry.type is EntryType.FILE):
        return N_("files, and only files, have a digest")
    if (entry.target is None) == (entry.type is EntryType.SYMLINK):
        return N_("links, and only links, have a target")
    if entry.type is not EntryType.FILE and entry.size:
        return N_("only files have a size")
    return None


def find_link_problem(path: str, target: str) -> str | None:
    """Return why a release may not have a link; None if it may.

    Only the start of the target may go up, and not above the release. So every link ends inside the
    release, also through other links, which fulfil the same rule.
    """
    if not 0 < len(target) <= MAX_PATH_CHARS or "\\" in target or "\0" in target:
        return N_("invalid path")
    if target.startswith("/"):
        return N_("the link is absolute")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = len(list(takewhile(lambda part: part == "..", parts)))
    leads_out = up > path.count("/") or ".." in parts[up:]
    return N_("the link leads out of the release") if leads_out else None


def _require_valid_entries(tree: Tree, source: str | Path) -> None:
    """Refuse paths, links, types and orders that no release may have.

    Raises:
        TreeError: With the first invalid entry.
    """
    rules = PathRules()
    for entry in tree.entries:
        problem = rules.find_problem(entry.path, entry.type, entry.target) or _find_problem(entry)
        if problem:
            values = {"name": repr(entry.path), "text": problem}
            raise TreeError(source=source, detail=LazyText(N_("{name}: {text}"), values))


def parse_tree(content: bytes, source: str) -> Tree:
    """Parse a tree and check every path.

    Raises:
        TreeError: If it is too large, not JSON, does not match the schema, or has a path, link,
            type or order that a release may not have.
    """
    if len(content) > MAX_TREE_BYTES:
        raise TreeError(source=source, detail=describe_excess(len(content), MAX_TREE_BYTES))
    try:
        tree = Tree.model_validate_json(content)
    except ValidationError as error:
        raise TreeError(source=source, detail=describe_mistakes(error, source)) from error
    _require_valid_entries(tree, source)
    return tree


def hash_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in blocks of 1 MiB.

    Args:
        path: A regular file; the caller ensures that it is not a symbolic link.
        on_bytes: Receives the number of bytes of each block.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def scan_tree(root: Path, on_bytes: Callable[[int], None] | None = None) -> Tree:
    """Build the tree of a directory on disk, hashing every file.

    Raises:
        TreeError: If it cannot be read, or contains anything but files, directories and links
            within it, or a name that a release may not have.
    """
    entries: list[TreeEntry] = []
    try:
        _walk(root, "", entries, on_bytes)
        tree = Tree(entries=tuple(entries))
    except RecursionError as error:
        raise TreeError(source=root, detail="directories are nested too deeply") from error
    except (OSError, ValidationError) as error:
        raise TreeError(source=root, detail=_make_printable(str(error))[:500]) from error
    _require_valid_entries(tree, root)
    return tree


def _make_printable(text: str) -> str:
    """Escape bytes that are not UTF-8: names on disk may have them, messages may not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _walk(
    directory: Path,
    prefix: str,
    entries: list[TreeEntry],
    on_bytes: Callable[[int], None] | None,
) -> None:
    for item in sorted(directory.iterdir(), key=lambda p: p.name):
        path = f"{prefix}{item.name}"
        info = item.lstat()
        mode = stat.S_IMODE(info.st_mode) & 0o777
        if stat.S_ISLNK(info.st_mode):
            target = str(item.readlink())
            entries.append(TreeEntry(path=path, type=EntryType.SYMLINK, mode=0o777, target=target))
        elif stat.S_ISDIR(info.st_mode):
            entries.append(TreeEntry(path=path, type=EntryType.DIRECTORY, mode=mode))
            _walk(item, f"{path}/", entries, on_bytes)
        elif stat.S_ISREG(info.st_mode):
            entries.append(
                TreeEntry(
                    path=path,
                    type=EntryType.FILE,
                    mode=mode,
                    size=info.st_size,
                    sha256=hash_file(item, on_bytes),
                )
            )
        else:
            raise TreeError(
                source=directory,
                detail=LazyText("{path}: not a file, directory or link", {"path": repr(path)}),
            )


def get_sealed_mode(entry: TreeEntry) -> int:
    """Return the mode of an entry in a finished slot: files without write permission."""
    return entry.mode & ~WRITE_BITS if entry.type is EntryType.FILE else entry.mode
