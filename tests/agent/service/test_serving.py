"""The service as a process beside a real site: other users on the socket, kills, and SIGHUP."""

from __future__ import annotations

import functools
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from tests.support.forks import DEADLINE_S
from tests.support.service_process import Served, served
from tests.support.sites import TrialFeed, connect, serve

READER, OPERATOR, APPROVER = "daemon", "bin", "mail"


def settings(**more: object) -> dict[str, dict[str, object]]:
    rights = {"viewer_group": READER, "operator_group": OPERATOR, "approver_group": APPROVER}
    return {"service": {"timezone": "UTC", **(rights if os.getuid() == 0 else {}), **more}}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may enter, unlike those of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="nu-served-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def service(place: Path) -> Iterator[Served]:
    feed = TrialFeed(place)
    feed.publish(["3.3.0"])
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=0.0, settings=settings(rehearse=False)
        )
        with DemoSite(place / "site", None, options) as site:
            site.config_path.chmod(0o644)  # what an installation lets the group read
            connect(site, feed)
            site.start_app()
            with served(site.config_path, place / "site") as process:
                process.demo = site
                yield process


def needs_other_users() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    for user in (READER, OPERATOR, APPROVER):
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip(f"this machine has no user '{user}'")


def run_as_member(service: Served, user: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user whose session is in the group of the socket."""
    return service.run(*words, "--json", user=user, groups=(READER,))


def code_of(out: str) -> str:
    document = json.loads(out)
    code = str(document.get("error", document).get("code", out))
    return out if code == "NU-1000" else code


def test_users_without_journal_access_upgrade_through_the_service(service: Served) -> None:
    """Operator and approver install a release; neither can read the journal."""
    needs_other_users()
    service.demo.state.chmod(0o700)
    seen = service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
    reader, operator, approver = (
        functools.partial(run_as_member, service, user) for user in (READER, OPERATOR, APPROVER)
    )
    assert json.loads(reader("history").stdout)["changes"] == []
    alone = reader("--local", "history").stdout
    assert (code_of(alone), "all automatic work" in alone) == ("NU-1122", False)
    assert json.loads(reader("status").stdout)["you"]["roles"] == ["read"]
    assert code_of(reader("hold", "--reason", "x").stdout) == "NU-9314"
    assert code_of(operator("approve", "--yes").stdout) == "NU-9314"
    for user, words in (
        (OPERATOR, "approve"),
        (READER, "rollback"),
        (READER, "schedule 2099-01-01"),
    ):
        told = service.run(*words.split(), user=user, groups=(READER,))
        assert told.stdout == "", "who may not is told so before anything else"
        assert "NU-9314" in told.stderr, told.stderr
    assert json.loads(operator("hold", "--reason", "fair").stdout)["actor"] == OPERATOR
    held = json.loads(operator("upgrade", "--yes").stdout)["error"]
    assert (held["code"], held["state"]) == ("NU-6020", "Nothing was changed.")
    assert json.loads(operator("unhold").stdout)["lifted"] == 1
    offered = operator("check")
    assert json.loads(offered.stdout).get("available") is True, offered.stdout
    refused = operator("upgrade", "--yes")
    assert (refused.returncode, code_of(refused.stdout)) == (4, "NU-6023")
    later = operator("schedule", "2099-01-01")
    assert json.loads(later.stdout)["scheduled_by"] == OPERATOR
    agreed = json.loads(approver("approve", "--yes").stdout)
    assert [person["actor"] for person in agreed["approvals"]] == [APPROVER]
    assert (agreed["missing"], agreed["binding"]) == (0, seen["binding"])
    done = operator("upgrade", "--yes")
    assert json.loads(done.stdout)["changes"][0]["to"] == "3.3.0", done.stderr
    assert version_of(service.demo).whole == "3.3.0"
    with Journal.open(service.root / "var/lib/ncen-updater" / JOURNAL_FILE) as journal:
        given = {event.kind: event for event in journal.list_events()}
    assert (given["approved"]["by"], given["job-started"]["by"]) == (APPROVER, OPERATOR)
    lines = service.run("status", user=READER, groups=(READER,)).stdout.splitlines()
    assert lines[0].startswith("Installed: ncen 3.3.0")


def test_job_of_a_killed_service_is_completed_by_the_next(service: Served) -> None:
    """The next start completes it, and followers see its end."""
    service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
    with service.started("upgrade", "--yes", "--json") as person:
        service.until("step-intended", step="migrate")
        service.kill_all()
        service.start()
        out, err = person.communicate(timeout=DEADLINE_S)
    assert (person.returncode, code_of(out)) == (1, "NU-9305"), err
    order = service.client.get("/v1/jobs")["jobs"][0]
    assert order["ended_at"] is not None
    service.until("change-reverted")
    assert version_of(service.demo).whole == "3.2.4"
    assert service.client.get("/v1/status")["journal"]["open_change"] is None


def test_terminated_job_is_reverted_where_possible(service: Served) -> None:
    """SIGTERM lets the work go back where that is free, and the order ends with it."""
    service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
    given = service.client.call("POST", "/v1/jobs", {"kind": "upgrade"})
    service.until("step-intended", step="copy")
    assert service.stop() == 0
    service.start()
    order = service.client.get(f"/v1/jobs/{given['id']}")
    assert order["result"]["exit_code"] == 11
    assert version_of(service.demo).whole == "3.2.4"


def test_sighup_loads_a_valid_configuration_or_keeps_the_old_one(service: Served) -> None:
    text = service.config.read_text("utf-8")
    service.config.write_text(text.replace("[service]\n", '[service]\nmode = "notify"\n'), "utf-8")
    service.send(signal.SIGHUP)
    service.until_logged("configuration reloaded")
    assert service.client.get("/v1/status")["service"]["mode"] == "notify"
    service.config.write_text("[service\n", "utf-8")
    service.send(signal.SIGHUP)
    service.until_logged("keeping the old configuration")
    service.config.write_text(text, "utf-8")
    assert service.client.get("/v1/status")["service"]["mode"] == "notify"


def test_watch_follows_a_job(service: Served) -> None:
    service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
    idle = service.run("watch", "--json")
    given = service.client.call("POST", "/v1/jobs", {"kind": "check"})
    followed = service.run("watch", str(given["id"]), "--json")
    kinds = [json.loads(line)["kind"] for line in followed.stdout.splitlines()]
    assert idle.returncode == followed.returncode == 0
    assert kinds == [] or kinds[-1] == "job-ended"
    assert service.run("watch", "77").returncode == 2
    assert service.stop() == 0
    assert code_of(service.run("watch", "--json").stdout) == "NU-9303"
    assert service.run("check").returncode == 0  # alone


def test_second_service_of_a_site_is_refused(service: Served) -> None:
    second = service.run("serve", "--json")
    assert (second.returncode, code_of(second.stdout)) == (9, "NU-6004")
    assert service.client.is_reachable()
