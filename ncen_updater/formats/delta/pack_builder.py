"""Build a delta pack, for the publisher.

The same two trees give the same pack, byte for byte, with the same versions of the libraries. Every
pack is applied before it is published: the result must have the digest of the new tree.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import Amount, ProgressListener, SilentProgress, Unit
from ncen_updater.formats.delta.apply import apply_pack
from ncen_updater.formats.delta.cover_finder import Concatenation, NameSkeleton, is_script
from ncen_updater.formats.delta.group_encoder import (
    encode_group,
    encode_group_with_names,
    encode_single_frame,
)
from ncen_updater.formats.delta.index_reader import encode_index, list_changed_files
from ncen_updater.formats.delta.pack_plan import (
    ArchiveOperationKind,
    ArchiveRecipe,
    DeltaError,
    DeltaLimits,
    DeltaVerificationError,
    FileGroup,
    FileReference,
    GroupStreams,
    LinkMode,
    NewEntry,
    encode_header,
)
from ncen_updater.formats.delta.tree_pairing import (
    ArchivePlan,
    FileBatch,
    SimilarFiles,
    TextSimilarityIndex,
    find_similar_files,
    is_archive,
    iter_archive_view,
    pair_trees,
    plan_archive,
    plan_batches,
)
from ncen_updater.formats.delta.zip_archive import ZipTable, iter_view
from ncen_updater.formats.tree import EntryType, Tree

PIECE = 256 << 10
MAX_NAMES_RATIO = 0.95  # renaming costs CPU time at the sites, which smaller savings do not justify
MIN_SIMILAR_BYTES = 512  # similar files are not searched for smaller ones


@dataclass(frozen=True)
class PackOptions:
    """Options for building a pack.

    Attributes:
        scratch: Directory for temporary files and the trial; by default that of the pack.
        group_bytes: Approximate size of a group's files.
        window_bytes: Old bytes per call of the match finder, which needs six times as much
            memory. A group refers to no more than these, except for a single larger file.
    """

    scratch: Path | None = None
    group_bytes: int = 128 << 20
    window_bytes: int = 128 << 20


def build_pack(
    old: Path,
    old_tree: Tree,
    new: Path,
    new_tree: Tree,
    pack: Path,
    progress: ProgressListener,
    options: PackOptions = PackOptions(),
) -> DeltaLimits:
    """Write a pack from one tree to another, after applying it successfully.

    Args:
        old: Directory of the old release.
        old_tree: Its tree.
        new: Directory of the new release.
        new_tree: Its tree.
        pack: Path of the pack; created only when the pack is complete and verified.
        progress: Receives the bytes processed.
        options: Options.

    Returns:
        The values to sign.

    Raises:
        DeltaVerificationError: If the pack does not produce the new tree.
        OSError: If a disk fails.
    """
    scratch = options.scratch or pack.parent
    with tempfile.TemporaryDirectory(prefix=".delta-", dir=scratch) as folder:
        work = Path(folder)
        builder = _PackBuilder(old, old_tree, new, new_tree, work, progress, options)
        made = builder.build_pack()
        limits = DeltaLimits(
            from_tree=old_tree.compute_digest(),
            to_tree=new_tree.compute_digest(),
            out_bytes=new_tree.total_bytes,
            out_files=len(new_tree.entries),
            max_memory_bytes=builder.plan.memory_bytes,
            needs=builder.plan.needs,
        )
        progress.report(LazyText(N_("verifying the delta pack")))
        _verify_pack(made, old, old_tree, work / "proof", limits)
        with durable.open_for_replace(pack) as out, made.open("rb") as stream:
            shutil.copyfileobj(stream, out, PIECE)
    return limits


def _verify_pack(pack: Path, old: Path, old_tree: Tree, place: Path, limits: DeltaLimits) -> None:
    place.mkdir()
    try:
        # Nothing writes to the result, so it may be linked to read-only files of the old release.
        tree = apply_pack(pack, old, old_tree, place, limits, SilentProgress(), LinkMode.SEALED)
    except DeltaError as error:
        raise DeltaVerificationError(detail=error.full_text) from error
    finally:
        durable.remove_entry(place)
    if tree.compute_digest() != limits.to_tree:
        raise DeltaVerificationError()


class _PackBuilder:
    def __init__(
        self,
        old: Path,
        old_tree: Tree,
        new: Path,
        new_tree: Tree,
        work: Path,
        progress: ProgressListener,
        options: PackOptions,
    ) -> None:
        self._old, self._old_tree = old, old_tree
        self._new, self._new_tree = new, new_tree
        self._work, self._progress, self._options = work, progress, options
        self.plan = pair_trees(old_tree, new_tree)
        self._archives: dict[str, ArchivePlan] = {}
        self._similar_files = SimilarFiles()
        self._done = 0

    def build_pack(self) -> Path:
        """Write the streams, then the index in front of them; return the path."""
        self._pair_by_content()
        built = [e for e in self.plan.entries if isinstance(e, NewEntry) and e.is_built]
        for entry in built:
            self._plan_archive(entry)
        self._reference_similar_files(built)
        path = self._write_pack(self._work / "pack", built)
        # a reference to an earlier group costs a group more: build both and keep the smaller
        if self._similar_files.earlier:
            groups, self.plan.groups = self.plan.groups, []
            self._similar_files.earlier.clear()
            other = self._write_pack(self._work / "other", built)
            if path.stat().st_size < other.stat().st_size:
                self.plan.groups = groups
            else:
                path = other
        return path

    def _write_pack(self, path: Path, built: list[NewEntry]) -> Path:
        """Write a pack; return its path."""
        total, streams = sum(entry.size for entry in built), self._work / "streams"
        self._done = 0
        with streams.open("wb") as out:
            for batch in plan_batches(
                self.plan,
                self._old_tree,
                self._count_stream_bytes,
                self._options.group_bytes,
                self._options.window_bytes,
                self._similar_files,
            ):
                self.plan.groups.append(self._write_group(batch, out))
                self._done += sum(entry.size for entry in batch.files)
                label = LazyText(N_("building the delta pack"))
                self._progress.report(label, Amount(self._done, total, Unit.BYTES))
        with path.open("wb") as out, streams.open("rb") as source:
            index = encode_index(self.plan, self._old_tree)
            out.write(
                encode_header(
                    self._old_tree.compute_digest(), self._new_tree.compute_digest(), index
                )
            )
            shutil.copyfileobj(source, out, PIECE)
        streams.unlink()
        return path

    def _pair_by_content(self) -> None:
        """Pair renamed files by their content.

        This is done only if the old files exceed the match finder's window; otherwise the match
        finder sees them all.
        """
        old, entries = self._old_tree.entries, self.plan.entries
        changed = list_changed_files(self.plan, self._old_tree)
        if sum(old[index].size for index in changed) <= self._options.window_bytes:
            return
        stays = {entry.path for entry in self._new_tree.entries}
        moved = {e.origin for e in entries if isinstance(e, NewEntry)}
        likeness = TextSimilarityIndex()
        for index in changed:
            if old[index].path not in stays and index not in moved:
                with (self._old / self._path(index)).open("rb") as stream:
                    likeness.add_file(index, _read_pieces(stream))
        for at, entry in enumerate(entries):
            if not isinstance(entry, NewEntry) or not entry.is_built:
                continue
            if entry.similar_to is None or self._path(entry.similar_to) != entry.path:
                with (self._new / entry.path).open("rb") as stream:
                    best = likeness.find_most_similar(_read_pieces(stream))
                if best is not None:
                    entries[at] = replace(entry, similar_to=best)

    def _reference_similar_files(self, built: list[NewEntry]) -> None:
        """Let new files refer to similar files that are unchanged or moved.

        Groups can refer only to old files that the new tree drops or changes. So an unchanged file
        is encoded as dropped, plus a new entry with the same path and content.
        """
        old, entries = self._old_tree.entries, self.plan.entries
        moved = {e.origin for e in entries if isinstance(e, NewEntry) and e.origin is not None}
        known = [
            index for index in list_changed_files(self.plan, self._old_tree) if index not in moved
        ]
        others = {e for e in entries if isinstance(e, int) and old[e].type is EntryType.FILE}
        self._similar_files = find_similar_files(
            {
                entry.path: partial(_read_content, self._new / entry.path)
                for entry in built
                if entry.path not in self._archives and entry.size >= MIN_SIMILAR_BYTES
            },
            [partial(_read_content, self._old / self._path(index)) for index in known],
            {
                index: partial(_read_content, self._old / self._path(index))
                for index in sorted(others | moved)
                if old[index].size >= MIN_SIMILAR_BYTES
            },
        )
        found = set[int]().union(*self._similar_files.stays.values())
        for at, entry in enumerate(entries):
            if isinstance(entry, int) and entry in found:
                one = old[entry]
                entries[at] = NewEntry(one.path, one.type, one.mode, one.size, origin=entry)

    def _plan_archive(self, entry: NewEntry) -> None:
        if entry.similar_to is None:
            return
        with ExitStack() as stack:
            old = stack.enter_context(
                (self._old / self._path(entry.similar_to)).open("rb")
            ).fileno()
            new = stack.enter_context((self._new / entry.path).open("rb")).fileno()
            if is_archive(old) and is_archive(new):
                plan = plan_archive(old, new)
                if plan is not None:
                    self._archives[entry.path] = plan

    def _path(self, index: int) -> str:
        return self._old_tree.entries[index].path

    def _count_stream_bytes(self, entry: NewEntry) -> int:
        """Return the bytes of a file in the streams."""
        plan = self._archives.get(entry.path)
        if plan is None:
            return entry.size
        return sum(op.count for op in plan.ops if op.kind is not ArchiveOperationKind.MEMBERS)

    def _write_group(self, batch: FileBatch, out: IO[bytes]) -> FileGroup:
        members: dict[int, set[int]] = {}
        for entry in batch.files:
            if entry.path in self._archives and entry.similar_to is not None:
                members.setdefault(entry.similar_to, set()).update(
                    self._archives[entry.path].members
                )
        refs = tuple(
            FileReference(index, tuple(sorted(members[index])) if index in members else None)
            for index in batch.refs
        ) + tuple(FileReference(at, is_built=True) for at in batch.earlier)
        with (
            closing(Concatenation(self._work / "reference")) as reference,
            closing(Concatenation(self._work / "view")) as view,
            closing(Concatenation(self._work / "differences")) as scratch,
        ):
            for ref in refs:
                reference.append_file(self._old_pieces(ref))
            for entry in batch.files:
                view.append_file(self._new_pieces(entry))
            pairs = {ref.origin: i for i, ref in enumerate(refs) if not ref.is_built}
            likely = [
                (i, pairs[entry.similar_to])
                for i, entry in enumerate(batch.files)
                if entry.similar_to in pairs
            ]
            here = [(view.starts[i], reference.starts[j]) for i, j in likely]
            made = encode_group(reference, view, here, self._options.window_bytes, scratch, out)
            made = self._try_minified_names(batch, refs, reference, view, likely, made, out)
            made = self._try_single_frame(reference, view, made, out)
            return FileGroup(
                files=len(batch.files),
                references=refs,
                recipes=tuple(
                    ArchiveRecipe(i, pairs[entry.similar_to], self._archives[entry.path].ops)
                    for i, entry in enumerate(batch.files)
                    if entry.path in self._archives and entry.similar_to is not None
                ),
                view=view.size,
                **vars(made),
            )

    def _try_single_frame(
        self, reference: Concatenation, view: Concatenation, made: GroupStreams, out: IO[bytes]
    ) -> GroupStreams:
        """Replace the streams by one zstd frame if that is smaller."""
        with (self._work / "called").open("w+b") as other:
            found = encode_single_frame(reference, view, made.packed_bytes, other)
            return made if found is None else _replace_streams(made, found, other, out)

    def _try_minified_names(
        self,
        batch: FileBatch,
        refs: tuple[FileReference, ...],
        reference: Concatenation,
        view: Concatenation,
        likely: list[tuple[int, int]],
        made: GroupStreams,
        out: IO[bytes],
    ) -> GroupStreams:
        """Replace the streams by streams with renamed names if that saves enough."""
        old = [r.members is None and is_script(self._source(r).name) for r in refs]
        new = [e.path not in self._archives and is_script(e.path) for e in batch.files]
        if not (any(old) and any(new)):
            return made
        with (
            closing(NameSkeleton(self._work / "reference", reference, old)) as bones,
            closing(NameSkeleton(self._work / "view", view, new)) as wanted,
            closing(Concatenation(self._work / "differences")) as scratch,
            (self._work / "renamed").open("w+b") as other,
        ):
            there = [(wanted.bones.starts[i], bones.bones.starts[j]) for i, j in likely]
            window = self._options.window_bytes
            found = encode_group_with_names(bones, wanted, there, window, scratch, other)
            if found is None or found.packed_bytes > made.packed_bytes * MAX_NAMES_RATIO:
                return made
            return _replace_streams(made, found, other, out)

    def _source(self, ref: FileReference) -> Path:
        entry = self.plan.entries[ref.origin] if ref.is_built else None
        if isinstance(entry, NewEntry):
            return self._new / entry.path
        return self._old / self._path(ref.origin)

    def _old_pieces(self, ref: FileReference) -> Iterator[bytes]:
        with self._source(ref).open("rb") as stream:
            if ref.members is None:
                yield from _read_pieces(stream)
            else:
                yield from iter_view(ZipTable(stream.fileno()), stream.fileno(), ref.members)

    def _new_pieces(self, entry: NewEntry) -> Iterator[bytes]:
        with (self._new / entry.path).open("rb") as stream:
            plan = self._archives.get(entry.path)
            if plan is None or entry.similar_to is None:
                yield from _read_pieces(stream)
                return
            with (self._old / self._path(entry.similar_to)).open("rb") as old:
                yield from iter_archive_view(stream.fileno(), plan, ZipTable(old.fileno()))


def _replace_streams(
    made: GroupStreams, found: GroupStreams, other: IO[bytes], out: IO[bytes]
) -> GroupStreams:
    """Remove the streams that were written last, and write others."""
    out.seek(-made.packed_bytes, os.SEEK_CUR)
    out.truncate()
    other.seek(0)
    shutil.copyfileobj(other, out, PIECE)
    return found


def _read_content(path: Path) -> Iterator[bytes]:
    """Yield the content of a file; nothing for an archive, as compressed bytes match nothing."""
    with path.open("rb") as stream:
        if not is_archive(stream.fileno()):
            yield from _read_pieces(stream)


def _read_pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        yield piece
