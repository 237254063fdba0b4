"""Line and branch coverage of the critical packages, including the processes of tests.

Processes killed with SIGKILL write no coverage data, so the code that only they run counts as not
covered: the figures are too low, never too high. Arguments after ``--`` are passed to pytest; the
default is the whole suite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import finish, print_line

ROOMS = ("upgrade", "databases", "slots")


def _coverage(environment: Mapping[str, str], *arguments: str) -> int:
    argv = [sys.executable, "-m", "coverage", *arguments]
    return subprocess.run(argv, env=environment, stdout=sys.stderr, check=False).returncode


def _shares(files: Mapping[str, Any], room: str) -> dict[str, float]:
    prefix = f"ncen_updater/{room}/"
    found = [entry["summary"] for name, entry in files.items() if name.startswith(prefix)]
    lines = sum(one["covered_lines"] for one in found), sum(one["num_statements"] for one in found)
    branches = (
        sum(one["covered_branches"] for one in found),
        sum(one["num_branches"] for one in found),
    )
    return {
        "line": round(lines[0] / max(1, lines[1]), 4),
        "branch": round(branches[0] / max(1, branches[1]), 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--"]
    settings = Path("pyproject.toml").absolute()
    with tempfile.TemporaryDirectory(prefix="nu-coverage-") as directory:
        # Subprocesses with a reduced environment still find coverage by the first variable.
        environment = {
            **os.environ,
            "COVERAGE_PROCESS_START": str(settings),
            "COVERAGE_FILE": str(Path(directory) / "data"),
        }
        status = _coverage(environment, "run", "-m", "pytest", "-q", *words)
        _coverage(environment, "combine", "--quiet", directory)
        report = Path(directory) / "report.json"
        _coverage(environment, "json", "--quiet", "-o", str(report))
        files = json.loads(report.read_text("utf-8"))["files"]
    rooms = {room: _shares(files, room) for room in ROOMS}
    least = sorted(
        (entry["summary"]["percent_covered"], name)
        for name, entry in files.items()
        if name.split("/")[1] in ROOMS
    )
    for percent, name in least[:12]:
        print_line(f"{percent:6.1f} % {name}")
    finish("coverage", {"tests_status": status, "tests": words or ["all"], "ratios": rooms})


if __name__ == "__main__":
    main()
