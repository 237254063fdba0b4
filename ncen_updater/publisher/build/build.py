"""A release directory to TUF targets, reproducibly.

The directory holds ``manifest.toml`` and, beside it, everything that goes into the slot. The
manifest itself travels inside the release document. Out come, below ``targets/`` of the staging
directory, the archive, the tree and the release document; what else lies there for this release
(delta packs, an SBOM) is taken along when the release is drafted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.formats.document import (
    DeltaRef,
    ReleaseDocument,
    TargetRef,
    archive_target,
    release_target,
    tree_target,
)
from ncen_updater.formats.errors import BadTree
from ncen_updater.formats.manifest import Manifest, Migration, load_manifest, path_for
from ncen_updater.formats.sql import ENGINES
from ncen_updater.formats.tree import EntryType, Tree, scan
from ncen_updater.publisher.build.archive import DEFAULT_EPOCH, normalised, write_archive
from ncen_updater.publisher.build.attachments import PaperMaker
from ncen_updater.publisher.build.chunks import chunks_of
from ncen_updater.publisher.errors import BuildRefused, system_words

if TYPE_CHECKING:
    from ncen_updater.publisher.build.deltas import DeltaMaker

MANIFEST_NAME: Final = "manifest.toml"
# Fixed, so that the same tree gives the same bytes; higher levels gain nothing on lists of digests.
ZSTD_LEVEL: Final = 12


@dataclass(frozen=True)
class BuiltRelease:
    """What ``build`` wrote.

    Attributes:
        staging: The staging directory; the targets lie in its ``targets``.
        document: The release document.
        targets: Every target written, by name.
    """

    staging: Path
    document: ReleaseDocument
    targets: tuple[TargetRef, ...]


def scan_release(directory: Path, on_bytes: Callable[[int], None] | None = None) -> Tree:
    """The tree of a release directory as it will stand in a slot.

    Raises:
        BuildRefused: If it holds what no release may hold.
    """
    try:
        tree = scan(directory, on_bytes)
        tree.canonical()
    except (BadTree, UnicodeEncodeError) as error:
        raise BuildRefused(
            path=directory, reason=getattr(error, "detail", system_words(error))
        ) from error
    except (OSError, ValueError) as error:
        raise BuildRefused(path=directory, reason=system_words(error)) from error
    return normalised(tree, frozenset({MANIFEST_NAME}))


def migration_files(
    migration: Migration, tree_files: frozenset[str]
) -> tuple[list[str], list[str]]:
    """Files of a migration that are there, and those that are missing.

    A path with ``{engine}`` has a file for each engine that the migration supports; it supports an
    engine when its ``up`` is there for it, and it must support at least one.
    """
    paths = [path for path in (migration.up, migration.down, migration.verify) if path]
    engines = [e for e in ENGINES if path_for(e, migration.up) in tree_files]
    wanted = sorted({path_for(engine, path) for path in paths for engine in engines or ENGINES[:1]})
    present = [path for path in wanted if path in tree_files]
    return present, [path for path in wanted if path not in tree_files]


def build_release(
    directory: Path,
    staging: Path,
    epoch: int = DEFAULT_EPOCH,
    on_bytes: Callable[[int], None] | None = None,
    deltas: DeltaMaker | None = None,
    papers: PaperMaker | None = None,
) -> BuiltRelease:
    """Build a release; twice the same bytes.

    Args:
        directory: The release as the Secretariat wrote it.
        staging: Where ``targets/`` is written.
        epoch: Seconds since 1970 for all members of the archive.
        on_bytes: Told the bytes of each block read; every file is read twice.
        deltas: Makes the delta packs; None for none.
        papers: Makes SBOM and provenance; none of either by default.

    Raises:
        BadManifest: If the manifest is not valid.
        BuildRefused: If the directory holds what no release may hold, a file that the manifest
            names is missing, or something changed during the build.
    """
    manifest = load_manifest(directory / MANIFEST_NAME)
    tree = scan_release(directory, on_bytes)
    digests = _migration_digests(directory, manifest, tree)
    product, version = manifest.product, manifest.version
    targets = staging / "targets"
    archive = write_archive(
        directory,
        tree,
        targets / archive_target(product, version),
        archive_target(product, version),
        epoch,
        on_bytes,
    )
    packs = deltas.make(directory, tree, manifest, archive, targets) if deltas else ()
    _remove_old_packs(targets, manifest, packs)
    content = tree.canonical()
    packed = compress_tree(content)
    tree_ref = _write(targets, tree_target(product, version), packed)
    maker = papers or PaperMaker()
    sbom = maker.make_sbom(directory, tree, manifest, targets, epoch)
    built = tuple(ref for ref in (archive, tree_ref, sbom, *packs) if ref is not None)
    provenance = maker.make_provenance(manifest, built, targets, epoch)
    document = ReleaseDocument.model_validate(
        {
            "schema": 1,
            "manifest": manifest,
            "archive": archive,
            "archive_chunks": chunks_of(targets / archive.target, archive.length),
            "tree": tree_ref,
            "tree_digest": sha256_hex(content),
            "tree_bytes": len(content),
            "unpacked_bytes": tree.total_bytes,
            "migrations": digests,
            "deltas": packs,
            "sbom": sbom,
            "provenance": provenance,
        }
    )
    document_ref = _write(targets, release_target(product, version), document.canonical())
    return BuiltRelease(
        staging, document, (document_ref, *built, *([provenance] if provenance else []))
    )


def _remove_old_packs(targets: Path, manifest: Manifest, packs: tuple[DeltaRef, ...]) -> None:
    """Packs of an earlier build of the same version lead to another tree."""
    made = {targets / ref.target for ref in packs}
    for path in (targets / "deltas" / manifest.product).glob(f"*--{manifest.version}"):
        if path not in made:
            durable.remove(path)


def compress_tree(content: bytes) -> bytes:
    """The tree as it travels: one zstd frame with its length and a checksum."""
    from backports import zstd

    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(content, options=options)


def _write(targets: Path, name: str, content: bytes) -> TargetRef:
    path = targets / name
    durable.make_directory(path.parent)
    durable.write(path, content)
    return TargetRef(target=name, length=len(content), sha256=sha256_hex(content))


def _migration_digests(directory: Path, manifest: Manifest, tree: Tree) -> dict[str, str]:
    files = {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}
    names = frozenset(files)
    digests: dict[str, str] = {}
    for database in manifest.databases:
        for migration in database.migrations:
            present, missing = migration_files(migration, names)
            if missing:
                raise BuildRefused(path=directory, reason=f"missing: {', '.join(missing)}")
            digests |= {path: files[path] for path in present}
    return digests
