"""Memory and CPU of the idle service, and start-up time of every command.

A real site with a real feed and ``ncen-updater serve``: once idle, the service is observed for ten
minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import finish, median, print_line
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.cli.main import COMMANDS
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal

MEMORY_MB = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def _resident_mb(process: int) -> float:
    """Return the resident set size in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    line = next(row for row in text.splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _starts(program: str, environment: Mapping[str, str], runs: int) -> dict[str, float]:
    """Measure the wall time of ``COMMAND --help``, which loads all modules but does no work."""
    times: dict[str, float] = {}
    for command in COMMANDS:
        seconds = []
        for _ in range(runs):
            begin = time.perf_counter()
            subprocess.run(
                [program, command, "--help"], env=environment, stdout=subprocess.DEVNULL,
                check=True, timeout=60,
            )  # fmt: skip
            seconds.append(time.perf_counter() - begin)
        times[command] = median(seconds)
    return times


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args(arguments)
    program = str(Path(sys.executable).parent / "ncen-updater")
    with tempfile.TemporaryDirectory(prefix="nu-bench-") as directory:
        site = DemoSite(Path(directory) / "site", options=SiteOptions(cases=100))
        with site:
            Journal.create(site.state / JOURNAL_FILE).close()
            site.start_app()
            environment = {**os.environ, "NCEN_CONFIG_FILE": str(site.config_path)}
            starts = _starts(program, environment, chosen.runs)
            with subprocess.Popen([program, "serve"], env=environment) as service:
                time.sleep(20)  # until the first assessment and the first feed check have ended
                before, resident = _cpu_s(service.pid), []
                begin = time.monotonic()
                while time.monotonic() - begin < chosen.minutes * 60:
                    resident.append(_resident_mb(service.pid))
                    time.sleep(5)
                cpu = _cpu_s(service.pid) - before
                watched = time.monotonic() - begin
                service.send_signal(signal.SIGTERM)
                code = service.wait(60)
    print_line(
        f"{max(resident):.1f} MB, {cpu:.2f} s of processor in {watched:.0f} s, ended with {code}"
    )
    finish(
        "service_idle",
        {
            "watched_s": round(watched),
            "resident_mb": {"first": resident[0], "last": resident[-1], "most": max(resident)},
            "cpu_s": round(cpu, 3),
            "cpu_percent": round(100 * cpu / watched, 4),
            "exit_code": code,
            "start_s": starts,
            "ratios": {"memory": round(max(resident) / MEMORY_MB, 3)},
            "aims": {"resident_mb": MEMORY_MB},
        },
    )


if __name__ == "__main__":
    main()
