"""Tests of the availability probe, on applications that run, stand still or hide."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.application.availability_probe import probe_availability
from ncen_updater.agent.adapters.application.maintenance import MaintenanceFile
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.availability import Availability, AvailabilityState, HealthAnswer
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.cli.live import LiveSite
from tests.agent.cli.site import CHANGE, TrialSite, make_site

CLOSED_AT = datetime(2026, 11, 24, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """A site whose application runs; every test leaves it so."""
    root = tmp_path_factory.mktemp("running")
    with DemoSite(root / "site", options=SiteOptions(cases=5)) as site:
        Journal.create(site.state / JOURNAL_FILE).close()
        site.start_app()
        yield LiveSite(site, root)


def status_output(site: LiveSite) -> str:
    return site.run("status").stdout


def document(site: LiveSite) -> Availability:
    status = json.loads(site.run("status", "--json").stdout)
    return Availability.from_json(status["running"]["availability"])


def test_running_application_is_available(running: LiveSite) -> None:
    assert "Status: running" in status_output(running)
    seen = document(running)
    assert (seen.state, seen.process_runs, seen.answer) == ("available", True, "healthy")


def test_unreachable_database_is_shown_as_failed(running: LiveSite) -> None:
    databases = running.demo.root / "srv/ncen/databases"
    databases.rename(databases.with_name("away"))
    try:
        assert "Status: failed" in status_output(running) and "(HTTP status 503)" in status_output(
            running
        )
    finally:
        databases.with_name("away").rename(databases)


def test_stopped_application_is_not_running(running: LiveSite) -> None:
    running.demo.stop_app()
    try:
        assert "Status: stopped; users cannot work" in status_output(running)
        assert document(running).state is AvailabilityState.NOT_RUNNING
    finally:
        running.demo.start_app()


def test_maintenance_and_interrupted_change_are_shown(running: LiveSite) -> None:
    door = MaintenanceFile(running.demo.maintenance_file, now=lambda: CLOSED_AT)
    door.write()
    try:
        assert "Status: maintenance page shown since 2026-11-24 06:00:00" in status_output(running)
        assert "Application stopped" not in status_output(running)
        with Journal.open(running.demo.state / JOURNAL_FILE) as journal:
            journal.begin_change(replace(CHANGE, id="ccccccca"))
            journal.record_step("ccccccca", StepName.MAINTENANCE_ON, StepState.INTENDED)
        running.demo.stop_app()
        words = status_output(running)
        assert "Status: maintenance page shown since" in words
        assert "Application stopped" in words
        assert "Run: sudo ncen-updater resume" in words
    finally:
        door.remove()
        running.demo.start_app()


# ---- without rights, and without an application --------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    return make_site(tmp_path / "site")


def configure(site: TrialSite, before: str, after: str) -> None:
    text = site.config.read_text()
    assert before in text
    site.config.write_text(text.replace(before, after))


def look(site: TrialSite, limit_s: float = 20.0) -> Availability:
    return probe_availability(load_essential_settings(site.config), limit_s=limit_s)


STOPPED = '["sh", "-c", "exit 3"]'


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ('["/nowhere/status"]', "No such file"),
        ('["/"]', "Permission denied"),
        ('["sh", "-c", "echo only root may ask; exit 1"]', "ended with 1: only root may ask"),
        ("7", "'status' is not a list of strings"),
    ],
)
def test_denied_probe_is_reported_as_unknown(site: TrialSite, status: str, why: str) -> None:
    configure(site, STOPPED, status)
    seen = look(site)
    assert (seen.state, seen.process_runs) == (AvailabilityState.UNKNOWN, None)
    assert why in str(seen.unknown_because)
    assert "Status: unknown (" in site.run("status").stdout


def test_inaccessible_maintenance_file_is_unknown(site: TrialSite) -> None:
    configure(site, 'maintenance_file = "door"', f'maintenance_file = "{"d" * 300}"')
    seen = look(site)
    assert seen.state is AvailabilityState.UNKNOWN
    assert "File name too long" in str(seen.unknown_because)


def test_missing_probe_configuration_is_reported(site: TrialSite) -> None:
    configure(site, "[application]", "[aplication]")
    seen = look(site)
    assert seen.state is AvailabilityState.UNKNOWN
    assert "'maintenance_file' is missing" in str(seen.unknown_because)


def test_manually_enabled_maintenance_has_no_start_time(site: TrialSite) -> None:
    (site.root / "door").touch()
    assert look(site).state is AvailabilityState.MAINTENANCE
    assert look(site).since is None


def test_missing_part_is_reported(site: TrialSite) -> None:
    act = '["true"]'
    part = f'[[application.parts]]\nname = "worker"\nstart = {act}\nstop = {act}\n'
    part += f"status = {STOPPED}\n"
    site.config.write_text(site.config.read_text().replace(STOPPED, '["true"]') + part)
    assert look(site).missing_parts == ("worker",)


@contextmanager
def answering(answer: bytes, heard: list[bytes] | None = None) -> Iterator[str]:
    """Give one answer to every request, and record connections and requests."""
    asked = [] if heard is None else heard
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                asked.append(connection.recv(10_000))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "state", "kind", "detail"),
    [
        (http(b'{"version": "3.2.4"}'), "available", HealthAnswer.HEALTHY, "3.2.4"),
        (http(b'{"version": "3.3.0"}'), "available", HealthAnswer.OTHER_VERSION, "3.3.0"),
        (http(b"<html>"), "unhealthy", HealthAnswer.UNREADABLE, ""),
        (http(b"[" * 100_000), "unhealthy", HealthAnswer.UNREADABLE, ""),
        (http(b"", "500 Oh"), "unhealthy", HealthAnswer.HTTP_ERROR, "500"),
        (b"SSH-2.0-OpenSSH\r\n", "not-running", HealthAnswer.NO_ANSWER, "SSH-2.0-OpenSSH"),
    ],
)
def test_http_answer_is_classified(
    site: TrialSite, answer: bytes, state: str, kind: HealthAnswer, detail: str
) -> None:
    with answering(answer) as url:
        configure(site, "http://127.0.0.1:9", url)
        seen = look(site)
    assert (seen.state, seen.answer, seen.detail) == (state, kind, detail)


@pytest.mark.parametrize(
    ("answer", "pattern", "kind", "detail"),
    [
        (b"3.2.4\n", r"(\S+)", HealthAnswer.HEALTHY, "3.2.4"),
        (b"nCEN 3.3.0", r"nCEN (\S+)", HealthAnswer.OTHER_VERSION, "3.3.0"),
        (b"<html>", r"nCEN (\S+)", HealthAnswer.UNREADABLE, ""),
    ],
)
def test_text_answer_is_classified(
    site: TrialSite, answer: bytes, pattern: str, kind: HealthAnswer, detail: str
) -> None:
    configure(site, "[application]\n", f"[application]\nversion_pattern = '{pattern}'\n")
    with answering(http(answer)) as url:
        configure(site, "http://127.0.0.1:9", url)
        seen = look(site)
    assert (seen.answer, seen.detail) == (kind, detail)


def test_version_command_supplements_the_status(site: TrialSite) -> None:
    """The status alone counts of the answer, and a command says what runs."""
    before = "[application]\n"
    with answering(http(b"fine")) as url:
        configure(site, "http://127.0.0.1:9", url)
        for said, status, kind, detail in (
            ("3.2.4", 0, HealthAnswer.HEALTHY, "3.2.4"),
            ("3.3.0", 0, HealthAnswer.OTHER_VERSION, "3.3.0"),
            ("3.2.4", 3, HealthAnswer.UNREADABLE, ""),
        ):
            line = f'version_command = ["sh", "-c", "echo {said}; exit {status}"]\n'
            configure(site, before, f"[application]\n{line}")
            before = f"[application]\n{line}"
            seen = look(site)
            assert (seen.answer, seen.detail) == (kind, detail)


def test_token_is_sent_by_users_who_can_read_it(site: TrialSite) -> None:
    """It is asked with the token and the headers, by anyone who may read that file."""
    token = site.config.with_name("token")
    lines = f'health_token_file = "{token}"\nhealth_headers = {{ X-Site = "ke" }}\n'
    configure(site, "[application]\n", f"[application]\n{lines}")
    heard: list[bytes] = []
    with answering(http(b'{"version": "geheim-1"}'), heard) as url:
        configure(site, "http://127.0.0.1:9", url)
        seen = look(site)
        assert seen.answer is HealthAnswer.NOT_ASKED and "Cannot read the health token" in str(
            seen.unknown_because
        )
        token.write_text("geheim-1\n")
        token.chmod(0o644)
        seen = look(site)
        assert seen.answer is HealthAnswer.NOT_ASKED and "readable by others" in str(
            seen.unknown_because
        )
        assert not heard
        token.chmod(0o600)
        seen = look(site)
    assert b"Authorization: Bearer geheim-1\r\n" in heard[0] and b"X-Site: ke\r\n" in heard[0]
    assert (seen.answer, seen.detail) == (HealthAnswer.OTHER_VERSION, "***")


def test_refused_token_leaves_the_state_unknown(site: TrialSite) -> None:
    token = site.config.with_name("token")
    token.write_text("geheim-1\n")
    token.chmod(0o600)
    configure(site, "[application]\n", f'[application]\nhealth_token_file = "{token}"\n')
    with answering(http(b"", "401 No")) as url:
        configure(site, "http://127.0.0.1:9", url)
        seen = look(site)
    assert seen.answer is HealthAnswer.NOT_ASKED
    assert "status 401" in str(seen.unknown_because) and "(health_token_file)" in str(
        seen.unknown_because
    )


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ('{"manifest": {"reports": "3.2"}}', HealthAnswer.HEALTHY),
        ('{"manifest": {"reports": "3.2.5"}}', HealthAnswer.OTHER_VERSION),
        ('{"manifest": {}}', HealthAnswer.OTHER_VERSION),
        ('{"manifest": []}', HealthAnswer.OTHER_VERSION),
        ("not JSON", HealthAnswer.OTHER_VERSION),
        (None, HealthAnswer.OTHER_VERSION),
    ],
)
def test_unreported_build_number_is_accepted(
    site: TrialSite, record: str | None, kind: HealthAnswer
) -> None:
    """The slot is of 3.2.4; what its application reports stands in the slot's record."""
    slots = load_essential_settings(site.config).slots
    if record is not None:
        place = slots / ".records" / "3.2.4"
        place.mkdir(parents=True)
        (place / "release.json").write_text(record)
    with answering(http(b'{"version": "3.2"}')) as url:
        configure(site, "http://127.0.0.1:9", url)
        assert look(site).answer is kind


def test_slow_application_is_not_awaited(site: TrialSite) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") as url:
        configure(site, "http://127.0.0.1:9", url)
        configure(site, STOPPED, '["sleep", "600"]')
        seen = look(site, limit_s=1.0)
    assert (seen.state, seen.answer) == (AvailabilityState.UNKNOWN, HealthAnswer.NO_ANSWER)
    assert "within 1 s" in str(seen.unknown_because)


# ---- systemd -------------------------------------------------------------------------------------

SHOWN = """Id=ncen.service\nLoadState=loaded\nActiveState=active\nStateChangeTimestampMonotonic=1

Id=ncen-worker.service\nLoadState=loaded\nActiveState=failed\nStateChangeTimestampMonotonic=2
"""


@pytest.mark.parametrize(
    ("script", "runs", "why"),
    [
        (f"cat <<'END'\n{SHOWN}END", True, ""),
        (f"cat <<'END'\n{SHOWN.replace('=loaded', '=not-found')}END", None, "not found by systemd"),
        ("echo System has not been booted with systemd; exit 1", None, "has not been booted"),
        ("echo Access denied; exit 4", None, "Access denied"),
    ],
)
def test_unit_states_are_shown(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch, script: str, runs: bool | None, why: str
) -> None:
    """systemd is played: no test may start units of the machine."""
    program = site.root / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    configure(site, 'adapter = "command"', 'adapter = "systemd"\nunit = "ncen.service"')
    part = '[[application.parts]]\nname = "worker"\nunit = "ncen-worker.service"\n'
    site.config.write_text(site.config.read_text() + part)
    with answering(http(b'{"version": "3.2.4"}')) as url:
        configure(site, "http://127.0.0.1:9", url)
        seen = look(site)
    assert (seen.state, seen.process_runs, why in str(seen.unknown_because)) == (
        AvailabilityState.AVAILABLE,
        runs,
        True,
    )
    assert seen.missing_parts == (("worker",) if runs else ())
    assert (seen.since is not None) is (runs is True)


def test_offline_process_does_not_probe(site: TrialSite) -> None:
    """As in the unit of the service: what cannot be asked is not taken for what does not run."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no 'unshare' to take the network away with")
    configure(site, STOPPED, '["true"]')
    code = (
        "import json, sys; from pathlib import Path;"
        "from ncen_updater.agent.adapters.application.availability_probe import probe_availability;"
        "from ncen_updater.agent.config.essential_settings import load_essential_settings;"
        "print(json.dumps(probe_availability(load_essential_settings(Path(sys.argv[1]))).to_json()))"
    )
    done = subprocess.run(
        ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]),
         sys.executable, "-c", code, str(site.config)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(f"this machine takes no network away: {done.stderr.strip()}")
    seen = Availability.from_json(json.loads(done.stdout))
    assert (seen.state, seen.answer) == (AvailabilityState.UNKNOWN, HealthAnswer.NOT_ASKED)
