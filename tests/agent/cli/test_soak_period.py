"""Tests of the soak period: approvals, waiting jobs, and its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from ncen_updater.agent.cli.job_progress import describe_job_wait
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.cli.service_client import ServiceSiteClient
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.change import Actor, StepName, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE
from ncen_updater.agent.policy.automation import ServiceAction
from ncen_updater.agent.service.api.queries import build_activity_document
from ncen_updater.agent.service.api_client import SiteServiceClient, StreamEvent
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import (
    SERVICE_STATE_PATH,
    ServiceState,
    ServiceStateFile,
)
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.messages import ExitCode
from ncen_updater.common.progress import SilentProgress
from tests.agent.cli.site import CHANGE, make_site
from tests.agent.service.api.conftest import NEXT, SETTINGS, Counter
from tests.agent.service.api.serving import answering

SOMEBODY = Actor("amina", 1001)
BEGAN = datetime(2026, 11, 24, 20, 30, tzinfo=UTC)
#: The site's hour and that of UTC, which are of two days.
UNTIL = "2026-11-25 00:40:00 +04"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Counter]:
    """A site in Mauritius whose service watches 3.3.0."""
    site = make_site(tmp_path / "site")
    with site.config.open("a") as config:
        config.write('[service]\napi_socket = "api.sock"\ntimezone = "Indian/Mauritius"\n')
        config.write("[soak]\nseconds = 600\n")
    site.open_change(StepName.FETCH, StepName.MAINTENANCE_OFF)
    site.use("3.3.0")
    with Journal.open(site.journal) as journal:
        journal.commit_change(CHANGE.id)
        journal.record_step(
            CHANGE.id, StepName.SOAK, StepState.INTENDED, ChangeFacts(soak_started_at=BEGAN)
        )
    snapshots = SnapshotStore(SETTINGS, lambda: BEGAN)
    snapshots.record_start(["upgrade", "3.3.0"])
    counter = Counter(site, snapshots)
    counter.know(NEXT)
    with answering(counter):
        yield counter


@pytest.mark.parametrize("alone", [(), ("--local",)])
@pytest.mark.parametrize(
    "words",
    [("approve", "--dry-run"), ("approve", "3.4.0", "--dry-run"), ("schedule", "2099-01-01")],
)
def test_no_approval_is_taken_during_the_soak(
    watched: Counter,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    alone: tuple[str, ...],
) -> None:
    """Seen: the rehearsal and the approvals of the very release that was watched."""
    config = str(watched.site.config)
    assert run(["--config", config, *alone, *words]) == ExitCode.BUSY
    said = " ".join(capsys.readouterr().err.split())
    assert "NU-6071" in said
    assert f"soak period of 3.3.0 until {UNTIL}" in said
    assert "run: ncen-updater confirm" in said


@pytest.mark.parametrize("alone", [(), ("--local",)])
def test_lifted_hold_does_not_announce_an_installed_upgrade(
    watched: Counter, capsys: pytest.CaptureFixture[str], alone: tuple[str, ...]
) -> None:
    assert run(["--config", str(watched.site.config), *alone, "unhold"]) == 0
    assert capsys.readouterr().out == "No holds.\n"


def test_no_approval_is_taken_during_a_running_change(
    watched: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal.open(watched.site.journal) as journal:
        journal.record_step(CHANGE.id, StepName.SOAK, StepState.DONE)
    assert run(["--config", str(watched.site.config), "approve", "--dry-run"]) == ExitCode.BUSY
    said = capsys.readouterr().err
    assert "upgrade to 3.3.0, being completed by the service" in said and "NU-6004" in said
    failed = ServiceState().with_failure(ServiceAction.RESUME, datetime.now(UTC), "NU-4001")
    ServiceStateFile(watched.site.state / SERVICE_STATE_PATH).save(failed)
    assert run(["--config", str(watched.site.config), "approve", "--dry-run"]) == ExitCode.BUSY
    assert "NU-6005" in capsys.readouterr().err


def test_status_shows_the_end_of_the_soak_and_waiting_jobs(
    watched: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal.open(watched.site.journal) as journal:
        JobQueue(journal).enqueue(JobKind.CHECK, {}, SOMEBODY)
    assert run(["--config", str(watched.site.config), "status"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Soak period until {UNTIL}" in said
    assert "Last step" not in said
    assert (
        "Queued by amina: reading the metadata waiting for the soak period of 3.3.0, "
        f"until {UNTIL}. To end it now, run: ncen-updater confirm" in said
    )


def test_confirmed_soak_asks_for_no_confirmation(
    watched: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: "amina confirmed it", and above it that 'ncen-updater confirm' ends the watching."""
    with Journal.open(watched.site.journal) as journal:
        journal.store_facts(CHANGE.id, ChangeFacts(confirmed_by="amina"))
    assert run(["--config", str(watched.site.config), "status"]) == 0
    said = capsys.readouterr().out
    assert "confirmed by amina" in said and "ncen-updater confirm" not in said, said


def test_job_reports_at_once_what_it_waits_for(
    watched: Counter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: 'check' stood for as long as the release was watched, and did not say why."""

    def stream(
        self: SiteServiceClient, after: int | None = None, *_: object
    ) -> Iterator[StreamEvent]:
        def moment() -> StreamEvent:
            document = to_json_value(build_activity_document(watched.snapshots.get_latest(), "en"))
            assert isinstance(document, dict)
            return StreamEvent("service", document)

        yield moment()
        watched.snapshots.record_end()
        with Journal.open(watched.site.journal) as journal:
            JobQueue(journal).mark_started(1)
        watched.snapshots._now = lambda: datetime.now(UTC) + timedelta(hours=1)
        watched.snapshots.record_start(["check"])
        yield moment()
        with Journal.open(watched.site.journal) as journal:
            JobQueue(journal).mark_ended(1, {"exit_code": 0, "document": {"lines": ["read"]}})
        yield StreamEvent("job-ended", {"data": {"job": 1}})

    monkeypatch.setattr(SiteServiceClient, "stream", stream)
    assert run(["--config", str(watched.site.config), "check"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"waiting for the soak period of 3.3.0, until {UNTIL}. To end it now, run: "
        "ncen-updater confirm",
        "reading the metadata",
    ]
    assert said.out == "read\n"


AT_REST: dict[str, object] = {"open_change": None, "lock_holder": None}


@pytest.mark.parametrize(
    ("journal", "running", "words"),
    [
        ({}, None, None),
        ({"lock_holder": "rehearse, process 7"}, None, "rehearsing a release"),
        ({}, {"command": ["prune"]}, "pruning"),
        (
            {"open_change": {"to": "3.3.0"}, "lock_holder": "resume, process 7"},
            None,
            "resuming a change",
        ),
    ],
)
def test_reason_for_a_waiting_job_is_found(
    journal: dict[str, object], running: object, words: str | None
) -> None:
    seen = {"journal": {**AT_REST, **journal}, "service": {"running": running}}
    found = describe_job_wait(seen, None)
    assert (found is None) if words is None else (found is not None and words in str(found))


@pytest.mark.parametrize("path", [("3.3.0",), ("3.3.0", "3.4.0")])
def test_upgrade_that_follows_the_soak_period_is_announced(
    watched: Counter, capsys: pytest.CaptureFixture[str], path: tuple[str, ...]
) -> None:
    """Seen: one second after 'confirm' the next release of the path disconnected the users."""
    with Journal.open(watched.site.journal) as journal:
        journal.store_facts(CHANGE.id, ChangeFacts(path_versions=path))
    with hold_change_lock(watched.site.state / CHANGE_LOCK_FILE, "upgrade"):
        assert run(["--config", str(watched.site.config), "status"]) == 0
    said = capsys.readouterr().out
    follows = "  Then the upgrade to 3.4.0 begins, with a further downtime."
    assert (follows in said) is (len(path) > 1)


def test_end_of_a_paused_soak_period_is_not_shown_when_it_is_over(
    watched: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen on a full disk: "Soak period until 18:14:22", ten minutes later."""
    with Journal.open(watched.site.journal) as journal:
        facts = ChangeFacts(soak_started_at=datetime(2020, 1, 1, tzinfo=UTC))
        journal.store_facts(CHANGE.id, facts)
    assert run(["--config", str(watched.site.config), "--local", "status"]) == 0
    said = capsys.readouterr().out
    assert "  Soak period. To end it now, run: ncen-updater confirm" in said
    assert "Soak period until" not in said


def test_history_uses_the_site_timezone(
    watched: Counter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: in the zone of the machine, beside the site's in 'approve'."""
    for words in ([], [CHANGE.id], [CHANGE.id, "--events"]):
        assert run(["--config", str(watched.site.config), "history", *words]) == 0
        assert "2026-01-02 07:04:05 +04" in capsys.readouterr().out
    assert run(["--config", str(watched.site.config), "status", "--json"]) == 0
    change = json.loads(capsys.readouterr().out)["journal"]["open_change"]
    assert change["soak_ends_at"] == "2026-11-24T20:40:00Z"


def test_service_wait_reason_is_not_shown_for_a_queued_job() -> None:
    """Seen under the question of 'upgrade': "3.3.0 is ready; run ncen-updater upgrade"."""
    begun = {"since": "2026-11-27T08:00:01+00:00", "command": ["upgrade"], "progress": None}
    before = {"status_read_at": "2026-11-27T08:00:01+00:00", "reason": "3.3.0 is ready"}
    events = [
        StreamEvent("service", {**before, "running": None}),
        StreamEvent("service", {**before, "running": begun}),
        StreamEvent("job-ended", {"data": {"job": 1}}),
    ]
    service, told = create_autospec(SiteServiceClient), create_autospec(SilentProgress)
    service.stream.return_value = iter(events)
    client = object.__new__(ServiceSiteClient)
    client._service = service
    client.read_status = lambda: {"service": {**before, "running": begun}}  # type: ignore[method-assign]
    client._follow_job("upgrade", {"id": 1, "event": 0, "at": "2026-11-27T08:00:00+00:00"}, told)
    assert [str(call.args[0]) for call in told.report.call_args_list] == ["upgrading"]
