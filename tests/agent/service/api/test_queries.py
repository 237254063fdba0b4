"""Tests of pages beside the status: settings without secrets, approvals and approvers."""

from __future__ import annotations

import grp
import pwd
from types import SimpleNamespace
from typing import Any

import pytest

from ncen_updater.agent.service.api.queries import list_settings
from ncen_updater.agent.storage.service_state import Assessment
from tests.agent.service.api.conftest import APPROVER, BINDING, NEXT, NOBODY, READER, Counter

SECRETS = """
[application.environment]
TOKEN = "hunter22"
[application.health_headers]
X-Key = "hunter22"
"""


def settings_of(counter: Counter) -> dict[str, dict[str, Any]]:
    answer = counter.ask("GET", "/v1/settings", user=READER)
    assert answer.status == 200, answer.content
    return {f"{row['table']}.{row['name']}": row for row in answer.document["settings"]}


def test_effective_settings_are_listed(counter: Counter) -> None:
    found = settings_of(counter)
    assert found["site.id"]["value"] == "ke-1"
    assert (found["site.id"]["explicit"], found["retention.slots"]["explicit"]) == (True, False)
    assert found["retention.slots"]["value"] == 2
    assert not any(isinstance(row["value"], dict) for row in found.values())


def test_secrets_are_redacted(counter: Counter) -> None:
    text = counter.site.config.read_text("utf-8")
    lines = [
        line if not line.startswith("urls") else 'urls = ["https://ann:hunter22@feed.example/x"]'
        for line in text.splitlines()
    ]
    counter.site.config.write_text("\n".join(lines) + SECRETS)
    answer = counter.ask("GET", "/v1/settings", user=READER)
    assert b"hunter22" not in answer.content
    assert b"ann:" not in answer.content
    found = settings_of(counter)
    assert found["feed.urls"] == {
        "table": "feed", "name": "urls", "value": ["https://feed.example/x"],
        "explicit": True, "redacted": True,
    }  # fmt: skip
    hidden = found["application.environment.TOKEN"]
    assert (hidden["value"], hidden["redacted"]) == (None, True)
    assert found["application.health_headers.X-Key"]["redacted"]


def test_command_arguments_are_redacted() -> None:
    words = ["run", "--token", "hunter22"]
    given = {"application": {"parts": [{"start": words}], "version_command": words}}
    rows = list(list_settings(given, given))
    assert [row.table for row in rows] == ["application.parts.1", "application"]
    assert all((row.value, row.redacted) == (["run"], True) for row in rows)


def test_unusable_settings_are_reported(counter: Counter) -> None:
    counter.site.config.write_text("schema = 1\n[sit]\n")
    answer = counter.ask("GET", "/v1/settings", user=READER)
    assert (answer.status, answer.code) == (409, "NU-1005")


def test_approvals_and_possible_approvers_are_listed(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = grp.getgrnam

    def named(name: str) -> Any:
        found = real(name)
        return SimpleNamespace(gr_gid=found.gr_gid, gr_mem=["zoe", "amina"])

    monkeypatch.setattr(grp, "getgrnam", named)
    monkeypatch.setattr(pwd, "getpwall", list)  # no user has it as the primary group
    counter.know(NEXT)
    before = counter.ask("GET", "/v1/approvals", user=READER).document
    assert before == {
        "required_approvals": 2, "group": APPROVER, "members": ["amina", "zoe"],
        "you": {"name": READER, "can_approve": False},
        "upgrade": {
            "version": "3.3.0", "binding": BINDING, "approvals": [], "missing": 2, "yours": False,
        },
        "rollback": None,
    }  # fmt: skip
    assert counter.ask("POST", "/v1/approvals", {"binding": BINDING}, APPROVER).status == 201
    after = counter.ask("GET", "/v1/approvals", user=APPROVER).document
    assert (after["upgrade"]["missing"], after["upgrade"]["yours"]) == (1, True)
    assert [one["actor"] for one in after["upgrade"]["approvals"]] == [APPROVER]
    assert after["you"] == {"name": APPROVER, "can_approve": True}
    assert not counter.ask("GET", "/v1/approvals", user=READER).document["upgrade"]["yours"]
    assert not counter.ask("GET", "/v1/approvals").document["you"]["can_approve"], (
        "root counts as nobody"
    )


def test_roles_are_those_usable_by_the_caller(counter: Counter) -> None:
    """Seen: "Roles: operator, approver" for root, whose approval was then refused."""
    you = counter.ask("GET", "/v1/status").document["you"]
    assert (you["roles"], you["missing"]["approve"]["group"]) == (["operate", "read"], APPROVER)
    assert "approve" in counter.ask("GET", "/v1/status", user=APPROVER).document["you"]["roles"]


def test_empty_approvals_are_reported(counter: Counter) -> None:
    for known in (None, Assessment(last_event=0, current="3.2.4")):
        counter.know(known)
        document = counter.ask("GET", "/v1/approvals", user=READER).document
        assert (document["upgrade"], document["rollback"]) == (None, None)


@pytest.mark.parametrize("path", ["/v1/settings", "/v1/approvals"])
def test_users_without_a_role_are_refused(counter: Counter, path: str) -> None:
    counter.know(NEXT)
    assert counter.ask("GET", path, user=NOBODY).status == 403
