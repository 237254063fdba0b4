"""Choose the delta pack to fetch, and record the packs that failed at this site.

``refused.json``, in the download directory of a release, names every pack that was damaged or did
not produce the signed tree, so that it is not fetched again. It is deleted with the downloads.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.feed.release_files import open_download_directory
from ncen_updater.feed.resumable_download import count_downloaded_bytes
from ncen_updater.formats.release_document import DeltaRef, ReleaseDocument, TargetRef

logger = logging.getLogger(__name__)

BAD_PACKS_NAME = "refused.json"
MAX_BAD_PACKS_BYTES = 1_000_000


def list_usable_packs(
    document: ReleaseDocument,
    installed_trees: Collection[str],
    capabilities: Collection[str],
    bad_packs: Collection[str],
) -> list[DeltaRef]:
    """List the delta packs that a site can apply. Pure.

    Args:
        document: The release document.
        installed_trees: Digests of the trees of the site's slots.
        capabilities: Capabilities of the site's agent.
        bad_packs: SHA-256 of the packs that failed at this site.
    """
    return [
        ref
        for ref in document.deltas
        if ref.from_tree in installed_trees
        and ref.sha256 not in bad_packs
        and set(ref.needs) <= set(capabilities)
    ]


def choose_pack(
    document: ReleaseDocument,
    packs: Collection[DeltaRef],
    remaining: Callable[[TargetRef], int],
) -> DeltaRef | None:
    """Return the pack with the fewest bytes left to fetch; None if the archive has fewer. Pure."""
    best = min(packs, key=lambda ref: (remaining(ref), ref.sha256), default=None)
    if best is None or remaining(best) >= remaining(document.archive) + remaining(document.tree):
        return None
    return best


def get_pack_path(directory: Path, ref: DeltaRef) -> Path:
    """Return the path of a pack in the download directory of its release."""
    return directory / ref.target.rpartition("/")[2]


def count_remaining_bytes(path: Path, ref: TargetRef) -> int:
    """Return how many bytes of a file are still to be fetched."""
    return max(0, ref.length - count_downloaded_bytes(path, ref.length, ref.sha256))


def read_bad_packs(directory: Path) -> Mapping[str, str]:
    """Return the error code of every pack that failed at this site, by the pack's SHA-256.

    A damaged file counts as empty: the pack is then tried once more and fails again.
    """
    try:
        data = parse_json(read_file(directory / BAD_PACKS_NAME, MAX_BAD_PACKS_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged and treated as empty: %s", directory / BAD_PACKS_NAME, error)
        return {}
    if not isinstance(data, dict):
        logger.warning("%s is damaged and treated as empty", directory / BAD_PACKS_NAME)
        return {}
    return {str(key): str(value) for key, value in data.items()}


def mark_pack_bad(directory: Path, ref: DeltaRef, error: UpdaterError) -> None:
    """Record that a pack failed, and delete it.

    Raises:
        LOCAL_STORE_FAILED: If the directory was replaced meanwhile, or the disk fails.
    """
    known = {**read_bad_packs(directory), ref.sha256: error.code}
    # World-readable: the process that chooses what to fetch runs as another user.
    with durable.make_world_readable(), open_download_directory(directory) as (handle, name):
        handle.ensure_directory(name)
        handle.replace_file(f"{name}/{BAD_PACKS_NAME}", json.dumps(known, sort_keys=True).encode())
        with contextlib.suppress(FileNotFoundError):
            handle.remove_file(f"{name}/{get_pack_path(directory, ref).name}")
