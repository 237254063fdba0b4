"""One order: its number, what became of it, and what it said."""

from __future__ import annotations

from ncen_updater.console.asking import Asking, ShownPage

__all__ = ["page"]


def page(asking: Asking) -> ShownPage:
    """One order."""
    asking.status()
    order = asking.get(f"/v1/orders/{asking.names['number']}")
    result = order["result"]
    document = (result or {}).get("document") or {}
    ended = order["ended_at"] is not None
    return ShownPage(
        "order",
        {
            "order": order,
            "ended": ended,
            "words": [str(line) for line in document.get("words") or ()],
            "error": document.get("error"),
            "torn": bool((result or {}).get("torn")),
        },
        "ready" if ended else "loading",
        again_s=0 if ended else 3,
    )
