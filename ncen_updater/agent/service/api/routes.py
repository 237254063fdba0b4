"""The table of what can be asked: address, method, who may, and what answers."""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.agent.service.api import actions, inspections, queries
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
from ncen_updater.common.http_routes import Route

STREAM = "/v1/events"


@dataclass(frozen=True)
class ApiRoute(Route):
    """One thing that can be asked.

    Attributes:
        handler: What answers; None for the stream and the description, which the application has.
        role: Who may ask.
        form: The body that it takes.
        query: Names that may stand behind the question mark.
        statuses: Statuses of success.
    """

    role: ApiRole
    handler: Handler | None = None
    form: type[Form] | None = None
    query: frozenset[str] = frozenset()
    statuses: tuple[int, ...] = (200,)

    @property
    def writes(self) -> bool:
        """Whether it leaves a record in the journal."""
        return self.method != "GET" and self.role is not ApiRole.READ


_ROWS = frozenset({"limit"})
_RELEASE = frozenset({"version"})
ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/status", ApiRole.READ, queries.status),
    ApiRoute("GET", "/v1/settings", ApiRole.READ, queries.settings),
    ApiRoute("GET", "/v1/rights/{role}", ApiRole.READ, queries.right),
    ApiRoute("GET", "/v1/outlook", ApiRole.READ, queries.outlook, query=_RELEASE | {"not_before"}),
    ApiRoute("GET", "/v1/holds", ApiRole.READ, queries.holds),
    ApiRoute("POST", "/v1/holds", ApiRole.OPERATE, actions.hold, HoldForm, statuses=(201,)),
    ApiRoute("DELETE", "/v1/holds", ApiRole.OPERATE, actions.unhold),
    ApiRoute("GET", "/v1/history", ApiRole.READ, queries.history, query=_ROWS | {"before"}),
    ApiRoute("GET", "/v1/history/{id}", ApiRole.READ, queries.change),
    ApiRoute("GET", "/v1/rehearsals", ApiRole.READ, queries.rehearsals, query=_ROWS),
    ApiRoute("GET", "/v1/approvals", ApiRole.READ, queries.approvals),
    ApiRoute(
        "POST", "/v1/approvals", ApiRole.APPROVE, actions.approve, ApprovalForm, statuses=(200, 201)
    ),
    ApiRoute(
        "DELETE", "/v1/approvals", ApiRole.APPROVE, actions.take_back, query=_RELEASE | {"of"}
    ),
    ApiRoute("DELETE", "/v1/approvals/{binding}", ApiRole.APPROVE, actions.withdraw),
    ApiRoute("PUT", "/v1/schedule", ApiRole.OPERATE, actions.schedule, ScheduleForm),
    ApiRoute("DELETE", "/v1/schedule", ApiRole.OPERATE, actions.cancel),
    ApiRoute("GET", "/v1/confirmation", ApiRole.READ, queries.confirmation),
    ApiRoute("POST", "/v1/confirmation", ApiRole.OPERATE, actions.confirm),
    ApiRoute("GET", "/v1/orders", ApiRole.READ, queries.orders, query=_ROWS),
    ApiRoute("POST", "/v1/orders", ApiRole.OPERATE, actions.give_order, OrderForm, statuses=(202,)),
    ApiRoute("GET", "/v1/orders/{number}", ApiRole.READ, queries.order),
    ApiRoute("GET", "/v1/tray", ApiRole.READ, queries.tray),
    ApiRoute("GET", "/v1/plan", ApiRole.READ, inspections.plan, query=_RELEASE),
    ApiRoute("GET", "/v1/notes", ApiRole.READ, inspections.notes, query=_RELEASE),
    ApiRoute("GET", "/v1/dossier", ApiRole.READ, inspections.dossier, query=_RELEASE | {"form"}),
    ApiRoute("GET", "/v1/way-back", ApiRole.READ, inspections.way_back),
    ApiRoute("GET", "/v1/findings", ApiRole.READ, inspections.findings),
    ApiRoute("GET", "/v1/proof", ApiRole.READ, inspections.proof, query=frozenset({"head"})),
    ApiRoute("GET", "/v1/agent", ApiRole.READ, inspections.agent),
    ApiRoute(
        "POST",
        "/v1/inspections",
        ApiRole.READ,
        inspections.order_inspection,
        InspectionForm,
        statuses=(202,),
    ),
    ApiRoute(
        "GET",
        "/v1/inspections/{number}",
        ApiRole.READ,
        inspections.inspection,
        query=frozenset({"wait"}),
    ),
    ApiRoute("GET", STREAM, ApiRole.READ, query=frozenset({"after"})),
    ApiRoute("GET", "/v1/openapi.json", ApiRole.READ),
)
