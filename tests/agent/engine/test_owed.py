"""One yes for one stop; and a release that turned bad is taken back in the end."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from packaging.version import Version

from demo.evidence import database_digests
from demo.site import DemoSite, version_of
from ncen_updater.agent.engine.approvals import approving
from ncen_updater.agent.engine.approvals.status import require_consent
from ncen_updater.agent.engine.approvals.store import ApprovalStore
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.pending_rollback import left_behind, pending_rollback
from ncen_updater.agent.engine.recovery import RecoveryAction
from ncen_updater.agent.engine.rollback_plan import way_back
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import ChangeKind, Phase, StepName
from ncen_updater.agent.model.errors import ChangeFailed, JournalUnreadable, SoakFailed
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    HELD,
    OPEN_CHANGE,
)
from ncen_updater.common.progress import Silent
from tests.agent.engine.rehearsal.test_rehearsing import AMINA, BO, approve, rehearse
from tests.support.errors import refused
from tests.support.forks import DEADLINE_S
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

TARGET = Version("3.3.0")


class Power(BaseException):
    """The power goes: nothing is undone."""


def at(step: StepName, phase: Phase, act: Callable[[], None]) -> Callable[[StepName, Phase], None]:
    def checkpoint(now: StepName, instant: Phase) -> None:
        if (now, instant) == (step, phase):
            act()

    return checkpoint


def fail() -> None:
    raise RuntimeError("a fault of nobody")


def test_an_approval_is_for_one_stop(demo: DemoSite, site: Site) -> None:
    rehearse(site, "3.3.0")
    approve(site, TARGET, AMINA)
    approve(site, TARGET, BO)
    agree = require_consent(site, Silent(), approvals=2)
    broken = Operations(site, Silent(), checkpoint=at(StepName.COPY, Phase.BEFORE_EFFECT, fail))
    with pytest.raises(ChangeFailed):
        broken.upgrade(TARGET, agree=agree)
    with refused(APPROVAL_MISSING) as missing:
        Operations(site, Silent()).upgrade(TARGET, agree=agree)
    assert missing.value.values["missing"] == 2
    approve(site, TARGET, AMINA)
    approve(site, TARGET, BO)
    assert Operations(site, Silent()).upgrade(TARGET, agree=agree).outcomes
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        assert [e["count"] for e in journal.events() if e.kind == "approvals-spent"] == [2, 2]


def test_a_failure_before_the_stop_costs_no_approval(demo: DemoSite, site: Site) -> None:
    rehearse(site, "3.3.0")
    approve(site, TARGET, AMINA)
    agree = require_consent(site, Silent(), approvals=1)
    broken = Operations(
        site, Silent(), checkpoint=at(StepName.PREFLIGHT, Phase.BEFORE_EFFECT, fail)
    )
    with pytest.raises(ChangeFailed):
        broken.upgrade(TARGET, agree=agree)
    assert Operations(site, Silent()).upgrade(TARGET, agree=agree).outcomes


def test_a_release_that_people_left_waits_for_them_also_where_nobody_is_asked(
    demo: DemoSite, site: Site
) -> None:
    Operations(site, Silent()).upgrade(TARGET)
    Operations(site, Silent()).rollback()
    rehearse(site, "3.3.0")
    agree = require_consent(site, Silent(), approvals=0)
    with refused(APPROVAL_MISSING):
        Operations(site, Silent()).upgrade(TARGET, agree=agree)
    approve(site, TARGET, AMINA)
    assert Operations(site, Silent()).upgrade(TARGET, agree=agree).outcomes
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        assert left_behind(journal) == frozenset()


@in_turns("how")
@pytest.mark.parametrize("how", ["held", "withdrawn"])
def test_who_says_no_while_it_is_prepared_keeps_officers_in(
    demo: DemoSite, site: Site, how: str
) -> None:
    before = database_digests(demo.databases)
    rehearse(site, "3.3.0")
    approve(site, TARGET, AMINA)

    def say_no() -> None:
        with Journal.open(site.state / JOURNAL) as journal:
            if how == "held":
                SiteHistory(journal).hold("audit", "director", None)
            else:
                (row,) = journal.rows("SELECT binding FROM approvals")
                assert ApprovalStore(journal).withdraw(row["binding"], AMINA) == 1

    agree = require_consent(site, Silent(), approvals=1)
    operations = Operations(
        site, Silent(), checkpoint=at(StepName.FETCH, Phase.AFTER_EFFECT, say_no)
    )
    with refused(HELD if how == "held" else APPROVAL_MISSING):
        operations.upgrade(TARGET, agree=agree)
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        (change,) = journal.changes()
        assert StepName.CLOSE not in change.steps
    assert database_digests(demo.databases) == before


def torn_rollback(site: Site) -> None:
    """The upgrade turns bad in its soak, and the power goes while it is taken back."""

    def die() -> None:
        raise Power

    def checkpoint(step: StepName, phase: Phase) -> None:
        with Journal.open(site.state / JOURNAL) as journal:
            change = journal.open_change()
            assert change is not None
            if change.kind is ChangeKind.ROLLBACK and step is StepName.MIGRATE:
                die()
            if (step, phase) == (StepName.SOAK, Phase.BEFORE_EFFECT):
                journal.keep(change.id, ChangeFacts(soak_failed="status 503"))

    with pytest.raises(Power):
        Operations(site, Silent(), checkpoint=checkpoint).upgrade(TARGET)


def test_a_rollback_that_was_torn_is_taken_up_again(demo: DemoSite, site: Site) -> None:
    torn_rollback(site)
    demo.stop_app()
    Operations(site, Silent()).resume(by_person=False, at_boot=True)
    demo.start_app()
    assert version_of(demo).whole == "3.3.0", "nothing is begun while the machine starts"
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        owed = pending_rollback(journal)
        assert owed is not None
        assert owed.by_itself
    result = Operations(site, Silent()).resume(by_person=False)
    assert result.decision is not None
    assert result.decision.action is RecoveryAction.GO_BACK
    assert version_of(demo).whole == "3.2.4"
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        assert pending_rollback(journal) is None
        assert left_behind(journal) == frozenset(), "nobody ordered it"
    assert not Operations(site, Silent()).resume(by_person=False).outcomes


def test_one_resume_undoes_the_torn_rollback_and_goes_back(demo: DemoSite, site: Site) -> None:
    torn_rollback(site)
    result = Operations(site, Silent()).resume(by_person=False)
    assert [o.change.kind for o in result.outcomes] == [ChangeKind.ROLLBACK, ChangeKind.ROLLBACK]
    assert version_of(demo).whole == "3.2.4"


def test_a_person_may_keep_a_release_that_is_to_be_taken_back(demo: DemoSite, site: Site) -> None:
    torn_rollback(site)
    demo.stop_app()
    Operations(site, Silent()).resume(by_person=False, at_boot=True)
    demo.start_app()
    Operations(site, Silent()).confirm("amina")
    assert not Operations(site, Silent()).resume(by_person=False).outcomes
    assert version_of(demo).whole == "3.3.0"


def test_a_resume_that_would_go_back_says_so(demo: DemoSite, site: Site) -> None:
    torn_rollback(site)
    demo.stop_app()
    Operations(site, Silent()).resume(by_person=False, at_boot=True)
    demo.start_app()
    words = ["--config", str(demo.config_path), "resume", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", *words],
        capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert "is taken back" in done.stdout
    assert version_of(demo).whole == "3.3.0"


def test_who_confirms_while_the_way_back_is_looked_for_keeps_the_release(
    demo: DemoSite, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*about: Any) -> Any:
        Operations(site, Silent()).confirm("amina")
        return way_back(*about)

    torn_rollback(site)
    demo.stop_app()
    Operations(site, Silent()).resume(by_person=False, at_boot=True)
    demo.start_app()
    monkeypatch.setattr("ncen_updater.agent.engine.operations.way_back", confirmed)
    assert not Operations(site, Silent()).resume(by_person=False).outcomes
    assert version_of(demo).whole == "3.3.0"


def test_who_confirms_as_the_soak_turns_bad_keeps_the_release(
    demo: DemoSite, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*about: Any) -> Any:
        Operations(site, Silent()).confirm("amina")
        return way_back(*about)

    def turn_bad() -> None:
        with Journal.open(site.state / JOURNAL) as journal:
            journal.keep(journal.changes(1)[0].id, ChangeFacts(soak_failed="status 503"))

    bad = Operations(site, Silent(), checkpoint=at(StepName.SOAK, Phase.BEFORE_EFFECT, turn_bad))
    with monkeypatch.context() as quick:
        quick.setattr("ncen_updater.agent.engine.operations.way_back", confirmed)
        with pytest.raises(SoakFailed):
            bad.upgrade(TARGET)
    Operations(site, Silent()).resume(by_person=False)
    assert version_of(demo).whole == "3.3.0"
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        assert [change.kind for change in journal.changes()] == [ChangeKind.UPGRADE]


def test_what_fails_again_and_again_is_left_to_a_person(demo: DemoSite, site: Site) -> None:
    torn_rollback(site)
    broken = Operations(site, Silent(), checkpoint=at(StepName.MIGRATE, Phase.BEFORE_EFFECT, fail))
    for _ in range(2):
        with pytest.raises(ChangeFailed):
            broken.resume(by_person=False)
    assert not broken.resume(by_person=False).outcomes
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        owed = pending_rollback(journal)
    assert owed is not None
    assert not owed.by_itself
    assert Operations(site, Silent()).resume(by_person=True).outcomes
    assert version_of(demo).whole == "3.2.4"


def test_what_turned_bad_without_a_way_back_waits_for_a_person(demo: DemoSite, site: Site) -> None:
    def checkpoint(step: StepName, phase: Phase) -> None:
        with Journal.open(site.state / JOURNAL) as journal:
            change = journal.open_change()
            assert change is not None
            if change.to_version == "3.3.9" and step is StepName.SOAK:
                journal.keep(change.id, ChangeFacts(soak_failed="status 503"))

    with pytest.raises(SoakFailed):
        Operations(site, Silent(), checkpoint=checkpoint).upgrade(Version("3.3.9"))
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        change = journal.open_change()
        assert change is not None
        assert journal.facts(change.id).waits_for_person, "or nobody would be told"
    assert version_of(demo).whole == "3.3.9"


@in_turns("report")
@pytest.mark.parametrize(
    "report", ['{"hops": [7]}', '{"hops": [{"from": "3.2.4", "to": "3.3.0"}]}']
)
def test_a_prediction_that_is_none_is_found_before_anything_begins(site: Site, report: str) -> None:
    rehearse(site, "3.3.0")
    with Journal.open(site.state / JOURNAL) as journal, journal.transaction() as connection:
        connection.execute("UPDATE rehearsals SET report = ?", (report,))
    with pytest.raises(JournalUnreadable):
        Operations(site, Silent()).upgrade(TARGET)
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        assert journal.changes() == ()


def test_nobody_approves_beside_a_change_that_is_open(site: Site) -> None:
    rehearse(site, "3.3.0")
    with Journal.open(site.state / JOURNAL) as journal:
        found = approving.subject(site, journal, Silent(), TARGET)

        def say_yes() -> None:
            with refused(OPEN_CHANGE):
                approving.approve(journal, found, AMINA)
            with refused(OPEN_CHANGE):
                approving.schedule(journal, found, site.clock.now() + timedelta(hours=1), AMINA)

        checkpoint = at(StepName.FETCH, Phase.AFTER_EFFECT, say_yes)
        Operations(site, Silent(), checkpoint=checkpoint).upgrade(TARGET)


def does_not_start(demo: DemoSite, site: Site) -> Site:
    """The release in use starts no more; the site with a soak that can see that."""
    app = site.slots.path(TARGET) / "app"
    app.chmod(0o755)
    (app / "fault.toml").write_text("never-healthy = true\n", "utf-8")
    config = site.config
    soak = config.soak.model_copy(update={"seconds": 5.0, "interval_s": 0.1, "failures": 2})
    application = config.application.model_copy(update={"health_timeout_s": 2.0})
    changed = config.model_copy(update={"soak": soak, "application": application})
    return dataclasses.replace(site, config=changed)


def test_a_bad_release_that_does_not_even_start_is_taken_back(demo: DemoSite, site: Site) -> None:
    torn_rollback(site)
    demo.stop_app()
    Operations(site, Silent()).resume(by_person=False, at_boot=True)
    bad = does_not_start(demo, site)
    result = Operations(bad, Silent()).resume(by_person=False, ran_in="the boot before")
    assert [o.change.kind for o in result.outcomes] == [ChangeKind.ROLLBACK]
    assert version_of(demo).whole == "3.2.4"


def test_a_release_that_does_not_start_after_the_power_came_back_fails_its_soak(
    demo: DemoSite, site: Site
) -> None:
    def die() -> None:
        raise Power

    with pytest.raises(Power):
        Operations(site, Silent(), checkpoint=at(StepName.SOAK, Phase.BEFORE_EFFECT, die)).upgrade(
            TARGET
        )
    demo.stop_app()
    Operations(site, Silent()).resume(by_person=False, at_boot=True)
    bad = does_not_start(demo, site)
    with pytest.raises(SoakFailed) as failed:
        Operations(bad, Silent()).resume(by_person=False, ran_in="the boot before")
    assert failed.value.values["rolled_back_to"] == "3.2.4"
    assert version_of(demo).whole == "3.2.4"
