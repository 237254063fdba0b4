"""The releases in a bundle, and their files on the way to the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.version import Version
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BUNDLE_INCOMPLETE
from ncen_updater.common.progress import Progress
from ncen_updater.feed.client import TrustClient
from ncen_updater.feed.downloads import TREE
from ncen_updater.feed.errors import DocumentMismatch
from ncen_updater.feed.offers import matches
from ncen_updater.feed.packs import pack_place
from ncen_updater.feed.release_files import DOCUMENT, read_tree, write_record
from ncen_updater.formats.bundle.form import BundleMember, target_member
from ncen_updater.formats.document import (
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    parse_release_document,
    release_target,
)
from ncen_updater.formats.errors import BadRelease
from ncen_updater.formats.tuf_names import MAX_DOCUMENT_BYTES


class BundleContents:
    """The releases of one product in a bundle.

    Args:
        client: Of that product; its list was verified.
        members: Of the bundle.
        staging: The copy of the lists; files go below it.
        product: The product.
        progress: Told the bytes.
    """

    def __init__(
        self,
        client: TrustClient,
        members: Mapping[str, BundleMember],
        staging: Path,
        product: str,
        progress: Progress,
    ) -> None:
        self._client, self._members = client, members
        self._listed: Mapping[str, TargetFile] = client.product_targets()
        self._staging, self._product, self._progress = staging, product, progress
        self._documents: dict[str, ReleaseDocument] = {}

    def _place(self, offer: Offer) -> Path:
        return self._staging / "downloads" / self._product / offer.version

    def has_document(self, offer: Offer) -> bool:
        """Whether the document of a release is in the bundle."""
        name = release_target(self._product, offer.version)
        return target_member(name, str(self._listed[name].hashes["sha256"])) in self._members

    def _has(self, ref: TargetRef) -> bool:
        return target_member(ref.target, ref.sha256) in self._members

    def take_document(self, offer: Offer) -> None:
        """Bring a release's document.

        Raises:
            DocumentMismatch: If it says something else than the signed list.
        """
        name = release_target(self._product, offer.version)
        signed = self._listed[name]
        if signed.length > MAX_DOCUMENT_BYTES:
            raise BadRelease(source=name, detail=f"{signed.length} bytes")
        place = self._place(offer)
        self._client.fetch_target(signed, place / DOCUMENT, self._progress)
        write_record(place, signed.length, signed.hashes["sha256"])
        document = parse_release_document((place / DOCUMENT).read_bytes(), name, lenient=True)
        if not document.offer().same_release(offer):
            raise DocumentMismatch(version=offer.version, detail=name)
        self._documents[offer.version] = document

    def leads(self, origin: Version, hop: Offer) -> bool:
        """Whether the bundle can build a release at a site that runs ``origin`` then."""
        document = self._documents.get(hop.version)
        if document is None:
            return False
        packs = [ref for ref in document.deltas if Version(ref.from_version) == origin]
        return self._whole(document) or any(self._has(ref) for ref in packs)

    def _whole(self, document: ReleaseDocument) -> bool:
        return self._has(document.tree) and self._has(document.archive)

    def take_files(self, offer: Offer) -> None:
        """Bring the files of a release that are there.

        Raises:
            BundleIncomplete: If neither the whole release nor a pack is.
        """
        document, place = self._documents[offer.version], self._place(offer)
        packs = [ref for ref in document.deltas if self._has(ref)]
        whole = [document.tree, document.archive] if self._whole(document) else []
        if not whole and not packs:
            raise UpdaterError(BUNDLE_INCOMPLETE, name=document.archive.target)
        for ref in (*whole, *packs):
            signed = self._listed.get(ref.target)
            if signed is None or not matches(signed, ref):
                raise DocumentMismatch(version=offer.version, detail=ref.target)
            path = (
                pack_place(place, ref)
                if isinstance(ref, DeltaRef)
                else place / (TREE if ref is document.tree else ref.target)
            )
            self._client.fetch_target(signed, path, self._progress)
        if whole:
            read_tree(document, place / TREE)
