"""Tests of the API description against the running server, and against docs/reference/api.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.service.api.routes import EVENTS_PATH, ROUTES
from tests.agent.cli.site import CHANGE
from tests.agent.service.api.conftest import APPROVER, BINDING, LATER, NEXT, SETTINGS, Counter
from tests.agent.service.api.conftest import NOW as MORNING
from tests.agent.service.api.serving import UnixAdapter, answering
from tests.support.api_conformance import read_openapi_document

GUIDE = Path(__file__).resolve().parents[4] / "docs/reference/api.md"
DOCUMENT = read_openapi_document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=EVENTS_PATH)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[requests.Session]:
    """Speak with a server whose site has something of everything."""
    from ncen_updater.agent.service.snapshot import SnapshotStore
    from tests.agent.cli.site import make_site

    site = make_site(tmp_path_factory.mktemp("api") / "site")
    counter = Counter(site, SnapshotStore(SETTINGS, lambda: MORNING))
    counter.know(NEXT)
    for method, path, body in (
        ("POST", "/v1/holds", {"reason": "customs fair", "until": LATER}),
        ("POST", "/v1/approvals", {"binding": BINDING}),
        ("PUT", "/v1/schedule", {"binding": BINDING, "not_before": LATER}),
        ("POST", "/v1/jobs", {"kind": "check"}),
    ):
        user = APPROVER if path == "/v1/approvals" else 0
        assert counter.ask(method, path, body, user).status < 300
    site.open_change(StepName.FETCH, StepName.COPY)
    with answering(counter) as socket, requests.Session() as found:
        found.mount("http://", UnixAdapter(socket))
        yield found


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def keeps_to_its_description(case: schemathesis.Case[Any], session: requests.Session) -> None:
    case.call_and_validate(base_url="http://localhost", session=session, checks=CHECKS)


@pytest.fixture(scope="module")
def operation_tests() -> Mapping[str, Callable[..., None]]:
    """A test of each operation; its requests are made up here and not while tests are collected.

    ``SCHEMA.parametrize()`` would make them up in every worker of a run.
    """
    found = get_all_tests(
        schema=SCHEMA, test_func=keeps_to_its_description, settings=None, given_kwargs={}
    )
    tests = {}
    for result in found:
        assert isinstance(result, Ok), result
        operation, test = result.ok()
        tests[operation.label] = test
    return tests


@pytest.mark.parametrize(
    "operation", [f"{r.method} {r.path_template}" for r in ROUTES if r.path_template != EVENTS_PATH]
)
def test_server_conforms_to_its_description(
    operation: str, operation_tests: Mapping[str, Callable[..., None]], session: requests.Session
) -> None:
    operation_tests[operation](session=session)


def test_every_operation_is_tested(operation_tests: Mapping[str, Callable[..., None]]) -> None:
    assert len(operation_tests) == len(
        [route for route in ROUTES if route.path_template != EVENTS_PATH]
    )


@pytest.mark.parametrize(
    "address",
    ["/v1/status", "/v1/settings", "/v1/next-upgrade", "/v1/history",
     f"/v1/history/{CHANGE.id}", "/v1/jobs", "/v1/jobs/1",
     "/v1/openapi.json"],
)  # fmt: skip
def test_non_empty_answers_conform(session: requests.Session, address: str) -> None:
    route = next(r for r in ROUTES if r.method == "GET" and r.match_path(address) is not None)
    answer = session.get(f"http://localhost{address}")
    assert answer.status_code == 200
    operation = SCHEMA[route.path_template]["GET"]
    operation.validate_response(answer)


#: Where agents of other versions may have written more, or sentences have their values.
OPEN = {"NumberedFault", "EndedFault", "Finding", "Facts", "Event", "ChangeEvent", "Import",
        "Report", "RehearsedHop"}  # fmt: skip


def untyped(schema: object, place: str) -> Iterator[str]:
    """Yield every place of a schema that says nothing of what it holds."""
    if not isinstance(schema, dict):
        yield place
        return
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    for number, one in enumerate(alternatives):
        yield from untyped(one, f"{place}|{number}")
    if alternatives or {"$ref", "enum", "const"} & schema.keys():
        return
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds == [None]:
        yield place
    if "object" in kinds:
        rest = schema.get("additionalProperties", True)
        for name, inner in schema.get("properties", {}).items():
            yield from untyped(inner, f"{place}.{name}")
        if rest is not False:
            yield from untyped(rest, f"{place}.*")
    if "array" in kinds:
        yield from untyped(schema.get("items"), f"{place}[]")


def answers_of(document: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for address, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                for kind, content in answer["content"].items():
                    yield f"{method} {address} {status} {kind}", content["schema"]


def test_no_schema_is_untyped() -> None:
    places = {**DOCUMENT["components"]["schemas"], **dict(answers_of(DOCUMENT))}
    del places["Description"]  # whose form is OpenAPI's own
    assert [found for name, schema in places.items() for found in untyped(schema, name)] == []


@pytest.mark.parametrize(
    "schema",
    [{}, True, {"type": "object"}, {"type": "array"}, {"type": ["string", "object"]},
     {"type": "object", "additionalProperties": True}, {"type": "object", "properties": {"a": {}}},
     {"anyOf": [{"type": "string"}, {}]}, {"type": "array", "items": {"description": "it"}}],
    ids=str,
)  # fmt: skip
def test_untyped_schema_is_detected(schema: object) -> None:
    assert list(untyped(schema, "here"))


def test_open_schemas_are_listed() -> None:
    schemas = {**DOCUMENT["components"]["schemas"], **dict(answers_of(DOCUMENT))}
    assert {
        name for name, schema in schemas.items() if "#/components/schemas/Value" in str(schema)
    } == OPEN


def test_every_answer_is_described() -> None:
    wanted = {(r.method, r.path_template) for r in ROUTES if r.path_template != EVENTS_PATH}
    assert wanted == {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if "$ref"
        in str([found for code, found in operation["responses"].items() if code != "default"])
    }


def test_documentation_lists_every_address() -> None:
    text = GUIDE.read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (\S+)` \| (\w+) \|", text, re.MULTILINE)
    assert rows == [(r.method, r.path_template, r.role.value) for r in ROUTES]


def test_documentation_names_every_field() -> None:
    text = GUIDE.read_text("utf-8")
    schemas = DOCUMENT["components"]["schemas"]
    jobs, inspections = (
        text.partition(f"## {head}\n")[2].partition("\n## ")[0] for head in ("Jobs", "Inspections")
    )
    fields = set(re.findall(r"^\| `(\w+)` \| ", jobs, re.MULTILINE))
    assert fields == set(schemas["JobForm"]["properties"]) - {"kind"}
    takes = re.findall(r"^\| `[a-z-]+` \| \w+ \| (.*?) \|", inspections, re.MULTILINE)
    assert {name for cell in takes for name in re.findall(r"`(\w+)`", cell)} == set(
        schemas["InspectionForm"]["properties"]
    ) - {"kind", "language"}
    [changes] = re.findall(r"the work of the service\s+changes \((.*?)\)", text)
    assert re.findall(r"\w+", changes) == list(schemas["ServiceActivity"]["properties"])
    [error] = re.findall(r'`\{"error": \{(.*?)\}\}`', text)
    name = schemas["Error"]["properties"]["error"]["$ref"].rpartition("/")[2]
    assert re.findall(r"\w+", error) == list(schemas[name]["properties"])
    queries = {name for route in ROUTES for name in route.query}
    assert set(re.findall(r"`\?(\w+)=", text)) == queries


def test_server_serves_its_description(session: requests.Session) -> None:
    served = session.get("http://localhost/v1/openapi.json").json()
    filled = {**DOCUMENT["info"], "version": version("ncen-updater")}
    assert served == {**DOCUMENT, "info": filled}
