"""The releases in a bundle, and their files on the way to the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.version import Version
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import BUNDLE_INCOMPLETE
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.client import TrustClient
from ncen_updater.feed.downloads import TREE_NAME
from ncen_updater.feed.errors import DocumentMismatchError
from ncen_updater.feed.offers import matches_target
from ncen_updater.feed.packs import get_pack_path
from ncen_updater.feed.release_files import DOCUMENT_NAME, read_tree, write_document_record
from ncen_updater.formats.bundle.form import BundleMember, get_member_name
from ncen_updater.formats.document import (
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    get_release_target_name,
    parse_release_document,
)
from ncen_updater.formats.errors import ReleaseDocumentError
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
        progress: ProgressListener,
    ) -> None:
        self._client, self._members = client, members
        self._listed: Mapping[str, TargetFile] = client.list_product_targets()
        self._staging, self._product, self._progress = staging, product, progress
        self._documents: dict[str, ReleaseDocument] = {}

    def _get_release_directory(self, offer: Offer) -> Path:
        return self._staging / "downloads" / self._product / offer.version

    def has_document(self, offer: Offer) -> bool:
        """Whether the document of a release is in the bundle."""
        name = get_release_target_name(self._product, offer.version)
        return get_member_name(name, str(self._listed[name].hashes["sha256"])) in self._members

    def _has_target(self, ref: TargetRef) -> bool:
        return get_member_name(ref.target, ref.sha256) in self._members

    def download_document(self, offer: Offer) -> None:
        """Bring a release's document.

        Raises:
            DocumentMismatchError: If it says something else than the signed list.
        """
        name = get_release_target_name(self._product, offer.version)
        signed = self._listed[name]
        if signed.length > MAX_DOCUMENT_BYTES:
            raise ReleaseDocumentError(source=name, detail=f"{signed.length} bytes")
        place = self._get_release_directory(offer)
        self._client.download_target_file(signed, place / DOCUMENT_NAME, self._progress)
        write_document_record(place, signed.length, signed.hashes["sha256"])
        document = parse_release_document((place / DOCUMENT_NAME).read_bytes(), name, lenient=True)
        if not document.to_offer().is_same_release(offer):
            raise DocumentMismatchError(version=offer.version, detail=name)
        self._documents[offer.version] = document

    def can_build_release(self, origin: Version, hop: Offer) -> bool:
        """Whether the bundle can build a release at a site that runs ``origin`` then."""
        document = self._documents.get(hop.version)
        if document is None:
            return False
        packs = [ref for ref in document.deltas if Version(ref.from_version) == origin]
        return self._has_full_release(document) or any(self._has_target(ref) for ref in packs)

    def _has_full_release(self, document: ReleaseDocument) -> bool:
        return self._has_target(document.tree) and self._has_target(document.archive)

    def download_files(self, offer: Offer) -> None:
        """Bring the files of a release that are there.

        Raises:
            BUNDLE_INCOMPLETE: If neither the whole release nor a pack is.
        """
        document, place = self._documents[offer.version], self._get_release_directory(offer)
        packs = [ref for ref in document.deltas if self._has_target(ref)]
        whole = [document.tree, document.archive] if self._has_full_release(document) else []
        if not whole and not packs:
            raise UpdaterError(BUNDLE_INCOMPLETE, name=document.archive.target)
        for ref in (*whole, *packs):
            signed = self._listed.get(ref.target)
            if signed is None or not matches_target(signed, ref):
                raise DocumentMismatchError(version=offer.version, detail=ref.target)
            path = (
                get_pack_path(place, ref)
                if isinstance(ref, DeltaRef)
                else place / (TREE_NAME if ref is document.tree else ref.target)
            )
            self._client.download_target_file(signed, path, self._progress)
        if whole:
            read_tree(document, place / TREE_NAME)
