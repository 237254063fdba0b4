"""The whole stop as users see it, for one checkout: ``python -P benchmarks/officers.py``.

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
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.version import Version

from benchmarks.report import compile_as_installed
from benchmarks.sites import RECORDS_SHARE, checkpoint, trial_site
from tests.support.sites import site_in_process

GOOD = "3.3.0"


def _of(*modules: str) -> Any:  # noqa: ANN401 - a module of either layout
    """Import the first of some modules that the checkout has; older layouts have other names."""
    for name in modules:
        if find_spec(name.partition(".")[0]) is not None:
            with contextlib.suppress(ModuleNotFoundError):
                return import_module(name)
    raise SystemExit(f"this checkout has none of {modules}")


_databases = _of("demo.databases", "ncen_updater.demo.databases")
_servers = _of("demo.embedded_postgres", "ncen_updater.demo.embedded_postgres")
_operations = _of("ncen_updater.agent.engine.operations", "ncen_updater.upgrade.operations")
_progress = _of("ncen_updater.common.progress", "ncen_updater.progress")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, required=True)
    parser.add_argument("--postgresql", type=int, required=True)
    parser.add_argument("--directory", help="of the server; on the file system that is meant")
    parser.add_argument("--records", type=float, default=RECORDS_SHARE)
    chosen = parser.parse_args()
    compile_as_installed()
    binaries = next(b for b in _servers.find_binaries() if b.major == chosen.postgresql)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="nu-bench-pg-", dir=chosen.directory)
        )
        running = stack.enter_context(_servers.EmbeddedPostgres(binaries, Path(directory)))
        place = _databases.PostgresPlace(
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
        # One line in, one turn: the parent process lets versions take turns.
        for _ in sys.stdin:
            checkpoint(place)
            demo.start_traffic(pause_s=0.01)
            outcome = (
                _operations.Operations(site, _progress.Silent()).upgrade(Version(GOOD)).outcomes[0]
            )
            time.sleep(1.0)  # some requests more, so that the outage has an end
            summary = demo.stop_traffic()
            parts = {name: round(value, 3) for name, value in outcome.step_s.items()}
            _operations.Operations(site, _progress.Silent()).rollback()
            _say({"downtime_s": round(summary["longest_outage_s"], 3), "parts": parts})


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
