"""Tests of the automatic start time, as shown before and after an approval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.agent.cli.approve import AFTER_APPROVAL
from ncen_updater.agent.engine.approvals.approval import Approval, ApprovalCount
from ncen_updater.agent.policy.automation import (
    ActionFailure,
    AutomationInputs,
    AutomationMode,
    RehearsalStatus,
    ServiceAction,
    WaitReason,
    decide_next_action,
)
from ncen_updater.agent.policy.upgrade_start import (
    StartKind,
    UpgradeStart,
    predict_start,
    predict_start_if_approved,
)
from ncen_updater.agent.policy.windows import Weekday, WeeklyWindow
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.labels import WAIT_LABELS, format_upgrade_start

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)  # a Tuesday; 15:00 at the site
HOUR = timedelta(hours=1)
ZONE = ZoneInfo("Africa/Nairobi")
SATURDAY = WeeklyWindow(frozenset({Weekday.SAT}), time(22), time(4))
DAY = WeeklyWindow(frozenset(Weekday), time(8), time(18))
APPROVED = AutomationInputs(
    NOW,
    AutomationMode.APPROVE,
    ZONE,
    next_check=NOW + 6 * HOUR,
    target="3.3.0",
    slot_built=True,
    rehearsal_status=RehearsalStatus.PASSED,
)
BY_HAND = "The upgrade does not start automatically: no maintenance window is configured."
SATURDAY_NIGHT = "The upgrade starts on Saturday 2026-11-28 22:00 EAT."


@dataclass(frozen=True)
class Row:
    name: str
    facts: AutomationInputs
    words: str


ROWS = (
    Row("no windows, no time", APPROVED, BY_HAND),
    Row("automatic, no windows", replace(APPROVED, mode=AutomationMode.AUTOMATIC), BY_HAND),
    Row(
        "a window that is open",
        replace(APPROVED, upgrade_windows=(DAY,)),
        "The upgrade starts immediately.",
    ),
    Row("a window to come", replace(APPROVED, upgrade_windows=(SATURDAY,)), SATURDAY_NIGHT),
    Row(
        "a time",
        replace(APPROVED, not_before=NOW + HOUR),
        "The upgrade starts on Tuesday 2026-11-24 16:00 EAT.",
    ),
    Row(
        "a time that came",
        replace(APPROVED, not_before=NOW - HOUR),
        "The upgrade starts immediately.",
    ),
    Row(
        "a time before the window",
        replace(APPROVED, not_before=NOW + HOUR, upgrade_windows=(SATURDAY,)),
        SATURDAY_NIGHT,
    ),
    Row(
        "a time after that window",
        replace(APPROVED, not_before=NOW + timedelta(days=5), upgrade_windows=(SATURDAY,)),
        "The upgrade starts on Saturday 2026-12-05 22:00 EAT.",
    ),
    Row(
        "one has yet to approve",
        replace(APPROVED, missing_approvals=1, upgrade_windows=(DAY,)),
        "The upgrade waits for approval: 1 missing.",
    ),
    Row(
        "a hold that ends",
        replace(
            APPROVED,
            hold_reason="x",
            hold_until=NOW + timedelta(days=1),
            upgrade_windows=(SATURDAY,),
        ),
        SATURDAY_NIGHT,
    ),
    Row(
        "a hold without end",
        replace(APPROVED, hold_reason="x", upgrade_windows=(DAY,)),
        "The upgrade waits for the end of the hold.",
    ),
    Row(
        "it failed just now",
        replace(
            APPROVED,
            upgrade_windows=(DAY,),
            failures={ServiceAction.UPGRADE: ActionFailure(NOW - timedelta(minutes=5), 1)},
        ),
        "The upgrade starts on Tuesday 2026-11-24 15:05 EAT.",
    ),
    Row(
        "the next upgrade is unknown",  # seen: "no maintenance window opens"
        replace(
            APPROVED,
            target=None,
            upgrade_windows=(DAY,),
            failures={ServiceAction.ASSESS: ActionFailure(NOW - timedelta(seconds=5), 1)},
        ),
        "The next upgrade could not be determined. The service tries again.",
    ),
    Row(
        "notify only",
        replace(APPROVED, mode=AutomationMode.NOTIFY, upgrade_windows=(DAY,)),
        "The upgrade does not start automatically. An operator starts it.",
    ),
    Row(
        "nothing on offer",
        replace(APPROVED, target=None),
        "No release available for this site.",
    ),
    Row(
        "no maintenance window",
        replace(APPROVED, upgrade_windows=(WeeklyWindow(frozenset(), time(1), time(2)),)),
        "The upgrade does not start automatically: no maintenance window opens.",
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_start_time_is_predicted(row: Row) -> None:
    found = predict_start(row.facts)
    assert str(format_upgrade_start(found.to_json(), ZONE)) == row.words
    assert UpgradeStart.from_json(found.to_json()) == found
    # The service does exactly that, at exactly that time, and not a minute before.
    assert (decide_next_action(row.facts).action is ServiceAction.UPGRADE) is (
        found.kind is StartKind.NOW
    )
    if found.kind is StartKind.AT and found.at is not None:
        then = replace(row.facts, hold_reason=None, next_check=found.at + HOUR)
        assert decide_next_action(replace(then, now=found.at)).action is ServiceAction.UPGRADE
        before = found.at - timedelta(minutes=1)
        assert decide_next_action(replace(then, now=before)).action is ServiceAction.WAIT


def test_failed_assessment_is_reported_until_its_retry() -> None:
    failure = ActionFailure(NOW - timedelta(hours=3), 7)
    facts = replace(APPROVED, failures={ServiceAction.ASSESS: failure})
    found = predict_start(facts)
    assert (found.kind, found.wait_reason) == (StartKind.NOT_AUTOMATIC, WaitReason.UNKNOWN)
    until = decide_next_action(facts).until
    assert until is not None and until <= NOW + timedelta(seconds=1), "the service retries"


def test_each_wait_reason_has_one_sentence() -> None:
    assert set(WAIT_LABELS) == {reason.value for reason in WaitReason}
    newer = {"kind": "not-automatic", "at": None, "wait_reason": "a-reason-of-tomorrow"}
    assert str(format_upgrade_start(newer)) == "The upgrade does not start automatically."
    assert str(format_upgrade_start(None)) == "The start time is unknown."


def test_prompt_states_what_an_approval_starts() -> None:
    facts = replace(APPROVED, missing_approvals=1)

    def after(facts: AutomationInputs, uid: int, needed: int, *given: int) -> UpgradeStart:
        people = ApprovalCount(tuple(Approval("b", f"u{n}", n, NOW) for n in given), needed)
        return predict_start_if_approved(
            facts, predict_start(facts), counts=people.would_count(uid)
        )

    assert after(facts, 1000, 1).wait_reason is WaitReason.NOT_SCHEDULED
    day = replace(facts, upgrade_windows=(DAY,))
    assert after(day, 1000, 1).kind is StartKind.NOW
    assert after(day, 1001, 2, 1000).kind is StartKind.NOW
    assert after(replace(facts, missing_approvals=2), 1000, 2).missing_approvals == 1
    # Seen: shown to a user who had approved already, as if theirs were the last approval.
    assert after(day, 1000, 2, 1000).missing_approvals == 1
    # Root's does not count where two must approve; otherwise it counts as one.
    assert after(replace(day, missing_approvals=2), 0, 2).missing_approvals == 2
    assert after(day, 0, 1).kind is StartKind.NOW


def test_nothing_starts_automatically_without_the_service() -> None:
    found = predict_start(replace(APPROVED, upgrade_windows=(DAY,)), service_running=False)
    assert (found.kind, found.wait_reason) == (
        StartKind.NOT_AUTOMATIC,
        WaitReason.SERVICE_NOT_RUNNING,
    )
    # Seen: "Run ncen-updater upgrade or ncen-updater schedule TIME", which then started nothing.
    found = predict_start(APPROVED, service_running=False)
    assert found.wait_reason is WaitReason.SERVICE_NOT_RUNNING
    assert str(format_upgrade_start(found.to_json())).endswith("or run: ncen-updater upgrade")
    missing = predict_start(replace(APPROVED, missing_approvals=1), service_running=False)
    assert missing.wait_reason is WaitReason.APPROVAL


def test_start_time_and_approval_effect_are_idiomatic_french() -> None:
    """Seen: "Après votre oui : Elle commence jeudi 26/11/2026 22:00 +0000 (... 22:00 UTC)"."""
    found = predict_start(replace(APPROVED, upgrade_windows=(SATURDAY,)))
    said = format_upgrade_start(found.to_json(), UTC).render("fr")
    assert said == "La mise à niveau commence le samedi 28/11/2026 à 19:00 UTC."
    assert LazyText(AFTER_APPROVAL).render("fr") == "Après votre approbation :"
    site = format_upgrade_start(found.to_json(), ZONE).render("fr")
    assert site.endswith("samedi 28/11/2026 à 22:00 EAT.")
