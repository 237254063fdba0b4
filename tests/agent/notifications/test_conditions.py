"""Lasting states: told when they begin, not again before they have ended."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.engine.pending_rollback import MOST_TRIES, PendingRollback
from ncen_updater.agent.journal.change import Change, ChangeState, StepName, StepRecord, StepState
from ncen_updater.agent.notifications.conditions import Limits, fresh
from ncen_updater.agent.notifications.news import Kind
from ncen_updater.agent.notifications.situation import Situation
from ncen_updater.agent.policy.automation import Rehearsed
from ncen_updater.agent.self_update.sequence import Bad, Sequence
from ncen_updater.agent.service.knowledge import Assessment
from ncen_updater.feed.last_view import LastView
from tests.agent.cli.site import CHANGE

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CALM = Situation(NOW, event=1, current="3.2.4", free_percent={"state": 50.0})
NEXT = Assessment(
    event=1, current="3.2.4", target="3.3.0", rehearsed=Rehearsed.PASSED, binding="b" * 64
)
LIST = LastView(NOW - DAY, NOW + 30 * DAY, 1, ("3.3.0",), ())
COMMIT = {StepName.COMMIT: StepRecord(StepName.COMMIT, StepState.DONE, NOW, NOW)}


def change(state: ChangeState, **more: object) -> Change:
    return replace(CHANGE, state=state, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    name: str
    now: Situation
    kinds: tuple[Kind, ...]
    limits: Limits = field(default_factory=Limits)


ROWS = (
    Row("all is well", CALM, ()),
    Row(
        "a release that is not rehearsed yet",
        replace(CALM, assessment=replace(NEXT, rehearsed=Rehearsed.MISSING, binding="")),
        (Kind.AVAILABLE,),
    ),
    Row(
        "one that waits for people", replace(CALM, assessment=NEXT, missing_approvals=1),
        (Kind.AVAILABLE, Kind.WAITS),
    ),
    Row(
        "nobody has to approve", replace(CALM, assessment=NEXT, missing_approvals=1),
        (Kind.AVAILABLE,), Limits(automatic=True),
    ),
    Row(
        "the service only tells", replace(CALM, assessment=NEXT, missing_approvals=1),
        (Kind.AVAILABLE,), Limits(self_starting=False),
    ),
    Row(
        "held", replace(CALM, assessment=NEXT, missing_approvals=1, held=True), (Kind.AVAILABLE,)
    ),
    Row(
        "an approval that holds no longer",
        replace(CALM, assessment=replace(NEXT, voids=("the schema changed",), binding="")),
        (Kind.AVAILABLE, Kind.APPROVAL_VOID),
    ),
    Row(
        "the window comes", replace(CALM, assessment=NEXT, begins_at=NOW + timedelta(hours=12)),
        (Kind.AVAILABLE, Kind.WINDOW),
    ),
    Row(
        "but not yet", replace(CALM, assessment=NEXT, begins_at=NOW + timedelta(hours=13)),
        (Kind.AVAILABLE,),
    ),
    Row("lists are fresh", replace(CALM, view=LIST), ()),
    Row(
        "lists lapse soon", replace(CALM, view=replace(LIST, expires_at=NOW + 4 * DAY)),
        (Kind.FEED_LAPSING,),
    ),
    Row("lists have lapsed", replace(CALM, view=replace(LIST, expires_at=NOW)), (Kind.FEED_STALE,)),
    Row(
        "what runs was withdrawn", replace(CALM, view=replace(LIST, withdrawn=("3.2.4",))),
        (Kind.WITHDRAWN,),
    ),
    Row("another was", replace(CALM, view=replace(LIST, withdrawn=("3.2.3",))), ()),
    Row("a full disk", replace(CALM, free_percent={"state": 50.0, "slots": 9.9}), (Kind.DISK,)),
    Row("the journal cannot be read", replace(CALM, journal_code="NU-6002"), (Kind.NEEDS_PERSON,)),
    Row("a change runs", replace(CALM, change=change(ChangeState.RUNNING)), ()),
    Row("a change is stuck", replace(CALM, change=change(ChangeState.STUCK)), (Kind.NEEDS_PERSON,)),
    Row(
        "a release turned bad, and a person decides",
        replace(
            CALM, change=change(ChangeState.COMMITTED, steps=COMMIT),
            bad_releases={"3.3.0": "NU-6030"},
        ),
        (Kind.NEEDS_PERSON,), Limits(only_reports=True),
    ),
    Row(
        "or the agent goes back by itself",
        replace(
            CALM, change=change(ChangeState.COMMITTED, steps=COMMIT),
            bad_releases={"3.3.0": "NU-6030"},
        ),
        (),
    ),
    Row(
        "there is no way back that keeps records",
        replace(
            CALM, change=change(ChangeState.COMMITTED, steps=COMMIT), waits=True,
            bad_releases={"3.3.0": "NU-6030"},
        ),
        (Kind.NEEDS_PERSON,),
    ),
    Row(
        "a rollback turned bad",
        replace(CALM, change=change(ChangeState.COMMITTED, steps=COMMIT), waits=True),
        (Kind.NEEDS_PERSON,),
    ),
    Row(
        "what turned bad could not be taken back",
        replace(CALM, owed=PendingRollback(change(ChangeState.FINISHED), MOST_TRIES)),
        (Kind.NEEDS_PERSON,),
    ),
    Row(
        "or is tried again",
        replace(CALM, owed=PendingRollback(change(ChangeState.FINISHED), 1)), (),
    ),
    Row(
        "people left it, so they are asked",
        replace(CALM, assessment=replace(NEXT, left=True), missing_approvals=1),
        (Kind.AVAILABLE, Kind.WAITS), Limits(automatic=True),
    ),
    Row(
        "an agent was given up",
        replace(CALM, agent=Sequence("1.0", bad={"1.1": Bad(1, NOW)})), (Kind.AGENT_RETURNED,),
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
    two = replace(CALM, assessment=NEXT, missing_approvals=2)
    _, told = fresh(two, Limits(), {})
    news, _ = fresh(replace(two, missing_approvals=1), Limits(), told)
    assert [(n.kind, n.values["missing"]) for n in news] == [(Kind.WAITS, 1)]


def test_a_disk_at_the_bound_is_not_told_again_and_again() -> None:
    _, told = fresh(replace(CALM, free_percent={"state": 9.9}), Limits(), {})
    _, told = fresh(replace(CALM, free_percent={"state": 10.5}), Limits(), told)
    assert fresh(replace(CALM, free_percent={"state": 9.9}), Limits(), told)[0] == ()
    _, told = fresh(replace(CALM, free_percent={"state": 12.5}), Limits(), told)
    assert len(fresh(replace(CALM, free_percent={"state": 9.9}), Limits(), told)[0]) == 1


def test_a_second_agent_that_is_given_up_is_told_alone() -> None:
    one = replace(CALM, agent=Sequence("1.0", bad={"1.1": Bad(1, NOW)}))
    _, told = fresh(one, Limits(), {})
    two = replace(CALM, agent=Sequence("1.0", bad={"1.1": Bad(1, NOW), "1.2": Bad(1, NOW)}))
    news, _ = fresh(two, Limits(), told)
    assert [n.values["version"] for n in news] == ["1.2"]
