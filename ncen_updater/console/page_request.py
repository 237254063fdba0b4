"""Request of a page: the person, the parameters, and the service that answers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING
from urllib.parse import quote

from ncen_updater.console.service_client import Document, ServiceClient, ServiceRefusedError
from ncen_updater.console.sessions import BrowserSession

if TYPE_CHECKING:
    from ncen_updater.common.i18n import LazyText
    from ncen_updater.console.inspection_poller import (
        EventFollower,
        InspectionPoller,
        InspectionState,
    )


@dataclass(frozen=True)
class PageContent:
    """A page: its template and what that shows.

    Attributes:
        template: Of the template, and of the page.
        values: What the template shows, by name.
        state: ``ready``, ``empty``, ``loading``, ``refused``, ``stale`` or ``broken``.
        status: Of HTTP.
        refresh_s: After so long a browser without scripts looks again; 0 for never.
    """

    template: str
    values: Mapping[str, object] = field(default_factory=dict)
    state: str = "ready"
    status: int = 200
    refresh_s: int = 0


@dataclass(frozen=True)
class PageRequest:
    """One request of a session.

    Attributes:
        session: Of the browser.
        zone: The zone of the site; None for that of the machine.
        path_parameters: Parts of the address.
        query: What stands behind the question mark.
        form: What was sent.
        origin: The address of the browser; empty where that is not known.
    """

    session: BrowserSession
    zone: tzinfo | None = None
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    @property
    def service(self) -> ServiceClient:
        """That is asked, as the person."""
        return self.session.user_context.service

    @property
    def inspections(self) -> InspectionPoller:
        """Return what was looked at for the person."""
        return self.session.user_context.inspections

    @property
    def event_follower(self) -> EventFollower:
        """Return what goes on."""
        return self.session.user_context.event_follower

    @property
    def language(self) -> str:
        """Of everything that is shown."""
        return self.session.language

    @property
    def now(self) -> datetime:
        """Return the time."""
        return self.service.now()

    def get_document(self, address: str) -> Document:
        """Ask the service."""
        return self.service.get(address, self.language)

    def get_status(self) -> Document:
        """Ask how the site is."""
        return self.service.get_status(self.language)

    def call_service(
        self, method: str, address: str, body: Mapping[str, object] | None = None
    ) -> Document:
        """Have the service change something."""
        return self.service.call(method, address, self.language, body)

    def call_with_password(
        self, method: str, address: str, body: Document | None = None
    ) -> Document:
        """Have the service do what the person answers for, with their password if it takes one."""
        secret = self.form.get("secret", "")
        return self.service.call_with_password(
            method, address, self.language, body, secret, self.origin
        )

    def find_missing_role(self, role: str) -> dict[str, str] | None:
        """Return None for who has a right, else the words that say who has."""
        try:
            self.get_document(f"/v1/rights/{quote(role, safe='')}")
        except ServiceRefusedError as refused:
            return refused.error
        return None

    def inspect(self, kind: str, revision: str, **data: object) -> InspectionState:
        """Return what an inspection found, which is begun if there is none of this mark."""
        return self.inspections.inspect(kind, revision, {**data, "language": self.language})

    def get_notice(self) -> LazyText | None:
        """Return the notice about the form that was submitted before this page."""
        return self.session.form_tokens.get_notice(self.query.get("done", ""))
