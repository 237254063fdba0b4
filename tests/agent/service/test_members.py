"""Tests that group members see through the service what root sees on the site; as real users."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.common.errors import UpdaterError
from tests.agent.service.test_serving import (
    APPROVER,
    OPERATOR,
    READER,
    code_of,
    needs_other_users,
    run_as_member,
    settings,
)
from tests.support.api_conformance import inspected, read_openapi_document
from tests.support.service_process import Served, served
from tests.support.sites import TrialFeed, connect, serve

#: What is another one each time: when a page was made, and what that changes in it.
EACH_TIME = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+00:00|Z)?( UTC)?"), "<time>"),
    (re.compile(r'"sha256": "[0-9a-f]{64}"'), '"sha256": "<digest>"'),
    (re.compile(r"[0-9.]+ [kMGT]?B are free"), "<free>"),
    (re.compile(r'"free(_bytes|_files)?": [0-9]+'), '"free": 0'),
)


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A site with a rehearsed release, readable only by root and the agent."""
    place = Path(tempfile.mkdtemp(prefix="nu-members-"))
    place.chmod(0o755)
    feed = TrialFeed(place)
    feed.publish(["3.3.0"])
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=0.0,
            settings=settings(mode="notify", required_approvals=2),
        )  # fmt: skip
        with DemoSite(place / "site", None, options) as site:
            site.config_path.chmod(0o644)  # what an installation lets the group read
            connect(site, feed)
            site.start_app()
            with served(site.config_path, place / "site") as process:
                process.demo = site
                for command in ("check", "rehearse"):  # a release without metadata is not rehearsed
                    done = process.run("--json", command)
                    assert done.returncode == 0, done.stdout
                process.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
                site.state.chmod(0o700)
                yield process
    shutil.rmtree(place)


def plain(text: str) -> Any:
    for pattern, instead in EACH_TIME:
        text = pattern.sub(instead, text)
    return json.loads(text)


def alone(service: Served, *words: str) -> tuple[int, Any]:
    done = service.run("--local", "--json", "--text", *words)
    return done.returncode, plain(done.stdout)


def member(service: Served, user: str, *words: str) -> tuple[int, Any]:
    done = run_as_member(service, user, "--text", *words)
    return done.returncode, plain(done.stdout)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        (READER, "plan"),
        (READER, "plan 3.3.0 --sql"),
        (READER, "plan 9.9.9"),
        (READER, "dossier"),
        (READER, "rollback --dry-run"),
        (READER, "doctor --lang fr"),
        (READER, "verify --head 1:0000000000000000"),
        (APPROVER, "dossier 9.9.9"),
        (APPROVER, "verify --journal"),
        (APPROVER, "approve --rollback --dry-run"),
        (OPERATOR, "support-bundle --show histroy"),
        (OPERATOR, "support-bundle --leave-out log"),
    ],
)
def test_members_see_what_root_sees(service: Served, user: str, command: str) -> None:
    needs_other_users()
    words = command.split()
    there, here = member(service, user, *words), alone(service, *words)
    for said in (there[1], here[1]):
        said.get("error", {}).pop("state", None)
        said.pop("sha256", None)
    assert there == here


def test_operator_writes_a_support_bundle_with_their_own_rights(
    service: Served,
) -> None:
    needs_other_users()
    place = Path(tempfile.mkdtemp(dir=service.root.parent))
    shutil.chown(place, OPERATOR)
    for user in (READER, APPROVER):
        refused = run_as_member(service, user, "support-bundle", "--yes")
        assert code_of(refused.stdout) == "NU-9314", refused.stdout
    path = place / "bundle.tar.gz"
    done = run_as_member(service, OPERATOR, "support-bundle", "--yes", "--output", str(path))
    assert done.returncode == 0, done.stdout
    assert (path.owner(), path.stat().st_mode & 0o777) == (OPERATOR, 0o600)
    with tarfile.open(path) as archive:
        assert "support-bundle/contents.json" in archive.getnames()
    for forbidden in (service.root / "etc", service.demo.state / "known"):
        done = run_as_member(
            service, OPERATOR, "support-bundle", "--yes", "--output", str(forbidden)
        )
        assert done.returncode != 0 and not forbidden.is_file()


def test_outsiders_see_nothing(service: Served) -> None:
    needs_other_users()
    for command in ("plan --sql", "dossier", "doctor"):
        done = service.run(*command.split(), "--json", user="games")
        assert (done.returncode, code_of(done.stdout)) == (1, "NU-1120"), (command, done.stdout)


@pytest.mark.parametrize(
    ("form", "command"),
    [
        ({"kind": "plan"}, "plan"),
        ({"kind": "plan", "version": "3.3.0"}, "plan 3.3.0"),
        ({"kind": "dossier"}, "dossier"),
        ({"kind": "findings"}, "doctor"),
        ({"kind": "audit-log"}, "verify --journal"),
    ],
)
def test_each_inspection_agrees_with_its_command(
    service: Served, form: dict[str, Any], command: str
) -> None:
    """Anyone who runs the tests; what the description says of it, too."""
    found = inspected(service.client, **form)
    code, said = alone(service, *command.split())
    there = plain(json.dumps(found["result"]["document"]))
    for document in (there, said):
        document.pop("lines", None)
    assert found["result"]["exit_code"] == code
    if form["kind"] == "plan":
        assert "ALTER TABLE" in there.pop("sql")
    if form["kind"] == "dossier":
        assert there["binding"] == service.client.get("/v1/next-upgrade")["binding"]
        assert '<html lang="en"' in there["html"]
        there.pop("sha256")
        said.pop("sha256")
    assert there == said
    validated("/v1/inspections/{number}", found)


def validated(address: str, found: Mapping[str, Any]) -> None:
    """Hold an answer to the description of its address."""
    import jsonschema_rs

    schema = read_openapi_document()
    answer = schema["paths"][address.partition("?")[0]]["get"]["responses"]["200"]
    whole = {
        **answer["content"]["application/json"]["schema"], "components": schema["components"],
    }  # fmt: skip
    errors = list(jsonschema_rs.Draft202012Validator(whole).iter_errors(found))
    assert errors == [], errors[:3]


def test_notes_and_agent_are_served(service: Served) -> None:
    found = service.client.get("/v1/notes")
    assert found["version"] == "3.3.0" and found["notes"]["en"]["title"]
    validated("/v1/notes", found)
    assert service.client.get("/v1/notes?version=3.2.4")["version"] == "3.2.4"
    with pytest.raises(UpdaterError) as refused:
        service.client.get("/v1/notes?version=9.9.9")
    assert refused.value.code == "NU-9323"
    agent = service.client.get("/v1/agent")
    assert agent["selected"] is None, "the trial's agent runs from no slot"
    validated("/v1/agent", agent)


def test_support_bundle_is_transferred_completely(service: Served) -> None:
    form = {"kind": "support-bundle", "show": ["versions.json"], "leave_out": ["log.txt"]}
    number = service.client.call("POST", "/v1/inspections", form)["id"]
    result = None
    while result is None:
        result = service.client.get(f"/v1/inspections/{number}?wait=30")["result"]
    document = result["document"]
    assert document["leaks"] == []
    assert base64.b64decode(document["archive"])[:2] == b"\x1f\x8b"
    assert "python" in document["shown"]["versions.json"]
    assert document["parts"]["log.txt"] == {"missing": "omitted"}


def test_read_requests_leave_no_journal_entry(service: Served) -> None:
    before = service.client.get("/v1/status")["journal"]["chain_head"]
    for kind in ("plan", "findings", "audit-log"):
        inspected(service.client, kind)
    assert service.client.get("/v1/status")["journal"]["chain_head"] == before


def test_requester_is_identified_by_the_kernel(service: Served) -> None:
    made = service.client.call("POST", "/v1/inspections", {"kind": "audit-log"})
    assert made["uid"] == os.getuid()
