"""What an event carries besides the lists, so that an officer can read a release whole.

The document and the tree of each release that is added, every SQL file of it, and document and tree
of the release before; of both, the files that countries word and set anew. Each is named by its
SHA-256, which the lists lead to: whoever carries it cannot change it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import ValidationError
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.i18n import Text
from ncen_updater.feed.release_files import read_tree
from ncen_updater.formats.document import (
    Offer,
    ReleaseDocument,
    parse_release_document,
)
from ncen_updater.formats.manifest import Manifest
from ncen_updater.formats.sql import MAX_FILE_BYTES
from ncen_updater.formats.texts.carried_files import MAX_BYTES, carried_files
from ncen_updater.formats.tree import EntryType, Tree
from ncen_updater.formats.tuf_names import MAX_DOCUMENT_BYTES, OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.errors import BuildRefused, system_words
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.signing.event_files import read_plain


def papers_of_release(
    targets: Path, document: ReleaseDocument, feed: Feed | None, before: Targets | None
) -> dict[str, Path | bytes]:
    """What the page for officers is made of, by SHA-256, to be carried in the event.

    Args:
        targets: Where the files of the release lie.
        document: The release.
        feed: The published feed, where the release before lies.
        before: The list of the product as it is published.

    Raises:
        BuildRefused: If the archive does not hold the SQL that the document names.
    """
    tree, archive = targets / document.tree.target, targets / document.archive.target
    found: dict[str, Path | bytes] = {document.tree.sha256: tree}
    found |= _members(archive, document.migrations, MAX_FILE_BYTES)
    found |= {sha256_hex(c): c for c in carried_texts(document, tree, archive).values()}
    listed = before.targets if before else {}
    earlier = newest_before(document.manifest, listed)
    if feed is not None and earlier is not None:
        path = feed.target_path(earlier)
        found[earlier.hashes["sha256"]] = path
        last = parse_release_document(read_plain(path, MAX_DOCUMENT_BYTES), str(path))
        tree = feed.target_path(listed[last.tree.target])
        found[last.tree.sha256] = tree
        if last.manifest.carried and document.manifest.carried:
            archive = feed.target_path(listed[last.archive.target])
            found |= {sha256_hex(c): c for c in carried_texts(last, tree, archive).values()}
    return found


def carried_digests(document: ReleaseDocument, tree: Tree) -> dict[str, str]:
    """Digests of the files of texts and settings that a release carries, by path."""
    files = {e.path: e.sha256 or "" for e in tree.entries if e.type is EntryType.FILE}
    return {file.path: files[file.path] for file in carried_files(document.manifest.carried, files)}


def carried_texts(document: ReleaseDocument, tree: Path, archive: Path) -> dict[str, bytes]:
    """Files of texts and settings of a release, by path, as its tree names them.

    Raises:
        BuildRefused: If the archive does not hold them.
        UpdaterError: If the tree is not that of the document.
    """
    if not document.manifest.carried:
        return {}
    wanted = carried_digests(document, read_tree(document, tree))
    found = _members(archive, wanted, MAX_BYTES)
    return {path: found[digest] for path, digest in wanted.items()}


def version_of(name: str) -> Version | None:
    """The version that the name of a release document says; None if it is no such name."""
    if not name.startswith(RELEASES_PREFIX):
        return None
    try:
        return Version(name.rpartition("/")[2].removesuffix(".json"))
    except InvalidVersion:
        return None  # no release that a site would take; the lists are said by name all the same


def newest_before(manifest: Manifest, targets: Mapping[str, TargetFile]) -> TargetFile | None:
    """The newest older release of a list with which a release is compared.

    A withdrawn one counts, since sites may have it, unless the release cannot be installed over it:
    then no site comes from there, and what was wrong with it need not be carried on for ever.
    """
    older = {
        version: target
        for name, target in targets.items()
        if (version := version_of(name))
        and version < manifest.release_version
        and not (_withdrawn(target) and not manifest.accepts(version))
    }
    return older[max(older)] if older else None


def _withdrawn(target: TargetFile) -> bool:
    try:
        return Offer.model_validate((target.custom or {})[OFFER_FIELD]).withdrawn is not None
    except (KeyError, ValidationError):
        return False  # no offer that a site would take; the rules of lists say what is wrong


def _members(archive: Path, wanted: Mapping[str, str], most: int) -> dict[str, bytes]:
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
                if stream and sha256_hex(content) == digest:
                    found[digest] = content
                    del missing[member.name]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise BuildRefused(path=archive, reason=system_words(error)) from error
    if missing:
        raise BuildRefused(
            path=archive,
            reason=Text("it does not hold {missing}", {"missing": next(iter(missing))}),
        )
    return found
