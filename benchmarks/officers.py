"""The whole stop as officers see it, for one checkout: ``python -P benchmarks/officers.py``.

From the first request that was refused to the first that was answered again. Started by
``benchmarks.downtime`` with the checkout that is measured first on the path, so it uses nothing
but what earlier ones have, too. Makes a turn for each line that it reads,
and prints a line of JSON for each.
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
from ncen_updater.common.progress import Silent
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
        # One line in, one turn: whoever started us lets versions take turns.
        for _ in sys.stdin:
            checkpoint(place)
            demo.start_traffic(pause_s=0.01)
            outcome = Operations(site, Silent()).upgrade(Version(GOOD)).outcomes[0]
            time.sleep(1.0)  # some requests more, so that the outage has an end
            summary = demo.stop_traffic()
            parts = {name: round(value, 3) for name, value in outcome.step_s.items()}
            Operations(site, Silent()).rollback()
            _say({"stop_s": round(summary["longest_outage_s"], 3), "parts": parts})


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
