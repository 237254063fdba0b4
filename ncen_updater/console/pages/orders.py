"""One order: its number, what became of it, and what it said."""

from __future__ import annotations

from collections.abc import Mapping

from ncen_updater.common.i18n import N_
from ncen_updater.console.asking import Asking, ShownPage

__all__ = ["KINDS", "page"]

#: Orders as people see them.
KINDS: Mapping[str, str] = {
    "check": N_("asking the feed"),
    "prepare": N_("preparing the release"),
    "rehearse": N_("rehearsal"),
    "upgrade": N_("upgrade"),
    "rollback": N_("going back"),
    "resume": N_("going on after a cut"),
    "confirm": N_("end of the watching"),
    "self-update": N_("renewing the agent"),
    "import": N_("import of a bundle"),
}


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
            "kind": KINDS.get(order["kind"], order["kind"]),
            "ended": ended,
            "words": [str(line) for line in document.get("words") or ()],
            "error": document.get("error"),
            "torn": bool((result or {}).get("torn")),
        },
        "ready" if ended else "loading",
        again_s=0 if ended else 3,
    )
