"""Wall time of ``ncen-updater status`` against starting Python with click and pydantic.

It holds what the site's own status command takes, here one more Python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import compile_as_installed, finish, median, say
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal

AIM = 2.0
HEAVY = ("psycopg", "pydantic", "tufup", "tuf", "requests", "setuptools")
BASELINE = [sys.executable, "-c", "import click, pydantic"]


def _seconds(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - begin


def _heavy(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Names of heavy libraries that a program imports, as the interpreter itself tells."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *argv],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    names = {line.rsplit("|", 1)[-1].strip() for line in ended.stderr.splitlines()}
    return sorted(name for name in HEAVY if name in names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=25)
    chosen = parser.parse_args(arguments)
    compile_as_installed()
    program = str(Path(sys.executable).parent / "ncen-updater")
    with tempfile.TemporaryDirectory(prefix="nu-bench-") as directory:
        site = DemoSite(Path(directory) / "site", options=SiteOptions(cases=100))
        with site:
            Journal.create(site.state / JOURNAL_FILE).close()
            site.start_app()
            environment = {**os.environ, "NCEN_CONFIG_FILE": str(site.config_path)}
            # The first one checks the configuration with the models, and notes that it did.
            _seconds([program, "status"], environment)
            heavy = _heavy([program, "status"], environment)
            ours: list[float] = []
            base: list[float] = []
            for _ in range(chosen.runs):
                base.append(_seconds(BASELINE, environment))
                ours.append(_seconds([program, "status"], environment))
    say(f"status {median(ours)} s, click and pydantic {median(base)} s; heavy modules: {heavy}")
    finish(
        "status",
        {
            "runs": chosen.runs,
            "status_s": median(ours),
            "baseline_s": median(base),
            "heavy_modules": heavy,
            "ratios": {"status": round(median(ours) / median(base), 3)},
            "aims": {"status": AIM},
        },
    )


if __name__ == "__main__":
    main()
