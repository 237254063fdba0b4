"""Measure the whole downtime for one checkout: ``python -P benchmarks/whole_downtime.py``.

It lasts from the first refused request to the first answered one. ``benchmarks.downtime`` starts
this program with the measured checkout first on the path. Each line of its input is a turn, and
each turn prints a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

from packaging.version import Version

from benchmarks.report import compile_as_installed
from benchmarks.sites import RECORDS_SHARE, checkpoint, trial_site
from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres, find_binaries
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.common.progress import SilentProgress
from tests.support.sites import site_in_process

GOOD = "3.3.0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, required=True)
    parser.add_argument("--postgresql", type=int, required=True)
    parser.add_argument("--directory", help="of the server; on the file system that is meant")
    parser.add_argument("--records", type=float, default=RECORDS_SHARE)
    chosen = parser.parse_args()
    compile_as_installed()
    binaries = next(b for b in find_binaries() if b.major == chosen.postgresql)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="nu-bench-pg-", dir=chosen.directory)
        )
        running = stack.enter_context(EmbeddedPostgres(binaries, Path(directory)))
        place = PostgresPlace(
            str(running.host), prefix="bench_", programs=running.binaries.directory
        )
        trial = stack.enter_context(
            trial_site(
                place, int(chosen.gb * 1e9), [GOOD], records=chosen.records, health_timeout_s=60.0
            )
        )
        demo, site = trial.site, site_in_process(trial.site)
        demo.start_front_door()
        _say({"database_bytes": trial.database_bytes})
        # One line in, one turn: the caller lets versions take turns.
        for _ in sys.stdin:
            checkpoint(place)
            demo.start_traffic(pause_s=0.01)
            outcome = Operations(site, SilentProgress()).upgrade(Version(GOOD)).outcomes[0]
            time.sleep(1.0)  # some requests more, so that the outage has an end
            summary = demo.stop_traffic()
            parts = {name: round(value, 3) for name, value in outcome.step_s.items()}
            Operations(site, SilentProgress()).rollback()
            _say({"downtime_s": round(summary["longest_outage_s"], 3), "parts": parts})


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
