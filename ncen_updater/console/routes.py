"""Which address is which page, and which form does what: one table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ncen_updater.common.i18n import Text
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.pages import (
    acts,
    approve,
    helping,
    history,
    live,
    now,
    orders,
    proof,
    settings,
    upgrade,
)
from ncen_updater.console.pages.files import File

#: Parts of an address.
PARTS = {"id": r"[a-z2-7]{8}", "number": r"[1-9][0-9]{0,17}"}


@dataclass(frozen=True)
class PageRoute:
    """One address.

    Attributes:
        address: With its parts in braces.
        page: Makes the page, where it is one.
        act: Carries out a form; returns where that is seen and what there is to say.
    """

    address: str
    page: Callable[[Asking], ShownPage | File] | None = None
    act: Callable[[Asking], tuple[str, Text | None]] | None = None

    def names(self, path: str) -> dict[str, str] | None:
        """Return the parts of an address that fits, None if it does not."""
        pattern = re.sub(
            r"\\{([a-z]+)\\}", lambda m: f"(?P<{m[1]}>{PARTS[m[1]]})", re.escape(self.address)
        )
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


ROUTES = (
    PageRoute("/", now.page),
    PageRoute("/upgrade", upgrade.page),
    PageRoute("/approve", approve.page, acts.approve),
    PageRoute("/dossier", approve.dossier),
    PageRoute("/live", live.page),
    PageRoute("/history", history.page),
    PageRoute("/history/{id}", history.change),
    PageRoute("/way-back", history.way_back),
    PageRoute("/proof", proof.page),
    PageRoute("/help", helping.page),
    PageRoute("/help/bundle", helping.bundle),
    PageRoute("/settings", settings.page),
    PageRoute("/orders/{number}", orders.page),
    PageRoute("/order", act=acts.order),
    PageRoute("/import", act=acts.import_),
    PageRoute("/hold", now.hold_page, acts.hold),
    PageRoute("/unhold", act=acts.unhold),
    PageRoute("/withdraw", act=acts.withdraw),
    PageRoute("/schedule", act=acts.schedule),
    PageRoute("/unschedule", act=acts.unschedule),
    PageRoute("/confirm", act=acts.confirm),
    PageRoute("/rollback", act=acts.rollback),
    PageRoute("/look", act=acts.look),
    PageRoute("/language", act=acts.language),
)


def find(method: str, path: str) -> tuple[PageRoute, dict[str, str]] | None:
    """Return what an address is for a method, and its parts; None where it is nothing."""
    for route in ROUTES:
        names = route.names(path)
        wanted = route.page if method == "GET" else route.act
        if names is not None and wanted is not None:
            return route, names
    return None
