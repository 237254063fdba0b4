"""The description of the interface: OpenAPI 3.1, made of the table of routes and of the forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from ncen_updater.agent.service.api.forms import HEAD, MAX_NUMBER
from ncen_updater.agent.service.api.inspections import MAX_WAIT_S
from ncen_updater.agent.service.api.queries import MAX_ROWS
from ncen_updater.agent.service.api.routes import ROUTES, STREAM, ApiRoute
from ncen_updater.agent.service.api.schemas import components, named
from ncen_updater.common.http_routes import PARTS

Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
QUERY: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
    "before": {"type": "string", "pattern": PARTS["id"]},
    "after": {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER},
    "version": {"type": "string", "minLength": 1, "maxLength": 50},
    "not_before": {"type": "string", "format": "date-time"},
    "form": {"type": "string", "enum": ["json", "html"]},
    "of": {"type": "string", "enum": ["upgrade", "rollback"]},
    "head": {"type": "string", "pattern": HEAD},
    "wait": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S},
}


def description() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    answers, schemas = components()
    for route in ROUTES:
        answer = answers.get((route.method, route.address), TEXT)
        paths.setdefault(route.address, {})[route.method.lower()] = _operation(route, answer)
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


def _operation(route: ApiRoute, answer: Schema) -> dict[str, Any]:
    doc = (route.handler.__doc__ if route.handler else None) or _SAID[route.address]
    operation: dict[str, Any] = {
        "operationId": route.method.lower() + re.sub(r"[^a-z]+", "_", route.address),
        "summary": doc.splitlines()[0],
        "description": f"Takes the right '{route.role.value}'.",
        "responses": {
            **{str(status): _success(route, status, answer) for status in route.statuses},
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


def _success(route: ApiRoute, status: int, answer: Schema) -> dict[str, Any]:
    words = HTTPStatus(status).phrase
    if route.address == STREAM:
        return {"description": words, "content": {"text/event-stream": {"schema": answer}}}
    content = {"application/json": {"schema": answer}}
    if "form" in route.query:
        content["text/html"] = {"schema": TEXT}
    return {"description": words, "content": content}
