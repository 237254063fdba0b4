"""SBOM and provenance of a release: made at the build, checked before anybody signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUILDER_KEY_MISSING,
    PUBLISHER_TARGET_MISSING,
    SBOM_INVALID,
    UNKNOWN_RELEASE,
)
from ncen_updater.formats.document import (
    ReleaseDocument,
    TargetRef,
    parse_release_document,
    provenance_target,
    release_target,
    sbom_target,
)
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.tree import Tree
from ncen_updater.publisher.build.provenance import SourceOfBuild, check_provenance, make_provenance
from ncen_updater.publisher.build.sbom import MAX_SBOM_BYTES, check_sbom, find_parts, write_sbom
from ncen_updater.publisher.errors import system_words
from ncen_updater.publisher.feed.feed import Feed


@dataclass(frozen=True)
class Checked:
    """What the papers of a release say, after they were checked.

    Attributes:
        parts: How many parts the SBOM lists; None if there is none.
        provenance: The predicate of the builder's statement; None if there is none.
        unread: Whether there is a statement that was not compared with a key.
    """

    parts: int | None
    provenance: Mapping[str, Any] | None
    unread: bool = False


@dataclass(frozen=True)
class PaperMaker:
    """What ``build`` is told of papers.

    Attributes:
        sbom: A file of the product's own build, ``auto`` to look into the tree, None for none.
        source: From what the release is built; needed with ``signer``.
        signer: The builder's key; None for no provenance.
    """

    sbom: Path | str | None = None
    source: SourceOfBuild | None = None
    signer: Signer | None = None

    def make_sbom(
        self, directory: Path, tree: Tree, manifest: Manifest, targets: Path, epoch: int
    ) -> TargetRef | None:
        """Write the SBOM below ``targets``; what an earlier build left is removed.

        Raises:
            SbomInvalid: If the file that was handed in cannot be used.
        """
        name = sbom_target(manifest.product, manifest.version)
        if self.sbom is None:
            durable.remove(targets / name)
            return None
        if isinstance(self.sbom, Path):
            content = _read(self.sbom)
        else:
            content = write_sbom(manifest, find_parts(directory, tree), epoch)
        check_sbom(content, str(self.sbom), manifest)
        return _write(targets, name, content)

    def make_provenance(
        self, manifest: Manifest, subjects: tuple[TargetRef, ...], targets: Path, epoch: int
    ) -> TargetRef | None:
        """Write the builder's statement below ``targets``; an earlier one is removed."""
        name = provenance_target(manifest.product, manifest.version)
        if self.signer is None or self.source is None:
            durable.remove(targets / name)
            return None
        content = make_provenance(
            manifest.product, manifest.version, subjects, self.source, epoch, self.signer
        )
        return _write(targets, name, content)


def check_papers(
    document: ReleaseDocument,
    files: Mapping[str, Path],
    builder: Key | None,
    *,
    unread: bool = False,
) -> Checked:
    """Check the papers of a release against it.

    Args:
        document: The release.
        files: Where each target lies, by its name.
        builder: The builder's public key.
        unread: Leave a provenance alone where no key is given, and say so.

    Raises:
        TargetMissing: If one is not there, or is another file.
        SbomInvalid, ProvenanceInvalid: If one does not hold.
        BuilderKeyMissing: If there is a provenance and no key to compare it with.
    """
    parts, predicate = None, None
    if document.sbom is not None:
        content = _pinned(document.sbom, files)
        parts = check_sbom(content, document.sbom.target, document.manifest)
    if document.provenance is not None:
        if builder is None and unread:
            return Checked(parts, None, unread=True)
        if builder is None:
            raise UpdaterError(BUILDER_KEY_MISSING, path=document.provenance.target)
        wanted = [document.archive, document.tree, *([document.sbom] if document.sbom else [])]
        content = _pinned(document.provenance, files)
        predicate = check_provenance(content, document.provenance.target, builder, wanted)
    return Checked(parts, predicate)


def inspect_release(
    feed: Feed, product: str, version: str, builder: Key | None
) -> tuple[ReleaseDocument, Checked]:
    """Check the papers of a published release; for auditors.

    Args:
        feed: Any copy of the feed, verified whole first.
        product: What the release is of.
        version: Its version.
        builder: The builder's public key.

    Raises:
        FeedBroken: If the feed is not whole.
        UnknownRelease: If it does not carry the version.
        PublisherError: As :func:`check_papers`.
    """
    role = feed.state().delegated.get(product)
    targets = role.signed.targets if role else {}
    signed = targets.get(release_target(product, version))
    if signed is None:
        raise UpdaterError(UNKNOWN_RELEASE, product=product, version=version)
    files = {name: feed.target_path(target) for name, target in targets.items()}
    name = signed.path
    ref = TargetRef(target=name, length=signed.length, sha256=signed.hashes["sha256"])
    document = parse_release_document(_pinned(ref, files), name)
    return document, check_papers(document, files, builder)


def _pinned(ref: TargetRef, files: Mapping[str, Path]) -> bytes:
    path = files.get(ref.target)
    if path is None or not path.is_file() or path.stat().st_size != ref.length:
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=ref.target)
    content = _read(path)
    if sha256_hex(content) != ref.sha256:
        raise UpdaterError(PUBLISHER_TARGET_MISSING, target=ref.target)
    return content


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MAX_SBOM_BYTES)
    except (OSError, ValueError) as error:
        raise UpdaterError(SBOM_INVALID, path=path, detail=system_words(error)) from error


def _write(targets: Path, name: str, content: bytes) -> TargetRef:
    path = targets / name
    durable.make_directory(path.parent)
    durable.write(path, content)
    return TargetRef(target=name, length=len(content), sha256=sha256_hex(content))
