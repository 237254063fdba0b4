"""Our programs: the product's publisher, its delta pack, its client.

Tasks that run in processes of their own: ``make`` (the pack, verified) and ``update`` (signed
metadata and pack over HTTP, the new slot built and verified).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.transfer.measure import cost_of_this_process, hide_publisher

MANIFEST = """schema = 1
product = "{name}"
version = "{version}"
upgrade_from = ">=0"
[notes.en]
title = "{name} {version}"
text = "A release of a package index, for a measurement."
[notes.fr]
title = "{name} {version}"
text = "Une version d'un index de paquets, pour une mesure."
"""


def _now() -> datetime:
    return datetime.now(UTC)


def publish(order: dict[str, Any]) -> dict[str, object]:
    """Publish the old and the new release, the latter with a pack from the former.

    Args:
        order: ``name``, ``old`` and ``new`` (version and release directory with its manifest), and
            ``place`` (empty directory).
    """
    from ncen_updater.common.progress import SilentProgress
    from ncen_updater.publisher.build.delta_packs import DeltaPackBuilder
    from ncen_updater.publisher.build.release_build import build_release
    from ncen_updater.publisher.feed.feed_directory import FeedDirectory
    from ncen_updater.publisher.new.trial import create_feed, create_keys, publish_draft
    from ncen_updater.publisher.signing.draft import draft_releases

    place = Path(order["place"])
    keys = create_keys(place / "keys", "a long pass phrase")
    feed = FeedDirectory(place / "feed")
    create_feed(feed.directory, keys, _now, products=(order["name"],))
    packs: list[dict[str, object]] = []
    archive_bytes = 0
    maker = DeltaPackBuilder(feed, SilentProgress(), scratch=place)
    made = maker.build_packs
    spent = {"cpu_s": 0.0}

    def timed(*args: Any) -> Any:  # noqa: ANN401 - passed on
        before = cost_of_this_process().cpu_s
        result = made(*args)
        spent["cpu_s"] = cost_of_this_process().cpu_s - before
        return result

    maker.build_packs = timed  # type: ignore[method-assign,assignment] # only reads the clock
    for side in ("old", "new"):
        staging = place / f"staging-{side}"
        built = build_release(
            Path(order[side][1]), staging, deltas=maker if side == "new" else None
        )
        draft = draft_releases(feed.read_state(), staging, _now())
        publish_draft(feed.directory, draft, keys, _now, [staging])
        packs = [ref.model_dump() for ref in built.document.deltas]
        archive_bytes = built.document.archive.length
    (pack,) = packs
    whole = cost_of_this_process()
    return {
        "pack_bytes": pack["length"],
        "archive_bytes": archive_bytes,
        "cpu_s": round(spent["cpu_s"], 2),
        "peak_mb": round(whole.peak_mb, 1),
        "whole_cpu_s": round(whole.cpu_s, 2),
    }


def update(order: dict[str, Any]) -> dict[str, object]:
    """Download the signed metadata and the pack, and build the slot of the new release.

    Args:
        order: ``name``, ``old`` and ``new`` version, ``url``, ``place`` with ``root.json`` and
            ``slots`` (the slot of the old release, built).
    """
    hide_publisher()
    from ncen_updater.agent.engine.slot_builder import apply_delta_pack
    from ncen_updater.agent.storage.slots.store import SlotStore
    from ncen_updater.common.progress import SilentProgress
    from ncen_updater.feed.http_fetcher import HttpFetcher
    from ncen_updater.feed.offers import DownloadedPack
    from ncen_updater.feed.tuf_source import TufReleaseSource

    place = Path(order["place"])
    source = TufReleaseSource(
        order["name"],
        state=place / "state",
        trusted_root=place / "root.json",
        make_fetcher=lambda: HttpFetcher((order["url"],)),
    )
    store = SlotStore(place / "slots", place / "current")
    held = {store.read_document(version).tree_digest: version for version in store.list_versions()}
    (offer,) = [o for o in source.refresh().offers if o.version == order["new"]]
    fetched = source.download_smallest(offer, held, SilentProgress())
    if not isinstance(fetched, DownloadedPack):
        raise TypeError("our client did not choose the pack")
    apply_delta_pack(store, fetched, held, SilentProgress())
    source.close()
    return dict(cost_of_this_process().as_dict())


def install_old(order: dict[str, Any]) -> dict[str, object]:
    """Install the old release, as an earlier upgrade left it; not measured."""
    from ncen_updater.agent.storage.slots.store import SlotStore
    from ncen_updater.common.progress import SilentProgress
    from ncen_updater.feed.http_fetcher import HttpFetcher
    from ncen_updater.feed.tuf_source import TufReleaseSource

    place = Path(order["place"])
    source = TufReleaseSource(
        order["name"],
        state=place / "state-before",
        trusted_root=place / "root.json",
        make_fetcher=lambda: HttpFetcher((order["url"],)),
    )
    store = SlotStore(place / "slots", place / "current")
    (offer,) = [o for o in source.refresh().offers if o.version == order["old"]]
    got = source.download_release(offer, SilentProgress())
    store.build_slot(got.document, got.tree, got.archive, SilentProgress())
    store.switch_current(offer.release_version)
    source.discard_release(offer)
    return {}


def verify(order: dict[str, Any]) -> dict[str, object]:
    """Hash every file of the new slot once more; not measured."""
    from packaging.version import Version

    from ncen_updater.agent.storage.slots.store import SlotStore

    place = Path(order["place"])
    found = SlotStore(place / "slots", place / "current").verify_slot(Version(order["new"]))
    return {"differences": [str(item) for item in found]}


TASKS = {"publish": publish, "install_old": install_old, "update": update, "verify": verify}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(TASKS[sys.argv[1]](json.loads(sys.argv[2]))) + "\n")
