"""Downtime of a release that changes only the code, compared with a link switched by a script.

Alternately on one PostgreSQL server, each with its own site of the same size: the agent's upgrade
and rollback of such a release; those of a release that does not declare this, so that databases are
copied; and the manual procedure: stop, switch the link, start, until healthy. Downtime is what
users see, from the start of the maintenance page to its end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Sequence

from packaging.version import Version

from benchmarks.report import finish, median, print_line
from benchmarks.sites import Trial, server, trial_site
from demo.databases import PostgresPlace
from demo.site import DemoSite
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.common.progress import SilentProgress
from tests.support.sites import site_in_process

OLD, NEW = "3.2.4", "3.3.0"


def _upgrade_and_back(trial: Trial) -> tuple[float, float]:
    """Return the downtime of upgrade and rollback in seconds, from the journal."""
    work = Operations(site_in_process(trial.site), SilentProgress())
    there = work.upgrade(Version(NEW)).outcomes[0].downtime_s
    back = work.rollback().outcomes[0].downtime_s
    if there is None or back is None:
        raise SystemExit("a change ended without its stop")
    return there, back


def _by_hand(site: DemoSite, version: str) -> float:
    """Stop, replace the link, start; return the seconds until the application is healthy."""
    begin = time.monotonic()
    site.stop_app()
    fresh = site.current.with_name("current.new")
    fresh.symlink_to(site.slots / version)
    fresh.replace(site.current)
    site.start_app()
    return time.monotonic() - begin


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="0.1,1", help="GB in total, with commas")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--postgresql", type=int, default=17, help="major version of the server")
    chosen = parser.parse_args(arguments)
    results: dict[str, object] = {}
    for gigabytes in chosen.sizes.split(","):
        size = int(float(gigabytes) * 1e9)
        turns: dict[str, list[float]] = {}
        with server(chosen.postgresql) as (running, _), contextlib.ExitStack() as stack:

            def place(prefix: str, host: str = str(running.host)) -> PostgresPlace:
                return PostgresPlace(host, prefix=prefix, programs=running.binaries.directory)

            made = {
                side: stack.enter_context(
                    trial_site(
                        place(f"{side}_"), size, [NEW], health_timeout_s=60.0,
                        by_code=True, declares=side != "copied",
                    )
                )
                for side in ("code", "copied", "hand")
            }  # fmt: skip
            _upgrade_and_back(made["hand"])  # build both slots and fill the caches
            for number in range(chosen.turns):
                for side in ("code", "copied"):
                    there, back = _upgrade_and_back(made[side])
                    turns.setdefault(side, []).append(there)
                    turns.setdefault(f"{side}_back", []).append(back)
                turns.setdefault("hand", []).append(_by_hand(made["hand"].site, NEW))
                turns.setdefault("hand_back", []).append(_by_hand(made["hand"].site, OLD))
                print_line(
                    f"  turn {number + 1}: "
                    + ", ".join(f"{k} {v[-1]:.2f}" for k, v in turns.items())
                )
            bytes_ = made["code"].database_bytes
        found = {f"{name}_s": median(seconds) for name, seconds in turns.items()}
        results[gigabytes] = {
            "database_bytes": bytes_,
            **found,
            "all_s": {name: [round(s, 3) for s in seconds] for name, seconds in turns.items()},
            "code_to_hand": round(found["code_s"] / found["hand_s"], 2),
            "code_to_copied": round(found["code_s"] / found["copied_s"], 2),
            "back_to_hand": round(found["code_back_s"] / found["hand_back_s"], 2),
        }
        print_line(json.dumps(results[gigabytes]))
    finish("by code", {"postgresql": chosen.postgresql, "turns": chosen.turns, "gb": results})


if __name__ == "__main__":
    main()
