"""What the service does next: one row a rule, and what comes before what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.automation import (
    ActionFailure,
    AutomationInputs,
    AutomationMode,
    RehearsalStatus,
    ServiceAction,
    decide_next_action,
)
from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow, find_open_window

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONE = ZoneInfo("Africa/Nairobi")  # 15:00 there
NIGHT = WeeklyWindow(frozenset(Weekday), time(22), time(4))
DAY = WeeklyWindow(frozenset(Weekday), time(8), time(18))
QUIET = AutomationInputs(NOW, AutomationMode.APPROVE, ZONE, next_check=NOW + 6 * HOUR)
UNTIMED = replace(QUIET, target="3.3.0", prepared=True, rehearsed=RehearsalStatus.PASSED)
READY = replace(UNTIMED, not_before=NOW - HOUR)


@dataclass(frozen=True)
class Row:
    name: str
    facts: AutomationInputs
    action: ServiceAction
    until: datetime | None = None


def failed(
    action: ServiceAction, minutes_ago: int, times: int = 1
) -> dict[ServiceAction, ActionFailure]:
    return {action: ActionFailure(NOW - timedelta(minutes=minutes_ago), times)}


ROWS = (
    Row("nothing on offer", QUIET, ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "never longer than a day",
        replace(QUIET, next_check=NOW + 99 * HOUR),
        ServiceAction.WAIT,
        NOW + 24 * HOUR,
    ),
    Row("feed check due", replace(QUIET, next_check=NOW), ServiceAction.CHECK),
    Row(
        "feed check due, on hold", replace(QUIET, next_check=NOW, held="audit"), ServiceAction.CHECK
    ),
    Row(
        "an open change",
        replace(READY, open_change=True, held="x", next_check=NOW, ordered=True),
        ServiceAction.RESUME,
    ),
    Row(
        "a new agent begins nothing",
        replace(READY, on_trial=True, ordered=True, next_check=NOW, agent="2.0"),
        ServiceAction.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "but ends what is open",
        replace(READY, on_trial=True, open_change=True),
        ServiceAction.RESUME,
    ),
    Row(
        "an order to go back ends the watching, also of a new agent",
        replace(READY, open_change=True, back=True, ordered=True, on_trial=True, next_check=NOW),
        ServiceAction.ORDER,
    ),
    Row(
        "an open change outside the window",
        replace(READY, open_change=True, windows=(NIGHT,)),
        ServiceAction.RESUME,
    ),
    Row(
        "an open change that failed to resume",
        replace(READY, open_change=True, failures=failed(ServiceAction.RESUME, 1, times=2)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "officers may be out: the next try is soon",
        replace(READY, open_change=True, failures=failed(ServiceAction.RESUME, 1)),
        ServiceAction.RESUME,
    ),
    Row(
        "an application that nobody stopped is started, before anything else",
        replace(READY, down=True, ordered=True, next_check=NOW, on_trial=True),
        ServiceAction.START,
    ),
    Row(
        "an open change starts it at its end",
        replace(READY, down=True, open_change=True),
        ServiceAction.RESUME,
    ),
    Row(
        "what could not be started holds nothing else up",
        replace(READY, down=True, ordered=True, failures=failed(ServiceAction.START, 0)),
        ServiceAction.ORDER,
    ),
    Row(
        "and is tried again soon",
        replace(QUIET, down=True, failures=failed(ServiceAction.START, 0)),
        ServiceAction.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row(
        "whether it runs is looked at again",
        replace(QUIET, down=False),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=5),
    ),
    Row(
        "a release that turned bad is taken back",
        replace(READY, owed=True, ordered=True, next_check=NOW),
        ServiceAction.RESUME,
    ),
    Row(
        "taking back failed: an order comes first",
        replace(READY, owed=True, ordered=True, failures=failed(ServiceAction.RESUME, 1, times=2)),
        ServiceAction.ORDER,
    ),
    Row(
        "taking back failed: it is tried again soon",
        replace(QUIET, owed=True, failures=failed(ServiceAction.RESUME, 1, times=2)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "people left it: they are asked also where nobody is",
        replace(READY, mode=AutomationMode.AUTOMATIC, left=True, missing_approvals=1),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hold ends before anything else",
        replace(READY, held="audit", held_until=NOW + HOUR),
        ServiceAction.WAIT,
        NOW + HOUR,
    ),
    Row(
        "a failure from a time that has not come yet",
        replace(READY, failures=failed(ServiceAction.UPGRADE, -600)),
        ServiceAction.UPGRADE,
    ),
    Row(
        "the same of a collection",
        replace(QUIET, collect_at=NOW, failures=failed(ServiceAction.COLLECT, -600)),
        ServiceAction.COLLECT,
    ),
    Row(
        "a stuck change",
        replace(READY, open_change=True, stuck=True, next_check=NOW),
        ServiceAction.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "a stuck change, and what a person orders",
        replace(READY, open_change=True, stuck=True, ordered=True, next_check=NOW),
        ServiceAction.ORDER,
    ),
    Row(
        "another operation",
        replace(READY, busy=True, open_change=True, ordered=True, next_check=NOW, collect_at=NOW),
        ServiceAction.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row("an order", replace(READY, ordered=True, next_check=NOW, held="x"), ServiceAction.ORDER),
    Row("a newer agent comes first", replace(READY, agent="0.2.0"), ServiceAction.SELF_UPDATE),
    Row(
        "a newer agent, also on hold",
        replace(READY, agent="0.2.0", held="audit"),
        ServiceAction.SELF_UPDATE,
    ),
    Row(
        "a newer agent waits for its hours, the release goes on",
        replace(READY, agent="0.2.0", fetch_windows=(NIGHT,)),
        ServiceAction.UPGRADE,
    ),
    Row(
        "a newer agent that could not be installed",
        replace(READY, agent="0.2.0", failures=failed(ServiceAction.SELF_UPDATE, 1)),
        ServiceAction.UPGRADE,
    ),
    Row("pruning due", replace(READY, collect_at=NOW, agent="0.2.0"), ServiceAction.COLLECT),
    Row("pruning due, on hold", replace(QUIET, collect_at=NOW, held="x"), ServiceAction.COLLECT),
    Row(
        "pruning due, a change is open",
        replace(QUIET, collect_at=NOW, open_change=True),
        ServiceAction.RESUME,
    ),
    Row("days end soon", replace(QUIET, collect_at=NOW + HOUR), ServiceAction.WAIT, NOW + HOUR),
    Row(
        "what could not be dropped holds nothing up",
        replace(READY, collect_at=NOW - HOUR, failures=failed(ServiceAction.COLLECT, 1)),
        ServiceAction.UPGRADE,
    ),
    Row(
        "what could not be dropped is tried again",
        replace(QUIET, collect_at=NOW - HOUR, failures=failed(ServiceAction.COLLECT, 1)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=9),
    ),
    Row("on hold", replace(READY, held="audit"), ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "only told", replace(READY, mode=AutomationMode.NOTIFY), ServiceAction.WAIT, NOW + 6 * HOUR
    ),
    Row("failed here lately", replace(READY, bad_until=NOW + HOUR), ServiceAction.WAIT, NOW + HOUR),
    Row("failed here long ago", replace(READY, bad_until=NOW), ServiceAction.UPGRADE),
    Row("not downloaded", replace(READY, prepared=False), ServiceAction.PREPARE),
    Row(
        "not downloaded, wrong hours",
        replace(READY, prepared=False, fetch_windows=(NIGHT,)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hours come before the next question",
        replace(READY, prepared=False, fetch_windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        ServiceAction.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "not downloaded, right hours",
        replace(READY, prepared=False, fetch_windows=(DAY,)),
        ServiceAction.PREPARE,
    ),
    Row(
        "the line broke",
        replace(READY, prepared=False, failures=failed(ServiceAction.PREPARE, 9)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=1),
    ),
    Row(
        "the line broke long ago",
        replace(READY, prepared=False, failures=failed(ServiceAction.PREPARE, 10)),
        ServiceAction.PREPARE,
    ),
    Row(
        "the line broke again",
        replace(READY, prepared=False, failures=failed(ServiceAction.PREPARE, 10, 2)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=50),
    ),
    Row(
        "the delay stays at a day",
        replace(READY, prepared=False, failures=failed(ServiceAction.PREPARE, 0, 99)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "another action failed",
        replace(READY, prepared=False, failures=failed(ServiceAction.CHECK, 1)),
        ServiceAction.PREPARE,
    ),
    Row("not rehearsed", replace(READY, rehearsed=RehearsalStatus.MISSING), ServiceAction.REHEARSE),
    Row(
        "rehearsed on what was",
        replace(READY, rehearsed=RehearsalStatus.VOID),
        ServiceAction.REHEARSE,
    ),
    Row(
        "not rehearsed, wrong hours",
        replace(READY, rehearsed=RehearsalStatus.VOID, fetch_windows=(NIGHT,)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the rehearsal failed",
        replace(READY, rehearsed=RehearsalStatus.FAILED),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "no rehearsal wanted",
        replace(READY, rehearsed=RehearsalStatus.NOT_WANTED),
        ServiceAction.UPGRADE,
    ),
    Row("nobody approved", replace(READY, missing_approvals=1), ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "nobody has to approve",
        replace(READY, missing_approvals=2, mode=AutomationMode.AUTOMATIC),
        ServiceAction.UPGRADE,
    ),
    Row("a chosen time", replace(READY, not_before=NOW + HOUR), ServiceAction.WAIT, NOW + HOUR),
    Row("a chosen time that came", replace(READY, not_before=NOW), ServiceAction.UPGRADE),
    Row(
        "outside the window",
        replace(READY, windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        ServiceAction.WAIT,
        NOW + 7 * HOUR,
    ),
    Row("inside the window", replace(READY, windows=(DAY,)), ServiceAction.UPGRADE, NOW + 3 * HOUR),
    Row(
        "a chosen time does not open the window",
        replace(READY, windows=(NIGHT,), not_before=NOW - HOUR, next_check=NOW + 9 * HOUR),
        ServiceAction.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "no maintenance window",
        replace(READY, windows=(WeeklyWindow(frozenset(), time(1), time(2)),)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the preflight blocked it",
        replace(READY, failures=failed(ServiceAction.UPGRADE, 5)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=5),
    ),
    Row("all is ready", READY, ServiceAction.UPGRADE),
    Row("nobody chose an hour", UNTIMED, ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "nobody chose an hour, and nobody has to approve",
        replace(UNTIMED, mode=AutomationMode.AUTOMATIC),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the window is hour enough",
        replace(UNTIMED, windows=(DAY,)),
        ServiceAction.UPGRADE,
        NOW + 3 * HOUR,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decide(row: Row) -> None:
    act = decide_next_action(row.facts)
    assert (act.action, act.until) == (row.action, row.until)
    assert "{" not in act.why.render("en")


times = st.integers(-400, 400).map(lambda minutes: NOW + timedelta(minutes=minutes))
windows = st.lists(
    st.builds(
        WeeklyWindow,
        st.sets(st.sampled_from(Weekday)).map(frozenset),
        st.times().map(lambda t: t.replace(microsecond=0)),
        st.times().map(lambda t: t.replace(microsecond=0)),
    ),
    max_size=2,
).map(tuple)
all_facts = st.builds(
    AutomationInputs,
    now=st.just(NOW),
    mode=st.sampled_from(AutomationMode),
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
    rehearsed=st.sampled_from(RehearsalStatus),
    missing_approvals=st.integers(0, 2),
    not_before=st.none() | times,
    failures=st.dictionaries(
        st.sampled_from(ServiceAction),
        st.builds(ActionFailure, times, st.integers(1, 9)),
        max_size=3,
    ),
)


@given(all_facts)
def test_what_never_happens(facts: AutomationInputs) -> None:
    act = decide_next_action(facts)
    if act.action is ServiceAction.UPGRADE:
        assert facts.held is None
        assert not (facts.open_change or facts.stuck)
        assert facts.prepared
        assert facts.mode is not AutomationMode.NOTIFY
        assert facts.rehearsed in (RehearsalStatus.PASSED, RehearsalStatus.NOT_WANTED)
        assert facts.windows or facts.not_before is not None
        assert not facts.windows or find_open_window(facts.windows, NOW, ZONE) is not None
        assert facts.mode is AutomationMode.AUTOMATIC or not facts.missing_approvals
        assert facts.not_before is None or facts.not_before <= NOW
        assert facts.bad_until is None or facts.bad_until <= NOW
    if act.action is ServiceAction.WAIT:
        assert act.until is not None
        assert NOW < act.until <= NOW + timedelta(hours=24)
    if facts.stuck:
        assert act.action is (ServiceAction.ORDER if facts.ordered else ServiceAction.WAIT)


SCHEDULED = (
    (
        replace(READY, not_before=NOW + HOUR, missing_approvals=2),
        "waiting for approval of 3.3.0: 2 missing",
    ),
    (
        replace(READY, not_before=NOW - HOUR, missing_approvals=2),
        "waiting for approval of 3.3.0: 2 missing",
    ),
    (
        replace(READY, not_before=NOW + HOUR, windows=(DAY,)),
        "upgrade to 3.3.0 scheduled for 2026-11-24 16:00 EAT",
    ),
    (
        replace(READY, not_before=NOW + HOUR, windows=(NIGHT,)),
        "upgrade to 3.3.0 scheduled for 2026-11-24 16:00 EAT, outside the "
        "maintenance windows; next window: 2026-11-24 22:00 EAT",
    ),
)


@pytest.mark.parametrize(("facts", "why"), SCHEDULED)
def test_a_chosen_time_is_told_with_all_that_it_waits_for(
    facts: AutomationInputs, why: str
) -> None:
    """Seen: a time outside of the window stood there as if it began then, or stood nowhere."""
    assert decide_next_action(facts).why.render() == why
