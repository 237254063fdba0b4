"""Table of routes: method, path, required role and handler."""

from __future__ import annotations

from dataclasses import dataclass

from ncen_updater.agent.service.api import actions, inspections, queries
from ncen_updater.agent.service.api.authorization import ApiRole
from ncen_updater.agent.service.api.forms import (
    ApiForm,
    ApprovalForm,
    HoldForm,
    JobForm,
    ReceiptLevelForm,
    RejectionForm,
    ScheduleForm,
)
from ncen_updater.agent.service.api.queries import Handler
from ncen_updater.agent.service.inspections import InspectionForm
from ncen_updater.common.http_server import Route

EVENTS_PATH = "/v1/events"


@dataclass(frozen=True)
class ApiRoute(Route):
    """Route of the API.

    Attributes:
        role: Required role.
        handler: Builds the response; None for the event stream.
        form: Type of the body.
        query: Accepted query parameters.
        statuses: Statuses of success.
    """

    role: ApiRole
    handler: Handler | None = None
    form: type[ApiForm] | None = None
    query: frozenset[str] = frozenset()
    statuses: tuple[int, ...] = (200,)

    @property
    def writes(self) -> bool:
        """Return whether the request writes to the journal."""
        return self.method != "GET" and self.role is not ApiRole.READ


_LIMIT_QUERY = frozenset({"limit"})
_VERSION_QUERY = frozenset({"version"})
ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/status", ApiRole.READ, queries.get_status),
    ApiRoute("GET", "/v1/settings", ApiRole.READ, queries.get_settings),
    ApiRoute("GET", "/v1/rights/{role}", ApiRole.READ, queries.check_role),
    ApiRoute(
        "GET",
        "/v1/next-upgrade",
        ApiRole.READ,
        queries.get_next_upgrade,
        query=_VERSION_QUERY,
    ),
    ApiRoute("POST", "/v1/holds", ApiRole.OPERATE, actions.hold, HoldForm, statuses=(201,)),
    ApiRoute("DELETE", "/v1/holds", ApiRole.OPERATE, actions.unhold),
    ApiRoute(
        "GET", "/v1/history", ApiRole.READ, queries.get_history, query=_LIMIT_QUERY | {"before"}
    ),
    ApiRoute("GET", "/v1/history/{id}", ApiRole.READ, queries.get_change),
    ApiRoute(
        "POST", "/v1/approvals", ApiRole.APPROVE, actions.approve, ApprovalForm, statuses=(200, 201)
    ),
    ApiRoute(
        "DELETE",
        "/v1/approvals",
        ApiRole.APPROVE,
        actions.withdraw_approvals,
        query=_VERSION_QUERY | {"change_kind"},
    ),
    ApiRoute(
        "POST", "/v1/rejections", ApiRole.APPROVE, actions.reject, RejectionForm, statuses=(201,)
    ),
    ApiRoute("PUT", "/v1/schedule", ApiRole.OPERATE, actions.schedule, ScheduleForm),
    ApiRoute("DELETE", "/v1/schedule", ApiRole.OPERATE, actions.cancel_schedule),
    ApiRoute("POST", "/v1/confirmation", ApiRole.OPERATE, actions.confirm_release),
    ApiRoute("GET", "/v1/jobs", ApiRole.READ, queries.list_jobs, query=_LIMIT_QUERY),
    ApiRoute("POST", "/v1/jobs", ApiRole.OPERATE, actions.create_job, JobForm, statuses=(202,)),
    ApiRoute("GET", "/v1/jobs/{number}", ApiRole.READ, queries.get_job),
    ApiRoute("GET", "/v1/inbox", ApiRole.READ, queries.list_inbox),
    ApiRoute("GET", "/v1/receipts", ApiRole.READ, queries.get_receipt_state),
    ApiRoute("PUT", "/v1/receipts", ApiRole.APPROVE, actions.set_receipt_level, ReceiptLevelForm),
    ApiRoute("GET", "/v1/notes", ApiRole.READ, inspections.get_release_notes, query=_VERSION_QUERY),
    ApiRoute("GET", "/v1/agent", ApiRole.READ, inspections.get_agent),
    ApiRoute(
        "POST",
        "/v1/inspections",
        ApiRole.READ,
        inspections.start_inspection,
        InspectionForm,
        statuses=(202,),
    ),
    ApiRoute(
        "GET",
        "/v1/inspections/{number}",
        ApiRole.READ,
        inspections.get_inspection,
        query=frozenset({"wait"}),
    ),
    ApiRoute("GET", EVENTS_PATH, ApiRole.READ, query=frozenset({"after"})),
    ApiRoute("GET", "/v1/openapi.json", ApiRole.READ, queries.get_openapi_document),
)
