"""Ten thousand sites and one static server: a simulated week, and a burst of real checks.

The simulation runs the product's own functions (time of the next check, opening of a release to a
site) over events; the cost of one check is measured in the same run, with the real client and a
real server. The burst measures the load that this server handles.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.report import finish, print_line
from demo.release_flow import publish_release
from ncen_updater.agent.policy.automation import ActionFailure, ServiceAction
from ncen_updater.agent.policy.windows import compute_next_check
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.feed.upgrade_path import compute_bucket, find_opening_time
from ncen_updater.formats.rollout import RolloutWave
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, create_keys
from tests.support.nginx import Nginx, find_nginx, nginx

START = datetime(2026, 12, 7, tzinfo=UTC)  # a Monday
WEEK, DAY, HOUR = timedelta(days=7), timedelta(days=1), timedelta(hours=1)
INTERVAL = 6 * HOUR
PUBLISHED = START + 34 * HOUR
WAVES = (
    RolloutWave(opens=PUBLISHED, percent=5),
    RolloutWave(opens=PUBLISHED + DAY, percent=25),
    RolloutWave(opens=PUBLISHED + 3 * DAY, percent=100),
)
#: The feed is unavailable for half a day and returns for all sites at once.
OUTAGE = (START + 5 * DAY, START + 5 * DAY + 12 * HOUR)
#: One site in five is switched on at eight and off at six, Monday to Friday.
OFFICE_SHARE, OPENS, CLOSES = 5, 8, 18
RELEASE = ("ncen", "3.4.0")
PEAK_AIM = 1.0


@dataclass(frozen=True)
class Cost:
    """Cost of one check for the server: complete requests and responses with headers."""

    requests: int
    bytes: int
    cpu_s: float


@dataclass
class Tally:
    """Requests to the server, and the time at which sites learned of the release."""

    requests: Counter[int]
    checks: Counter[int]
    bytes: int = 0
    failed: int = 0


# ---- the real thing ------------------------------------------------------------------------------


def _source(feed: Path, url: str, state: Path) -> TufReleaseSource:
    return TufReleaseSource(
        "ncen",
        state=state,
        trusted_root=feed / "metadata" / "1.root.json",
        make_fetcher=lambda: HttpFetcher((url,)),
    )


def _check(feed: Path, url: str, state: Path) -> float:
    begin = time.process_time()
    source = _source(feed, url, state)
    try:
        source.refresh()
    finally:
        source.close()
    return time.process_time() - begin


def _lines(server: Nginx) -> list[list[str]]:
    return [line.split() for line in server.log.read_text().splitlines()]


def cost_of_a_check(feed: Path, server: Nginx, state: Path) -> Cost:
    """Measure one check of a site in its present state, with the real client."""
    before = len(_lines(server))
    cpu = _check(feed, server.url, state)
    time.sleep(0.1)  # the server writes its log after the response
    asked = _lines(server)[before:]
    return Cost(len(asked), sum(int(row[4]) + int(row[5]) for row in asked), cpu)


def _many(feed: Path, url: str, states: Sequence[Path]) -> int:
    return sum(_check(feed, url, state) >= 0 for state in states)


def burst(feed: Path, url: str, known: Path, work: Path, checks: int, hands: int) -> float:
    """Run real clients as fast as possible; return checks per second. Any failure raises."""
    states = [work / f"site-{number}" for number in range(checks)]
    for state in states:
        shutil.copytree(known, state)
    parts = [states[n::hands] for n in range(hands)]
    with ProcessPoolExecutor(hands) as pool:
        list(pool.map(_many, [feed] * hands, [url] * hands, [[known]] * hands))  # load modules
        begin = time.perf_counter()
        done = sum(pool.map(_many, [feed] * hands, [url] * hands, parts))
        elapsed = time.perf_counter() - begin
    if done != checks:
        raise RuntimeError(f"{done} of {checks} checks")
    return checks / elapsed


# ---- the week ------------------------------------------------------------------------------------


def _is_on(number: int, moment: datetime) -> bool:
    if number % OFFICE_SHARE:
        return True
    return moment.weekday() < 5 and OPENS <= moment.hour < CLOSES


def _switched_on(moment: datetime) -> datetime:
    """Return when a closed office opens next."""
    day = moment.replace(hour=OPENS, minute=0, second=0, microsecond=0)
    while day <= moment or day.weekday() >= 5:
        day += DAY
    return day


def simulate(sites: int, idle: Cost, changed: Cost) -> tuple[Tally, dict[str, datetime]]:
    """Simulate the week; return the server load, and when each site learned that it may upgrade."""
    tally = Tally(Counter(), Counter())
    knew: dict[str, datetime] = {}
    versions: dict[str, int] = {}
    last: dict[str, datetime] = {}
    misses: Counter[int] = Counter()
    events: list[tuple[datetime, int]] = []
    for number in range(sites):
        name = f"site-{number}"
        last[name] = START - DAY
        begin = START if _is_on(number, START) else _switched_on(START)
        heapq.heappush(events, (compute_next_check(begin, START, INTERVAL, name), number))
    while events:
        moment, number = heapq.heappop(events)
        if moment >= START + WEEK:
            break
        name = f"site-{number}"
        if not _is_on(number, moment):
            on = _switched_on(moment)
            heapq.heappush(events, (compute_next_check(on, last[name], INTERVAL, name), number))
            continue
        second = int((moment - START).total_seconds())
        # The timestamp is signed again each day; the product's targets metadata changed once.
        version = 1 if moment < PUBLISHED else 2
        away = OUTAGE[0] <= moment < OUTAGE[1]
        cost = changed if versions.get(name, 1) != version else idle
        if away:
            tally.failed += 1
        else:
            tally.checks[second] += 1
            tally.requests[second] += cost.requests
            tally.bytes += cost.bytes
            versions[name] = version
            opens = find_opening_time(WAVES, compute_bucket(name, *RELEASE), "SN")
            if version == 2 and opens is not None and opens <= moment:
                knew.setdefault(name, moment)
        last[name] = moment
        regular = compute_next_check(moment, moment, INTERVAL, name)
        # Like the service: a failed check is repeated sooner.
        misses[number] = misses[number] + 1 if away else 0
        failure = ActionFailure(moment, misses[number])
        again = (
            min(regular, failure.compute_retry_at(ServiceAction.CHECK_FEED)) if away else regular
        )
        heapq.heappush(events, (again, number))
    return tally, knew


def _delays(sites: int, knew: dict[str, datetime], *, office: bool) -> dict[str, dict[str, float]]:
    """Return the hours from the opening of each wave until its sites learned of it."""
    found: dict[str, dict[str, float]] = {}
    for wave in WAVES:
        hours = []
        unknown = 0
        for number in range(sites):
            name = f"site-{number}"
            mine = find_opening_time(WAVES, compute_bucket(name, *RELEASE), "SN")
            if mine != wave.opens or (number % OFFICE_SHARE == 0) is not office:
                continue
            if name in knew:
                hours.append((knew[name] - wave.opens) / HOUR)
            else:
                unknown += 1
        hours.sort()
        found[f"{wave.percent} %"] = {
            "sites": len(hours) + unknown,
            "unknown": unknown,
            "median_h": round(statistics.median(hours), 2),
            "p95_h": round(hours[int(len(hours) * 0.95)], 2),
            "all_h": round(hours[-1], 2),
        }
    return found


# ---- together ------------------------------------------------------------------------------------


def _release(work: Path, version: str) -> Path:
    place = work / f"r-{version}"
    place.mkdir()
    (place / "VERSION").write_text(version)
    (place / "manifest.toml").write_text(
        f'schema = 1\nproduct = "ncen"\nversion = "{version}"\nupgrade_from = ">=3.2"\n'
        '[notes.en]\ntitle = "A release"\ntext = "Words."\n'
        '[notes.fr]\ntitle = "Une version"\ntext = "Des mots."\n'
    )
    return place


def _now() -> datetime:
    return datetime.now(UTC)


@contextlib.contextmanager
def _served(work: Path) -> Iterator[tuple[Path, FeedKeys, Nginx]]:
    program = find_nginx()
    if program is None:
        raise SystemExit("nginx is not installed; on Debian: apt install nginx-light")
    keys = create_keys(work / "keys", "benchmark only")
    feed = work / "feed"
    create_feed(feed, keys, _now)
    publish_release(feed, [_release(work, "3.3.0")], keys, _now)
    with nginx(program, feed, work / "nginx") as server:
        yield feed, keys, server


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--burst", type=int, default=400)
    parser.add_argument("--hands", type=int, default=2)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nu-fleet-") as folder:
        work = Path(folder)
        with _served(work) as (feed, keys, server):
            state = work / "known"
            first = cost_of_a_check(feed, server, state)
            idle = cost_of_a_check(feed, server, state)
            publish_release(feed, [_release(work, "3.4.0")], keys, _now)
            changed = cost_of_a_check(feed, server, state)
            print_line(f"idle {idle}, after a release {changed}, first {first}")
            rate = burst(feed, server.url, state, work, chosen.burst, chosen.hands)
    print_line(f"burst: {rate:.1f} real checks a second")
    begin = time.perf_counter()
    tally, knew = simulate(chosen.sites, idle, changed)
    simulated = time.perf_counter() - begin
    peak = max(tally.checks.values())
    minutes: Counter[int] = Counter()
    for second, count in tally.requests.items():
        minutes[second // 60] += count
    finish(
        "fleet",
        {
            "sites": chosen.sites,
            "interval_h": INTERVAL / HOUR,
            "cost": {"first": vars(first), "idle": vars(idle), "after_release": vars(changed)},
            "checks": sum(tally.checks.values()),
            "failed_in_outage": tally.failed,
            "peak_checks_per_s": peak,
            "peak_requests_per_s": max(tally.requests.values()),
            "peak_minute_requests_per_s": round(max(minutes.values()) / 60, 2),
            "mean_requests_per_s": round(sum(tally.requests.values()) / WEEK.total_seconds(), 2),
            "bytes": tally.bytes,
            "knew": _delays(chosen.sites, knew, office=False),
            "knew_offices": _delays(chosen.sites, knew, office=True),
            "in_step_checks_per_s": chosen.sites,
            "burst_checks": chosen.burst,
            "burst_checks_per_s": round(rate, 1),
            "simulation_s": round(simulated, 1),
            "ratios": {"peak_of_burst": round(peak / rate, 3)},
            "aims": {"peak_of_burst": PEAK_AIM},
        },
    )


if __name__ == "__main__":
    main()
