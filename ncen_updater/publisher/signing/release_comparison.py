"""Compare the files of releases with the metadata of a signing event.

An event contains the metadata, and for each added release the release document and the attachments,
by digest. A signer's program checks these before it signs. With the staging directory it can also
hash every file of a release.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import (
    NOTHING_TO_DO,
    PUBLISHER_TARGET_MISSING,
    REVIEW_FILES_MISSING,
)
from ncen_updater.feed.offers import matches_target
from ncen_updater.feed.resumable_download import ExpectedFile, is_complete
from ncen_updater.formats.release_document import (
    Offer,
    ReleaseDocument,
    parse_release_document,
)
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES, OFFER_FIELD, RELEASES_PREFIX
from ncen_updater.publisher.build.attachments import AttachmentReport, check_attachments
from ncen_updater.publisher.errors import BuildError
from ncen_updater.publisher.feed.role_policy import OFFLINE_TOP_ROLES
from ncen_updater.publisher.signing.draft import list_target_refs
from ncen_updater.publisher.signing.event_files import (
    MAX_REVIEW_FILE_BYTES,
    REVIEW_DIRECTORY,
    read_regular_file,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent


@dataclass(frozen=True)
class ComparedRelease:
    """A release that matches the metadata of an event.

    Attributes:
        product: Product of the release.
        version: Version of the release.
        files: Number of hashed files; None if only files in the event were checked.
        attachments: Summary of its attachments.
    """

    product: str
    version: str
    files: int | None
    attachments: AttachmentReport


def compare_releases(
    event: SigningEvent, staging: Path | None, builder: Key | None, *, unread: bool = False
) -> list[ComparedRelease]:
    """Check the releases that an event adds, and their attachments, against its metadata.

    Args:
        event: The event.
        staging: Output directory of 'build', here or on another machine, of which every file is
            hashed; None to check only the release documents and attachments in the event.
        builder: The builder's public key, needed if a release has a provenance.
        unread: Whether to skip a provenance without a key; for display only, not for signing.

    Returns:
        The releases that the event adds; empty for an event on another subject.

    Raises:
        REVIEW_FILES_MISSING: If the event lacks one of the files, or has another file.
        PUBLISHER_TARGET_MISSING: If a file of the staging directory is missing or differs.
        BuildError: If a release document contradicts the metadata, or does not name all targets.
        NOTHING_TO_DO: If there is a staging directory, but the event adds no release.
        SBOM_INVALID, PROVENANCE_INVALID, BUILDER_KEY_MISSING: As :func:`check_attachments`.
    """
    found = []
    named: set[str] = set()
    for name, added in _list_releases(event):
        content = _read_document_file(event, staging, added[name])
        document = _read_document(content, name, added, staging or event.directory)
        refs = list_target_refs(document)
        named |= {name, *(ref.target for ref in refs)}
        if staging is None:
            refs = [ref for ref in (document.sbom, document.provenance) if ref is not None]
            files = {ref.target: event.directory / REVIEW_DIRECTORY / ref.sha256 for ref in refs}
        else:
            files = {ref.target: staging / "targets" / ref.target for ref in refs}
        for ref in refs:
            expected = ExpectedFile(ref.target, ref.length, ref.sha256)
            too_large = staging is None and ref.length > MAX_REVIEW_FILE_BYTES
            with contextlib.suppress(OSError):
                if not too_large and is_complete(files[ref.target], expected):
                    continue
            raise _make_missing_error(staging, ref.target)
        checked = check_attachments(
            document, files, builder, allow_unchecked=unread and staging is None
        )
        manifest, count = document.manifest, None if staging is None else len(refs) + 1
        found.append(ComparedRelease(manifest.product, manifest.version, count, checked))
    _refuse_unnamed_files(event, named)
    if staging is not None and not found:
        raise UpdaterError(NOTHING_TO_DO, reason="the event adds no release")
    return found


def _make_missing_error(staging: Path | None, name: str) -> UpdaterError:
    if staging is None:
        return UpdaterError(REVIEW_FILES_MISSING, name=name)
    return UpdaterError(PUBLISHER_TARGET_MISSING, target=name)


def _refuse_unnamed_files(event: SigningEvent, named: Collection[str]) -> None:
    """Refuse targets that no release names: a plain tufup client could install them."""
    products = [
        d.signed.targets for role, d in event.drafts.items() if role not in OFFLINE_TOP_ROLES
    ]
    for role in event.drafts:
        for name in _list_added_targets(event, role):
            also_in_product = role == "targets" and any(name in targets for targets in products)
            if name not in named and not also_in_product:
                raise BuildError(
                    path=event.directory,
                    reason=LazyText("no release refers to {name}", {"name": name}),
                )


def _list_releases(event: SigningEvent) -> Iterator[tuple[str, Mapping[str, TargetFile]]]:
    """Yield the release documents that an event adds, each with all targets its role adds."""
    for role in event.drafts:
        added = _list_added_targets(event, role)
        for name in added:
            if name.startswith(RELEASES_PREFIX):
                yield name, added


def _list_added_targets(event: SigningEvent, role: str) -> Mapping[str, TargetFile]:
    new = event.drafts[role].signed
    if not isinstance(new, Targets):
        return {}
    before = event.base[role].signed.targets if role in event.base else {}
    return {
        name: target
        for name, target in new.targets.items()
        if name not in before or before[name].hashes != target.hashes
    }


def _read_document(
    content: bytes, name: str, added: Mapping[str, TargetFile], place: Path
) -> ReleaseDocument:
    """Parse a release document; refuse one that contradicts the metadata."""
    document = parse_release_document(content, name)
    offer = Offer.model_validate((added[name].custom or {})[OFFER_FIELD])
    if not document.to_offer().is_same_release(offer):
        raise BuildError(
            path=place,
            reason=LazyText("{name} does not match the offered release", {"name": name}),
        )
    for ref in list_target_refs(document):
        if not matches_target(added.get(ref.target), ref):
            raise BuildError(
                path=place,
                reason=LazyText(
                    "the event does not match the description of {target}",
                    {"target": ref.target},
                ),
            )
    return document


def _read_document_file(event: SigningEvent, staging: Path | None, target: TargetFile) -> bytes:
    """Read a release document from the staging directory or the event, and compare its digest."""
    sha256 = target.hashes["sha256"]
    place = event.directory / REVIEW_DIRECTORY / sha256
    if staging is not None:
        place = staging / "targets" / target.path
    try:
        content = read_regular_file(place, MAX_DOCUMENT_BYTES)
    except (OSError, ValueError) as error:
        raise _make_missing_error(staging, target.path) from error
    if compute_sha256(content) != sha256:
        raise _make_missing_error(staging, target.path)
    return content
