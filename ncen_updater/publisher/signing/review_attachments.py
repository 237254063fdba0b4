"""Files of an event besides the metadata, so that a signer can read a release whole.

The document and the tree of each release that is added, every SQL file of it, and document and tree
of the release before; of both, the files that local overlays replace. Each is named by its
SHA-256, which the lists lead to: nobody can change it on its way.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import ValidationError
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_output import compute_sha256
from ncen_updater.feed.release_files import read_tree
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.release_document import Offer, ReleaseDocument, parse_release_document
from ncen_updater.formats.sql import MAX_FILE_BYTES
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES, OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.formats.texts.overlay_files import MAX_OVERLAY_FILE_BYTES, list_overlay_files
from ncen_updater.formats.tree import EntryType, Tree
from ncen_updater.publisher.errors import BuildError, describe_system_error
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.signing.event_files import read_regular_file


def collect_review_files(
    targets: Path, document: ReleaseDocument, feed: FeedDirectory | None, before: Targets | None
) -> dict[str, Path | bytes]:
    """Collect the files from which the review page is made, by SHA-256, for the event.

    Args:
        targets: Where the files of the release lie.
        document: The release.
        feed: The published feed, where the release before lies.
        before: The published metadata of the product.

    Raises:
        BuildError: If the archive does not hold the SQL that the document names.
    """
    tree, archive = targets / document.tree.target, targets / document.archive.target
    found: dict[str, Path | bytes] = {document.tree.sha256: tree}
    found |= _read_archive_members(archive, document.migrations, MAX_FILE_BYTES)
    found |= {compute_sha256(c): c for c in read_overlay_files(document, tree, archive).values()}
    listed = before.targets if before else {}
    earlier = find_previous_document(document.manifest, listed)
    if feed is not None and earlier is not None:
        path = feed.get_target_path(earlier)
        found[earlier.hashes["sha256"]] = path
        last = parse_release_document(read_regular_file(path, MAX_DOCUMENT_BYTES), str(path))
        tree = feed.get_target_path(listed[last.tree.target])
        found[last.tree.sha256] = tree
        if last.manifest.overlays and document.manifest.overlays:
            archive = feed.get_target_path(listed[last.archive.target])
            found |= {
                compute_sha256(c): c for c in read_overlay_files(last, tree, archive).values()
            }
    return found


def list_overlay_digests(document: ReleaseDocument, tree: Tree) -> dict[str, str]:
    """Digests of the files of texts and settings that a release carries, by path."""
    files = {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}
    return {
        file.path: files[file.path]
        for file in list_overlay_files(document.manifest.overlays, files)
    }


def read_overlay_files(document: ReleaseDocument, tree: Path, archive: Path) -> dict[str, bytes]:
    """Files of texts and settings of a release, by path, as its tree names them.

    Raises:
        BuildError: If the archive does not hold them.
        UpdaterError: If the tree is not that of the document.
    """
    if not document.manifest.overlays:
        return {}
    wanted = list_overlay_digests(document, read_tree(document, tree))
    found = _read_archive_members(archive, wanted, MAX_OVERLAY_FILE_BYTES)
    return {path: found[digest] for path, digest in wanted.items()}


def parse_document_version(name: str) -> Version | None:
    """Return the version in the name of a release document; None for another name."""
    if not name.startswith(RELEASES_PREFIX):
        return None
    try:
        return Version(name.rpartition("/")[2].removesuffix(".json"))
    except InvalidVersion:
        return None  # no release that a site would take; the lists are said by name all the same


def find_previous_document(
    manifest: Manifest, targets: Mapping[str, TargetFile]
) -> TargetFile | None:
    """Return the newest older release in the targets, with which a release is compared.

    A withdrawn one counts, since sites may have it, unless the release cannot be installed over it:
    then no site comes from there, and what was wrong with it need not be carried on for ever.
    """
    older = {
        version: target
        for name, target in targets.items()
        if (version := parse_document_version(name))
        and version < manifest.release_version
        and not (_is_withdrawn(target) and not manifest.accepts_version(version))
    }
    return older[max(older)] if older else None


def _is_withdrawn(target: TargetFile) -> bool:
    try:
        return Offer.model_validate((target.custom or {})[OFFER_FIELD]).withdrawn is not None
    except (KeyError, ValidationError):
        return False  # no offer that a site would take; the rules of lists say what is wrong


def _read_archive_members(archive: Path, wanted: Mapping[str, str], most: int) -> dict[str, bytes]:
    """Files of an archive, by their digest; each is looked for where it should lie."""
    found: dict[str, bytes] = {}
    missing = dict(wanted)
    if not wanted:
        return found
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                digest = missing.get(member.name)
                stream = tar.extractfile(member) if digest and member.isfile() else None
                content = stream.read(most + 1) if stream else b""
                if stream and compute_sha256(content) == digest:
                    found[digest] = content
                    del missing[member.name]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise BuildError(path=archive, reason=describe_system_error(error)) from error
    if missing:
        raise BuildError(
            path=archive,
            reason=LazyText("{missing} missing", {"missing": next(iter(missing))}),
        )
    return found
