"""Tests of the service's next automatic action: one row for each rule, and their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.automation import (
    BAD_RELEASE_DELAYS,
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
UNTIMED = replace(QUIET, target="3.3.0", slot_built=True, rehearsal_status=RehearsalStatus.PASSED)
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
    Row("feed check due", replace(QUIET, next_check=NOW), ServiceAction.CHECK_FEED),
    Row(
        "feed check due, on hold",
        replace(QUIET, next_check=NOW, hold_reason="audit"),
        ServiceAction.CHECK_FEED,
    ),
    Row(
        "an open change",
        replace(READY, open_change=True, hold_reason="x", next_check=NOW, job_waiting=True),
        ServiceAction.RESUME,
    ),
    Row(
        "a new agent begins nothing",
        replace(
            READY, agent_unconfirmed=True, job_waiting=True, next_check=NOW, agent_offered="2.0"
        ),
        ServiceAction.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "but ends what is open",
        replace(READY, agent_unconfirmed=True, open_change=True),
        ServiceAction.RESUME,
    ),
    Row(
        "rollback job ends the soak, also of a new agent",
        replace(
            READY,
            open_change=True,
            rollback_requested=True,
            job_waiting=True,
            agent_unconfirmed=True,
            next_check=NOW,
        ),
        ServiceAction.RUN_JOB,
    ),
    Row(
        "an open change outside the window",
        replace(READY, open_change=True, upgrade_windows=(NIGHT,)),
        ServiceAction.RESUME,
    ),
    Row(
        "an open change that failed to resume",
        replace(READY, open_change=True, failures=failed(ServiceAction.RESUME, 1, times=2)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "possible downtime: the retry is soon",
        replace(READY, open_change=True, failures=failed(ServiceAction.RESUME, 1)),
        ServiceAction.RESUME,
    ),
    Row(
        "application that was not stopped deliberately is started first",
        replace(
            READY, application_down=True, job_waiting=True, next_check=NOW, agent_unconfirmed=True
        ),
        ServiceAction.START_APPLICATION,
    ),
    Row(
        "an open change starts it at its end",
        replace(READY, application_down=True, open_change=True),
        ServiceAction.RESUME,
    ),
    Row(
        "what could not be started holds nothing else up",
        replace(
            READY,
            application_down=True,
            job_waiting=True,
            failures=failed(ServiceAction.START_APPLICATION, 0),
        ),
        ServiceAction.RUN_JOB,
    ),
    Row(
        "and is tried again soon",
        replace(QUIET, application_down=True, failures=failed(ServiceAction.START_APPLICATION, 0)),
        ServiceAction.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row(
        "whether it runs is looked at again",
        replace(QUIET, application_down=False),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=5),
    ),
    Row(
        "bad release is rolled back",
        replace(READY, rollback_pending=True, job_waiting=True, next_check=NOW),
        ServiceAction.RESUME,
    ),
    Row(
        "taking back failed: an order comes first",
        replace(
            READY,
            rollback_pending=True,
            job_waiting=True,
            failures=failed(ServiceAction.RESUME, 1, times=2),
        ),
        ServiceAction.RUN_JOB,
    ),
    Row(
        "taking back failed: it is tried again soon",
        replace(QUIET, rollback_pending=True, failures=failed(ServiceAction.RESUME, 1, times=2)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=4),
    ),
    Row(
        "rolled back manually: approvals are required",
        replace(READY, mode=AutomationMode.AUTOMATIC, was_rolled_back=True, missing_approvals=1),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hold ends before anything else",
        replace(READY, hold_reason="audit", hold_until=NOW + HOUR),
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
        replace(QUIET, prune_at=NOW, failures=failed(ServiceAction.PRUNE, -600)),
        ServiceAction.PRUNE,
    ),
    Row(
        "a stuck change",
        replace(READY, open_change=True, stuck=True, next_check=NOW),
        ServiceAction.WAIT,
        NOW + 24 * HOUR,
    ),
    Row(
        "a stuck change, and what a person orders",
        replace(READY, open_change=True, stuck=True, job_waiting=True, next_check=NOW),
        ServiceAction.RUN_JOB,
    ),
    Row(
        "another operation",
        replace(READY, busy=True, open_change=True, job_waiting=True, next_check=NOW, prune_at=NOW),
        ServiceAction.WAIT,
        NOW + timedelta(seconds=15),
    ),
    Row(
        "an order",
        replace(READY, job_waiting=True, next_check=NOW, hold_reason="x"),
        ServiceAction.RUN_JOB,
    ),
    Row(
        "a newer agent comes first",
        replace(READY, agent_offered="0.2.0"),
        ServiceAction.SELF_UPDATE,
    ),
    Row(
        "a newer agent, also on hold",
        replace(READY, agent_offered="0.2.0", hold_reason="audit"),
        ServiceAction.SELF_UPDATE,
    ),
    Row(
        "a newer agent waits for its hours, the release goes on",
        replace(READY, agent_offered="0.2.0", download_windows=(NIGHT,)),
        ServiceAction.UPGRADE,
    ),
    Row(
        "a newer agent that could not be installed",
        replace(READY, agent_offered="0.2.0", failures=failed(ServiceAction.SELF_UPDATE, 1)),
        ServiceAction.UPGRADE,
    ),
    Row("pruning due", replace(READY, prune_at=NOW, agent_offered="0.2.0"), ServiceAction.PRUNE),
    Row("pruning due, on hold", replace(QUIET, prune_at=NOW, hold_reason="x"), ServiceAction.PRUNE),
    Row(
        "pruning due, a change is open",
        replace(QUIET, prune_at=NOW, open_change=True),
        ServiceAction.RESUME,
    ),
    Row("days end soon", replace(QUIET, prune_at=NOW + HOUR), ServiceAction.WAIT, NOW + HOUR),
    Row(
        "what could not be dropped holds nothing up",
        replace(READY, prune_at=NOW - HOUR, failures=failed(ServiceAction.PRUNE, 1)),
        ServiceAction.UPGRADE,
    ),
    Row(
        "what could not be dropped is tried again",
        replace(QUIET, prune_at=NOW - HOUR, failures=failed(ServiceAction.PRUNE, 1)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=9),
    ),
    Row("on hold", replace(READY, hold_reason="audit"), ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "notify only",
        replace(READY, mode=AutomationMode.NOTIFY),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row("failed here lately", replace(READY, retry_at=NOW + HOUR), ServiceAction.WAIT, NOW + HOUR),
    Row(
        "failed here before the clock was set back",
        replace(READY, retry_at=NOW + timedelta(days=8)),
        ServiceAction.UPGRADE,
    ),
    Row("failed here long ago", replace(READY, retry_at=NOW), ServiceAction.UPGRADE),
    Row("not downloaded", replace(READY, slot_built=False), ServiceAction.PREPARE),
    Row(
        "not downloaded, wrong hours",
        replace(READY, slot_built=False, download_windows=(NIGHT,)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the hours come before the next question",
        replace(READY, slot_built=False, download_windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        ServiceAction.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "not downloaded, right hours",
        replace(READY, slot_built=False, download_windows=(DAY,)),
        ServiceAction.PREPARE,
    ),
    Row(
        "the line broke",
        replace(READY, slot_built=False, failures=failed(ServiceAction.PREPARE, 9)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=1),
    ),
    Row(
        "the line broke long ago",
        replace(READY, slot_built=False, failures=failed(ServiceAction.PREPARE, 10)),
        ServiceAction.PREPARE,
    ),
    Row(
        "the line broke again",
        replace(READY, slot_built=False, failures=failed(ServiceAction.PREPARE, 10, 2)),
        ServiceAction.WAIT,
        NOW + timedelta(minutes=50),
    ),
    Row(
        "the delay stays at a day",
        replace(READY, slot_built=False, failures=failed(ServiceAction.PREPARE, 0, 99)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "another action failed",
        replace(READY, slot_built=False, failures=failed(ServiceAction.CHECK_FEED, 1)),
        ServiceAction.PREPARE,
    ),
    Row(
        "not rehearsed",
        replace(READY, rehearsal_status=RehearsalStatus.MISSING),
        ServiceAction.REHEARSE,
    ),
    Row(
        "rehearsed on what was",
        replace(READY, rehearsal_status=RehearsalStatus.OUTDATED),
        ServiceAction.REHEARSE,
    ),
    Row(
        "not rehearsed, wrong hours",
        replace(READY, rehearsal_status=RehearsalStatus.OUTDATED, download_windows=(NIGHT,)),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the rehearsal failed",
        replace(READY, rehearsal_status=RehearsalStatus.FAILED),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "no rehearsal wanted",
        replace(READY, rehearsal_status=RehearsalStatus.NOT_REQUIRED),
        ServiceAction.UPGRADE,
    ),
    Row("no approvals", replace(READY, missing_approvals=1), ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "no required approvals",
        replace(READY, missing_approvals=2, mode=AutomationMode.AUTOMATIC),
        ServiceAction.UPGRADE,
    ),
    Row("a chosen time", replace(READY, not_before=NOW + HOUR), ServiceAction.WAIT, NOW + HOUR),
    Row("a chosen time that came", replace(READY, not_before=NOW), ServiceAction.UPGRADE),
    Row(
        "outside the window",
        replace(READY, upgrade_windows=(NIGHT,), next_check=NOW + 9 * HOUR),
        ServiceAction.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "inside the window",
        replace(READY, upgrade_windows=(DAY,)),
        ServiceAction.UPGRADE,
        NOW + 3 * HOUR,
    ),
    Row(
        "a chosen time does not open the window",
        replace(READY, upgrade_windows=(NIGHT,), not_before=NOW - HOUR, next_check=NOW + 9 * HOUR),
        ServiceAction.WAIT,
        NOW + 7 * HOUR,
    ),
    Row(
        "no maintenance window",
        replace(READY, upgrade_windows=(WeeklyWindow(frozenset(), time(1), time(2)),)),
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
    Row("no schedule", UNTIMED, ServiceAction.WAIT, NOW + 6 * HOUR),
    Row(
        "the application is down and its start waits: the upgrade's window ends as before",
        replace(
            UNTIMED,
            upgrade_windows=(DAY,),
            application_down=True,
            failures=failed(ServiceAction.START_APPLICATION, 0),
        ),
        ServiceAction.UPGRADE,
        NOW + 3 * HOUR,
    ),
    Row(
        "a request to roll back without an open change",
        replace(QUIET, rollback_requested=True),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the delay after a failed assessment passed just now",
        replace(QUIET, failures=failed(ServiceAction.ASSESS, 6000)),
        ServiceAction.WAIT,
        NOW + timedelta(seconds=1),
    ),
    Row(
        "the release failed often: the longest delay",
        replace(READY, retry_at=NOW + timedelta(days=6), next_check=NOW + 6 * HOUR),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "no schedule and no required approvals",
        replace(UNTIMED, mode=AutomationMode.AUTOMATIC),
        ServiceAction.WAIT,
        NOW + 6 * HOUR,
    ),
    Row(
        "the window is hour enough",
        replace(UNTIMED, upgrade_windows=(DAY,)),
        ServiceAction.UPGRADE,
        NOW + 3 * HOUR,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_next_action_is_decided(row: Row) -> None:
    act = decide_next_action(row.facts)
    assert (act.action, act.until) == (row.action, row.until)
    assert "{" not in act.reason.render("en")


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
    upgrade_windows=windows,
    download_windows=windows,
    open_change=st.booleans(),
    stuck=st.booleans(),
    job_waiting=st.booleans(),
    hold_reason=st.sampled_from([None, "audit"]),
    agent_offered=st.sampled_from([None, "0.2.0"]),
    target=st.sampled_from([None, "3.3.0"]),
    retry_at=st.none() | times,
    slot_built=st.booleans(),
    rehearsal_status=st.sampled_from(RehearsalStatus),
    missing_approvals=st.integers(0, 2),
    not_before=st.none() | times,
    failures=st.dictionaries(
        st.sampled_from(ServiceAction),
        st.builds(ActionFailure, times, st.integers(1, 9)),
        max_size=3,
    ),
)


@given(all_facts)
def test_invariants_hold_for_all_inputs(facts: AutomationInputs) -> None:
    act = decide_next_action(facts)
    if act.action is ServiceAction.UPGRADE:
        assert facts.hold_reason is None
        assert not (facts.open_change or facts.stuck)
        assert facts.slot_built
        assert facts.mode is not AutomationMode.NOTIFY
        assert facts.rehearsal_status in (RehearsalStatus.PASSED, RehearsalStatus.NOT_REQUIRED)
        assert facts.upgrade_windows or facts.not_before is not None
        assert (
            not facts.upgrade_windows
            or find_open_window(facts.upgrade_windows, NOW, ZONE) is not None
        )
        assert facts.mode is AutomationMode.AUTOMATIC or not facts.missing_approvals
        assert facts.not_before is None or facts.not_before <= NOW
        longest = NOW + BAD_RELEASE_DELAYS[-1]
        assert facts.retry_at is None or not NOW < facts.retry_at <= longest
    if act.action is ServiceAction.WAIT:
        assert act.until is not None
        assert NOW < act.until <= NOW + timedelta(hours=24)
    if facts.stuck:
        assert act.action is (ServiceAction.RUN_JOB if facts.job_waiting else ServiceAction.WAIT)


SCHEDULED = (
    (
        replace(READY, not_before=NOW + HOUR, missing_approvals=2),
        "next upgrade: 3.3.0, waiting for approval: 2 missing",
    ),
    (
        replace(READY, not_before=NOW - HOUR, missing_approvals=2),
        "next upgrade: 3.3.0, waiting for approval: 2 missing",
    ),
    (
        replace(READY, not_before=NOW + HOUR, upgrade_windows=(DAY,)),
        "upgrade to 3.3.0 scheduled for 2026-11-24 16:00 EAT",
    ),
    (
        replace(READY, not_before=NOW + HOUR, upgrade_windows=(NIGHT,)),
        "upgrade to 3.3.0 scheduled for 2026-11-24 16:00 EAT, outside the "
        "maintenance windows; next window: 2026-11-24 22:00 EAT",
    ),
)


@pytest.mark.parametrize(("facts", "why"), SCHEDULED)
def test_scheduled_upgrade_lists_all_wait_reasons(facts: AutomationInputs, why: str) -> None:
    """Seen: a time outside of the window stood there as if it began then, or stood nowhere."""
    assert decide_next_action(facts).reason.render() == why
