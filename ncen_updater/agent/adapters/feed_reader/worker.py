"""The process that talks to the network: asked by :mod:`.child`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.agent.adapters.feed_reader.site_feed import feed_of
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.messages import PRODUCT_NOT_IN_FEED
from ncen_updater.common.progress import Progress
from ncen_updater.common.workers import serve
from ncen_updater.feed.errors import TargetMissing, TrustError
from ncen_updater.feed.left_out_imports import leave_out
from ncen_updater.formats.tuf_names import AGENT_PRODUCT


def _work(config_path: Path, order: Mapping[str, object], progress: Progress) -> dict[str, object]:
    config = load_config(config_path)
    if order["act"] in ("import", "mirror"):
        from ncen_updater.agent.adapters.feed_reader.media import ACTS

        return {"report": ACTS[str(order["act"])](config, order, progress)}
    paths = config.paths
    product = str(order.get("product", config.site.product))
    if product not in (config.site.product, AGENT_PRODUCT):
        raise TrustError(PRODUCT_NOT_IN_FEED, product=product)
    source = feed_of(
        product,
        config.feed,
        state=paths.received_directory,
        trusted_root=paths.resolve(paths.trusted_root),
        zone=config.service.zone(),
    )
    if order["act"] == "refresh":
        source.refresh()
        return {}
    view = source.last_view()
    offers = [o for o in view.offers if o.version == order["version"]] if view else []
    if not offers:
        raise TargetMissing(name=order["version"])
    have = order.get("have")
    trees = [str(digest) for digest in have] if isinstance(have, list) else None
    source.leave(offers[0], trees, progress)
    return {}


def main() -> int:
    """Do one order; return the exit status."""
    leave_out()
    config = Path(sys.argv[1])
    # Bound to the agent: a download without a reader is nobody's.
    return serve(lambda order, progress: _work(config, order, progress))


if __name__ == "__main__":
    sys.exit(main())
