"""CPU, memory and modules of frequent commands, compared with peers in the same rounds.

CPU includes all child processes: the feed reader and, for ``status``, the site's own status
command. The peers are an interpreter with click and pydantic, and a complete feed check by tufup's
unmodified client.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import compile_as_installed, finish, median, print_line
from benchmarks.sites import trial_site

#: Limits: seconds of CPU; for status a multiple of an interpreter with click and pydantic.
AIMS = {"check": 0.75, "plan": 0.75, "status": 1.8}
HEAVY = ("psycopg", "pydantic", "tufup", "tuf", "requests", "setuptools")
PEER = "click and pydantic"
TUFUP = "check by tufup"
TUFUP_CLIENT = """
import pathlib, sys, shutil, tempfile
from tufup.client import Client
url, root = sys.argv[1:]
with tempfile.TemporaryDirectory() as place:
    metadata = pathlib.Path(place) / "metadata"
    metadata.mkdir()
    (pathlib.Path(place) / "targets").mkdir()
    shutil.copy(root, metadata / "root.json")
    client = Client(
        app_name="ncen", app_install_dir=pathlib.Path(place), current_version="0.1",
        metadata_dir=metadata, metadata_base_url=url + "/metadata/",
        target_dir=pathlib.Path(place) / "targets", target_base_url=url + "/targets/",
    )
    client.refresh()
"""


#: A small process starts the commands, because a child begins with the memory size of its parent.
STARTER = """
import json, os, subprocess, sys
for line in sys.stdin:
    argv, environment = json.loads(line)
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    status = os.waitstatus_to_exitcode(status)
    print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]), flush=True)
"""


class Starter:
    """Starts commands and measures them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", STARTER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def measure(self, argv: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
        """Return CPU seconds and memory in megabytes of a command with its children."""
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("commands cannot be started")
        print(json.dumps([argv, dict(environment)]), file=self._process.stdin, flush=True)
        status, cpu, size = json.loads(self._process.stdout.readline())
        if status:
            raise SystemExit(f"{argv} ended with {status}")
        return float(cpu), float(size)


def _list_modules(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the names of the modules that the first process of a command imports."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *argv[argv[0] == sys.executable :]],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return [line.rsplit("|", 1)[-1].strip() for line in lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    chosen = parser.parse_args(arguments)
    compile_as_installed()
    program = str(Path(sys.executable).parent / "ncen-updater")
    starter = Starter()
    with trial_site(None, 0, ["3.3.0"]) as trial:
        site = trial.site
        environment = {**os.environ, "NCEN_CONFIG_FILE": str(site.config_path)}
        commands = {
            "--help": [program, "--help"],
            "--version": [program, "--version"],
            "status": [program, "status"],
            "history": [program, "history"],
            "check": [program, "check"],
            "plan": [program, "plan", "3.3.0"],
            "doctor": [program, "doctor"],
            PEER: [sys.executable, "-c", "import click, pydantic"],
            TUFUP: [
                sys.executable,
                "-c",
                TUFUP_CLIENT,
                site.options.feed_urls[0].rstrip("/"),
                str(site.trusted_root),
            ],
        }
        modules = {name: _list_modules(argv, environment) for name, argv in commands.items()}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(chosen.runs):
            for name, argv in commands.items():
                taken[name].append(starter.measure(argv, environment))
    found = {
        name: {
            "cpu_s": median([cpu for cpu, _ in pairs]),
            "least_s": round(min(cpu for cpu, _ in pairs), 3),
            "most_s": round(max(cpu for cpu, _ in pairs), 3),
            "mb": round(max(size for _, size in pairs)),
            "modules": len(modules[name]),
            "ours": sum(module.startswith("ncen_updater") for module in modules[name]),
            "heavy": [module for module in HEAVY if module in modules[name]],
        }
        for name, pairs in taken.items()
    }
    for name, figures in found.items():
        print_line(f"  {name:20} " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    ratio = round(float(str(found["status"]["cpu_s"])) / float(str(found[PEER]["cpu_s"])), 2)
    print_line(f"  status is {ratio} of {PEER}")
    finish("commands", {"runs": chosen.runs, **found, "status_ratio": ratio, "aims": AIMS})


if __name__ == "__main__":
    main()
