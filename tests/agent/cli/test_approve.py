"""Tests of ``rehearse``, ``approve`` and ``schedule`` on the smallest kind of site."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.cli.approve import _approve_rollback
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.policy.automation import ServiceAction
from ncen_updater.agent.reports.command_results import CommandResult
from ncen_updater.agent.service.assessment import assess_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH, ServiceStateFile
from ncen_updater.common.messages import BUSY, OPEN_CHANGE
from tests.agent.cli.site import CHANGE
from tests.support.sites import TrialFeed, connect, serve


class Desk:
    """A user who types commands."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self._capsys = config, capsys
        self.state = config.parents[2] / "var/lib/ncen-updater"

    def run(self, *words: str) -> tuple[int, str, str]:
        code = run(["--config", str(self.config), *words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *words: str, code: int = 0) -> Any:
        found, out, err = self.run(*words, "--json", "--quiet")
        assert found == code, err + out
        return json.loads(out)


@contextmanager
def make_site(directory: Path) -> Iterator[Path]:
    """Set up a site to which 3.3.0 is available."""
    feed = TrialFeed(directory)
    feed.publish(["3.3.0"])
    with serve(feed.directory) as url:
        service = {"service": {"required_approvals": 2, "timezone": "UTC"}}
        options = SiteOptions(feed_urls=(url,), cases=40, icomm=False, soak_s=0.0, settings=service)
        with DemoSite(directory / "site", None, options) as site:
            connect(site, feed)
            site.start_app()
            yield site.config_path


@pytest.fixture
def newcomer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    with make_site(tmp_path) as config:
        yield Desk(config, capsys)


@pytest.fixture(scope="module")
def interrupted_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A site whose agent was killed in an upgrade."""
    with make_site(tmp_path_factory.mktemp("interrupted")) as config:
        assert run(["--config", str(config), "check", "--quiet"]) == 0
        with Journal.open(config.parents[2] / "var/lib/ncen-updater" / JOURNAL_FILE) as journal:
            journal.begin_change(CHANGE)
        yield config


@pytest.fixture
def interrupted(interrupted_site: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(interrupted_site, capsys)


@pytest.fixture
def desk(newcomer: Desk) -> Desk:
    newcomer.json("check")
    return newcomer


def test_failed_release_has_a_dossier_for_its_retry(desk: Desk) -> None:
    """Seen: "3.3.0 must be approved", and "No release to approve" in place of what to decide on."""
    desk.json("rehearse")
    with Journal.open(desk.state / JOURNAL_FILE) as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6008", None)
    assert desk.json("dossier", "--output", str(desk.state / "page.html"))["version"] == "3.3.0"


def test_nothing_newer_is_claimed_before_the_feed_was_read(
    newcomer: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    be(monkeypatch, "amina", 1001)
    for words in (("rehearse",), ("approve", "--yes"), ("dossier",)):
        said = newcomer.json(*words, code=3)["error"]
        assert said["code"] == "NU-6068", words
        assert "ncen-updater check" in said["remedy"]


@pytest.mark.parametrize(
    "words",
    [
        "plan", "dossier", "upgrade", "upgrade --dry-run", "upgrade --yes", "rehearse",
        "rollback --dry-run", "rollback --yes", "approve --dry-run",
        "approve --rollback --dry-run", "schedule 2099-01-01", "confirm", "prune",
        "prune --dry-run",
        "prune --retained abcdefgh --dry-run", "adopt 3.2.4", "adopt 3.2.4 --dry-run",
    ],
)  # fmt: skip
def test_commands_refuse_before_an_interrupted_change_is_resumed(
    interrupted: Desk, words: str
) -> None:
    refusal = interrupted.json(*words.split(), code=9)["error"]
    assert refusal["code"] == OPEN_CHANGE.code


@pytest.mark.parametrize("words", ["plan", "approve --dry-run", "prune", "adopt 3.2.4"])
def test_commands_report_a_change_that_the_service_completes(interrupted: Desk, words: str) -> None:
    """Seen: "Run: sudo ncen-updater resume", a second after 'confirm'."""
    with hold_change_lock(interrupted.state / SERVICE_LOCK_FILE, "service"):
        refusal = interrupted.json(*words.split(), code=9)["error"]
    assert refusal["code"] == BUSY.code
    assert "upgrade to 3.3.0, being completed by the service" in refusal["title"]


@pytest.mark.parametrize("words", ["plan", "approve --dry-run", "prune", "adopt 3.2.4"])
def test_commands_name_resume_while_the_service_waits_to_retry(
    interrupted: Desk, words: str
) -> None:
    """Seen: "being completed by the service", for an hour in which it only waited."""
    path = interrupted.state / SERVICE_STATE_PATH
    path.parent.mkdir(exist_ok=True)
    file = ServiceStateFile(path)
    before = file.load()
    file.save(before.with_failure(ServiceAction.RESUME, datetime.now(UTC), "NU-4001"))
    with hold_change_lock(interrupted.state / SERVICE_LOCK_FILE, "service"):
        refusal = interrupted.json(*words.split(), code=9)["error"]
    file.save(before)
    assert (refusal["code"], "sudo ncen-updater resume" in refusal["remedy"]) == ("NU-6005", True)


@pytest.mark.parametrize("words", ["plan", "rollback --dry-run", "rehearse", "confirm"])
def test_commands_report_a_change_in_progress_as_busy(interrupted: Desk, words: str) -> None:
    with hold_change_lock(interrupted.state / CHANGE_LOCK_FILE, "upgrade"):
        assert interrupted.json(*words.split(), code=9)["error"]["code"] == BUSY.code


def be(monkeypatch: pytest.MonkeyPatch, name: str, uid: int) -> None:
    """Be a person behind sudo."""
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setattr("ncen_updater.agent.cli.common.LOGINUID_PATH", Path("/nowhere"))
    monkeypatch.setenv("SUDO_USER", name)
    monkeypatch.setenv("SUDO_UID", str(uid))


def the_dossier_of_it(desk: Desk, directory: Path, binding: str) -> None:
    """The page lists approvers; one in each language is stored."""
    kept = directory / "site/var/lib/ncen-updater/dossiers"
    assert sorted(path.name for path in kept.iterdir()) == [
        f"{binding}.en.html", f"{binding}.fr.html",
    ]  # fmt: skip
    assert "amina" in (kept / f"{binding}.fr.html").read_text("utf-8")
    output = directory / "page.html"
    said = desk.json("dossier", "3.3.0", "--output", str(output))
    assert (said["binding"], said["html"]) == (binding, None)
    content = output.read_bytes()
    assert said["sha256"] == hashlib.sha256(content).hexdigest()
    assert output.stat().st_mode & 0o777 == 0o640
    assert b"CITES" in content
    assert b"amina" in content
    nowhere = desk.json("dossier", "--output", str(directory / "no/page.html"), code=1)
    assert nowhere["error"]["code"] == "NU-9201"
    _, out, _ = desk.run("dossier", "--lang", "fr")
    assert out.startswith("<!DOCTYPE html>")
    assert "mise à niveau" in out


def test_two_approvers_approve_what_was_rehearsed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as somebody:
        be(somebody, "amina", 1001)
        assert desk.json("approve", "--yes", code=13)["error"]["code"] == "NU-6024"
    assert desk.json("dossier", code=13)["error"]["code"] == "NU-6024"
    _, out, _ = desk.run("approve", "--dry-run")  # seen: "3.3.0 needs 2 more approvals."
    assert "Rehearsal required. Run: ncen-updater rehearse 3.3.0" in out
    assert "approvals" not in out
    code, out, _ = desk.run("rehearse")
    assert code == 0
    assert "downtime" in out
    # Seen: "classes without a class in 3.3.0: new code for 6 rows".
    assert "'CITES offence classes reassigned by 3.3.0'" in out
    assert "': new code for " in out
    be(monkeypatch, "amina", 1001)
    seen = desk.json("approve", "--dry-run")
    assert (seen["missing"], seen["approvals"]) == (2, [])
    assert read_start(seen) == ("not-automatic", "approval")
    first = desk.json("approve", "--yes")
    assert [a["actor"] for a in first["approvals"]] == ["amina"]
    the_dossier_of_it(desk, tmp_path, first["binding"])
    again = desk.json("approve", "--yes")
    assert again["missing"] == 1
    assert again["approvals"] == first["approvals"]
    out = desk.run("approve", "--yes")[1]
    assert "Already approved by you.\nApproved by amina" in out
    assert desk.json("upgrade", "--yes", code=4)["error"]["code"] == "NU-6023"
    be(monkeypatch, "root", 0)
    assert desk.json("approve", "--yes", code=4)["error"]["code"] == "NU-6029"
    be(monkeypatch, "bo", 1002)
    out = desk.run("approve", "--yes")[1]
    assert "You had approved it before" not in out
    last = desk.json("approve", "--dry-run")
    assert (last["missing"], read_start(last)) == (0, ("not-automatic", "service-not-running"))
    assert desk.json("approve", "--withdraw")["missing"] == 1
    out = desk.run("approve", "--withdraw")[1]
    assert "No approval to withdraw." in out and "digest" not in out
    assert desk.json("approve", "--yes")["missing"] == 0
    done = desk.json("upgrade", "--yes")
    assert done["changes"][0]["state"] == "finished"
    assert desk.json("approve", "--yes", code=1)["error"]["code"] == "NU-6027"


def read_start(said: Any) -> tuple[str, str | None]:
    return said["starts_at"]["kind"], said["starts_at"]["wait_reason"]


def test_insufficient_rights_skip_the_prompt_and_a_new_rehearsal_needs_new_approvals(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: "Upgrade now?", and after the yes that two people have to approve it first.

    And an approval of the rehearsal before led to "rehearse", and that to the same again.
    """

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("a question was asked")

    with monkeypatch.context() as asked:
        asked.setattr("ncen_updater.agent.cli.session.AgentSession.ask_confirmation", nobody)
        for stream in ("stdin", "stderr"):
            asked.setattr(f"sys.{stream}.isatty", lambda: True)
        assert desk.json("upgrade", code=13)["error"]["code"] == "NU-6024"
        desk.json("rehearse")
        error = desk.json("upgrade", code=4)["error"]
        assert error["code"] == "NU-6023"
        assert "approve 3.3.0" in error["remedy"]
    be(monkeypatch, "amina", 1001)
    first = desk.json("approve", "--yes")
    assert first["missing"] == 1
    desk.json("rehearse")
    again = desk.json("approve", "--yes")
    assert (again["missing"], again["void_reasons"]) == (1, [])
    assert again["binding"] != first["binding"]


def test_approval_is_withdrawn_although_no_release_is_offered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.json("rehearse")
    be(monkeypatch, "amina", 1001)
    code, out, _ = desk.run("approve", "--withdraw")
    assert (code, out.splitlines()[0]) == (
        0, "No approval to withdraw."
    )  # fmt: skip
    assert desk.json("approve", "--yes")["missing"] == 1
    (desk.state / "feed/ncen.json").unlink()  # as where no list was read
    assert desk.json("approve", "--yes", code=3)["error"]["code"] == "NU-6068"
    code, out, _ = desk.run("approve", "--withdraw", "--dry-run")
    assert (code, out.splitlines()[0].startswith("No metadata yet")) == (0, True), out
    assert desk.json("approve", "3.3.1", "--withdraw")["withdrawn"] == 0
    said = desk.json("approve", "--withdraw")
    assert said == {"version": None, "scheduled": None, "withdrawn": 1}
    assert desk.json("approve", "--rollback", "--withdraw")["withdrawn"] == 0
    desk.json("check")
    assert desk.json("approve", "--dry-run")["approvals"] == []


def test_upgrade_is_scheduled_and_cancelled(desk: Desk) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds")
    assert desk.json("schedule", later, code=13)["error"]["code"] == "NU-6024"
    code, out, _ = desk.run("schedule", "--cancel")
    assert (code, out.splitlines()[0]) == (0, "Not scheduled.")
    desk.json("rehearse")
    assert desk.json("schedule", code=2)["error"]["code"].startswith("NU-1")
    assert desk.json("schedule", later, "--cancel", code=2)["error"]
    assert desk.json("schedule", "2001-01-01", code=2)["error"]
    assert desk.json("schedule", later)["scheduled"] is not None
    assert ": not before " in desk.run("schedule", later)[1]
    code, out, _ = desk.run("schedule", "--cancel")
    assert code == 0
    assert out.rstrip().endswith("Waiting for approval of 3.3.0: 2 missing")
    assert desk.json("schedule", "--cancel")["scheduled"] is None
    desk.json("schedule", later)
    (desk.state / "feed/ncen.json").unlink()  # as where no list was read
    assert desk.json("schedule", later, code=3)["error"]["code"] == "NU-6068"
    code, out, _ = desk.run("schedule", "--cancel")
    assert (code, out.splitlines()[0]) == (0, "Schedule cancelled."), out
    said = desk.json("schedule", "--cancel")
    assert (said["cancelled"], said["scheduled"]) == (0, None)


def test_dossier_of_a_failed_release_is_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen: NU-2207 in the log of the service at each event, for it may be approved once more."""
    be(monkeypatch, "amina", 1001)
    desk.json("rehearse")
    desk.json("approve", "--yes")
    with Journal.open(desk.state / JOURNAL_FILE) as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6007", None)
        ApprovalStore(journal).consume_all("aaaaaaaa")
    pages = sorted((desk.state / "dossiers").glob("*.html"))
    assert pages and all("amina" in path.read_text() for path in pages)
    found = assess_site(desk.config)
    assert found["retry_at"] is not None
    assert "was not written" not in caplog.text
    assert not any("amina" in path.read_text() for path in pages)


def test_approval_repeats_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: digest, newer release and start before the approval, and again below it."""
    be(monkeypatch, "amina", 1001)
    desk.json("rehearse")
    code, out, _ = desk.run("approve", "--yes")
    assert code == 0
    assert out.count("Approval digest: ") == 1
    assert out.splitlines()[-1] == "Waiting for approval of 3.3.0: 1 missing"
    be(monkeypatch, "bilal", 1002)
    code, out, _ = desk.run("approve", "--yes")
    assert code == 0
    assert out.count("does not start automatically") == 1
    assert out.splitlines()[-1] == "Approved: 3.3.0"


def test_rollback_command_is_named_once_it_is_approved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: "Run: ncen-updater rollback" before the approval, and again below it."""
    document = {"binding": "ab", "to": "3.2.4", "how": ["Keeps all records."]}
    plans = iter(
        CommandResult(document, ["Keeps all records.", line])
        for line in ("Run: ncen-updater rollback", "Approved. Run: ncen-updater rollback")
    )
    client = SimpleNamespace(
        require_right=lambda _: None,
        plan_rollback=lambda _: next(plans),
        approve_rollback=lambda *_: None,
    )
    session = AgentSession("ncen-updater")
    monkeypatch.setattr(session, "get_client", lambda: client)
    _approve_rollback(session, None, yes=True, dry_run=False)
    assert capsys.readouterr().out.splitlines() == [
        "Keeps all records.", "Approved. Run: ncen-updater rollback",
    ]  # fmt: skip
