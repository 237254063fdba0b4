"""Peak memory of ``ncen-updater upgrade`` with a tree of 300 MB and databases of 1 GB.

Two upgrades in turn: from an archive, and by a delta pack from the previous release. The real
program runs as a process of its own; it and its feed reader processes are sampled from outside.
Processes of the application, which the agent starts, and of the database server do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report import finish, print_line
from benchmarks.sites import Trial, server, trial_site
from demo.databases import PostgresPlace
from demo.release_flow import publish_release
from demo.releases import assemble

AIM_MB = 120
SAMPLE_S = 0.03
LARGE_FILES, SMALL_FILES = 5, 20_000
FIRST, SECOND = "3.3.0", "3.3.10"
CHANGED_SHARE = 50  # one small file in so many changes in the second release
# Substrings that identify programs of the agent by command line.
OURS = ("ncen_updater.agent.adapters.feed_reader.worker", "pg_dump", "pg_restore", "ncen-updater")


@dataclass
class Peaks:
    """Observed memory in bytes: the peak of each process, and the highest sum at one moment.

    The sum uses proportional set sizes: memory shared by two processes counts half for each.
    """

    highest: dict[str, int] = field(default_factory=dict)
    total: int = 0
    at_total: dict[str, int] = field(default_factory=dict)

    def sample(self, root: int) -> None:
        """Sample a process and all its descendants."""
        now: dict[str, int] = {}
        own_words = _words(root)
        for pid in _family(root):
            # Between fork and exec, a child shares the memory of its parent.
            if pid != root and _words(pid) == own_words:
                continue
            seen = _memory(pid)
            if seen is None:
                continue
            name, own, high = seen
            self.highest[name] = max(self.highest.get(name, 0), high)
            now[name] = now.get(name, 0) + own
        if sum(now.values()) > self.total:
            self.total, self.at_total = sum(now.values()), now


def _family(root: int) -> list[int]:
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text("ascii").split())
        except OSError:  # it ended meanwhile
            continue
    return found


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _memory(pid: int) -> tuple[str, int, int] | None:
    place, words = Path(f"/proc/{pid}"), _words(pid)
    try:
        status = (place / "status").read_text("utf-8")
        rollup = (place / "smaps_rollup").read_text("utf-8")
    except OSError:
        return None
    name = next((word for word in OURS if word in words), None)
    lines = (status + rollup).splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if name is None or "VmHWM" not in fields or "Pss" not in fields or "ncenctl" in words:
        return None
    return name, _kilobytes(fields["Pss"]), _kilobytes(fields["VmHWM"])


def _kilobytes(value: str) -> int:
    return int(value.split(maxsplit=1)[0]) * 1024


def fill_tree(app: Path, size: int, *, second: bool = False) -> None:
    """Add files to a release: a few large ones with two thirds of the bytes, many small ones.

    In the second release some small files differ, and one word in each large file.
    """
    large = size * 2 // 3 // LARGE_FILES
    small = size // 3 // SMALL_FILES
    for number in range(LARGE_FILES):
        chance = random.Random(number)
        with (_made(app / "data") / f"large-{number}.bin").open("wb") as stream:
            for _ in range(large >> 20):
                stream.write(chance.randbytes(1 << 20))
            if second:
                stream.seek(large // 2)
                stream.write(b"the second release")
    for number in range(SMALL_FILES):
        other = second and number % CHANGED_SHARE == 0
        content = random.Random(-number if other else SMALL_FILES + number).randbytes(small // 2)
        directory = _made(app / "static" / f"{number % 200:03}")
        (directory / f"small-{number}.js").write_bytes(content.hex().encode())


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def offer_second(trial: Trial, size: int) -> None:
    """Publish the second release with a pack from the first, and without its archive."""
    with tempfile.TemporaryDirectory(prefix="nu-bench-") as folder:
        source = assemble(SECOND, Path(folder) / SECOND)
        fill_tree(source / "app", size, second=True)
        now = lambda: datetime.now(UTC)  # noqa: E731
        publish_release(trial.feed.directory, [source], trial.feed.keys, now, packs=True)
    for archive in trial.feed.directory.rglob(f"*ncen-{SECOND}.tar.gz"):
        archive.unlink()  # so that the upgrade fails if the pack is not used


def _run(config: Path, version: str) -> tuple[Peaks, float]:
    program = str(Path(sys.executable).parent / "ncen-updater")
    peaks, begin = Peaks(), time.monotonic()
    with subprocess.Popen(
        [program, "upgrade", version, "--yes"],
        env={**os.environ, "NCEN_CONFIG_FILE": str(config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None:
            peaks.sample(process.pid)
            time.sleep(SAMPLE_S)
    if process.returncode != 0:
        raise SystemExit(f"the upgrade ended with status {process.returncode}")
    return peaks, time.monotonic() - begin


def _case(peaks: Peaks, seconds: float) -> dict[str, Any]:
    """Return the peak memory of one upgrade, MB, and its duration."""
    return {
        "process_mb": {name: round(value / 1e6, 1) for name, value in peaks.highest.items()},
        "together_mb": round(peaks.total / 1e6, 1),
        "together_of": {name: round(value / 1e6, 1) for name, value in peaks.at_total.items()},
        "seconds": round(seconds),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree-mb", type=int, default=300)
    parser.add_argument("--databases-gb", type=float, default=1.0)
    parser.add_argument("--postgresql", type=int, default=17, help="major version of the server")
    chosen = parser.parse_args(arguments)
    size, tree_bytes = int(chosen.databases_gb * 1e9), chosen.tree_mb * 1_000_000
    with server(chosen.postgresql) as (running, _):
        place = PostgresPlace(
            str(running.host), prefix="bench_", programs=running.binaries.directory
        )
        with trial_site(
            place,
            size,
            [FIRST],
            change=lambda source: fill_tree(source / "app", tree_bytes),
        ) as trial:
            cases = {"archive": _case(*_run(trial.site.config_path, FIRST))}
            offer_second(trial, tree_bytes)
            cases["pack"] = _case(*_run(trial.site.config_path, SECOND))
    for name, case in cases.items():
        print_line(f"{name}: {json.dumps(case)}")
    largest = max(mb for case in cases.values() for mb in case["process_mb"].values())
    together = max(case["together_mb"] for case in cases.values())
    finish(
        "memory",
        {
            "tree_mb": chosen.tree_mb,
            "tree_files": LARGE_FILES + SMALL_FILES,
            "database_bytes": trial.database_bytes,
            **cases,
            "ratios": {
                "largest_process": round(largest / AIM_MB, 3),
                "together": round(together / AIM_MB, 3),
            },
            "aims": {"mb": AIM_MB},
        },
    )


if __name__ == "__main__":
    main()
