"""Peak memory of ``ncen-updater upgrade``: a tree of 300 MB, databases of 1 GB.

The real program runs as a process of its own; it and the processes that it starts for the feed are
sampled from outside. The application's processes, which the agent orders to start, do not count,
nor does the database server.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import finish, say
from benchmarks.sites import server, trial_site
from ncen_updater.demo.databases import PostgresPlace

AIM_MB = 120
SAMPLE_S = 0.03
LARGE_FILES, SMALL_FILES = 5, 20_000
# Programs of the agent by words of their command line.
OURS = ("ncen_updater.trust.worker", "pg_dump", "pg_restore", "ncen-updater")


@dataclass
class Peaks:
    """What was seen, bytes: by process its own highest mark, and the highest sum at one instant.

    The sum is of proportional set sizes: what two processes share counts half for each.
    """

    highest: dict[str, int] = field(default_factory=dict)
    total: int = 0
    at_total: dict[str, int] = field(default_factory=dict)

    def sample(self, root: int) -> None:
        """Look at a process and everything below it."""
        now: dict[str, int] = {}
        for pid in _family(root):
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


def _memory(pid: int) -> tuple[str, int, int] | None:
    place = Path(f"/proc/{pid}")
    try:
        words = (place / "cmdline").read_bytes().decode("utf-8", "replace")
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


def fill_tree(app: Path, size: int) -> None:
    """Add files to a release: a few large ones for two thirds of the bytes, many small ones."""
    large = size * 2 // 3 // LARGE_FILES
    small = size // 3 // SMALL_FILES
    for number in range(LARGE_FILES):
        with (_made(app / "data") / f"large-{number}.bin").open("wb") as stream:
            for _ in range(large >> 20):
                stream.write(os.urandom(1 << 20))
    for number in range(SMALL_FILES):
        directory = _made(app / "static" / f"{number % 200:03}")
        (directory / f"small-{number}.js").write_bytes(os.urandom(small // 2).hex().encode())


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _run(config: Path) -> tuple[Peaks, float]:
    program = str(Path(sys.executable).parent / "ncen-updater")
    peaks, begin = Peaks(), time.monotonic()
    with subprocess.Popen(
        [program, "upgrade", "3.3.0", "--yes"],
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree-mb", type=int, default=300)
    parser.add_argument("--databases-gb", type=float, default=1.0)
    parser.add_argument("--postgresql", type=int, default=17, help="major version of the server")
    chosen = parser.parse_args(arguments)
    size = int(chosen.databases_gb * 1e9)
    with server(chosen.postgresql) as (running, _):
        place = PostgresPlace(
            str(running.host), prefix="bench_", programs=running.binaries.directory
        )
        with trial_site(
            place,
            size,
            ["3.3.0"],
            change=lambda source: fill_tree(source / "app", chosen.tree_mb * 1_000_000),
        ) as trial:
            peaks, seconds = _run(trial.site.config_path)
    highest = {name: round(value / 1e6, 1) for name, value in peaks.highest.items()}
    total = round(peaks.total / 1e6, 1)
    say(f"highest of each process {highest} MB, together at the peak {total} MB, {seconds:.0f} s")
    finish(
        "memory",
        {
            "tree_mb": chosen.tree_mb,
            "tree_files": LARGE_FILES + SMALL_FILES,
            "database_bytes": trial.database_bytes,
            "process_mb": highest,
            "together_mb": total,
            "together_of": {n: round(v / 1e6, 1) for n, v in peaks.at_total.items()},
            "ratios": {
                "largest_process": round(max(highest.values()) / AIM_MB, 3),
                "together": round(total / AIM_MB, 3),
            },
            "aims": {"mb": AIM_MB},
        },
    )


if __name__ == "__main__":
    main()
