"""Compare the downtime that users see: by the agent, by hand, and the minimum possible.

The agent upgrades a real site from a real feed. By hand is what an administrator does with the
server's own programs (:mod:`benchmarks.classical`). The minimum is the application's own stop and
start. Users enter cases through the web server all the time; downtime is from the first refused
request to the first accepted one. The three alternate on one server. A rollback by the agent keeps
records that users entered since; a restore by hand loses them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from benchmarks.classical import UpgradeByHand
from benchmarks.report import compile_as_installed, finish, median, print_line
from benchmarks.sites import RECORDS_SHARE, Trial, checkpoint, server, trial_site
from demo.databases import PostgresPlace
from demo.embedded_postgres import PostgresBinaries
from demo.releases import assemble
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import load_manifest
from tests.support.sites import site_in_process

NEW = "3.3.0"
#: Maximum ratios for all sizes, and of the smallest size to the minimum.
AIMS = {"upgrade_by_hand": 1.0, "rollback_by_hand": 1.0, "upgrade_by_floor_at_0.01": 2.0}
#: Continue the requests for this time, so that every outage has an end.
AFTER_S = 1.0


def _measure(trial: Trial, place: PostgresPlace, act: Callable[[], object]) -> float:
    checkpoint(place)
    trial.site.start_traffic(pause_s=0.01)
    act()
    time.sleep(AFTER_S)
    return float(trial.site.stop_traffic()["longest_outage_s"])


def _turn(trial: Trial, place: PostgresPlace, by_hand: UpgradeByHand) -> dict[str, Any]:
    """Run one turn; return seconds. The site is as before at its end."""
    site = site_in_process(trial.site)
    steps: dict[str, dict[str, float]] = {}

    def upgrade() -> None:
        outcome = Operations(site, SilentProgress()).upgrade(Version(NEW)).outcomes[0]
        steps["upgrade"] = dict(outcome.step_s)

    def roll_back() -> None:
        steps["rollback"] = dict(Operations(site, SilentProgress()).rollback().outcomes[0].step_s)

    found = {
        "upgrade": _measure(trial, place, upgrade),
        "rollback": _measure(trial, place, roll_back),
    }
    before: list[tuple[Path, Path]] = []
    found["upgrade by hand"] = _measure(trial, place, lambda: before.append(by_hand.upgrade()))
    found["rollback by hand"] = _measure(trial, place, lambda: by_hand.roll_back(*before[0]))
    found["floor"] = _measure(trial, place, by_hand.restart)
    return {**found, "steps": steps}


def _measure_size(
    gigabytes: str, binaries: PostgresBinaries, place: PostgresPlace, chosen: argparse.Namespace
) -> dict[str, Any]:
    size = int(float(gigabytes) * 1e9)
    with (
        tempfile.TemporaryDirectory(prefix="nu-bench-hand-", dir=chosen.directory) as scratch,
        trial_site(place, size, [NEW], records=chosen.records, health_timeout_s=60.0) as trial,
    ):
        trial.site.start_front_door()
        release = assemble(NEW, Path(scratch) / NEW)
        scripts = {
            database.name: tuple(
                release / migration.up.format(engine="postgresql")
                for migration in database.migrations
                if migration.id.startswith("0002")
            )
            for database in load_manifest(release / "manifest.toml").databases
        }
        by_hand = UpgradeByHand(
            trial.site, place, binaries, release, scripts, Path(scratch) / "dumps"
        )
        turns = []
        for number in range(chosen.turns):
            turns.append(turn := _turn(trial, place, by_hand))
            shown = ", ".join(f"{name} {turn[name]:.2f}" for name in turn if name != "steps")
            print_line(f"  turn {number + 1}: {shown}")
            for name, seconds in turn["steps"].items():
                parts = ", ".join(f"{step} {s:.3f}" for step, s in seconds.items())
                print_line(f"    {name}: {parts}")
        return {"database_bytes": trial.database_bytes, **_summarize(turns)}


def _summarize(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians, all values, and ratios within each turn: minimum, median, maximum."""
    names = [name for name in turns[0] if name != "steps"]
    pairs = {
        "upgrade_by_hand": ("upgrade", "upgrade by hand"),
        "rollback_by_hand": ("rollback", "rollback by hand"),
        "upgrade_by_floor": ("upgrade", "floor"),
        "rollback_by_floor": ("rollback", "floor"),
    }
    ratios = {}
    for ratio, (ours, other) in pairs.items():
        values = sorted(turn[ours] / turn[other] for turn in turns)
        ratios[ratio] = [round(v, 2) for v in (values[0], statistics.median(values), values[-1])]
    return {
        "seconds": {name: median([turn[name] for turn in turns]) for name in names},
        "all": {name: [round(turn[name], 3) for turn in turns] for name in names},
        "ratios": ratios,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="0.01,0.1,1", help="GB in total, with commas")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--records", type=float, default=RECORDS_SHARE, help="part that is records, not photos"
    )
    parser.add_argument("--postgresql", type=int, default=17, help="major version of the server")
    parser.add_argument("--directory", type=Path, help="of server and dumps: another file system")
    chosen = parser.parse_args(arguments)
    compile_as_installed()
    results: dict[str, Any] = {}
    for gigabytes in chosen.sizes.split(","):
        with server(chosen.postgresql, chosen.directory) as (running, binaries):
            place = PostgresPlace(
                str(running.host), prefix="bench_", programs=running.binaries.directory
            )
            results[gigabytes] = _measure_size(gigabytes, binaries, place, chosen)
            print_line(f"{gigabytes} GB: {results[gigabytes]['ratios']}")
    finish(
        "downtime",
        {
            "postgresql": chosen.postgresql,
            "turns": chosen.turns,
            "records": round(chosen.records, 2),
            "gb": results,
            "ratios": {size: found["ratios"] for size, found in results.items()},
            "aims": AIMS,
        },
    )


if __name__ == "__main__":
    main()
