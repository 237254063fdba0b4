"""Steps of the service: recorder whose end the disk does not take, or that come while it looks."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.errors import JournalUnwritableError
from ncen_updater.agent.policy.automation import ServiceAction, ServiceDecision
from ncen_updater.agent.reports.status import read_mtime_ns
from ncen_updater.agent.self_update.trial import AgentTrial, TrialVerdict
from ncen_updater.agent.service import serve
from ncen_updater.agent.service.loop import ServiceLoop
from ncen_updater.agent.service.serve import WakeupPipe
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.service.systemd_notify import SystemdNotifier
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue, JournalJobRecorder
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import LazyText

#: So many slices of a sleep are no sign that it ends.
MOST_SLICES = 200


class UnwritableEndService:
    """A service that begins the order and finds no room to say that it ended, once."""

    def __init__(self, recorder: JournalJobRecorder) -> None:
        self._orders, self.full = recorder, True

    def run_once(self) -> ServiceDecision:
        if self.full:
            self._orders.take(1)
            raise JournalUnwritableError(path="x", reason="full")
        return ServiceDecision(ServiceAction.WAIT, LazyText("nothing"))


def test_unrecorded_end_of_a_job_is_recorded_once_space_is_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.create(path) as journal:
        JobQueue(journal).enqueue(JobKind.REHEARSE, {}, Actor("amina", 1))
    recorder = JournalJobRecorder(path)
    service = UnwritableEndService(recorder)

    def refused(self: JobQueue, number: int, result: object) -> None:
        raise JournalUnwritableError(path=path, reason="full")

    with monkeypatch.context() as full:
        full.setattr(JobQueue, "mark_ended", refused)
        for _ in range(2):
            serve._run_step(cast("ServiceLoop", service), recorder)
            service.full = False
        with Journal.open(path) as journal:
            assert len(JobQueue(journal).list_unfinished()) == 1
    serve._run_step(cast("ServiceLoop", service), recorder)
    with Journal.open(path) as journal:
        assert JobQueue(journal).list_unfinished() == (), (
            "or none of its kind could be given any more"
        )


class Watched:
    """Waits while no order is there, as at night; one comes while the site is looked at."""

    def __init__(self, recorder: JournalJobRecorder, path: Path, waker: WakeupPipe) -> None:
        self._orders, self._path, self._waker = recorder, path, waker
        self.done: list[int] = []

    def run_once(self) -> ServiceDecision:
        with Journal.open(self._path) as journal:
            seen = JobQueue(journal).list_unfinished()
            if not self.done and not seen:
                JobQueue(journal).enqueue(JobKind.CHECK, {}, Actor("amina", 1))
        for order in seen:
            self._orders.take(order.id)
            self._orders.end(order.id, {"exit_code": 0})
            self.done.append(order.id)
            self._waker.stop()
        until = datetime.now(UTC) + timedelta(hours=6)
        return ServiceDecision(ServiceAction.WAIT, LazyText("nothing"), until)


class Steady:
    """An agent that is on no trial, as once it has confirmed itself."""

    def run_after_step(self) -> TrialVerdict:
        return TrialVerdict()

    def uncount_start(self) -> None:
        pass


def test_job_queued_between_check_and_sleep_wakes_the_service(
    tmp_path: Path,
) -> None:
    """Seen: a check that somebody ordered while the agent changed waited for over five minutes."""
    path = tmp_path / "journal.sqlite"
    Journal.create(path).close()
    slices: list[None] = []

    def alive() -> None:
        slices.append(None)
        assert len(slices) < MOST_SLICES, "it was slept through"

    waker = WakeupPipe(alive, lambda: read_mtime_ns(path), max_sleep_s=0.01)
    recorder = JournalJobRecorder(path)
    service = Watched(recorder, path, waker)
    serve._run_loop(
        cast("ServiceLoop", service), waker, SystemdNotifier({}), cast("AgentTrial", Steady()),
        cast("SnapshotStore", None), recorder, tmp_path / "agent.toml",
    )  # fmt: skip
    waker.close()
    assert service.done == [1]


def test_status_with_a_name_that_is_no_text_is_sent(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        notifier = SystemdNotifier({"NOTIFY_SOCKET": str(address)})
        notifier.notify_status(os.fsdecode(b"caf\xe9: no such file"))
        assert manager.recv(100) == b"STATUS=caf?: no such file"
