"""Construction of a release's slot: by a delta pack over a slot that exists, or from the archive.

A pack is chosen by the trees that the slots here were built from, never by a version. Where it does
not yield the signed tree, because a file of the slot was altered or the pack is wrong, the archive
is downloaded instead; the pack is recorded and not tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.model.errors import SlotModifiedError, SlotRecordError
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.offers import DownloadedPack, DownloadedRelease, describe_unused_pack
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.formats.delta.pack_plan import DeltaError
from ncen_updater.formats.release_document import Offer

if TYPE_CHECKING:
    from pathlib import Path

    from ncen_updater.agent.storage.slots.store import SlotStore
    from ncen_updater.formats.tree import Tree

logger = logging.getLogger(__name__)

ARCHIVE_SOURCE = "archive"


def list_slot_trees(slots: SlotStore) -> dict[str, Version]:
    """Map the tree digest of every complete slot to its version; the slot in use wins.

    A slot whose record is damaged is left out: that can only cost a larger download.
    """
    current = slots.read_current()
    held: dict[str, Version] = {}
    for version in sorted(slots.list_versions(), key=lambda v: v == current):
        try:
            held[slots.read_document(version).tree_digest] = version
        except SlotRecordError as error:
            logger.warning("no pack is tried on slot %s: %s", version, error)
    return held


def name_download(fetched: DownloadedRelease | DownloadedPack) -> str:
    """Name a download for the journal: the name of the delta pack, or ``archive``."""
    return fetched.ref.target if isinstance(fetched, DownloadedPack) else ARCHIVE_SOURCE


def build_slot(
    slots: SlotStore,
    source: TufReleaseSource,
    offer: Offer,
    download: DownloadedRelease | DownloadedPack,
    slot_trees: Mapping[str, Version],
    progress: ProgressListener,
) -> str:
    """Build the slot from what was fetched; return the name of what it was built from.

    Args:
        slots: The slots.
        source: Where the archive comes from, if the pack fails.
        offer: The release.
        download: What the source left for it.
        slot_trees: As :func:`list_slot_trees` found them, and as the source was told.
        progress: Told what is being done.

    Raises:
        UpdaterError: If the archive does not give the slot either, or the disk fails.
    """
    if isinstance(download, DownloadedPack):
        try:
            apply_delta_pack(slots, download, slot_trees, progress)
            return download.ref.target
        except (DeltaError, SlotModifiedError, SlotRecordError) as error:
            logger.warning("%s did not give the release: %s", download.ref.target, error)
            source.mark_pack_bad(offer, download.ref, error)
            progress.report(describe_unused_pack(download.ref, error))
        download = source.download_release(offer, progress)
    slots.build_slot(download.document, download.tree, download.archive, progress)
    return ARCHIVE_SOURCE


def apply_delta_pack(
    slots: SlotStore,
    fetched: DownloadedPack,
    held: Mapping[str, Version],
    progress: ProgressListener,
) -> None:
    """Assemble the slot of a release from a slot that is here and a pack.

    Args:
        slots: The slots.
        fetched: The pack.
        held: As :func:`list_slot_trees` found them.
        progress: Told the bytes.

    Raises:
        DeltaError: If the pack does not lead from that slot to the signed tree.
        UpdaterError: Of the slots room.
    """
    from ncen_updater.formats.delta.apply import apply_pack
    from ncen_updater.formats.delta.pack_plan import DeltaLimits

    ref, document = fetched.ref, fetched.document
    origin = held[ref.from_tree]
    limits = DeltaLimits(
        from_tree=ref.from_tree,
        to_tree=document.tree_digest,
        out_bytes=ref.out_bytes,
        out_files=ref.out_files,
        max_memory_bytes=ref.max_memory_bytes,
        required_capabilities=ref.needs,
    )

    def fill(place: Path) -> Tree:
        tree, root = slots.read_tree(origin), slots.get_slot_directory(origin)
        return apply_pack(fetched.path, root, tree, place, limits, progress)

    slots.assemble_and_list(document, fill, progress)
