"""What the service does next: one row a rule, and what comes before what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.automation import (
    Action,
    ActionFailure,
    Automation,
    Inputs,
    Rehearsed,
    decide,
)
from ncen_updater.agent.policy.windows import Day, Window, opening_at

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONE = ZoneInfo("Africa/Nairobi")  # 15:00 there
NIGHT = Window(frozenset(Day), time(22), time(4))
DAY = Window(frozenset(Day), time(8), time(18))
QUIET = Inputs(NOW, Automation.APPROVE, ZONE, next_check=NOW + 6 * HOUR)
UNTIMED = replace(QUIET, target="3.3.0", prepared=True, rehearsed=Rehearsed.PASSED)
READY = replace(UNTIMED, not_before=NOW - HOUR)


@dataclass(frozen=True)
class Row:
    name: str
    facts: Inputs
    action: Action
    until: datetime | None = None


def failed(action: Action, minutes_ago: int, times: int = 1) -> dict[Action, ActionFailure]:
    return {action: ActionFailure(NOW - timedelta(minutes=minutes_ago), times)}


ROWS = (
    Row("nothing on offer", QUIET, Action.WAIT, NOW + 6 * HOUR),
    Row(
        "never longer than a day",
        replace(QUIET, next_check=NOW + 99 * HOUR),
        Action.WAIT,
        NOW + 24 * HOUR,
    ),
    Row("time to ask", replace(QUIET, next_check=NOW), Action.CHECK),
    Row("time to ask, on hold", replace(QUIET, next_check=NOW, held="audit"), Action.CHECK),
    Row(
        "an open change",
        replace(READY, open_change=True, held="x", next_check=NOW, ordered=True),
        Action.RESUME,
    ),
    Row(
        "a new agent begins nothing",
        replace(READY, on_trial=True, ordered=True, next_check=NOW, agent="2.0"),
        Action.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "but ends what is open",
        replace(READY, on_trial=True, open_change=True),
        Action.RESUME,
    ),
    Row(
        "an order to go back ends the watching, also of a new agent",
        replace(READY, open_change=True, back=True, ordered=True, on_trial=True, next_check=NOW),
        Action.ORDER,
    ),
    Row(
        "an open change outside the window",
        replace(READY, open_change=True, windows=(NIGHT,)),
        Action.RESUME,
    ),
    Row(
        "an open change that failed to resume",
        replace(READY, open_change=True, failures=failed(Action.RESUME, 1, times=2)),
        Action.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "officers may be out: the next try is soon",
        replace(READY, open_change=True, failures=failed(Action.RESUME, 1)),
        Action.RESUME,
    ),
    Row(
        "an application that nobody stopped is started, before anything else",
        replace(READY, down=True, ordered=True, next_check=NOW, on_trial=True),
        Action.START,
    ),
    Row(
        "an open change starts it at its end",
        replace(READY, down=True, open_change=True),
        Action.RESUME,
    ),
    Row(
        "what could not be started holds nothing else up",
        replace(READY, down=True, ordered=True, failures=failed(Action.START, 0)),
        Action.ORDER,
    ),
    Row(
        "and is tried again soon",
        replace(QUIET, down=True, failures=failed(Action.START, 0)),
        Action.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row(
        "whether it runs is looked at again",
        replace(QUIET, down=False),
        Action.WAIT,
        NOW + timedelta(minutes=5),
    ),
    Row(
        "a release that turned bad is taken back",
        replace(READY, owed=True, ordered=True, next_check=NOW),
        Action.RESUME,
    ),
    Row(
        "taking back failed: an order comes first",
        replace(READY, owed=True, ordered=True, failures=failed(Action.RESUME, 1, times=2)),
        Action.ORDER,
    ),
    Row(
        "taking back failed: it is tried again soon",
        replace(QUIET, owed=True, failures=failed(Action.RESUME, 1, times=2)),
        Action.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "people left it: they are asked also where nobody is",
        replace(READY, mode=Automation.AUTOMATIC, left=True, missing_approvals=1),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hold ends before anything else",
        replace(READY, held="audit", held_until=NOW + HOUR),
        Action.WAIT,
        NOW + HOUR,
    ),
    Row(
        "a failure from a time that has not come yet",
        replace(READY, failures=failed(Action.UPGRADE, -600)),
        Action.UPGRADE,
    ),
    Row(
        "the same of a collection",
        replace(QUIET, collect_at=NOW, failures=failed(Action.COLLECT, -600)),
        Action.COLLECT,
    ),
    Row(
        "a stuck change",
        replace(READY, open_change=True, stuck=True, next_check=NOW),
        Action.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "a stuck change, and what a person orders",
        replace(READY, open_change=True, stuck=True, ordered=True, next_check=NOW),
        Action.ORDER,
    ),
    Row(
        "somebody is at work",
        replace(READY, busy=True, open_change=True, ordered=True, next_check=NOW, collect_at=NOW),
        Action.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row("an order", replace(READY, ordered=True, next_check=NOW, held="x"), Action.ORDER),
    Row("a newer agent comes first", replace(READY, agent="0.2.0"), Action.SELF_UPDATE),
    Row(
        "a newer agent, also on hold",
        replace(READY, agent="0.2.0", held="audit"),
        Action.SELF_UPDATE,
    ),
    Row(
        "a newer agent waits for its hours, the release goes on",
        replace(READY, agent="0.2.0", fetch_windows=(NIGHT,)),
        Action.UPGRADE,
    ),
    Row(
        "a newer agent that could not be installed",
        replace(READY, agent="0.2.0", failures=failed(Action.SELF_UPDATE, 1)),
        Action.UPGRADE,
    ),
    Row("days are over", replace(READY, collect_at=NOW, agent="0.2.0"), Action.COLLECT),
    Row("days are over, on hold", replace(QUIET, collect_at=NOW, held="x"), Action.COLLECT),
    Row(
        "days are over, a change is open",
        replace(QUIET, collect_at=NOW, open_change=True),
        Action.RESUME,
    ),
    Row("days end soon", replace(QUIET, collect_at=NOW + HOUR), Action.WAIT, NOW + HOUR),
    Row(
        "what could not be dropped holds nothing up",
        replace(READY, collect_at=NOW - HOUR, failures=failed(Action.COLLECT, 1)),
        Action.UPGRADE,
    ),
    Row(
        "what could not be dropped is tried again",
        replace(QUIET, collect_at=NOW - HOUR, failures=failed(Action.COLLECT, 1)),
        Action.WAIT,
        NOW + timedelta(minutes=9),
    ),
    Row("on hold", replace(READY, held="audit"), Action.WAIT, NOW + 6 * HOUR),
    Row("only told", replace(READY, mode=Automation.NOTIFY), Action.WAIT, NOW + 6 * HOUR),
    Row("failed here lately", replace(READY, bad_until=NOW + HOUR), Action.WAIT, NOW + HOUR),
    Row("failed here long ago", replace(READY, bad_until=NOW), Action.UPGRADE),
    Row("not here yet", replace(READY, prepared=False), Action.PREPARE),
    Row(
        "not here yet, wrong hours",
        replace(READY, prepared=False, fetch_windows=(NIGHT,)),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hours come before the next question",
        replace(READY, prepared=False, fetch_windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        Action.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "not here yet, right hours",
        replace(READY, prepared=False, fetch_windows=(DAY,)),
        Action.PREPARE,
    ),
    Row(
        "the line broke",
        replace(READY, prepared=False, failures=failed(Action.PREPARE, 9)),
        Action.WAIT,
        NOW + timedelta(minutes=1),
    ),
    Row(
        "the line broke long ago",
        replace(READY, prepared=False, failures=failed(Action.PREPARE, 10)),
        Action.PREPARE,
    ),
    Row(
        "the line broke again",
        replace(READY, prepared=False, failures=failed(Action.PREPARE, 10, 2)),
        Action.WAIT,
        NOW + timedelta(minutes=50),
    ),
    Row(
        "the delay stays at a day",
        replace(READY, prepared=False, failures=failed(Action.PREPARE, 0, 99)),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "another action failed",
        replace(READY, prepared=False, failures=failed(Action.CHECK, 1)),
        Action.PREPARE,
    ),
    Row("not rehearsed", replace(READY, rehearsed=Rehearsed.MISSING), Action.REHEARSE),
    Row("rehearsed on what was", replace(READY, rehearsed=Rehearsed.VOID), Action.REHEARSE),
    Row(
        "not rehearsed, wrong hours",
        replace(READY, rehearsed=Rehearsed.VOID, fetch_windows=(NIGHT,)),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the rehearsal failed",
        replace(READY, rehearsed=Rehearsed.FAILED),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row("no rehearsal wanted", replace(READY, rehearsed=Rehearsed.NOT_WANTED), Action.UPGRADE),
    Row("nobody approved", replace(READY, missing_approvals=1), Action.WAIT, NOW + 6 * HOUR),
    Row(
        "nobody has to approve",
        replace(READY, missing_approvals=2, mode=Automation.AUTOMATIC),
        Action.UPGRADE,
    ),
    Row("a chosen time", replace(READY, not_before=NOW + HOUR), Action.WAIT, NOW + HOUR),
    Row("a chosen time that came", replace(READY, not_before=NOW), Action.UPGRADE),
    Row(
        "outside the window",
        replace(READY, windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        Action.WAIT,
        NOW + 7 * HOUR,
    ),
    Row("inside the window", replace(READY, windows=(DAY,)), Action.UPGRADE, NOW + 3 * HOUR),
    Row(
        "a chosen time does not open the window",
        replace(READY, windows=(NIGHT,), not_before=NOW - HOUR, next_check=NOW + 9 * HOUR),
        Action.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "no window ever opens",
        replace(READY, windows=(Window(frozenset(), time(1), time(2)),)),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the preflight blocked it",
        replace(READY, failures=failed(Action.UPGRADE, 5)),
        Action.WAIT,
        NOW + timedelta(minutes=5),
    ),
    Row("all is ready", READY, Action.UPGRADE),
    Row("nobody chose an hour", UNTIMED, Action.WAIT, NOW + 6 * HOUR),
    Row(
        "nobody chose an hour, and nobody has to approve",
        replace(UNTIMED, mode=Automation.AUTOMATIC),
        Action.WAIT,
        NOW + 6 * HOUR,
    ),
    Row("the window is hour enough", replace(UNTIMED, windows=(DAY,)), Action.UPGRADE,
        NOW + 3 * HOUR),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decide(row: Row) -> None:
    act = decide(row.facts)
    assert (act.action, act.until) == (row.action, row.until)
    assert "{" not in act.why.render("en")


times = st.integers(-400, 400).map(lambda minutes: NOW + timedelta(minutes=minutes))
windows = st.lists(
    st.builds(
        Window,
        st.sets(st.sampled_from(Day)).map(frozenset),
        st.times().map(lambda t: t.replace(microsecond=0)),
        st.times().map(lambda t: t.replace(microsecond=0)),
    ),
    max_size=2,
).map(tuple)
all_facts = st.builds(
    Inputs,
    now=st.just(NOW),
    mode=st.sampled_from(Automation),
    zone=st.just(ZONE),
    next_check=times,
    windows=windows,
    fetch_windows=windows,
    open_change=st.booleans(),
    stuck=st.booleans(),
    ordered=st.booleans(),
    held=st.sampled_from([None, "audit"]),
    agent=st.sampled_from([None, "0.2.0"]),
    target=st.sampled_from([None, "3.3.0"]),
    bad_until=st.none() | times,
    prepared=st.booleans(),
    rehearsed=st.sampled_from(Rehearsed),
    missing_approvals=st.integers(0, 2),
    not_before=st.none() | times,
    failures=st.dictionaries(
        st.sampled_from(Action), st.builds(ActionFailure, times, st.integers(1, 9)), max_size=3
    ),
)


@given(all_facts)
def test_what_never_happens(facts: Inputs) -> None:
    act = decide(facts)
    if act.action is Action.UPGRADE:
        assert facts.held is None
        assert not (facts.open_change or facts.stuck)
        assert facts.prepared
        assert facts.mode is not Automation.NOTIFY
        assert facts.rehearsed in (Rehearsed.PASSED, Rehearsed.NOT_WANTED)
        assert facts.windows or facts.not_before is not None
        assert not facts.windows or opening_at(facts.windows, NOW, ZONE) is not None
        assert facts.mode is Automation.AUTOMATIC or not facts.missing_approvals
        assert facts.not_before is None or facts.not_before <= NOW
        assert facts.bad_until is None or facts.bad_until <= NOW
    if act.action is Action.WAIT:
        assert act.until is not None
        assert NOW < act.until <= NOW + timedelta(hours=24)
    if facts.stuck:
        assert act.action is (Action.ORDER if facts.ordered else Action.WAIT)


SCHEDULED = (
    (
        replace(READY, not_before=NOW + HOUR, missing_approvals=2),
        "release 3.3.0, scheduled for 2026-11-24 16:00 EAT (13:00 UTC), waits for approval: 2 more",
    ),
    (
        replace(READY, not_before=NOW - HOUR, missing_approvals=2),
        "release 3.3.0 waits for approval: 2 more",
    ),
    (
        replace(READY, not_before=NOW + HOUR, windows=(DAY,)),
        "the upgrade to 3.3.0 was scheduled for 2026-11-24 16:00 EAT (13:00 UTC)",
    ),
    (
        replace(READY, not_before=NOW + HOUR, windows=(NIGHT,)),
        "the upgrade to 3.3.0 was scheduled for 2026-11-24 16:00 EAT (13:00 UTC); no window is "
        "open then, the next one is: 2026-11-24 22:00 EAT (19:00 UTC)",
    ),
)


@pytest.mark.parametrize(("facts", "why"), SCHEDULED)
def test_a_chosen_time_is_told_with_all_that_it_waits_for(facts: Inputs, why: str) -> None:
    """Seen: a time outside of the window stood there as if it began then, or stood nowhere."""
    assert decide(facts).why.render() == why
