"""Accuracy and width of the predicted range of downtime.

Real sites of several sizes on SQLite and PostgreSQL, with a real feed; each upgrade is rehearsed as
by the service and then run. A site is upgraded release by release and then rolled back to the
first, so that its history grows like that of a real site; each site starts without history.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count

from packaging.version import Version

from benchmarks.report import finish, print_line
from benchmarks.sites import server, trial_site
from demo.databases import PostgresPlace
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.path_selection import find_cached_path
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import (
    list_past_downtimes,
    list_step_durations,
)
from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import new_change_id
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.upgrade_path import UpgradePath
from tests.support.sites import site_in_process

START = "3.2.4"
#: Upgrades of one round, each from the previous release; then the site rolls back to the first.
ROUND = ("3.3.0", "3.3.10", "3.4.0")
AIMS = {"held": 0.9}


@dataclass(frozen=True)
class Trial:
    """One upgrade: predicted and actual downtime in seconds.

    Attributes:
        site: Engine and megabytes.
        number: Number of earlier upgrades of the site.
        known: Input of the prediction, to evaluate another rule with the same data.
    """

    site: str
    number: int
    to_version: str
    low: float
    likely: float
    high: float
    real: float
    learnt: bool
    known: dict[str, object]

    @property
    def held(self) -> bool:
        """Return whether the actual downtime was in the predicted range."""
        return self.low <= self.real <= self.high


def _trial(site: Site, name: str, number: int, target: str) -> Trial:
    site.release_source.refresh()
    operations = Operations(site, SilentProgress())
    with operations.lock_idle_site("rehearse") as journal:
        path = find_cached_path(site, journal, Version(target))
        if not isinstance(path, UpgradePath):
            raise SystemExit(f"no way to {target}")
        steps, before = list_step_durations(journal), list_past_downtimes(journal)
        record = Rehearser(site, journal, SilentProgress(), new_change_id).rehearse(path)
    assert record.report is not None
    (hop,) = record.report.hops
    outcome = operations.upgrade(Version(target)).outcomes[0]
    stop = hop.downtime
    return Trial(
        name, number, target, stop.low, stop.likely, stop.high,
        round(outcome.downtime_s or 0.0, 2), stop.from_history,
        {
            "measured": {"copy_s": hop.copy_s, "migrate_s": hop.migrate_s},
            "history": [dict(row) for row in steps],
            "past": [asdict(row) for row in before],
            "steps": dict(outcome.step_s),
        },
    )  # fmt: skip


def _walk(site: Site, name: str, upgrades: int) -> Iterator[Trial]:
    numbers = count()
    while True:
        for target in ROUND:
            number = next(numbers)
            if number == upgrades:
                return
            trial = _trial(site, name, number, target)
            print_line(
                f"  {name} {number}: {trial.low} <= {trial.real} <= {trial.high}"
                f" ({'held' if trial.held else 'MISSED'}, likely {trial.likely})"
            )
            yield trial
        while str(site.slots.read_current()) != START:
            Operations(site, SilentProgress()).rollback()


def _site(place: PostgresPlace | None, megabytes: float, upgrades: int) -> list[Trial]:
    name = f"{'postgresql' if place else 'sqlite'} {megabytes:g} MB"
    with trial_site(place, int(megabytes * 1e6), ROUND, health_timeout_s=30.0) as trial:
        return list(_walk(site_in_process(trial.site), name, upgrades))


def _figures(trials: Sequence[Trial]) -> dict[str, object]:
    floors = [t for t in trials if t.low > 0]
    return {
        "upgrades": len(trials),
        "held": round(sum(t.held for t in trials) / len(trials), 3),
        "too_short": sum(t.real > t.high for t in trials),
        "too_long": sum(t.real < t.low for t in trials),
        "high_to_low": round(statistics.median(t.high / t.low for t in floors), 2)
        if floors
        else None,
        "high_to_likely": round(statistics.median(t.high / t.likely for t in trials), 2),
        "high_to_real": round(statistics.median(t.high / t.real for t in trials), 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqlite", default="1,20,100,300", help="MB, with commas")
    parser.add_argument("--postgresql", default="1,50,300", help="MB, with commas")
    parser.add_argument("--upgrades", type=int, default=6, help="of each site")
    parser.add_argument("--all", action="store_true", help="every upgrade with all its figures")
    chosen = parser.parse_args(arguments)
    trials: list[Trial] = []
    for size in filter(None, chosen.sqlite.split(",")):
        trials += _site(None, float(size), chosen.upgrades)
    with server() as (running, _):
        for number, size in enumerate(filter(None, chosen.postgresql.split(","))):
            place = PostgresPlace(
                str(running.host), prefix=f"p{number}_", programs=running.binaries.directory
            )
            trials += _site(place, float(size), chosen.upgrades)
    first = [t for t in trials if not t.learnt]
    learnt = [t for t in trials if t.learnt]
    finish(
        "prediction",
        {
            **_figures(trials),
            "without_history": _figures(first) if first else None,
            "learnt": _figures(learnt) if learnt else None,
            "missed": [
                f"{t.site} #{t.number} {t.to_version}: {t.low} <= {t.real} <= {t.high}"
                for t in trials
                if not t.held
            ],
            **({"all": [asdict(t) for t in trials]} if chosen.all else {}),
            "aims": AIMS,
        },
    )


if __name__ == "__main__":
    main()
