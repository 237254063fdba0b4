"""Tests of ``history CHANGE``: a summary for people, events on request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import DowntimeForecast, record_forecast
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalCopyPlans
from ncen_updater.agent.model.change import Actor, ChangeKind, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.model.event_names import (
    CHANGE_LOCK_FILE,
    IMPORTED,
    RECOVERY_STARTED,
    ROLLBACK_EMERGENCY,
)
from ncen_updater.agent.reports.change_lines import format_change
from ncen_updater.agent.service.site_report import build_change_report
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.labels import translate_step_label
from ncen_updater.common.messages import CHECK_RESULT_INVALID
from tests.agent.cli.site import CHANGE, TrialSite

AT = datetime(2026, 11, 24, 22, tzinfo=UTC)
AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)
BACK = replace(
    CHANGE, id="bbbbbbbb", kind=ChangeKind.ROLLBACK, from_version="3.3.0", to_version="3.2.4",
    created_at=AT,
)  # fmt: skip
UPGRADE = replace(CHANGE, created_at=AT)


class Clock:
    """Goes on by a second with each look."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def steps(journal: Journal, *names: StepName) -> None:
    for name in names:
        journal.record_step(UPGRADE.id, name, StepState.INTENDED)
        journal.record_step(UPGRADE.id, name, StepState.DONE)


def committed(journal: Journal, facts: ChangeFacts = NO_FACTS) -> None:
    consent = ApprovalStore(journal)
    consent.add("ab" * 32, "3.3.0", {}, AMINA)
    consent.add("ab" * 32, "3.3.0", {}, BO)
    consent.add("cd" * 32, "3.4.0", {}, Actor("dana", 1003))
    order = JobQueue(journal).enqueue(JobKind.UPGRADE, {}, AMINA)
    JobQueue(journal).mark_started(order)
    journal.begin_change(
        replace(UPGRADE, created_at=journal.read_time()), ChangeFacts(binding="ab" * 32)
    )
    consent.consume_all(UPGRADE.id)
    record_forecast(journal, UPGRADE, DowntimeForecast("rrrrrrrr", 3.9, 8.0, 12.7))
    steps(journal, StepName.FETCH, StepName.MAINTENANCE_ON, StepName.COPY, StepName.MIGRATE)
    journal.commit_change(UPGRADE.id)
    journal.store_facts(UPGRADE.id, replace(facts, downtime_s=8.6))
    JobQueue(journal).mark_ended(order, {"exit_code": 0})


def finished(journal: Journal) -> None:
    committed(journal, ChangeFacts(soak_checks=30, soak_failed_checks=1, confirmed_by="bo"))
    journal.set_change_state(UPGRADE.id, ChangeState.FINISHED)


def undone(journal: Journal) -> None:
    journal.begin_change(UPGRADE)
    steps(journal, StepName.FETCH)
    journal.record_step(UPGRADE.id, StepName.MIGRATE, StepState.INTENDED)
    journal.record_event(
        "step-failed", UPGRADE.id, step="migrate", code="NU-4201",
        error=UpdaterError(
            CHECK_RESULT_INVALID, check="0003", database="companies", problem="2 values",
            detail="a\nDETAIL: b",
        ).full_text,
    )  # fmt: skip
    journal.set_change_state(UPGRADE.id, ChangeState.REVERTED, error_code="NU-4201")


def interrupt_migration(journal: Journal) -> None:
    """The machine fell in the migration, and what starts first undid it."""
    journal.begin_change(UPGRADE)
    steps(journal, StepName.FETCH, StepName.MAINTENANCE_ON, StepName.COPY)
    journal.record_step(UPGRADE.id, StepName.MIGRATE, StepState.INTENDED)
    journal.record_event(RECOVERY_STARTED, UPGRADE.id)
    for name in (StepName.MIGRATE, StepName.COPY, StepName.MAINTENANCE_ON):
        journal.record_step(UPGRADE.id, name, StepState.UNDOING)
        journal.record_step(UPGRADE.id, name, StepState.UNDONE)
    journal.set_change_state(UPGRADE.id, ChangeState.REVERTED)


def interrupted(journal: Journal) -> None:
    """Interrupted by an operator, without a message of its own."""
    journal.begin_change(UPGRADE)
    steps(journal, StepName.FETCH)
    journal.record_event("step-failed", UPGRADE.id, step="copy", code="NU-9999", error="it is gone")
    journal.set_change_state(UPGRADE.id, ChangeState.REVERTED, error_code="NU-6010")


def record_rollback(journal: Journal) -> None:
    committed(journal, ChangeFacts(soak_error=LazyText("status 503")))
    journal.set_change_state(UPGRADE.id, ChangeState.FINISHED)
    journal.begin_change(BACK, ChangeFacts(undone_upgrade=UPGRADE.id))
    journal.commit_change(BACK.id)
    journal.set_change_state(BACK.id, ChangeState.FINISHED)


def emergency(journal: Journal) -> None:
    journal.record_event(
        ROLLBACK_EMERGENCY, undoes=UPGRADE.id, version="3.2.4", origin="3.3.0",
        reason="officers lose cases", by="olga", uid=1003,
    )  # fmt: skip


def opened(journal: Journal) -> None:
    journal.begin_change(UPGRADE)


CHANGES: dict[str, tuple[Callable[[Journal], None], list[str]]] = {
    "finished": (finished, [
        "Change abcdefgh: upgrade 3.2.4 -> 3.3.0, finished",
        "  started <at>, finished <at>, duration <long>",
        "  approved by amina, bo",
        "  started by amina",
        "  downtime: 8.6 s; predicted: about 8.0 s (at most 13 s)",
        "  longest steps: showing the maintenance page 2.0 s, copying the databases 2.0 s,"
        " migrating the databases 2.0 s",
        "  soak period: 30 health checks, 1 failed",
        "  confirmed by bo",
    ]),
    "undone": (undone, [
        "Change abcdefgh: upgrade 3.2.4 -> 3.3.0, reverted",
        "  started <at>, finished <at>, duration <long>",
        "  downtime: none",
        "  failed <at> (migrating the databases): NU-4201 Invalid result of check '0003' on"
        " companies: 2 values (a",
        "  What to do: Run ncen-updater support-bundle and send the file to the Secretariat.",
        "  no data loss",
    ]),
    "torn": (interrupt_migration, [
        "Change abcdefgh: upgrade 3.2.4 -> 3.3.0, reverted",
        "  started <at>, finished <at>, duration <long>",
        "  downtime: <long>",
        "  interrupted during: migrating the databases (started <at>)",
        "  resumed <at>",
        "  steps reverted, last first: migrating the databases, copying the databases, showing"
            " the maintenance page",
        "  no data loss",
    ]),
    "interrupted": (interrupted, [
        "Change abcdefgh: upgrade 3.2.4 -> 3.3.0, reverted",
        "  started <at>, finished <at>, duration <long>",
        "  downtime: none",
        "  failed <at> (copying the databases): NU-9999 it is gone",
        "  no data loss",
    ]),
    "reverted": (record_rollback, [
        "Change abcdefgh: upgrade 3.2.4 -> 3.3.0, finished",
        "  failed in the soak period: status 503",
        "  rolled back by change bbbbbbbb",
    ]),
    "open": (opened, [
        "Change abcdefgh: upgrade 3.2.4 -> 3.3.0, interrupted",
        "  started <at>, not finished",
        "  downtime: none",
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_summarised_in_a_dozen_lines(site: TrialSite, name: str) -> None:
    make, expected = CHANGES[name]
    with Journal.open(site.journal, now=Clock()) as journal:
        make(journal)
        report = to_json_value(build_change_report(journal, UPGRADE.id))
    assert isinstance(report, dict)
    said = [line.render("en") for line in format_change(report, "en")]
    # How often the journal looks at the clock is its own affair.
    lines = [re.sub(r"\S+ 22:00:\d\d UTC", "<at>", line) for line in said]
    lines = [re.sub(r"duration \S+ s", "duration <long>", line) for line in lines]
    if name == "torn":
        lines = [re.sub(r"downtime: [\d.]+ s", "downtime: <long>", line) for line in lines]
    assert len(lines) <= 12
    if name == "reverted":
        assert [line for line in lines if line in expected] == expected
    else:
        assert lines == expected
    assert list(format_change(report, "fr"))


def test_open_change_is_interrupted_unless_a_process_runs_it(site: TrialSite) -> None:
    with Journal.open(site.journal, now=Clock()) as journal:
        opened(journal)
    assert re.search(r"abcdefgh +upgrade .* interrupted ", site.run("history").stdout)
    with hold_change_lock(site.journal.parent / CHANGE_LOCK_FILE, "upgrade to 3.3.0"):
        assert re.search(r"abcdefgh +upgrade .* running ", site.run("history").stdout)


def test_cause_is_translated_to_french(site: TrialSite) -> None:
    with Journal.open(site.journal, now=Clock()) as journal:
        undone(journal)
        report = to_json_value(build_change_report(journal, UPGRADE.id), "fr")
    assert isinstance(report, dict)
    said = "\n".join(line.render("fr") for line in format_change(report, "fr"))
    assert "NU-4201 Résultat incorrect du contrôle « 0003 » sur companies" in said, said
    report["failure"] = None
    assert "NU-4201: " in "\n".join(line.render("en") for line in format_change(report, "en"))


def test_events_are_shown_on_request(site: TrialSite) -> None:
    with Journal.open(site.journal) as journal:
        undone(journal)
    short, long = site.run("history", UPGRADE.id), site.run("history", UPGRADE.id, "--events")
    assert "step started" not in short.stdout and "DETAIL" not in short.stdout
    assert "history abcdefgh --events" in short.stdout
    assert "step started" in long.stdout and "step failed" in long.stdout
    document = json.loads(site.run("history", UPGRADE.id, "--json").stdout)
    assert document["events"][0]["kind"] == "change-started"
    assert document["failure"]["step"] == "migrate"


def test_failed_change_in_the_list_names_its_details(site: TrialSite) -> None:
    """Seen: a code in a row, and no word of where its meaning stands."""
    with Journal.open(site.journal, now=Clock()) as journal:
        undone(journal)
    said = site.run("history").stdout
    assert f"For the last failure, run: ncen-updater history {UPGRADE.id}" in said


def test_list_shows_the_soak_failure_and_who_rolled_back(site: TrialSite) -> None:
    """Seen: "finished", without a code, and the rollback "started by" who ordered the upgrade."""
    with Journal.open(site.journal, now=Clock()) as journal:
        committed(journal, ChangeFacts(soak_error=LazyText("status 503")))
        journal.set_change_state(UPGRADE.id, ChangeState.FINISHED)
        order = JobQueue(journal).enqueue(JobKind.UPGRADE, {}, AMINA)
        JobQueue(journal).mark_started(order)
        journal.begin_change(
            replace(BACK, created_at=journal.read_time()),
            ChangeFacts(undone_upgrade=UPGRADE.id, failed_soak_upgrade=UPGRADE.id),
        )
        journal.commit_change(BACK.id)
        journal.set_change_state(BACK.id, ChangeState.FINISHED)
    (row,) = [line for line in site.run("history").stdout.splitlines() if "NU-6009" in line]
    assert row.startswith(UPGRADE.id)
    # Seen in the console, which shows the same list: "finished", without a code.
    changes = json.loads(site.run("history", "--json").stdout)["changes"]
    codes = {one["id"]: one["error_code"] for one in changes}
    assert codes == {UPGRADE.id: "NU-6009", BACK.id: None}
    said = site.run("history", BACK.id).stdout
    assert "automatic rollback: 3.3.0 failed in the soak period" in said
    assert "started by" not in said


def test_list_shows_failed_rehearsals_and_imports(site: TrialSite) -> None:
    """Seen: "No change was ever begun here."."""
    with Journal.open(site.journal, now=Clock()) as journal:
        rehearsals = RehearsalStore(journal)
        for number, error in (
            ("aaaaaaaa", LazyText("Migration 0003 of companies failed.")),
            ("bbbbbbbb", None),
        ):
            rehearsals.record_start(number, "3.2.4", "3.3.1", RehearsalCopyPlans())
            rehearsals.record_end(number, RehearsalState.FAILED, error_code="NU-4006", error=error)
        journal.record_event(IMPORTED, None, by="yves", file="ke.ncen", releases=["3.3.1"])
    said = site.run("history").stdout
    assert "rehearsal of 3.3.1 failed: NU-4006: Migration 0003 of companies failed." in said
    assert "rehearsal of 3.3.1 failed: NU-4006\n" in said
    assert "3.3.1 imported from ke.ncen by yves" in said


def test_emergency_rollback_shows_actor_and_reason(
    site: TrialSite,
) -> None:
    with Journal.open(site.journal) as journal:
        committed(journal)
        journal.set_change_state(UPGRADE.id, ChangeState.FINISHED)
        emergency(journal)
        journal.begin_change(BACK, ChangeFacts(undone_upgrade=UPGRADE.id))
        journal.set_change_state(BACK.id, ChangeState.REVERTED)
        journal.begin_change(replace(BACK, id="cccccccc"), ChangeFacts(undone_upgrade=UPGRADE.id))
        reports = [build_change_report(journal, one) for one in (UPGRADE.id, BACK.id, "cccccccc")]
    assert [one["emergency"] for one in reports] == [
        None, {"actor": "olga", "reason": "officers lose cases"}, None,
    ]  # fmt: skip
    report = to_json_value(reports[1])
    assert isinstance(report, dict)
    told = [line.render("en") for line in format_change(report, "en")]
    assert ("  emergency rollback without approval, by olga: officers lose cases") in told


@pytest.mark.parametrize(
    ("kind", "words"),
    [("upgrade", "downloading and verifying the release"), ("rollback", "verifying the release")],
)
def test_rollback_reports_no_download(kind: str, words: str) -> None:
    """Seen: a rollback was "downloading and verifying the release", which it has here."""
    assert translate_step_label("fetch", kind, "en") == words
    assert translate_step_label("copy", kind, "en") == "copying the databases"
    assert translate_step_label("of-a-newer-agent", kind, "en") == "of-a-newer-agent"
