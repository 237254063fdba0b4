"""Prediction of the downtime as a range, from a rehearsal and from earlier changes. Pure.

The downtime is the sum of its steps. The rehearsal measures copying and migrating on the site's own
data. The other steps are short; they are estimated by the median of earlier changes at this site,
or by the defaults below. After a few changes, the ratios of actual to predicted downtime limit the
range.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ncen_updater.common.json_records import JsonRecord

#: Seconds of the short steps at a site without history: likely, and additional maximum.
DEFAULT_STEP_SECONDS: Mapping[str, tuple[float, float]] = {
    "maintenance-on": (0.01, 0.5),
    "stop": (1.0, 15.0),
    "fence": (0.2, 3.0),
    "final-preflight": (0.1, 2.0),
    "cut-over": (0.1, 1.5),
    "switch": (0.01, 0.5),
    "start": (1.0, 15.0),
    "health": (1.5, 30.0),
    "commit": (0.01, 0.5),
    "maintenance-off": (0.05, 1.0),
}
#: Factors: a copy during downtime is faster than in a rehearsal, and rarely much slower.
COPY_SPREAD = (0.4, 2.0)
MIGRATE_SPREAD = (0.5, 2.0)
HISTORY_SPREAD = (0.6, 1.8)
#: Minimum number of earlier changes before their ratios are used.
MIN_COMPARISONS = 4
#: Margin by which the next ratio may exceed those of the past.
RATIO_MARGIN = 1.35
#: Seconds added on both sides: a disk that flushes, a machine that is briefly busy.
SLACK_S = 0.75


@dataclass(frozen=True)
class PastDowntime:
    """Predicted and actual downtime of an earlier change, in seconds."""

    predicted_s: float
    actual_s: float


@dataclass(frozen=True)
class DowntimeRange(JsonRecord):
    """Expected downtime of a hop, in seconds.

    Attributes:
        low: Lower limit.
        likely: Most likely value: the sum of the likely durations of the steps.
        high: Upper limit.
        from_history: Whether earlier changes of this site limited the range.
    """

    low: float
    likely: float
    high: float
    from_history: bool = False


def predict_downtime(
    copy_s: float,
    migrate_s: float,
    history: Sequence[Mapping[str, float]],
    past: Sequence[PastDowntime],
) -> DowntimeRange:
    """Predict the downtime of a change.

    Args:
        copy_s: Seconds of copying in the rehearsal, in the way an upgrade copies (with cloned
            blocks or not).
        migrate_s: Seconds of migrations, checks and fingerprints, all databases in parallel,
            without the planner statistics, which are not part of the downtime.
        history: Seconds of each step of earlier changes at this site, newest first.
        past: Predicted and actual downtime of earlier changes, newest first.
    """
    likely_by_step = {"copy": copy_s, "migrate": migrate_s}
    least = {"copy": copy_s * COPY_SPREAD[0]}
    most = {"copy": copy_s * COPY_SPREAD[1]}
    least["migrate"] = migrate_s * MIGRATE_SPREAD[0]
    most["migrate"] = migrate_s * MIGRATE_SPREAD[1]
    for step, (likely, margin) in DEFAULT_STEP_SECONDS.items():
        durations = [seconds[step] for seconds in history if step in seconds]
        if durations:
            likely_by_step[step] = statistics.median(durations)
            least[step] = min(durations) * HISTORY_SPREAD[0]
            most[step] = max(durations) * HISTORY_SPREAD[1]
        else:
            likely_by_step[step], least[step], most[step] = likely, 0.0, likely + margin
    likely_s = sum(likely_by_step.values())
    low = likely_s - _combine_spreads(likely_by_step[step] - least[step] for step in likely_by_step)
    high = likely_s + _combine_spreads(most[step] - likely_by_step[step] for step in likely_by_step)
    ratios = [row.actual_s / row.predicted_s for row in past if row.predicted_s > 0]
    enough_history = len(ratios) >= MIN_COMPARISONS
    if enough_history:
        # Ratios only narrow the range: one unusual change must not widen the next prediction.
        low = max(low, likely_s * min(ratios) / RATIO_MARGIN)
        high = min(high, likely_s * max(ratios) * RATIO_MARGIN)
    return DowntimeRange(
        low=round(max(0.0, min(low, likely_s) - SLACK_S), 2),
        likely=round(likely_s, 2),
        high=round(max(high, likely_s) + SLACK_S, 2),
        from_history=enough_history,
    )


def _combine_spreads(spreads: Iterable[float]) -> float:
    """Return the spread of a sum of parts with these spreads.

    The mean of two cases: independent parts (root of the sum of squares), and a machine that is
    slow in all parts at once (sum). Measured in ``benchmarks/prediction.py``.
    """
    values = tuple(spreads)
    return (sum(values) + math.sqrt(sum(spread**2 for spread in values))) / 2
