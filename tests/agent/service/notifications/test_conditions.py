"""Lasting states: told when they begin, not again before they have ended."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ncen_updater.agent.engine.approvals.model import Approval
from ncen_updater.agent.engine.approvals.store import ScheduleRecord
from ncen_updater.agent.engine.pending_rollback import MOST_TRIES, PendingRollback
from ncen_updater.agent.model.change import Change, ChangeState, StepName, StepRecord, StepState
from ncen_updater.agent.model.errors import JournalUnreadable
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.model.notification_kind import NewsKind
from ncen_updater.agent.policy.automation import Rehearsed
from ncen_updater.agent.policy.availability import Availability, AvailabilityState
from ncen_updater.agent.reports.status import JournalFacts, SiteStatus
from ncen_updater.agent.service.notifications.conditions import AlertLimits, fresh, is_down
from ncen_updater.agent.storage.agent_selection import AgentSelection, Bad
from ncen_updater.agent.storage.journal.site_history import BadReleaseRecord, HoldRecord
from ncen_updater.agent.storage.service_state import Assessment, ServiceState
from ncen_updater.feed.last_view import LastView
from tests.agent.cli.site import CHANGE
from tests.support.simulated_site import PLACES

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CALM = SiteStatus(
    NOW, PLACES, current="3.2.4", journal=JournalFacts(event=1), rehearsals=(), view=None,
    service_state=ServiceState(), agent=None, expiries={}, free_percent={"state": 50.0},
)  # fmt: skip
BINDING = "b" * 64
NEXT = Assessment(
    event=1, current="3.2.4", target="3.3.0", rehearsed=Rehearsed.PASSED, binding=BINDING
)
LIST = LastView(NOW - DAY, NOW + 30 * DAY, 1, ("3.3.0",), ())
COMMIT = {StepName.COMMIT: StepRecord(StepName.COMMIT, StepState.DONE, NOW, NOW)}

OPENED = {**COMMIT, StepName.OPEN: StepRecord(StepName.OPEN, StepState.DONE, NOW, NOW)}


def change(state: ChangeState, **more: object) -> Change:
    return replace(CHANGE, state=state, **more)  # type: ignore[arg-type]


def at(**facts: Any) -> SiteStatus:
    """The calm site, but for this in its journal."""
    return replace(CALM, journal=JournalFacts(event=1, **facts))


def awaiting(assessment: Assessment = NEXT, status: SiteStatus = CALM) -> SiteStatus:
    """The calm site, but for what comes next."""
    return replace(status, service_state=ServiceState(assessment))


YES = Approval(BINDING, "amina", 1001, NOW)
HOLD = HoldRecord(1, "fair", "amina", NOW)
BAD = BadReleaseRecord("ncen", "3.3.0", "NU-6030", 1, NOW)


def chosen(hours: int) -> SiteStatus:
    """Approved, and to begin in so many hours."""
    time = ScheduleRecord(BINDING, "3.3.0", NOW + timedelta(hours=hours), "amina")
    return awaiting(status=at(approvals=(YES,), schedules=(time,)))


@dataclass(frozen=True)
class Row:
    name: str
    now: SiteStatus
    kinds: tuple[NewsKind, ...]
    limits: AlertLimits = field(default_factory=AlertLimits)


def met(state: AvailabilityState, *, status: SiteStatus = CALM, **more: Any) -> SiteStatus:
    """The calm site, but for what officers meet."""
    return replace(status, availability=Availability(state, **more))


DOWN, BROKEN = AvailabilityState.NOT_RUNNING, AvailabilityState.NOT_WORKING


@pytest.mark.parametrize(
    ("status", "down"),
    [
        (CALM, None),
        (met(AvailabilityState.WORKS), False),
        (met(AvailabilityState.UNKNOWN), None),
        (met(AvailabilityState.MAINTENANCE), None),
        (met(DOWN), True),
        (met(BROKEN), True),
        (met(DOWN, asked_to_stop=False), True),
        (met(DOWN, asked_to_stop=True), None),
        (met(DOWN, status=at(change=change(ChangeState.RUNNING))), None),
        (met(BROKEN, status=at(change=change(ChangeState.COMMITTED))), None),
        (met(BROKEN, status=at(change=change(ChangeState.COMMITTED, steps=OPENED))), True),
        (met(DOWN, status=replace(CALM, journal=JournalUnreadable(path="j", reason="x"))), True),
    ],
)
def test_when_the_application_is_down_and_nobody_does_that(
    status: SiteStatus, down: bool | None
) -> None:
    assert is_down(status) is down


def test_an_outage_is_told_once_and_its_end_once() -> None:
    """Not of a restart; and whatever is done about it, it ends when officers can work."""
    told: dict[str, str] = {}
    since: datetime | None = None
    said: list[list[str]] = []
    for minutes, state in enumerate(
        (DOWN, AvailabilityState.WORKS, DOWN, BROKEN, BROKEN, DOWN, AvailabilityState.MAINTENANCE,
         AvailabilityState.UNKNOWN, DOWN, AvailabilityState.WORKS, AvailabilityState.WORKS)
    ):  # fmt: skip
        now = replace(met(state), now=NOW + timedelta(minutes=minutes))
        down = is_down(now)
        since = since if down is None else (since or now.now) if down else None
        news, told = fresh(now, AlertLimits(), told, since)
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
        awaiting(replace(NEXT, rehearsed=Rehearsed.MISSING, binding="")),
        (NewsKind.AVAILABLE,),
    ),
    Row(
        "one that waits for people", awaiting(),
        (NewsKind.AVAILABLE, NewsKind.WAITS),
    ),
    Row(
        "nobody has to approve", awaiting(),
        (NewsKind.AVAILABLE,), AlertLimits(automatic=True),
    ),
    Row(
        "the service only tells", awaiting(),
        (NewsKind.AVAILABLE,), AlertLimits(self_starting=False),
    ),
    Row(
        "held", awaiting(status=at(holds=(HOLD,))), (NewsKind.AVAILABLE,)
    ),
    Row(
        "an approval that holds no longer",
        awaiting(replace(NEXT, voids=("the schema changed",), binding="")),
        (NewsKind.AVAILABLE, NewsKind.APPROVAL_VOID),
    ),
    Row(
        "the window comes", chosen(12),
        (NewsKind.AVAILABLE, NewsKind.WINDOW),
    ),
    Row(
        "but not yet", chosen(13),
        (NewsKind.AVAILABLE,),
    ),
    Row("lists are fresh", replace(CALM, view=LIST), ()),
    Row(
        "lists lapse soon", replace(CALM, view=replace(LIST, expires_at=NOW + 4 * DAY)),
        (NewsKind.FEED_LAPSING,),
    ),
    Row(
        "lists have lapsed", replace(CALM, view=replace(LIST, expires_at=NOW)),
        (NewsKind.FEED_STALE,),
    ),
    Row(
        "what runs was withdrawn", replace(CALM, view=replace(LIST, withdrawn=("3.2.4",))),
        (NewsKind.WITHDRAWN,),
    ),
    Row("another was", replace(CALM, view=replace(LIST, withdrawn=("3.2.3",))), ()),
    Row("a full disk", replace(CALM, free_percent={"state": 50.0, "slots": 9.9}), (NewsKind.DISK,)),
    Row(
        "the journal cannot be read",
        replace(CALM, journal=JournalUnreadable(path="j", reason="x")), (NewsKind.NEEDS_PERSON,),
    ),
    Row("a change runs", at(change=change(ChangeState.RUNNING)), ()),
    Row("a change is stuck", at(change=change(ChangeState.STUCK)), (NewsKind.NEEDS_PERSON,)),
    Row(
        "a release turned bad, and a person decides",
        at(change=change(ChangeState.COMMITTED, steps=COMMIT), bad_releases=(BAD,)),
        (NewsKind.NEEDS_PERSON,), AlertLimits(only_reports=True),
    ),
    Row(
        "or the agent goes back by itself",
        at(change=change(ChangeState.COMMITTED, steps=COMMIT), bad_releases=(BAD,)),
        (),
    ),
    Row(
        "there is no way back that keeps records",
        at(
            change=change(ChangeState.COMMITTED, steps=COMMIT),
            facts=ChangeFacts(waits_for_person=True),
            bad_releases=(BAD,),
        ),
        (NewsKind.NEEDS_PERSON,),
    ),
    Row(
        "a rollback turned bad",
        at(
            change=change(ChangeState.COMMITTED, steps=COMMIT),
            facts=ChangeFacts(waits_for_person=True),
        ),
        (NewsKind.NEEDS_PERSON,),
    ),
    Row(
        "what turned bad could not be taken back",
        at(owed=PendingRollback(change(ChangeState.FINISHED), MOST_TRIES)),
        (NewsKind.NEEDS_PERSON,),
    ),
    Row("or is tried again", at(owed=PendingRollback(change(ChangeState.FINISHED), 1)), ()),
    Row(
        "people left it, so they are asked",
        awaiting(replace(NEXT, left=True)),
        (NewsKind.AVAILABLE, NewsKind.WAITS), AlertLimits(automatic=True),
    ),
    Row(
        "an agent was given up",
        replace(CALM, agent=AgentSelection("1.0", bad={"1.1": Bad(1, NOW)})),
        (NewsKind.AGENT_RETURNED,),
    ),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_what_is_told_and_that_it_is_told_once(row: Row) -> None:
    news, told = fresh(row.now, row.limits, {})
    assert tuple(item.kind for item in news) == row.kinds
    again, still = fresh(replace(row.now, now=NOW + timedelta(minutes=5)), row.limits, told)
    assert again == ()
    assert still == told
    # After it has ended it may begin anew.
    _, ended = fresh(CALM, row.limits, told)
    assert ended == {}
    assert len(fresh(row.now, row.limits, ended)[0]) == len(row.kinds)


def test_people_still_needed_are_told_as_they_become_fewer() -> None:
    limits = AlertLimits(approvals=2)
    _, told = fresh(awaiting(), limits, {})
    news, _ = fresh(awaiting(status=at(approvals=(YES,))), limits, told)
    assert [(n.kind, n.values["missing"]) for n in news] == [(NewsKind.WAITS, 1)]


def test_nobody_is_asked_to_approve_what_was_found_before_the_last_event() -> None:
    # 3.3.0 was installed, or failed, a moment ago, and the service has not looked since.
    behind = replace(CALM, journal=JournalFacts(event=2))
    _, told = fresh(awaiting(replace(NEXT, binding="")), AlertLimits(), {})
    news, still = fresh(awaiting(status=behind), AlertLimits(), told)
    assert news == ()
    assert still == told == {NewsKind.AVAILABLE: "3.3.0"}
    seen = awaiting(replace(NEXT, event=2), behind)
    assert [one.kind for one in fresh(seen, AlertLimits(), still)[0]] == [NewsKind.WAITS]


def test_a_disk_at_the_bound_is_not_told_again_and_again() -> None:
    _, told = fresh(replace(CALM, free_percent={"state": 9.9}), AlertLimits(), {})
    _, told = fresh(replace(CALM, free_percent={"state": 10.5}), AlertLimits(), told)
    assert fresh(replace(CALM, free_percent={"state": 9.9}), AlertLimits(), told)[0] == ()
    _, told = fresh(replace(CALM, free_percent={"state": 12.5}), AlertLimits(), told)
    assert len(fresh(replace(CALM, free_percent={"state": 9.9}), AlertLimits(), told)[0]) == 1


def test_a_second_agent_that_is_given_up_is_told_alone() -> None:
    one = replace(CALM, agent=AgentSelection("1.0", bad={"1.1": Bad(1, NOW)}))
    _, told = fresh(one, AlertLimits(), {})
    two = replace(CALM, agent=AgentSelection("1.0", bad={"1.1": Bad(1, NOW), "1.2": Bad(1, NOW)}))
    news, _ = fresh(two, AlertLimits(), told)
    assert [n.values["version"] for n in news] == ["1.2"]
