"""What the service does next: one row a rule, and what comes before what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.automation import (
    Automation,
    Deed,
    Facts,
    Failure,
    Rehearsed,
    decide,
)
from ncen_updater.agent.policy.windows import Day, Window, opening_at

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONE = ZoneInfo("Africa/Nairobi")  # 15:00 there
NIGHT = Window(frozenset(Day), time(22), time(4))
DAY = Window(frozenset(Day), time(8), time(18))
QUIET = Facts(NOW, Automation.APPROVE, ZONE, next_check=NOW + 6 * HOUR)
READY = replace(QUIET, target="3.3.0", prepared=True, rehearsed=Rehearsed.PASSED)


@dataclass(frozen=True)
class Row:
    name: str
    facts: Facts
    deed: Deed
    until: datetime | None = None


def failed(deed: Deed, minutes_ago: int, times: int = 1) -> dict[Deed, Failure]:
    return {deed: Failure(NOW - timedelta(minutes=minutes_ago), times)}


ROWS = (
    Row("nothing on offer", QUIET, Deed.WAIT, NOW + 6 * HOUR),
    Row(
        "never longer than a day",
        replace(QUIET, next_check=NOW + 99 * HOUR),
        Deed.WAIT,
        NOW + 24 * HOUR,
    ),
    Row("time to ask", replace(QUIET, next_check=NOW), Deed.CHECK),
    Row("time to ask, on hold", replace(QUIET, next_check=NOW, held="audit"), Deed.CHECK),
    Row(
        "an open change",
        replace(READY, open_change=True, held="x", next_check=NOW, ordered=True),
        Deed.RESUME,
    ),
    Row(
        "a new agent begins nothing",
        replace(READY, on_trial=True, ordered=True, next_check=NOW, agent="2.0"),
        Deed.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "but ends what is open",
        replace(READY, on_trial=True, open_change=True),
        Deed.RESUME,
    ),
    Row(
        "an open change outside the window",
        replace(READY, open_change=True, windows=(NIGHT,)),
        Deed.RESUME,
    ),
    Row(
        "an open change that failed to resume",
        replace(READY, open_change=True, failures=failed(Deed.RESUME, 1, times=2)),
        Deed.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "officers may be out: the next try is soon",
        replace(READY, open_change=True, failures=failed(Deed.RESUME, 1)),
        Deed.RESUME,
    ),
    Row(
        "a release that turned bad is taken back",
        replace(READY, owed=True, ordered=True, next_check=NOW),
        Deed.RESUME,
    ),
    Row(
        "taking back failed: an order comes first",
        replace(READY, owed=True, ordered=True, failures=failed(Deed.RESUME, 1, times=2)),
        Deed.ORDER,
    ),
    Row(
        "taking back failed: it is tried again soon",
        replace(QUIET, owed=True, failures=failed(Deed.RESUME, 1, times=2)),
        Deed.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "people left it: they are asked also where nobody is",
        replace(READY, mode=Automation.AUTOMATIC, left=True, missing_approvals=1),
        Deed.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hold ends before anything else",
        replace(READY, held="audit", held_until=NOW + HOUR),
        Deed.WAIT,
        NOW + HOUR,
    ),
    Row(
        "a failure from a time that has not come yet",
        replace(READY, failures=failed(Deed.UPGRADE, -600)),
        Deed.UPGRADE,
    ),
    Row(
        "the same of a collection",
        replace(QUIET, collect_at=NOW, failures=failed(Deed.COLLECT, -600)),
        Deed.COLLECT,
    ),
    Row(
        "a stuck change",
        replace(READY, open_change=True, stuck=True, next_check=NOW),
        Deed.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "a stuck change, and what a person orders",
        replace(READY, open_change=True, stuck=True, ordered=True, next_check=NOW),
        Deed.ORDER,
    ),
    Row(
        "somebody is at work",
        replace(READY, busy=True, open_change=True, ordered=True, next_check=NOW, collect_at=NOW),
        Deed.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row("an order", replace(READY, ordered=True, next_check=NOW, held="x"), Deed.ORDER),
    Row("a newer agent comes first", replace(READY, agent="0.2.0"), Deed.SELF_UPDATE),
    Row(
        "a newer agent, also on hold", replace(READY, agent="0.2.0", held="audit"), Deed.SELF_UPDATE
    ),
    Row(
        "a newer agent waits for its hours, the release goes on",
        replace(READY, agent="0.2.0", fetch_windows=(NIGHT,)),
        Deed.UPGRADE,
    ),
    Row(
        "a newer agent that could not be installed",
        replace(READY, agent="0.2.0", failures=failed(Deed.SELF_UPDATE, 1)),
        Deed.UPGRADE,
    ),
    Row("days are over", replace(READY, collect_at=NOW, agent="0.2.0"), Deed.COLLECT),
    Row("days are over, on hold", replace(QUIET, collect_at=NOW, held="x"), Deed.COLLECT),
    Row(
        "days are over, a change is open",
        replace(QUIET, collect_at=NOW, open_change=True),
        Deed.RESUME,
    ),
    Row("days end soon", replace(QUIET, collect_at=NOW + HOUR), Deed.WAIT, NOW + HOUR),
    Row(
        "what could not be dropped holds nothing up",
        replace(READY, collect_at=NOW - HOUR, failures=failed(Deed.COLLECT, 1)),
        Deed.UPGRADE,
    ),
    Row(
        "what could not be dropped is tried again",
        replace(QUIET, collect_at=NOW - HOUR, failures=failed(Deed.COLLECT, 1)),
        Deed.WAIT,
        NOW + timedelta(minutes=9),
    ),
    Row("on hold", replace(READY, held="audit"), Deed.WAIT, NOW + 6 * HOUR),
    Row("only told", replace(READY, mode=Automation.NOTIFY), Deed.WAIT, NOW + 6 * HOUR),
    Row("failed here lately", replace(READY, bad_until=NOW + HOUR), Deed.WAIT, NOW + HOUR),
    Row("failed here long ago", replace(READY, bad_until=NOW), Deed.UPGRADE),
    Row("not here yet", replace(READY, prepared=False), Deed.PREPARE),
    Row(
        "not here yet, wrong hours",
        replace(READY, prepared=False, fetch_windows=(NIGHT,)),
        Deed.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hours come before the next question",
        replace(READY, prepared=False, fetch_windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        Deed.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "not here yet, right hours",
        replace(READY, prepared=False, fetch_windows=(DAY,)),
        Deed.PREPARE,
    ),
    Row(
        "the line broke",
        replace(READY, prepared=False, failures=failed(Deed.PREPARE, 9)),
        Deed.WAIT,
        NOW + timedelta(minutes=1),
    ),
    Row(
        "the line broke long ago",
        replace(READY, prepared=False, failures=failed(Deed.PREPARE, 10)),
        Deed.PREPARE,
    ),
    Row(
        "the line broke again",
        replace(READY, prepared=False, failures=failed(Deed.PREPARE, 10, 2)),
        Deed.WAIT,
        NOW + timedelta(minutes=50),
    ),
    Row(
        "the delay stays at a day",
        replace(READY, prepared=False, failures=failed(Deed.PREPARE, 0, 99)),
        Deed.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "another deed failed",
        replace(READY, prepared=False, failures=failed(Deed.CHECK, 1)),
        Deed.PREPARE,
    ),
    Row("not rehearsed", replace(READY, rehearsed=Rehearsed.MISSING), Deed.REHEARSE),
    Row("rehearsed on what was", replace(READY, rehearsed=Rehearsed.VOID), Deed.REHEARSE),
    Row(
        "not rehearsed, wrong hours",
        replace(READY, rehearsed=Rehearsed.VOID, fetch_windows=(NIGHT,)),
        Deed.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the rehearsal failed",
        replace(READY, rehearsed=Rehearsed.FAILED),
        Deed.WAIT,
        NOW + 6 * HOUR,
    ),
    Row("no rehearsal wanted", replace(READY, rehearsed=Rehearsed.NOT_WANTED), Deed.UPGRADE),
    Row("nobody approved", replace(READY, missing_approvals=1), Deed.WAIT, NOW + 6 * HOUR),
    Row(
        "nobody has to approve",
        replace(READY, missing_approvals=2, mode=Automation.AUTOMATIC),
        Deed.UPGRADE,
    ),
    Row("a chosen time", replace(READY, not_before=NOW + HOUR), Deed.WAIT, NOW + HOUR),
    Row("a chosen time that came", replace(READY, not_before=NOW), Deed.UPGRADE),
    Row(
        "outside the window",
        replace(READY, windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        Deed.WAIT,
        NOW + 7 * HOUR,
    ),
    Row("inside the window", replace(READY, windows=(DAY,)), Deed.UPGRADE, NOW + 3 * HOUR),
    Row(
        "a chosen time does not open the window",
        replace(READY, windows=(NIGHT,), not_before=NOW - HOUR, next_check=NOW + 9 * HOUR),
        Deed.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "no window ever opens",
        replace(READY, windows=(Window(frozenset(), time(1), time(2)),)),
        Deed.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the preflight blocked it",
        replace(READY, failures=failed(Deed.UPGRADE, 5)),
        Deed.WAIT,
        NOW + timedelta(minutes=5),
    ),
    Row("all is ready", READY, Deed.UPGRADE),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decide(row: Row) -> None:
    act = decide(row.facts)
    assert (act.deed, act.until) == (row.deed, row.until)
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
    Facts,
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
        st.sampled_from(Deed), st.builds(Failure, times, st.integers(1, 9)), max_size=3
    ),
)


@given(all_facts)
def test_what_never_happens(facts: Facts) -> None:
    act = decide(facts)
    if act.deed is Deed.UPGRADE:
        assert facts.held is None
        assert not (facts.open_change or facts.stuck)
        assert facts.prepared
        assert facts.mode is not Automation.NOTIFY
        assert facts.rehearsed in (Rehearsed.PASSED, Rehearsed.NOT_WANTED)
        assert not facts.windows or opening_at(facts.windows, NOW, ZONE) is not None
        assert facts.mode is Automation.AUTOMATIC or not facts.missing_approvals
        assert facts.not_before is None or facts.not_before <= NOW
        assert facts.bad_until is None or facts.bad_until <= NOW
    if act.deed is Deed.WAIT:
        assert act.until is not None
        assert NOW < act.until <= NOW + timedelta(hours=24)
    if facts.stuck:
        assert act.deed is (Deed.ORDER if facts.ordered else Deed.WAIT)
