"""Tests of notifier rounds over a real journal: each notification once, despite kills."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import (
    ReferenceMapResult,
    RehearsalCopyPlans,
    RehearsalReport,
    RehearsedHop,
)
from ncen_updater.agent.model.change import Actor, ChangeState, StepName, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.model.event_names import AGENT_CONFIRMED, RESTORED_APPROVAL_PREFIX
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.service.notifications.notifier import OUTBOX_PATH, Notifier
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile
from tests.agent.cli.site import CHANGE, TrialSite

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOTIFY = """
[notify]
batch_s = 0
min_free_percent = 0
max_per_hour = 60
[notify.mail]
host = "127.0.0.1"
security = "none"
sender = "a@example.org"
to = ["b@example.org"]
"""
REPORT = RehearsalReport(
    plan="a" * 64,
    backup_s=2.0,
    sizes={"cases": 8192},
    hops=(
        RehearsedHop(
            from_version="3.2.4",
            to_version="3.3.0",
            copy_s=1.0,
            migrate_s=2.0,
            rollback_path=RollbackKind.KEEPS_RECORDS,
            downtime=DowntimeRange(10.0, 15.0, 20.0),
            reference_maps=(ReferenceMapResult("cites", "cases", 212, (("Amina", 3),)),),
            checks={"Amina": (1, 1)},
        ),
    ),
)


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class Trial:
    """A notifier over a site; the mail server is a list."""

    site: TrialSite
    now: datetime = START
    code: str | None = None
    killed: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.site.config.open("a") as stream:
            stream.write(NOTIFY)
        (self.site.state / "service").mkdir(exist_ok=True)

    @property
    def service_state(self) -> Path:
        return self.site.state / "service/state.json"

    def teller(self) -> Notifier:
        return Notifier(
            self.site.config, load_config(self.site.config),
            send=self.send, now=lambda: self.now,
            create_availability_reader=lambda *_: lambda: Availability(AvailabilityState.AVAILABLE),
        )  # fmt: skip

    def send(self, order: Mapping[str, Any]) -> str | None:
        if self.killed == "before":
            raise Killed
        self.orders.append(dict(order))
        if self.killed == "after":
            raise Killed
        return self.code

    def journal(self) -> Journal:
        return Journal.open(self.site.journal)

    def kinds(self) -> list[str]:
        return [item["kind"] for order in self.orders for item in order["notifications"]]


@pytest.fixture
def trial(site: TrialSite) -> Trial:
    made = Trial(site)
    made.teller().run_round()
    return made


def test_outage_and_recovery_are_notified(
    site: TrialSite,
) -> None:
    """Without any change or request: recipients are notified nevertheless."""
    trial = Trial(site)
    heard = [Availability(AvailabilityState.AVAILABLE)]
    notifier = Notifier(
        site.config, load_config(site.config), send=trial.send, now=lambda: trial.now,
        create_availability_reader=lambda *_: lambda: heard[0],
    )  # fmt: skip
    notifier.run_round()
    heard[0] = Availability(AvailabilityState.NOT_RUNNING)
    again = notifier.run_round()
    assert (trial.kinds(), again) == ([], trial.now + timedelta(minutes=2)), "maybe a restart"
    for _ in range(3):
        trial.now += timedelta(minutes=2)
        notifier.run_round()
    assert trial.kinds() == ["application-down"]
    heard[0] = Availability(AvailabilityState.AVAILABLE)
    notifier.run_round()
    notifier.run_round()
    assert trial.kinds() == ["application-down", "application-up"]


def some_news(trial: Trial, version: str = "3.3.0") -> None:
    with trial.journal() as journal:
        ApprovalStore(journal).add("0" * 64, version, {}, Actor("amina", 1001))


def test_events_before_the_first_start_are_not_notified(site: TrialSite) -> None:
    trial = Trial(site)
    some_news(trial)
    trial.teller().run_round()
    assert trial.orders == []
    some_news(trial, "3.4.0")
    with trial.journal() as journal:
        ApprovalStore(journal).add("1" * 64, "3.4.0", {}, Actor("bo", 1002))
    trial.teller().run_round()
    assert trial.kinds() == ["approved"]


def test_whole_upgrade_is_notified(trial: Trial) -> None:
    teller = trial.teller()
    with trial.journal() as journal:
        rehearsals = RehearsalStore(journal)
        rehearsals.record_start("abcdefgh", "3.2.4", "3.3.0", RehearsalCopyPlans())
        rehearsals.record_end("abcdefgh", RehearsalState.PASSED, basis={}, result=REPORT)
    teller.run_round()
    some_news(trial)
    teller.run_round()
    trial.site.open_change(StepName.MAINTENANCE_ON, StepName.COMMIT, StepName.MAINTENANCE_OFF)
    with trial.journal() as journal:
        journal.store_facts(CHANGE.id, ChangeFacts(downtime_s=17.5))
    teller.run_round()
    with trial.journal() as journal:
        journal.set_change_state(CHANGE.id, ChangeState.FINISHED)
        journal.record_event(AGENT_CONFIRMED, version="1.1.0")
    teller.run_round()
    assert trial.kinds() == ["rehearsed", "approved", "upgraded", "agent-updated"]
    first = trial.orders[0]["notifications"][0]["values"]
    assert first == {
        "from": "3.2.4", "version": "3.3.0", "low_s": 10.0, "likely_s": 15.0,
        "high_s": 20.0, "mapped": 212, "unmapped": 3, "checks": 1,
    }  # fmt: skip
    assert trial.orders[2]["notifications"][0]["values"]["downtime_s"] == 17.5
    assert "Amina" not in repr(trial.orders)


def test_failure_is_notified_by_its_code_only(trial: Trial) -> None:
    trial.site.open_change(StepName.MAINTENANCE_ON)
    with trial.journal() as journal:
        journal.record_event(
            "step-failed", CHANGE.id, step="migrate", code="NU-4150", error="Amina"
        )
        journal.set_change_state(CHANGE.id, ChangeState.REVERTING, error_code="NU-4150")
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    trial.teller().run_round()
    (order,) = trial.orders
    (item,) = order["notifications"]
    assert item["kind"] == "upgrade-failed"
    assert item["values"] == {
        "change": CHANGE.id, "from": "3.2.4", "version": "3.3.0", "code": "NU-4150"
    }  # fmt: skip


def test_failed_rehearsal_and_schedule_are_notified(trial: Trial) -> None:
    with trial.journal() as journal:
        RehearsalStore(journal).record_start("abcdefgh", "3.2.4", "3.3.0", RehearsalCopyPlans())
        RehearsalStore(journal).record_end("abcdefgh", RehearsalState.FAILED, error_code="NU-4150")
        ApprovalStore(journal).set_schedule("0" * 64, "3.3.0", START, Actor("amina", 1001))
        ApprovalStore(journal).cancel_schedule(Actor("dana", 1002))
    trial.teller().run_round()
    items = trial.orders[0]["notifications"]
    kinds = ["rehearsal-failed", "scheduled", "schedule-cancelled"]
    assert [item["kind"] for item in items] == kinds
    assert items[1]["values"] == {"version": "3.3.0", "at": START.isoformat(), "by": "amina"}
    assert items[2]["values"] == {"version": "3.3.0", "by": "dana"}


def test_adoption_approval_is_notified_as_such(trial: Trial) -> None:
    """Seen: "Release ? was approved by amina"; the reason is in the journal alone."""
    with trial.journal() as journal:
        amina, why = Actor("amina", 1001), "restored after the disk failed"
        ApprovalStore(journal).add(
            "0" * 64, f"{RESTORED_APPROVAL_PREFIX}3.2.4", {}, amina, reason=why
        )
        (event,) = (one for one in journal.list_events() if one.kind == "approved")
        assert event.data["reason"] == why
    trial.teller().run_round()
    (item,) = trial.orders[0]["notifications"]
    assert item["kind"] == "restore-approved"
    assert item["values"] == {"version": "3.2.4", "by": "amina"}


def test_rollback_notification_names_the_code(trial: Trial) -> None:
    with trial.journal() as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6030", None)
        back = CHANGE.__class__(
            **{**CHANGE.__dict__, "kind": "rollback", "from_version": "3.3.0",
               "to_version": "3.2.4"}
        )  # fmt: skip
        journal.begin_change(back)
        journal.record_step(back.id, StepName.MAINTENANCE_OFF, StepState.INTENDED)
        journal.record_step(back.id, StepName.MAINTENANCE_OFF, StepState.DONE)
    trial.teller().run_round()
    item = trial.orders[0]["notifications"][0]
    assert (item["kind"], item["values"]["code"]) == ("rolled-back", "NU-6030")
    assert item["severity"] == "critical"


def test_reverted_rollback_is_not_notified_as_a_failed_upgrade(trial: Trial) -> None:
    with trial.journal() as journal:
        back = CHANGE.__class__(
            **{**CHANGE.__dict__, "kind": "rollback", "from_version": "3.3.0",
               "to_version": "3.2.4"}
        )  # fmt: skip
        journal.begin_change(back)
        journal.set_change_state(back.id, ChangeState.REVERTED, error_code="NU-4150")
    trial.teller().run_round()
    item = trial.orders[0]["notifications"][0]
    assert (item["kind"], item["severity"]) == ("rollback-failed", "critical")
    assert item["values"]["from"] == "3.3.0"


@pytest.mark.parametrize("instant", ["before", "after"])
def test_kill_while_sending_neither_loses_nor_renumbers_a_message(
    trial: Trial, instant: str
) -> None:
    some_news(trial)
    trial.killed = instant
    with pytest.raises(Killed):
        trial.teller().run_round()
    trial.killed = ""
    with trial.journal() as journal:  # what comes meanwhile is a message of its own
        journal.record_event(AGENT_CONFIRMED, version="1.1.0")
    teller = trial.teller()
    teller.run_round()
    teller.run_round()
    teller.run_round()
    # With unknown delivery it is sent again, under the same id.
    tries = 2 if instant == "after" else 1
    assert [order["id"] for order in trial.orders[:tries]] == [trial.orders[0]["id"]] * tries
    assert trial.kinds() == ["approved"] * tries + ["agent-updated"]


def test_kill_before_saving_repeats_the_notification(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_news(trial)
    with monkeypatch.context() as patch:
        patch.setattr(
            "ncen_updater.common.atomic_files.write_file",
            lambda *_: (_ for _ in ()).throw(Killed()),
        )
        with pytest.raises(Killed):
            trial.teller().run_round()
    trial.teller().run_round()
    assert trial.kinds() == ["approved"]


def test_full_disk_is_notified_once_while_the_outbox_cannot_be_written(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_news(trial)
    teller, file = trial.teller(), trial.service_state.with_name("outbox.json")
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr("ncen_updater.common.atomic_files.write_file", fail)
        teller.run_round()
        teller.run_round()
    assert trial.kinds() == ["approved"]
    assert file.read_bytes() == before
    teller.run_round()
    trial.teller().run_round()  # what was sent has reached the file
    assert trial.kinds() == ["approved"]


def test_failed_delivery_is_retried_without_loss(trial: Trial) -> None:
    some_news(trial)
    trial.code = "NU-9602"
    teller = trial.teller()
    assert teller.run_round() == START + timedelta(minutes=1)
    teller.run_round()
    assert len(trial.orders) == 1  # not before its time
    trial.now += timedelta(minutes=1)
    teller.run_round()
    trial.code = None
    trial.now += timedelta(minutes=2)
    teller.run_round()
    teller.run_round()
    assert len(trial.orders) == 3
    assert len({order["id"] for order in trial.orders}) == 1


def test_clock_set_back_delays_a_retry_by_at_most_an_hour(trial: Trial) -> None:
    some_news(trial)
    trial.code = "NU-9602"
    teller = trial.teller()
    teller.run_round()
    trial.now -= timedelta(days=400)
    assert teller.run_round() <= trial.now + timedelta(hours=1)


def test_lasting_condition_is_notified_once_across_restarts(trial: Trial) -> None:
    found = Assessment(last_event=1, current="3.2.4", target="3.3.0")
    ServiceStateFile(trial.service_state).save(ServiceState(assessment=found))
    for _ in range(3):
        trial.teller().run_round()
    assert trial.kinds() == ["available"]


def test_unreadable_journal_is_notified_with_later_events(trial: Trial) -> None:
    some_news(trial)
    aside = trial.site.journal.with_name("aside")
    trial.site.journal.rename(aside)
    trial.site.journal.write_bytes(b"x" * 5000)
    trial.teller().run_round()
    assert trial.kinds() == ["intervention-required"]
    aside.rename(trial.site.journal)
    trial.teller().run_round()
    assert trial.kinds() == ["intervention-required", "approved"]


def test_events_of_a_round_that_cannot_read_them_are_notified_later(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen: the round skipped them for ever, if only its second look at the journal failed.
    some_news(trial)

    def fail(self: Journal, *_: object) -> None:
        raise JournalUnreadableError(path=self.path, reason="disk I/O error")

    teller = trial.teller()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "list_events", fail)
        teller.run_round()
    teller.run_round()
    assert trial.kinds() == ["approved"]


def test_changed_configuration_applies_and_a_broken_one_does_not(trial: Trial) -> None:
    teller = trial.teller()
    whole = trial.site.config.read_text()
    trial.site.config.write_text(whole + "[nonsense]\n")
    some_news(trial)
    teller.run_round()
    assert trial.kinds() == ["approved"]
    changed = whole.replace("batch_s = 0", 'batch_s = 0\ndisabled_kinds = ["approved"]')
    trial.site.config.write_text(changed)
    some_news(trial, "3.4.0")
    with trial.journal() as journal:
        ApprovalStore(journal).add("1" * 64, "3.4.0", {}, Actor("bo", 1002))
        journal.record_event(AGENT_CONFIRMED, version="1.1.0")
    teller.run_round()
    assert trial.kinds() == ["approved", "agent-updated"]


def test_replaced_journal_notifies_nothing_old(trial: Trial) -> None:
    for number in range(3):
        with trial.journal() as journal:
            journal.record_event("x", None, number=number)
    trial.teller().run_round()
    trial.site.journal.unlink()
    Journal.create(trial.site.journal).close()
    some_news(trial)
    trial.teller().run_round()
    assert trial.kinds() == []


def test_site_without_recipients_notifies_nobody(trial: Trial) -> None:
    text = trial.site.config.read_text()
    trial.site.config.write_text(text.replace(NOTIFY, ""))
    some_news(trial)
    trial.teller().run_round()
    assert trial.orders == []
    assert (trial.site.state / OUTBOX_PATH).is_file()
