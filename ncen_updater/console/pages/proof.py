"""*Proof*: whether the journal is whole, and what is there is what was recorded; who did what."""

from __future__ import annotations

from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.pages.orders import KINDS

LISTED = 30


def page(asking: Asking) -> ShownPage:
    """What can be proved."""
    status = asking.status()
    journal = status["journal"]
    mark = f"{journal.get('head')}"
    chain = asking.look("proof", mark)
    # Everything takes longer, and is looked at where somebody asks for it.
    wanted = asking.query.get("look") == "verify"
    whole = asking.look("verify", mark) if wanted else None
    both = [one for one in (chain, whole) if one is not None]
    loading = any(one.loading for one in both)
    return ShownPage(
        "proof",
        {
            "status": status,
            "chain": chain,
            "whole": whole,
            "kinds": KINDS,
            "orders": asking.get(f"/v1/orders?limit={LISTED}")["orders"],
        },
        "loading" if loading else "stale" if any(one.stale for one in both) else "ready",
        again_s=2 if loading else 0,
    )
