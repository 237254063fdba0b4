"""Tests of approvals for one downtime, and of automatic rollback of a bad release."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from packaging.version import Version

from demo.evidence import database_digests
from demo.site import DemoSite, version_of
from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
from ncen_updater.agent.engine.approvals.approval_status import make_consent_check
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.pending_rollback import (
    find_pending_rollback,
    find_rolled_back_releases,
)
from ncen_updater.agent.engine.recovery import RecoveryAction
from ncen_updater.agent.engine.rollback_plan import plan_rollback
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import ChangeKind, StepName, StepPhase
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import (
    ChangeFailedError,
    JournalUnreadableError,
    SoakFailedError,
)
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    HELD,
    OPEN_CHANGE,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.rehearsal.test_rehearser import AMINA, BO, approve, rehearse
from tests.agent.engine.site_views import confirm
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

TARGET = Version("3.3.0")


class Power(BaseException):
    """The power goes: nothing is undone."""


def at(
    step: StepName, phase: StepPhase, act: Callable[[], None]
) -> Callable[[StepName, StepPhase], None]:
    def checkpoint(now: StepName, instant: StepPhase) -> None:
        if (now, instant) == (step, phase):
            act()

    return checkpoint


def fail() -> None:
    raise RuntimeError("a fault of nobody")


def test_approval_is_valid_for_one_downtime(demo: DemoSite, site: Site) -> None:
    rehearse(site, "3.3.0")
    approve(site, TARGET, AMINA)
    approve(site, TARGET, BO)
    agree = make_consent_check(site, SilentProgress(), approvals=2)
    broken = Operations(
        site, SilentProgress(), checkpoint=at(StepName.COPY, StepPhase.BEFORE_EFFECT, fail)
    )
    with pytest.raises(ChangeFailedError):
        broken.upgrade(TARGET, check_consent=agree)
    with refused(APPROVAL_MISSING) as missing:
        Operations(site, SilentProgress()).upgrade(TARGET, check_consent=agree)
    assert missing.value.values["missing"] == 2
    approve(site, TARGET, AMINA)
    approve(site, TARGET, BO)
    assert Operations(site, SilentProgress()).upgrade(TARGET, check_consent=agree).outcomes
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert [e["count"] for e in journal.list_events() if e.kind == "approvals-spent"] == [2, 2]


def test_failure_before_the_downtime_consumes_no_approval(demo: DemoSite, site: Site) -> None:
    rehearse(site, "3.3.0")
    approve(site, TARGET, AMINA)
    agree = make_consent_check(site, SilentProgress(), approvals=1)
    broken = Operations(
        site, SilentProgress(), checkpoint=at(StepName.PREFLIGHT, StepPhase.BEFORE_EFFECT, fail)
    )
    with pytest.raises(ChangeFailedError):
        broken.upgrade(TARGET, check_consent=agree)
    assert Operations(site, SilentProgress()).upgrade(TARGET, check_consent=agree).outcomes


def test_rolled_back_release_needs_approval_again(demo: DemoSite, site: Site) -> None:
    Operations(site, SilentProgress()).upgrade(TARGET)
    Operations(site, SilentProgress()).rollback()
    rehearse(site, "3.3.0")
    agree = make_consent_check(site, SilentProgress(), approvals=0)
    with refused(APPROVAL_MISSING):
        Operations(site, SilentProgress()).upgrade(TARGET, check_consent=agree)
    approve(site, TARGET, AMINA)
    assert Operations(site, SilentProgress()).upgrade(TARGET, check_consent=agree).outcomes
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert find_rolled_back_releases(journal) == frozenset()


@in_turns("how")
@pytest.mark.parametrize("how", ["held", "withdrawn"])
def test_rejection_during_preparation_prevents_the_downtime(
    demo: DemoSite, site: Site, how: str
) -> None:
    before = database_digests(demo.databases)
    rehearse(site, "3.3.0")
    approve(site, TARGET, AMINA)

    def withdraw_approval() -> None:
        with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
            if how == "held":
                SiteHistory(journal).add_hold("audit", "director", None)
            else:
                (row,) = journal.query("SELECT binding FROM approvals")
                assert ApprovalStore(journal).withdraw(row["binding"], AMINA) == 1

    agree = make_consent_check(site, SilentProgress(), approvals=1)
    operations = Operations(
        site,
        SilentProgress(),
        checkpoint=at(StepName.FETCH, StepPhase.AFTER_EFFECT, withdraw_approval),
    )
    with refused(HELD if how == "held" else APPROVAL_MISSING):
        operations.upgrade(TARGET, check_consent=agree)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        (change,) = journal.list_changes()
        assert StepName.MAINTENANCE_ON not in change.steps
    assert database_digests(demo.databases) == before


def interrupt_rollback(site: Site) -> None:
    """The upgrade fails its soak, and a power cut interrupts the rollback."""

    def die() -> None:
        raise Power

    def checkpoint(step: StepName, phase: StepPhase) -> None:
        with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
            change = journal.find_open_change()
            assert change is not None
            if change.kind is ChangeKind.ROLLBACK and step is StepName.MIGRATE:
                die()
            if (step, phase) == (StepName.SOAK, StepPhase.BEFORE_EFFECT):
                journal.store_facts(change.id, ChangeFacts(soak_error=LazyText("status 503")))

    with pytest.raises(Power):
        Operations(site, SilentProgress(), checkpoint=checkpoint).upgrade(TARGET)


def test_interrupted_rollback_is_resumed(demo: DemoSite, site: Site) -> None:
    interrupt_rollback(site)
    demo.stop_app()
    Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    demo.start_app()
    assert version_of(demo).whole == "3.3.0", "nothing is begun while the machine starts"
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        owed = find_pending_rollback(journal)
        assert owed is not None
        assert owed.is_automatic
    result = Operations(site, SilentProgress()).resume(by_operator=False)
    assert result.decision is not None
    assert result.decision.action is RecoveryAction.REVERT
    assert version_of(demo).whole == "3.2.4"
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert find_pending_rollback(journal) is None
        assert find_rolled_back_releases(journal) == frozenset(), "nobody ordered it"
    assert not Operations(site, SilentProgress()).resume(by_operator=False).outcomes


def test_one_resume_reverts_the_interrupted_rollback_and_repeats_it(
    demo: DemoSite, site: Site
) -> None:
    interrupt_rollback(site)
    result = Operations(site, SilentProgress()).resume(by_operator=False)
    assert [o.change.kind for o in result.outcomes] == [ChangeKind.ROLLBACK, ChangeKind.ROLLBACK]
    assert version_of(demo).whole == "3.2.4"


def test_operator_may_keep_a_release_with_a_pending_rollback(demo: DemoSite, site: Site) -> None:
    interrupt_rollback(site)
    demo.stop_app()
    Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    demo.start_app()
    confirm(demo)
    assert not Operations(site, SilentProgress()).resume(by_operator=False).outcomes
    assert version_of(demo).whole == "3.3.0"


def test_resume_announces_a_pending_rollback(demo: DemoSite, site: Site) -> None:
    interrupt_rollback(site)
    demo.stop_app()
    Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    demo.start_app()
    words = ["--config", str(demo.config_path), "resume", "--dry-run", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", *words],
        capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["decision"]["action"] == RecoveryAction.REVERT
    assert version_of(demo).whole == "3.3.0"


def test_confirmation_during_rollback_planning_keeps_the_release(
    demo: DemoSite, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*about: Any) -> Any:
        confirm(demo)
        return plan_rollback(*about)

    interrupt_rollback(site)
    demo.stop_app()
    Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    demo.start_app()
    monkeypatch.setattr("ncen_updater.agent.engine.operations.plan_rollback", confirmed)
    assert not Operations(site, SilentProgress()).resume(by_operator=False).outcomes
    assert version_of(demo).whole == "3.3.0"


def test_confirmation_at_the_soak_failure_keeps_the_release(
    demo: DemoSite, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*about: Any) -> Any:
        confirm(demo)
        return plan_rollback(*about)

    def turn_bad() -> None:
        with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
            journal.store_facts(
                journal.list_changes(1)[0].id, ChangeFacts(soak_error=LazyText("status 503"))
            )

    bad = Operations(
        site, SilentProgress(), checkpoint=at(StepName.SOAK, StepPhase.BEFORE_EFFECT, turn_bad)
    )
    with monkeypatch.context() as quick:
        quick.setattr("ncen_updater.agent.engine.operations.plan_rollback", confirmed)
        with pytest.raises(SoakFailedError):
            bad.upgrade(TARGET)
    Operations(site, SilentProgress()).resume(by_operator=False)
    assert version_of(demo).whole == "3.3.0"
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert [change.kind for change in journal.list_changes()] == [ChangeKind.UPGRADE]


def test_repeated_failures_are_left_to_an_operator(demo: DemoSite, site: Site) -> None:
    interrupt_rollback(site)
    broken = Operations(
        site, SilentProgress(), checkpoint=at(StepName.MIGRATE, StepPhase.BEFORE_EFFECT, fail)
    )
    for _ in range(2):
        with pytest.raises(ChangeFailedError):
            broken.resume(by_operator=False)
    assert not broken.resume(by_operator=False).outcomes
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        owed = find_pending_rollback(journal)
    assert owed is not None
    assert not owed.is_automatic
    assert Operations(site, SilentProgress()).resume(by_operator=True).outcomes
    assert version_of(demo).whole == "3.2.4"


def test_bad_release_without_a_rollback_path_waits_for_an_operator(
    demo: DemoSite, site: Site
) -> None:
    def checkpoint(step: StepName, phase: StepPhase) -> None:
        with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
            change = journal.find_open_change()
            assert change is not None
            if change.to_version == "3.3.9" and step is StepName.SOAK:
                journal.store_facts(change.id, ChangeFacts(soak_error=LazyText("status 503")))

    with pytest.raises(SoakFailedError):
        Operations(site, SilentProgress(), checkpoint=checkpoint).upgrade(Version("3.3.9"))
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        change = journal.find_open_change()
        assert change is not None
        assert journal.read_facts(change.id).needs_operator, "or nobody would be told"
    assert version_of(demo).whole == "3.3.9"


@in_turns("report")
@pytest.mark.parametrize(
    "report", ['{"hops": [7]}', '{"hops": [{"from": "3.2.4", "to": "3.3.0"}]}']
)
def test_invalid_prediction_is_found_before_anything_starts(site: Site, report: str) -> None:
    rehearse(site, "3.3.0")
    with (
        Journal.open(site.state_directory / JOURNAL_FILE) as journal,
        journal.transaction() as connection,
    ):
        connection.execute("UPDATE rehearsals SET report = ?", (report,))
    with pytest.raises(JournalUnreadableError):
        Operations(site, SilentProgress()).upgrade(TARGET)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        assert journal.list_changes() == ()


def test_no_approval_is_taken_beside_an_open_change(site: Site) -> None:
    rehearse(site, "3.3.0")
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        found = approving.find_upgrade_to_approve(site, journal, SilentProgress(), TARGET)

        def approve_upgrade() -> None:
            with refused(OPEN_CHANGE):
                approving.approve_upgrade(journal, found, AMINA)
            with refused(OPEN_CHANGE):
                approving.schedule_upgrade(
                    journal, found, site.clock.now() + timedelta(hours=1), AMINA
                )

        checkpoint = at(StepName.FETCH, StepPhase.AFTER_EFFECT, approve_upgrade)
        Operations(site, SilentProgress(), checkpoint=checkpoint).upgrade(TARGET)


def does_not_start(demo: DemoSite, site: Site) -> Site:
    """The release in use starts no more; the site with a soak that can see that."""
    app = site.slots.get_slot_directory(TARGET) / "app"
    app.chmod(0o755)
    (app / "fault.toml").write_text("never-healthy = true\n", "utf-8")
    config = site.config
    soak = config.soak.model_copy(update={"seconds": 5.0, "interval_s": 0.1, "max_failures": 2})
    application = config.application.model_copy(update={"health_timeout_s": 2.0})
    changed = config.model_copy(update={"soak": soak, "application": application})
    return dataclasses.replace(site, config=changed)


def test_bad_release_that_does_not_start_is_rolled_back(demo: DemoSite, site: Site) -> None:
    interrupt_rollback(site)
    demo.stop_app()
    Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    bad = does_not_start(demo, site)
    result = Operations(bad, SilentProgress()).resume(
        by_operator=False, last_running_boot="the boot before"
    )
    assert [o.change.kind for o in result.outcomes] == [ChangeKind.ROLLBACK]
    assert version_of(demo).whole == "3.2.4"


def test_release_that_does_not_start_after_a_power_cut_fails_its_soak(
    demo: DemoSite, site: Site
) -> None:
    def die() -> None:
        raise Power

    with pytest.raises(Power):
        Operations(
            site, SilentProgress(), checkpoint=at(StepName.SOAK, StepPhase.BEFORE_EFFECT, die)
        ).upgrade(TARGET)
    demo.stop_app()
    Operations(site, SilentProgress()).resume(by_operator=False, at_boot=True)
    bad = does_not_start(demo, site)
    with pytest.raises(SoakFailedError) as failed:
        Operations(bad, SilentProgress()).resume(
            by_operator=False, last_running_boot="the boot before"
        )
    assert failed.value.values["rolled_back_to"] == "3.2.4"
    assert version_of(demo).whole == "3.2.4"
