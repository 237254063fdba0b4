"""The description of the interface: OpenAPI 3.1, made of the table of routes and of the forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from ncen_updater.agent.service.api.forms import CHAIN_HEAD_PATTERN, MAX_NUMBER
from ncen_updater.agent.service.api.inspections import MAX_WAIT_S
from ncen_updater.agent.service.api.queries import MAX_ROWS
from ncen_updater.agent.service.api.routes import EVENTS_PATH, ROUTES, ApiRoute
from ncen_updater.agent.service.api.schemas import components, make_reference
from ncen_updater.common.http_routes import PATH_PATTERNS

Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
QUERY_PARAMETERS: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
    "before": {"type": "string", "pattern": PATH_PATTERNS["id"]},
    "after": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER},
    "version": {"type": "string", "minLength": 1, "maxLength": 50},
    "not_before": {"type": "string", "format": "date-time"},
    "form": {"type": "string", "enum": ["json", "html"]},
    "change_kind": {"type": "string", "enum": ["upgrade", "rollback"]},
    "chain_head": {"type": "string", "pattern": CHAIN_HEAD_PATTERN},
    "wait": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S},
}


def build_openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    answers, schemas = components()
    for route in ROUTES:
        answer = answers.get((route.method, route.path_template), TEXT)
        paths.setdefault(route.path_template, {})[route.method.lower()] = _build_operation(
            route, answer
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ncen-updater: the local interface",
            "version": version("ncen-updater"),
            "description": "Over a Unix socket; the kernel tells who asks.",
        },
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _build_operation(route: ApiRoute, answer: Schema) -> dict[str, Any]:
    doc = (route.handler.__doc__ if route.handler else None) or _SUMMARIES[route.path_template]
    operation: dict[str, Any] = {
        "operationId": route.method.lower() + re.sub(r"[^a-z]+", "_", route.path_template),
        "summary": doc.splitlines()[0],
        "description": f"Takes the right '{route.role.value}'.",
        "responses": {
            **{
                str(status): _build_success_response(route, status, answer)
                for status in route.statuses
            },
            "default": {
                "description": "Refused, and nothing was changed.",
                "content": {"application/json": {"schema": make_reference("Error")}},
            },
        },
    }
    parameters = [
        {
            "name": name, "in": "path", "required": True,
            "schema": {"type": "string", "pattern": f"^{PATH_PATTERNS[name]}$"},
        }
        for name in re.findall(r"{([a-z]+)}", route.path_template)
    ] + [
        {"name": name, "in": "query", "required": False, "schema": QUERY_PARAMETERS[name]}
        for name in sorted(route.query)
    ]  # fmt: skip
    if parameters:
        operation["parameters"] = parameters
    if route.form is not None:
        schema = make_reference(route.form.__name__)
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


_SUMMARIES: Mapping[str, str] = {
    EVENTS_PATH: "What happens, as server-sent events, for ever.",
    "/v1/openapi.json": "This document.",
}


def _build_success_response(route: ApiRoute, status: int, answer: Schema) -> dict[str, Any]:
    words = HTTPStatus(status).phrase
    if route.path_template == EVENTS_PATH:
        return {"description": words, "content": {"text/event-stream": {"schema": answer}}}
    content = {"application/json": {"schema": answer}}
    if "form" in route.query:
        content["text/html"] = {"schema": TEXT}
    return {"description": words, "content": content}
