"""What was downloaded of releases and lies on the disk; nothing here needs the network.

Every file is hashed when it is asked for, against the chain that begins with ``verified.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ncen_updater.common.bounded_io import NotReadable, TooLarge, read_file
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.feed.errors import DocumentMismatch
from ncen_updater.feed.file_parts import Wanted
from ncen_updater.feed.packs import (
    choose_pack,
    pack_place,
    refusals,
    refuse,
    remaining_bytes,
    usable_packs,
)
from ncen_updater.feed.release_files import DOCUMENT, discard, read_record, read_tree
from ncen_updater.feed.release_source import FetchedPack, FetchedRelease
from ncen_updater.feed.resumable_download import is_whole
from ncen_updater.formats.delta.model import capabilities
from ncen_updater.formats.document import (
    STEERING,
    DeltaRef,
    Offer,
    ReleaseDocument,
    TargetRef,
    archive_target,
    delta_target,
    parse_release_document,
    release_target,
    tree_target,
)
from ncen_updater.formats.tuf_names import MAX_DOCUMENT_BYTES

TREE = "tree.json.zst"


class Downloads:
    """The downloads of one product.

    Args:
        product: The product.
        directory: Where they lie, a directory for each version.
        prove: Follows the signatures to a release and returns length and SHA-256 of its document,
            for whoever uses what another process left there.
    """

    def __init__(
        self,
        product: str,
        directory: Path,
        prove: Callable[[Offer], tuple[int, str]] | None = None,
    ) -> None:
        self._product, self._directory, self._prove = product, directory, prove

    def place(self, offer: Offer) -> Path:
        """Where the files of a release lie."""
        return self._directory / offer.version

    def fetched(self, offer: Offer) -> FetchedRelease | None:
        """A release that lies whole on the disk, hashed again; needs no network.

        Raises:
            TrustError: If the files are whole and contradict each other or the offer.
        """
        document = self.whole(offer)
        return None if document is None else self.release(document, offer)

    def whole(self, offer: Offer) -> ReleaseDocument | None:
        """The document of a release that lies whole on the disk; its tree is not read yet.

        Raises:
            TrustError: If the document contradicts the offer.
        """
        place = self.place(offer)
        document = self._whole_document(offer)
        if document is None:
            return None
        if not is_whole(place / TREE, _wanted(document.tree)):
            return None
        if not is_whole(place / document.archive.target, _wanted(document.archive)):
            return None
        return document

    def release(self, document: ReleaseDocument, offer: Offer) -> FetchedRelease:
        """A release whose files are known to be whole, with its tree.

        Raises:
            TrustError: If the tree is not that of the document.
        """
        place = self.place(offer)
        tree = read_tree(document, place / TREE)
        return FetchedRelease(document, tree, place / document.archive.target)

    def fetched_smallest(
        self, offer: Offer, have: Collection[str]
    ) -> FetchedRelease | FetchedPack | None:
        """A release, or a pack that leads to it from here, that lies whole on the disk.

        Raises:
            TrustError: If the files are whole and contradict each other or the offer.
        """
        pack = self.pack(offer, have)
        return pack if pack is not None else self.fetched(offer)

    def pack(self, offer: Offer, have: Collection[str]) -> FetchedPack | None:
        """A pack that leads to a release from here and lies whole on the disk.

        Raises:
            TrustError: If the document contradicts the offer.
        """
        place = self.place(offer)
        document = self._whole_document(offer)
        if document is None:
            return None
        for ref in usable_packs(document, have, capabilities(), refusals(place)):
            if is_whole(pack_place(place, ref), _wanted(ref)):
                return FetchedPack(document, ref, pack_place(place, ref))
        return None

    def choose_pack(
        self, document: ReleaseDocument, offer: Offer, have: Collection[str]
    ) -> DeltaRef | None:
        """The pack to fetch; None where the archive is fewer bytes from here."""
        place = self.place(offer)
        packs = usable_packs(document, have, capabilities(), refusals(place))
        return choose_pack(document, packs, lambda ref: remaining_bytes(_local(place, ref), ref))

    def refuse_pack(self, offer: Offer, pack: DeltaRef, error: UpdaterError) -> None:
        """Remember that a pack did not give the release, so that it is not used again."""
        refuse(self.place(offer), pack, error)

    def refused_packs(self, offer: Offer) -> Mapping[str, str]:
        """Code of the failure of every pack of a release that failed here, by its name."""
        known = refusals(self.place(offer))
        document = self._whole_document(offer) if known else None
        refs = document.deltas if document else ()
        return {ref.target: known[ref.sha256] for ref in refs if ref.sha256 in known}

    def discard(self, offer: Offer) -> None:
        """Delete what was downloaded of a release, packs and partial files too."""
        discard(self.place(offer))

    def _whole_document(self, offer: Offer) -> ReleaseDocument | None:
        record = read_record(self.place(offer))
        if record is None:
            return None
        if self._prove is not None:
            record = Wanted(DOCUMENT, *self._prove(offer))
        content = self._content(offer)
        if content is None or (len(content), sha256_hex(content)) != (record.length, record.digest):
            return None
        return self._understood(content, offer)

    def _content(self, offer: Offer) -> bytes | None:
        """The document's bytes, read once: what was hashed is what is understood."""
        try:
            return read_file(self.place(offer) / DOCUMENT, MAX_DOCUMENT_BYTES)
        except (FileNotFoundError, NotReadable, TooLarge):
            return None

    def document(self, offer: Offer) -> ReleaseDocument:
        """The release document that was just brought, compared with the offer.

        Raises:
            DocumentMismatch: If they contradict each other.
            BadRelease: If it cannot be read.
        """
        return self._understood((self.place(offer) / DOCUMENT).read_bytes(), offer)

    def _understood(self, content: bytes, offer: Offer) -> ReleaseDocument:
        """Read a document and compare it with the offer.

        Raises:
            DocumentMismatch: If they contradict each other.
            BadRelease: If it cannot be read.
        """
        name = release_target(self._product, offer.version)
        document = parse_release_document(content, name, lenient=True)
        says = document.offer()
        if not says.same_release(offer):
            different = [
                key
                for key in Offer.model_fields
                if key not in STEERING and getattr(says, key) != getattr(offer, key)
            ]
            raise DocumentMismatch(version=offer.version, detail=", ".join(different))
        names = (document.archive.target, document.tree.target)
        wanted = (
            archive_target(self._product, offer.version),
            tree_target(self._product, offer.version),
        )
        if names != wanted:
            raise DocumentMismatch(
                version=offer.version, detail=Text("it names {names}", {"names": names})
            )
        for ref in document.deltas:
            if ref.target != delta_target(self._product, ref.from_version, offer.version):
                raise DocumentMismatch(
                    version=offer.version, detail=Text("it names {target}", {"target": ref.target})
                )
        return document


def _wanted(ref: TargetRef) -> Wanted:
    return Wanted(ref.target, ref.length, ref.sha256)


def _local(place: Path, ref: TargetRef) -> Path:
    if isinstance(ref, DeltaRef):
        return pack_place(place, ref)
    return place / (TREE if ref.target.endswith(".zst") else ref.target)
