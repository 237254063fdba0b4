"""``python -m benchmarks.selfupdate``: trials over all kinds of broken agents and random kills.

Exits with 1 if a trial ended without a working agent. The kind that fills its disk needs a small
disk and so a mount namespace; without one it is left out, with a message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.report import finish, print_line
from benchmarks.selfupdate.agents import Kind
from benchmarks.selfupdate.trial import DISK, Outcome, run_trial

INSIDE = "NU_BENCH_NAMESPACE"


def enter_namespace() -> bool:
    """Enter a mount namespace of our own; return whether that succeeded."""
    if os.environ.get(INSIDE):
        return True
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        tried = subprocess.run(
            [*words, "mount", "-t", "tmpfs", "-o", DISK, "tmpfs", "/mnt"],
            capture_output=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return False
    if tried.returncode == 0:
        again = [*words, sys.executable, "-m", "benchmarks.selfupdate", *sys.argv[1:]]
        os.execvpe(words[0], again, {**os.environ, INSIDE: "1"})
    return False


def trial(kind: Kind, seed: int, kills: int, patience_s: float) -> Outcome:
    """Run one trial in a directory of its own, on a small disk if the disk is to be filled."""
    with tempfile.TemporaryDirectory(prefix="nu-self-") as directory:
        place = Path(directory) / "site"
        place.mkdir()
        if kind is not Kind.FILLS:
            return run_trial(place, kind, seed, kills, patience_s)
        subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(place)], check=True)
        try:
            return run_trial(place, kind, seed, kills, patience_s)
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=108)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--patience", type=float, default=8.0, help="time limit of a silent agent in seconds"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel trials")
    chosen = parser.parse_args(arguments)
    kinds = [kind for kind in Kind if kind is not Kind.FILLS or enter_namespace()]
    begin = time.monotonic()

    def one(number: int) -> Outcome:
        kind = kinds[number % len(kinds)]
        # In some trials of each kind nothing is killed; the others have one to three kills.
        kills = (number // len(kinds) + chosen.seed) % 4
        outcome = trial(kind, chosen.seed * 100_000 + number, kills, chosen.patience)
        words = outcome.problem or f"agent {outcome.agent} works"
        print_line(
            f"{number + 1:4}  {kind}, {outcome.kills} kills, {outcome.starts} starts: {words}"
        )
        return outcome

    # Most of a trial is waiting.
    with ThreadPoolExecutor(chosen.jobs) as pool:
        outcomes = list(pool.map(one, range(chosen.trials)))
    broken = [o for o in outcomes if o.problem]
    finish(
        "selfupdate",
        {
            "trials": len(outcomes),
            "seed": chosen.seed,
            "kills": sum(o.kills for o in outcomes),
            "starts": sum(o.starts for o in outcomes),
            "without_a_working_agent": len(broken),
            "by_kind": dict(Counter(o.kind.value for o in outcomes)),
            "new_agent_kept": sum(o.agent == "2.0" for o in outcomes),
            "left_out": [k.value for k in Kind if k not in kinds],
            "seconds": round(time.monotonic() - begin),
            "problems": [json.dumps([o.kind.value, o.problem]) for o in broken][:20],
        },
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
