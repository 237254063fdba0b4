"""Final report of every benchmark, and description of the machine."""

from __future__ import annotations

import compileall
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PRODUCT = Path(__file__).parents[1] / "ncen_updater"


def print_line(text: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def compile_as_installed() -> None:
    """Compile the product to bytecode, like an installation.

    Libraries in the environment are already compiled; a checkout without bytecode would be
    compiled at every start.

    Raises:
        SyntaxError: If a module cannot be compiled.
    """
    if not compileall.compile_dir(PRODUCT, quiet=1):
        raise SyntaxError("the product cannot be compiled")


def median(values: Sequence[float]) -> float:
    """Return the median, rounded to 0.1 ms."""
    return round(statistics.median(values), 4)


def machine() -> dict[str, object]:
    """Describe the machine as far as needed to judge the figures, without names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{_distribution()}, Linux {platform.release().split('-')[0]}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def finish(name: str, figures: Mapping[str, object]) -> None:
    """Print the figures as one line of JSON."""
    sys.stdout.write(json.dumps({"benchmark": name, **figures, "machine": machine()}) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
