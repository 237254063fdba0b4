"""Tests that only unresolved failures are reported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.model.change import Change, ChangeState
from ncen_updater.agent.model.change_facts import NO_FACTS, ChangeFacts
from ncen_updater.agent.policy.automation import ActionFailure, RehearsalStatus, ServiceAction
from ncen_updater.agent.reports.status import JournalSnapshot, SiteStatus, read_status
from ncen_updater.agent.service.site_report import (
    SITE_REPORT_PARTS,
    build_site_report,
    list_unresolved_failures,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment
from ncen_updater.common.i18n import LazyText
from ncen_updater.feed.feed_summary import FeedSummary
from tests.agent.cli.site import CHANGE, TrialSite, make_site
from tests.support.simulated_site import PLACES

AT = datetime(2026, 11, 24, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LATER, EARLIER = AT + timedelta(hours=1), AT - timedelta(hours=1)
NOTHING = JournalSnapshot()
NEXT = Assessment(last_event=1, current="3.2.4", target="3.3.0")


def view(at: datetime) -> FeedSummary:
    return FeedSummary(
        checked_at=at, expires_at=at + timedelta(days=7), version=1, versions=(), withdrawn=()
    )


def changed(state: ChangeState, at: datetime) -> JournalSnapshot:
    change = replace(CHANGE, state=state, created_at=at)
    return JournalSnapshot(last_change=change, open_change=change if state.is_open else None)


def ended(at: datetime) -> JournalSnapshot:
    """An upgrade that was undone."""
    return JournalSnapshot(
        last_change=replace(
            CHANGE, state=ChangeState.REVERTED, created_at=at - timedelta(hours=1), ended_at=at
        )
    )


@dataclass(frozen=True)
class Row:
    deed: ServiceAction
    lasts: bool
    journal: JournalSnapshot | Exception = NOTHING
    view: FeedSummary | Exception | None = None
    found: Assessment | None = NEXT


TABLE = {
    "the feed was not read since": Row(ServiceAction.CHECK_FEED, True, view=view(EARLIER)),
    "the feed was read since": Row(ServiceAction.CHECK_FEED, False, view=view(LATER)),
    "whether it was is not known": Row(ServiceAction.CHECK_FEED, True, view=OSError()),
    "a change is open still": Row(ServiceAction.RESUME, True, changed(ChangeState.STUCK, EARLIER)),
    "another change has begun since": Row(
        ServiceAction.RESUME, False, changed(ChangeState.RUNNING, LATER)
    ),
    "the change was brought to its end": Row(ServiceAction.RESUME, False),
    "whether it was brought is not known": Row(ServiceAction.RESUME, True, OSError()),
    "nothing was upgraded since": Row(
        ServiceAction.UPGRADE, True, changed(ChangeState.FINISHED, EARLIER)
    ),
    "upgraded since": Row(ServiceAction.UPGRADE, False, changed(ChangeState.FINISHED, LATER)),
    "an upgrade was undone since": Row(
        ServiceAction.UPGRADE, True, changed(ChangeState.REVERTED, LATER)
    ),
    # Seen: "the log of the service says why", below the change that failed, which says it itself.
    "the upgrade that failed was undone": Row(ServiceAction.UPGRADE, False, ended(AT - SECOND)),
    "one was undone, and a later try failed": Row(ServiceAction.UPGRADE, True, ended(EARLIER)),
    "nothing is next": Row(ServiceAction.UPGRADE, False, found=replace(NEXT, target=None)),
    "no check since": Row(ServiceAction.UPGRADE, True, found=None),
    "it was prepared since": Row(
        ServiceAction.PREPARE, False, found=replace(NEXT, slot_built=True)
    ),
    "it is not prepared": Row(ServiceAction.PREPARE, True),
    "it was rehearsed since": Row(
        ServiceAction.REHEARSE, False, found=replace(NEXT, rehearsal_status=RehearsalStatus.PASSED)
    ),
    "the rehearsal failed": Row(
        ServiceAction.REHEARSE, True, found=replace(NEXT, rehearsal_status=RehearsalStatus.FAILED)
    ),
    "an agent is on offer": Row(
        ServiceAction.SELF_UPDATE, True, found=replace(NEXT, agent_version="2.0")
    ),
    "no agent is on offer": Row(ServiceAction.SELF_UPDATE, False),
    "something is to be collected": Row(
        ServiceAction.PRUNE, True, found=replace(NEXT, prune_at=AT)
    ),
    "nothing is to be collected": Row(ServiceAction.PRUNE, False),
    "an order": Row(ServiceAction.RUN_JOB, False),
}


@pytest.mark.parametrize("name", TABLE)
def test_resolved_failure_is_not_reported(name: str) -> None:
    row = TABLE[name]
    status = SiteStatus(LATER, PLACES, journal=row.journal, feed_view=row.view)
    told = dict(list_unresolved_failures({row.deed: ActionFailure(AT, 3)}, row.found, status))
    assert (row.deed in told) is row.lasts


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    return make_site(tmp_path / "site")


def is_reported(site: TrialSite, version: str) -> bool:
    places = load_essential_settings(site.config)
    document, _ = build_site_report(read_status(places, LATER, SITE_REPORT_PARTS), "en")
    journal = document["journal"]
    assert isinstance(journal, dict)
    return version in [row.version for row in journal["bad_releases"]]


def install(journal: Journal, change: Change, facts: ChangeFacts = NO_FACTS) -> None:
    journal.begin_change(change)
    journal.commit_change(change.id)
    journal.store_facts(change.id, facts)
    journal.set_change_state(change.id, ChangeState.FINISHED)


@pytest.mark.parametrize(
    ("facts", "over"),
    [
        (NO_FACTS, True),
        (ChangeFacts(soak_error=LazyText("status 503")), False),
        (ChangeFacts(soak_error=LazyText("status 503"), confirmed_by="amina"), True),
    ],
)
def test_resolved_failure_stays_resolved(site: TrialSite, facts: ChangeFacts, over: bool) -> None:
    with Journal.open(site.journal) as journal:
        SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6008", None)
        install(journal, replace(CHANGE, id="aaaaaaaa"), facts)
    assert is_reported(site, "3.3.0") is not over
    with Journal.open(site.journal) as journal:
        install(journal, replace(CHANGE, id="bbbbbbbb", to_version="3.2.4", from_version="3.3.0"))
    assert is_reported(site, "3.3.0") is not over


def test_failure_of_a_skipped_release_is_not_reported(site: TrialSite) -> None:
    with Journal.open(site.journal) as journal:
        for version in ("3.2.3", "3.3.0"):
            SiteHistory(journal).mark_bad("ncen", version, "NU-6008", None)
    assert not is_reported(site, "3.2.3")
    assert is_reported(site, "3.3.0")
    (site.root / "current").unlink()
    (site.root / "slots" / "3.10.0").mkdir()
    Path(site.root / "current").symlink_to("slots/3.10.0")
    assert not is_reported(site, "3.3.0")
