"""Source of releases: the verified list, and releases on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.emergency_halts import KnownEmergencyHalt
from ncen_updater.formats.release_document import DeltaRef, Offer, ReleaseDocument
from ncen_updater.formats.tree import Tree


@dataclass(frozen=True)
class FeedView:
    """A verified list of offers.

    Attributes:
        offers: Every release of the product that the signed metadata name.
        checked_at: When it was verified (UTC).
        expires_at: When the timestamp role lapses (UTC); later than that the list is stale.
        version: Version number of the signed targets list.
        emergency_halts: Those that hold here; their offers are halted.
    """

    offers: tuple[Offer, ...]
    checked_at: datetime
    expires_at: datetime
    version: int
    emergency_halts: tuple[KnownEmergencyHalt, ...] = ()


@dataclass(frozen=True)
class DownloadedRelease:
    """A release whose document, tree and archive lie verified on the disk."""

    document: ReleaseDocument
    tree: Tree
    archive: Path


@dataclass(frozen=True)
class DownloadedPack:
    """A release whose document and one delta pack lie verified on the disk.

    The pack turns the tree ``ref.from_tree`` into that of the document, and no other.
    """

    document: ReleaseDocument
    ref: DeltaRef
    path: Path


def describe_unused_pack(ref: DeltaRef, error: UpdaterError) -> LazyText:
    """Say that a pack failed and that the archive takes its place."""
    values = {"name": ref.target, "code": error.code, "what": error.title_text}
    return LazyText(N_("{name} not used ({code}: {what}); downloading the full archive"), values)
