"""Which address is which page, and which form does what: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ncen_updater.common.http_routes import Route
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


@dataclass(frozen=True)
class PageRoute(Route):
    """An address at which a page is.

    Attributes:
        page: Makes it.
    """

    page: Callable[[Asking], ShownPage | File | None]


@dataclass(frozen=True)
class FormRoute(Route):
    """An address to which a form is sent.

    Attributes:
        act: Carries it out; returns where that is seen and what there is to say.
    """

    act: Callable[[Asking], tuple[str, Text | None]]


ROUTES: tuple[PageRoute | FormRoute, ...] = (
    PageRoute("GET", "/", now.page),
    PageRoute("GET", "/upgrade", upgrade.page),
    PageRoute("GET", "/approve", approve.page),
    FormRoute("POST", "/approve", acts.approve),
    PageRoute("GET", "/dossier", approve.dossier),
    PageRoute("GET", "/live", live.page),
    PageRoute("GET", "/history", history.page),
    PageRoute("GET", "/history/{id}", history.change),
    PageRoute("GET", "/way-back", history.way_back),
    PageRoute("GET", "/proof", proof.page),
    PageRoute("GET", "/help", helping.page),
    PageRoute("GET", "/help/bundle", helping.bundle),
    PageRoute("GET", "/settings", settings.page),
    PageRoute("GET", "/orders/{number}", orders.page),
    FormRoute("POST", "/order", acts.order),
    FormRoute("POST", "/import", acts.import_),
    PageRoute("GET", "/hold", now.hold_page),
    FormRoute("POST", "/hold", acts.hold),
    FormRoute("POST", "/unhold", acts.unhold),
    FormRoute("POST", "/withdraw", acts.withdraw),
    FormRoute("POST", "/schedule", acts.schedule),
    FormRoute("POST", "/unschedule", acts.unschedule),
    FormRoute("POST", "/confirm", acts.confirm),
    FormRoute("POST", "/rollback", acts.rollback),
    FormRoute("POST", "/look", acts.look),
    FormRoute("POST", "/language", acts.language),
)
