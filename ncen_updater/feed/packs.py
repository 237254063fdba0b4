"""Which delta pack a site should fetch, if any; and the packs that failed here.

``refused.json`` beside the downloads of a release names every pack that arrived wrong or did not
give the signed tree, so that it is not fetched a second time. It goes with the downloads.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import NotReadable, TooLarge, parse_json, read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.feed.release_files import inside
from ncen_updater.feed.resumable_download import arrived
from ncen_updater.formats.document import DeltaRef, ReleaseDocument, TargetRef

logger = logging.getLogger(__name__)

REFUSED = "refused.json"
MAX_REFUSED_BYTES = 1_000_000


def usable_packs(
    document: ReleaseDocument,
    have: Collection[str],
    able: Collection[str],
    refused: Collection[str],
) -> list[DeltaRef]:
    """The packs that a site could apply; pure.

    Args:
        document: The release.
        have: Digests of the trees that the site has a slot of.
        able: What its agent is capable of.
        refused: SHA-256 of the packs that failed here.
    """
    return [
        ref
        for ref in document.deltas
        if ref.from_tree in have and ref.sha256 not in refused and set(ref.needs) <= set(able)
    ]


def choose_pack(
    document: ReleaseDocument,
    packs: Collection[DeltaRef],
    remaining: Callable[[TargetRef], int],
) -> DeltaRef | None:
    """The pack with the fewest bytes left to fetch; None if the archive has fewer still; pure."""
    best = min(packs, key=lambda ref: (remaining(ref), ref.sha256), default=None)
    if best is None or remaining(best) >= remaining(document.archive) + remaining(document.tree):
        return None
    return best


def pack_place(place: Path, ref: DeltaRef) -> Path:
    """Where a pack lies among the downloads of its release."""
    return place / ref.target.rpartition("/")[2]


def remaining_bytes(path: Path, ref: TargetRef) -> int:
    """Bytes of a file that have not arrived yet."""
    return max(0, ref.length - arrived(path, ref.length, ref.sha256))


def refusals(place: Path) -> Mapping[str, str]:
    """Code of the failure of every pack that failed here, by its SHA-256.

    A damaged file counts as none: then a pack is tried once more, and fails once more.
    """
    try:
        data = parse_json(read_file(place / REFUSED, MAX_REFUSED_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, NotReadable, TooLarge) as error:
        logger.warning("%s is damaged and counts as empty: %s", place / REFUSED, error)
        return {}
    if not isinstance(data, dict):
        logger.warning("%s is damaged and counts as empty", place / REFUSED)
        return {}
    return {str(key): str(value) for key, value in data.items()}


def forgive(place: Path) -> None:
    """Forget which packs failed here: they came anew, or the slot was put right."""
    durable.remove(place / REFUSED)


def refuse(place: Path, ref: DeltaRef, error: UpdaterError) -> None:
    """Remember that a pack failed, and delete it.

    Raises:
        LocalStoreFailed: If what lies there is not what was left, or the disk fails.
    """
    known = {**refusals(place), ref.sha256: error.code}
    # Who chooses what is fetched reads it, as another user.
    with durable.readable_by_all(), inside(place) as (below, name):
        below.ensure(name)
        below.replace(f"{name}/{REFUSED}", json.dumps(known, sort_keys=True).encode())
        with contextlib.suppress(FileNotFoundError):
            below.remove(f"{name}/{pack_place(place, ref).name}")
