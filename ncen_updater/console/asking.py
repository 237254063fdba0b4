"""What a page is given: who looks, what is asked for, and the service that answers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING
from urllib.parse import quote

from ncen_updater.console.service import Document, ServiceRefusal, SiteService
from ncen_updater.console.sessions import BrowserSession

if TYPE_CHECKING:
    from ncen_updater.common.i18n import Text
    from ncen_updater.console.following import Following
    from ncen_updater.console.looking import Looked, Looking


@dataclass(frozen=True)
class ShownPage:
    """A page: its template and what that shows.

    Attributes:
        name: Of the template, and of the page.
        values: What the template shows, by name.
        state: ``ready``, ``empty``, ``loading``, ``refused``, ``stale`` or ``broken``.
        status: Of HTTP.
        again_s: After so long a browser without scripts looks again; 0 for never.
    """

    name: str
    values: Mapping[str, object] = field(default_factory=dict)
    state: str = "ready"
    status: int = 200
    again_s: int = 0


@dataclass(frozen=True)
class Asking:
    """One request of a session.

    Attributes:
        session: Of the browser.
        zone: The zone of the site; None for that of the machine.
        names: Parts of the address.
        query: What stands behind the question mark.
        form: What was sent.
        origin: The address of the browser; empty where that is not known.
    """

    session: BrowserSession
    zone: tzinfo | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    @property
    def service(self) -> SiteService:
        """That is asked, as the person."""
        return self.session.inside.service

    @property
    def looking(self) -> Looking:
        """What was looked at for the person."""
        return self.session.inside.looking

    @property
    def following(self) -> Following:
        """What goes on."""
        return self.session.inside.following

    @property
    def language(self) -> str:
        """Of everything that is shown."""
        return self.session.language

    @property
    def now(self) -> datetime:
        """The time."""
        return self.service.now()

    def get(self, address: str) -> Document:
        """Ask the service."""
        return self.service.get(address, self.language)

    def status(self) -> Document:
        """Ask how the site is."""
        return self.service.status(self.language)

    def call(self, method: str, address: str, body: Mapping[str, object] | None = None) -> Document:
        """Have the service change something."""
        return self.service.call(method, address, self.language, body)

    def decide(self, method: str, address: str, body: Document | None = None) -> Document:
        """Have the service do what the person answers for, with their password if it takes one."""
        secret = self.form.get("secret", "")
        return self.service.decide(method, address, self.language, body, secret, self.origin)

    def may(self, role: str) -> dict[str, str] | None:
        """Return None for who has a right, else the words that say who has."""
        try:
            self.get(f"/v1/rights/{quote(role, safe='')}")
        except ServiceRefusal as refused:
            return refused.error
        return None

    def look(self, kind: str, mark: str, **data: object) -> Looked:
        """Return what an inspection found, which is begun if there is none of this mark."""
        return self.looking.look(kind, mark, {**data, "language": self.language})

    def said(self) -> Text | None:
        """What there is to say of the form that led here."""
        return self.session.acts.said(self.query.get("done", ""))
