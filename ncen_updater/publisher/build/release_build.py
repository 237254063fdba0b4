"""Build TUF targets from a release directory, reproducibly.

The directory contains ``manifest.toml`` and all files of the slot. The manifest itself becomes part
of the release document. The build writes archive, tree and release document below ``targets/`` of
the staging directory. ``draft`` also includes other files for this release there (delta packs, an
SBOM).

The same files give the same archive on any machine at any time: entries are sorted and owned by 0,
with one fixed time and normalized modes, without user names. Only the compressor may differ:
another build of zlib can write other bytes. So two builders compare archives made with the same
Python image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.formats.errors import TreeError
from ncen_updater.formats.manifest import Manifest, Migration, fill_engine, load_manifest
from ncen_updater.formats.release_document import (
    ChunkDigests,
    DeltaRef,
    ReleaseDocument,
    TargetRef,
    compute_chunk_bytes,
    get_archive_target_name,
    get_release_target_name,
    get_tree_target_name,
)
from ncen_updater.formats.sql import ENGINE_NAMES
from ncen_updater.formats.tree import EntryType, Tree, TreeEntry, hash_file, scan_tree
from ncen_updater.publisher.build.attachments import AttachmentBuilder, write_target
from ncen_updater.publisher.errors import BuildError, describe_system_error

if TYPE_CHECKING:
    from ncen_updater.publisher.build.delta_packs import DeltaPackBuilder

BLOCK: Final = 1 << 20
MANIFEST_NAME: Final = "manifest.toml"
DEFAULT_EPOCH: Final = 315_532_800  # 1980-01-01, the earliest time that all tools support
GZIP_LEVEL: Final = 9
# Fixed, so that the same tree gives the same bytes; higher levels do not shrink digests.
ZSTD_LEVEL: Final = 12
OWNER_EXECUTES: Final = 0o100


def compute_chunk_digests(path: Path, length: int) -> ChunkDigests | None:
    """Compute the digests of a file's chunks; return None for a single chunk.

    Args:
        path: The file.
        length: Its length in bytes.
    """
    size = compute_chunk_bytes(length)
    if length <= size:
        return None
    digests = []
    with path.open("rb") as stream:
        for start in range(0, length, size):
            digest = hashlib.sha256()
            while block := stream.read(min(BLOCK, start + size - stream.tell())):
                digest.update(block)
            digests.append(digest.hexdigest())
    return ChunkDigests(size=size, sha256=tuple(digests))


def normalize_modes(tree: Tree, excluded_paths: frozenset[str]) -> Tree:
    """Return the tree with normalized modes: 0755 for directories and programs, else 0644.

    Args:
        tree: The tree as scanned.
        excluded_paths: Top-level paths that do not belong to the release.
    """
    return Tree(
        entries=tuple(
            replace(entry, mode=_get_mode(entry))
            for entry in tree.entries
            if entry.path not in excluded_paths
        )
    )


def _get_mode(entry: TreeEntry) -> int:
    if entry.type is EntryType.SYMLINK:
        return 0o777
    if entry.type is EntryType.DIRECTORY or entry.mode & OWNER_EXECUTES:
        return 0o755
    return 0o644


class _HashingReader(io.RawIOBase):
    """A reader that hashes the bytes that it reads."""

    def __init__(self, stream: IO[bytes], on_bytes: Callable[[int], None] | None) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(BLOCK if size < 0 else size)
        self.digest.update(data)
        if self._on_bytes:
            self._on_bytes(len(data))
        return data


def write_archive(
    root: Path,
    tree: Tree,
    path: Path,
    name: str,
    epoch: int = DEFAULT_EPOCH,
    on_bytes: Callable[[int], None] | None = None,
) -> TargetRef:
    """Pack a tree; memory use does not depend on its size.

    Args:
        root: Directory of the files.
        tree: The tree, with the modes to write; every file is compared with it.
        path: Path of the archive, which is created atomically.
        name: Name of the target.
        epoch: Modification time of all members, seconds since 1970.
        on_bytes: Receives the number of bytes of each block.

    Raises:
        BuildError: If a file changed since the tree was scanned.
    """
    durable.make_directory(path.parent)
    with (
        durable.open_for_replace(path) as stream,
        gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry in tree.entries:
            _add_entry(tar, root, entry, epoch, on_bytes)
    return TargetRef(target=name, length=path.stat().st_size, sha256=hash_file(path))


def _add_entry(
    tar: tarfile.TarFile,
    root: Path,
    entry: TreeEntry,
    epoch: int,
    on_bytes: Callable[[int], None] | None,
) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode, info.mtime = entry.mode, epoch
    if entry.type is EntryType.DIRECTORY:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif entry.type is EntryType.SYMLINK:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target or ""
        tar.addfile(info)
    else:
        info.size = entry.size
        source = root / entry.path
        try:
            with source.open("rb") as stream:
                reader = _HashingReader(stream, on_bytes)
                tar.addfile(info, reader)
        except OSError as error:
            raise BuildError(
                path=root,
                reason=LazyText(
                    "cannot read {path}: {error}",
                    {"path": entry.path, "error": describe_system_error(error)},
                ),
            ) from error
        if reader.digest.hexdigest() != entry.sha256 or source.stat().st_size != entry.size:
            raise BuildError(
                path=root,
                reason=LazyText("{path} changed during packing", {"path": entry.path}),
            )


@dataclass(frozen=True)
class BuiltRelease:
    """Result of ``build``.

    Attributes:
        staging: The staging directory, with the targets in ``targets``.
        document: The release document.
        targets: All written targets.
    """

    staging: Path
    document: ReleaseDocument
    targets: tuple[TargetRef, ...]


def scan_release(directory: Path, on_bytes: Callable[[int], None] | None = None) -> Tree:
    """Scan a release directory; return its tree as it will be in a slot.

    Raises:
        BuildError: If it contains an entry that a release may not have.
    """
    try:
        tree = scan_tree(directory, on_bytes)
        tree.to_canonical_json()
    except (TreeError, UnicodeEncodeError) as error:
        raise BuildError(
            path=directory, reason=getattr(error, "detail", describe_system_error(error))
        ) from error
    except (OSError, ValueError) as error:
        raise BuildError(path=directory, reason=describe_system_error(error)) from error
    return normalize_modes(tree, frozenset({MANIFEST_NAME}))


def list_files(tree: Tree) -> dict[str, str]:
    """Return the digest of every file of a tree, by path."""
    return {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}


def list_migration_files(
    migration: Migration, tree_files: frozenset[str]
) -> tuple[list[str], list[str]]:
    """Return the existing and the missing files of a migration.

    A path with ``{engine}`` stands for one file per supported engine. A migration supports an
    engine if its ``up`` file for the engine exists, and must support at least one.
    """
    paths = [path for path in (migration.up, migration.down, migration.verify) if path]
    engines = [e for e in ENGINE_NAMES if fill_engine(e, migration.up) in tree_files]
    wanted = sorted(
        {fill_engine(engine, path) for path in paths for engine in engines or ENGINE_NAMES[:1]}
    )
    present = [path for path in wanted if path in tree_files]
    return present, [path for path in wanted if path not in tree_files]


def build_release(
    directory: Path,
    staging: Path,
    epoch: int = DEFAULT_EPOCH,
    on_bytes: Callable[[int], None] | None = None,
    deltas: DeltaPackBuilder | None = None,
    attachments: AttachmentBuilder | None = None,
) -> BuiltRelease:
    """Build a release, reproducibly.

    Args:
        directory: The release directory, as the Secretariat wrote it.
        staging: Directory in which ``targets/`` is written.
        epoch: Modification time of all members of the archive, seconds since 1970.
        on_bytes: Receives the number of bytes of each block; every file is read twice.
        deltas: Builder of delta packs; None for none.
        attachments: Builder of SBOM and provenance; by default neither.

    Raises:
        ManifestError: If the manifest is invalid.
        BuildError: If the directory contains an entry that a release may not have, lacks a file
            of the manifest, or changed during the build.
    """
    manifest = load_manifest(directory / MANIFEST_NAME)
    tree = scan_release(directory, on_bytes)
    digests = _compute_migration_digests(directory, manifest, tree)
    product, version = manifest.product, manifest.version
    targets = staging / "targets"
    archive = write_archive(
        directory,
        tree,
        targets / get_archive_target_name(product, version),
        get_archive_target_name(product, version),
        epoch,
        on_bytes,
    )
    packs = deltas.build_packs(directory, tree, manifest, archive, targets) if deltas else ()
    _remove_old_packs(targets, manifest, packs)
    content = tree.to_canonical_json()
    packed = compress_tree(content)
    tree_ref = write_target(targets, get_tree_target_name(product, version), packed)
    builder = attachments or AttachmentBuilder()
    sbom = builder.copy_sbom(manifest, targets)
    built = tuple(ref for ref in (archive, tree_ref, sbom, *packs) if ref is not None)
    provenance = builder.make_provenance(manifest, built, targets, epoch)
    document = ReleaseDocument.model_validate(
        {
            "schema": 1,
            "manifest": manifest,
            "archive": archive,
            "archive_chunks": compute_chunk_digests(targets / archive.target, archive.length),
            "tree": tree_ref,
            "tree_digest": compute_sha256(content),
            "tree_bytes": len(content),
            "unpacked_bytes": tree.total_bytes,
            "migrations": digests,
            "deltas": packs,
            "sbom": sbom,
            "provenance": provenance,
        }
    )
    document_ref = write_target(
        targets, get_release_target_name(product, version), document.to_canonical_json()
    )
    return BuiltRelease(
        staging, document, (document_ref, *built, *([provenance] if provenance else []))
    )


def _remove_old_packs(targets: Path, manifest: Manifest, packs: tuple[DeltaRef, ...]) -> None:
    """Remove packs of an earlier build of the same version, which lead to another tree."""
    made = {targets / ref.target for ref in packs}
    for path in (targets / "deltas" / manifest.product).glob(f"*--{manifest.version}"):
        if path not in made:
            durable.remove_file(path)


def compress_tree(content: bytes) -> bytes:
    """Compress a tree for transfer: one zstd frame with its length and a checksum."""
    from backports import zstd

    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(content, options=options)


def _compute_migration_digests(directory: Path, manifest: Manifest, tree: Tree) -> dict[str, str]:
    files = list_files(tree)
    names = frozenset(files)
    digests: dict[str, str] = {}
    for database in manifest.databases:
        for migration in database.migrations:
            present, missing = list_migration_files(migration, names)
            if missing:
                raise BuildError(path=directory, reason=f"missing: {', '.join(missing)}")
            digests |= {path: files[path] for path in present}
    return digests
