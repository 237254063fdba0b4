"""Tests of rehearsals on real databases while the application works."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import psycopg
import pytest
from packaging.version import Version

from demo.databases import PostgresPlace
from demo.evidence import database_digests
from demo.site import DemoSite, digests
from ncen_updater.agent.adapters.databases.base import DatabaseRole, RollbackKind
from ncen_updater.agent.engine import adopt
from ncen_updater.agent.engine.approvals.approval_status import (
    make_consent_check,
    read_approval_status,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.approvals.upgrade_approvals import (
    find_upgrade_to_approve,
    require_approvable_basis,
)
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.plan import make_plan
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import list_past_downtimes
from ncen_updater.agent.engine.rehearsal.rehearsal_store import (
    RehearsalRecord,
    RehearsalState,
    RehearsalStore,
)
from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser, remove_interrupted_rehearsals
from ncen_updater.agent.engine.rehearsal.report import RehearsedHop
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import DOWNTIME_STEPS, Actor, StepName, new_change_id
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.service.assessment import assess_upgrade
from ncen_updater.agent.service.site_report import build_history_report
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    APPROVAL_MISSING,
    NOT_REHEARSED,
    PREFLIGHT_BLOCKED,
    REHEARSAL_FAILED,
    REHEARSAL_OUTDATED,
    WINDOW_CLOSED,
    ExitCode,
)
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.errors import refused
from tests.support.rotation import either_engine, in_turns

pytestmark = either_engine("demo")

AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)


def rehearse(site: Site, version: str, *, retry: bool = False) -> RehearsalRecord:
    operations = Operations(site, SilentProgress())
    with operations.lock_idle_site("rehearse") as journal:
        path = find_cached_path(site, journal, Version(version), retry=retry)
        assert isinstance(path, UpgradePath)
        return Rehearser(site, journal, SilentProgress(), new_change_id).rehearse(path)


def hops(record: RehearsalRecord) -> Sequence[RehearsedHop]:
    assert record.report is not None
    return record.report.hops


def test_rehearsal_predicts_the_changes_and_leaves_nothing(demo: DemoSite, site: Site) -> None:
    before = database_digests(demo.databases)
    record = rehearse(site, "3.3.0")
    assert record.state is RehearsalState.PASSED
    (hop,) = hops(record)
    (mapped,) = hop.reference_maps
    assert mapped.affected
    assert "CITES" in mapped.title.render("fr") != mapped.name
    assert [code for code, _ in mapped.unmapped] == ["C10"]
    assert hop.rollback_s is not None
    assert hop.rollback_differences == ()
    assert hop.rollback_path is RollbackKind.KEEPS_RECORDS
    assert hop.changed_tables["seizures"]["cultural_objects"][0] == -1
    stop = hop.downtime
    assert 0 <= stop.low <= stop.likely <= stop.high
    assert database_digests(demo.databases) == before
    assert site.database_engine.list_leftovers() == ()


@in_turns("version")
@pytest.mark.parametrize("version", ["3.3.1", "3.3.3"])
def test_bad_release_is_found_before_the_downtime(demo: DemoSite, site: Site, version: str) -> None:
    before = database_digests(demo.databases)
    with refused(REHEARSAL_FAILED) as caught:
        rehearse(site, version)
    assert caught.value.exit_code is ExitCode.BLOCKED
    assert database_digests(demo.databases) == before
    assert site.database_engine.list_leftovers() == ()
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        record = RehearsalStore(journal).find_last("3.2.4", version)
        assert record is not None
        assert record.state is RehearsalState.FAILED
        assert (
            read_approval_status(site, journal, "plan", version).rehearsal_status
            is RehearsalStatus.FAILED
        )
        # Seen: "Send the Secretariat what 'history' says", and there: "No change was ever begun".
        (told,) = cast(
            "list[dict[str, object]]", build_history_report(journal, 50)["failed_rehearsals"]
        )
    assert (told["version"], told["from"], told["code"]) == (version, "3.2.4", record.error_code)
    assert caught.value.code == record.error_code
    assert str(caught.value.values["cause"]) in str(told["error"])


def test_missing_down_migration_is_not_rehearsed(site: Site) -> None:
    record = rehearse(site, "3.3.9")
    assert hops(record)[-1].rollback_s is None
    assert hops(record)[-1].rollback_path is not RollbackKind.KEEPS_RECORDS


def test_approvers_approve_only_what_was_rehearsed(demo: DemoSite, site: Site) -> None:
    target = Version("3.3.0")
    agree = make_consent_check(site, SilentProgress(), approvals=2)
    operations = Operations(site, SilentProgress())
    with refused(NOT_REHEARSED) as missing:
        operations.upgrade(target, check_consent=agree)
    assert missing.value.exit_code is ExitCode.REHEARSAL_STALE
    rehearse(site, "3.3.0")
    with refused(APPROVAL_MISSING) as lacking:
        operations.upgrade(target, check_consent=agree)
    assert lacking.value.exit_code is ExitCode.APPROVAL_MISSING
    found = assess_upgrade(site)
    approve(site, target, AMINA)
    with refused(APPROVAL_MISSING):
        operations.upgrade(target, check_consent=agree)
    approve(site, target, BO)
    result = operations.upgrade(target, check_consent=agree)
    assert [outcome.change.to_version for outcome in result.outcomes] == ["3.3.0"]
    assert found.current == "3.2.4"
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        compared = [e for e in journal.list_events() if e.kind == "downtime-compared"]
        assert len(compared) == 1
        assert len(list_past_downtimes(journal)) == 1


def test_failed_release_is_approvable_after_a_new_rehearsal(site: Site) -> None:
    """Seen: each command sent people to the other one, and none of them would."""
    rehearse(site, "3.3.0")
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6008", None)
    newest = assess_upgrade(site)
    assert newest.target != "3.3.0" and newest.find_release("3.3.0") is None
    rehearse(site, "3.3.0", retry=True)
    again = assess_upgrade(site).find_release("3.3.0")
    assert again is not None
    assert again.rehearsal_status is RehearsalStatus.PASSED
    assert again.binding
    assert again.retry_at is not None, "by itself it is not tried before"


def approve(site: Site, target: Version, person: Actor) -> None:
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        path = find_cached_path(site, journal, target)
        current = site.slots.read_current()
        assert isinstance(path, UpgradePath)
        assert current is not None
        plan = make_plan(site, current, path, SilentProgress())
        standing = read_approval_status(site, journal, plan.digest, str(target))
        assert standing.basis is not None
        basis = standing.basis
        ApprovalStore(journal).add(basis.compute_binding(), str(target), basis.to_json(), person)


def test_changed_schema_voids_approvals(demo: DemoSite, site: Site) -> None:
    target = Version("3.3.0")
    rehearse(site, "3.3.0")
    approve(site, target, AMINA)
    address = demo.databases.address("suspects")
    if isinstance(demo.databases, PostgresPlace):
        with psycopg.connect(address) as connection:
            connection.execute("ALTER TABLE persons ADD COLUMN nickname text")
    else:
        database = sqlite3.connect(address)
        database.execute("ALTER TABLE persons ADD COLUMN nickname text")
        database.commit()
        database.close()
    with refused(REHEARSAL_OUTDATED) as caught:
        Operations(site, SilentProgress()).upgrade(
            target, check_consent=make_consent_check(site, SilentProgress(), approvals=1)
        )
    assert caught.value.exit_code is ExitCode.REHEARSAL_STALE
    assert "suspects" in str(caught.value)


def test_nothing_runs_until_two_approvers_accept_the_changed_schema(
    demo: DemoSite, site: Site
) -> None:
    """An index that a database administrator put in after an upgrade, as the documents say."""
    Operations(site, SilentProgress()).upgrade(Version("3.3.0"))
    address = demo.databases.address("suspects")
    if isinstance(demo.databases, PostgresPlace):
        with psycopg.connect(address) as connection:
            connection.execute("CREATE INDEX of_our_own ON ncen_release (release)")
    else:
        database = sqlite3.connect(address)
        database.execute("CREATE INDEX of_our_own ON ncen_release (release)")
        database.close()
    target, before = Version("3.3.9"), digests(demo)
    with refused(PREFLIGHT_BLOCKED, match="NU-6106"):
        rehearse(site, "3.3.9")
    with (
        refused(PREFLIGHT_BLOCKED, match="NU-6106"),
        Journal.open(site.state_directory / JOURNAL_FILE) as journal,
    ):
        require_approvable_basis(find_upgrade_to_approve(site, journal, SilentProgress(), target))
    with pytest.raises(UpdaterError, match="NU-6106"):
        Operations(site, SilentProgress()).upgrade(target)
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        step_names = {StepName(name) for name in journal.list_changes(1)[0].steps}
        assert "NU-6106" in {
            finding.code for finding in verify_site(site, journal, SilentProgress())
        }
    assert not step_names & set(DOWNTIME_STEPS), "nobody was out"
    assert "NU-6106" in {finding.code for finding in diagnose(demo.config_path, SilentProgress())}
    assert digests(demo) == before
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        for person in (AMINA, BO):
            found = adopt.inspect_restored(site, journal, Version("3.3.0"), SilentProgress())
            assert not found.switches_code
            said = adopt.approve_restored(journal, found, person, "an index of ours")
        adopt.adopt_restored(site, journal, found, said)
    assert rehearse(site, "3.3.9").state is RehearsalState.PASSED


def test_old_rehearsal_does_not_count(site: Site) -> None:
    rehearse(site, "3.3.0")
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        record = RehearsalStore(journal).find_last("3.2.4", "3.3.0")
        assert record is not None
        assert record.basis is not None
        plan = str(record.basis["plan"])
        assert (
            read_approval_status(site, journal, plan, "3.3.0").rehearsal_status
            is RehearsalStatus.PASSED
        )
        late = timedelta(days=site.config.service.max_rehearsal_age_days, minutes=1)
        with journal.transaction() as connection:
            basis = dict(record.basis)
            basis["rehearsed_at"] = (record.started_at - late).isoformat()
            connection.execute("UPDATE rehearsals SET basis = ?", (json.dumps(basis),))
        assert (
            read_approval_status(site, journal, plan, "3.3.0").rehearsal_status
            is RehearsalStatus.OUTDATED
        )


def test_downtime_does_not_start_after_the_window_closed(demo: DemoSite, site: Site) -> None:
    before = database_digests(demo.databases)
    operations = Operations(site, SilentProgress())
    with refused(WINDOW_CLOSED) as caught:
        operations.upgrade(Version("3.3.0"), start_before=site.clock.now())
    assert caught.value.exit_code is ExitCode.OUTSIDE_WINDOW_OR_HELD
    assert "+00:00" not in str(caught.value) and " UTC" in str(caught.value)
    assert database_digests(demo.databases) == before
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        (change,) = journal.list_changes()
        assert StepName.MAINTENANCE_ON not in change.steps
        assert not change.state.is_open
    in_time = site.clock.now() + timedelta(hours=1)
    assert operations.upgrade(Version("3.3.0"), start_before=in_time).outcomes


def test_killed_rehearsal_is_cleaned_up(demo: DemoSite, site: Site) -> None:
    """SIGKILL as soon as a copy is there."""
    before = database_digests(demo.databases)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        path = find_cached_path(site, journal, Version("3.3.0"))
        assert isinstance(path, UpgradePath)
    current = site.slots.read_current()
    assert current is not None
    make_plan(site, current, path, SilentProgress())
    child = subprocess.Popen(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", "--config", str(demo.config_path),
         "rehearse", "3.3.0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while child.poll() is None and not site.database_engine.list_leftovers():
        time.sleep(0.01)
    killed = child.poll() is None
    child.kill()
    child.wait()
    with Journal.open(site.state_directory / JOURNAL_FILE) as journal:
        assert len(RehearsalStore(journal).list_interrupted()) == int(killed)
        assert killed, "it was over before it could be killed"
        remove_interrupted_rehearsals(site, journal)
        assert RehearsalStore(journal).list_interrupted() == ()
    assert site.database_engine.list_leftovers() == ()
    assert {role for _, role, _ in site.database_engine.list_leftovers()} <= {DatabaseRole.PREVIOUS}
    assert database_digests(demo.databases) == before
    assert rehearse(site, "3.3.0").state is RehearsalState.PASSED
