"""Releases on the disk, and packs of them: honest ones, and ones put together by hand."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.delta.apply import apply_pack
from ncen_updater.formats.delta.byte_transforms import RUN_BYTES, split_planes
from ncen_updater.formats.delta.index_reader import decode_plan, encode_index
from ncen_updater.formats.delta.lzma_streams import Extent, compress_stream
from ncen_updater.formats.delta.pack_builder import PackOptions, build_pack
from ncen_updater.formats.delta.pack_plan import (
    DeltaLimits,
    FileGroup,
    FileReference,
    LinkMode,
    NewEntry,
    PackPlan,
    encode_header,
    read_header,
    read_index,
)
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry, get_sealed_mode, scan_tree


@dataclass(frozen=True)
class Link:
    """A symbolic link in a sample release."""

    target: str


@dataclass(frozen=True)
class Mode:
    """A file with unusual permissions."""

    content: bytes
    mode: int


Content = bytes | Link | Mode | None  # None is a directory
Files = Mapping[str, Content]


def write(root: Path, files: Files) -> Tree:
    """Write a release; return its tree."""
    root.mkdir(parents=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        elif isinstance(content, Mode):
            path.write_bytes(content.content)
            path.chmod(content.mode)
        else:
            path.write_bytes(content)
    return scan_tree(root)


def jar(
    members: Mapping[str, bytes], level: int = 6, comment: bytes = b"", year: int = 2025
) -> bytes:
    """An archive as the makers of jars write it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = comment
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (year, 1, 2, 3, 4, 6))
            info.compress_type = zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED
            archive.writestr(info, content, compresslevel=level or None)
    return out.getvalue()


@dataclass(frozen=True)
class PackFacts:
    """What a pack holds, besides what is signed."""

    pack_bytes: int
    needs: tuple[str, ...]
    max_memory_bytes: int
    same_files: int
    written_files: int
    written_bytes: int
    rebuilt_archives: int


def read_facts(pack: Path, old: Tree, limits: DeltaLimits) -> PackFacts:
    """Read the index of a pack."""
    with pack.open("rb") as stream:
        header = read_header(stream.fileno())
        index = read_index(stream.fileno(), header)
    plan = decode_plan(index, old, header.streams_start, limits.out_files)
    kept = [old.entries[e] for e in plan.entries if isinstance(e, int)]
    new = [e for e in plan.entries if isinstance(e, NewEntry)]
    built = [e for e in new if e.is_built]
    same = [e for e in kept if e.type is EntryType.FILE]
    return PackFacts(
        pack.stat().st_size,
        limits.needs,
        limits.max_memory_bytes,
        len(same) + sum(e.origin is not None for e in new),
        len(built),
        sum(e.size for e in built),
        sum(len(group.recipes) for group in plan.groups),
    )


def _seal(tree: Tree) -> list[TreeEntry]:
    return [replace(entry, mode=get_sealed_mode(entry)) for entry in tree.entries]


def there(
    place: Path, old: Files, new: Files, options: PackOptions | None = None
) -> tuple[PackFacts, Tree]:
    """Make a pack between two releases and apply it; compare what came out with the new one."""
    old_tree, new_tree = write(place / "old", old), write(place / "new", new)
    pack = place / "pack"
    options = options or PackOptions()
    limits = build_pack(
        place / "old", old_tree, place / "new", new_tree, pack, SilentProgress(), options
    )
    out = place / "out"
    out.mkdir()
    tree = apply_pack(pack, place / "old", old_tree, out, limits, SilentProgress(), LinkMode.SAFE)
    assert tree == new_tree
    assert tree.compute_digest() == limits.to_tree
    # A linked file is sealed already, as every file of a finished slot.
    assert _seal(scan_tree(out)) == _seal(new_tree)
    return read_facts(pack, old_tree, limits), tree


OLD_FILES: Files = {"dir": None, "dir/old.txt": b"what was there before", "last": b"z" * 300}


class Forge:
    """Puts packs together by hand, from a small old release, and applies them.

    Args:
        place: An empty directory.
        files: The old release.
    """

    def __init__(self, place: Path, files: Files = OLD_FILES) -> None:
        self.place, self.old, self.out = place, place / "old", place / "out"
        self.tree = write(self.old, files)
        self.path = place / "forged"
        self.limits = DeltaLimits(
            from_tree=self.tree.compute_digest(),
            to_tree="1" * 64,
            out_bytes=1 << 20,
            out_files=1000,
            max_memory_bytes=64 << 20,
            needs=("deflate-zlib-6.8",),
        )

    def index(self, content: bytes, streams: bytes = b"") -> None:
        """Write a pack with an index as given."""
        head = encode_header(self.limits.from_tree, self.limits.to_tree, content)
        self.path.write_bytes(head + streams)

    def plan(
        self, entries: Sequence[int | NewEntry], *groups: FileGroup, streams: bytes = b""
    ) -> None:
        """Write a pack with such entries, groups and streams."""
        self.index(encode_index(PackPlan(list(entries), list(groups)), self.tree), streams)

    def apply(self, limits: DeltaLimits | None = None) -> Tree:
        """Apply the pack into an empty directory."""
        if self.out.exists():
            shutil.rmtree(self.out)
        self.out.mkdir()
        return apply_pack(
            self.path,
            self.old,
            self.tree,
            self.out,
            limits or self.limits,
            SilentProgress(),
            LinkMode.SAFE,
        )


def group(
    literals: bytes,
    *,
    files: int = 1,
    refs: Sequence[FileReference] = (),
    control: bytes = b"",
    zeros: bytes = b"",
    differences: bytes = b"",
    view: int | None = None,
) -> tuple[FileGroup, bytes]:
    """A group, and its streams; without ``view`` it has no runs of zeros."""
    contents = (control, zeros, differences, literals)
    parts = [(compress_stream(content), len(content)) for content in contents]
    extents = [Extent(0, len(packed), plain) for packed, plain in parts]
    made = FileGroup(
        files=files,
        references=tuple(refs),
        recipes=(),
        view=len(differences) + len(literals) if view is None else view,
        covers=len(control) // 12,
        runs=len(zeros) // RUN_BYTES,
        control=extents[0],
        zeros=extents[1],
        differences=extents[2],
        literals=extents[3],
    )
    return made, b"".join(packed for packed, _ in parts)


def fresh(path: str, size: int) -> NewEntry:
    """A file that comes out of a group."""
    return NewEntry(path, EntryType.FILE, 0o644, size)


def planes(*numbers: tuple[int, ...]) -> bytes:
    """Covers of an old file, or runs of zeros, as a stream has them."""
    return b"".join(split_planes(column) for column in zip(*numbers, strict=True))
