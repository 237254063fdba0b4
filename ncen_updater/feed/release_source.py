"""Where releases come from, as the upgrade engine sees it."""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress
from ncen_updater.feed.brakes import BrakeSeen
from ncen_updater.formats.document import DeltaRef, Offer, ReleaseDocument
from ncen_updater.formats.tree import Tree


@dataclass(frozen=True)
class FeedView:
    """A verified list of offers.

    Attributes:
        offers: Every release of the product that the signed metadata name.
        checked_at: When it was verified (UTC).
        expires_at: When the timestamp role lapses (UTC); later than that the list is stale.
        version: Version number of the signed targets list.
        brakes: Those that hold here; their offers are halted.
    """

    offers: tuple[Offer, ...]
    checked_at: datetime
    expires_at: datetime
    version: int
    brakes: tuple[BrakeSeen, ...] = ()


@dataclass(frozen=True)
class FetchedRelease:
    """A release whose document, tree and archive lie verified on the disk."""

    document: ReleaseDocument
    tree: Tree
    archive: Path


@dataclass(frozen=True)
class FetchedPack:
    """A release whose document and one delta pack lie verified on the disk.

    The pack turns the tree ``ref.from_tree`` into that of the document, and no other.
    """

    document: ReleaseDocument
    ref: DeltaRef
    path: Path


def not_used(ref: DeltaRef, error: UpdaterError) -> Text:
    """Say that a pack failed and that the archive takes its place."""
    values = {"name": ref.target, "code": error.code, "what": error.what_text}
    return Text(N_("{name} is not used ({code}: {what}); fetching the whole archive"), values)


class ReleaseSource(abc.ABC):
    """A source of signed releases. Only implementations know of the network or of TUF."""

    @abc.abstractmethod
    def now(self) -> datetime:
        """The time by which signed dates are judged (UTC).

        Never earlier than the newest time that officers signed, whatever the system clock shows.
        """

    @abc.abstractmethod
    def refresh(self) -> FeedView:
        """Fetch and verify the list.

        Raises:
            UpdaterError: Of the trust or network family; never an empty list in place of a failure.
        """

    @abc.abstractmethod
    def last_view(self) -> FeedView | None:
        """The last verified list, from the disk, however old; None if there never was one."""

    @abc.abstractmethod
    def fetch(self, offer: Offer, progress: Progress) -> FetchedRelease:
        """Download and verify a release, resuming what is already there.

        What was verified earlier is hashed again, not fetched again.
        """

    @abc.abstractmethod
    def fetched(self, offer: Offer) -> FetchedRelease | None:
        """A release that lies whole on the disk, hashed again; None if it does not."""

    @abc.abstractmethod
    def fetch_smallest(
        self, offer: Offer, have: Collection[str], progress: Progress
    ) -> FetchedRelease | FetchedPack:
        """Download and verify a release by the way that needs the fewest bytes from here.

        Args:
            offer: The release.
            have: Digests of the trees that the site has a slot of.
            progress: Told the bytes.
        """

    @abc.abstractmethod
    def fetched_smallest(
        self, offer: Offer, have: Collection[str]
    ) -> FetchedRelease | FetchedPack | None:
        """What :meth:`fetch_smallest` left, hashed again; None if nothing of it is whole."""

    @abc.abstractmethod
    def refuse_pack(self, offer: Offer, pack: DeltaRef, error: UpdaterError) -> None:
        """Remember that a pack did not give the release, so that it is not used again."""

    @abc.abstractmethod
    def refused_packs(self, offer: Offer) -> Mapping[str, str]:
        """Code of the failure of every pack of a release that failed here, by its name."""

    @abc.abstractmethod
    def discard(self, offer: Offer) -> None:
        """Delete what was downloaded of a release."""
