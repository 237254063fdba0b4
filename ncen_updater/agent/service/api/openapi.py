"""The description of the interface: OpenAPI 3.1, made of the table of routes and of the forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from ncen_updater.agent.service.api.forms import MAX_NUMBER, ApprovalForm, HoldForm, OrderForm
from ncen_updater.agent.service.api.forms import ScheduleForm as Schedule
from ncen_updater.agent.service.api.reading import MAX_ROWS
from ncen_updater.agent.service.api.routes import PARTS, ROUTES, STREAM, Route

__all__ = ["description"]

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object"}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _object(*open_to_more: bool, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": any(open_to_more),
    }


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


CHANGE = {
    "id": TEXT, "kind": TEXT, "mode": TEXT, "state": TEXT, "product": TEXT, "from": TEXT,
    "to": TEXT, "strategy": TEXT, "created_at": TIME, "ended_at": _or_null(TIME),
    "stop_s": _or_null({"type": "number"}), "error_code": _or_null(TEXT), "attempts": NUMBER,
}  # fmt: skip
ORDER = {
    "id": NUMBER, "kind": TEXT, "data": ANYTHING, "who": TEXT, "uid": NUMBER, "at": TIME,
    "taken_at": _or_null(TIME), "ended_at": _or_null(TIME),
}  # fmt: skip
SCHEMAS: Mapping[str, Schema] = {
    "Error": _object(
        error=_object(
            code={"type": "string", "pattern": "^NU-[0-9]{4}$"}, what=TEXT, state=TEXT,
            remedy=TEXT, detail=_or_null(TEXT), values=ANYTHING, exit_code=NUMBER,
        )
    ),
    "Change": _object(**CHANGE),
    "ChangeReport": _object(
        **CHANGE, steps=_list(ANYTHING), facts=ANYTHING, events=_list(ANYTHING)
    ),
    "Beginning": _object(
        when=TEXT, at=_or_null(TIME), stays=_or_null(TEXT), missing=NUMBER
    ),
    "Hold": _object(id=NUMBER, reason=TEXT, by=TEXT, since=TIME, until=_or_null(TIME)),
    "Order": _object(**ORDER),
    "Rehearsal": _object(
        **{
            "id": TEXT, "from": TEXT, "to": TEXT, "state": TEXT, "started_at": TIME,
            "ended_at": _or_null(TIME), "error_code": _or_null(TEXT),
            "report": _or_null(ANYTHING),
        }
    ),
    "Moment": _object(
        mode=TEXT, action=_or_null(TEXT), why=_or_null(TEXT),
        running=_or_null(
            _object(words=_list(TEXT), since=TIME, progress=_or_null(ANYTHING))
        ),
        failures=_list(_object(action=TEXT, times=NUMBER, at=TIME, again_at=TIME)),
    ),
}  # fmt: skip
#: What a success answers with, by method and address.
ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("GET", "/v1/status"): _object(
        site=TEXT, country=TEXT, product=TEXT, at=TIME, running=ANYTHING, journal=ANYTHING,
        feed=_or_null(ANYTHING), service=_named("Moment"),
        you=_object(who=TEXT, uid=NUMBER, roles=_list(TEXT)),
    ),
    ("GET", "/v1/outlook"): _object(
        up_to_date=FLAG, checked_at=_or_null(TIME), next_check=_or_null(TIME),
        current=_or_null(TEXT), target=_or_null(TEXT), agent=_or_null(TEXT), prepared=FLAG,
        rehearsed=_or_null(TEXT), plan=_or_null(TEXT), binding=_or_null(TEXT),
        bad_until=_or_null(TIME), voids=_list(TEXT),
        approvals=_list(_object(who=TEXT, uid=NUMBER, at=TIME)), needed=NUMBER, missing=NUMBER,
        scheduled=_or_null(_object(not_before=TIME, who=TEXT)),
        rehearsal=_or_null(_named("Rehearsal")),
        begins=_named("Beginning"), begins_after_yes=_named("Beginning"),
    ),
    ("GET", "/v1/holds"): _object(holds=_list(_named("Hold"))),
    ("POST", "/v1/holds"): _object(held=FLAG, reason=TEXT, by=TEXT, until=_or_null(TIME)),
    ("DELETE", "/v1/holds"): _object(held=FLAG, lifted=NUMBER),
    ("GET", "/v1/history"): _object(
        changes=_list(_named("Change")), imports=_list(ANYTHING)
    ),
    ("GET", "/v1/history/{id}"): _named("ChangeReport"),
    ("GET", "/v1/rehearsals"): _object(rehearsals=_list(_named("Rehearsal"))),
    ("POST", "/v1/approvals"): _object(given=FLAG, version=TEXT, binding=TEXT),
    ("DELETE", "/v1/approvals/{binding}"): _object(withdrawn=NUMBER),
    ("PUT", "/v1/schedule"): _object(version=TEXT, binding=TEXT, not_before=TIME),
    ("DELETE", "/v1/schedule"): _object(cancelled=NUMBER),
    ("GET", "/v1/confirmation"): _object(confirmed=FLAG, change=_named("Change")),
    ("POST", "/v1/confirmation"): _object(confirmed=FLAG, change=_named("Change")),
    ("GET", "/v1/orders"): _object(orders=_list(_named("Order"))),
    ("POST", "/v1/orders"): _object(**ORDER, event=NUMBER),
    ("GET", "/v1/orders/{number}"): _object(**ORDER, event=NUMBER, result=_or_null(ANYTHING)),
    ("GET", "/v1/openapi.json"): ANYTHING,
}  # fmt: skip
FORMS = (HoldForm, ApprovalForm, Schedule, OrderForm)
QUERY: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
    "after": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER},
}


def description() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.address, {})[route.method.lower()] = _operation(route)
    schemas = dict(SCHEMAS)
    for form in FORMS:
        schemas[form.__name__] = form.model_json_schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ncen-updater: the local interface",
            "version": version("ncen-updater"),
            "description": "Over a Unix socket; the kernel says who asks. See docs/api.md.",
        },
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(route: Route) -> dict[str, Any]:
    doc = (route.handler.__doc__ if route.handler else None) or _SAID[route.address]
    operation: dict[str, Any] = {
        "operationId": route.method.lower() + re.sub(r"[^a-z]+", "_", route.address),
        "summary": doc.splitlines()[0],
        "description": f"Takes the right '{route.role.value}'.",
        "responses": {
            **{str(status): _success(route, status) for status in route.statuses},
            "default": {
                "description": "Refused, and nothing was changed.",
                "content": {"application/json": {"schema": _named("Error")}},
            },
        },
    }
    parameters = [
        {
            "name": name, "in": "path", "required": True,
            "schema": {"type": "string", "pattern": f"^{PARTS[name]}$"},
        }
        for name in re.findall(r"{([a-z]+)}", route.address)
    ] + [
        {"name": name, "in": "query", "required": False, "schema": QUERY[name]}
        for name in sorted(route.query)
    ]  # fmt: skip
    if parameters:
        operation["parameters"] = parameters
    if route.form is not None:
        schema = _named(route.form.__name__)
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


_SAID: Mapping[str, str] = {
    STREAM: "What happens, as server-sent events, for ever.",
    "/v1/openapi.json": "This document.",
}


def _success(route: Route, status: int) -> dict[str, Any]:
    words = HTTPStatus(status).phrase
    if route.address == STREAM:
        return {"description": words, "content": {"text/event-stream": {"schema": TEXT}}}
    schema = ANSWERS[route.method, route.address]
    return {"description": words, "content": {"application/json": {"schema": schema}}}
