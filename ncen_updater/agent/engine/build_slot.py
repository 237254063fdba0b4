"""How a release comes to this site: by a delta pack over a slot that is here, or whole.

A pack is chosen by the trees that the slots here were built from, never by a version. Where it does
not give the signed tree, because a file of the slot was altered or the pack is wrong, the archive
takes its place, without being asked; the pack is remembered and not tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.model.errors import RecordUnusable, SlotDiffers
from ncen_updater.common.progress import Progress
from ncen_updater.feed.release_source import FetchedPack, FetchedRelease, not_used
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.delta.model import DeltaError
from ncen_updater.formats.document import Offer

if TYPE_CHECKING:
    from pathlib import Path

    from ncen_updater.agent.storage.slots.store import SlotStore
    from ncen_updater.formats.tree import Tree

logger = logging.getLogger(__name__)

ARCHIVE = "archive"


def held_trees(slots: SlotStore) -> dict[str, Version]:
    """The version of every whole slot by the digest of its tree; the one in use wins.

    A slot whose record is damaged is left out: it can only cost a larger download.
    """
    current = slots.current()
    held: dict[str, Version] = {}
    for version in sorted(slots.versions(), key=lambda v: v == current):
        try:
            held[slots.document(version).tree_digest] = version
        except RecordUnusable as error:
            logger.warning("no pack is tried on slot %s: %s", version, error)
    return held


def name_of(fetched: FetchedRelease | FetchedPack) -> str:
    """What lies ready, for the journal: the name of the pack, or ``archive``."""
    return fetched.ref.target if isinstance(fetched, FetchedPack) else ARCHIVE


def build(
    slots: SlotStore,
    source: TufReleaseSource,
    offer: Offer,
    fetched: FetchedRelease | FetchedPack,
    held: Mapping[str, Version],
    progress: Progress,
) -> str:
    """Build the slot from what was fetched; return the name of what it was built from.

    Args:
        slots: The slots.
        source: Where the archive comes from, if the pack fails.
        offer: The release.
        fetched: What the source left for it.
        held: As :func:`held_trees` found them, and as the source was told.
        progress: Told what is being done.

    Raises:
        UpdaterError: If the archive does not give the slot either, or the disk fails.
    """
    if isinstance(fetched, FetchedPack):
        try:
            apply_pack(slots, fetched, held, progress)
            return fetched.ref.target
        except (DeltaError, SlotDiffers, RecordUnusable) as error:
            logger.warning("%s did not give the release: %s", fetched.ref.target, error)
            source.refuse_pack(offer, fetched.ref, error)
            progress.tell(not_used(fetched.ref, error))
        fetched = source.fetch(offer, progress)
    slots.build(fetched.document, fetched.tree, fetched.archive, progress)
    return ARCHIVE


def apply_pack(
    slots: SlotStore, fetched: FetchedPack, held: Mapping[str, Version], progress: Progress
) -> None:
    """Assemble the slot of a release from a slot that is here and a pack.

    Args:
        slots: The slots.
        fetched: The pack.
        held: As :func:`held_trees` found them.
        progress: Told the bytes.

    Raises:
        DeltaError: If the pack does not lead from that slot to the signed tree.
        UpdaterError: Of the slots room.
    """
    from ncen_updater.formats.delta.apply import apply_delta
    from ncen_updater.formats.delta.model import DeltaLimits

    ref, document = fetched.ref, fetched.document
    origin = held[ref.from_tree]
    limits = DeltaLimits(
        from_tree=ref.from_tree,
        to_tree=document.tree_digest,
        out_bytes=ref.out_bytes,
        out_files=ref.out_files,
        max_memory_bytes=ref.max_memory_bytes,
        needs=ref.needs,
    )

    def fill(place: Path) -> Tree:
        tree, root = slots.tree(origin), slots.path(origin)
        return apply_delta(fetched.path, root, tree, place, limits, progress)

    slots.derive(document, fill, progress)
