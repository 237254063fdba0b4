"""Costs of one task in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cost:
    """Costs of a process: CPU seconds (user and system), peak memory, bytes that it dirtied."""

    cpu_s: float
    peak_mb: float
    written_mb: float

    def as_dict(self) -> dict[str, float]:
        """Return the costs for JSON."""
        return {key: round(value, 3) for key, value in asdict(self).items()}


def cost_of_this_process() -> Cost:
    """Read the kernel's counters of this process."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
    # Not ru_maxrss: after a fork it begins with the value of the parent.
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines()
    )
    peak = int(status["VmHWM"].split()[0]) * 1024
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text("utf-8").splitlines())
    return Cost(cpu, peak / 1e6, int(io["write_bytes"]) / 1e6)


def hide_publisher() -> None:
    """Prevent a client from importing libraries that only a publisher installs.

    If they are installed, securesystemslib imports them for types of keys that no client uses; for
    both programs that is a third of the start.
    """
    for name in ("boto3", "PyKCS11", "asn1crypto"):
        sys.modules[name] = None  # type: ignore[assignment] # as if it were not installed


def in_child(module: str, task: str, order: Mapping[str, object]) -> dict[str, Any]:
    """Run ``task`` of a module of this package in a fresh interpreter; return its output.

    The module receives the task and its parameters as arguments, and prints one JSON object at its
    end.
    """
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.transfer.{module}", task, json.dumps(order)],
        stdout=subprocess.PIPE, check=True, cwd=ROOT,
    )  # fmt: skip
    return cast("dict[str, Any]", json.loads(ended.stdout.splitlines()[-1]))
