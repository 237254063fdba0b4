"""Tests of lasting conditions: reported when they start, not again before they ended."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ncen_updater.agent.config.agent_config import SoakSettings
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.approvals.approval import Approval
from ncen_updater.agent.engine.approvals.approval_store import ScheduleRecord
from ncen_updater.agent.engine.pending_rollback import MAX_ATTEMPTS, PendingRollback
from ncen_updater.agent.model.change import Change, ChangeState, StepName, StepRecord, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import JournalUnreadableError
from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.reports.status import JournalSnapshot, SiteStatus
from ncen_updater.agent.service.notifications.conditions import (
    AlertSettings,
    detect_new_conditions,
    is_unplanned_outage,
)
from ncen_updater.agent.storage.agent_selection import AgentSelection, FailedAgent
from ncen_updater.agent.storage.journal.site_history import FailedReleaseRecord, HoldRecord
from ncen_updater.agent.storage.service_state import Assessment, ServiceState
from ncen_updater.common.i18n import LazyText
from ncen_updater.feed.feed_summary import FeedSummary
from tests.agent.cli.site import CHANGE
from tests.support.simulated_site import PLACES

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CALM = SiteStatus(
    NOW,
    PLACES,
    current="3.2.4",
    journal=JournalSnapshot(last_event=1),
    rehearsals=(),
    feed_view=None,
    service_state=ServiceState(),
    agent=None,
    expiries={},
    free_percent={"state": 50.0},
)
BINDING = "b" * 64
NEXT = Assessment(
    last_event=1,
    current="3.2.4",
    target="3.3.0",
    rehearsal_status=RehearsalStatus.PASSED,
    binding=BINDING,
)
LIST = FeedSummary(NOW - DAY, NOW + 30 * DAY, 1, ("3.3.0",), ())
COMMIT = {StepName.COMMIT: StepRecord(StepName.COMMIT, StepState.DONE, NOW, NOW)}

OPENED = {
    **COMMIT,
    StepName.MAINTENANCE_OFF: StepRecord(StepName.MAINTENANCE_OFF, StepState.DONE, NOW, NOW),
}


def change(state: ChangeState, **more: object) -> Change:
    return replace(CHANGE, state=state, **more)  # type: ignore[arg-type]


def at(**facts: Any) -> SiteStatus:
    """The calm site, but for this in its journal."""
    return replace(CALM, journal=JournalSnapshot(last_event=1, **facts))


def awaiting(assessment: Assessment = NEXT, status: SiteStatus = CALM) -> SiteStatus:
    """The calm site, but for what comes next."""
    return replace(status, service_state=ServiceState(assessment))


YES = Approval(BINDING, "amina", 1001, NOW)
HOLD = HoldRecord(1, "fair", "amina", NOW)
BAD = FailedReleaseRecord("ncen", "3.3.0", "NU-6030", 1, NOW)


def chosen(hours: int) -> SiteStatus:
    """Approved, and to begin in so many hours."""
    time = ScheduleRecord(BINDING, "3.3.0", NOW + timedelta(hours=hours), "amina")
    return awaiting(status=at(approvals=(YES,), schedules=(time,)))


@dataclass(frozen=True)
class Row:
    name: str
    now: SiteStatus
    kinds: tuple[NotificationKind, ...]
    limits: AlertSettings = field(default_factory=AlertSettings)


def met(state: AvailabilityState, *, status: SiteStatus = CALM, **more: Any) -> SiteStatus:
    """The calm site, but for what users meet."""
    return replace(status, availability=Availability(state, **more))


DOWN, BROKEN = AvailabilityState.NOT_RUNNING, AvailabilityState.UNHEALTHY


@pytest.mark.parametrize(
    ("status", "down"),
    [
        (CALM, None),
        (met(AvailabilityState.AVAILABLE), False),
        (met(AvailabilityState.UNKNOWN), None),
        (met(AvailabilityState.MAINTENANCE), None),
        (met(DOWN), True),
        (met(BROKEN), True),
        (met(DOWN, stopped_on_request=False), True),
        (met(DOWN, stopped_on_request=True), None),
        (met(DOWN, status=at(open_change=change(ChangeState.RUNNING))), None),
        (met(BROKEN, status=at(open_change=change(ChangeState.COMMITTED))), None),
        (met(BROKEN, status=at(open_change=change(ChangeState.COMMITTED, steps=OPENED))), True),
        (
            met(DOWN, status=replace(CALM, journal=JournalUnreadableError(path="j", reason="x"))),
            True,
        ),
    ],
)
def test_unplanned_outage_is_detected(status: SiteStatus, down: bool | None) -> None:
    assert is_unplanned_outage(status) is down


def test_outage_and_its_end_are_reported_once() -> None:
    """Not of a restart; and whatever is done about it, it ends when users can work."""
    told: dict[str, str] = {}
    since: datetime | None = None
    said: list[list[str]] = []
    for minutes, state in enumerate(
        (
            DOWN,
            AvailabilityState.AVAILABLE,
            DOWN,
            BROKEN,
            BROKEN,
            DOWN,
            AvailabilityState.MAINTENANCE,
            AvailabilityState.UNKNOWN,
            DOWN,
            AvailabilityState.AVAILABLE,
            AvailabilityState.AVAILABLE,
        )
    ):
        now = replace(met(state), now=NOW + timedelta(minutes=minutes))
        down = is_unplanned_outage(now)
        since = since if down is None else (since or now.now) if down else None
        news, told = detect_new_conditions(now, AlertSettings(), told, since)
        said.append([item.kind.value for item in news])
        if news:
            assert news[0].values == {
                "version": "3.2.4", "at": (NOW + timedelta(minutes=2)).isoformat()
            }  # fmt: skip
    assert said == [[], [], [], [], ["application-down"], [], [], [], [], ["application-up"], []]


ROWS = (
    Row("all is well", CALM, ()),
    Row(
        "a release that is not rehearsed yet",
        awaiting(replace(NEXT, rehearsal_status=RehearsalStatus.MISSING, binding="")),
        (NotificationKind.AVAILABLE,),
    ),
    Row(
        "one that waits for people",
        awaiting(),
        (NotificationKind.AVAILABLE, NotificationKind.WAITING_FOR_APPROVAL),
    ),
    Row(
        "no required approvals",
        awaiting(),
        (NotificationKind.AVAILABLE,),
        AlertSettings(service=ServiceSettings(mode="automatic")),
    ),
    Row(
        "notify only",
        awaiting(),
        (NotificationKind.AVAILABLE,),
        AlertSettings(service=ServiceSettings(mode="notify")),
    ),
    Row("held", awaiting(status=at(holds=(HOLD,))), (NotificationKind.AVAILABLE,)),
    Row(
        "an approval that holds no longer",
        awaiting(replace(NEXT, void_reasons=(LazyText("the schema changed"),), binding="")),
        (NotificationKind.AVAILABLE, NotificationKind.APPROVAL_VOID),
    ),
    Row(
        "the window comes",
        chosen(12),
        (NotificationKind.AVAILABLE, NotificationKind.UPGRADE_UPCOMING),
    ),
    Row(
        "but not yet",
        chosen(13),
        (NotificationKind.AVAILABLE,),
    ),
    Row("lists are fresh", replace(CALM, feed_view=LIST), ()),
    Row(
        "metadata expires soon",
        replace(CALM, feed_view=replace(LIST, expires_at=NOW + 4 * DAY)),
        (NotificationKind.FEED_EXPIRING,),
    ),
    Row(
        "metadata has expired",
        replace(CALM, feed_view=replace(LIST, expires_at=NOW)),
        (NotificationKind.FEED_EXPIRED,),
    ),
    Row(
        "what runs was withdrawn",
        replace(CALM, feed_view=replace(LIST, withdrawn=("3.2.4",))),
        (NotificationKind.RELEASE_WITHDRAWN,),
    ),
    Row("another was", replace(CALM, feed_view=replace(LIST, withdrawn=("3.2.3",))), ()),
    Row(
        "a full disk",
        replace(CALM, free_percent={"state": 50.0, "slots": 9.9}),
        (NotificationKind.DISK_SPACE_LOW,),
    ),
    Row(
        "the journal cannot be read",
        replace(CALM, journal=JournalUnreadableError(path="j", reason="x")),
        (NotificationKind.INTERVENTION_REQUIRED,),
    ),
    Row("a change runs", at(open_change=change(ChangeState.RUNNING)), ()),
    Row(
        "manual intervention required",
        at(open_change=change(ChangeState.STUCK)),
        (NotificationKind.INTERVENTION_REQUIRED,),
    ),
    Row(
        "a release turned bad, and a person decides",
        at(open_change=change(ChangeState.COMMITTED, steps=COMMIT), bad_releases=(BAD,)),
        (NotificationKind.INTERVENTION_REQUIRED,),
        AlertSettings(soak=SoakSettings(on_failure="report")),
    ),
    Row(
        "automatic rollback",
        at(open_change=change(ChangeState.COMMITTED, steps=COMMIT), bad_releases=(BAD,)),
        (),
    ),
    Row(
        "a rollback would lose records",
        at(
            open_change=change(ChangeState.COMMITTED, steps=COMMIT),
            last_facts=ChangeFacts(needs_operator=True),
            bad_releases=(BAD,),
        ),
        (NotificationKind.INTERVENTION_REQUIRED,),
    ),
    Row(
        "a rollback turned bad",
        at(
            open_change=change(ChangeState.COMMITTED, steps=COMMIT),
            last_facts=ChangeFacts(needs_operator=True),
        ),
        (NotificationKind.INTERVENTION_REQUIRED,),
    ),
    Row(
        "bad release could not be rolled back",
        at(pending_rollback=PendingRollback(change(ChangeState.FINISHED), MAX_ATTEMPTS)),
        (NotificationKind.INTERVENTION_REQUIRED,),
    ),
    Row(
        "or is tried again",
        at(pending_rollback=PendingRollback(change(ChangeState.FINISHED), 1)),
        (),
    ),
    Row(
        "people left it, so they are asked",
        awaiting(replace(NEXT, was_rolled_back=True)),
        (NotificationKind.AVAILABLE, NotificationKind.WAITING_FOR_APPROVAL),
        AlertSettings(service=ServiceSettings(mode="automatic")),
    ),
    Row(
        "an agent was given up",
        replace(CALM, agent=AgentSelection("1.0", failed={"1.1": FailedAgent(1, NOW)})),
        (NotificationKind.AGENT_REVERTED,),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_condition_is_reported_once(row: Row) -> None:
    news, told = detect_new_conditions(row.now, row.limits, {})
    assert tuple(item.kind for item in news) == row.kinds
    again, still = detect_new_conditions(
        replace(row.now, now=NOW + timedelta(minutes=5)), row.limits, told
    )
    assert again == ()
    assert still == told
    # After it has ended it may begin again.
    _, ended = detect_new_conditions(CALM, row.limits, told)
    assert ended == {}
    assert len(detect_new_conditions(row.now, row.limits, ended)[0]) == len(row.kinds)


def test_missing_approvals_are_reported_as_they_decrease() -> None:
    limits = AlertSettings(service=ServiceSettings(required_approvals=2))
    _, told = detect_new_conditions(awaiting(), limits, {})
    news, _ = detect_new_conditions(awaiting(status=at(approvals=(YES,))), limits, told)
    assert [(n.kind, n.values["missing"]) for n in news] == [
        (NotificationKind.WAITING_FOR_APPROVAL, 1)
    ]


def test_outdated_assessment_requests_no_approval() -> None:
    # 3.3.0 was installed, or failed, a moment ago, and the service has not looked since.
    behind = replace(CALM, journal=JournalSnapshot(last_event=2))
    _, told = detect_new_conditions(awaiting(replace(NEXT, binding="")), AlertSettings(), {})
    news, still = detect_new_conditions(awaiting(status=behind), AlertSettings(), told)
    assert news == ()
    assert still == told == {NotificationKind.AVAILABLE: "3.3.0"}
    seen = awaiting(replace(NEXT, last_event=2), behind)
    assert [one.kind for one in detect_new_conditions(seen, AlertSettings(), still)[0]] == [
        NotificationKind.WAITING_FOR_APPROVAL
    ]


def test_disk_space_at_the_threshold_is_not_reported_repeatedly() -> None:
    _, told = detect_new_conditions(replace(CALM, free_percent={"state": 9.9}), AlertSettings(), {})
    _, told = detect_new_conditions(
        replace(CALM, free_percent={"state": 10.5}), AlertSettings(), told
    )
    assert (
        detect_new_conditions(replace(CALM, free_percent={"state": 9.9}), AlertSettings(), told)[0]
        == ()
    )
    _, told = detect_new_conditions(
        replace(CALM, free_percent={"state": 12.5}), AlertSettings(), told
    )
    assert (
        len(
            detect_new_conditions(
                replace(CALM, free_percent={"state": 9.9}), AlertSettings(), told
            )[0]
        )
        == 1
    )


def test_each_rejected_agent_is_reported_once() -> None:
    one = replace(CALM, agent=AgentSelection("1.0", failed={"1.1": FailedAgent(1, NOW)}))
    _, told = detect_new_conditions(one, AlertSettings(), {})
    two = replace(
        CALM,
        agent=AgentSelection(
            "1.0", failed={"1.1": FailedAgent(1, NOW), "1.2": FailedAgent(1, NOW)}
        ),
    )
    news, _ = detect_new_conditions(two, AlertSettings(), told)
    assert [n.values["version"] for n in news] == ["1.2"]
