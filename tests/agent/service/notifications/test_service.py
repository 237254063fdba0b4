"""Tests of notifications by the real service, and of failing delivery."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ncen_updater.agent.model.event_names import AGENT_CONFIRMED
from ncen_updater.agent.storage.journal.journal import Journal
from tests.agent.cli.site import TrialSite
from tests.agent.service.notifications.receivers import MailBox, dead_port, mail_server
from tests.support.forks import DEADLINE_S


class Service:
    """A service as a process, and its log."""

    def __init__(self, site: TrialSite) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ncen_updater.agent.cli.main", "serve"],
            env=site.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._told:
                self.lines.append(line)
                self._told.notify_all()

    def wait_for(self, words: str) -> None:
        with self._told:
            done = self._told.wait_for(lambda: any(words in line for line in self.lines), 60)
        assert done, "".join(self.lines)

    def end(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        code = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return code


@contextlib.contextmanager
def running(site: TrialSite) -> Iterator[Service]:
    service = Service(site)
    try:
        yield service
    finally:
        if service._process.poll() is None:
            service.end(signal.SIGKILL)


def configure(site: TrialSite, port: int) -> None:
    text = site.config.read_text() + (
        f'[service]\nself_update = false\napi_socket = "{site.root}/api.sock"\n'
        'viewer_group = "root"\n'
        f'operator_group = "root"\napprover_group = "root"\n'
        "[notify]\nbatch_s = 0\nmin_free_percent = 0\n"
        f'[notify.mail]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\ntimeout_s = 0.5\n'
        'sender = "a@example.org"\nto = ["b@example.org"]\n'
        f'[metrics]\nfile = "{site.root}/metrics.prom"\n'
    )
    site.config.write_text(text)
    (site.state / "service").mkdir(exist_ok=True)


def note(site: TrialSite, version: str) -> None:
    with Journal.open(site.journal) as journal:
        journal.record_event(AGENT_CONFIRMED, version=version)


def subjects(box: MailBox) -> list[str]:
    return [str(mail["Subject"]) for mail in box.mails]


@pytest.fixture
def unused_port() -> Iterator[int]:
    with dead_port() as port:
        yield port


def test_notifications_arrive_once_despite_a_kill(site: TrialSite) -> None:
    with mail_server() as box:
        told = threading.Condition()
        take = box.handle_DATA

        async def handle(*args: object) -> str:
            answer = await take(*args)
            with told:
                told.notify_all()
            return answer

        def arrives(words: str) -> bool:
            with told:
                return told.wait_for(lambda: any(words in said for said in subjects(box)), 60)

        box.handle_DATA = handle  # type: ignore[assignment, method-assign]
        configure(site, box.port)
        with running(site) as service:
            service.wait_for("service.loop wait")
            note(site, "1.1.0")
            assert arrives("1.1.0")
            note(site, "1.1.1")
            assert arrives("1.1.1")
            metrics = (site.root / "metrics.prom").read_text()  # of the round before
            service.end(signal.SIGKILL)
        note(site, "1.2.0")
        with running(site) as service:
            assert arrives("1.2.0")
            assert service.end() == 0
    said = subjects(box)
    assert said[-1] == "[ke-1] ncen-updater updated to 1.2.0"
    # One may come twice where the kill came before it was written down, under one number.
    numbers = [mail["Message-ID"] for mail in box.mails]
    assert len(set(numbers)) == 3
    assert "ncen_updater_journal_readable 1.0" in metrics
    assert 'ncen_updater_command_runs_total{action="check"' in metrics
    assert "ncen_updater_loop_timestamp_seconds" in metrics


def test_failed_notification_does_not_stop_the_service(site: TrialSite, unused_port: int) -> None:
    configure(site, unused_port)  # a mail server that says nothing
    (site.root / "metrics.prom").mkdir()  # and metrics that cannot be written
    with running(site) as service:
        service.wait_for("service.loop wait")
        note(site, "1.1.0")
        service.wait_for("cannot write metrics")
        service.wait_for("unreachable")
        done = site.run("hold", "--reason", "fair", "--local")
        assert done.returncode == 0, done.stderr
        service.wait_for("on hold")
        assert service.end() == 0
