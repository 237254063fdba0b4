"""Prediction of the downtime: a range, from a rehearsal and from earlier changes. Pure.

The downtime is the sum of its steps. Copying and migrating are measured by the rehearsal on the
site's own data; the other steps are short, and estimated by the median of earlier changes here, or
by the guesses below. After a few changes the range comes from their ratios of actual to predicted
downtime.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Seconds of the short steps at a site that has no history: likely, and so many more at most.
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
#: A copy beside which nobody works is faster than one in a rehearsal, and never much slower.
COPY_SPREAD = (0.4, 2.0)
MIGRATE_SPREAD = (0.5, 2.0)
HISTORY_SPREAD = (0.6, 1.8)
#: So many changes are needed before their own errors say more than the spreads.
MIN_COMPARISONS = 4
#: What an error of the next change may exceed those of the past by.
RATIO_MARGIN = 1.35
#: Seconds that no ratio covers: a disk that flushes, a machine that is busy for a moment.
SLACK_S = 0.75


@dataclass(frozen=True)
class RehearsedDurations:
    """What a rehearsal took.

    Attributes:
        copy_s: Copying as an upgrade copies (blocks shared or not), seconds.
        migrate_s: Migrations, checks and fingerprints, the databases side by side, seconds. The
            statistics are no part of the stop.
    """

    copy_s: float
    migrate_s: float


@dataclass(frozen=True)
class PastDowntime:
    """An earlier change: what was expected of it and what it took, seconds."""

    predicted_s: float
    actual_s: float


@dataclass(frozen=True)
class DowntimePrediction:
    """The stop that is expected, seconds.

    Attributes:
        low_s: It will hardly be shorter.
        likely_s: The sum of its parts.
        high_s: It will hardly be longer.
        step_seconds: Likely seconds of each step.
        from_history: Whether the range comes from earlier changes of this site.
    """

    low_s: float
    likely_s: float
    high_s: float
    step_seconds: Mapping[str, float]
    from_history: bool


def predict_downtime(
    measured: RehearsedDurations,
    history: Sequence[Mapping[str, float]],
    past: Sequence[PastDowntime],
) -> DowntimePrediction:
    """Predict the stop of a change.

    Args:
        measured: What the rehearsal took.
        history: Seconds of each step of earlier changes here, newest first.
        past: What was expected of earlier changes, and what they took, newest first.
    """
    parts = {"copy": measured.copy_s, "migrate": measured.migrate_s}
    least = {"copy": measured.copy_s * COPY_SPREAD[0]}
    most = {"copy": measured.copy_s * COPY_SPREAD[1]}
    least["migrate"] = measured.migrate_s * MIGRATE_SPREAD[0]
    most["migrate"] = measured.migrate_s * MIGRATE_SPREAD[1]
    for step, (likely, beyond) in DEFAULT_STEP_SECONDS.items():
        known = [seconds[step] for seconds in history if step in seconds]
        if known:
            parts[step] = statistics.median(known)
            least[step] = min(known) * HISTORY_SPREAD[0]
            most[step] = max(known) * HISTORY_SPREAD[1]
        else:
            parts[step], least[step], most[step] = likely, 0.0, likely + beyond
    likely_s = sum(parts.values())
    low = likely_s - _combine_spreads(parts[step] - least[step] for step in parts)
    high = likely_s + _combine_spreads(most[step] - parts[step] for step in parts)
    ratios = [row.actual_s / row.predicted_s for row in past if row.predicted_s > 0]
    learnt = len(ratios) >= MIN_COMPARISONS
    if learnt:
        # Never wider than what is known without them: one odd night must not spoil the next range.
        low = max(low, likely_s * min(ratios) / RATIO_MARGIN)
        high = min(high, likely_s * max(ratios) * RATIO_MARGIN)
    return DowntimePrediction(
        low_s=max(0.0, min(low, likely_s) - SLACK_S),
        likely_s=likely_s,
        high_s=max(high, likely_s) + SLACK_S,
        step_seconds=parts,
        from_history=learnt,
    )


def _combine_spreads(spreads: Iterable[float]) -> float:
    """Return how far a sum may be off whose parts may be so far off.

    Between parts that know nothing of each other (their squares add up) and a machine that is slow
    in all of them at once: halfway. Measured in ``benchmarks/prediction.py``.
    """
    found = tuple(spreads)
    return (sum(found) + math.sqrt(sum(spread**2 for spread in found))) / 2
