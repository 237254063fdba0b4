"""Releases out of a signed feed: the list, and whole verified releases on the disk.

In the state directory::

    metadata/                     verified lists; the protection against rollback
    clock.json                    the clock floor
    feed/<product>.json           the last verified list, for reading without the feed
    downloads/<product>/<version>/
        release.json  tree.json.zst  <product>-<version>.tar.gz
        <from>--<version>         a delta pack, in place of tree and archive
        verified.json             what the signed list said of release.json
        refused.json              delta packs that failed here

``verified.json`` is written after the release document was verified. From then on the release can
be used however old the lists are: every file is hashed again against the chain that begins there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    NOTHING_IMPORTED,
    OFFER_CHANGED,
    OFFER_HALTED,
    OFFER_WITHDRAWN,
    PACK_UNUSABLE,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.clock import TrustClock, get_system_time
from ncen_updater.feed.delta_packs import get_pack_path
from ncen_updater.feed.download_store import TREE_NAME, DownloadStore
from ncen_updater.feed.errors import (
    DocumentMismatchError,
    FeedError,
    FeedStatusError,
    NotImportedError,
    TargetMissingError,
    TrustError,
)
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.offers import (
    DownloadedPack,
    DownloadedRelease,
    FeedView,
    describe_unused_pack,
    load_view,
    matches_target,
    parse_offers,
    save_view,
)
from ncen_updater.formats.errors import DownloadDamagedError
from ncen_updater.formats.release_document import (
    ChunkDigests,
    Offer,
    ReleaseDocument,
    TargetRef,
    get_release_target_name,
)

if TYPE_CHECKING:  # what reading the last list does not need: requests, tuf, the configuration
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

    from ncen_updater.feed.fetching import FeedFetcher
    from ncen_updater.feed.metadata_verifier import MetadataVerifier
    from ncen_updater.feed.trust_state import TrustStateStore
    from ncen_updater.feed.tuf_client import TrustClient

logger = logging.getLogger(__name__)

MISSING_STATUSES = (
    403,
    404,
    410,
)  # a feed address that does not have the pack; anything else may pass


class TufReleaseSource(DownloadStore):
    """The feed of one product, and what was downloaded of it.

    Args:
        product: The product of this site; also the name of its role.
        state: The agent's state directory.
        trusted_root: The root that was installed with the agent.
        make_fetcher: Makes the fetcher at the first use of the network.
        now: The system clock.
        offline: Whether no feed is ever asked, and what was imported is the list.
        grace: How long timestamp and snapshot of an imported list count beyond their expiry.
        feed_grace: The same for lists that the feed itself gives.
        trust_state: What was proved here before, where what lies on the disk is proved before it is
            used, since another process left it there.
    """

    def __init__(
        self,
        product: str,
        *,
        state: Path,
        trusted_root: Path,
        make_fetcher: Callable[[], FeedFetcher],
        now: Callable[[], datetime] = get_system_time,
        offline: bool = False,
        grace: timedelta = timedelta(0),
        feed_grace: timedelta = timedelta(0),
        trust_state: TrustStateStore | None = None,
    ) -> None:
        place = state / "downloads" / product
        super().__init__(product, place, None if trust_state is None else self._prove_offer)
        self._state, self._trusted_root = state, trusted_root
        self._make_fetcher, self._offline = make_fetcher, offline
        self._grace, self._feed_grace = grace, feed_grace
        self._clock = TrustClock(state / "clock.json", now)
        self._memory = trust_state
        self._fetcher: FeedFetcher | None = None
        self._client: TrustClient | None = None

    def close(self) -> None:
        """Close connections."""
        if self._fetcher is not None:
            self._fetcher.close()

    def get_reference_time(self) -> datetime:
        """Return the system time, but never earlier than the newest signed time.

        A clock that is ahead by more than the timestamp's validity makes the metadata expired; it
        opens no rollout wave.
        """
        return (self._memory or self._clock).get_reference_time()

    # -- the list ------------------------------------------------------------------------------

    def refresh(self) -> FeedView:
        """Fetch and verify the list; where it does not verify, the next address is asked.

        Where no address answers, or there is none, the list that was imported last is verified
        again, as long as nothing newer was seen since.

        Raises:
            UpdaterError: Of the trust or network family: of the first address that answered.
        """
        from ncen_updater.feed.import_store import finish_import, lock_metadata

        finish_import(self._state)
        with lock_metadata(self._state, exclusive=False):
            if self._offline:
                return self._refresh_from_import(UpdaterError(NOTHING_IMPORTED))
            try:
                return self._refresh_from_feed()
            except FeedError as error:
                return self._refresh_from_import(error)

    def _refresh_from_import(self, otherwise: UpdaterError) -> FeedView:
        from ncen_updater.feed.bundle_fetcher import StoredMetadataFetcher
        from ncen_updater.feed.import_store import read_import_record

        record = read_import_record(self._state)
        # A bundle may bring the list of agents, too.
        listed = get_view_path(self._state, self._product).exists()
        if record is None or not (listed or record.product == self._product):
            raise otherwise
        if isinstance(otherwise, FeedError):
            logger.warning("the list that was imported last is used: %s", otherwise)
        view = self._refresh_once(
            StoredMetadataFetcher(self._state / "metadata"), self._grace, record.imported_at
        )
        if self._client is None or self._client.timestamp_version != record.timestamp:
            raise otherwise
        save_view(get_view_path(self._state, self._product), view)
        return view

    def _refresh_from_feed(self) -> FeedView:
        fetcher = self._get_fetcher()
        first: TrustError | None = None
        for _ in range(fetcher.mirror_count):
            try:
                view = self._refresh_once(fetcher, self._feed_grace, None)
                save_view(get_view_path(self._state, self._product), view)
                return view
            except TrustError as error:
                logger.warning("the list of the first feed address was refused: %s", error)
                first = first or error
                fetcher.demote_mirror()
            except FeedError as error:
                raise first or error from error  # that a list was refused weighs more
        if first is None:
            raise TrustError(detail="no feed URL configured")
        raise first

    def _refresh_once(
        self, fetcher: FeedFetcher, grace: timedelta, checked_at: datetime | None
    ) -> FeedView:
        from ncen_updater.feed.tuf_client import TrustClient

        self._client = None
        client = TrustClient(
            self._product,
            metadata_directory=self._state / "metadata",
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=self._clock,
            grace=grace,
        )
        role, listed = client.load_product_role(), client.list_product_targets()
        view = FeedView(
            offers=parse_offers(self._product, listed),
            checked_at=checked_at or self._clock.now(),
            expires_at=client.get_usable_until() if grace else client.expires_at,
            version=role.version,
        )
        self._client = client
        return view

    def load_last_view(self) -> FeedView | None:
        """Load the last verified view of the feed, however old.

        Raises:
            VIEW_DAMAGED: If the stored copy cannot be read.
            TrustError: If it is to be proved and cannot be, or is older than what was proved here.
        """
        left = load_view(get_view_path(self._state, self._product))
        if left is None or self._memory is None:
            return left
        from ncen_updater.feed.metadata_verifier import verify_view

        by_medium = max(self._grace, self._feed_grace)
        grace = by_medium if self._offline else self._feed_grace
        return verify_view(self._make_verifier(self._memory), self._product, left, grace, by_medium)

    def verify_import(self) -> None:
        """Prove what was imported just now, and remember that it came on a medium.

        Raises:
            TrustError: If it is older than what was proved here, or does not follow.
        """
        if self._memory is not None:
            from ncen_updater.feed.metadata_verifier import verify_import

            verify_import(self._make_verifier(self._memory))
        self.load_last_view()

    def _make_verifier(self, memory: TrustStateStore) -> MetadataVerifier:
        from ncen_updater.feed.metadata_verifier import MetadataVerifier

        return MetadataVerifier(self._state / "metadata", self._trusted_root, memory)

    def _get_fetcher(self) -> FeedFetcher:
        if self._fetcher is None:
            self._fetcher = self._make_fetcher()
        return self._fetcher

    # -- a release -----------------------------------------------------------------------------

    def download_release(self, offer: Offer, progress: ProgressListener) -> DownloadedRelease:
        """Download and verify a release, resuming what is already there.

        Raises:
            PACK_UNUSABLE: If a pack is all that was imported, and it failed here.
            UpdaterError: Of the trust, network, transfer or release family.
        """
        return self.load_release(self._download_full(offer, progress), offer)

    def download_smallest(
        self, offer: Offer, installed_trees: Collection[str], progress: ProgressListener
    ) -> DownloadedRelease | DownloadedPack:
        """Download and verify a release by the way that needs the fewest bytes from here.

        A pack that cannot be had as it was signed is remembered, and the archive fetched.

        Raises:
            UpdaterError: Of the trust, network, transfer or release family.
        """
        found = self._download_smallest(offer, installed_trees, progress)
        if isinstance(found, DownloadedPack):
            return found
        return self.load_release(found, offer)

    def download_files(
        self, offer: Offer, installed_trees: Collection[str] | None, progress: ProgressListener
    ) -> None:
        """Download the smallest form, or the whole release where ``installed_trees`` is None.

        The tree is not read, which takes memory: that is for the process that uses it.
        """
        if installed_trees is None:
            self._download_full(offer, progress)
        else:
            self._download_smallest(offer, installed_trees, progress)

    def _download_full(self, offer: Offer, progress: ProgressListener) -> ReleaseDocument:
        ready = self.find_complete_document(offer)
        if ready is not None:
            return ready
        document = self._download_document(offer, progress)
        place = self.get_release_directory(offer)
        archive = place / document.archive.target
        try:
            self._download_target(document.tree, place / TREE_NAME, offer, progress)
            self._download_target(
                document.archive, archive, offer, progress, document.archive_chunks
            )
        except NotImportedError as error:
            refused = self.list_bad_packs(offer)
            if not refused:
                raise
            codes = ", ".join(sorted(set(refused.values())))
            raise UpdaterError(
                PACK_UNUSABLE, version=offer.version, code=codes, detail=", ".join(refused)
            ) from error
        return document

    def _download_smallest(
        self, offer: Offer, have: Collection[str], progress: ProgressListener
    ) -> ReleaseDocument | DownloadedPack:
        ready = self.find_downloaded_pack(offer, have) or self.find_complete_document(offer)
        if ready is not None:
            return ready
        document = self._download_document(offer, progress)
        ref = self.choose_pack(document, offer, have)
        if ref is not None:
            try:
                path = get_pack_path(self.get_release_directory(offer), ref)
                self._download_target(ref, path, offer, progress)
                return DownloadedPack(document, ref, path)
            except (
                DownloadDamagedError,
                DocumentMismatchError,
                FeedStatusError,
                TargetMissingError,
            ) as error:
                if (
                    isinstance(error, FeedStatusError)
                    and error.values.get("status") not in MISSING_STATUSES
                ):
                    raise
                logger.warning("%s is not used: %s", ref.target, error)
                self.mark_pack_bad(offer, ref, error)
                progress.report(describe_unused_pack(ref, error))
        return self._download_full(offer, progress)

    def _download_document(self, offer: Offer, progress: ProgressListener) -> ReleaseDocument:
        client, files = self._get_verified_targets()
        self._require_still_offered(offer, parse_offers(self._product, files))
        name = get_release_target_name(self._product, offer.version)
        client.download_document(files[name], self.get_release_directory(offer), progress)
        return self.load_document(offer)

    def _download_target(
        self,
        ref: TargetRef,
        path: Path,
        offer: Offer,
        progress: ProgressListener,
        chunks: ChunkDigests | None = None,
    ) -> None:
        client, files = self._get_verified_targets()
        file = files.get(ref.target)
        if file is None:
            raise TargetMissingError(name=ref.target)
        if not matches_target(file, ref):
            raise DocumentMismatchError(version=offer.version, detail=ref.target)
        client.download_target_file(file, path, progress, chunks)

    def _get_verified_targets(self) -> tuple[TrustClient, dict[str, TargetFile]]:
        if self._client is None:
            self.refresh()
        if self._client is None:
            raise TrustError(detail="no verified metadata")
        return self._client, self._client.list_product_targets()

    def _require_still_offered(self, offer: Offer, offers: tuple[Offer, ...]) -> None:
        current = next((o for o in offers if o.version == offer.version), None)
        if current is not None and current.withdrawn is not None:
            raise TrustError(
                OFFER_WITHDRAWN, version=offer.version, reason=current.withdrawn.reason
            )
        if current is not None and current.halted is not None:
            raise TrustError(OFFER_HALTED, version=offer.version, reason=current.halted.reason)
        if current is None or not offer.is_same_release(current):
            raise TrustError(OFFER_CHANGED, version=offer.version)

    def _prove_offer(self, offer: Offer) -> tuple[int, str]:
        from ncen_updater.feed.metadata_verifier import verify_offer

        if self._memory is None:
            raise AssertionError("only who has a memory proves")
        return verify_offer(self._make_verifier(self._memory), offer)
