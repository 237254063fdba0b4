"""Releases of a signed feed: offers, and verified downloads on disk.

In the state directory::

    metadata/                     verified metadata; protects against rollback attacks
    clock.json                    the clock floor
    feed/<product>.json           the last verified view, for use without the feed
    downloads/<product>/<version>/
        release.json  tree.json.zst  <product>-<version>.tar.gz
        <from>--<version>         a delta pack, instead of tree and archive
        verified.json             signed length and digest of release.json
        refused.json              delta packs that failed at this site

``verified.json`` is written after the release document was verified. From then on the release can
be used even if the metadata has expired: every file is hashed again, along the chain that starts
with ``verified.json``.
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
    TARGET_UNKNOWN,
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

if TYPE_CHECKING:  # not needed to read the last view: requests, tuf, configuration
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

    from ncen_updater.feed.fetching import FeedFetcher
    from ncen_updater.feed.metadata_verifier import MetadataVerifier
    from ncen_updater.feed.trust_state import TrustStateStore
    from ncen_updater.feed.tuf_client import TrustClient

logger = logging.getLogger(__name__)

# Statuses that mean that the feed address lacks a file; other errors may be temporary.
MISSING_STATUSES = (403, 404, 410)


class TufReleaseSource(DownloadStore):
    """The feed of one product and its downloads.

    Args:
        product: The site's product; also the name of its TUF role.
        state: The agent's state directory.
        trusted_root: The root that was installed with the agent.
        make_fetcher: Creates the fetcher on first use of the network.
        now: The system clock.
        offline: Whether the site uses no feed but imported bundles only.
        grace: How long timestamp and snapshot of an imported bundle are accepted after they
            expire.
        feed_grace: The same for metadata from the feed.
        trust_state: The trust state, if another process wrote the files, which are then verified
            before use.
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
        directory = state / "downloads" / product
        super().__init__(product, directory, None if trust_state is None else self._verify_offer)
        self._state, self._trusted_root = state, trusted_root
        self._make_fetcher, self._offline = make_fetcher, offline
        self._grace, self._feed_grace = grace, feed_grace
        self._clock = TrustClock(state / "clock.json", now)
        self._trust_state = trust_state
        self._fetcher: FeedFetcher | None = None
        self._client: TrustClient | None = None

    def close(self) -> None:
        """Close connections to the feed."""
        if self._fetcher is not None:
            self._fetcher.close()

    def get_reference_time(self) -> datetime:
        """Return the system time, but never earlier than the newest signed time.

        A clock that is ahead by more than the timestamp's validity makes the metadata expired; it
        cannot open a rollout wave early.
        """
        return (self._trust_state or self._clock).get_reference_time()

    # -- metadata ------------------------------------------------------------------------------

    def refresh(self) -> FeedView:
        """Download and verify the metadata; if it does not verify, try the next address.

        If no address answers or none is configured, the last imported metadata is verified again,
        unless newer metadata was verified since.

        Raises:
            UpdaterError: Of the trust or network family, from the first address that answered.
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
        # A bundle of another product may also contain the agent's metadata.
        listed = get_view_path(self._state, self._product).exists()
        if record is None or not (listed or record.product == self._product):
            raise otherwise
        if isinstance(otherwise, FeedError):
            logger.warning("using the last imported metadata: %s", otherwise)
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
                logger.warning("metadata of the first feed address refused: %s", error)
                first = first or error
                fetcher.demote_mirror()
            except FeedError as error:
                # a refused metadata file is the more important error
                raise first or error from error
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
            VIEW_DAMAGED: If the stored view cannot be read.
            TrustError: If the metadata does not verify or is older than the trust state.
        """
        view = load_view(get_view_path(self._state, self._product))
        if view is None or self._trust_state is None:
            return view
        from ncen_updater.feed.metadata_verifier import verify_view

        bundle_grace = max(self._grace, self._feed_grace)
        grace = bundle_grace if self._offline else self._feed_grace
        return verify_view(
            self._make_verifier(self._trust_state), self._product, view, grace, bundle_grace
        )

    def verify_import(self) -> None:
        """Verify the metadata of a bundle just imported, and record it in the trust state.

        Raises:
            TrustError: If it does not verify or is older than the trust state.
        """
        if self._trust_state is not None:
            from ncen_updater.feed.metadata_verifier import verify_import

            verify_import(self._make_verifier(self._trust_state))
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
        """Download and verify a release, resuming an earlier attempt.

        Raises:
            PACK_UNUSABLE: If only a delta pack was imported, and it failed at this site.
            UpdaterError: Of the trust, network, transfer or release family.
        """
        return self.load_release(self._download_full(offer, progress), offer)

    def download_smallest(
        self, offer: Offer, installed_trees: Collection[str], progress: ProgressListener
    ) -> DownloadedRelease | DownloadedPack:
        """Download and verify a release in the form with the fewest bytes: delta pack or archive.

        A pack that is missing or damaged is recorded as bad, and the archive is downloaded.

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
        """Download the smallest form, or the full release if ``installed_trees`` is None.

        The tree is not parsed here, because that takes memory; the process that uses it parses it.
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
        if current is None:
            raise TrustError(TARGET_UNKNOWN, version=offer.version)
        if current.withdrawn is not None:
            raise TrustError(
                OFFER_WITHDRAWN, version=offer.version, reason=current.withdrawn.reason
            )
        if current.halted is not None:
            raise TrustError(OFFER_HALTED, version=offer.version, reason=current.halted.reason)
        if not offer.is_same_release(current):
            raise TrustError(OFFER_CHANGED, version=offer.version)

    def _verify_offer(self, offer: Offer) -> tuple[int, str]:
        from ncen_updater.feed.metadata_verifier import verify_offer

        if self._trust_state is None:
            raise AssertionError("no trust state to verify with")
        return verify_offer(self._make_verifier(self._trust_state), offer)
