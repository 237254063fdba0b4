"""Location of test sites: in memory if there is space, so that tests do not wait for a disk.

Tests kill processes only, so the kernel preserves what they wrote in memory and on disk; power cuts
have separate tests. A test that needs two file systems finds another with :func:`other_than`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from tests.support.trees import remove_tree

GROUND = "NCEN_TEST_GROUND"
MEMORY = Path("/dev/shm")
# The largest run used less than 1 GiB; directories of failed tests come in addition.
ROOM = 4 << 30
SPARE = 2 << 30


def lay_ground(wish: str) -> Path:
    """Create the directory for all files of this run.

    It has the mode of ``/tmp``: for root the database servers run as nobody, who needs access.

    Args:
        wish: ``memory``, ``disk``, or ``auto`` for memory if it is suitable.
    """
    in_memory = wish == "memory" or (wish == "auto" and _will_do())
    below = MEMORY if in_memory else Path(tempfile.gettempdir())
    _remove_those_of_the_dead(below)
    place = below / f"nu-run-{os.getpid()}"
    place.mkdir()
    place.chmod(0o1777)
    os.environ["TMPDIR"] = str(place)
    tempfile.tempdir = None
    return place


def other_than(place: Path) -> Path | None:
    """Return a temporary directory on another file system, or None."""
    for other in (MEMORY, Path("/var/tmp"), Path("/tmp")):
        if other.is_dir() and other.stat().st_dev != place.stat().st_dev:
            return other
    return None


def _will_do() -> bool:
    try:
        look = os.statvfs(MEMORY)
        said = Path("/proc/meminfo").read_text("ascii")
    except OSError:
        return False
    found = re.search(r"^MemAvailable: +(\d+) kB$", said, re.MULTILINE)
    available = int(found[1]) * 1024 if found else 0
    runs_programs = not look.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    free = look.f_bavail * look.f_frsize
    return runs_programs and free >= ROOM and available >= ROOM + SPARE


def _remove_those_of_the_dead(below: Path) -> None:
    for place in below.glob("nu-run-*"):
        number = place.name.rpartition("-")[2]
        if number.isdigit() and not Path("/proc", number).exists():
            with contextlib.suppress(OSError):  # owned by another user
                remove_tree(place)
