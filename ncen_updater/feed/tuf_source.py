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
from ncen_updater.common.progress import Progress
from ncen_updater.feed.clock import TrustClock, system_now
from ncen_updater.feed.downloads import TREE, Downloads
from ncen_updater.feed.errors import (
    DocumentMismatch,
    FeedError,
    FeedRefused,
    NotImported,
    TargetMissing,
    TrustError,
)
from ncen_updater.feed.last_view import view_path
from ncen_updater.feed.offers import load_view, matches, offers_of, save_view
from ncen_updater.feed.packs import pack_place
from ncen_updater.feed.release_files import DOCUMENT, write_record
from ncen_updater.feed.release_source import (
    FeedView,
    FetchedPack,
    FetchedRelease,
    not_used,
)
from ncen_updater.formats.document import (
    Chunks,
    Offer,
    ReleaseDocument,
    TargetRef,
    release_target,
)
from ncen_updater.formats.errors import BadRelease, DownloadDamaged
from ncen_updater.formats.tuf_names import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:  # what reading the last list does not need: requests, tuf, the configuration
    from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

    from ncen_updater.feed.client import TrustClient
    from ncen_updater.feed.fetching import FeedFetcher
    from ncen_updater.feed.proved import ProvedMemory
    from ncen_updater.feed.reverify import Prover

logger = logging.getLogger(__name__)

GONE = (403, 404, 410)  # a feed address that does not have the pack; anything else may pass


class TufReleaseSource(Downloads):
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
        memory: What was proved here before, where what lies on the disk is proved before it is
            used, since another process left it there.
    """

    def __init__(
        self,
        product: str,
        *,
        state: Path,
        trusted_root: Path,
        make_fetcher: Callable[[], FeedFetcher],
        now: Callable[[], datetime] = system_now,
        offline: bool = False,
        grace: timedelta = timedelta(0),
        feed_grace: timedelta = timedelta(0),
        memory: ProvedMemory | None = None,
    ) -> None:
        place = state / "downloads" / product
        super().__init__(product, place, None if memory is None else self._prove_offer)
        self._state, self._trusted_root = state, trusted_root
        self._make_fetcher, self._offline = make_fetcher, offline
        self._grace, self._feed_grace = grace, feed_grace
        self._clock = TrustClock(state / "clock.json", now)
        self._memory = memory
        self._fetcher: FeedFetcher | None = None
        self._client: TrustClient | None = None

    def close(self) -> None:
        """Close connections."""
        if self._fetcher is not None:
            self._fetcher.close()

    def now(self) -> datetime:
        """The system clock, but never earlier than what officers signed.

        A clock that is ahead by more than the timestamp is valid makes the list a lapsed one; it
        opens no wave.
        """
        return (self._memory or self._clock).reference()

    # -- the list ------------------------------------------------------------------------------

    def refresh(self) -> FeedView:
        """Fetch and verify the list; where it does not verify, the next address is asked.

        Where no address answers, or there is none, the list that was imported last is verified
        again, as long as nothing newer was seen since.

        Raises:
            UpdaterError: Of the trust or network family: of the first address that answered.
        """
        from ncen_updater.feed.offline.store import finish_import, lists_lock

        finish_import(self._state)
        with lists_lock(self._state, alone=False):
            if self._offline:
                return self._refresh_kept(UpdaterError(NOTHING_IMPORTED))
            try:
                return self._refresh_from_feed()
            except FeedError as error:
                return self._refresh_kept(error)

    def _refresh_kept(self, otherwise: UpdaterError) -> FeedView:
        from ncen_updater.feed.offline.store import KeptFetcher, read_import

        record = read_import(self._state)
        # A bundle may bring the list of agents, too.
        listed = view_path(self._state, self._product).exists()
        if record is None or not (listed or record.product == self._product):
            raise otherwise
        if isinstance(otherwise, FeedError):
            logger.warning("the list that was imported last is used: %s", otherwise)
        view = self._refresh_once(
            KeptFetcher(self._state / "metadata"), self._grace, record.imported_at
        )
        if self._client is None or self._client.timestamp_version != record.timestamp:
            raise otherwise
        save_view(view_path(self._state, self._product), view)
        return view

    def _refresh_from_feed(self) -> FeedView:
        fetcher = self._network()
        first: TrustError | None = None
        for _ in range(fetcher.mirrors):
            try:
                view = self._refresh_once(fetcher, self._feed_grace, None)
                save_view(view_path(self._state, self._product), view)
                return view
            except TrustError as error:
                logger.warning("the list of the first feed address was refused: %s", error)
                first = first or error
                fetcher.demote()
            except FeedError as error:
                raise first or error from error  # that a list was refused weighs more
        if first is None:
            raise TrustError(detail="no feed address is configured")
        raise first

    def _refresh_once(
        self, fetcher: FeedFetcher, grace: timedelta, checked_at: datetime | None
    ) -> FeedView:
        from ncen_updater.feed.client import TrustClient

        self._client = None
        client = TrustClient(
            self._product,
            metadata_directory=self._state / "metadata",
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=self._clock,
            grace=grace,
        )
        role, listed = client.product_role(), client.product_targets()
        view = FeedView(
            offers=offers_of(self._product, listed),
            checked_at=checked_at or self._clock.now(),
            expires_at=client.usable_until() if grace else client.expires_at,
            version=role.version,
        )
        self._client = client
        return view

    def last_view(self) -> FeedView | None:
        """The last verified list, however old.

        Raises:
            ViewDamaged: If the stored copy cannot be read.
            TrustError: If it is to be proved and cannot be, or is older than what was proved here.
        """
        left = load_view(view_path(self._state, self._product))
        if left is None or self._memory is None:
            return left
        from ncen_updater.feed.reverify import prove_view

        by_medium = max(self._grace, self._feed_grace)
        grace = by_medium if self._offline else self._feed_grace
        return prove_view(self._prover(self._memory), self._product, left, grace, by_medium)

    def prove_import(self) -> None:
        """Prove what was imported just now, and remember that it came on a medium.

        Raises:
            TrustError: If it is older than what was proved here, or does not follow.
        """
        if self._memory is not None:
            from ncen_updater.feed.reverify import prove_import

            prove_import(self._prover(self._memory))
        self.last_view()

    def _prover(self, memory: ProvedMemory) -> Prover:
        from ncen_updater.feed.reverify import Prover

        return Prover(self._state / "metadata", self._trusted_root, memory)

    def _network(self) -> FeedFetcher:
        if self._fetcher is None:
            self._fetcher = self._make_fetcher()
        return self._fetcher

    # -- a release -----------------------------------------------------------------------------

    def fetch(self, offer: Offer, progress: Progress) -> FetchedRelease:
        """Download and verify a release, resuming what is already there.

        Raises:
            PackUnusable: If a pack is all that was imported, and it failed here.
            UpdaterError: Of the trust, network, transfer or release family.
        """
        return self.release(self._leave_whole(offer, progress), offer)

    def fetch_smallest(
        self, offer: Offer, have: Collection[str], progress: Progress
    ) -> FetchedRelease | FetchedPack:
        """Download and verify a release by the way that needs the fewest bytes from here.

        A pack that cannot be had as it was signed is remembered, and the archive fetched.

        Raises:
            UpdaterError: Of the trust, network, transfer or release family.
        """
        found = self._leave_smallest(offer, have, progress)
        if isinstance(found, FetchedPack):
            return found
        return self.release(found, offer)

    def leave(self, offer: Offer, have: Collection[str] | None, progress: Progress) -> None:
        """As ``fetch_smallest``, or ``fetch`` where ``have`` is None, but only leave the files.

        The tree is not read, which takes memory: that is for the process that uses it.
        """
        if have is None:
            self._leave_whole(offer, progress)
        else:
            self._leave_smallest(offer, have, progress)

    def _leave_whole(self, offer: Offer, progress: Progress) -> ReleaseDocument:
        ready = self.whole(offer)
        if ready is not None:
            return ready
        document = self._fetch_document(offer, progress)
        place = self.place(offer)
        archive = place / document.archive.target
        try:
            self._fetch_file(document.tree, place / TREE, offer, progress)
            self._fetch_file(document.archive, archive, offer, progress, document.archive_chunks)
        except NotImported as error:
            refused = self.refused_packs(offer)
            if not refused:
                raise
            codes = ", ".join(sorted(set(refused.values())))
            raise UpdaterError(
                PACK_UNUSABLE, version=offer.version, code=codes, detail=", ".join(refused)
            ) from error
        return document

    def _leave_smallest(
        self, offer: Offer, have: Collection[str], progress: Progress
    ) -> ReleaseDocument | FetchedPack:
        ready = self.pack(offer, have) or self.whole(offer)
        if ready is not None:
            return ready
        document = self._fetch_document(offer, progress)
        ref = self.choose_pack(document, offer, have)
        if ref is not None:
            try:
                path = pack_place(self.place(offer), ref)
                self._fetch_file(ref, path, offer, progress)
                return FetchedPack(document, ref, path)
            except (DownloadDamaged, DocumentMismatch, FeedRefused, TargetMissing) as error:
                if isinstance(error, FeedRefused) and error.values.get("status") not in GONE:
                    raise
                logger.warning("%s is not used: %s", ref.target, error)
                self.refuse_pack(offer, ref, error)
                progress.tell(not_used(ref, error))
        return self._leave_whole(offer, progress)

    def _fetch_document(self, offer: Offer, progress: Progress) -> ReleaseDocument:
        client, files = self._verified_list()
        self._still_offered(offer, offers_of(self._product, files))
        place = self.place(offer)
        name = release_target(self._product, offer.version)
        signed = files[name]
        if signed.length > MAX_DOCUMENT_BYTES:
            raise BadRelease(source=name, detail=f"{signed.length} bytes")
        client.fetch_target(signed, place / DOCUMENT, progress)
        write_record(place, signed.length, signed.hashes["sha256"])
        return self.document(offer)

    def _fetch_file(
        self,
        ref: TargetRef,
        path: Path,
        offer: Offer,
        progress: Progress,
        chunks: Chunks | None = None,
    ) -> None:
        client, files = self._verified_list()
        file = files.get(ref.target)
        if file is None:
            raise TargetMissing(name=ref.target)
        if not matches(file, ref):
            raise DocumentMismatch(version=offer.version, detail=ref.target)
        client.fetch_target(file, path, progress, chunks)

    def _verified_list(self) -> tuple[TrustClient, dict[str, TargetFile]]:
        if self._client is None:
            self.refresh()
        if self._client is None:
            raise TrustError(detail="no verified list")
        return self._client, self._client.product_targets()

    def _still_offered(self, offer: Offer, offers: tuple[Offer, ...]) -> None:
        current = next((o for o in offers if o.version == offer.version), None)
        if current is not None and current.withdrawn is not None:
            raise TrustError(
                OFFER_WITHDRAWN, version=offer.version, reason=current.withdrawn.reason
            )
        if current is not None and current.halted is not None:
            raise TrustError(OFFER_HALTED, version=offer.version, reason=current.halted.reason)
        if current is None or not offer.same_release(current):
            raise TrustError(OFFER_CHANGED, version=offer.version)

    def _prove_offer(self, offer: Offer) -> tuple[int, str]:
        from ncen_updater.feed.reverify import prove_offer

        if self._memory is None:
            raise AssertionError("only who has a memory proves")
        return prove_offer(self._prover(self._memory), offer)
