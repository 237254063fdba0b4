"""Releases out of a signed feed: the list, and whole verified releases on the disk.

In the state directory::

    metadata/                     verified lists; the protection against rollback
    clock.json                    the clock floor
    feed/<product>.json           the last verified list, for reading without the feed
    downloads/<product>/<version>/
        release.json  tree.json.zst  <product>-<version>.tar.gz
        verified.json             what the signed list said of release.json

``verified.json`` is written after the release document was verified. From then on the release can
be used however old the lists are: every file is hashed again against the chain that begins there.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater import durable
from ncen_updater.config.model import FeedSettings
from ncen_updater.feed.source import FeedView, FetchedRelease, ReleaseSource
from ncen_updater.policy.bandwidth import limit_at
from ncen_updater.progress import Progress
from ncen_updater.release.canonical import sha256_hex
from ncen_updater.release.document import (
    MAX_DOCUMENT_BYTES,
    STEERING,
    Offer,
    ReleaseDocument,
    TargetRef,
    archive_target,
    parse_release_document,
    release_target,
    tree_target,
)
from ncen_updater.release.errors import BadRelease
from ncen_updater.release.tree import MAX_TREE_BYTES, Tree, parse_tree
from ncen_updater.transfer.download import Wanted, is_whole
from ncen_updater.trust.clock import TrustClock, system_now
from ncen_updater.trust.errors import (
    DocumentMismatch,
    FeedError,
    OfferChanged,
    OfferHalted,
    OfferWithdrawn,
    TargetMissing,
    TreeMismatch,
    TrustError,
)
from ncen_updater.trust.lastview import view_path
from ncen_updater.trust.offers import load_view, matches, offers_of, save_view

if TYPE_CHECKING:  # both import requests and tuf, which reading the last list does not need
    from ncen_updater.trust.client import TrustClient
    from ncen_updater.trust.fetcher import HttpFetcher

__all__ = ["TufReleaseSource"]

logger = logging.getLogger(__name__)

DOCUMENT, TREE, RECORD = "release.json", "tree.json.zst", "verified.json"


class TufReleaseSource(ReleaseSource):
    """The feed of one product.

    Args:
        product: The product of this site; also the name of its role.
        state: The agent's state directory.
        trusted_root: The root that was installed with the agent.
        make_fetcher: Makes the fetcher at the first use of the network.
        now: The system clock.
        grace: How long timestamp and snapshot count beyond their expiry; for media only.
    """

    def __init__(
        self,
        product: str,
        *,
        state: Path,
        trusted_root: Path,
        make_fetcher: Callable[[], HttpFetcher],
        now: Callable[[], datetime] = system_now,
        grace: timedelta = timedelta(0),
    ) -> None:
        self._product, self._state, self._trusted_root = product, state, trusted_root
        self._make_fetcher, self._grace = make_fetcher, grace
        self._clock = TrustClock(state / "clock.json", now)
        self._fetcher: HttpFetcher | None = None
        self._client: TrustClient | None = None

    @classmethod
    def from_settings(
        cls,
        product: str,
        feed: FeedSettings,
        *,
        state: Path,
        trusted_root: Path,
        now: Callable[[], datetime] = system_now,
        zone: tzinfo = UTC,
    ) -> TufReleaseSource:
        """Make a source from the agent's configuration; hours are wall times of the zone."""
        full_speed = tuple(window.window() for window in feed.full_speed_windows)

        def make_fetcher() -> HttpFetcher:
            from ncen_updater.trust.fetcher import HttpFetcher

            return HttpFetcher(
                feed.urls,
                timeout_s=feed.timeout_s,
                minimum_bytes_per_s=feed.minimum_bytes_per_s,
                proxy=feed.proxy,
                ca_file=feed.ca_file,
                client_certificate=feed.client_certificate,
                limit=lambda: limit_at(feed.max_bytes_per_s, full_speed, now(), zone),
            )

        return cls(
            product, state=state, trusted_root=trusted_root, make_fetcher=make_fetcher, now=now
        )

    def close(self) -> None:
        """Close connections."""
        if self._fetcher is not None:
            self._fetcher.close()

    def now(self) -> datetime:
        """The system clock, but never earlier than what officers signed.

        A clock that is ahead by more than the timestamp is valid makes the list a lapsed one; it
        opens no wave.
        """
        return self._clock.reference()

    # -- the list ------------------------------------------------------------------------------

    def refresh(self) -> FeedView:
        """Fetch and verify the list; where it does not verify, the next address is asked.

        Raises:
            UpdaterError: Of the trust or network family: of the first address that answered.
        """
        fetcher = self._network()
        first: TrustError | None = None
        for _ in range(fetcher.mirrors):
            try:
                return self._refresh_once(fetcher)
            except TrustError as error:
                logger.warning("the list of the first feed address was refused: %s", error)
                first = first or error
                fetcher.demote()
            except FeedError as error:
                raise first or error from error  # that a list was refused weighs more
        if first is None:
            raise TrustError(detail="no feed address is configured")
        raise first

    def _refresh_once(self, fetcher: HttpFetcher) -> FeedView:
        from ncen_updater.trust.client import TrustClient

        self._client = None
        client = TrustClient(
            self._product,
            metadata_directory=self._state / "metadata",
            targets_directory=self._state / "downloads",
            trusted_root=self._trusted_root,
            fetcher=fetcher,
            clock=self._clock,
            grace=self._grace,
        )
        role = client.product_role()
        view = FeedView(
            offers=offers_of(self._product, client.product_targets()),
            checked_at=self._clock.now(),
            expires_at=client.expires_at,
            version=role.version,
        )
        save_view(view_path(self._state, self._product), view)
        self._client = client
        return view

    def last_view(self) -> FeedView | None:
        """The last verified list, however old.

        Raises:
            ViewDamaged: If the stored copy cannot be read.
        """
        return load_view(view_path(self._state, self._product))

    def _network(self) -> HttpFetcher:
        if self._fetcher is None:
            self._fetcher = self._make_fetcher()
        return self._fetcher

    # -- a release -----------------------------------------------------------------------------

    def fetch(self, offer: Offer, progress: Progress) -> FetchedRelease:
        """Download and verify a release, resuming what is already there.

        Raises:
            UpdaterError: Of the trust, network, transfer or release family.
        """
        ready = self.fetched(offer)
        if ready is not None:
            return ready
        if self._client is None:
            self.refresh()
        client = self._client
        if client is None:
            raise TrustError(detail="no verified list")
        files = client.product_targets()
        self._still_offered(offer, offers_of(self._product, files))
        place = self._place(offer)
        name = release_target(self._product, offer.version)
        signed = files[name]
        if signed.length > MAX_DOCUMENT_BYTES:
            raise BadRelease(source=name, detail=f"{signed.length} bytes")
        client.fetch_target(signed, place / DOCUMENT, progress)
        record = {"length": signed.length, "sha256": signed.hashes["sha256"]}
        durable.write(place / RECORD, json.dumps(record).encode())
        document = self._document(offer, place)
        for ref, local in ((document.tree, place / TREE), (document.archive, None)):
            file = files.get(ref.target)
            if file is None:
                raise TargetMissing(name=ref.target)
            if not matches(file, ref):
                raise DocumentMismatch(version=offer.version, detail=ref.target)
            client.fetch_target(file, local or place / document.archive.target, progress)
        return FetchedRelease(
            document, self._tree(document, place), place / document.archive.target
        )

    def _still_offered(self, offer: Offer, offers: tuple[Offer, ...]) -> None:
        current = next((o for o in offers if o.version == offer.version), None)
        if current is not None and current.withdrawn is not None:
            raise OfferWithdrawn(version=offer.version, reason=current.withdrawn.reason)
        if current is not None and current.halted is not None:
            raise OfferHalted(version=offer.version, reason=current.halted.reason)
        if current is None or not offer.same_release(current):
            raise OfferChanged(version=offer.version)

    def fetched(self, offer: Offer) -> FetchedRelease | None:
        """A release that lies whole on the disk, hashed again; needs no network.

        Raises:
            TrustError: If the files are whole and contradict each other or the offer.
        """
        place = self._place(offer)
        record = self._record(place)
        if record is None or not is_whole(place / DOCUMENT, record):
            return None
        document = self._document(offer, place)
        archive = place / document.archive.target
        if not is_whole(place / TREE, _wanted(document.tree)):
            return None
        if not is_whole(archive, _wanted(document.archive)):
            return None
        return FetchedRelease(document, self._tree(document, place), archive)

    def discard(self, offer: Offer) -> None:
        """Delete what was downloaded of a release, partial files too."""
        place = self._place(offer)
        if place.exists():
            # Without its record nothing of it counts, whatever an interruption leaves.
            durable.remove(place / RECORD)
            shutil.rmtree(place)
            durable.fsync_directory(place.parent)

    # -- inside --------------------------------------------------------------------------------

    def _place(self, offer: Offer) -> Path:
        return self._state / "downloads" / self._product / offer.version

    @staticmethod
    def _record(place: Path) -> Wanted | None:
        try:
            data = json.loads((place / RECORD).read_bytes())
            return Wanted(DOCUMENT, int(data["length"]), str(data["sha256"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged, the release will be fetched anew: %s", place, error)
            return None

    def _document(self, offer: Offer, place: Path) -> ReleaseDocument:
        name = release_target(self._product, offer.version)
        document = parse_release_document((place / DOCUMENT).read_bytes(), name)
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
            raise DocumentMismatch(version=offer.version, detail=f"it names {names}")
        return document

    def _tree(self, document: ReleaseDocument, place: Path) -> Tree:
        version = document.manifest.version
        content = _decompressed(place / TREE, document.tree_bytes, version)
        if sha256_hex(content) != document.tree_digest:
            raise TreeMismatch(version=version, detail="its digest")
        tree = parse_tree(content, document.tree.target)
        if tree.total_bytes != document.unpacked_bytes:
            raise TreeMismatch(version=version, detail="the sum of its sizes")
        return tree


def _wanted(ref: TargetRef) -> Wanted:
    return Wanted(ref.target, ref.length, ref.sha256)


def _decompressed(path: Path, length: int, version: str) -> bytes:
    """Return exactly ``length`` bytes; one more is refused before it is kept."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    if length > MAX_TREE_BYTES:
        raise TreeMismatch(version=version, detail=f"{length} bytes, over {MAX_TREE_BYTES}")
    try:
        with zstd.open(path, "rb") as stream:
            content = stream.read(length + 1)
    except (zstd.ZstdError, EOFError) as error:
        raise TreeMismatch(version=version, detail=str(error)) from error
    if len(content) != length:
        raise TreeMismatch(version=version, detail=f"not {length} bytes")
    return bytes(content)
