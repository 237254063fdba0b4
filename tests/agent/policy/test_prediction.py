"""Tests of the predicted range of the downtime."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.policy.downtime_prediction import (
    DEFAULT_STEP_SECONDS,
    MIN_COMPARISONS,
    RATIO_MARGIN,
    SLACK_S,
    PastDowntime,
    predict_downtime,
)

STEPS = {step: likely for step, (likely, _) in DEFAULT_STEP_SECONDS.items()}


def test_defaults_apply_without_history() -> None:
    found = predict_downtime(10, 5, [], [])
    assert found.likely == pytest.approx(15 + sum(STEPS.values()))
    assert 4 + 2.5 - SLACK_S < found.low < 15
    worst = 20 + 10 + sum(likely + more for likely, more in DEFAULT_STEP_SECONDS.values()) + SLACK_S
    assert worst * 0.6 < found.high < worst
    assert not found.from_history


def test_durations_are_neither_independent_nor_fully_correlated() -> None:
    found = predict_downtime(30, 40, [dict.fromkeys(STEPS, 0.0)], [])
    assert found.likely == 70
    assert found.high == pytest.approx(70 + (30 + 40 + 50) / 2 + SLACK_S)
    assert found.low == round(70 - (18 + 20 + (18**2 + 20**2) ** 0.5) / 2 - SLACK_S, 2)


def test_history_replaces_defaults() -> None:
    found = predict_downtime(0, 0, [{**STEPS, "health": 100.0}, STEPS, {**STEPS, "health": 4}], [])
    assert found.likely == pytest.approx(sum(STEPS.values()) - STEPS["health"] + 4)
    assert found.high > 150


def test_range_of_a_step_covers_its_shortest_and_longest_duration() -> None:
    base = dict.fromkeys(STEPS, 0.0)
    found = predict_downtime(0, 0, [{**base, "health": 2.0}, {**base, "health": 10.0}], [])
    assert (found.low, found.likely, found.high) == pytest.approx((1.2 - SLACK_S, 6, 18 + SLACK_S))


def test_range_covers_the_least_and_the_greatest_past_error() -> None:
    past = [PastDowntime(10, actual) for actual in (10, 12, 9, 10)]
    found = predict_downtime(100, 100, [dict.fromkeys(STEPS, 0.0)], past)
    assert found.low == round(200 * 0.9 / RATIO_MARGIN - SLACK_S, 2)
    assert found.high == round(200 * 1.2 * RATIO_MARGIN + SLACK_S, 2)


def test_past_errors_narrow_the_range() -> None:
    wide = predict_downtime(100, 100, [STEPS], [])
    narrow = predict_downtime(100, 100, [STEPS], [PastDowntime(10, 10.5)] * MIN_COMPARISONS)
    assert narrow.from_history
    assert wide.low < narrow.low < narrow.likely < narrow.high < wide.high
    assert not predict_downtime(
        1, 1, [], [PastDowntime(10, 10.5)] * (MIN_COMPARISONS - 1)
    ).from_history


def test_outlier_does_not_widen_the_next_range() -> None:
    plain = predict_downtime(100, 100, [STEPS], [])
    odd = predict_downtime(
        100,
        100,
        [STEPS],
        [*[PastDowntime(10, 10)] * MIN_COMPARISONS, PastDowntime(10, 1000)],
    )
    assert odd.high <= plain.high


seconds = st.floats(0, 1e5)


@given(
    seconds,
    seconds,
    st.lists(st.dictionaries(st.sampled_from(list(DEFAULT_STEP_SECONDS)), seconds), max_size=5),
    st.lists(st.builds(PastDowntime, seconds, seconds), max_size=8),
)
def test_range_contains_the_likely_value(
    copy: float, migrate: float, history: list[dict[str, float]], past: list[PastDowntime]
) -> None:
    found = predict_downtime(copy, migrate, history, past)
    assert 0 <= found.low <= found.likely <= found.high


def test_nine_of_ten_downtimes_are_in_the_range() -> None:
    """A site whose steps scatter by a third: nine of ten stops lie in their range."""
    chance = random.Random(3)
    history: list[dict[str, float]] = []
    past: list[PastDowntime] = []
    held = 0
    for _ in range(200):
        size = chance.choice([0.2, 2, 20])
        found = predict_downtime(size, size / 2, history[:10], past[:10])
        real = {step: s * chance.uniform(0.7, 1.4) for step, s in STEPS.items()}
        stop = size * chance.uniform(0.6, 1.2) + size / 2 * chance.uniform(0.8, 1.3)
        stop += sum(real.values())
        held += found.low <= stop <= found.high
        history.insert(0, real)
        past.insert(0, PastDowntime(found.likely, stop))
    assert held >= 180
