"""Page requests and page contents; a request gives access to the service as its user."""

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
    """Template of a page and the values it renders.

    Attributes:
        template: Name of the template, without ``.html``; also the name of the page.
        values: Template variables by name.
        state: ``ready``, ``empty``, ``loading``, ``refused``, ``stale`` or ``broken``.
        status: HTTP status.
        refresh_s: Refresh interval for browsers without scripts, in seconds; 0 for never.
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
        session: The browser session.
        zone: Time zone of the site; None for the machine's time zone.
        path_parameters: Parameters in the path.
        query: Query parameters.
        form: Fields of the posted form.
        origin: Client address of the browser; empty if unknown.
    """

    session: BrowserSession
    zone: tzinfo | None = None
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    @property
    def service(self) -> ServiceClient:
        """Return the client of the service, which acts as the user."""
        return self.session.user_context.service

    @property
    def inspections(self) -> InspectionPoller:
        """Return the user's inspections."""
        return self.session.user_context.inspections

    @property
    def event_follower(self) -> EventFollower:
        """Return the user's follower of the event stream."""
        return self.session.user_context.event_follower

    @property
    def language(self) -> str:
        """Return the language of the page."""
        return self.session.language

    @property
    def now(self) -> datetime:
        """Return the current time."""
        return self.service.now()

    def get_document(self, address: str) -> Document:
        """GET a document from the service."""
        return self.service.get(address, self.language)

    def get_status(self) -> Document:
        """GET the status of the site."""
        return self.service.get_status(self.language)

    def call_service(self, method: str, address: str, body: Mapping[str, object]) -> Document:
        """Send a request to the service that changes something."""
        return self.service.call(method, address, self.language, body)

    def call_with_password(
        self, method: str, address: str, body: Document | None = None
    ) -> Document:
        """Send a request that needs the user's password, if the login method uses passwords."""
        secret = self.form.get("secret", "")
        return self.service.call_with_password(
            method, address, self.language, body, secret, self.origin
        )

    def find_missing_role(self, role: str) -> dict[str, str] | None:
        """Return the service's error if the user lacks a role; None if the user has it."""
        try:
            self.get_document(f"/v1/rights/{quote(role, safe='')}")
        except ServiceRefusedError as refused:
            return refused.error
        return None

    def inspect(self, kind: str, revision: str, **data: object) -> InspectionState:
        """Return the inspection of this revision; start it if it is not cached."""
        return self.inspections.inspect(kind, revision, {**data, "language": self.language})

    def get_notice(self) -> LazyText | None:
        """Return the notice about the form that was submitted before this page."""
        return self.session.form_tokens.get_notice(self.query.get("done", ""))
