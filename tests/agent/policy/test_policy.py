from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ncen_updater.agent.policy.automation import BAD_RELEASE_DELAYS, compute_retry_at
from ncen_updater.agent.policy.retention import (
    PreviousDatabases,
    ProtectedItems,
    PrunableItems,
    RetentionRule,
    select_prunable,
)
from ncen_updater.agent.storage.journal.site_history import HoldRecord

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("until", "at", "active"),
    [
        (None, NOW, True),
        (None, NOW + 10_000 * DAY, True),
        (NOW + DAY, NOW, True),
        (NOW + DAY, NOW - 5 * DAY, True),
        (NOW + DAY, NOW + DAY, False),
        (NOW + DAY, NOW + 2 * DAY, False),
    ],
)
def test_hold_expires(until: datetime | None, at: datetime, active: bool) -> None:
    hold = HoldRecord(1, "budget week", "amina", NOW, until)
    assert hold.is_active_at(at) is active


@pytest.mark.parametrize(
    ("times", "delay"),
    [(1, HOUR), (2, 6 * HOUR), (3, DAY), (4, 3 * DAY), (5, 7 * DAY), (6, 7 * DAY), (99, 7 * DAY)],
)
def test_retry_delays_grow_to_a_week(times: int, delay: timedelta) -> None:
    assert compute_retry_at(times, NOW) == NOW + delay


@given(st.integers(1, 1000))
def test_retry_delays_never_shrink(times: int) -> None:
    one, more = compute_retry_at(times, NOW), compute_retry_at(times + 1, NOW)
    assert NOW + BAD_RELEASE_DELAYS[0] <= one <= more <= NOW + BAD_RELEASE_DELAYS[-1]


def v(*texts: str) -> tuple[Version, ...]:
    return tuple(Version(text) for text in texts)


# slots, current, came from, named slots, keep, what goes
SLOT_ROWS: dict[str, tuple[str, str | None, str | None, str, int, str]] = {
    "nothing to do": ("1 2", "2", "1", "", 1, ""),
    "the oldest goes": ("1 2 3", "3", "2", "", 1, "1"),
    "two are retained": ("1 2 3 4", "4", "3", "", 2, "1"),
    "after a rollback": ("1 2 3 4", "2", "4", "", 1, "1 3"),
    "the previous slot comes first": ("1 2 3 4", "4", "1", "", 1, "2 3"),
    "named by the journal": ("1 2 3", "3", "2", "1", 1, ""),
    "as versions, not as text": ("3.9 3.10 3.11", "3.11", None, "", 1, "3.9"),
    "unknown current": ("1 2 3", None, None, "", 1, ""),
    "no keep": ("1 2 3", "3", "2", "", 0, "1 2"),
    "current is not in the list": ("1 2", "3", "2", "", 1, "1"),
}


@pytest.mark.parametrize("name", SLOT_ROWS)
def test_prunable_slots_are_found(name: str) -> None:
    slots, current, came_from, named, keep, goes = SLOT_ROWS[name]
    result = select_prunable(
        slots=v(*slots.split()),
        current=Version(current) if current else None,
        previous_slot=Version(came_from) if came_from else None,
        previous=(),
        protected=ProtectedItems(slots=frozenset(v(*named.split()))),
        rule=RetentionRule(7, keep),
        now=NOW,
    )
    assert result == PrunableItems(slots=v(*goes.split()))
    assert bool(result) is bool(goes)


@pytest.mark.parametrize(
    ("age", "days", "named", "goes"),
    [
        (6.9 * DAY, 7, False, False),
        (7 * DAY, 7, False, True),
        (7 * DAY, 7, True, False),
        (0 * DAY, 0, False, True),
        (-1 * DAY, 0, False, False),
        (400 * DAY, 365, False, True),
    ],
)
def test_prunable_databases_are_found(age: timedelta, days: float, named: bool, goes: bool) -> None:
    result = select_prunable(
        slots=(),
        current=Version("3"),
        previous_slot=None,
        previous=[PreviousDatabases("abc", NOW - age)],
        protected=ProtectedItems(changes=frozenset({"abc"} if named else ())),
        rule=RetentionRule(days, 1),
        now=NOW,
    )
    assert result.changes == (("abc",) if goes else ())


def test_slot_is_retained_as_long_as_its_databases() -> None:
    def collect(days: float) -> PrunableItems:
        return select_prunable(
            slots=v("1", "2", "3"),
            current=Version("3"),
            previous_slot=Version("2"),
            previous=[PreviousDatabases("abc", NOW - 2 * DAY, Version("1"))],
            protected=ProtectedItems(),
            rule=RetentionRule(days, 1),
            now=NOW,
        )

    assert collect(7) == PrunableItems()
    assert collect(1) == PrunableItems(v("1"), ("abc",))


VERSIONS = st.integers(1, 8).map(lambda n: Version(str(n)))
SETS = st.builds(
    PreviousDatabases,
    change=st.sampled_from("abcd"),
    since=st.integers(-3, 20).map(lambda days: NOW - days * DAY),
    release=st.none() | VERSIONS,
)


@given(
    slots=st.sets(VERSIONS),
    current=st.none() | VERSIONS,
    came_from=st.none() | VERSIONS,
    previous=st.lists(SETS, max_size=5),
    named_slots=st.frozensets(VERSIONS, max_size=2),
    named_changes=st.frozensets(st.sampled_from("abcd"), max_size=2),
    keep=st.builds(RetentionRule, previous_days=st.integers(0, 10), slots=st.integers(1, 3)),
)
def test_required_slots_and_databases_are_retained(
    slots: set[Version],
    current: Version | None,
    came_from: Version | None,
    previous: list[PreviousDatabases],
    named_slots: frozenset[Version],
    named_changes: frozenset[str],
    keep: RetentionRule,
) -> None:
    def collect(now: datetime, left: set[Version], sets: list[PreviousDatabases]) -> PrunableItems:
        return select_prunable(
            slots=left,
            current=current,
            previous_slot=came_from,
            previous=sets,
            protected=ProtectedItems(named_slots, named_changes),
            rule=keep,
            now=now,
        )

    result = collect(NOW, slots, previous)
    gone = set(result.slots)
    assert gone <= slots
    assert current not in gone
    assert not gone & named_slots
    assert came_from not in gone
    assert not set(result.changes) & named_changes
    kept_sets = [s for s in previous if s.change not in result.changes]
    assert not gone & {s.release for s in kept_sets}
    if gone:
        assert len(slots - gone - {current}) >= keep.slots
    # Collecting again at once finds nothing.
    assert collect(NOW, slots - gone, kept_sets) == PrunableItems()


def test_databases_of_one_change_are_pruned_together() -> None:
    result = select_prunable(
        slots=(),
        current=Version("3"),
        previous_slot=None,
        previous=[PreviousDatabases("abc", NOW - 9 * DAY), PreviousDatabases("abc", NOW)],
        protected=ProtectedItems(),
        rule=RetentionRule(7, 1),
        now=NOW,
    )
    assert result == PrunableItems()
