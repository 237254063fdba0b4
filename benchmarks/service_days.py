"""Thousands of simulated days of the service, in time zones with daylight saving time.

The loop and all decisions are the product's; the site is in memory. Feeds fail and expire, releases
appear and fail, users hold, approve late and choose times, the service is killed. A judge that is
independent of the policy checks the diary: no upgrade outside a window, and none missed that was
possible.
"""

from __future__ import annotations

import argparse
import gc
import random
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

from benchmarks.report import finish, print_line
from ncen_updater.agent.config.service import ServiceSettings, WindowSettings
from ncen_updater.agent.policy.automation import ServiceAction
from ncen_updater.agent.policy.windows import compute_next_check
from ncen_updater.agent.service.loop import ServiceLoop
from tests.support.simulated_site import SimulatedSite

DAY = timedelta(days=1)
ZONES = (
    "Europe/Paris",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Africa/Nairobi",
)
KEEP = timedelta(days=7)
START, END = time(22, 30), time(2, 30)


@dataclass
class Judge:
    """Findings, and numbers of observed events."""

    outside: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    while_held: list[str] = field(default_factory=list)
    kept_too_long: list[str] = field(default_factory=list)
    upgrades: int = 0
    openings: int = 0
    ready: int = 0
    changes_of_clock: int = 0
    events: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        """Count one event of the site."""
        self.events[what] = self.events.get(what, 0) + 1


class Trial:
    """One site in one time zone for some days."""

    def __init__(self, zone: str, seed: int, judge: Judge) -> None:
        self.zone, self.random, self.judge = ZoneInfo(zone), random.Random(seed), judge
        self.site = SimulatedSite(
            datetime(2026, 1, 1, 6, tzinfo=UTC),
            keep_for=KEEP,
            minutes={"plan": 20, "rehearse": 45, "upgrade": 12, "resume": 5},
        )
        self.settings = ServiceSettings(
            timezone=zone,
            windows=(WindowSettings(start=START, end=END),),
            download_windows=(WindowSettings(start=time(18), end=time(7)),),
        )
        self.service = self.start()
        self.number = 0

    def start(self) -> ServiceLoop:
        """Restart the service with its stored state."""
        site = self.site
        played = cast("Any", site)
        return ServiceLoop(
            self.settings,
            read_status=site.look,
            state_store=played,
            job_recorder=played,
            runner=played,
            schedule_check=lambda now, failure: min(
                compute_next_check(now, now, timedelta(hours=6), f"site-{self.zone.key}"),
                now + timedelta(hours=1 if failure else 6),
            ),
            now=lambda: site.now,
            publish=lambda _: None,
        )

    def local(self, moment: datetime) -> time:
        """Return the local time of day."""
        return moment.astimezone(self.zone).time()

    def day(self) -> None:
        """Run one day: an event at noon, then the service until the next noon."""
        self.happen()
        end = self.site.now + DAY
        before = len(self.site.diary)
        opening = self._opening()
        while self.site.now < opening[0]:
            self.step(opening[0])
        ready = self.is_ready()
        tried = len(self.site.diary)
        while self.site.now < opening[1]:
            self.step(opening[1])
        self.judge.openings += 1
        if ready:
            self.judge.ready += 1
            if not any(e.words[0] == "upgrade" for e in self.site.diary[tried:]):
                self.judge.missed.append(f"{self.zone.key} {opening[0]:%Y-%m-%d}")
        while self.site.now < end:
            self.step(end)
        self._read_diary(before)

    def step(self, end: datetime) -> None:
        """Run one step of the service; sometimes it is killed before."""
        if self.random.random() < 0.02:
            self.judge.count("killed")
            self.service = self.start()
        act = self.service.run_once()
        if act.action is ServiceAction.WAIT and act.until is not None:
            self.site.now = min(act.until, end)
        else:
            self.site.now += timedelta(seconds=1)

    def _opening(self) -> tuple[datetime, datetime]:
        """Find the next maintenance window in UTC by stepping the local clock."""
        moment = self.site.now
        while not self._open(moment):
            moment += timedelta(minutes=10)
        start = moment
        while self._open(start - timedelta(minutes=1)):
            start -= timedelta(minutes=1)
        end = start
        offset = start.astimezone(self.zone).utcoffset()
        while self._open(end):
            end += timedelta(minutes=1)
        if end.astimezone(self.zone).utcoffset() != offset:
            self.judge.changes_of_clock += 1
        return start, end

    def _open(self, moment: datetime) -> bool:
        wall = self.local(moment)
        return wall >= START or wall < END

    def is_ready(self) -> bool:
        """Return whether the upgrade waits only for the window."""
        site = self.site
        target = site._target()
        return (
            target is not None
            and target in site.slots
            and target in site.rehearsed_at
            and site._approved(target)
            and target not in site.bad
            and site.held is None
            and not site.stuck
            and (site.not_before is None or site.not_before <= site.now)
            and ServiceAction.UPGRADE not in site.kept.failures
        )

    def happen(self) -> None:
        """Cause a random event at the site."""
        site, chance = self.site, self.random.random
        site.feed_up = chance() > 0.08
        site.lapsed = chance() < 0.03
        site.held = None if chance() > 0.06 else "audit"
        self.judge.count(
            "feed away" if not site.feed_up else "feed lapsed" if site.lapsed else "feed"
        )
        if site.held:
            self.judge.count("hold")
        if chance() < 0.07:
            self.number += 1
            site.offered.append(f"1.{self.number}")
            self.judge.count("release")
            if chance() < 0.25:
                site.failing.add(f"1.{self.number}")
                self.judge.count("release that fails")
        if chance() < 0.03:
            site.open_change = True
            site.event += 1
            self.judge.count("power cut in a change")
        site.not_before = site.now + timedelta(days=2) if chance() < 0.05 else None
        site.approve_after = timedelta(hours=self.random.choice([2, 20, 90]))

    def _read_diary(self, since: int) -> None:
        for entry in self.site.diary[since:]:
            if entry.words[0] == "prune":
                self.judge.count("collection")
            if entry.words[0] != "upgrade":
                continue
            self.judge.upgrades += 1
            if not self._open(entry.at):
                self.judge.outside.append(f"{self.zone.key} {entry.at:%Y-%m-%d %H:%M}")
            if self.site.held:
                self.judge.while_held.append(f"{self.zone.key} {entry.at:%Y-%m-%d}")
        due = self.site.prune_at
        if due is not None and self.site.now - due > timedelta(hours=1):
            self.judge.kept_too_long.append(f"{self.zone.key} {due:%Y-%m-%d}")
        del self.site.diary[:]


def _resident_kb() -> int:
    line = next(
        row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmRSS")
    )
    return int(line.split()[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    judge, resident, traced = Judge(), [], []
    tracemalloc.start()
    for number, zone in enumerate(ZONES):
        trial = Trial(zone, chosen.seed + number, judge)
        for day in range(chosen.days):
            trial.day()
            if day in (chosen.days // 4, chosen.days - 1):
                gc.collect()
                resident.append(_resident_kb())
                traced.append(tracemalloc.get_traced_memory()[0])
        print_line(f"{zone}: {chosen.days} days, {judge.upgrades} upgrades until here")
    growth = max(late - early for early, late in zip(traced[::2], traced[1::2], strict=True))
    finish(
        "service_days",
        {
            "days": chosen.days,
            "zones": len(ZONES),
            "openings": judge.openings,
            "openings_with_a_change_of_clock": judge.changes_of_clock,
            "ready_openings": judge.ready,
            "upgrades": judge.upgrades,
            "events": judge.events,
            "outside_a_window": judge.outside,
            "missed_windows": judge.missed,
            "while_held": judge.while_held,
            "kept_too_long": judge.kept_too_long,
            "memory_growth_kb": round(growth / 1000, 1),
            "resident_mb": [round(kb / 1000, 1) for kb in (resident[0], resident[-1])],
            "ratios": {"missed": len(judge.missed), "outside": len(judge.outside)},
            "aims": {"missed": 0, "outside": 0},
        },
    )


if __name__ == "__main__":
    main()
