"""Worker process that uses the network; :mod:`.worker_source` starts it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source
from ncen_updater.agent.config.loader import load_config
from ncen_updater.common.messages import PRODUCT_NOT_IN_FEED
from ncen_updater.common.progress import ProgressListener
from ncen_updater.common.workers import serve_request
from ncen_updater.feed import prepare_process
from ncen_updater.feed.errors import TargetMissingError, TrustError
from ncen_updater.formats.target_names import AGENT_PRODUCT


def _handle_request(
    config_path: Path, request: Mapping[str, object], progress: ProgressListener
) -> dict[str, object]:
    config = load_config(config_path)
    if request["act"] in ("import", "mirror"):
        from ncen_updater.agent.adapters.feed_reader.import_and_mirror import HANDLERS

        return {"report": HANDLERS[str(request["act"])](config, request, progress)}
    paths = config.paths
    product = str(request.get("product", config.site.product))
    if product not in (config.site.product, AGENT_PRODUCT):
        raise TrustError(PRODUCT_NOT_IN_FEED, product=product)
    source = make_release_source(
        product,
        config.feed,
        state=paths.feed_state_directory,
        trusted_root=paths.resolve(paths.trusted_root),
        zone=config.service.get_timezone(),
    )
    if request["act"] == "refresh":
        source.refresh()
        return {}
    view = source.load_last_view()
    offers = [o for o in view.offers if o.version == request["version"]] if view else []
    if not offers:
        raise TargetMissingError(name=request["version"])
    installed = request.get("installed_trees")
    trees = [str(digest) for digest in installed] if isinstance(installed, list) else None
    source.download_files(offers[0], trees, progress)
    return {}


def main() -> int:
    """Handle one request; return the exit status."""
    prepare_process()
    config = Path(sys.argv[1])
    # Ends with the agent: a download is of no use without the agent that requested it.
    return serve_request(lambda request, progress: _handle_request(config, request, progress))


if __name__ == "__main__":
    sys.exit(main())
