"""The table of what can be asked: address, method, who may, and what answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ncen_updater.agent.service.api import actions, inspections, queries, site_settings
from ncen_updater.agent.service.api.forms import (
    ApprovalForm,
    Form,
    HoldForm,
    InspectionForm,
    OrderForm,
    ScheduleForm,
)
from ncen_updater.agent.service.api.people import ApiRole
from ncen_updater.agent.service.api.queries import Handler
from ncen_updater.agent.service.errors import MethodNotAllowed, NoSuchThing

#: What stands in braces in an address.
PARTS: Mapping[str, str] = {
    "id": r"[a-z2-7]{8}",
    "number": r"[1-9][0-9]{0,17}",
    "binding": r"[0-9a-f]{64}",
    "role": "read|operate|approve",
}
STREAM = "/v1/events"


@dataclass(frozen=True)
class Route:
    """One thing that can be asked.

    Attributes:
        handler: What answers; None for the stream and the description, which the application has.
        role: Who may ask.
        form: The body that it takes.
        query: Names that may stand behind the question mark.
        statuses: Statuses of success.
    """

    method: str
    address: str
    role: ApiRole
    handler: Handler | None = None
    form: type[Form] | None = None
    query: frozenset[str] = frozenset()
    statuses: tuple[int, ...] = (200,)

    @property
    def writes(self) -> bool:
        """Whether it leaves a record in the journal."""
        return self.method != "GET" and self.role is not ApiRole.READ

    def names(self, path: str) -> dict[str, str] | None:
        """Return the parts of an address that fits, None if it does not."""
        found = re.fullmatch(_pattern(self.address), path)
        return found.groupdict() if found else None


def _pattern(address: str) -> str:
    return re.sub(r"\\{([a-z]+)\\}", lambda m: f"(?P<{m[1]}>{PARTS[m[1]]})", re.escape(address))


_ROWS = frozenset({"limit"})
_RELEASE = frozenset({"version"})
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", ApiRole.READ, queries.status),
    Route("GET", "/v1/settings", ApiRole.READ, site_settings.settings),
    Route("GET", "/v1/rights/{role}", ApiRole.READ, queries.right),
    Route("GET", "/v1/outlook", ApiRole.READ, queries.outlook, query=_RELEASE | {"not_before"}),
    Route("GET", "/v1/holds", ApiRole.READ, queries.holds),
    Route("POST", "/v1/holds", ApiRole.OPERATE, actions.hold, HoldForm, statuses=(201,)),
    Route("DELETE", "/v1/holds", ApiRole.OPERATE, actions.unhold),
    Route("GET", "/v1/history", ApiRole.READ, queries.history, query=_ROWS | {"before"}),
    Route("GET", "/v1/history/{id}", ApiRole.READ, queries.change),
    Route("GET", "/v1/rehearsals", ApiRole.READ, queries.rehearsals, query=_ROWS),
    Route("GET", "/v1/approvals", ApiRole.READ, queries.approvals),
    Route(
        "POST", "/v1/approvals", ApiRole.APPROVE, actions.approve, ApprovalForm, statuses=(200, 201)
    ),
    Route("DELETE", "/v1/approvals", ApiRole.APPROVE, actions.take_back, query=_RELEASE | {"of"}),
    Route("DELETE", "/v1/approvals/{binding}", ApiRole.APPROVE, actions.withdraw),
    Route("PUT", "/v1/schedule", ApiRole.OPERATE, actions.schedule, ScheduleForm),
    Route("DELETE", "/v1/schedule", ApiRole.OPERATE, actions.cancel),
    Route("GET", "/v1/confirmation", ApiRole.READ, queries.confirmation),
    Route("POST", "/v1/confirmation", ApiRole.OPERATE, actions.confirm),
    Route("GET", "/v1/orders", ApiRole.READ, queries.orders, query=_ROWS),
    Route("POST", "/v1/orders", ApiRole.OPERATE, actions.give_order, OrderForm, statuses=(202,)),
    Route("GET", "/v1/orders/{number}", ApiRole.READ, queries.order),
    Route("GET", "/v1/tray", ApiRole.READ, queries.tray),
    Route("GET", "/v1/plan", ApiRole.READ, inspections.plan, query=_RELEASE),
    Route("GET", "/v1/notes", ApiRole.READ, inspections.notes, query=_RELEASE),
    Route("GET", "/v1/dossier", ApiRole.READ, inspections.dossier, query=_RELEASE | {"form"}),
    Route("GET", "/v1/way-back", ApiRole.READ, inspections.way_back),
    Route("GET", "/v1/findings", ApiRole.READ, inspections.findings),
    Route("GET", "/v1/proof", ApiRole.READ, inspections.proof, query=frozenset({"head"})),
    Route("GET", "/v1/agent", ApiRole.READ, inspections.agent),
    Route(
        "POST",
        "/v1/inspections",
        ApiRole.READ,
        inspections.order_inspection,
        InspectionForm,
        statuses=(202,),
    ),
    Route(
        "GET",
        "/v1/inspections/{number}",
        ApiRole.READ,
        inspections.inspection,
        query=frozenset({"wait"}),
    ),
    Route("GET", STREAM, ApiRole.READ, query=frozenset({"after"})),
    Route("GET", "/v1/openapi.json", ApiRole.READ),
)


def match(
    method: str, path: str, routes: tuple[Route, ...] = ROUTES
) -> tuple[Route, dict[str, str]]:
    """Return what a request asks for, and the parts of its address.

    Raises:
        NoSuchThing: If nothing is at this address.
        MethodNotAllowed: If the address does not take this method.
    """
    there: dict[str, tuple[Route, dict[str, str]]] = dict(_at(path, routes))
    if not there:
        raise NoSuchThing(path=path[:200])
    if method not in there:
        raise MethodNotAllowed(path=path[:200], allowed=", ".join(there))
    return there[method]


def _at(path: str, routes: tuple[Route, ...]) -> Iterator[tuple[str, tuple[Route, dict[str, str]]]]:
    for route in routes:
        names = route.names(path)
        if names is not None:
            yield route.method, (route, names)
