"""Validates responses of a real service against its OpenAPI description."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs

from ncen_updater.agent.service import api
from ncen_updater.agent.service.api.routes import EVENTS_PATH, ROUTES
from ncen_updater.agent.service.api_client import SiteServiceClient
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import INSPECTION_PREEMPTED

PATIENCE_S = 300.0


@cache
def read_openapi_document() -> Any:
    """Return the description that the service serves, except the version."""
    return json.loads((resources.files(api) / "openapi.json").read_bytes())


@cache
def _components() -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_openapi_document()["components"]
    return found


def _mistakes(schema: Mapping[str, Any], document: object, place: str) -> Iterator[str]:
    judge = jsonschema_rs.Draft202012Validator({**schema, "components": _components()})
    for error in judge.iter_errors(document):
        yield f"{place} {error.instance_path}: {error.message[:2000]}"


def undescribed(socket: Path, language: str = "en", refused: Collection[str] = ()) -> list[str]:
    """Request every readable path; return the responses that differ from the description.

    Args:
        socket: Socket of the service.
        language: Language of its texts.
        refused: Paths that this site refuses; any other refusal is returned, too.
    """
    client, found = SiteServiceClient(socket, language), list[str]()
    addresses = [
        route.path_template
        for route in ROUTES
        if route.method == "GET"
        and "{" not in route.path_template
        and route.path_template != EVENTS_PATH
    ]
    history, orders = client.get("/v1/history"), client.get("/v1/jobs")
    addresses += [f"/v1/history/{change['id']}" for change in history["changes"]]
    addresses += [f"/v1/jobs/{order['id']}" for order in orders["jobs"]]
    paths = read_openapi_document()["paths"]
    for address in addresses:
        route = next(r for r in ROUTES if r.method == "GET" and r.match_path(address) is not None)
        answers = paths[route.path_template]["get"]["responses"]["200"]["content"]
        try:
            document = client.get(address)
        except UpdaterError as error:
            if address not in refused:
                found.append(f"{address}: {error.code} {error}")
        else:
            found += _mistakes(answers["application/json"]["schema"], document, address)
            if address in refused:
                found.append(f"{address} was answered")
    schema = paths["/v1/inspections/{number}"]["get"]["responses"]["200"]["content"]
    for kind in ("plan", "dossier", "rollback-plan", "findings", "audit-log"):
        answer = inspected(client, kind, language=language)
        found += _mistakes(schema["application/json"]["schema"], answer, kind)
    return found


def inspected(
    client: SiteServiceClient, kind: str, *, patience_s: float = PATIENCE_S, **form: object
) -> Mapping[str, Any]:
    """Run an inspection; return its last answer. Repeat while an operation comes first."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = client.call("POST", "/v1/inspections", {"kind": kind, **form})
        while answer["result"] is None:
            answer = client.get(f"/v1/inspections/{answer['id']}?wait=30")
        error = answer["result"]["document"].get("error") or {}
        if error.get("code") != INSPECTION_PREEMPTED.code or time.monotonic() > deadline:
            return answer
        time.sleep(0.3)


def undescribed_events(socket: Path, kind: str) -> list[str]:
    """Validate the events of the stream up to the first of a kind."""
    found = list[str]()
    for event in SiteServiceClient(socket, "en").stream(0):
        name = "ServiceActivity" if event.kind == "service" else "Event"
        found += _mistakes(
            {"$ref": f"#/components/schemas/{name}"}, event.data, f"event {event.kind}"
        )
        if event.kind == kind:
            return found
    raise AssertionError(f"the stream ended before {kind}")


def ordered(socket: Path, **form: object) -> Mapping[str, Any]:
    """Queue a job, wait for its end and return it."""
    client = SiteServiceClient(socket, "en")
    number = client.call("POST", "/v1/jobs", form)["id"]
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        order = client.get(f"/v1/jobs/{number}")
        if order["ended_at"] is not None:
            return order
        time.sleep(0.3)
    raise AssertionError(f"order {number} did not end")
