"""The description of the interface: OpenAPI 3.1, made of the table of routes and of the forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from ncen_updater.agent.service.api.forms import (
    HEAD,
    MAX_NUMBER,
    ApprovalForm,
    HoldForm,
    InspectionForm,
    OrderForm,
    ScheduleForm,
)
from ncen_updater.agent.service.api.inspections import MAX_WAIT_S
from ncen_updater.agent.service.api.queries import MAX_ROWS
from ncen_updater.agent.service.api.record_schemas import TEXT, Schema
from ncen_updater.agent.service.api.routes import PARTS, ROUTES, STREAM, Route
from ncen_updater.agent.service.api.schemas import ANSWERS, SCHEMAS, named

__all__ = ["description"]

<<<<<<< HEAD
Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
FLAG: Schema = {"type": "boolean"}
FIGURE: Schema = {"type": "number"}
#: A value of a sentence, a fact or a figure, whose names its code or its kind says.
VALUE: Schema = {"type": ["string", "number", "boolean", "null", "array", "object"]}
VALUES: Schema = {"type": "object", "additionalProperties": VALUE}


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


def _some(**properties: Schema) -> Schema:
    """An object that may have these, and more that other versions of the agent know."""
    return {"type": "object", "properties": properties, "additionalProperties": VALUE}


def _each(schema: Schema) -> Schema:
    """A table whose names the site or the release chooses."""
    return {"type": "object", "additionalProperties": schema}


def _found(**properties: Schema) -> Schema:
    """What was found; within an inspection the lines for people stand beside it."""
    schema = _object(**properties)
    return {**schema, "properties": {**properties, "words": _list(TEXT)}}


def _facts() -> Schema:
    """Facts of a change, of which those are there that its steps kept."""
    return _some(**{item.name: VALUE for item in fields(ChangeFacts)})


CHANGE = {
    "id": TEXT, "kind": TEXT, "mode": TEXT, "state": TEXT, "product": TEXT, "from": TEXT,
    "to": TEXT, "strategy": TEXT, "created_at": TIME, "ended_at": _or_null(TIME),
    "stop_s": _or_null(FIGURE), "error_code": _or_null(TEXT), "attempts": NUMBER,
}  # fmt: skip
ORDER = {
    "id": NUMBER, "kind": TEXT,
    "data": _some(
        version=TEXT, retry=FLAG, of=TEXT, accept_loss=NUMBER, undoes=TEXT, emergency=TEXT,
        language=TEXT, by_approver=FLAG,
    ),
    "who": TEXT, "uid": NUMBER, "at": TIME,
    "taken_at": _or_null(TIME), "ended_at": _or_null(TIME),
}  # fmt: skip
FAULT = {
    "code": {"type": "string", "pattern": "^NU-[0-9]{4}$"}, "what": TEXT, "state": TEXT,
    "remedy": TEXT, "detail": _or_null(TEXT), "values": VALUES,
}  # fmt: skip
STOP = _object(low=FIGURE, likely=FIGURE, high=FIGURE)
APPROVAL = _object(who=TEXT, uid=NUMBER, at=TIME)
NOTES = _each(_object(title=TEXT, text=TEXT))
WITHOUT = _list(_object(database=TEXT, id=TEXT, reason=TEXT))
REJECTED = _list(_object(version=TEXT, reason=TEXT, words=TEXT))
FINDINGS = _list(_named("Finding"))
PROVED = {"head": TEXT, "as_recorded": FLAG, "findings": FINDINGS}
HOP = {
    "from": TEXT, "to": TEXT, "required": FLAG, "urgency": TEXT,
    "archive": _object(bytes=NUMBER, sha256=TEXT), "unpacked_bytes": NUMBER, "tree_digest": TEXT,
    "migrations": _list(_object(database=TEXT, id=TEXT, direction=TEXT, sha256=TEXT)),
    "command": _or_null(_list(TEXT)), "irreversible": WITHOUT, "rollback_keeps_records": FLAG,
    "way_back": TEXT, "loses": _list(TEXT),
    "databases": _list(_object(name=TEXT, physical=TEXT, bytes=NUMBER)),
    "copy": _or_null(_each(VALUES)), "findings": FINDINGS,
}  # fmt: skip
#: The error that a command ended with, beside its lines.
ENDED = {"error": {**_some(**FAULT), "required": list(FAULT)}}
SCHEMAS: Mapping[str, Schema] = {
    "Error": _object(error=_object(**FAULT, exit_code=NUMBER)),
    "Progress": _object(
        tell=TEXT, values=_each(TEXT), done=_or_null(NUMBER), total=_or_null(NUMBER)
    ),
    "Finding": _object(code=TEXT, severity=TEXT, what=TEXT, remedy=TEXT, figures=VALUES),
    "Change": _object(**CHANGE),
    "ChangeReport": _object(
        **CHANGE, approved_by=_list(TEXT), ordered_by=_or_null(TEXT),
        predicted_stop_s=_or_null(_object(low=FIGURE, high=FIGURE)),
        failure=_or_null(
            _object(at=TIME, step=_or_null(TEXT), code=_or_null(TEXT), error=_or_null(TEXT))
        ),
        cut_off=_or_null(_object(step=TEXT, at=TIME, during=FLAG, resumed_at=TIME)),
        taken_back_by=_or_null(TEXT), words=_list(TEXT),
        steps=_list(
            _object(
                name=TEXT, state=TEXT, started_at=TIME, ended_at=_or_null(TIME),
                seconds=_or_null(FIGURE),
            )
        ),
        facts=_facts(),
        events=_list(_object(number=NUMBER, at=TIME, kind=TEXT, data=VALUES)),
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
            "report": _or_null(
                _some(
                    plan=TEXT, backup_s=FIGURE, sizes=_each(NUMBER), blamed=FLAG,
                    hops=_list(_some(**{"from": TEXT, "to": TEXT})),
                )
            ),
        }
    ),
    "Moment": _object(
        mode=TEXT, action=_or_null(TEXT), why=_or_null(TEXT),
        running=_or_null(
            _object(words=_list(TEXT), since=TIME, progress=_or_null(_named("Progress")))
        ),
        said=_list(_object(tell=TEXT, values=VALUES, seconds=FIGURE)),
        failures=_list(_object(action=TEXT, times=NUMBER, at=TIME, again_at=TIME)),
    ),
    "Plan": _object(
        digest=TEXT, strategy=TEXT, blocked=FLAG,
        hops=_list({**_object(**HOP), "additionalProperties": VALUE}),
        steps=_list(_object(name=TEXT, title=TEXT, downtime=FLAG, runs=FLAG)),
    ),
    "DossierFacts": _object(
        site=TEXT, country=TEXT, product=TEXT, agent=TEXT, made_at=TIME, current=TEXT, target=TEXT,
        strategy=TEXT, stop_s=_or_null(STOP), keeps_records=FLAG, loses=_list(TEXT),
        hops=_list(
            _object(
                **{
                    "from": TEXT, "to": TEXT, "required": FLAG, "urgency": TEXT, "notes": NOTES,
                    "way_back": TEXT, "way_words": TEXT, "why_no_way_back": WITHOUT,
                    "loses": _list(TEXT), "migrations": NUMBER, "unpacked_bytes": NUMBER,
                    "stop_s": _or_null(STOP), "files": _list(TEXT),
                    "country": _list(TEXT),
                    "tables": _list(_object(table=TEXT, before=TEXT, after=TEXT, what=TEXT)),
                    "codes": _list(TEXT), "unmapped": NUMBER, "values": _list(TEXT),
                }
            )
        ),
        findings=FINDINGS, sizes=_each(NUMBER), rehearsed_at=_or_null(TIME),
        rehearsal=_or_null(TEXT), holds_until=_or_null(TIME), backup_s=_or_null(FIGURE),
        not_carried=_each(_list(TEXT)), not_before=_or_null(TIME), opens=_or_null(TIME),
        closes=_or_null(TIME), by_itself=FLAG, approvals=_list(APPROVAL), needed=NUMBER,
        keep_days=FIGURE, soak_s=FIGURE, rolls_back=FLAG, head=TEXT,
    ),
    "PlanFound": _found(
        available=FLAG,
        hops=_list(
            _object(version=TEXT, required=FLAG, urgency=TEXT, bytes=NUMBER, download_bytes=NUMBER)
        ),
        rejected=REJECTED, plan=_named("Plan"), findings=FINDINGS, sql=TEXT,
        rehearsed=_list(
            {
                "type": "object",
                "required": ["from", "to", "stop_s", "values"],
                "properties": {
                    "from": TEXT, "to": TEXT, "stop_s": VALUES, "values": _or_null(VALUES),
                },
            }
        ),
    ),
    "NoPlan": _found(available=FLAG, hops={"type": "array", "maxItems": 0}, rejected=REJECTED),
    "DossierFound": _found(
        version=TEXT, binding=TEXT, sha256=TEXT, output={"type": "null"}, html=TEXT,
        facts=_named("DossierFacts"),
    ),
    "WayBackFound": _found(
        **{
            "from": TEXT, "to": TEXT, "mode": TEXT, "lost": _or_null(VALUES),
            "lost_total": _or_null(NUMBER), "reason": _or_null(TEXT), "undoes": _or_null(TEXT),
            "binding": TEXT, "watched": FLAG, "approvals": _list(_object(who=TEXT, at=TIME)),
            "missing": NUMBER, "values": _or_null(VALUES),
        }
    ),
    "DiagnosisFound": _found(healthy=FLAG, findings=FINDINGS),
    "ProofFound": _found(**PROVED),
    "BundleFound": _found(
        parts=_each(_some(bytes=NUMBER, missing=TEXT)), shown=_each(_or_null(TEXT)),
        leaks=_list(_object(part=TEXT, column=TEXT)), not_compared_with=_each(TEXT),
        archive=_or_null({"type": "string", "contentEncoding": "base64"}),
    ),
    "Inspection": _object(
        id=NUMBER, kind=TEXT, who=TEXT, uid=NUMBER, begun_at=TIME, ended_at=_or_null(TIME),
        progress=_or_null(_named("Progress")),
        result=_or_null(
            _object(
                exit_code=NUMBER,
                document={
                    "anyOf": [
                        *(
                            _named(name)
                            for name in ("PlanFound", "NoPlan", "DossierFound", "WayBackFound",
                                         "DiagnosisFound", "ProofFound", "BundleFound")
                        ),
                        _found(**ENDED),
                    ]
                },
            )
        ),
    ),
}  # fmt: skip
#: What a success answers with, by method and address.
ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("GET", "/v1/status"): _object(
        site=TEXT, country=TEXT, product=TEXT, at=TIME,
        running=_some(
            version=_or_null(TEXT), open_to_officers=_or_null(FLAG), officers=VALUES,
            full_disk=VALUES,
        ),
        configuration=_some(checked=FLAG),
        journal=_some(
            at_work=_or_null(TEXT), head=_or_null(TEXT), open_change=_or_null(VALUES),
            owed_rollback=_or_null(VALUES), last_change=_or_null(_named("Change")),
            holds=_list(_named("Hold")), bad_releases=_list(VALUES),
            approvals=_list(
                _object(
                    version=TEXT, who=_list(TEXT), missing=NUMBER, next=FLAG, gone=FLAG,
                    holds=_or_null(FLAG),
                )
            ),
        ),
        feed=_or_null(
            _some(
                checked_at=TIME, expires_at=TIME, stale=FLAG, version=NUMBER, versions=_list(TEXT),
                withdrawn=_list(TEXT), running_withdrawn=_or_null(VALUES),
            )
        ),
        service=_named("Moment"), you=_object(who=TEXT, uid=NUMBER, roles=_list(TEXT)),
    ),
    ("GET", "/v1/rights/{role}"): _object(who=TEXT, role=TEXT),
    ("GET", "/v1/outlook"): _object(
        up_to_date=FLAG, checked_at=_or_null(TIME), next_check=_or_null(TIME),
        current=_or_null(TEXT), target=_or_null(TEXT), agent=_or_null(TEXT), prepared=FLAG,
        rehearsed=_or_null(TEXT), plan=_or_null(TEXT), binding=_or_null(TEXT),
        bad_until=_or_null(TIME), voids=_list(TEXT),
        approvals=_list(APPROVAL), needed=NUMBER, missing=NUMBER,
        scheduled=_or_null(_object(not_before=TIME, who=TEXT)),
        rehearsal=_or_null(_named("Rehearsal")),
        begins=_named("Beginning"), begins_after_yes=_named("Beginning"),
        newest=_or_null(TEXT), also_approved=_list(TEXT), approved_but_gone=_list(TEXT),
    ),
    ("GET", "/v1/holds"): _object(holds=_list(_named("Hold"))),
    ("POST", "/v1/holds"): _object(held=FLAG, reason=TEXT, by=TEXT, until=_or_null(TIME)),
    ("DELETE", "/v1/holds"): _object(held=FLAG, lifted=NUMBER),
    ("GET", "/v1/history"): _object(
        changes=_list(_named("Change")), imports=_list(_some(at=TIME, kind=TEXT))
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
    ("GET", "/v1/orders/{number}"): _object(
        **ORDER, event=NUMBER,
        result=_or_null(_some(exit_code=_or_null(NUMBER), document=VALUES, torn=FLAG)),
    ),
    ("GET", "/v1/plan"): {"anyOf": [_named("PlanFound"), _named("NoPlan")]},
    ("GET", "/v1/notes"): _object(
        product=TEXT, version=TEXT, required=FLAG, urgency=TEXT, notes=NOTES
    ),
    ("GET", "/v1/dossier"): _named("DossierFound"),
    ("GET", "/v1/way-back"): _named("WayBackFound"),
    ("GET", "/v1/findings"): _named("DiagnosisFound"),
    ("GET", "/v1/proof"): _named("ProofFound"),
    ("GET", "/v1/agent"): _object(
        version=TEXT, on_offer=_or_null(TEXT), renews_itself=FLAG,
        chosen=_or_null(
            _object(version=TEXT, previous=_or_null(TEXT), state=TEXT, attempts=NUMBER)
        ),
        given_up=_list(_object(version=TEXT, times=NUMBER, at=TIME)),
    ),
    ("POST", "/v1/inspections"): _named("Inspection"),
    ("GET", "/v1/inspections/{number}"): _named("Inspection"),
    ("GET", "/v1/openapi.json"): {
        "type": "object", "required": ["openapi", "info", "paths", "components"],
        "properties": {"openapi": TEXT, "info": VALUES, "paths": VALUES, "components": VALUES},
        "additionalProperties": VALUE,
    },
}  # fmt: skip
FORMS = (HoldForm, ApprovalForm, Schedule, OrderForm, InspectionForm)
=======
FORMS = (HoldForm, ApprovalForm, ScheduleForm, OrderForm, InspectionForm)
>>>>>>> main
QUERY: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
    "after": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER},
    "version": {"type": "string", "minLength": 1, "maxLength": 50},
    "form": {"type": "string", "enum": ["json", "html"]},
    "head": {"type": "string", "pattern": HEAD},
    "wait": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S},
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
                "content": {"application/json": {"schema": named("Error")}},
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
        schema = named(route.form.__name__)
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
    content: Schema = {"application/json": {"schema": schema}}
    if "form" in route.query:
        content["text/html"] = {"schema": TEXT}
    return {"description": words, "content": content}
