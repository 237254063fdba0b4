"""Tests of a database server that is late or unreachable at boot: recovery is automatic."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.event_names import APPLICATION_STARTED, JOURNAL_FILE
from ncen_updater.agent.policy.automation import ServiceAction
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import SERVICE_STATE_PATH, ServiceStateFile
from tests.faults.cells import Cell, Fault, Strike
from tests.support.forks import DEADLINE_S
from tests.support.live_service import ServedSite
from tests.support.postgres import available, running
from tests.support.sites import TrialFeed, connect, serve

PROGRAM = (sys.executable, "-m", "ncen_updater.agent.cli.main", "--config")


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with (
        tempfile.TemporaryDirectory(prefix="nu-test-") as directory,
        running(available()[-1], Path(directory)) as server,
    ):
        yield server


@pytest.fixture
def demo(tmp_path: Path, server: EmbeddedPostgres) -> Iterator[DemoSite]:
    feed = TrialFeed(tmp_path)
    feed.publish(["3.3.0"])
    place = PostgresPlace(str(server.host), prefix="late_", programs=server.binaries.directory)
    with serve(feed.directory) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=20, icomm=False, soak_s=0.1,
            settings={"service": {"timezone": "UTC", "mode": "notify"}},
        )  # fmt: skip
        with DemoSite(tmp_path / "site", place, options) as site:
            connect(site, feed)
            site.start_app()
            yield site


def command(demo: DemoSite, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, str(demo.config_path), *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(demo: DemoSite, *words: str) -> subprocess.CompletedProcess[str]:
    with command(demo, *words) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def interrupted_upgrade(demo: DemoSite, at: StepName) -> None:
    """An upgrade whose machine died in a step."""
    strike = Strike(at, StepPhase.AFTER_EFFECT, Fault.SIGKILL)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.faults.worker", str(demo.config_path), "upgrade",
         Cell("upgrade", (strike,)).encode()],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    demo.stop_app()


def test_resume_without_an_open_change_leaves_the_application_stopped(
    demo: DemoSite, server: EmbeddedPostgres
) -> None:
    demo.stop_app()
    server.stop()
    resume = ended(demo, "resume", "--boot", "--json")
    assert resume.returncode == 0, resume.stderr
    assert json.loads(resume.stdout)["decision"]["action"] == "nothing"
    text = demo.config_path.read_text()
    demo.config_path.write_text(text + '\n[aplication]\nx = "a mistake"\n')
    resume = ended(demo, "resume", "--boot")
    assert (resume.returncode, demo.app_running()) == (0, False)


def test_open_change_waits_for_the_server_and_is_reverted(
    demo: DemoSite, server: EmbeddedPostgres
) -> None:
    interrupted_upgrade(demo, StepName.MIGRATE)
    server.stop()
    with command(demo, "resume", "--boot") as resume:
        assert resume.stderr is not None
        for line in resume.stderr:
            if "waiting for the databases" in line:
                break
        else:
            raise AssertionError("it did not wait")
        assert resume.poll() is None
        server.start()
        assert resume.wait(DEADLINE_S) == 0
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert journal.find_open_change() is None
    # The system never came to start it: a person who types 'resume' has it running.
    known = ServiceStateFile(demo.state / SERVICE_STATE_PATH)
    (demo.state / "service").mkdir(exist_ok=True)
    known.save(dataclasses.replace(known.load(), last_running_boot="the boot before"))
    again = ended(demo, "resume")
    assert again.returncode == 0, again.stderr
    assert "Application started." in again.stdout
    assert version_of(demo).whole == "3.2.4"
    assert demo.app_running()


def test_deliberate_stop_is_reported_and_respected(demo: DemoSite) -> None:
    demo.stop_app()
    resume = ended(demo, "resume")
    assert resume.returncode == 0
    assert resume.stdout.rstrip().splitlines()[-1].startswith("Application stopped. Run:")
    assert not demo.app_running()


def test_revert_with_a_pending_start_is_completed_by_an_operator(
    demo: DemoSite,
) -> None:
    interrupted_upgrade(demo, StepName.MIGRATE)
    strike = Strike(StepName.MAINTENANCE_ON, StepPhase.BEFORE_UNDO, Fault.SIGKILL)
    subprocess.run(
        [sys.executable, "-m", "tests.faults.worker", str(demo.config_path), "resume-boot",
         Cell("upgrade", (strike,)).encode()],
        capture_output=True, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        change = journal.find_open_change()
        assert change is not None
        assert change.get_step_state(StepName.STOP) == "undone"
    assert not demo.app_running()
    assert ended(demo, "resume").returncode == 0
    assert demo.app_running()
    assert not demo.maintenance_file.exists()


def test_users_return_automatically_with_the_server(
    demo: DemoSite, server: EmbeddedPostgres
) -> None:
    served = ServedSite(demo)
    try:
        served.start()
        served.until("seen running", lambda: served.service_state().last_running_boot is not None)
        # The power goes, and comes back to a server that does not start.
        served.kill()
        demo.stop_app()
        server.stop()
        known = ServiceStateFile(demo.state / SERVICE_STATE_PATH)
        before = known.load()
        known.save(dataclasses.replace(before, last_running_boot="the boot before"))
        served.start()
        served.until(
            "it tries", lambda: ServiceAction.START_APPLICATION in served.service_state().failures
        )
        assert not demo.app_running()
        server.start()
        served.until("officers are back", demo.app_running)
        served.until(
            "and it is known", lambda: served.service_state().last_running_boot != "the boot before"
        )
        with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
            assert APPLICATION_STARTED in [event.kind for event in journal.list_events()]
        # Who stops it on purpose has it stopped.
        demo.stop_app()
        served.tell(signal.SIGHUP)
        served.until("looked", lambda: served.service_state().last_running_boot is None)
        assert not demo.app_running()
    finally:
        served.stop()
