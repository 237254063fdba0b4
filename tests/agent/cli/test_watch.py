"""Tests of ``watch``: the output of ``upgrade``; events of the journal on request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.cli import watch
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.model.change import Actor, ChangeState
from ncen_updater.agent.service.api.queries import build_activity_document
from ncen_updater.agent.service.api_client import StreamEvent
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.progress import ProgressUpdate
from tests.agent.cli.site import CHANGE, make_site
from tests.agent.service.api.conftest import BASIS, BINDING, NEXT, NOW, SETTINGS, Counter
from tests.agent.service.api.serving import answering

EVENT = StreamEvent(
    "step-intended", {"number": 7, "at": None, "change": None, "data": {"step": "fence"}}
)


class Service:
    """A real service at the socket of a site, whose work the test does."""

    def __init__(self, counter: Counter) -> None:
        self.counter, self.snapshots = counter, counter.snapshots

    def moment(self) -> StreamEvent:
        document = to_json_value(build_activity_document(self.snapshots.get_latest(), "en"))
        assert isinstance(document, dict)
        return StreamEvent("service", document)

    def happens(self, *_: object, **__: object) -> Iterator[StreamEvent]:
        """Yield the events of the stream: one more message, a step, the end."""
        yield self.moment()
        self.snapshots.record_progress(ProgressUpdate("switching to 3.3.0"))
        yield self.moment()
        yield EVENT
        with Journal.open(self.counter.site.journal) as journal:
            journal.begin_change(CHANGE)
            journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
        self.snapshots.record_end()


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    site = make_site(tmp_path / "site")
    with site.config.open("a") as config:
        config.write('[service]\napi_socket = "api.sock"\n')
    snapshots = SnapshotStore(SETTINGS, lambda: NOW)
    snapshots.record_start(["upgrade", "3.3.0"])
    for sentence in ("stopping the application", "copying the databases"):
        snapshots.record_progress(ProgressUpdate(sentence))
    made = Service(Counter(site, snapshots))
    with answering(made.counter):
        monkeypatch.setattr(watch, "_follow_events", made.happens)
        yield made


@pytest.mark.parametrize(
    ("options", "written"),
    [((), ""), (("--json",), "step-intended")],
)
def test_events_are_written_on_request(
    service: Service, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], written: str
) -> None:
    config = str(service.counter.site.config)
    assert run(["--config", config, "watch", *options]) == 0
    shown = capsys.readouterr().out
    kinds = [words for words in ("step started", "step-intended") if words in shown]
    assert kinds == [written] * bool(written)


def test_watcher_sees_the_progress_and_the_result(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--config", str(service.counter.site.config), "watch"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[:2] == ["copying the databases", "switching to 3.3.0"]
    assert said.out.startswith("Last change: upgrade to 3.3.0, reverted")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("plan", "Finished: downloading a release. Run: ncen-updater status"),
        ("rehearse", "Finished: rehearsing a release. Run: ncen-updater status"),
    ],
)
def test_operation_without_a_change_ends_with_its_result(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    work: str, said: str,
) -> None:  # fmt: skip
    """Seen: nothing at all, or what became of the release before."""

    def happens(*_: object, **__: object) -> Iterator[StreamEvent]:
        yield service.moment()
        service.snapshots.record_end()
        with Journal.open(service.counter.site.journal) as journal:
            journal.begin_change(CHANGE)
            journal.set_change_state(CHANGE.id, ChangeState.REVERTED)

    service.counter.know(NEXT)
    service.snapshots.record_start([work, "3.3.0"])
    monkeypatch.setattr(watch, "_follow_events", happens)
    assert run(["--config", str(service.counter.site.config), "watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [said]


def test_job_ends_with_its_result(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(service.counter.site.journal) as journal:
        JobQueue(journal).enqueue(JobKind.CHECK, {}, Actor("amina", 1001))

    def happens(*_: object, **__: object) -> Iterator[StreamEvent]:
        yield service.moment()
        with Journal.open(service.counter.site.journal) as journal:
            JobQueue(journal).mark_started(1)
            document = {"lines": ["Up to date: ncen 3.2.4"]}
            JobQueue(journal).mark_ended(1, {"exit_code": 0, "document": document})

    monkeypatch.setattr(watch, "_follow_events", happens)
    assert run(["--config", str(service.counter.site.config), "watch"]) == 0
    assert capsys.readouterr().out == "Up to date: ncen 3.2.4\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_failed_job_ends_with_its_exit_code(
    service: Service, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    """Seen: 0, which told a script that the upgrade had gone well."""
    with Journal.open(service.counter.site.journal) as journal:
        JobQueue(journal).enqueue(JobKind.CHECK, {}, Actor("amina", 1001))

    def happens(*_: object, **__: object) -> Iterator[StreamEvent]:
        yield service.moment()
        with Journal.open(service.counter.site.journal) as journal:
            JobQueue(journal).mark_started(1)
            JobQueue(journal).mark_ended(1, {"exit_code": 7, "document": {"lines": ["no line"]}})

    monkeypatch.setattr(watch, "_follow_events", happens)
    words = ["--config", str(service.counter.site.config), "watch"]
    assert run([*words, *(["--json"] if as_json else [])]) == 7


def test_early_watcher_is_told_the_start_time(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_follow_events", lambda *_, **__: iter(()))
    service.snapshots.record_end()
    config = str(service.counter.site.config)
    idle = "No operation in progress"
    assert run(["--config", config, "watch"]) == 0
    assert capsys.readouterr().out.splitlines() == [idle], "nothing is next"
    service.counter.know(NEXT)
    assert run(["--config", config, "watch"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        idle, "Next upgrade: 3.3.0", "The upgrade waits for approval: 2 missing.",
    ]  # fmt: skip
    at = datetime(2099, 1, 3, 22, tzinfo=UTC)
    with Journal.open(service.counter.site.journal) as journal:
        for person in (Actor("amina", 1001), Actor("bo", 1002)):
            ApprovalStore(journal).add(BINDING, "3.3.0", BASIS, person, 2)
        ApprovalStore(journal).set_schedule(BINDING, "3.3.0", at, Actor("amina", 1001))
    assert run(["--config", config, "watch"]) == 0
    assert "The upgrade starts on Saturday 2099-01-03" in capsys.readouterr().out


def test_unknown_job_is_reported_by_its_number(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: "The service knows nothing at /v1/jobs/999"."""
    assert run(["--config", str(service.counter.site.config), "watch", "999", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["title"]) == ("NU-9337", "Job 999 not found")


def test_invalid_part_of_a_support_bundle_lists_the_valid_ones(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: what the service's reader says of a pattern."""
    words = ("support-bundle", "--show", "histroy", "--json")
    assert run(["--config", str(service.counter.site.config), *words]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "events.json" in error["remedy"]) == ("NU-9654", True)
