"""Tests of maintenance windows, also on nights with clock changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.windows import (
    Weekday,
    WeeklyWindow,
    WindowOpening,
    find_next_opening,
    find_open_window,
    resolve_wall_time,
)

PARIS = ZoneInfo("Europe/Paris")
NAIROBI = ZoneInfo("Africa/Nairobi")
EVERY = frozenset(Weekday)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, end: str, days: frozenset[Weekday] = EVERY) -> WeeklyWindow:
    return WeeklyWindow(days, time.fromisoformat(start), time.fromisoformat(end))


@dataclass(frozen=True)
class Row:
    name: str
    windows: tuple[WeeklyWindow, ...]
    now: str
    zone: ZoneInfo
    opening: tuple[str, str] | None


NIGHT = window("22:00", "04:00")
ROWS = (
    Row(
        "before it opens",
        (NIGHT,),
        "2026-11-24T12:00",
        NAIROBI,
        ("2026-11-24T19:00", "2026-11-25T01:00"),
    ),
    Row(
        "the first instant",
        (NIGHT,),
        "2026-11-24T19:00",
        NAIROBI,
        ("2026-11-24T19:00", "2026-11-25T01:00"),
    ),
    Row(
        "after midnight",
        (NIGHT,),
        "2026-11-25T00:59",
        NAIROBI,
        ("2026-11-24T19:00", "2026-11-25T01:00"),
    ),
    Row(
        "the end is outside",
        (NIGHT,),
        "2026-11-25T01:00",
        NAIROBI,
        ("2026-11-25T19:00", "2026-11-26T01:00"),
    ),
    Row(
        "by the day on which it opens",
        (window("22:00", "04:00", frozenset({Weekday.SAT})),),
        "2026-11-29T00:30",  # Sunday 03:30 in Nairobi
        NAIROBI,
        ("2026-11-28T19:00", "2026-11-29T01:00"),
    ),
    Row(
        "only once a week",
        (window("10:00", "11:00", frozenset({Weekday.MON})),),
        "2026-11-24T12:00",
        NAIROBI,
        ("2026-11-30T07:00", "2026-11-30T08:00"),
    ),
    Row("none", (), "2026-11-24T12:00", NAIROBI, None),
    Row(
        "a whole day",
        (window("00:00", "00:00"),),
        "2026-11-24T12:00",
        NAIROBI,
        ("2026-11-23T21:00", "2026-11-24T21:00"),
    ),
    Row(
        "of two the one that lasts longer",
        (window("10:00", "11:00"), window("10:30", "14:00")),
        "2026-11-24T07:45",
        NAIROBI,
        ("2026-11-24T07:30", "2026-11-24T11:00"),
    ),
    # 2026-03-29 02:00 -> 03:00 in Paris
    Row(
        "a skipped start",
        (window("02:30", "05:00"),),
        "2026-03-28T12:00",
        PARIS,
        ("2026-03-29T01:00", "2026-03-29T03:00"),
    ),
    Row(
        "a skipped end",
        (window("00:00", "02:30"),),
        "2026-03-28T23:30",
        PARIS,
        ("2026-03-28T23:00", "2026-03-29T01:00"),
    ),
    Row(
        "all of it skipped",
        (window("02:10", "02:50"),),
        "2026-03-28T12:00",
        PARIS,
        ("2026-03-30T00:10", "2026-03-30T00:50"),
    ),
    # 2026-10-25 03:00 -> 02:00 in Paris
    Row(
        "a start that comes twice",
        (window("02:30", "05:00"),),
        "2026-10-24T12:00",
        PARIS,
        ("2026-10-25T00:30", "2026-10-25T04:00"),
    ),
    Row(
        "an end that comes twice",
        (window("00:00", "02:30"),),
        "2026-10-24T23:00",
        PARIS,
        ("2026-10-24T22:00", "2026-10-25T00:30"),
    ),
    Row(
        "both come twice",
        (window("02:10", "02:50"),),
        "2026-10-25T01:15",
        PARIS,
        ("2026-10-26T01:10", "2026-10-26T01:50"),
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_next_opening_is_found(row: Row) -> None:
    wanted = None if row.opening is None else WindowOpening(at(row.opening[0]), at(row.opening[1]))
    assert find_next_opening(row.windows, at(row.now), row.zone) == wanted


@given(
    st.integers(1_577_836_800, 2_051_222_400),  # 2020 to 2034
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.sets(st.sampled_from(Weekday), min_size=1).map(frozenset),
    st.sampled_from(["Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata"]),
)
def test_next_opening_is_in_the_future_and_open(
    seconds: int, start: time, end: time, days: frozenset[Weekday], name: str
) -> None:
    now, zone = datetime.fromtimestamp(seconds, UTC), ZoneInfo(name)
    known = (WeeklyWindow(days, start, end),)
    found = find_next_opening(known, now, zone)
    assert found is not None
    assert found.end > now
    assert found.end - found.start <= timedelta(hours=26)
    middle = found.start + (found.end - found.start) / 2
    assert find_open_window(known, middle, zone) == found
    assert find_open_window(known, found.start, zone) is not None
    if found.start > now:
        assert find_open_window(known, now, zone) is None


def test_skipped_local_time_is_the_instant_of_the_change() -> None:
    # Lord Howe moves by half an hour: 2026-10-04 02:00 -> 02:30.
    zone = ZoneInfo("Australia/Lord_Howe")
    assert resolve_wall_time(date(2026, 10, 4), time(2, 10), zone) == at("2026-10-03T15:30")
