from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ncen_updater.agent.policy.pacing import (
    MOST_IN_ONE,
    MessagePace,
    Send,
    Wait,
    Waiting,
    pace,
    retry_at,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def calm(name: str, minutes: float) -> Waiting:
    return Waiting(name, ago(minutes), urgent=False)


def urgent(name: str, minutes: float) -> Waiting:
    return Waiting(name, ago(minutes), urgent=True)


@dataclass(frozen=True)
class Row:
    name: str
    waiting: tuple[Waiting, ...]
    sent: tuple[float, ...]
    expected: Send | Wait | None
    per_hour: int = 3


ROWS = (
    Row("nothing waits", (), (), None),
    Row("what is calm waits for others", (calm("a", 1),), (), Wait(ago(1) + timedelta(minutes=5))),
    Row("until its time is over", (calm("a", 5),), (), Send(("a",))),
    Row("and takes along what came later", (calm("b", 1), calm("a", 5)), (), Send(("a", "b"))),
    Row("what is urgent goes at once", (urgent("u", 0),), (), Send(("u",))),
    Row(
        "first, and takes the others along",
        (calm("a", 9), urgent("v", 1), urgent("u", 2)), (), Send(("u", "v", "a")),
    ),
    Row(
        "the last of the hour is not for what is calm",
        (calm("a", 9),), (50, 10), Wait(ago(50) + timedelta(hours=1)),
    ),
    Row("but for what is urgent", (urgent("u", 0),), (50, 10), Send(("u",))),
    Row(
        "then that waits too",
        (urgent("u", 0),), (50, 10, 5), Wait(ago(50) + timedelta(hours=1)),
    ),
    Row(
        "calm waits until two may go",
        (calm("a", 9),), (50, 10, 5), Wait(ago(10) + timedelta(hours=1)),
    ),
    Row("what was sent an hour ago counts no more", (urgent("u", 0),), (60, 10, 5), Send(("u",))),
    Row("one an hour: calm may have it", (calm("a", 9),), (), Send(("a",)), per_hour=1),
    Row(
        "one an hour: and then waits",
        (calm("a", 9),), (20,), Wait(ago(20) + timedelta(hours=1)), per_hour=1,
    ),
    Row(
        "a clock that was set back delays an hour at most",
        (urgent("u", -300),), (-600, -601, -602), Wait(NOW + timedelta(hours=1)),
    ),
    Row("and calm news of the future not beyond the wait", (calm("a", -600),), (),
        Wait(NOW + timedelta(minutes=5))),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_who_is_told_when(row: Row) -> None:
    limits = MessagePace(row.per_hour, timedelta(minutes=5))
    assert pace(row.waiting, map(ago, row.sent), NOW, limits) == row.expected


def test_a_message_holds_so_much_and_the_urgent_first() -> None:
    many = [calm(f"{n:03}", 100 - n) for n in range(MOST_IN_ONE)] + [urgent("u", 0)]
    decided = pace(many, (), NOW, MessagePace(3, timedelta()))
    assert isinstance(decided, Send)
    assert len(decided.ids) == MOST_IN_ONE
    assert decided.ids[:2] == ("u", "000")
    assert "049" not in decided.ids


def test_never_more_than_so_many_in_any_hour() -> None:
    sent: list[datetime] = []
    at = NOW
    for minute in range(600):
        at = NOW + timedelta(minutes=minute)
        item = Waiting(str(minute), at, urgent=minute % 3 == 0)
        if isinstance(pace([item], sent, at, MessagePace(4, timedelta())), Send):
            sent.append(at)
    assert len(sent) > 30
    for first in sent:
        assert sum(first <= other < first + timedelta(hours=1) for other in sent) <= 4


@pytest.mark.parametrize(
    ("failures", "minutes"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)]
)
def test_tries_grow_apart_to_an_hour(failures: int, minutes: int) -> None:
    assert retry_at(NOW, failures) == NOW + timedelta(minutes=minutes)
