"""Construction of a release's slot, from an existing slot and a delta pack or from the archive.

A pack is chosen by the tree digests of the existing slots, never by a version. If the result is not
the signed tree, because a file of the slot was changed or the pack is wrong, the archive is
downloaded instead; the pack is recorded as bad and not tried again.
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
    """Map the tree digest of each complete slot to its version; of equal slots, prefer that in use.

    A slot with a damaged record is left out; the only cost is a larger download.
    """
    current = slots.read_current()
    trees: dict[str, Version] = {}
    for version in sorted(slots.list_versions(), key=lambda v: v == current):
        try:
            trees[slots.read_document(version).tree_digest] = version
        except SlotRecordError as error:
            logger.warning("cannot use a delta pack on slot %s: %s", version, error)
    return trees


def build_slot(
    slots: SlotStore,
    source: TufReleaseSource,
    offer: Offer,
    download: DownloadedRelease | DownloadedPack,
    slot_trees: Mapping[str, Version],
    progress: ProgressListener,
) -> str:
    """Build the slot from a download; return the name of the pack or archive that was used.

    Args:
        slots: The slots.
        source: Source of the archive, if the pack fails.
        offer: The release.
        download: The downloaded pack or archive.
        slot_trees: Result of :func:`list_slot_trees` with which the download was chosen.
        progress: Receives progress reports.

    Raises:
        UpdaterError: If the slot cannot be built from the archive either, or the disk fails.
    """
    if isinstance(download, DownloadedPack):
        try:
            apply_delta_pack(slots, download, slot_trees, progress)
            return download.ref.target
        except (DeltaError, SlotModifiedError, SlotRecordError) as error:
            logger.warning("%s does not provide the release: %s", download.ref.target, error)
            source.mark_pack_bad(offer, download.ref, error)
            progress.report(describe_unused_pack(download.ref, error))
        download = source.download_release(offer, progress)
    slots.build_slot(download.document, download.tree, download.archive, progress)
    return ARCHIVE_SOURCE


def apply_delta_pack(
    slots: SlotStore,
    download: DownloadedPack,
    slot_trees: Mapping[str, Version],
    progress: ProgressListener,
) -> None:
    """Assemble the slot of a release from an existing slot and a pack.

    Args:
        slots: The slots.
        download: The pack.
        slot_trees: Result of :func:`list_slot_trees`.
        progress: Receives the number of bytes.

    Raises:
        DeltaError: If slot and pack do not give the signed tree.
        UpdaterError: If a slot cannot be read or written.
    """
    from ncen_updater.formats.delta.apply import apply_pack
    from ncen_updater.formats.delta.pack_plan import DeltaLimits

    ref, document = download.ref, download.document
    origin = slot_trees[ref.from_tree]
    signed = ref.model_dump(include=set(DeltaLimits.model_fields))
    limits = DeltaLimits(to_tree=document.tree_digest, **signed)

    def fill(directory: Path) -> Tree:
        tree, root = slots.read_tree(origin), slots.get_slot_directory(origin)
        return apply_pack(download.path, root, tree, directory, limits, progress)

    slots.assemble_slot(document, fill, progress, check_content=False)
