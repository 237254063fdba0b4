from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.agent.service.notifications.outbox import (
    MAX_PER_MESSAGE,
    MessageLimits,
    SendLater,
    SendNow,
    compute_retry_at,
    decide_sending,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def calm(name: str, minutes: float) -> Notification:
    return Notification(name, NotificationKind.AVAILABLE, ago(minutes), {})


def urgent(name: str, minutes: float) -> Notification:
    return Notification(name, NotificationKind.INTERVENTION_REQUIRED, ago(minutes), {})


@dataclass(frozen=True)
class Row:
    name: str
    waiting: tuple[Notification, ...]
    sent: tuple[float, ...]
    expected: SendNow | SendLater | None
    per_hour: int = 3


ROWS = (
    Row("nothing waits", (), (), None),
    Row(
        "what is calm waits for others",
        (calm("a", 1),),
        (),
        SendLater(ago(1) + timedelta(minutes=5)),
    ),
    Row("until its time is over", (calm("a", 5),), (), SendNow(("a",))),
    Row("and takes along what came later", (calm("b", 1), calm("a", 5)), (), SendNow(("a", "b"))),
    Row("what is urgent goes at once", (urgent("u", 0),), (), SendNow(("u",))),
    Row(
        "first, and takes the others along",
        (calm("a", 9), urgent("v", 1), urgent("u", 2)),
        (),
        SendNow(("u", "v", "a")),
    ),
    Row(
        "the last of the hour is not for what is calm",
        (calm("a", 9),),
        (50, 10),
        SendLater(ago(50) + timedelta(hours=1)),
    ),
    Row("but for what is urgent", (urgent("u", 0),), (50, 10), SendNow(("u",))),
    Row(
        "then that waits too",
        (urgent("u", 0),),
        (50, 10, 5),
        SendLater(ago(50) + timedelta(hours=1)),
    ),
    Row(
        "calm waits until two may go",
        (calm("a", 9),),
        (50, 10, 5),
        SendLater(ago(10) + timedelta(hours=1)),
    ),
    Row(
        "what was sent an hour ago counts no more", (urgent("u", 0),), (60, 10, 5), SendNow(("u",))
    ),
    Row("one an hour: calm may have it", (calm("a", 9),), (), SendNow(("a",)), per_hour=1),
    Row(
        "one an hour: and then waits",
        (calm("a", 9),),
        (20,),
        SendLater(ago(20) + timedelta(hours=1)),
        per_hour=1,
    ),
    Row(
        "a clock that was set back delays an hour at most",
        (urgent("u", -300),),
        (-600, -601, -602),
        SendLater(NOW + timedelta(hours=1)),
    ),
    Row(
        "and calm news of the future not beyond the wait",
        (calm("a", -600),),
        (),
        SendLater(NOW + timedelta(minutes=5)),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_sending_is_decided(row: Row) -> None:
    limits = MessageLimits(row.per_hour, timedelta(minutes=5))
    assert decide_sending(row.waiting, map(ago, row.sent), NOW, limits) == row.expected


def test_message_is_bounded_and_urgent_first() -> None:
    many = [calm(f"{n:03}", 100 - n) for n in range(MAX_PER_MESSAGE)] + [urgent("u", 0)]
    decided = decide_sending(many, (), NOW, MessageLimits(3, timedelta()))
    assert isinstance(decided, SendNow)
    assert len(decided.ids) == MAX_PER_MESSAGE
    assert decided.ids[:2] == ("u", "000")
    assert "049" not in decided.ids


def test_hourly_limit_is_never_exceeded() -> None:
    kinds = (NotificationKind.AVAILABLE, NotificationKind.INTERVENTION_REQUIRED)
    sent: list[datetime] = []
    at = NOW
    for minute in range(600):
        at = NOW + timedelta(minutes=minute)
        item = Notification(str(minute), kinds[minute % 3 == 0], at, {})
        if isinstance(decide_sending([item], sent, at, MessageLimits(4, timedelta())), SendNow):
            sent.append(at)
    assert len(sent) > 30
    for first in sent:
        assert sum(first <= other < first + timedelta(hours=1) for other in sent) <= 4


@pytest.mark.parametrize(
    ("failures", "minutes"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)]
)
def test_retry_delays_grow_to_an_hour(failures: int, minutes: int) -> None:
    assert compute_retry_at(NOW, failures) == NOW + timedelta(minutes=minutes)
