"""Which address is which page, and which form does what: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ncen_updater.common.http_routes import Route
from ncen_updater.common.i18n import LazyText
from ncen_updater.console.asking import PageContent, PageRequest
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
from ncen_updater.console.pages.files import FileResponse


@dataclass(frozen=True)
class PageRoute(Route):
    """An address at which a page is.

    Attributes:
        page: Makes it.
    """

    build_page: Callable[[PageRequest], PageContent | FileResponse | None]


@dataclass(frozen=True)
class FormRoute(Route):
    """An address to which a form is sent.

    Attributes:
        act: Carries it out; returns where that is seen and what there is to say.
    """

    act: Callable[[PageRequest], tuple[str, LazyText | None]]


ROUTES: tuple[PageRoute | FormRoute, ...] = (
    PageRoute("GET", "/", now.build_page),
    PageRoute("GET", "/upgrade", upgrade.build_page),
    PageRoute("GET", "/approve", approve.build_page),
    FormRoute("POST", "/approve", acts.approve),
    PageRoute("GET", "/dossier", approve.get_dossier_file),
    PageRoute("GET", "/live", live.build_page),
    PageRoute("GET", "/history", history.build_page),
    PageRoute("GET", "/history/{id}", history.build_change_page),
    PageRoute("GET", "/rollback-plan", history.build_rollback_page),
    PageRoute("GET", "/audit-log", proof.build_page),
    PageRoute("GET", "/help", helping.build_page),
    PageRoute("GET", "/help/bundle", helping.get_bundle_file),
    PageRoute("GET", "/settings", settings.build_page),
    PageRoute("GET", "/orders/{number}", orders.build_page),
    FormRoute("POST", "/order", acts.submit_job),
    FormRoute("POST", "/import", acts.import_bundle),
    PageRoute("GET", "/hold", now.build_hold_page),
    FormRoute("POST", "/hold", acts.hold),
    FormRoute("POST", "/unhold", acts.unhold),
    FormRoute("POST", "/withdraw", acts.withdraw_approval),
    FormRoute("POST", "/schedule", acts.schedule),
    FormRoute("POST", "/unschedule", acts.cancel_schedule),
    FormRoute("POST", "/confirm", acts.confirm_release),
    FormRoute("POST", "/rollback", acts.start_rollback),
    FormRoute("POST", "/look", acts.refresh_inspection),
    FormRoute("POST", "/language", acts.set_language),
)
