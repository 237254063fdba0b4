"""Tests of import as a job: permissions, refusals, and the job itself."""

from __future__ import annotations

import os

import pytest

from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.service.api.conftest import APPROVER, NOBODY, OPERATOR, READER, Counter, uid_of
from tests.support.api_conformance import read_openapi_document

ME = os.geteuid()


@pytest.fixture
def laid(counter: Counter) -> Counter:
    """A site in whose inbox a bundle of ours lies."""
    inbox = counter.site.state / "inbox"
    inbox.mkdir()
    inbox.chmod(0o1770)
    (inbox / "ke.ncen").write_bytes(b"bundle")
    return counter


def order(counter: Counter, file: object, user: str | int = ME, **more: object) -> tuple[int, str]:
    body = {"kind": "import", "file": file, **more}
    answer = counter.ask("POST", "/v1/jobs", body, user)
    return answer.status, answer.code if answer.status >= 400 else ""


def test_import_directory_is_shown_to_viewers(laid: Counter) -> None:
    (laid.site.state / "inbox/away.ncen").symlink_to("/etc/hostname")
    before = laid.rows()
    found = laid.ask("GET", "/v1/inbox", user=ME).document
    assert (found["directory"], found["more"]) == (str(laid.site.state / "inbox"), 0)
    rows = {row.pop("name"): row for row in found["files"]}
    assert rows["ke.ncen"]["size_bytes"] == 6
    assert (rows["ke.ncen"]["yours"], rows["ke.ncen"]["refused_because"]) == (True, None)
    assert (rows["away.ncen"]["yours"], rows["away.ncen"]["refused_because"]) == (
        False, "not a regular file",
    )  # fmt: skip
    french = laid.ask("GET", "/v1/inbox", user=ME, HTTP_ACCEPT_LANGUAGE="fr").document["files"]
    assert "ce n'est pas un fichier ordinaire" in [row["refused_because"] for row in french]
    for user in (READER, OPERATOR, APPROVER):
        assert laid.ask("GET", "/v1/inbox", user=user).status == 200
    assert laid.ask("GET", "/v1/inbox", user=NOBODY).status == 403
    assert (laid.rows(), laid.woken) == (before, [])


def test_site_without_an_import_directory_is_reported(counter: Counter) -> None:
    refused = counter.ask("GET", "/v1/inbox")
    assert (refused.status, refused.code) == (409, "NU-9333")
    assert order(counter, "ke.ncen") == (409, "NU-9333")


def test_import_is_queued_as_a_job(laid: Counter) -> None:
    assert order(laid, "ke.ncen", dry_run=True) == (202, "")
    assert order(laid, "ke.ncen") == (409, "NU-9318")
    with Journal.open(laid.site.journal) as journal:
        (given,) = JobQueue(journal).list_unfinished()
    assert (given.kind, given.actor.uid) == (JobKind.IMPORT, ME)
    assert given.data == {"file": "ke.ncen", "dry_run": True}
    assert len(laid.woken) == 1


@pytest.mark.skipif(ME != 0, reason="only root gives files away")
def test_users_import_only_their_own_files(laid: Counter) -> None:
    inbox = laid.site.state / "inbox"
    (inbox / "of-reader.ncen").write_bytes(b"bundle")
    os.chown(inbox / "of-reader.ncen", uid_of(READER), -1)
    assert order(laid, "of-reader.ncen", user=OPERATOR) == (409, "NU-9334")
    assert order(laid, "of-reader.ncen", user=READER) == (403, "NU-9314")
    assert order(laid, "of-reader.ncen", user=APPROVER) == (403, "NU-9314")
    os.chown(inbox / "of-reader.ncen", uid_of(OPERATOR), -1)
    # Root's own could have been moved there by any user with write access to its directory.
    assert order(laid, "ke.ncen", user=OPERATOR) == (409, "NU-9334")
    assert order(laid, "of-reader.ncen", user=OPERATOR) == (202, "")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"file": ""}, 400, "NU-9312"),
        ({}, 400, "NU-9312"),
        ({"file": "../journal.sqlite"}, 400, "NU-9312"),
        ({"file": "/etc/shadow"}, 400, "NU-9312"),
        ({"file": ".."}, 400, "NU-9312"),
        ({"file": "\x1b[2J"}, 400, "NU-9312"),
        ({"file": "a" * 201}, 400, "NU-9312"),
        ({"file": ["ke.ncen"]}, 400, "NU-9312"),
        ({"file": 7}, 400, "NU-9312"),
        ({"file": "ke.ncen", "version": "3.3.0"}, 400, "NU-9312"),
        ({"file": "ke.ncen", "retry": True}, 400, "NU-9312"),
        ({"file": "ke.ncen", "undoes": "abcdefgh"}, 400, "NU-9312"),
        ({"file": "ke.ncen", "path": "/etc"}, 400, "NU-9312"),
        ({"kind": "check", "file": "ke.ncen"}, 400, "NU-9312"),
        ({"kind": "upgrade", "dry_run": True}, 400, "NU-9312"),
        ({"file": "gone.ncen"}, 409, "NU-9334"),
        ({"file": "--config"}, 409, "NU-9334"),
        ({"file": "n" * 65_000}, 400, "NU-9312"),
        ({"file": "n" * 66_000}, 413, "NU-9313"),
    ],
)
def test_refused_import_is_not_recorded(
    laid: Counter, body: dict[str, object], status: int, code: str
) -> None:
    before = laid.rows()
    answer = laid.ask("POST", "/v1/jobs", {"kind": "import", **body}, ME)
    assert (answer.status, answer.code) == (status, code), answer.content
    assert (laid.rows(), laid.woken) == (before, [])


def test_import_job_is_described_in_the_api() -> None:
    described = read_openapi_document()
    assert "/v1/inbox" in described["paths"]
    form = described["components"]["schemas"]["JobForm"]["properties"]
    assert {"type": "null"} in form["file"]["anyOf"]
    assert "import" in form["kind"]["enum"]
