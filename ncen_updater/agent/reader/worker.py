"""The process that talks to the network: one order on stdin, JSON lines on stdout.

Started by :mod:`ncen_updater.agent.reader.child`, or by systemd for each connection to a socket.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.reader.child import error_to_json
from ncen_updater.agent.reader.connecting import feed_of
from ncen_updater.agent.reader.unit import end_with_asker, is_connection
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import Text
from ncen_updater.feed.errors import ProductNotInFeed, TargetMissing
from ncen_updater.formats.tuf_names import AGENT_PRODUCT

__all__ = ["main"]

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
MAX_ORDER = 10_000_000


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class _Teller:
    def tell(self, what: Text, done: int | None = None, total: int | None = None) -> None:
        values = {key: str(value) for key, value in what.values.items()}
        _say({"tell": what.template, "values": values, "at": done, "total": total})


def _work(config_path: Path, order: dict[str, object]) -> None:
    config = load_config(config_path)
    if order["act"] in ("import", "mirror"):
        from ncen_updater.agent.reader.media import ACTS

        _say({"report": ACTS[str(order["act"])](config, order, _Teller())})
        return
    paths = config.paths
    product = str(order.get("product", config.site.product))
    if product not in (config.site.product, AGENT_PRODUCT):
        raise ProductNotInFeed(product=product)
    source = feed_of(
        product,
        config.feed,
        state=paths.received_directory,
        trusted_root=paths.resolve(paths.trusted_root),
        zone=config.service.zone(),
    )
    if order["act"] == "refresh":
        source.refresh()
        return
    view = source.last_view()
    offers = [o for o in view.offers if o.version == order["version"]] if view else []
    if not offers:
        raise TargetMissing(name=order["version"])
    have = order.get("have")
    trees = [str(digest) for digest in have] if isinstance(have, list) else None
    source.leave(offers[0], trees, _Teller())


def main() -> int:
    """Do one order; return the exit status."""
    # Die with the agent: a download without a reader is nobody's.
    by_unit = is_connection(0)
    if not by_unit:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            return 1
    try:
        order = json.loads(sys.stdin.readline(MAX_ORDER))
        if by_unit:
            end_with_asker(0)
        _work(Path(sys.argv[1]), order)
    except UpdaterError as error:
        _say({"error": error_to_json(error)})
        return 1
    _say({"done": True})
    return 0


if __name__ == "__main__":
    sys.exit(main())
