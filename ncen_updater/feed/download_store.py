"""Downloaded files of releases on disk; nothing here uses the network.

Every use of a file hashes it again. The chain of digests begins with ``verified.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from packaging.version import Version

from ncen_updater.common.bounded_io import FileTooLargeError, NotRegularFileError, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.feed.delta_packs import (
    choose_pack,
    count_remaining_bytes,
    get_pack_path,
    list_usable_packs,
    mark_pack_bad,
    read_bad_packs,
)
from ncen_updater.feed.errors import DocumentMismatchError
from ncen_updater.feed.offers import DownloadedPack, DownloadedRelease
from ncen_updater.feed.release_files import (
    DOCUMENT_NAME,
    discard_release,
    read_document_record,
    read_tree,
)
from ncen_updater.feed.resumable_download import ExpectedFile, is_complete
from ncen_updater.formats.delta.pack_plan import list_capabilities
from ncen_updater.formats.release_document import (
    ROLLOUT_FIELDS,
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    get_archive_target_name,
    get_delta_target_name,
    get_release_target_name,
    get_tree_target_name,
    parse_release_document,
)
from ncen_updater.formats.target_names import MAX_DOCUMENT_BYTES

TREE_NAME = "tree.json.zst"


class DownloadStore:
    """The downloads of one product.

    Args:
        product: The product's name.
        directory: Directory of the downloads, with one directory per version.
        verify_offer: Verifies the signatures up to a release and returns length and SHA-256 of
            its document; passed if another process wrote the downloads.
    """

    def __init__(
        self,
        product: str,
        directory: Path,
        verify_offer: Callable[[Offer], tuple[int, str]] | None = None,
    ) -> None:
        self._product, self._directory, self._verify = product, directory, verify_offer

    def get_release_directory(self, offer: Offer) -> Path:
        """Return the download directory of a release."""
        return self._directory / offer.version

    def find_downloaded_release(self, offer: Offer) -> DownloadedRelease | None:
        """Return a completely downloaded release, hashed again.

        Raises:
            TrustError: If the files are complete but contradict each other or the offer.
        """
        document = self.find_complete_document(offer)
        return None if document is None else self.load_release(document, offer)

    def find_complete_document(self, offer: Offer) -> ReleaseDocument | None:
        """Return the document of a completely downloaded release, without reading its tree.

        Raises:
            TrustError: If the document contradicts the offer.
        """
        place = self.get_release_directory(offer)
        document = self._load_verified_document(offer)
        if document is None:
            return None
        if not is_complete(place / TREE_NAME, _expect_file(document.tree)):
            return None
        if not is_complete(place / document.archive.target, _expect_file(document.archive)):
            return None
        return document

    def load_release(self, document: ReleaseDocument, offer: Offer) -> DownloadedRelease:
        """Load a completely downloaded release with its tree.

        Raises:
            TrustError: If the tree does not match the document.
        """
        place = self.get_release_directory(offer)
        tree = read_tree(document, place / TREE_NAME)
        return DownloadedRelease(document, tree, place / document.archive.target)

    def find_smallest_download(
        self, offer: Offer, installed_trees: Collection[str]
    ) -> DownloadedRelease | DownloadedPack | None:
        """Return a complete delta pack that this site can apply, else the complete release.

        Raises:
            TrustError: If the files are complete but contradict each other or the offer.
        """
        pack = self.find_downloaded_pack(offer, installed_trees)
        return pack if pack is not None else self.find_downloaded_release(offer)

    def find_downloaded_pack(
        self, offer: Offer, installed_trees: Collection[str]
    ) -> DownloadedPack | None:
        """Return a complete delta pack of a release that this site can apply.

        Raises:
            TrustError: If the document contradicts the offer.
        """
        place = self.get_release_directory(offer)
        document = self._load_verified_document(offer)
        if document is None:
            return None
        for ref in list_usable_packs(
            document, installed_trees, list_capabilities(), read_bad_packs(place)
        ):
            if is_complete(get_pack_path(place, ref), _expect_file(ref)):
                return DownloadedPack(document, ref, get_pack_path(place, ref))
        return None

    def can_build_release(self, origin: Version, offer: Offer) -> bool:
        """Tell whether a site that runs ``origin`` can build a release from complete downloads.

        Raises:
            TrustError: If the document contradicts the offer.
        """
        document = self._load_verified_document(offer)
        if document is None:
            return False
        trees = [ref.from_tree for ref in document.deltas if Version(ref.from_version) == origin]
        return (
            self.find_downloaded_pack(offer, trees) is not None
            or self.find_complete_document(offer) is not None
        )

    def choose_pack(
        self, document: ReleaseDocument, offer: Offer, installed_trees: Collection[str]
    ) -> DeltaRef | None:
        """Return the pack to fetch; None if the archive needs fewer bytes."""
        place = self.get_release_directory(offer)
        packs = list_usable_packs(
            document, installed_trees, list_capabilities(), read_bad_packs(place)
        )
        return choose_pack(
            document, packs, lambda ref: count_remaining_bytes(_get_local_path(place, ref), ref)
        )

    def mark_pack_bad(self, offer: Offer, pack: DeltaRef, error: UpdaterError) -> None:
        """Record that a pack did not produce the release, so that it is not used again."""
        mark_pack_bad(self.get_release_directory(offer), pack, error)

    def list_bad_packs(self, offer: Offer) -> Mapping[str, str]:
        """Return the error code of every pack of a release that failed here, by target name."""
        known = read_bad_packs(self.get_release_directory(offer))
        document = self._load_verified_document(offer) if known else None
        refs = document.deltas if document else ()
        return {ref.target: known[ref.sha256] for ref in refs if ref.sha256 in known}

    def discard_release(self, offer: Offer) -> None:
        """Delete all downloaded files of a release, also packs and partial files."""
        discard_release(self.get_release_directory(offer))

    def _load_verified_document(self, offer: Offer) -> ReleaseDocument | None:
        record = read_document_record(self.get_release_directory(offer))
        if record is None:
            return None
        if self._verify is not None:
            record = ExpectedFile(DOCUMENT_NAME, *self._verify(offer))
        content = self._read_document(offer)
        if content is None or (len(content), compute_sha256(content)) != (
            record.length,
            record.digest,
        ):
            return None
        return self._parse_document(content, offer)

    def _read_document(self, offer: Offer) -> bytes | None:
        """Read the document once, so that the hashed bytes are the parsed bytes."""
        try:
            return read_file(self.get_release_directory(offer) / DOCUMENT_NAME, MAX_DOCUMENT_BYTES)
        except (FileNotFoundError, NotRegularFileError, FileTooLargeError):
            return None

    def load_document(self, offer: Offer) -> ReleaseDocument:
        """Load a release document that was just downloaded, and compare it with the offer.

        Raises:
            DocumentMismatchError: If document and offer contradict each other.
            ReleaseDocumentError: If the document cannot be parsed.
        """
        return self._parse_document(
            (self.get_release_directory(offer) / DOCUMENT_NAME).read_bytes(), offer
        )

    def _parse_document(self, content: bytes, offer: Offer) -> ReleaseDocument:
        """Parse a document and compare it with the offer.

        Raises:
            DocumentMismatchError: If document and offer contradict each other.
            ReleaseDocumentError: If the document cannot be parsed.
        """
        name = get_release_target_name(self._product, offer.version)
        document = parse_release_document(content, name, lenient=True)
        described = document.to_offer()
        if not described.is_same_release(offer):
            different = [
                key
                for key in Offer.model_fields
                if key not in ROLLOUT_FIELDS and getattr(described, key) != getattr(offer, key)
            ]
            raise DocumentMismatchError(version=offer.version, detail=", ".join(different))
        names = (document.archive.target, document.tree.target)
        expected = (
            get_archive_target_name(self._product, offer.version),
            get_tree_target_name(self._product, offer.version),
        )
        if names != expected:
            raise DocumentMismatchError(
                version=offer.version,
                detail=LazyText("unexpected names: {names}", {"names": names}),
            )
        for ref in document.deltas:
            if ref.target != get_delta_target_name(self._product, ref.from_version, offer.version):
                raise DocumentMismatchError(
                    version=offer.version,
                    detail=LazyText("unexpected names: {names}", {"names": ref.target}),
                )
        return document


def _expect_file(ref: TargetRef) -> ExpectedFile:
    return ExpectedFile(ref.target, ref.length, ref.sha256)


def _get_local_path(place: Path, ref: TargetRef) -> Path:
    if isinstance(ref, DeltaRef):
        return get_pack_path(place, ref)
    return place / (TREE_NAME if ref.target.endswith(".zst") else ref.target)
