"""Where releases come from, as the upgrade engine sees it."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.progress import Progress
from ncen_updater.release.document import Offer, ReleaseDocument
from ncen_updater.release.tree import Tree

__all__ = ["FeedView", "FetchedRelease", "ReleaseSource"]


@dataclass(frozen=True)
class FeedView:
    """A verified list of offers.

    Attributes:
        offers: Every release of the product that the signed metadata name.
        checked_at: When it was verified (UTC).
        expires_at: When the timestamp role lapses (UTC); later than that the list is stale.
        version: Version number of the signed targets list.
    """

    offers: tuple[Offer, ...]
    checked_at: datetime
    expires_at: datetime
    version: int


@dataclass(frozen=True)
class FetchedRelease:
    """A release whose document, tree and archive lie verified on the disk."""

    document: ReleaseDocument
    tree: Tree
    archive: Path


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
    def discard(self, offer: Offer) -> None:
        """Delete what was downloaded of a release."""
